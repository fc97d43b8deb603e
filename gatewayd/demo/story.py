"""The story: one staircase, one day without network, and what may go wrong in it.

Each function is a chapter. It acts through phones, locks and signals as the
world would, and states what it expects to see there and in the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.codes import ID_BYTES, KeyClass, Outcome, Reason
from firmware_proto.framing import GattFraming
from firmware_proto.messages import GetResult
from firmware_proto.session import ERROR_FRAME
from gatewayd import logbook
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.cloud.authority import DAY_S, IssuerKey
from gatewayd.core.audit import Leaf
from gatewayd.core.model import EntryKind, Verdict
from gatewayd.demo import elsewhere
from gatewayd.demo.child import Child, steps_of
from gatewayd.demo.stage import Chapter, Opening, Record, until
from gatewayd.demo.wiretap import Wiretap, answer_to
from gatewayd.demo.world import GENERATION, STAIRS, STREET, EmulatedLock, World
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.emulators.lock_state import Turn
from gatewayd.emulators.phone import Phone, Report
from gatewayd.emulators.visit import visit

OPENED: Final = Verdict(Outcome.CONFIRMED, Reason.OK)
SUPERVISION_S: Final = 1.3
"""A little more than the air's supervision timeout."""


@dataclass(slots=True)
class Stage:
    """Who is there, and what has been told."""

    world: World
    child: Child
    stack: AsyncExitStack
    record: Record = field(default_factory=Record)
    phones: dict[str, Phone] = field(default_factory=dict)
    unknown: bytes = b""

    async def phone(self, name: str, **claims: object) -> Phone:
        """Somebody's phone; made when it is first needed."""
        if name not in self.phones:
            wallet = self.world.wallet(name, **claims)  # type: ignore[arg-type] # as told there
            self.phones[name] = await self.stack.enter_async_context(self.world.phone(wallet))
        return self.phones[name]

    def log(self) -> list[Leaf]:
        """The gateway's log as it stands on disk."""
        with logbook.open_logbook(self.world.database) as file:
            return [entry.leaf for entry in logbook.entries(file) if entry.leaf is not None]

    def log_is_sound(self) -> bool:
        """Everything in it computed again, and held against what the gateway signed."""
        with logbook.open_logbook(self.world.database) as file:
            return logbook.verify(file, elsewhere.source(self.world).log).sound

    def last(self, kind: EntryKind) -> Verdict | None:
        """What the last entry of a kind says."""
        found = [leaf for leaf in self.log() if leaf.kind is kind]
        return found[-1].verdict if found else None


@dataclass(slots=True)
class Measured:
    """Takes the time from a tap to the moment when the command reaches the lock's motor."""

    stage: Stage
    lock: EmulatedLock
    profile: str
    tapped_s: float = 0.0
    reached_s: float = 0.0

    async def open(self, phone: Phone, *, prepared: bool = False) -> Report:
        """Tap. `prepared`: the phone came near first, so that only the tap remains."""
        self.lock.machine.on_turning = self._turning
        lines = len(self.stage.child.lines)
        if prepared:
            report = await phone.open_door(
                self.lock.door, address=self.stage.world.gateway, tap=self._tap_soon()
            )
        else:
            self.tapped_s = time.perf_counter()
            report = await phone.open_door(self.lock.door, address=self.stage.world.gateway)
        self.lock.machine.on_turning = None
        if report.outcome is Outcome.CONFIRMED:
            line = await self.stage.child.line(
                lambda line: f"door {self.lock.door}: confirmed" in line, 2.0, skip=lines
            )
            self._note(report, steps_of(line), prepared=prepared)
        return report

    async def _tap_soon(self) -> None:
        await asyncio.sleep(0.4)
        self.tapped_s = time.perf_counter()

    def _turning(self, turn: Turn) -> None:
        if turn is Turn.UNLATCH:
            self.reached_s = time.perf_counter()

    def _note(self, report: Report, gateway: dict[str, int], *, prepared: bool) -> None:
        total = round((self.reached_s - self.tapped_s) * 1000)
        times = report.timings
        parts = (
            {}
            if prepared
            else {
                "connect": round((times.connect_s or 0) * 1000),
                "handshake": round((times.handshake_s or 0) * 1000),
            }
        )
        parts["record on disk"] = gateway["record"]
        parts["reach the lock"] = max(gateway["dial"] - gateway["record"], 0)
        parts["air and cipher"] = total - sum(parts.values())
        self.stage.record.openings.append(Opening(self.profile, total, parts))


