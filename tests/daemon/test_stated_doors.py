"""Doors, policies and credentials that came by envelope, and what of them a start makes use of."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Fault, KeyClass, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd import extras, retirement
from gatewayd.cloud.authority import Authority, GatewayKeys, new_key
from gatewayd.config import Config, Secrets, load_all, stated
from gatewayd.config.overrides import Said, overridden
from gatewayd.config.provisional import (
    HOLDS_S,
    MEMORY_NAME,
    DamagedBindingsError,
    OneDoor,
    Provisional,
)
from gatewayd.core import envelope, state
from gatewayd.core.envelope import Floor, Kind, Retire, Statement, TimeAnswer
from gatewayd.core.model import ClockState, EntryKind, Fact, Instant, TimeReading, Verdict
from gatewayd.core.state import State, StateKind
from gatewayd.core.timekeeping import TimeRefusedError
from gatewayd.core.trust import sign_bundle
from gatewayd.core.trust_chain import pack
from gatewayd.handlers import Desk
from gatewayd.hearing import Heard, Watch, bind_on_site, hear
from gatewayd.keyfiles import create_files, public_pem
from gatewayd.lists import StatusLists
from gatewayd.ports import StorageError
from gatewayd.timekeeper import SignedTime, Timekeeper
from gatewayd.trusted import Trusted
from gatewayd.vitals import UNWATCHED
from tests.support.memory_log import MemoryLog
from tests.support.parsing import parsed_or_refused
from tests.support.site import NOW, YEAR, Site, make_site

DOORS = """\
[[door]]
id = "street"
zone = "Europe/Copenhagen"
latch_ms = 2500
lock.address = "F0:F1:F2:F3:F4:77"
lock.key = "new.pub.pem"

[[door]]
id = "cellar"
relay = { chip = "pinctrl-rp1", line = 17 }
"""
SETTINGS = """\
[[door]]
id = "street"
policy.guest.rate = 3

