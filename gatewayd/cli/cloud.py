"""`gatewayd cloud`: pull gateways' logs as the operator, and prove what was pulled."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto.errors import RemoteProtocolError
from gatewayd import cloud_app, keyfiles
from gatewayd.cli import (
    broker,
    check,
    cloud_doors,
    cloud_enrol,
    cloud_say,
    enrolled,
    fleet,
    invite,
    rollout,
)
from gatewayd.cli.command import Command, CommandError, ExitCode, Group, Output
from gatewayd.cli.keys.common import shown_time
from gatewayd.cloud.pull import NoAnswerError, Progress, Source
from gatewayd.cloud.store import Closed
from gatewayd.core.model import GatewayId
from gatewayd.core.pull import LogAlarmError
from gatewayd.core.trust import verify_bundle, verify_credential
from gatewayd.keyfiles import KeyFileError
from gatewayd.ports import StorageError, UpstreamError

WITNESS_NAME: Final = "gatewayd-cloud"
_ENROLLED: Final = "is --enrolled the file that `gatewayd cloud invite` made?"
_FOR_KEYS: Final = "name the operator's directory with --keys; gatewayd keys --help"


# --- pull ---------------------------------------------------------------------------
def _pull(arguments: argparse.Namespace, output: Output) -> int:
    source, cloud = _prepare(arguments, output)

    def report(progress: Progress) -> None:
        output.line(f"  {progress.size} of {progress.log_size} entries kept and proven")

    output.line(f"pulling the log of {source.gateway}")
    progress = _attempt(lambda: asyncio.run(cloud.pull(source, report)), arguments)
    output.line(
        f"{progress.stored} new, {progress.size} in all; the log extends what was pulled before"
    )
    if progress.unreadable:
        output.line(f"{len(progress.unreadable)} were written by a newer gateway: kept, not read")
    if progress.erased:
        output.line(f"{progress.erased} had been erased: only their hashes came")
    output.document(
        {
            "gateway": progress.gateway,
            "origin": progress.origin,
            "stored": progress.stored,
            "size": progress.size,
            "root": progress.root,
            "batches": progress.batches,
            "unreadable": progress.unreadable,
            "erased": progress.erased,
            "times_answered": progress.times_answered,
            "ignored": progress.ignored,
        }
    )
    return ExitCode.DONE


def _attempt(action: Callable[[], Progress], arguments: argparse.Namespace) -> Progress:
    try:
        return action()
    except LogAlarmError as error:
        raise CommandError(
            f"ALARM: {error}",
            f"what was pulled before is untouched, the evidence is in {arguments.store};"
            " was its card restored from a copy? docs/replace.md",
        ) from None
    except NoAnswerError as error:
        raise CommandError(str(error), _NO_ANSWER[error.online]) from None
    except UpstreamError as error:
        raise broker.away(arguments, error) from None
    except StorageError as error:
        hint = check.storage_hint(error, "nothing was acknowledged that is not kept")
        raise CommandError(str(error), hint) from None


_NO_ANSWER: Final = {
    True: "it is connected: does its trust bundle name the command key that you have?",
    False: "it is not connected to the broker; its log waits, nothing is lost",
    None: "the broker has never seen it: does its configuration name this broker?",
}


# --- time -----------------------------------------------------------------------------
def _time(arguments: argparse.Namespace, output: Output) -> int:
    source, cloud = _prepare(arguments, output)
    output.line(f"answering questions about time of {source.gateway}; Ctrl-C ends it")
    try:
        asyncio.run(cloud.answer_time(source))
    except KeyboardInterrupt:
        return ExitCode.DONE
    except UpstreamError as error:
        raise broker.away(arguments, error) from None
    raise AssertionError("answers for ever")


# --- verify -----------------------------------------------------------------------------
def _verify(arguments: argparse.Namespace, output: Output) -> int:
    if not arguments.store.exists():
        raise CommandError(f"{arguments.store} does not exist", "gatewayd cloud pull makes it")
    source, cloud = _prepare(arguments, output)
    try:
        report = cloud.verify(source)
    except StorageError as error:
        hint = check.storage_hint(error, "is it the file that `gatewayd cloud pull` made?")
        raise CommandError(str(error), hint) from None
    except RemoteProtocolError as error:
        raise CommandError(
            f"the stored checkpoint is not what was stored: {error.detail}",
            "the file was changed by something else, or the credential or witness key is another",
        ) from None
    if report is None:
        raise CommandError(f"nothing of {source.gateway} is stored", "gatewayd cloud pull")
    closed = report.closed
    output.document(
        {
            "gateway": source.gateway,
            "entries": report.entries,
            "root": report.root,
            "holds": report.checkpoint_holds,
            "cosigned": report.cosigned_s,
            "retired": None if closed is None else {"kept": closed.kept, "time": closed.time_s},
            "alarms": [{"time": time_s, "alarm": name} for time_s, name, _ in report.alarms],
        }
    )
    for time_s, name, _ in report.alarms:
        output.line(f"alarm {name.lower().replace('_', ' ')} at {shown_time(time_s)}")
    if not report.checkpoint_holds:
        output.line(f"{report.entries} entries DO NOT match the signed checkpoint")
        return ExitCode.FAILED
    output.line(f"{report.entries} entries match the signed and cosigned checkpoint")
    if closed is not None:
        output.line(_gap(closed, report.entries))
    return ExitCode.FAILED if report.alarms else ExitCode.DONE


def _gap(closed: Closed, entries: int) -> str:
    """What is missing of the log of a gateway that was retired, as far as can be known."""
    since = f"retired on {shown_time(closed.time_s)}, when {closed.kept} entries were kept"
    if entries > closed.kept:
        return f"{since}; {entries - closed.kept} came after all"
    return f"{since}: whatever it wrote after them is the gap that was declared"


# --- files ------------------------------------------------------------------------------
def _prepare(arguments: argparse.Namespace, output: Output) -> tuple[Source, cloud_app.Cloud]:
    try:
        at = broker.files(arguments)
        return _source(arguments), cloud_app.Cloud(
            keys=_keys(arguments.keys, output), broker=at, store=arguments.store
        )
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    except StorageError as error:  # of the gateways that enrolled
        raise CommandError(str(error), check.storage_hint(error, _ENROLLED)) from None


def _source(arguments: argparse.Namespace) -> Source:
    """The gateway and its log key, believed because the operator's root says so."""
    directory: Path = arguments.keys
    root = keyfiles.read_p256_public(directory / "root.pub.pem", "root key", _FOR_KEYS)
    bundle = keyfiles.read_file(directory / "trust.cose", "trust bundle", _FOR_KEYS)
    stated = enrolled.credential(arguments)
    try:
        trust = verify_bundle(bundle, root)
        found = verify_credential(stated, trust)
    except RemoteProtocolError as error:
        raise KeyFileError(
            f"{arguments.gateway} is not a credential that this operator signed: {error.detail}",
            "are the credential and --keys of the same operator?",
        ) from None
    return Source(GatewayId(found.gateway), found.log_key)


