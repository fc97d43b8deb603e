"""`gatewayd setup claim-lock` and `release-lock`: whose a lock is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmware_proto.claiming import Label
from firmware_proto.errors import RemoteProtocolError
from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.phone_radio import address
from gatewayd.cli.screen import Tint
from gatewayd.cli.setup import common
from gatewayd.ports.radio import Sighting

if TYPE_CHECKING:
    from gatewayd.setup_app import Installer
    from gatewayd.setup_site import Site


# --- scan -------------------------------------------------------------------------------------
def _scan(arguments: argparse.Namespace, output: Output) -> int:
    async def work(site: Site) -> Sequence[Sighting]:
        from gatewayd import setup_app  # noqa: PLC0415 - help stays quick

        return await setup_app.scan(site, setup_app.SCAN_S, _onlooker(output))

    found = common.on_site(arguments, work)
    if not found:
        output.line("no lock that belongs to nobody is heard: press its button to wake it")
    output.document([{"address": each.address, "dbm": each.strength_dbm} for each in found])
    return ExitCode.DONE if found else ExitCode.FAILED


# --- claim-lock -------------------------------------------------------------------------------
def _claim(arguments: argparse.Namespace, output: Output) -> int:
    given = _given_label(arguments.label, output)

    async def work(site: Site) -> list[str]:
        from gatewayd import setup_app  # noqa: PLC0415 - help stays quick

        label = given
        sees = _onlooker(output, arguments.anchor_serial)
        known = site.setup.lock_of(site.door(arguments.door).id)
        if known is None and label is None:
            output.line(f"listening for {setup_app.SCAN_S:.0f} s for locks that belong to nobody:")
            if not await setup_app.scan(site, setup_app.SCAN_S, sees):
                output.line("  none is heard: press its button to wake it up", tint=Tint.CARE)
            label = _asked(output)
        try:
            return await setup_app.claim_lock(site, arguments.door, label, arguments.address, sees)
        except setup_app.LabelNeededError:  # it was cut off before the lock obeyed
            label = _asked(output)
            return await setup_app.claim_lock(site, arguments.door, label, arguments.address, sees)

    said = common.on_site(arguments, work)
    following = f"sudo gatewayd setup bind-door {arguments.door}"
    return common.changed(said, output, following, door=arguments.door)


def _asked(output: Output) -> Label:
    return _label(common.read_line("label of the lock: ", output) or "")


def _onlooker(output: Output, serial: int = 0) -> Installer:
    from gatewayd.setup_app import Installer  # noqa: PLC0415 - help stays quick

    shown: set[str] = set()

    def heard(sighting: Sighting) -> None:
        if sighting.address not in shown:
            shown.add(sighting.address)
            strength = sighting.strength_dbm
            strong = "? dBm" if strength is None else f"{strength} dBm"
            output.line(f"  {sighting.address}  {strong:>8}  belongs to nobody")

    return Installer(
        heard=heard,
        button=lambda: output.line("press its button now: there are two minutes", tint=Tint.CARE),
        told=output.line,
        serial=serial,
    )


def _given_label(text: str | None, output: Output) -> Label | None:
    """From the command line, which other users of this machine can see, or from the input."""
    if text == "-":
        text = common.read_line("label of the lock: ", output) or ""
    return None if text is None else _label(text)


def _label(text: str) -> Label:
    try:
        return Label.parse(text)
    except RemoteProtocolError as error:
        raise CommandError(
            error.detail, "read it again: GWL1-…, capitals or not, spaces or not", ExitCode.USAGE
        ) from None


def _claim_arguments(parser: argparse.ArgumentParser) -> None:
    common.door_argument(parser)
    parser.add_argument(
        "label", metavar="LABEL", nargs="?",
        help="the text of its label or QR code, GWL1-…, or - to read it (default: asked for)",
    )  # fmt: skip
    parser.add_argument(
        "--address", type=address, help="which of the locks around (default: the one of the label)"
    )
    parser.add_argument(
        "--anchor-serial", metavar="N", type=_serial, default=0,
        help="of the operator's last `keys anchor` (default: there was none)",
    )  # fmt: skip


def _serial(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**53:
        raise argparse.ArgumentTypeError("a serial is 0 or more")
    return int(text)


# --- anchor-lock ------------------------------------------------------------------------------
def _anchor(arguments: argparse.Namespace, output: Output) -> int:
    statement = common.read_statement(arguments.anchor)

    async def work(site: Site) -> list[str]:
        from gatewayd import setup_app  # noqa: PLC0415 - help stays quick

        return await setup_app.anchor_lock(site, arguments.door, statement)

    said = common.on_site(arguments, work)
    return common.changed(said, output, door=arguments.door)


def _anchor_arguments(parser: argparse.ArgumentParser) -> None:
    common.door_argument(parser)
    parser.add_argument("anchor", metavar="FILE", type=Path, help="from `gatewayd keys anchor`")


# --- release-lock -----------------------------------------------------------------------------
def _release(arguments: argparse.Namespace, output: Output) -> int:
    given = _given_label(arguments.label, output)
    statement = (
        common.read_statement(arguments.statement) if arguments.statement is not None else None
    )
    if [given is not None, statement is not None, arguments.forget].count(True) > 1:
        raise CommandError(
            "LABEL, --statement and --forget: one of them",
            "the label and the button of the lock; or the operator's word; or without the lock",
            ExitCode.USAGE,
        )

    async def work(site: Site) -> list[str]:
        from gatewayd import setup_app  # noqa: PLC0415 - help stays quick

        if arguments.forget:
            return await setup_app.forget_lock(site, arguments.door)
        setup_app.lock_of(site, arguments.door)
        sees, label = _onlooker(output), given
        if label is None and statement is None:
            label = _asked(output)
        return await setup_app.release_lock(site, arguments.door, label, statement, sees)

    said = common.on_site(arguments, work)
    return common.changed(said, output, door=arguments.door)


def _release_arguments(parser: argparse.ArgumentParser) -> None:
    common.door_argument(parser)
    parser.add_argument(
        "label", metavar="LABEL", nargs="?",
        help="the text of its label, GWL1-…, or - to read it (default: asked for)",
    )  # fmt: skip
    parser.add_argument(
        "--statement", metavar="FILE", type=Path,
        help="instead of label and button: leave signed by the operator",
    )  # fmt: skip
    parser.add_argument(
        "--forget", action="store_true",
        help="forget the lock without asking it: it still belongs to this operator",
    )  # fmt: skip


SCAN: Final = Command(
    name="scan",
    summary="list the locks around that belong to nobody",
    description="""
    Listens for five seconds and lists the locks that can be claimed, with how strong each is heard,
    the strongest first in the document of --json. A lock that sleeps is woken by its button. It
    changes nothing. The exit code is 1 when none is heard.
    """,
    run=_scan,
    arguments=check.add_config_argument,
    examples=("gatewayd setup scan",),
)

CLAIM: Final = Command(
    name="claim-lock",
    summary="make a lock that belongs to nobody the lock of a door",
    description="""
    Listens for locks that belong to nobody, finds the one with the label that is typed, lets it
    blink and, once its button has been pressed, tells it whose it is and which door it moves. Then
    it is dialled once more, as from now on: what is said here has been tried.

    After a power cut at any point the same command goes on; when the lock has obeyed already it
    says so, and needs no label. `setup release-lock` undoes it. The claim secret of the label is
    used and not kept; but sudo and shells keep what is typed behind a command, so type it when
    asked.
    """,
    run=_claim,
    arguments=_claim_arguments,
    examples=("gatewayd setup claim-lock street",),
)

ANCHOR: Final = Command(
    name="anchor-lock",
    summary="carry the operator's new keys to the lock of a door",
    description="""
    When the operator signs gateway credentials with another key, each lock has to be told, by an
    anchor that the root has signed. This gives one to the lock that was claimed for a door, with
    the credential that the lock still obeys: the one of the key that goes. From then on the lock
    refuses it, so give the gateway its new credential next, when each of its locks has the anchor.
    """,
    run=_anchor,
    arguments=_anchor_arguments,
    examples=("gatewayd setup anchor-lock street anchor-1.cose",),
)

RELEASE: Final = Command(
    name="release-lock",
    summary="make the lock of a door nobody's again",
    description="""
    Tells the lock that was claimed for a door to forget its owner: with its label, once its button
    has been pressed, or with leave that the operator signed. The label is asked for, as by
    claim-lock. The door's binding to it goes, too.
    After a power cut the same command goes on. With --forget only this gateway forgets; that is for
    a lock that is broken or lost.
    """,
    run=_release,
    arguments=_release_arguments,
    examples=(
        "gatewayd setup release-lock street",
        "gatewayd setup release-lock street --forget",
    ),
)
