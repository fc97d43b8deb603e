"""Messages that an operator acts upon: each has an id in the journal that never changes.

`journalctl MESSAGE_ID=…` finds them, whatever their words are, and `journalctl -x` explains them
from systemd/gatewayd.catalog. A message that means something else gets another id.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from gatewayd.core.model import DoorId

ATTRIBUTE: Final = "journal"
"""Of a log record: the fields that it has beside its text."""


class Message(Enum):
    """The value is the MESSAGE_ID: 128 random bits (sd-id128(3))."""

    LOCK_TAMPERED = "b8985b09b3214b6896a6bc5c36fdf127"
    DOOR_FORCED = "4a1b680ad8654ede861ae65e48336396"
    LOCK_BATTERY_LOW = "63f2d3c714ca490888a57ef0ced0c9fa"
    LOCK_JAMMED = "c0e19e9443284a73b437b5453c2c0f58"
    LOCK_UNCALIBRATED = "69f7daa5a98d42af8d9762f835ac17d6"
    LOCK_TOO_WEAK = "3dae06166a5645b8916dcc4d38f15ad7"
    LOOSE_CONTACT = "1ffab7e238574e8b8680761635fdcb4d"
    LOCK_NOT_REACHED = "f526af1b158340eeb4d73c8ae80c7dee"
    LOG_FAILED = "bf3f6046cb754b8f8d32406ab8ae2156"
    OUTCOME_UNKNOWN = "c92f76a77de647d58263e5822b8113c2"
    NO_SIGN_OF_LIFE = "f2e6710474ef4008b789fe897de5d568"
    CLOCK_CHANGED = "dbe24d385c6e481aa0de1ad95d242c54"
    BROKER_AWAY = "6e7f7486eedc4e79bc1887f113965dbe"
    OTHER_LOG = "93f4b505ae04467ab94353b038d95abf"
    BATTERY_BUDGET = "13016d8166394624832713c7e3d44bb9"
    RELAY_LINE = "6000dc267670402a82fcd327d792c4f7"
    RELAY_PROCESS = "eb0e217c48af4cdd8c1fd93b1dfe0184"
    SERIAL_LINE = "f81c82d971014064ba5473f52a05a4dd"
    RADIO_RECOVERY = "25d6170edd0c409a9bdc45f799e3add5"
    BLUETOOTHD_GONE = "668ca55b5eb54660ac45e3a3a224e8fa"
    MACHINE_UNFIT = "a69e53f8629f480b8cc82ed2ce582edc"
    TRUST_REPLACED = "6819e681beea42bd9de9e86fc85cdc39"
    RETIRED = "2a967cb9cffc45159fc852eaf5e5f107"
    BOUND_ON_SITE_ENDED = "7268a9b9e15b4adaa52ba4d7c3e6f1bf"
    ORDERED_OPEN = "da94183ade7240cbb101af4cbf0e8cc3"
    ORDER_REFUSED = "13275b72a7804d1c8d46fe874eb6e840"


def about(message: Message, *, door: DoorId | None = None, clock: str = "") -> dict[str, object]:
    """For `extra` of a log call: which message it is, and what it is about. Never a person."""
    fields = {"MESSAGE_ID": message.value}
    if door is not None:
        fields["GATEWAYD_DOOR"] = door
    if clock:
        fields["GATEWAYD_CLOCK"] = clock
    return {ATTRIBUTE: fields}
