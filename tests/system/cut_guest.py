"""In a machine whose power is cut: the gateway on its disk, and whoever starts it again.

`python -m tests.system.cut_guest CLAIM PORT VERSIONS`: enrols with the claim unless that is
done, then keeps the daemon running as systemd would, its log's schema `VERSIONS` scripts
younger than the real one. Also the program that does so: `… daemon VERSIONS WORD…`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.system import tunnel

DISK: Final = Path("/run/disk")
GATEWAY: Final = DISK / "gatewayd"
HCI: Final = "/run/gateway.hci"
LINE: Final = "/dev/ttyS1"
RESTART_S: Final = 1.0
ENROLLING, STARTING, ENROLLED = "-- enrolling", "-- starting", "-- enrolled"


def grown(versions: int) -> None:
    """In this process the log's schema is so many versions younger."""
    from gatewayd.adapters.sqlite import log, reading, schema  # noqa: PLC0415 - only here
    from tests.support.younger import younger  # noqa: PLC0415 - likewise

    later = younger(versions)
    for module in (schema, log, reading):
        module.LOG = later  # type: ignore[attr-defined] # a constant, but for us


def repair_and_mount() -> None:
    """As Debian does at every start (systemd-fsck@.service)."""
    done = subprocess.run(["fsck.ext4", "-a", "/dev/ubda"], check=False)
    if done.returncode > 1:  # 1: mended
        sys.exit(f"fsck ended with {done.returncode}")
    DISK.mkdir()
    subprocess.run(["mount", "-t", "ext4", "/dev/ubda", DISK], check=True)


async def call(*words: str) -> int:
    """A program, its output ours."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *words)
    return await process.wait()


async def live(claim: str, port: int, versions: str) -> None:
    """Until the power goes."""
    repair_and_mount()
    async with AsyncExitStack() as stack:
        line = await tunnel.open_inside(stack, LINE, sockets={"hci": HCI}, ports={"broker": port})
        carrying = asyncio.create_task(line.run())
        enrolled, state = GATEWAY / "gateway.cwt", GATEWAY / "enrolment.state"
        while state.exists() or not enrolled.exists():
            print(ENROLLING, flush=True)
            code = await call("gatewayd", "setup", "enrol", claim, "--into", str(GATEWAY))
            print(f"-- enrol ended with {code}", flush=True)
        print(ENROLLED, flush=True)
        run = ("run", "-c", str(GATEWAY / "gatewayd.toml"), "--verbose")
        while not carrying.done():
            print(STARTING, flush=True)
            code = await call("tests.system.cut_guest", "daemon", versions, *run)
            print(f"-- the daemon ended with {code}", flush=True)
            await asyncio.sleep(RESTART_S)


if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        from gatewayd.cli import main

        grown(int(sys.argv[2]))
        sys.exit(main(sys.argv[3:]))
    asyncio.run(live(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
