"""`gatewayd cloud send … erase`: entries are forgotten, by the operator and at the gateway."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import cloud_app, keyfiles
from gatewayd.cli import check
from gatewayd.cli.cloud_order import Sender
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.outbox import numbered_topic
from gatewayd.cloud.store import Erasing
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
    number = sender.next_number()
    order, signed = sender.order(Kind.ERASE, wanted.body(), arguments.days * common.DAY_S, number)
    kept = sender.sent / f"{number:06}-erase.cose"
    with common.files_are_arguments():
        keyfiles.create_files({kept: signed})  # before anything goes: a number is given once
    erasing = Erasing(origin_of(gateway), order.name, number, common.now_s(), wanted)
    here = _here(arguments.store, erasing, gateway, kept)
    output.line(f"{here} entries erased from {arguments.store}")
    topic = numbered_topic(order)
    body = sender.ask(order, signed, arguments, _WAIT_S, topic)
    try:
        there = Erased.of(body)
    except RemoteProtocolError as error:
        raise CommandError(
            f"the answer cannot be read: {error.detail}", "is the gateway newer?", ExitCode.UNKNOWN
        ) from None
    cloud_app.erased(arguments.store, erasing)
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


def _here(store: Path, erasing: Erasing, gateway: GatewayId, kept: Path) -> int:
    """How many entries went here. CommandError, and no order, when they cannot."""
    try:
        here = cloud_app.erase(store, erasing)
    except StorageError as error:
        kept.unlink()
        raise CommandError(str(error), check.storage_hint(error, "no order was sent")) from None
    if here is None:
        kept.unlink()
        raise CommandError(
            f"entry {erasing.wanted.last} of {gateway} was not pulled yet",
            "gatewayd cloud pull; a gateway forgets nothing that nobody keeps the hash of",
        )
    return here


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
