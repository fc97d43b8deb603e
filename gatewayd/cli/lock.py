"""`gatewayd lock`: a second Pi, or any Linux with Bluetooth, as a lock on the bench."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Group, Output
from gatewayd.cli.phone_around import lines_typed
from gatewayd.cli.phone_radio import finish, plain_address, time_argument
from gatewayd.keyfiles import KeyFileError

if TYPE_CHECKING:
    from gatewayd.emulators.lock_machine import Moved
    from gatewayd.emulators.lock_memory import LockMemory
    from gatewayd.emulators.lock_store import LockStore
    from gatewayd.lock_app import Hands

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
    public = arguments.directory / f"{door or 'lock'}.pub.pem"
    if made:
        output.line(f"made a lock{f' for {door}' if door else ''}; its public key: {public}")
    machine = Machine()
    name = door or "the lock"

    def moved(what: Moved) -> None:
        output.line(f"  {_MOVED[what.turn.name]}")

    def serving(address: str, memory: LockMemory) -> None:
        if not memory.claimed:
            _show_unclaimed(address, memory, output)
            return
        output.line(f"{memory.door} is a lock at {address}; in the gateway's configuration:")
        output.line(f'  lock = {{ address = "{address}", key = "{public.name}" }}')

    def lost(why: str) -> None:
        output.line(f"  no radio for the moment: {why}")

    machine.on_moved = moved
    choice = lock_app.Choice(arguments.hci, arguments.address, arguments.adapter, arguments.python)

    def blinks(duration_ms: int) -> None:
        output.line(f"  it blinks for {duration_ms / 1000:g} s")

    sees = lock_app.Bystander(serving, lost, partial(_keyboard, output), blinks)
    errand = lock_app.emulate(choice, store, machine, sees)
    with contextlib.suppress(KeyboardInterrupt, TimeoutError):  # both are how one ends it
        finish(asyncio.wait_for(errand, arguments.time), arguments)
    memory = store.load()
    output.line(f"{memory.door or name} was opened {_times(machine.openings)}")
    output.document(
        {
            "door": memory.door,
            "key": str(public),
            "label": _label(memory),
            "openings": machine.openings,
        }
    )
    return ExitCode.DONE


def _show_unclaimed(address: str, memory: LockMemory, output: Output) -> None:
    output.line(f"a lock at {address} that belongs to nobody; its label:")
    output.line(f"  {_label(memory)}")
    output.line("Enter presses its button, which counts for two minutes")


def _label(memory: LockMemory) -> str | None:
    from firmware_proto.claiming import Label  # noqa: PLC0415 - so that help stays quick

    if memory.claim_secret is None:
        return None
    return Label(memory.key.public_key(), memory.claim_secret).text()


def _keyboard(output: Output, hands: Hands) -> None:
    """Each line on standard input is something that a person does at the lock."""
    doings: dict[str, tuple[str, Callable[[], None]]] = {
        "": ("the button is pressed", hands.press),
        "open": ("the door is open", partial(hands.move_door, is_open=True)),
        "close": ("the door is closed", partial(hands.move_door, is_open=False)),
    }

    def typed(line: str) -> None:
        if line not in doings:
            output.line("  Enter, open or close")
            return
        what, do = doings[line]
        do()
        output.line(f"  {what}")

    lines_typed(typed)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _make(arguments: argparse.Namespace, store: LockStore) -> None:
    """A lock as its maker and an installer leave it: claimed for a door. KeyFileError."""
    from firmware_proto.claiming import NOBODYS  # noqa: PLC0415 - so help is quick
    from firmware_proto.cose import key_id  # noqa: PLC0415 - likewise
    from gatewayd import lock_app  # noqa: PLC0415 - likewise
    from gatewayd.emulators.lock_memory import LockMemory  # noqa: PLC0415 - likewise

    door = NOBODYS if arguments.unclaimed else arguments.door
    if door is None or (arguments.gateways is None) is not arguments.unclaimed:
        raise CommandError(
            f"there is no lock in {arguments.directory} yet",
            "make one, for a door of an operator: --door NAME --gateways gateways.pub.pem; "
            "or one that belongs to nobody yet: --unclaimed alone",
            ExitCode.USAGE,
        )
    gateways_key = (
        None
        if arguments.unclaimed
        else keyfiles.read_p256_public(
            arguments.gateways, "operator's gateways key", "ask the operator for it"
        )
    )
    if arguments.key is not None:
        key = keyfiles.read_p256_private(arguments.key, "lock key")
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    arguments.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    public = arguments.directory / f"{door or 'lock'}.pub.pem"
    secret = lock_app.new_secret()
    store.create(LockMemory(key, key_id(key.public_key()), door, gateways_key, claim_secret=secret))
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
        "--unclaimed", action="store_true",
        help="to make one that belongs to nobody: `gatewayd setup claim-lock` claims it",
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

            With --unclaimed it is made as it leaves the factory: it prints the text of its label,
            by which a gateway claims it. On standard input Enter presses its button, and the words
            open and close move the leaf of its door.

            The radio is this machine's Bluetooth through bluezero, whose GATT server shares no code
            with gatewayd's own (Linux; install 'gatewayd[bench]', and Debian's python3-dbus and
            python3-gi), or with --hci a virtual controller. One machine cannot be the gateway and
            the lock on the same adapter. A radio that goes is waited for.
            """,
            run=_emulate,
            arguments=_arguments,
            examples=(
                "gatewayd lock emulate bench --door street --gateways gateways.pub.pem",
                "gatewayd lock emulate bench --unclaimed",
                "gatewayd lock emulate bench --adapter B8:27:EB:00:00:02",
            ),
        ),
    ),
)
