"""`gatewayd cloud send … erase`: entries are forgotten, by the operator and at the gateway."""

from __future__ import annotations

import argparse
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import cloud_app, keyfiles
from gatewayd.cli import check
from gatewayd.cli.cloud_order import Sender
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.outbox import numbered_topic
from gatewayd.core.envelope import Kind
from gatewayd.core.erasure import MAX_ENTRIES, MAX_RUNS, Erase, Erased, Run
from gatewayd.core.model import GatewayId, origin_of
from gatewayd.ports import StorageError

_WAIT_S: Final = 20.0


def send_erase(sender: Sender, arguments: argparse.Namespace, output: Output) -> int:
    """Forget here, order it there, and say what became of it."""
    wanted: Erase = arguments.entries
    gateway = GatewayId(sender.gateway.gateway)
    if not arguments.store.exists():
        raise CommandError(f"{arguments.store} does not exist", "gatewayd cloud pull makes it")
    try:
        here = cloud_app.erase(arguments.store, origin_of(gateway), wanted)
    except StorageError as error:
        raise CommandError(str(error), check.storage_hint(error, "no order was sent")) from None
    if here is None:
        raise CommandError(
            f"entry {wanted.last} of {gateway} was not pulled yet",
            "gatewayd cloud pull; a gateway forgets nothing that nobody keeps the hash of",
        )
    output.line(f"{here} entries erased from {arguments.store}")
    number = sender.next_number()
    lives_s = arguments.days * common.DAY_S
    order, signed = sender.order(Kind.ERASE, wanted.body(), lives_s, number)
    kept = sender.sent / f"{number:06}-erase.cose"
    with common.files_are_arguments():
        keyfiles.create_files({kept: signed})
    topic = numbered_topic(order)
    body = sender.ask(order, signed, arguments, _WAIT_S, topic)
    try:
        there = Erased.of(body)
    except RemoteProtocolError as error:
        raise CommandError(
            f"the answer cannot be read: {error.detail}", "is the gateway newer?", ExitCode.UNKNOWN
        ) from None
    output.line(f"{there.entries} entries erased from {gateway}; entry {there.seq} says so")
    if not there.clean:
        output.line("somebody reads its log: older copies go when it starts the next time")
    output.document(
        {
            "gateway": gateway,
            "order": order.id,
            "number": number,
            "erased_here": here,
            "erased": there.entries,
            "entry": there.seq,
            "clean": there.clean,
            "kept": str(kept),
        }
    )
    return ExitCode.DONE


def entries(text: str) -> Erase:
    """As 17,19-24: numbers of entries, ascending; for argparse."""
    try:
        runs = tuple(_run(part) for part in text.split(","))
        return Erase.of(Erase(runs).body())
    except (ValueError, RemoteProtocolError):
        raise argparse.ArgumentTypeError(
            f"entries as 17,19-24, ascending, at most {MAX_ENTRIES} in {MAX_RUNS} runs"
        ) from None


def _run(text: str) -> Run:
    first, dash, last = text.partition("-")
    if not all(part.isascii() and part.isdigit() for part in ((first, last) if dash else (first,))):
        raise ValueError(text)
    return Run(int(first), int(last if dash else first))