# --- opening -----------------------------------------------------------------------
async def warm(stage: Stage, told: Chapter) -> None:
    """Anna comes home and taps at the street door; there is no network."""
    anna = await stage.phone("anna")
    street = stage.world.locks[STREET]
    report = await Measured(stage, street, "warm lock").open(anna)
    told.expect("Anna's phone", OPENED, report)
    told.expect("the street door's motor drew the latch", 1, street.machine.openings)
    told.expect("round trips from connect to opened", 2, report.exchanges)
    told.expect("a signed receipt in Anna's wallet", True, report.receipt is not None)
    told.expect("the log", OPENED, stage.last(EntryKind.OUTCOME))


async def stolen_box(stage: Stage, told: Chapter) -> None:
    """A gateway that was replaced last year turns up again, with its old credential."""
    anna = await stage.phone("anna")
    async with elsewhere.old_gateway(stage.world, GENERATION - 1) as (address, client):
        report = await anna.open_door(STREET, address=address)
        told.expect("Anna's phone", Verdict(Outcome.REFUSED, Reason.OLD_GENERATION), report)
        reached = await elsewhere.accepted_by_lock(client)
        told.expect("the stairs lock lets it in", False, reached)
    told.expect("the stairs lock moved", 0, stage.world.locks[STAIRS].machine.openings)


async def cold(stage: Stage, told: Chapter) -> None:
    """The lock on the stairs runs on batteries and sleeps; Anna goes on up."""
    anna = await stage.phone("anna")
    report = await Measured(stage, stage.world.locks[STAIRS], "cold lock").open(anna)
    told.expect("Anna's phone", OPENED, report)


async def prepared(stage: Stage, told: Chapter) -> None:
    """Bo from the home care comes up the path; his phone prepares, then he taps."""
    bo = await stage.phone("bo", key_class=KeyClass.SERVICE)
    report = await Measured(stage, stage.world.locks[STREET], "tap after Prepare").open(
        bo, prepared=True
    )
    told.expect("Bo's phone", OPENED, report)


# --- refusing ----------------------------------------------------------------------
async def strangers(stage: Stage, told: Chapter) -> None:
    """Two strangers try: one sends noise, the other a key that he signed himself."""
    anna = await stage.phone("anna")
    entropy = SystemEntropy()
    noise = GattFraming(64, b"\x12\x34").cut(entropy.token_bytes(100))
    answers = [await answer_to(await anna.central.dial(stage.world.gateway), *noise)]
    own = IssuerKey.create("vestergade housing")
    forger = await stage.phone("forger", issuer=own)
    tap = Wiretap(await forger.central.dial(stage.world.gateway))
    there = await visit(tap, forger.wallet, STREET, _now_s(), entropy)
    told.expect(
        "an answer to the forger's question", None, await there.ask(GetResult(bytes(ID_BYTES)))
    )
    await there.leave()
    framing = GattFraming(tap.mtu, tap.heard[0][:2])
    said = [message for fragment in tap.heard for message in framing.receive(fragment)]
    answers.append((said[-1],))
    told.expect(
        "both heard the one constant answer",
        ERROR_FRAME,
        b" / ".join(sorted({b"".join(each) for each in answers})),
    )
    line = await stage.child.line(lambda line: "refused: untrusted_issuer" in line, 2.0)
    told.expect("the gateway itself knows why", "untrusted_issuer", line.rpartition(": ")[2])


async def no_right(stage: Stage, told: Chapter) -> None:
    """A carrier with yesterday's key, and a neighbour with a key for another door."""
    cases = (
        (
            "the carrier's phone",
            await stage.phone("carrier", key_class=KeyClass.DELIVERY, valid=(-2 * DAY_S, -DAY_S)),
            Reason.EXPIRED,
        ),
        (
            "the neighbour's phone",
            await stage.phone("neighbour", doors=(STAIRS,)),
            Reason.WRONG_DOOR,
        ),
    )
    for who, phone, reason in cases:
        report = await phone.open_door(STREET, address=stage.world.gateway)
        refused = Verdict(Outcome.REFUSED, reason)
        told.expect(who, refused, report)
        told.expect("the log", refused, stage.last(EntryKind.REFUSAL))


async def replay(stage: Stage, told: Chapter) -> None:
    """A thief listens at Anna's link and sends her last message once more."""
    anna = await stage.phone("anna")
    before = stage.world.locks[STREET].machine.openings
    tap = Wiretap(await anna.central.dial(stage.world.gateway))
    there = await visit(tap, anna.wallet, STREET, _now_s(), SystemEntropy())
    await there.ask(GetResult(SystemEntropy().token_bytes(ID_BYTES)))
    told.expect(
        "the gateway's answer on the same link", (), await answer_to(tap, *tap.last_again())
    )
    told.expect(
        "the log",
        Verdict(Outcome.REFUSED, Reason.REPLAYED),
        stage.last(EntryKind.REFUSAL),
    )
    everything = await answer_to(await anna.central.dial(stage.world.gateway), *tap.written)
    told.expect("everything again on a new link ends with", ERROR_FRAME, everything[-1])
    told.expect("openings by the thief", 0, stage.world.locks[STREET].machine.openings - before)


