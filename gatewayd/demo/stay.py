"""The same staircase without a story: it stays, for whoever wants to open its doors by hand."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from gatewayd.adapters import broker
from gatewayd.adapters.virtual_radio import serve_hci
from gatewayd.cloud.authority import DAY_S, Authority
from gatewayd.demo.child import Child
from gatewayd.demo.play import free_port
from gatewayd.demo.world import GATEWAY, STAIRS, STREET, World, build
from gatewayd.emulators.lock_machine import Moved
from gatewayd.emulators.lock_state import Turn
from gatewayd.keyfiles import create_files, private_pem, public_pem


async def stay(directory: Path, write: Callable[[str], None]) -> None:
    """Build the staircase in `directory`, say what can be tried there, and run until cancelled.

    ChildError when the daemon does not start; KeyFileError when the directory
    holds a staircase already.
    """
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(broker.serve(free_port()))
        world = await stack.enter_async_context(build(directory, address.port))
        phone_hci = directory / "phone.hci"
        await stack.enter_async_context(
            serve_hci(world.air, phone_hci, address="F0:00:00:00:00:FE")
        )
        _hand_out(world)
        for door, lock in world.locks.items():
            lock.machine.on_moved = partial(_tell, write, door)
        child = await _started(world, stack)
        for line in _invitation(world, phone_hci):
            write(line)
        while True:
            await child.ended()
            write("[gateway] the daemon has ended; started again, as systemd would")
            child = await _started(world, stack)


async def _started(world: World, stack: AsyncExitStack) -> Child:
    child = Child(world.config)
    stack.push_async_callback(child.stop)
    await child.start()
    return child


def _hand_out(world: World) -> None:
    """Wallets, and the operator's keys as `gatewayd keys make operator` names them."""
    world.wallet("anna")
    world.wallet("carrier", valid=(-2 * DAY_S, -DAY_S))
    create_files(
        {
            world.directory / "operator" / name: data
            for name, data in _operator_files(world.authority).items()
        }
    )


def _operator_files(authority: Authority) -> dict[str, bytes]:
    return {
        "command.pem": private_pem(authority.command),
        "time.pem": private_pem(authority.time),
        "seal.pem": private_pem(authority.seal),
        "root.pub.pem": public_pem(authority.root.public_key()),
        "trust.cose": authority.bundle(),
    }


def _invitation(world: World, phone_hci: Path) -> tuple[str, ...]:
    place = _as_typed(world.directory)
    phone = f"--hci {_as_typed(phone_hci, 'unix:')}"
    config = _as_typed(world.config)
    cloud = f"--store {_as_typed(world.directory / 'cloud.db')}"
    return (
        f"{GATEWAY} serves the doors {STREET} and {STAIRS}. Another terminal, in this directory:",
        "",
        f"  gatewayd phone open {STREET} --wallet {place}/wallets/anna {phone}",
        f"  gatewayd phone open {STAIRS} --wallet {place}/wallets/anna {phone}",
        f"  gatewayd phone open {STREET} --wallet {place}/wallets/carrier {phone}",
        f"  gatewayd log show -c {config}",
        f"  gatewayd log verify -c {config}",
        f"  gatewayd keys inspect {place}/wallets/anna/token.cwt",
        f"  gatewayd cloud pull {place}/gateway.cwt --keys {place}/operator \\",
        f"      {cloud} --broker mqtt://127.0.0.1:{world.broker_port}",
        "",
        "Ctrl-C ends it; the files stay.",
    )


def _as_typed(path: Path, prefix: str = "") -> str:
    """Short where it can be, and as a shell takes it."""
    here = Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return shlex.quote(f"{prefix}{shown}")


def _tell(write: Callable[[str], None], door: str, moved: Moved) -> None:
    if moved.turn is Turn.UNLATCH:
        write(f"[{door}] the latch is drawn")
