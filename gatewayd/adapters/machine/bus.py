"""What bluetoothd and systemd say, asked through `busctl` and `systemctl`.

Not through the library that the daemon uses: the doctor must work where that
one is missing, and must not be misled by what it is to examine.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gatewayd.core.diagnosis_radio import Adapter
from gatewayd.ports import NotSeenError

DEADLINE_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
BLUETOOTHD: Final = (
    "usr/libexec/bluetooth/bluetoothd",
    "usr/lib/bluetooth/bluetoothd",
    "usr/sbin/bluetoothd",
)
_OBJECTS: Final = (
    "busctl", "--system", "--json=short", "--auto-start=no", "--timeout=5", "call",
    "org.bluez", "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects",
)  # fmt: skip
_BLUEZ_ITSELF: Final = re.compile(r"usb:v1D6Bp0246d([0-9A-F]{2})([0-9A-F]{2})")
"""The modalias of an adapter, unless somebody configured another: BlueZ src/main.c."""
_ABSENT: Final = ("was not provided", "not activatable", "does not exist", "ServiceUnknown")

Objects = Mapping[str, Mapping[str, Mapping[str, object]]]
"""Properties by object path and interface, without D-Bus's types."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Programs:
    """Runs them, with this environment. NotSeenError for one that is missing or hangs."""

    environment: Mapping[str, str]

    async def managed_objects(self) -> Objects | None:
        """All objects of bluetoothd; None when there is no bluetoothd on the bus."""
        said = await self.run(*_OBJECTS)
        if said.code == 0:
            return parse_objects(said.out)
        reason = said.err.strip() or "busctl failed"
        if any(each in reason for each in _ABSENT):
            return None
        if "denied" in reason.lower():
            raise NotSeenError("the bus does not let this user ask bluetoothd", "ask as root: sudo")
        raise NotSeenError(f"bluetoothd was not asked: {reason.splitlines()[-1][:200]}")

    async def is_active(self, unit: str) -> bool:
        """Whether systemd runs it; False where there is no systemd to ask."""
        try:
            said = await self.run("systemctl", "is-active", unit)
        except NotSeenError:
            return False
        return said.out.strip() == "active"

    async def installed_version(self, root: Path) -> str:
        """What the bluetoothd on disk says of itself."""
        for name in BLUETOOTHD:
            if (root / name).is_file():
                said = await self.run(str(root / name), "--version")
                if re.fullmatch(r"\d+\.\d+", said.out.strip()):
                    return said.out.strip()
        raise NotSeenError("there is no bluetoothd", "apt install bluez")

    async def run(self, program: str, *arguments: str) -> Said:
        """Run to the end."""
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**self.environment, "LC_ALL": "C"},
            )
        except OSError as error:
            raise NotSeenError(f"cannot run {program}: {error.strerror}") from None
        try:
            async with asyncio.timeout(DEADLINE_S):
                out, err = await process.communicate()
        except TimeoutError:
            raise NotSeenError(f"{program} did not answer within {DEADLINE_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.communicate())
        assert process.returncode is not None  # noqa: S101 - communicate() has waited for it
        return Said(
            process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
        )


# --- understanding ---------------------------------------------------------------------
def parse_objects(text: str) -> Objects:
    """The answer of busctl. NotSeenError for anything else."""
    try:
        document = json.loads(text)
        (objects,) = document["data"]
        return {
            path: {
                interface: {name: variant["data"] for name, variant in properties.items()}
                for interface, properties in interfaces.items()
            }
            for path, interfaces in objects.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotSeenError("busctl answered something else than objects") from None


def adapters(objects: Objects) -> tuple[Adapter, ...]:
    """Every adapter, by name. NotSeenError for properties of other types."""
    found = []
    for path, interfaces in sorted(objects.items()):
        if "org.bluez.Adapter1" not in interfaces:
            continue
        adapter = interfaces["org.bluez.Adapter1"]
        advertising = interfaces.get("org.bluez.LEAdvertisingManager1", {})
        found.append(
            Adapter(
                path.rpartition("/")[2],
                _typed(adapter.get("Address", ""), str),
                _typed(adapter.get("Powered", False), bool),
                frozenset(_typed(each, str) for each in _typed(adapter.get("Roles", []), list)),
                _count(advertising.get("ActiveInstances")),
            )
        )
    return tuple(found)


def _count(value: object) -> int | None:
    return None if value is None else _typed(value, int)


def _typed(value: object, kind: type[Any]) -> Any:  # noqa: ANN401 - one of `kind`, or an error
    if isinstance(value, kind):
        return value
    raise NotSeenError("bluetoothd describes an adapter in another way than expected")


def running_version(objects: Objects) -> str | None:
    """BlueZ writes its own version into the modalias of its adapters."""
    for interfaces in objects.values():
        modalias = interfaces.get("org.bluez.Adapter1", {}).get("Modalias")
        match = _BLUEZ_ITSELF.fullmatch(modalias) if isinstance(modalias, str) else None
        if match is not None:
            return f"{int(match[1], 16)}.{int(match[2], 16)}"
    return None