# --- locks that fail ------------------------------------------------------------------
async def jam(stage: Stage, told: Chapter) -> None:
    """A parcel leans against the street door, and its lock jams."""
    anna = await stage.phone("anna")
    machine = stage.world.locks[STREET].machine
    machine.blocked = True
    report = await anna.open_door(STREET, address=stage.world.gateway)
    machine.blocked = False
    told.expect("Anna's phone", Verdict(Outcome.REFUSED, Reason.JAMMED), report)
    told.expect(
        "and when the parcel is gone",
        OPENED,
        await anna.open_door(STREET, address=stage.world.gateway),
    )


async def silence(stage: Stage, told: Chapter) -> None:
    """The stairs lock loses its battery after turning, before it can say so."""
    anna = await stage.phone("anna")
    lock = stage.world.locks[STAIRS]
    before = lock.machine.openings
    lock.faults.power_cut = PowerCut.BEFORE_ANSWER
    report = await anna.open_door(STAIRS, address=stage.world.gateway)
    told.expect("Anna's phone", Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT), report)
    lock.appear()
    told.remark("the battery is back; the gateway asks the lock, and does not send it again")
    resolved = await until(lambda: stage.last(EntryKind.RESOLVED) is not None, 12.0)
    told.expect("the gateway found out", True, resolved)
    told.expect("the log", OPENED, stage.last(EntryKind.RESOLVED))
    told.expect("the latch was drawn", 1, lock.machine.openings - before)
    asked = await anna.ask_result(STAIRS, report.request, address=stage.world.gateway)
    told.expect("Anna asks what became of it", OPENED, asked)


async def killed(stage: Stage, told: Chapter) -> None:
    """The daemon is killed after it wrote down what it would do, and before it did it."""
    anna = await stage.phone("anna")
    lock = stage.world.locks[STAIRS]
    before = lock.machine.openings
    lock.vanish()
    await asyncio.sleep(SUPERVISION_S)  # the gateway notices, and must dial now
    intents = _intents(stage)
    errand = asyncio.create_task(
        anna.open_door(STAIRS, address=stage.world.gateway), name="anna's errand"
    )
    told.expect("the intent is on disk", True, await until(lambda: _intents(stage) > intents, 5.0))
    await stage.child.kill()
    await elsewhere.network_returns(stage.world, stage.stack)
    stage.child = Child(stage.world.config)
    await stage.child.start()
    cut_short = Verdict(Outcome.UNKNOWN, Reason.RESTARTED)
    told.expect("the log after the restart", cut_short, stage.last(EntryKind.OUTCOME))
    told.expect("Anna's phone, which asks and does not repeat", cut_short, await errand)
    lock.appear()
    never = Verdict(Outcome.REFUSED, Reason.COMMAND_NEVER_SEEN)
    await until(lambda: stage.last(EntryKind.RESOLVED) == never, 15.0)
    told.expect("the lock, asked", never, stage.last(EntryKind.RESOLVED))
    told.expect("the latch was drawn", 0, lock.machine.openings - before)


def _intents(stage: Stage) -> int:
    return sum(leaf.kind is EntryKind.INTENT for leaf in stage.log())


def _now_s() -> float:
    return SystemClock().instant().wall_s


# --- the network returns ----------------------------------------------------------------
async def network(stage: Stage, told: Chapter) -> None:
    """Meanwhile the network has returned, and the operator's cloud pulls the log."""
    pulled = await elsewhere.pull(stage.world)
    told.expect("entries kept by the cloud", pulled.log_size, pulled.size)
    told.expect("entries on the gateway's disk", len(stage.log()), pulled.size)
    drawn = sum(lock.machine.openings for lock in stage.world.locks.values())
    confirmed = sum(
        leaf.verdict.outcome is Outcome.CONFIRMED
        and leaf.kind in {EntryKind.OUTCOME, EntryKind.RESOLVED}
        for leaf in stage.log()
    )
    told.expect("openings in the log, for as many at the locks", drawn, confirmed)
    told.expect("the gateway's own log verifies", True, stage.log_is_sound())
    told.expect("the cloud's copy verifies", True, elsewhere.verify(stage.world))


ChapterFunction = Callable[[Stage, Chapter], Awaitable[None]]
CHAPTERS: Final[tuple[ChapterFunction, ...]] = (
    warm,
    stolen_box,
    cold,
    prepared,
    strangers,
    no_right,
    replay,
    jam,
    silence,
    killed,
    network,
)
