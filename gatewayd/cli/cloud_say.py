"""`gatewayd cloud publish` and `send`: what the operator says to gateways, left at the broker."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd import cloud_app, keyfiles
from gatewayd.cli import broker, check, cloud_diagnose, cloud_erase, cloud_order, enrolled
from gatewayd.cli.cloud_order import Sender
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.outbox import Message, messages
from gatewayd.cloud.pull import Source
from gatewayd.core.envelope import Kind, Retire
from gatewayd.core.model import GatewayId
from gatewayd.core.trust import Trust, verify_bundle, verify_credential
from gatewayd.ports import StorageError, UpstreamError

_FOR_KEYS: Final = "name the operator's directory with --keys; gatewayd keys --help"


# --- publish ----------------------------------------------------------------------------
def _publish(arguments: argparse.Namespace, output: Output) -> int:
    with common.files_are_arguments():
        trust, root = read_trust(arguments.keys)
        data = [keyfiles.read_file(path, "file") for path in arguments.files]
        return leave(messages_of(data, trust, root), arguments, output)


def messages_of(
    data: Sequence[bytes], trust: Trust, root: ec.EllipticCurvePublicKey
) -> list[Message]:
    """What to publish of these. CommandError for what no gateway would take."""
    try:
        return messages(data, trust, root)
    except (RemoteProtocolError, ValueError) as error:
        detail = error.detail if isinstance(error, RemoteProtocolError) else error
        raise CommandError(
            f"no gateway would take it: {detail}",
            "gatewayd keys inspect shows a file; all bundles of a chain go together",
            ExitCode.USAGE,
        ) from None


def leave(found: Sequence[Message], arguments: argparse.Namespace, output: Output) -> int:
    """Publish them, and say so. CommandError when the broker is away."""
    at = broker.files(arguments)
    try:
        asyncio.run(cloud_app.publish(at, found))
    except UpstreamError as error:
        raise broker.away(arguments, error) from None
    for message in found:
        output.line(f"{message.topic}: {message.what}")
    output.document({"published": [{"topic": each.topic, "what": each.what} for each in found]})
    return ExitCode.DONE


def read_trust(directory: Path) -> tuple[Trust, ec.EllipticCurvePublicKey]:
    """The operator's newest bundle. KeyFileError."""
    root = keyfiles.read_p256_public(directory / "root.pub.pem", "root key", _FOR_KEYS)
    data = keyfiles.read_file(directory / "trust.cose", "trust bundle", _FOR_KEYS)
    try:
        return verify_bundle(data, root), root
    except RemoteProtocolError as error:
        raise keyfiles.KeyFileError(
            f"{directory / 'trust.cose'} is not a bundle that root.pub.pem signed: {error.detail}",
            "is the newest bundle in trust.cose, and the root that signed it in root.pub.pem?",
        ) from None


# --- send -------------------------------------------------------------------------------
def _send(arguments: argparse.Namespace, output: Output) -> int:
    try:
        return _ordered(arguments, output)
    except StorageError as error:
        hint = check.storage_hint(error, "are --enrolled and --pulled the files that cloud made?")
        raise CommandError(str(error), hint) from None


def _ordered(arguments: argparse.Namespace, output: Output) -> int:
    needed = _NEEDED.get(arguments.order)
    if needed is not None and getattr(arguments, needed) is None:
        raise CommandError(
            f"send {arguments.order}: --{needed} is missing",
            "gatewayd cloud send --help",
            ExitCode.USAGE,
        )
    with common.files_are_arguments():
        trust, root = read_trust(arguments.keys)
        signer = common.read_signer(arguments.keys / "command.pem", "command key")
        broker.files(arguments)
        gateway = _credential(arguments, trust)
        sender = Sender(gateway=gateway, keys=arguments.keys, command=signer)
        if arguments.order != "retire":
            return _ASKED[arguments.order](sender, arguments, output)
        source = Source(GatewayId(gateway.gateway), gateway.log_key)
        kept = arguments.kept
        if kept is None:
            kept = cloud_app.kept(arguments.pulled, source)
        number = sender.next_number()
        body = Retire(kept, gateway.log_key).body()
        _, data = sender.order(Kind.RETIRE, body, arguments.days * common.DAY_S, number)
        found = messages_of([data], trust, root)
        # Before it leaves: a number is given to one order only.
        common.write(output, {}, {sender.sent / f"{number:06}-retire.cose": data})
        if arguments.kept is None or arguments.pulled.exists():
            cloud_app.close(arguments.pulled, source, kept)
        output.line(
            f"{gateway.gateway}: {kept} entries of its log are kept; a gap after them is declared"
        )
        return leave(found, arguments, output)


_NEEDED: Final = {"open": "door", "erase": "entries"}
_ASKED: Final[dict[str, Callable[[Sender, argparse.Namespace, Output], int]]] = {
    "open": cloud_order.send_open,
    "erase": cloud_erase.send_erase,
    "diagnose": cloud_diagnose.send_diagnose,
}


def _credential(arguments: argparse.Namespace, trust: Trust) -> GatewayCredential:
    data = enrolled.credential(arguments)
    try:
        return verify_credential(data, trust)
    except RemoteProtocolError as error:
        raise keyfiles.KeyFileError(
            f"{arguments.gateway} is not a credential that this operator signed: {error.detail}",
            "are the credential and --keys of the same operator?",
        ) from None


