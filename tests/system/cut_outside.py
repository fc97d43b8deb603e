"""Everybody outside of the machine whose power is cut: what they do, and what they were told.

Phones, locks, broker and operator go on whatever happens to the gateway, and `check` holds
what a disk holds after a cut against everything that was acknowledged to one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from firmware_proto import cbor, cose
from firmware_proto.codes import Outcome
from firmware_proto.credential import GatewayCredential, unverified
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cloud.pull import Patience as CloudPatience
from gatewayd.cloud.pull import Source
from gatewayd.cloud_app import Cloud
from gatewayd.config import stated
from gatewayd.core import state
from gatewayd.core.audit import Leaf
from gatewayd.core.merkle import CompactRange, leaf_hash
from gatewayd.core.model import EntryKind, GatewayId, origin_of
from gatewayd.core.register import Held, Slot
from gatewayd.core.state import State, StateKind
from gatewayd.core.topics import GatewayTopics
from gatewayd.demo import elsewhere
from gatewayd.demo.world import GATEWAY, STREET, World
from gatewayd.emulators.lock_state import Turn
from gatewayd.emulators.phone import Patience
from gatewayd.ports import PortError

SETTINGS: Final = '[[door]]\nid = "street"\npolicy.guest.rate = {}\n'
SLOT: Final = Slot(StateKind.SETTINGS, GATEWAY, "")
SERVED_S: Final = 60.0
QUICK: Final = CloudPatience(1.0, 2)


@dataclass
class Told:
    """What was acknowledged to somebody outside, or came about there."""

    enrolled: bool = False
    version: int = 0
    """Of the schema that a daemon served with; 0 before the first."""
    settings: int = 0
    opened: dict[bytes, int] = field(default_factory=dict)
    """Requests that were confirmed with a receipt, and the entry that it names."""
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class Outside:
    """Everybody but the gateway; whatever happens to that, they go on."""

    world: World
    told: Told = field(default_factory=Told)
    credential: GatewayCredential | None = None

    async def live(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in (self.come_home, self.state_settings, self.watch, self.pull):
                tasks.create_task(each(), name=each.__name__)

    async def served(self) -> None:
        """Return when everybody got something new."""
        told, before = self.told, None
        async with asyncio.timeout(SERVED_S):
            while True:
                now = (len(told.opened), told.settings, told.counts["pulls"])
                before = before or now
                if all(new > old for new, old in zip(now, before, strict=True)):
                    return
                await asyncio.sleep(0.1)

    def check_doors(self) -> None:
        """No command moved a lock twice."""
        ledger = self.world.locks[STREET].machine.ledger
        moved = Counter(each.command for each in ledger if each.turn is Turn.UNLATCH)
        assert max(moved.values()) == 1, moved

    @property
    def store(self) -> Path:
        return self.cloud().store

    async def come_home(self) -> None:
        """Anna opens, again and again; now and then she sends once more what was confirmed."""
        machine, told = self.world.locks[STREET].machine, self.told
        async with self.world.phone(self.world.wallet("anna")) as phone:
            phone.patience = Patience(attempts=2, dial_s=3.0)
            while True:
                again = told.opened and told.counts["taps"] % 4 == 3
                request = [*told.opened][-1] if again else None
                before = machine.openings
                report = await phone.open_door(STREET, address=self.world.gateway, request=request)
                told.counts["taps"] += 1
                if again:
                    assert machine.openings == before, "one request, two openings"
                    told.counts["asked again"] += report.outcome is Outcome.CONFIRMED
                if report.outcome is Outcome.CONFIRMED and report.receipt is not None:
                    seq = seq_of(report.receipt)
                    assert told.opened.setdefault(report.request, seq) == seq
                await asyncio.sleep(0.1)

    async def state_settings(self) -> None:
        """The operator's settings, one serial after the other; each is said once."""
        topics = GatewayTopics(GatewayId(GATEWAY))
        async with self._session() as session:
            for serial in itertools.count(1):
                body = stated.packed(SETTINGS.format(serial), {})
                said = State(StateKind.SETTINGS, GATEWAY, "", serial, body)
                envelope = state.sign(said, self.world.authority.command)
                await session.publish(topics.down("settings"), envelope)
                await asyncio.sleep(0.4)

    async def watch(self) -> None:
        """What the gateway says that it holds."""
        topic = GatewayTopics(GatewayId(GATEWAY)).status
        async with self._session(topic) as session:
            while True:
                _, payload = await session.receive()
                states = (json.loads(payload).get("operator") or {}).get("states", {})
                serial = states.get(f"settings {GATEWAY}", 0)
                self.told.settings = max(self.told.settings, serial)

    async def pull(self) -> None:
        """The operator's cloud, once the gateway is somebody."""
        while True:
            await asyncio.sleep(0.3)
            if self.credential is None:
                continue
            with contextlib.suppress(PortError):
                await self.cloud().pull(self.source)
                self.told.counts["pulls"] += 1

    @property
    def source(self) -> Source:
        assert self.credential is not None
        return Source(GatewayId(GATEWAY), self.credential.log_key)

    def cloud(self) -> Cloud:
        return replace(elsewhere.cloud(self.world), patience=QUICK)

    @asynccontextmanager
    async def _session(self, *topics: str) -> AsyncIterator[Mqtt]:
        name = f"outside-{random.randbytes(4).hex()}"
        where = {"host": "127.0.0.1", "port": self.world.broker_port}
        async with Mqtt(
            MqttSettings(**where, client_id=name, subscriptions=topics)
        ).connect() as at:
            yield at

    # --- what a disk must hold -----------------------------------------------------------
    def check(self, disk: Path) -> None:
        """Everything that anybody outside was told."""
        gateway, told = disk / "gatewayd", self.told
        credential = gateway / "gateway.cwt"
        if told.enrolled:
            assert not (gateway / "enrolment.state").exists()
            assert credential.exists()
        if self.credential is None and credential.exists():
            self.credential = unverified(credential.read_bytes())
        log = gateway / "state" / "log.db"
        if not log.exists():
            assert told.version == 0, "it served"
            return
        with closing(sqlite3.connect(log)) as book:
            assert book.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert book.execute("PRAGMA user_version").fetchone()[0] >= told.version
            self._check_log(book)
            row = book.execute("SELECT value FROM memory WHERE name = ?", (SLOT.name,)).fetchone()
            held = Held.decode(row[0])[1].serial if row else 0
            assert held >= told.settings, (held, told.settings)

    def _check_log(self, book: sqlite3.Connection) -> None:
        tree, bodies = CompactRange(), []
        for seq, body, nodes in book.execute("SELECT seq, body, nodes FROM leaf ORDER BY seq"):
            tree, grown = tree.append(leaf_hash(body))
            assert (seq, nodes) == (len(bodies), b"".join(grown))
            bodies.append(body)
        for seq in self.told.opened.values():
            assert seq < len(bodies), "a phone has a receipt for an entry that is gone"
            leaf = Leaf.decode(bodies[seq])
            assert leaf.kind in {EntryKind.OUTCOME, EntryKind.JOINED}
            assert leaf.verdict.outcome is Outcome.CONFIRMED
        with open_cloud(self.store) as store:
            pulled = list(store.leaves(origin_of(GatewayId(GATEWAY))))
        assert pulled == bodies[: len(pulled)], "the cloud has what the gateway has not"
        (cursor,) = book.execute("SELECT acknowledged FROM cursor").fetchone()
        assert cursor <= len(pulled)


def seq_of(signed: bytes) -> int:
    """The entry that a receipt names, which the phone has verified."""
    match cbor.decode(cose.Sign1.parse(signed).payload):
        case [*_, int(seq)]:
            return seq
    raise AssertionError(signed)
