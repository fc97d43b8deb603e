"""`gatewayd lock`: a second Pi, or any Linux with Bluetooth, as a lock on the bench."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Group, Output
from gatewayd.cli.phone_radio import finish, plain_address, time_argument
from gatewayd.keyfiles import KeyFileError

if TYPE_CHECKING:
    from gatewayd.emulators.lock_machine import Moved
    from gatewayd.emulators.lock_store import LockStore

_MEMORY: Final = "lock.json"
_MOVED: Final = {
    "UNLATCH": "the latch is drawn",
    "RELEASE": "the latch is home",
    "UNBOLT": "the bolt is withdrawn",
    "BOLT": "the bolt is thrown",
}


def _emulate(arguments: argparse.Namespace, output: Output) -> int:
    from gatewayd import lock_app  # noqa: PLC0415 - so that help stays quick
    from gatewayd.emulators.lock_machine import Machine  # noqa: PLC0415 - likewise
    from gatewayd.emulators.lock_store import LockStore  # noqa: PLC0415 - likewise

    store = LockStore(arguments.directory / _MEMORY)
    try:
        made = not store.path.exists()
        if made:
            _make(arguments, store)
        door = store.load().door
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    public = arguments.directory / f"{door}.pub.pem"
    if made:
        output.line(f"made a lock for {door}; its public key: {public}")
    machine = Machine()

    def moved(what: Moved) -> None:
        output.line(f"  {_MOVED[what.turn.name]}")

    def serving(address: str) -> None:
        output.line(f"{door} is a lock at {address}; in the gateway's configuration:")
        output.line(f'  lock = {{ address = "{address}", key = "{public.name}" }}')

    def lost(why: str) -> None:
        output.line(f"  no radio for the moment: {why}")

    machine.on_moved = moved
    choice = lock_app.Choice(arguments.hci, arguments.address, arguments.adapter, arguments.python)
    errand = lock_app.emulate(choice, store, machine, lock_app.Bystander(serving, lost))
    with contextlib.suppress(KeyboardInterrupt, TimeoutError):  # both are how one ends it
        finish(asyncio.wait_for(errand, arguments.time), arguments)
    output.line(f"{door} was opened {_times(machine.openings)}")
    output.document({"door": door, "key": str(public), "openings": machine.openings})
    return ExitCode.DONE


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _make(arguments: argparse.Namespace, store: LockStore) -> None:
    """A lock as its maker and an installer leave it: claimed for a door. KeyFileError."""
    from firmware_proto.cose import key_id  # noqa: PLC0415 - so that help stays quick
    from gatewayd.emulators.lock_memory import LockMemory  # noqa: PLC0415 - likewise

    if arguments.door is None or arguments.gateways is None:
        raise CommandError(
            f"there is no lock in {arguments.directory} yet",
            "make one, for a door of an operator: --door NAME --gateways gateways.pub.pem",
            ExitCode.USAGE,
        )
    gateways_key = keyfiles.read_p256_public(
        arguments.gateways, "operator's gateways key", "ask the operator for it"
    )
    if arguments.key is not None:
        key = keyfiles.read_p256_private(arguments.key, "lock key")
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    arguments.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    public = arguments.directory / f"{arguments.door}.pub.pem"
    store.create(LockMemory(key, key_id(key.public_key()), arguments.door, gateways_key))
    public.write_bytes(keyfiles.public_pem(key.public_key()))


def _door(text: str) -> str:
    if not 1 <= len(text.encode()) <= 32 or Path(text).name != text:  # noqa: PLR2004 - PROTOCOL.md
        raise argparse.ArgumentTypeError("a door's name has 1 to 32 bytes, and no / in it")
    return text


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="where the lock's memory is")
    parser.add_argument("--door", type=_door, help="to make one: the door's name")
    parser.add_argument(
        "--gateways", metavar="FILE", type=Path,
        help="to make one: the operator's gateways public key, which it obeys",
    )  # fmt: skip
    parser.add_argument(
        "--key", metavar="FILE", type=Path,
        help="to make one: its private key, from `gatewayd keys make lock` (default: a new one)",
    )  # fmt: skip
    radio = parser.add_mutually_exclusive_group()
    radio.add_argument(
        "--adapter", metavar="ADDRESS", type=plain_address,
        help="which Bluetooth, by its address (default: the first one)",
    )  # fmt: skip
    radio.add_argument(
        "--hci", metavar="unix:PATH",
        help="where a virtual controller speaks HCI (default: this machine's Bluetooth)",
    )  # fmt: skip
    parser.add_argument(
        "--address", type=plain_address,
        help="with --hci: the lock's random address (default: one that belongs to its key)",
    )  # fmt: skip
    parser.add_argument(
        "--python", metavar="FILE", type=Path,
        help="a Python with dbus-python and PyGObject (default: this one, or Debian's)",
    )  # fmt: skip
    time_argument(parser, None, "how long (default: until Ctrl-C)")


COMMAND: Final = Group(
    name="lock",
    summary="be a lock, on the bench",
    description="""
    A lock without steel, for trying a gateway and its radio before a door is touched. It speaks the
    whole protocol, remembers what a lock remembers, and tells when it would move.
    """,
    commands=(
        Command(
            name="emulate",
            summary="be a lock until Ctrl-C",
            description="""
            The first time, --door and --gateways make a lock in the directory and write its public
            key there; the gateway's configuration needs that key and the address that is printed.
            From then on the directory is enough: the lock remembers its sessions and its commands,
            as a real one does.

            The radio is this machine's Bluetooth through bluezero, whose GATT server shares no code
            with gatewayd's own (Linux; install 'gatewayd[bench]', and Debian's python3-dbus and
            python3-gi), or with --hci a virtual controller. One machine cannot be the gateway and
            the lock on the same adapter. A radio that goes is waited for.
            """,
            run=_emulate,
            arguments=_arguments,
            examples=(
                "gatewayd lock emulate bench --door street --gateways gateways.pub.pem",
                "gatewayd lock emulate bench --adapter B8:27:EB:00:00:02",
            ),
        ),
    ),
)