[[door]]
id = "a door of another gateway"
policy.resident.unknown_time = false
""".replace("a door of another gateway", "elsewhere")
LOCK = new_key().public_key()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    create_files({tmp_path / "new.pub.pem": public_pem(LOCK)}, mode=0o644)
    (tmp_path / "doors.toml").write_text(DOORS)
    (tmp_path / "settings.toml").write_text(SETTINGS)
    return made


def bindings_of(site: Site, text: str = DOORS) -> bytes:
    (site.directory / "described.toml").write_text(text)
    body = stated.pack_bindings(site.directory / "described.toml")
    assert isinstance(body, bytes), body
    return body


def settings_of(site: Site) -> bytes:
    body = stated.pack_settings(site.directory / "settings.toml")
    assert isinstance(body, bytes), body
    return body


# --- bodies ---------------------------------------------------------------------------------
def test_bindings_are_what_was_described(site: Site) -> None:
    found = stated.bindings(bindings_of(site))
    assert [door.id for door in found.doors] == ["street", "cellar"]
    assert found.doors[0].latch_ms == 2500
    assert found.lock_keys == {"street": LOCK}


def test_settings_are_what_was_described(site: Site) -> None:
    found = stated.settings(settings_of(site))
    assert set(found) == {"street", "elsewhere"}
    assert found["street"].guest.rate == 3


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("2500", "25", "latch_ms"),
        ("new.pub.pem", "absent.pub.pem", "does not exist"),
        ("Copenhagen", "Kopenhagen", "no time zone"),
        ("cellar", "street", "already"),
        ("relay", "really", "not a setting"),
    ],
)
def test_what_cannot_be_meant_is_not_packed(site: Site, old: str, new: str, problem: str) -> None:
    (site.directory / "doors.toml").write_text(DOORS.replace(old, new))
    problems = stated.pack_bindings(site.directory / "doors.toml")
    assert isinstance(problems, list)
    assert any(problem in each.message for each in problems)


def refused(parse: Any, *values: Any) -> None:
    for value in values:
        with pytest.raises(RemoteProtocolError) as caught:
            parse(value if isinstance(value, bytes) else cbor.encode(value))
        assert caught.value.fault is Fault.MALFORMED


def test_bodies_are_read_strictly(site: Site) -> None:
    good, text = bindings_of(site), DOORS
    _, _, keys = cbor.decode(good)  # type: ignore[misc] # it is an array
    more = {**keys, "x.pub.pem": keys["new.pub.pem"]}
    refused(
        stated.bindings,
        *(b"", good[:-1], good + b"\0", [], [2, text, keys], [True, text, keys]),
        *([1, text, {}], [1, text, more], [1, text, {"new.pub.pem": b"\4" * 65}]),
        *([1, text, {"new.pub.pem": 5}], [1, text, {5: b""}], [1, b"", keys], [1, "[", keys]),
        *([1, SETTINGS, {}], [1, "x" * 50_000, {}], [1, text.replace("cellar", "street"), keys]),
    )
    refused(
        stated.settings,
        *([1, SETTINGS, keys], [1, DOORS, {}], [1, SETTINGS.replace("elsewhere", "street"), {}]),
    )


@given(st.text(max_size=60), st.dictionaries(st.text(max_size=9), st.binary(max_size=9)))
def test_any_body_is_read_or_refused(text: str, keys: dict[str, bytes]) -> None:
    for parse in (stated.bindings, stated.settings):
        parsed_or_refused(parse, cbor.encode([1, text, keys]))  # type: ignore[arg-type, type-var] # two forms
        parsed_or_refused(parse, text.encode("utf-8", "replace"))  # type: ignore[arg-type, type-var] # likewise


# --- what a start makes of them ---------------------------------------------------------------
def made_of(site: Site, **said: Any) -> tuple[Config, Secrets, list[str]]:
    told: list[str] = []
    config, secrets = load_all(site.config)
    trust = site.authority.trust()
    return *overridden(config, secrets, trust, Said(**said), told.append), told


def credential_of(site: Site, doors: dict[str, int], **changes: Any) -> bytes:
    issued_s = changes.pop("issued_at", NOW)
    values: dict[str, Any] = {"issued_at": issued_s, "expires": issued_s + 2 * YEAR}
    keys = changes.pop("keys", site.keys)
    name = changes.pop("gateway", "stairwell-7")
    return site.authority.gateway_credential(name, doors, keys, **values)


def test_nothing_said_changes_nothing(site: Site) -> None:
    config, secrets, told = made_of(site)
    assert (config, told) == (load_all(site.config)[0], [])
    assert secrets.credential.doors == {"street": 1, "cellar": 1}


def test_the_operators_doors_take_the_place_of_those_in_the_configuration(site: Site) -> None:
    config, secrets, told = made_of(site, bindings=bindings_of(site), settings=settings_of(site))
    street, cellar = config.doors
    assert street.lock is not None
    assert street.lock.address == "F0:F1:F2:F3:F4:77"
    assert street.policy.settings.of(KeyClass.GUEST).rate == 3
    assert cellar.relay is not None
    assert cellar.policy.settings.of(KeyClass.RESIDENT).rate == math.inf
    assert (secrets.lock_keys, told) == ({"street": LOCK}, [])


def test_a_door_waits_for_the_credential_that_names_it(site: Site) -> None:
    bindings = bindings_of(site, DOORS.replace("cellar", "yard"))
    config, _, told = made_of(site, bindings=bindings)
    assert [door.id for door in config.doors] == ["street"]
    assert told == ["door yard is not served: the gateway's credential does not name it"]
    credential = credential_of(site, {"street": 2, "yard": 1})
    config, secrets, told = made_of(site, bindings=bindings, credential=credential)
    assert [door.id for door in config.doors] == ["street", "yard"]
    assert secrets.credential_bytes == credential
    assert (secrets.credential.doors["street"], told) == (2, [])


def test_a_renewed_credential_counts_while_it_says_the_same(site: Site) -> None:
    installed = dict.fromkeys(("street", "cellar"), 1)
    renewed = credential_of(site, installed, issued_at=NOW + YEAR)
    _, secrets, told = made_of(site, renewed=renewed)
    assert (secrets.credential_bytes, told) == (renewed, [])
    stated_since = credential_of(site, {"street": 2})
    _, secrets, _ = made_of(site, credential=stated_since, renewed=renewed)
    assert secrets.credential_bytes == stated_since
    again = credential_of(site, {"street": 2}, issued_at=NOW + YEAR)
    _, secrets, _ = made_of(site, credential=stated_since, renewed=again)
    assert secrets.credential_bytes == again
    for other in (b"", credential_of(site, installed, keys=GatewayKeys.create())):
        _, secrets, _ = made_of(site, renewed=other)
        assert secrets.credential_bytes == load_all(site.config)[1].credential_bytes


def test_an_older_word_does_not_outlive_another_enrolment(site: Site) -> None:
    before = credential_of(site, {"street": 1, "cellar": 1}, issued_at=NOW - YEAR)
    _, secrets, told = made_of(site, credential=before)
    assert secrets.credential_bytes == load_all(site.config)[1].credential_bytes
    assert told == ["the credential that the operator sent is not used: the one here is newer"]


def test_what_does_not_fit_is_told_and_the_rest_opens(site: Site) -> None:
    others = credential_of(site, {"street": 1}, keys=GatewayKeys.create())
    for said in (
        {"credential": others},
        {"credential": credential_of(site, {"street": 1}, gateway="stairwell-8")},
        {"credential": b""},
        {"bindings": b""},
        {"settings": b""},
        {"provisional": (b"",)},
    ):
        config, secrets, told = made_of(site, **said)
        before = load_all(site.config)
        assert config == before[0]
        assert secrets.credential_bytes == before[1].credential_bytes
        assert secrets.lock_keys == before[1].lock_keys
        assert len(told) == 1
        assert "used" in told[0]


def test_doors_bound_on_site_go_before_others_of_their_names(site: Site) -> None:
    one = DOORS.partition('[[door]]\nid = "cellar"')[0]
    config, secrets, told = made_of(site, provisional=(bindings_of(site, one),))
    assert {door.id for door in config.doors} == {"street", "cellar"}
    assert secrets.lock_keys["street"] == LOCK  # type: ignore[index] # a door's name
    assert not told
    clash = one.replace("F4:77", "F4:02")  # the address of the cellar's lock
    config, _, told = made_of(site, provisional=(bindings_of(site, clash),))
    assert config == load_all(site.config)[0]
    assert "already" in told[0]


def test_a_door_whose_library_is_not_there_is_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _, _ = made_of(site, bindings=bindings_of(site))
    told: list[str] = []
    monkeypatch.setitem(extras.ADAPTERS, "relay", "gatewayd.absent")  # type: ignore[arg-type]
    assert [door.id for door in extras.usable(config, told.append).doors] == ["street"]
    assert told == ["door cellar is not served: gatewayd[relay] is not installed"]


# --- the week of what was bound on site -------------------------------------------------------
def reading(now_s: int, state_: ClockState = ClockState.TRUSTED, floor_s: int = 0) -> TimeReading:
    return TimeReading(state_, now_s, 1.0, floor_s or now_s)


def made(now: TimeReading, stated: bytes | None = None) -> Provisional:
    return Provisional().bound("street", b"body", now, stated)


def held(now: Provisional, time: TimeReading, stated: bytes | None = None) -> list[str]:
    return [each.name for each in now.holding(time, stated)]


def test_a_week_is_counted_by_what_has_certainly_passed() -> None:
    site = made(reading(NOW))
    assert held(site, reading(NOW + HOLDS_S - 1)) == ["street"]
    assert held(site, reading(NOW + HOLDS_S, floor_s=NOW)) == ["street"]
    assert held(site, reading(NOW + HOLDS_S)) == []
    assert held(site, reading(NOW), b"stated since") == []


@pytest.mark.parametrize("state_", [ClockState.UNKNOWN, ClockState.HOLDOVER])
def test_a_clock_that_was_set_makes_no_week_longer(state_: ClockState) -> None:
    late = NOW + 400 * 86_400  # a battery-backed clock that was set before the start
    site = made(reading(late, state_, floor_s=NOW))
    for _ in range(6):
        site = site.seen(reading(late, state_, floor_s=NOW), HOLDS_S // 7)
    assert held(site, reading(late, state_, floor_s=NOW)) == ["street"]
    known = site.seen(reading(NOW), 0)  # the time is known at last, and six days have passed
    assert held(known, reading(NOW + HOLDS_S // 7 + 6)) == []
    site = site.seen(reading(5, state_, floor_s=1), HOLDS_S // 7 + 7)
    assert held(site, reading(5, state_, floor_s=1)) == []


def test_binding_again_prolongs_nothing_and_brings_nothing_back() -> None:
    site = made(reading(NOW))
    day = 86_400
    site = site.bound("cellar", b"other", reading(NOW + 3 * day), None)
    site = site.bound("street", b"body", reading(NOW + 6 * day), None)
    assert held(site, reading(NOW + 7 * day)) == ["cellar"]
    site = site.bound("street", b"body", reading(NOW + 8 * day), None)  # it had ended
    assert held(site, reading(NOW + 8 * day)) == ["cellar", "street"]
    site = site.bound("street", b"another", reading(NOW + 9 * day), b"stated")
    assert held(site, reading(NOW + 9 * day), b"stated") == ["street"]  # the cellar is stated
    assert held(site.bound("street", None, reading(NOW), b"stated"), reading(NOW), b"stated") == []


def test_it_is_stored_and_read_strictly() -> None:
    doors = (OneDoor("a", b"b"), OneDoor("b", b"", NOW, 7))
    for site in (Provisional(), Provisional(doors, b"s")):
        data = site.encode()
        assert Provisional.decode(data) == site
        cut = [data[:at] for at in range(len(data))]
        odd = ([], [2, {"a": [b"", True, 0]}, None], [2, {1: [b"", 0, 0]}, None], [1, {}, None])
        for wrong in (*cut, data + b"\0", *map(cbor.encode, odd)):
            with pytest.raises(DamagedBindingsError):
                Provisional.decode(wrong)


# --- the whole of it --------------------------------------------------------------------------
@dataclass
class Now:
    """A clock that a test sets."""

    wall_s: float = NOW
    boottime_s: float = 0.0

    def instant(self) -> Instant:
        return Instant("boot", self.boottime_s, self.wall_s)


@dataclass
class Gateway:
    """One start after another over the same memory."""

    site: Site
    memory: MemoryLog = field(default_factory=MemoryLog)
    clock: Now = field(default_factory=Now)
    restarts: int = 0
    stops: int = 0

    async def start(self) -> Heard:
        config, secrets = load_all(self.site.config)
        timekeeper = await Timekeeper.load(self.clock, self.memory, battery_clock=False)
        await timekeeper.provision(NOW)
        self.timekeeper, self.times = timekeeper, SignedTime(timekeeper, _Dice())  # type: ignore[arg-type] # only nonces
        trusted = await Trusted.load(self.memory, secrets.bundle, secrets.root)
        desk = Desk(
            secrets=secrets,
            trusted=trusted,
            memory=self.memory,
            log=self.memory,
            timekeeper=timekeeper,
            times=self.times,
            lists=await StatusLists.load(lambda: trusted.now, self.memory, timekeeper),
            restart=self._restart,
            stop=self._stop,
        )
        return await hear(config, desk)

    def _restart(self) -> None:
        self.restarts += 1

    def _stop(self) -> None:
        self.stops += 1


class _Dice:
    def token_bytes(self, count: int) -> bytes:
        return b"n" * count


def says(site: Site, kind: StateKind, body: bytes, serial: int = 1, **changes: Any) -> bytes:
    said = replace(State(kind, "stairwell-7", "", serial, body), **changes)
    return state.sign(said, site.authority.command)


def orders(kind: Kind, body: Any, key: Any, number: int | None = None) -> bytes:
    statement = Statement(kind, "stairwell-7", os.urandom(16), NOW + 10**7, body, number)
    return envelope.sign(statement, key)


async def test_states_count_from_the_next_start_which_is_asked_for_once(site: Site) -> None:
    gateway = Gateway(site)
    heard = await gateway.start()
    assert [door.id for door in heard.config.doors] == ["street", "cellar"]
    credential = credential_of(site, {"street": 4})
    for kind, body in (
        (StateKind.BINDINGS, bindings_of(site)),
        (StateKind.SETTINGS, settings_of(site)),
        (StateKind.CREDENTIAL, credential),
    ):
        await heard.mailbox.deliver(says(site, kind, body))
    assert gateway.restarts == 3
    heard = await gateway.start()
    assert gateway.restarts == 3
    (street,) = heard.config.doors
    assert street.latch_ms == 2500
    assert street.policy.settings.of(KeyClass.GUEST).rate == 3
    assert heard.secrets.credential_bytes == credential


async def test_a_credential_that_lapsed_is_told(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(site)
    await gateway.start()
    assert "lapsed" not in caplog.text
    await gateway.timekeeper.provision(NOW + YEAR)
    await gateway.start()
    assert "our credential has lapsed" in caplog.text


async def test_a_state_that_cannot_be_meant_is_refused_at_the_door(site: Site) -> None:
    heard = await (gateway := Gateway(site)).start()
    for kind, body, fault in (
        (StateKind.BINDINGS, b"", Fault.MALFORMED),
        (StateKind.SETTINGS, bindings_of(site), Fault.MALFORMED),
        (StateKind.CREDENTIAL, site.authority.bundle(), Fault.MALFORMED),
        (
            StateKind.CREDENTIAL,
            credential_of(site, {"street": 1}, gateway="other"),
            Fault.UNEXPECTED,
        ),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            await heard.mailbox.deliver(says(site, kind, body))
        assert caught.value.fault is fault
    data = says(site, StateKind.SETTINGS, settings_of(site), subject="x")
    with pytest.raises(RemoteProtocolError):
        await heard.mailbox.deliver(data)
    assert gateway.restarts == 0


async def bound(gateway: Gateway, heard: Heard, body: bytes) -> None:
    await bind_on_site(gateway.memory, "street", body, gateway.timekeeper, heard.mailbox)


async def test_what_was_bound_on_site_holds_until_the_operator_speaks(site: Site) -> None:
    gateway = Gateway(site)
    heard = await gateway.start()
    await bound(gateway, heard, bindings_of(site))
    heard = await gateway.start()
    assert heard.config.doors[0].latch_ms == 2500
    assert [work.name for work in heard.work] == ["provisional bindings"]
    assert heard.mailbox.report().unconfirmed == ("street",)
    await heard.mailbox.deliver(says(site, StateKind.BINDINGS, bindings_of(site, DOORS + "\n")))
    heard = await gateway.start()
    assert (heard.work, heard.config.doors[0].latch_ms) == ((), 2500)
    assert heard.mailbox.report().unconfirmed == ()


async def test_what_nobody_confirmed_ends_after_a_week(site: Site) -> None:
    gateway = Gateway(site)
    heard = await gateway.start()
    await bound(gateway, heard, bindings_of(site))
    await gateway.start()
    gateway.clock.boottime_s += HOLDS_S + 3600
    heard = await gateway.start()
    assert (heard.work, heard.config.doors[0].latch_ms) == ((), 5000)


async def test_the_watch_counts_the_week_and_ends_it(site: Site) -> None:
    gateway = Gateway(site)
    await gateway.start()
    begun = Provisional((OneDoor("street", b"body"),))
    watch = Watch(begun, gateway.memory, gateway.timekeeper, gateway._restart)
    gateway.memory.failing = True
    await watch.look()
    gateway.memory.failing = False
    await watch.look()
    assert await gateway.memory.load(MEMORY_NAME) == watch.made.encode() != begun.encode()
    gateway.clock.boottime_s += 0.7
    await watch.look()
    gateway.clock.boottime_s += 0.7
    await watch.look()
    assert (watch.made.doors[0].ran_s, gateway.restarts) == (1, 0)
    gateway.clock.boottime_s += HOLDS_S
    await watch.look()
    assert gateway.restarts == 1


async def test_who_never_learns_the_time_counts_what_it_ran(site: Site) -> None:
    gateway = Gateway(site)
    gateway.clock.wall_s = NOW - 86_400  # provisioning is not believed
    heard = await gateway.start()
    await bound(gateway, heard, bindings_of(site))
    days = 0
    while (heard := await gateway.start()).work:
        days += 1
        watch = heard.work[0].run.__self__  # type: ignore[attr-defined]
        await watch.look()
        gateway.clock.boottime_s += 86_400
        await watch.look()
    assert (days, gateway.restarts) == (7, 1)
    assert gateway.timekeeper.reading().state is ClockState.UNKNOWN


async def test_damage_on_disk_is_said(site: Site) -> None:
    gateway = Gateway(site)
    await gateway.memory.store(MEMORY_NAME, b"\xff")
    with pytest.raises(StorageError, match="damaged"):
        await gateway.start()
    await gateway.memory.store(retirement.MEMORY_NAME, b"\xff")
    with pytest.raises(StorageError, match="damaged"):
        await retirement.retired(gateway.memory)


# --- orders -----------------------------------------------------------------------------------
async def test_a_replayed_time_is_no_time(site: Site) -> None:
    """A courier keeps a signed time and brings it again, for another question and for none."""
    heard = await (gateway := Gateway(site)).start()
    nonce = gateway.times.question() or b""
    answer = orders(Kind.TIME, TimeAnswer(nonce, NOW + 50).body(), site.authority.time)
    await heard.mailbox.deliver(answer)
    assert gateway.timekeeper.reading().now_s >= NOW + 50
    gateway.clock.boottime_s += 30_000
    before = gateway.timekeeper.reading()
    gateway.timekeeper.ask(b"m" * 16)
    for refusal, nonce_, time_s, key in (
        ("no question", nonce, NOW + 90_000, site.authority.time),
        ("before what has certainly passed", b"m" * 16, NOW - 9, site.authority.time),
        ("nobody signed it who may", b"m" * 16, NOW + 90_000, site.authority.command),
    ):
        made_up = orders(Kind.TIME, TimeAnswer(nonce_, time_s).body(), key)
        with pytest.raises((RemoteProtocolError, TimeRefusedError), match=refusal):
            await heard.mailbox.deliver(made_up)
    with pytest.raises(RemoteProtocolError, match="carried out"):
        await heard.mailbox.deliver(answer)
    with pytest.raises(TimeRefusedError, match="no question"):  # after a restart the id is new
        await (await gateway.start()).mailbox.deliver(answer)
    assert gateway.timekeeper.reading() == before


async def test_only_the_root_takes_a_wrong_time_back_and_only_that_one(site: Site) -> None:
    heard = await (gateway := Gateway(site)).start()
    nonce, wrong = gateway.times.question() or b"", NOW + 50 * YEAR
    await heard.mailbox.deliver(
        orders(Kind.TIME, TimeAnswer(nonce, wrong).body(), site.authority.time)
    )
    assert gateway.timekeeper.reading().floor_s >= wrong
    mend = Floor(NOW + YEAR, NOW).body()
    with pytest.raises(RemoteProtocolError):
        await heard.mailbox.deliver(orders(Kind.FLOOR, mend, site.authority.command))
    await heard.mailbox.deliver(orders(Kind.FLOOR, mend, site.authority.root))
    assert gateway.timekeeper.reading().floor_s == NOW
    # a floor below what it names stays where it is, so that replaying it does no harm
    heard = await gateway.start()
    await gateway.timekeeper.update(gateway.timekeeper.known.raised(NOW + 1000))
    await heard.mailbox.deliver(orders(Kind.FLOOR, mend, site.authority.root))
    assert gateway.timekeeper.reading().floor_s == NOW + 1000


def retire(site: Site, kept: int) -> Retire:
    return Retire(kept, site.keys.log.public_key().public_bytes_raw())


async def test_an_order_to_retire_the_box_before_does_not_retire_its_successor(site: Site) -> None:
    heard = await (gateway := Gateway(site)).start()
    other = GatewayKeys.create().log.public_key().public_bytes_raw()
    data = orders(Kind.RETIRE, Retire(7, other).body(), site.authority.command, number=1)
    await heard.mailbox.deliver(data)
    assert gateway.stops == 0
    assert await retirement.retired(gateway.memory) is None


async def test_a_retired_gateway_closes_its_log_once_and_writes_nothing_more(site: Site) -> None:
    gateway = Gateway(site)
    heard = await gateway.start()
    log = gateway.memory
    intent = Fact(reading(NOW), EntryKind.STARTED, None, Verdict(Outcome.CONFIRMED, Reason.OK))
    await log.append(intent)
    assert await retirement.retired(log) is None
    await heard.mailbox.deliver(
        orders(Kind.RETIRE, retire(site, 7).body(), site.authority.command, number=1)
    )
    assert gateway.stops == 1
    order = await retirement.retired(log)
    assert order == retire(site, 7)
    for _ in range(2):
        await retirement.close(log, reading(NOW), order)
    await heard.mailbox.deliver(
        orders(Kind.RETIRE, retire(site, 9).body(), site.authority.command, number=2)
    )
    assert gateway.stops == 1
    assert await retirement.retired(log) == order
    kinds = [entry.kind for entry in log.entries]
    assert kinds == [EntryKind.STARTED, EntryKind.RETIRED]
    assert log.entries[-1].about == 7
    with pytest.raises(StorageError, match="retired"):
        await retirement.ClosedLog(log).append(intent)


async def test_a_log_that_is_empty_can_be_closed(site: Site) -> None:
    log = Gateway(site).memory
    await retirement.close(log, reading(NOW), Retire(0, bytes(32)))
    assert [entry.kind for entry in log.entries] == [EntryKind.RETIRED]


async def test_an_operator_who_follows_another_key_signs_the_credential(site: Site) -> None:
    """The gateways key is replaced, with overlap: the bundle first, then the credential."""
    heard = await (gateway := Gateway(site)).start()
    heir = new_key()
    both = replace(site.authority.trust(2), gateways_key=heir.public_key())
    authority: Authority = replace(site.authority, gateways=heir)
    credential = authority.gateway_credential(
        "stairwell-7", {"street": 9}, site.keys, issued_at=NOW, expires=NOW + YEAR
    )
    data = says(site, StateKind.CREDENTIAL, credential)
    with pytest.raises(RemoteProtocolError):
        await heard.mailbox.deliver(data)
    await heard.mailbox.deliver(pack([sign_bundle(both, site.authority.root)]))
    await heard.mailbox.deliver(data)
    assert (await gateway.start()).secrets.credential.doors == {"street": 9}


async def test_the_watch_runs_until_it_is_cancelled(site: Site) -> None:
    import asyncio  # noqa: PLC0415 - here alone

    gateway = Gateway(site)
    await gateway.start()
    over = Provisional((OneDoor("street", b"", NOW - 2 * HOLDS_S),))
    watch = Watch(over, gateway.memory, gateway.timekeeper, gateway._restart)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watch.run(UNWATCHED)
    assert gateway.restarts == 1