def _keys(directory: Path, output: Output) -> cloud_app.OperatorKeys:
    witness = directory / "witness.pem"
    if not witness.exists():
        keyfiles.create_files({witness: keyfiles.private_pem(Ed25519PrivateKey.generate())})
        output.line(f"made {witness}: with it this cloud cosigns what it keeps")
    time_key = directory / "time.pem"
    return cloud_app.OperatorKeys(
        command=keyfiles.read_p256_private(directory / "command.pem", "command key", _FOR_KEYS),
        time=keyfiles.read_p256_private(time_key, "time key") if time_key.exists() else None,
        seal=keyfiles.read_p256_private(directory / "seal.pem", "sealing key", _FOR_KEYS),
        witness=keyfiles.read_ed25519_private(witness, "witness key"),
        witness_name=WITNESS_NAME,
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    enrolled.add_arguments(parser)
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, default=Path(),
        help="the operator's keys: command, seal, time, root, trust bundle (default: here)",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="FILE", type=Path, default=Path("cloud.sqlite"),
        help="where pulled logs are kept; made when missing (default: cloud.sqlite)",
    )  # fmt: skip
    broker.add_arguments(parser)


_EXAMPLE: Final = "--keys operator --broker mqtts://broker.example:8883"
COMMAND: Final = Group(
    name="cloud",
    summary="be the operator's cloud: enrol gateways, pull logs, say what is to hold",
    description="""
    Speaks to gateways through the operator's MQTT broker. Nothing that the broker says is
    believed: orders are signed by the operator, answers by the gateway, and sealed.
    """,
    commands=(
        invite.INVITE,
        cloud_enrol.ENROL,
        invite.INVITATIONS,
        cloud_doors.DOORS,
        cloud_doors.CONFIRM,
        cloud_doors.MOVE,
        Command(
            name="pull",
            summary="pull a gateway's log, prove it, keep it, acknowledge it",
            description="""
            Asks the gateway for every entry that is not kept yet. A batch is kept only when the
            gateway signed it, its entries have the signed root, and that root extends what was
            kept before; then it is cosigned and acknowledged. It may be stopped at any time and
            goes on where it was. Answers the gateway's questions about time meanwhile.
            """,
            run=_pull,
            arguments=_arguments,
            examples=(f"gatewayd cloud pull stairwell-7 {_EXAMPLE}",),
        ),
        Command(
            name="time",
            summary="answer a gateway's questions about time until stopped",
            description="""
            Signs this machine's time for each fresh nonce of the gateway. Run it where the time
            is right.
            """,
            run=_time,
            arguments=_arguments,
            examples=(f"gatewayd cloud time stairwell-7 {_EXAMPLE}",),
        ),
        Command(
            name="verify",
            summary="recompute a kept log and hold it against its signed checkpoint",
            description="""
            Needs no broker. Recomputes the root of all kept entries and checks the gateway's
            signature and our cosignature over it; lists alarms. Fails when anything is wrong.
            """,
            run=_verify,
            arguments=_arguments,
            examples=("gatewayd cloud verify stairwell-7 --keys operator",),
        ),
        cloud_say.PUBLISH,
        cloud_say.SEND,
        fleet.COMMAND,
        rollout.COMMAND,
    ),
)
