"""What a gateway answers when its operator asks how it is: the status, and what a doctor would ask.

As `gatewayd.status`, which is its greater part: nothing of persons, counts cut to powers
of two. It is sealed to the operator, so it may be longer and say more of the machine.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.status import Count, Number, Status

MAX_FACTS_BYTES: Final = 24 * 1024
MAX_FINDINGS: Final = 64
MAX_COUNTS: Final = 64
_MOST_TEXT: Final = 400

Word = Annotated[str, Meta(max_length=64)]
Sentence = Annotated[str, Meta(max_length=_MOST_TEXT)]


class Found(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finding of the machine's own look at itself; see `gatewayd doctor`."""

    check: Word
    severity: Word
    message: Sentence
    remedy: Sentence = ""


class Facts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole of it. `messages`: of those with ids, by name, how often since the start."""

    status: Status
    running_s: Count
    clock_bound_s: Count | None = None
    log_size: Number = 0
    log_acknowledged: Number = 0
    counts: Annotated[dict[Word, Count], Meta(max_length=MAX_COUNTS)] = msgspec.field(
        default_factory=dict
    )
    messages: Annotated[dict[Word, Count], Meta(max_length=MAX_COUNTS)] = msgspec.field(
        default_factory=dict
    )
    findings: Annotated[tuple[Found, ...], Meta(max_length=MAX_FINDINGS)] = ()
    findings_left_out: Count = 0


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Facts)


def sentence(text: str) -> str:
    """As much of it as there is room for."""
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"


def encode(facts: Facts) -> bytes:
    """At most MAX_FACTS_BYTES; the last findings are left out first."""
    while True:
        data = _encoder.encode(facts)
        if len(data) <= MAX_FACTS_BYTES or not facts.findings:
            return data
        facts = msgspec.structs.replace(
            facts,
            findings=facts.findings[:-1],
            findings_left_out=facts.findings_left_out + 1,
        )


def decode(data: bytes) -> Facts:
    """What a gateway said. RemoteProtocolError: TOO_LARGE or MALFORMED."""
    if len(data) > MAX_FACTS_BYTES:
        raise RemoteProtocolError(Fault.TOO_LARGE, "facts: more than any gateway tells")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(Fault.MALFORMED, f"facts: {error}") from None
