"""Orders of `gatewayd cloud send` that the gateway answers at once: an opening by the helpdesk."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import ID_BYTES, Outcome, Reason
from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd import cloud_app, keyfiles
from gatewayd.cli import broker
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.pull import NoAnswerError, Source
from gatewayd.core import envelope
from gatewayd.core.answers import Opened
from gatewayd.core.envelope import Kind, Statement
from gatewayd.core.helpdesk import LIVES_S, Open
from gatewayd.core.model import DoorId, GatewayId
from gatewayd.ports import UpstreamError

SENT: Final = "sent"
"""Below the operator's keys: every order, by addressee. Numbers go on from there."""
_KEPT_NAME: Final = re.compile(r"(\d{6})-[a-z]+\.cose")
_GRACE_S: Final = 15.0
"""How long an answer may be late: an opening begun in the last second takes its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Whom an order is for, and what signs it and reads the answer."""

    gateway: GatewayCredential
    keys: Path
    command: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def sent(self) -> Path:
        """Where every order to this gateway is kept."""
        place = self.keys / SENT / self.gateway.gateway
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def next_number(self) -> int:
        """For an order that lasts: one more than the last one kept."""
        return 1 + max(map(_number, self.sent.iterdir()), default=0)

    def order(
        self, kind: Kind, body: cbor.Value, lives_s: int, number: int | None = None
    ) -> tuple[Statement, bytes]:
        """A fresh one, and the same signed."""
        statement = Statement(
            kind,
            self.gateway.gateway,
            os.urandom(ID_BYTES),  # noqa: TID251 - a command at a keyboard is an edge
            common.now_s() + lives_s,
            body,
            number,
            cose.key_id(self.command.public_key()),
        )
        return statement, envelope.sign(statement, self.command)

    def ask(
        self,
        order: Statement,
        signed: bytes,
        arguments: argparse.Namespace,
        patience_s: float,
        retained: str | None = None,
    ) -> cbor.Value:
        """What the gateway answers. CommandError with UNKNOWN when it does not.

        retained: the topic on which the order waits for a gateway that is away.
        """
        seal = keyfiles.read_p256_private(self.keys / "seal.pem", "sealing key")
        source = Source(GatewayId(self.gateway.gateway), self.gateway.log_key)
        at = broker.files(arguments)
        try:
            asking = cloud_app.ask(at, source, order, signed, seal, patience_s, retained)
            return asyncio.run(asking)
        except NoAnswerError as error:
            raise CommandError(
                f"{self.gateway.gateway} did not answer", _NO_ANSWER[error.online], ExitCode.UNKNOWN
            ) from None
        except UpstreamError as error:
            away = broker.away(arguments, error)
            raise CommandError(away.message, away.hint, ExitCode.UNKNOWN) from None


_NO_ANSWER: Final = {
    True: "it is connected; its log shows what it did, if anything: gatewayd cloud pull",
    False: "the broker says that it is away; its log shows what it did: gatewayd cloud pull",
    None: "the broker has never seen it: does its configuration name this broker?",
}


def _number(path: Path) -> int:
    matched = _KEPT_NAME.fullmatch(path.name)
    return int(matched[1]) if matched else 0


# --- open -------------------------------------------------------------------------------
def send_open(sender: Sender, arguments: argparse.Namespace, output: Output) -> int:
    """Order an opening, and say how it ended."""
    door = DoorId(arguments.door)
    body = Open(door, common.now_s()).body()
    order, signed = sender.order(Kind.OPEN, body, arguments.lives)
    kept = sender.sent / f"open-{order.id.hex()}.cose"
    with common.files_are_arguments():
        keyfiles.create_files({kept: signed})  # before it leaves: the log names it
    output.line(f"asking {sender.gateway.gateway} to open {door}")
    answered = sender.ask(order, signed, arguments, arguments.lives + _GRACE_S)
    try:
        opened = Opened.of(answered)
    except RemoteProtocolError as error:
        raise CommandError(
            f"the answer cannot be read: {error.detail}", "is the gateway newer?", ExitCode.UNKNOWN
        ) from None
    if opened.receipt is not None and arguments.receipt is not None:
        with common.files_are_arguments():
            keyfiles.create_files({arguments.receipt: opened.receipt}, mode=0o644)
    outcome, reason = opened.verdict.outcome, opened.verdict.reason
    word = reason.name.lower().replace("_", " ")
    entry = "" if opened.seq is None else f", entry {opened.seq} of its log"
    output.line(f"{_WORDS[outcome]}{'' if reason is Reason.OK else f': {word}'}{entry}")
    if reason in _HINTS:
        output.line(f"  {_HINTS[reason]}")
    output.document(
        {
            "gateway": sender.gateway.gateway,
            "door": door,
            "order": order.id,
            "outcome": outcome.name.lower(),
            "reason": reason.name.lower(),
            "entry": opened.seq,
            "kept": str(kept),
            "receipt": None if opened.receipt is None else opened.receipt.hex(),
        }
    )
    return _CODES[outcome]


_WORDS: Final = {
    Outcome.CONFIRMED: "opened",
    Outcome.REFUSED: "refused",
    Outcome.UNKNOWN: "unknown: it may have opened",
}
_CODES: Final = {
    Outcome.CONFIRMED: ExitCode.DONE,
    Outcome.REFUSED: ExitCode.FAILED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}
_HINTS: Final = {
    Reason.ACTION_NOT_GRANTED: "[helpdesk] in the gateway's own configuration does not name it",
    Reason.TIME_UNKNOWN: "the gateway's clock is not trusted: gatewayd cloud time",
    Reason.EXPIRED: "it came too late, or this machine's clock is behind",
    Reason.NOT_YET_VALID: "this machine's clock is ahead of the gateway's",
    Reason.RATE_LIMITED: "more orders for this door within a minute than a helpdesk needs",
}


def lives(text: str) -> int:
    """How long an order to open may take, as argparse types go."""
    seconds = common.positive(text)
    if seconds > LIVES_S:
        raise argparse.ArgumentTypeError(f"an order to open lives {LIVES_S} seconds at most")
    return seconds