# --- the commands -------------------------------------------------------------------------
def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, default=Path(),
        help="the operator's keys: command, root, trust bundle (default: here)",
    )  # fmt: skip
    broker.add_arguments(parser)


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="+",
        help="states, orders, lists, all trust bundles",
    )
    _shared(parser)


def _whole(text: str) -> int:
    return 0 if text == "0" else common.positive(text)


def _send_arguments(parser: argparse.ArgumentParser) -> None:
    enrolled.add_arguments(parser)
    parser.add_argument(
        "order", metavar="ORDER", choices=["retire", *_ASKED],
        help="retire: open nothing any more, for good; open: a door, now; erase: forget entries; "
        "diagnose: how are you?",
    )  # fmt: skip
    parser.add_argument(
        "--kept", metavar="N", type=_whole,
        help="retire: how many entries of its log are kept (default: what was pulled)",
    )  # fmt: skip
    parser.add_argument(
        "--pulled", metavar="FILE", type=Path, default=Path("cloud.sqlite"),
        help="retire: where logs are pulled to, and where the gap is noted (default: cloud.sqlite)",
    )  # fmt: skip
    parser.add_argument(
        "--days", type=common.days, default=365,
        help="retire, erase: how long it may be late (default: 365)",
    )  # fmt: skip
    parser.add_argument("--door", metavar="DOOR", type=common.name, help="open: which")
    parser.add_argument(
        "--lives", metavar="SECONDS", type=cloud_order.lives, default=30,
        help="open: how late it may be, at most 60 (default: 30)",
    )  # fmt: skip
    parser.add_argument(
        "--receipt", metavar="FILE", type=Path,
        help="open: where to keep what the gateway signed about it, for the holder",
    )  # fmt: skip
    parser.add_argument(
        "--entries", metavar="LIST", type=cloud_erase.entries,
        help="erase: which entries of its log, as 17,19-24",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="FILE", type=Path, default=Path("cloud.sqlite"),
        help="erase: where pulled logs are kept (default: cloud.sqlite)",
    )  # fmt: skip
    _shared(parser)


_EXAMPLE: Final = "--keys operator --broker mqtts://broker.example:8883"
PUBLISH: Final = Command(
    name="publish",
    summary="leave trust bundles, states, orders and lists at the broker, for gateways to find",
    description="""
    Checks each file as a gateway would, finds out what it is and for whom, and publishes it
    retained: gateways that are away find it when they come back. Trust bundles are published as
    one chain, so give all of them, the oldest first; a gateway follows them from the one it has.

    What a gateway holds is in its status, as operator: the serials of trust and states, and
    the numbers of orders that it misses.
    """,
    run=_publish,
    arguments=_publish_arguments,
    examples=(
        f"gatewayd cloud publish trust-1.cose trust-2.cose {_EXAMPLE}",
        f"gatewayd cloud publish doors-3.cose {_EXAMPLE}",
    ),
)
SEND: Final = Command(
    name="send",
    summary="send a gateway an order: retire it, open a door, forget entries, say how it is",
    description="""
    Signs an order with the command key, keeps it in the operator's directory under sent/GATEWAY,
    and sends it. A gateway carries an order out once. One that lasts is numbered and waits at the
    broker for a gateway that is away, which tells the numbers that it missed; `gatewayd cloud
    publish` sends it again.

    retire: the gateway closes its log with a last entry, goes off the air and opens nothing any
    more, also after a restart; its log can still be pulled. Another box with the same name is not
    meant. Entries that were not pulled before are the gap that is declared by it, and
    `gatewayd cloud verify` shows it. There is no way back but installing it anew.

    open: the helpdesk opens a door for somebody who has called. Only where [helpdesk] in the
    gateway's own configuration names the door, while its clock is trusted, and for --lives
    seconds. The gateway writes an entry that names the order before it commands the lock, and
    answers: opened (0), refused (1), or unknown (3), as when no answer comes. Nobody is named in
    the log; --receipt keeps a statement of the gateway about the entry, for the holder's own log.

    erase: the bodies of these entries go, first from --store, where they must have been pulled,
    then from the gateway; their hashes stay, so that all proofs verify. What the gateway wrote
    about itself and about orders stays. It answers how many went, and which entry of its log says
    so; from one that is away there is no answer (3) until it has come back: the order waits for it.

    diagnose: the gateway says how it is: its status, and what gatewayd doctor finds there without
    touching anything. Nothing of persons; counts are cut to powers of two; sealed to the
    operator. It answers once a minute, and the question lives for five. Fails (1) when it finds
    a warning or an error.
    """,
    run=_send,
    arguments=_send_arguments,
    examples=(
        f"gatewayd cloud send stairwell-7 retire {_EXAMPLE}",
        f"gatewayd cloud send stairwell-7 open --door street {_EXAMPLE}",
        f"gatewayd cloud send stairwell-7 erase --entries 17,19-24 {_EXAMPLE}",
        f"gatewayd cloud send stairwell-7 diagnose --json {_EXAMPLE}",
    ),
)
