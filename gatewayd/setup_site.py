"""What every step of `gatewayd setup` stands on: the site's files, its log, its radio.

A step takes the daemon's place (decision 30): it holds the log, so that no
daemon runs meanwhile, and works as the user to whom the state belongs.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd import config, extras, retirement
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.sqlite import SqliteLog, open_log
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.config import Config, Secrets, on_site
from gatewayd.config import model as config_model
from gatewayd.config.on_site import Setup
from gatewayd.core.trust import Trust
from gatewayd.handlers import Desk
from gatewayd.hearing import Heard, bind_on_site, hear
from gatewayd.lists import StatusLists
from gatewayd.lock_connection import GatewayIdentity
from gatewayd.mailbox import Mailbox
from gatewayd.ports.radio import Lookout
from gatewayd.ports.storage import Erasing, Memory
from gatewayd.radio_app import radio_address
from gatewayd.timekeeper import SignedTime, Timekeeper
from gatewayd.trusted import Trusted

USER: Final = "gatewayd"
WIRES: Final = ("gpio", "dialout")


class SetupError(Exception):
    """A step cannot be done; `hint` says what the installer can do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(slots=True)
class Site:
    """One gateway as its installer finds it. `setup` is what is on disk.

    config: as installed, perhaps without what moves its doors. served: what a daemon would serve.
    """

    config: Config
    served: Config
    secrets: Secrets
    trust: Trust
    log: SqliteLog
    timekeeper: Timekeeper
    mailbox: Mailbox
    setup: Setup

    @property
    def state(self) -> Path:
        """Where everything is kept."""
        return self.config.gateway.state

    @property
    def gateway(self) -> GatewayIdentity:
        """What it proves itself to locks with."""
        return GatewayIdentity(self.secrets.key, self.secrets.credential_bytes)

    def keep(self, setup: Setup) -> None:
        """Durable when it returns. StorageError."""
        with storage_errors(str(self.state)):
            on_site.save(self.state, setup)
        self.setup = setup

    def door(self, name: str) -> config_model.Door:
        """A door of the configuration. SetupError for any other name."""
        for door in self.config.doors:
            if door.id == name:
                return door
        known = ", ".join(door.id for door in self.config.doors)
        raise SetupError(f"this gateway has no door '{name[:40]}'", f"it has {known}")

    @property
    def unbound(self) -> list[str]:
        """Doors that nothing moves when the daemon is started."""
        served = {door.id for door in self.served.doors}
        return [door.id for door in self.config.doors if door.id not in served]

    async def bind(self, setup: Setup, door: str) -> None:
        """Keep it, and have the daemon run with that door so. StorageError, KeyFileError."""
        body = on_site.body(self.config, setup, door)
        self.keep(setup)
        await bind_on_site(self.log, door, body, self.timekeeper, self.mailbox)

    @property
    def now_s(self) -> int:
        """As well as this gateway knows."""
        return self.timekeeper.reading().now_s


@asynccontextmanager
async def open_site(path: Path) -> AsyncIterator[Site]:
    """The site of a configuration. ConfigError; StorageError, also while a daemon runs."""
    settings, secrets = config.load_all(
        path, also=extras.check, as_installed=True, open_key=extras.KeyDevices().open
    )
    state = settings.gateway.state
    with storage_errors(str(state)):
        _become_owner(state)
        state.mkdir(mode=0o700, exist_ok=True)
    setup, problems = on_site.load(state)
    if problems:
        raise config.ConfigError(state / on_site.NAME, problems)
    async with open_log(settings.gateway.log) as log:
        if await retirement.retired(log) is not None:
            raise SetupError("the operator has retired this gateway", "it opens nothing any more")
        timekeeper, trusted, heard = await hear_all(settings, secrets, log, log)
        yield Site(
            settings, heard.config, heard.secrets, trusted.now, log, timekeeper, heard.mailbox,
            setup,
        )  # fmt: skip


async def hear_all(
    settings: Config, secrets: Secrets, memory: Memory, log: Erasing
) -> tuple[Timekeeper, Trusted, Heard]:
    """What a daemon would run with. StorageError."""
    clock = SystemClock()
    timekeeper = await Timekeeper.load(clock, memory, battery_clock=settings.gateway.battery_clock)
    if secrets.provisioned_time_s is not None:
        await timekeeper.provision(secrets.provisioned_time_s)
    trusted = await Trusted.load(memory, secrets.bundle, secrets.root)
    desk = Desk(
        secrets=secrets,
        trusted=trusted,
        memory=memory,
        log=log,
        timekeeper=timekeeper,
        times=SignedTime(timekeeper, entropy()),
        lists=await StatusLists.load(lambda: trusted.now, memory, timekeeper),
        restart=lambda: None,  # no daemon runs
        stop=lambda: None,
    )
    return timekeeper, trusted, await hear(settings, desk)


def _become_owner(state: Path) -> None:
    """Root read the keys; what is written from now on has to be the daemon's."""
    if os.geteuid() != 0:
        return
    if state.exists():
        owner, group = state.stat().st_uid, state.stat().st_gid
    else:
        try:
            entry = pwd.getpwnam(USER)
        except KeyError:
            return
        owner, group = entry.pw_uid, entry.pw_gid
        state.mkdir(mode=0o700)
        os.chown(state, owner, group)
    if owner != 0:
        os.initgroups(pwd.getpwuid(owner).pw_name, group)
        os.setgroups([*os.getgroups(), *_wires()])
        os.setgid(group)
        os.setuid(owner)


def _wires() -> list[int]:
    """What the unit's drop-ins for relays and serial lines give the daemon, too."""
    known = {each.gr_name: each.gr_gid for each in grp.getgrall()}
    return [known[name] for name in WIRES if name in known]


@asynccontextmanager
async def open_radio(site: Site, *, unclaimed: bool = False) -> AsyncIterator[Lookout]:
    """To the locks of this gateway, or to those that belong to nobody. RadioError."""
    radio = site.config.radio
    if radio.kind == "virtual":
        from gatewayd.adapters import virtual_radio  # noqa: PLC0415 - the one that is asked for

        async with virtual_radio.open_radio(
            radio.hci or "",
            address=radio_address(site.config.gateway.id),
            dials=virtual_radio.UNCLAIMED if unclaimed else virtual_radio.LOCK,
        ) as simulated:
            yield simulated.central
        return
    from gatewayd.adapters.bleak_radio import BleakOptions, open_bleak  # noqa: PLC0415 - likewise
    from gatewayd.adapters.gatt import client  # noqa: PLC0415 - likewise

    options = BleakOptions()
    if sys.platform == "linux":
        from gatewayd.adapters.bluez.adapter import taken_over  # noqa: PLC0415 - Linux

        options = BleakOptions(adapter=await taken_over(radio.lock_adapter or radio.adapter))
    async with open_bleak(client.UNCLAIMED if unclaimed else client.LOCK, options) as central:
        yield central


def entropy() -> SystemEntropy:
    """Chance of this machine."""
    return SystemEntropy()
