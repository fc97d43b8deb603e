"""`gatewayd phone deliver` and `time`: a phone as a courier."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmware_proto.codes import MAX_CARRIED_BYTES, Outcome, Reason
from gatewayd import keyfiles
from gatewayd.cli import broker
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.phone_radio import choice, door_arguments, finish
from gatewayd.keyfiles import KeyFileError
from gatewayd.ports import UpstreamError

if TYPE_CHECKING:
    from gatewayd.emulators.carry import Carried

_EXITS: Final = {
    Outcome.CONFIRMED: ExitCode.DONE,
    Outcome.REFUSED: ExitCode.FAILED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}
_WORDS: Final = {
    Outcome.CONFIRMED: "taken",
    Outcome.REFUSED: "not taken",
    Outcome.UNKNOWN: "unknown",
}


def _deliver(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import phone_app  # noqa: PLC0415 - so that help stays quick

    data = _read(arguments.file)
    errand = phone_app.deliver(
        choice(arguments), arguments.wallet, arguments.door, data, arguments.address
    )
    return _tell(finish(errand, arguments), output)


def _read(path: Path) -> bytes:
    """What is to be carried; the phone does not look into it."""
    try:
        data = keyfiles.read_file(path, "what is to be delivered")
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    if data.startswith(b"-----BEGIN"):
        raise CommandError(
            f"{path} is a key, and keys are not carried around",
            "deliver what was signed with it, as housing.cwt",
            ExitCode.USAGE,
        )
    assert len(data) <= MAX_CARRIED_BYTES  # noqa: S101 - read_file's limit is the same
    return data


def _time(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import phone_app  # noqa: PLC0415 - so that help stays quick

    where = phone_app.Broker(
        arguments.broker, arguments.authorities, arguments.certificate, arguments.key
    )
    try:
        errand = phone_app.prove_time(
            choice(arguments), arguments.wallet, arguments.door, where, arguments.address
        )
        return _tell(finish(errand, arguments), output)
    except UpstreamError as error:
        raise broker.away(arguments, error) from None
    except ValueError as error:
        raise broker.no_broker(error) from None


def _tell(carried: Carried, output: Output) -> int:
    verdict = carried.verdict
    why = "" if verdict.reason is Reason.OK else f": {verdict.reason.name.lower()}"
    if carried.gateway is None and verdict.reason is Reason.LOCK_UNREACHABLE:
        why = ": no_gateway_in_reach"
    output.line(f"{carried.gateway or 'no gateway'}: {_WORDS[verdict.outcome]}{why}")
    if verdict.outcome is Outcome.UNKNOWN:
        output.line("the connection broke, or nobody answered; to try again is safe")
    output.document(
        {
            "gateway": carried.gateway,
            "outcome": verdict.outcome.name.lower(),
            "reason": verdict.reason.name.lower(),
        }
    )
    return _EXITS[verdict.outcome]


def _deliver_arguments(parser: argparse.ArgumentParser) -> None:
    door_arguments(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="what somebody signed")


def _time_arguments(parser: argparse.ArgumentParser) -> None:
    door_arguments(parser)
    broker.add_arguments(parser)


DELIVER: Final = Command(
    name="deliver",
    summary="carry what somebody signed to a gateway without a network",
    description="""
    Brings a file, a signed revocation list say, to the gateway that serves the door, which judges
    it as if its broker had sent it: taken, taken already (nothing_new), or not believed. Any key
    will do, whatever it still opens. To bring it again is safe.
    """,
    run=_deliver,
    arguments=_deliver_arguments,
    examples=("gatewayd phone deliver street housing.cwt --wallet phone",),
)

TIME: Final = Command(
    name="time",
    summary="have the time signed for a gateway without a network",
    description="""
    Fetches the gateway's question about time, takes it to the operator over this machine's network,
    where `gatewayd cloud time` answers, and brings the signed answer back, within ten seconds in
    all. The phone's own idea of time counts for nothing.
    """,
    run=_time,
    arguments=_time_arguments,
    examples=("gatewayd phone time street --wallet phone --broker mqtts://broker.example:8883",),
)
