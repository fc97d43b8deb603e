"""`gatewayd cloud doors`, `confirm` and `move-door`: which gateway serves which door."""

from __future__ import annotations

import argparse
import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import doors_app, keyfiles
from gatewayd.cli import broker, invite
from gatewayd.cli.cloud_order import SENT
from gatewayd.cli.cloud_say import leave, messages_of, read_trust
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.holdings import Holding
from gatewayd.config import stated
from gatewayd.doors_app import Said, Spokesman

_HANDOVER: Final = "gatewayd setup report writes it, at the gateway"


# --- doors --------------------------------------------------------------------------
def _doors(arguments: argparse.Namespace, output: Output) -> int:
    with invite.problems(arguments):
        found = invite.office(arguments).holdings()
    for each in found:
        output.line(
            f"{each.door}: {each.gateway}, generation {each.generation}, moved by {_mover(each)}"
        )
    output.document(
        [
            {
                "door": each.door,
                "gateway": each.gateway,
                "generation": each.generation,
                "moved_by": None if each.body is None else _mover(each),
            }
            for each in found
        ]
    )
    return ExitCode.DONE


def _mover(held: Holding) -> str:
    """What moves a door, in words."""
    if held.body is None:
        return "what nobody has confirmed"
    (door,) = stated.bindings(held.body).doors
    if door.lock is not None:
        return f"the lock at {door.lock.address or door.lock.serial}"
    return "a relay" if door.relay is None else f"the relay on line {door.relay.line}"


# --- confirm ------------------------------------------------------------------------
def _confirm(arguments: argparse.Namespace, output: Output) -> int:
    with _problems(arguments):
        gateway, body = _read(arguments.handover)
        speaks = Spokesman(
            office=invite.office(arguments),
            command=common.read_signer(arguments.keys / "command.pem", "command key"),
        )
        said = speaks.confirm(gateway, body)
    return _tell(said, {gateway}, arguments, output)


def _read(path: Path) -> tuple[str, bytes]:
    """The gateway of a handover, and what was bound there. CommandError, KeyFileError."""
    data = keyfiles.read_file(path, "handover", _HANDOVER)
    try:
        match json.loads(data):
            case {"gateway": str(gateway), "bindings": str(text)}:
                return gateway, b64decode(text, validate=True)
            case {"gateway": str(gateway), "bindings": None}:
                raise CommandError(f"nothing is bound at {gateway}", "gatewayd setup bind-door")
    except (ValueError, RecursionError):  # of JSON, of UTF-8 and of base64
        pass
    raise CommandError(f"{path} is no handover", _HANDOVER, ExitCode.USAGE)


# --- move-door ----------------------------------------------------------------------
def _move(arguments: argparse.Namespace, output: Output) -> int:
    with _problems(arguments):
        directory: Path = arguments.keys
        speaks = Spokesman(
            office=invite.office(arguments),
            command=common.read_signer(directory / "command.pem", "command key"),
            gateways=common.read_signer(directory / "gateways.pem", "gateways key"),
        )
        said = speaks.move(arguments.door, arguments.to)
    return _tell(said, {each.gateway for each in said}, arguments, output)


# --- what they share ----------------------------------------------------------------
def _tell(
    said: Sequence[Said], gateways: set[str], arguments: argparse.Namespace, output: Output
) -> int:
    with common.files_are_arguments():
        trust, root = read_trust(arguments.keys)
        files = {_kept(arguments.keys, each): each.data for each in said}
        for path in files:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        common.write(output, {}, files)
        for each in invite.office(arguments).holdings():
            if each.gateway in gateways:
                output.line(
                    f"{each.door}: {each.gateway}, generation {each.generation},"
                    f" moved by {_mover(each)}"
                )
        if arguments.keep:
            output.line("not published: gatewayd cloud publish, or gatewayd phone deliver")
            output.document({"kept": [str(path) for path in files]})
            return ExitCode.DONE
        return leave(messages_of([each.data for each in said], trust, root), arguments, output)


def _kept(keys: Path, said: Said) -> Path:
    return keys / SENT / said.gateway / f"{said.kind.name.lower()}-{said.serial}.cose"


@contextmanager
def _problems(arguments: argparse.Namespace) -> Iterator[None]:
    try:
        with invite.problems(arguments):
            if not arguments.keep:
                broker.files(arguments)  # before anything is signed
            yield
    except doors_app.NotSoError as error:
        raise CommandError(error.message, error.hint) from None
    except RemoteProtocolError as error:
        raise CommandError(f"the bindings cannot be so: {error.detail}", _HANDOVER) from None


# --- the commands -------------------------------------------------------------------
def _saying(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", action="store_true",
        help="do not publish; the files can be published later, or carried by a phone",
    )  # fmt: skip
    invite.common_arguments(parser)
    broker.add_arguments(parser)


def _confirm_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "handover", metavar="HANDOVER", type=Path, help="handover.json of gatewayd setup report"
    )
    _saying(parser)


def _move_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("door", metavar="DOOR", help="the door's name")
    parser.add_argument("to", metavar="GATEWAY", help="who serves it from now on")
    _saying(parser)


_EXAMPLE: Final = "--keys operator --broker mqtts://broker.example:8883"
DOORS: Final = Command(
    name="doors",
    summary="list the doors of all gateways that enrolled, and what moves them",
    description="""
    Each door with the gateway that serves it, the generation at which it does, and what moves it,
    as far as that was confirmed. Generations are counted here: a door's rises whenever another
    gateway takes it over.
    """,
    run=_doors,
    arguments=invite.common_arguments,
    examples=("gatewayd cloud doors --keys operator",),
)
CONFIRM: Final = Command(
    name="confirm",
    summary="confirm what an installer bound to the doors of a gateway",
    description=f"""
    Reads the handover that gatewayd setup report wrote, states with the command key what moves the
    doors of that gateway, and publishes it; what was bound on site then holds for good and not for
    a week. It is remembered with the doors: a gateway that replaces this one gets it when it
    enrols, so that nobody has to visit a lock. Do it again after every change on site.

    The statement is kept under {SENT}/GATEWAY. Nobody signs a handover: have it from the installer.
    """,
    run=_confirm,
    arguments=_confirm_arguments,
    examples=(f"gatewayd cloud confirm handover.json {_EXAMPLE}",),
)
MOVE: Final = Command(
    name="move-door",
    summary="have another gateway serve a door",
    description=f"""
    Gives the door to a gateway that has enrolled, at the next generation, with the lock that moves
    it. Four statements say so, a credential and the bindings for each of both gateways; they are
    kept under {SENT}/GATEWAY and published. Each gateway takes them on at its next start, for
    which it stops by itself. Phones and locks need nothing; once they have met the new one they
    refuse the old one at this door. What is wired to a gateway has to be wired to the other.

    Said again it says the same again, as new. A gateway that is left without a door is told
    nothing: retire it (gatewayd cloud send).
    """,
    run=_move,
    arguments=_move_arguments,
    examples=(f"gatewayd cloud move-door cellar stairwell-8 {_EXAMPLE}",),
)
