"""A unit of the machine's systemd, as an administrator handles it: systemctl and journalctl."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

DROP_INS: Final = Path("/etc/systemd/system")


async def run(*command: str, check: bool = True) -> str:
    """What a program says; it runs beside our loop, in which phones and locks live."""
    done = await asyncio.to_thread(
        subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return str(done.stdout)


class Unit:
    """One unit by its whole name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def do(self, verb: str, *words: str) -> None:
        """`systemctl VERB`; returns when it is done. AssertionError with what it said."""
        try:
            await run("systemctl", verb, *words, self.name)
        except AssertionError as error:
            raise AssertionError(f"{error}{await self.last_words()}") from None

    async def show(self, name: str) -> str:
        """A property, as systemd writes it."""
        return (await run("systemctl", "show", "--property", name, "--value", self.name)).strip()

    async def number(self, name: str) -> int:
        """A property that is a number."""
        return int(await self.show(name))

    async def pid(self) -> int:
        """Of the main process. LookupError when there is none."""
        if pid := await self.number("MainPID"):
            return pid
        raise LookupError(f"{self.name} does not run\n{await self.last_words()}")

    async def until(self, name: str, wanted: Callable[[str], bool] | str, within_s: float) -> float:
        """Wait for a property. Returns seconds; TimeoutError with what the journal says."""
        holds = wanted.__eq__ if isinstance(wanted, str) else wanted
        began = time.monotonic()
        while not holds(value := await self.show(name)):
            if time.monotonic() - began > within_s:
                raise TimeoutError(f"{self.name}: {name}={value}\n{await self.last_words()}")
            await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def restarted(self, times: int, within_s: float) -> float:
        """Wait until systemd has restarted it so often, since somebody started it."""
        return await self.until("NRestarts", lambda value: int(value) >= times, within_s)

    async def lives_anew(self, restarts: int, within_s: float) -> float:
        """Wait until systemd has restarted it once more than that, and it is ready."""
        began = time.monotonic()
        await self.restarted(restarts + 1, within_s)
        await self.until("ActiveState", "active", within_s)
        return time.monotonic() - began

    async def journal(self, *, of_systemd: bool = False) -> list[str]:
        """What it has said, and with `of_systemd` what systemd says of it. Oldest first."""
        match = [f"_SYSTEMD_UNIT={self.name}"]
        if of_systemd:
            match += ["+", "_PID=1", f"UNIT={self.name}"]
        said = await run("journalctl", "--boot", "--quiet", "--output=cat", "--no-pager", *match)
        return said.splitlines()

    async def last_words(self) -> str:
        """The end of its journal."""
        return "\n".join((await self.journal(of_systemd=True))[-25:])

    async def status(self) -> dict[str, str]:
        """/proc/PID/status of the main process."""
        return status_of(await self.pid())

    async def configure(self, name: str, text: str | None) -> None:
        """Write a drop-in, or take it away with None; the unit is not restarted."""
        path = DROP_INS / f"{self.name}.d" / f"{name}.conf"
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        await run("systemctl", "daemon-reload")


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status of any process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def as_user(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program as somebody else, with the groups that he has."""
    return await asyncio.to_thread(
        subprocess.run, ["runuser", "-u", user, "--", *command], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
