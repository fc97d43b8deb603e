"""Settings in rings: to whom, in which order, interrupted, taken back; on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from gatewayd.adapters.mqtt import Mqtt, MqttSettings
from gatewayd.cloud.fleet import Alarm, ring_of
from gatewayd.cloud.rollout import Again, Has, Leave, Send, Sent, back, forth, objections, targets
from gatewayd.config import stated
from gatewayd.core import state
from gatewayd.core.model import GatewayId
from gatewayd.core.topics import GatewayTopics
from gatewayd.keyfiles import create_files, private_pem
from gatewayd.status import OperatorStatus, Status, encode
from tests.support import commands
from tests.support.commands import Ran
from tests.support.uplink import AUTHORITY, until

SETTINGS = '[[door]]\nid = "street"\npolicy.guest.rate = {rate}\n'
A, B, C = b"a", b"b", b"c"


def name_in(ring: int) -> GatewayId:
    return next(GatewayId(f"g{n}") for n in range(10_000) if ring_of(f"g{n}") == ring)


FIRST, SECOND, LAST = map(name_in, (1, 5, 100))


# --- what each is sent -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sent", "held", "step"),
    [
        ([], 0, Send(1, B)),
        ([Sent(1, A)], 1, Send(2, B)),
        ([Sent(1, A)], 0, Send(2, B)),
        ([Sent(1, A), Sent(2, B)], 1, Again(2)),
        ([Sent(1, A), Sent(2, B)], 2, Has(2)),
        ([Sent(1, B), Sent(2, A)], 2, Send(3, B)),
    ],
)
def test_forth(sent: list[Sent], held: int, step: object) -> None:
    assert forth(sent, held, B) == step


@pytest.mark.parametrize(
    ("sent", "held", "before", "step"),
    [
        ([Sent(1, A), Sent(2, B)], 2, None, Send(3, A)),
        ([Sent(1, A), Sent(2, B)], 1, None, Send(3, A)),
        ([Sent(1, B)], 1, C, Send(2, C)),
        ([Sent(1, A), Sent(2, B), Sent(3, A)], 2, None, Again(3)),
        ([Sent(1, A), Sent(2, B), Sent(3, A)], 3, None, Has(3)),
        ([Sent(1, B), Sent(2, C)], 2, C, Has(2)),
        ([Sent(1, A), Sent(2, B), Sent(3, A), Sent(4, B)], 4, None, Send(5, A)),
    ],
)
def test_back(sent: list[Sent], held: int, before: bytes | None, step: object) -> None:
    assert back(sent, held, B, before) == step


def test_who_is_left_alone() -> None:
    for step in (forth([Sent(1, A)], 7, B), back([Sent(1, A)], 7, B, None)):
        assert isinstance(step, Leave)
        assert "serial 7" in step.why
    for sent, before, why in (
        ([], None, "never sent"),
        ([Sent(1, A)], C, "never sent"),
        ([Sent(1, B)], None, "--before"),
        ([Sent(1, A), Sent(2, B), Sent(3, C)], None, "other settings since"),
    ):
        step = back(sent, 0, B, before)
        assert isinstance(step, Leave)
        assert why in step.why


def test_rings_are_nested_and_objections_come_from_smaller_ones() -> None:
    names = [FIRST, SECOND, LAST]
    assert [len(targets(names, ring)) for ring in (1, 5, 100)] == [1, 2, 3]
    steps = {FIRST: Again(1), SECOND: Send(1, A), LAST: Send(1, A)}
    alarms = [Alarm(FIRST, "no_radio"), Alarm(SECOND, "offline"), Alarm(LAST, "offline")]
    assert list(objections(steps, alarms, 1)) == []
    assert [each for each, _ in objections(steps, alarms, 5)] == [FIRST, FIRST]
    assert [each for each, _ in objections(steps, alarms, 100)] == [FIRST, SECOND, FIRST, SECOND]
    well = {FIRST: Has(1), SECOND: Leave("x"), LAST: Send(1, A)}
    assert list(objections(well, [], 100)) == []


# --- on a broker ----------------------------------------------------------------------------
class Gateways:
    """Those of a small house: each takes the newest settings, and says so."""

    def __init__(self, names: list[GatewayId]) -> None:
        self.told = {name: Status(online=True, version="1", clock="trusted") for name in names}
        self.taken: dict[GatewayId, list[tuple[int, bytes]]] = {name: [] for name in names}
        self.deaf: set[GatewayId] = set()
        self.session: Mqtt | None = None
        self.upstream = None

    async def run(self, upstream) -> None:
        self.upstream = upstream
        for name in self.told:
            await self.tell(name)
        while True:
            topic, data = await upstream.receive()
            name = GatewayId(topic.split("/")[3])
            if not topic.endswith("/down/settings") or name not in self.told or name in self.deaf:
                continue
            said, _ = state.verify(data, AUTHORITY.trust())
            assert said.addressee == name
            stated.settings(said.body)
            if said.serial > max((serial for serial, _ in self.taken[name]), default=0):
                self.taken[name].append((said.serial, said.body))
            await self.tell(name)

    async def tell(self, name: GatewayId, **changes: object) -> None:
        serial = max((serial for serial, _ in self.taken[name]), default=0)
        held = {f"settings {name}": serial} if serial else {}
        told = structs.replace(self.told[name], operator=OperatorStatus(states=held), **changes)
        self.told[name] = told
        await self.upstream.publish(GatewayTopics(name).status, encode(told), retain=True)

    def rates(self, name: GatewayId) -> list[int]:
        return [stated.settings(body)["street"].guest.rate or 0 for _, body in self.taken[name]]


@asynccontextmanager
async def house(broker, names: list[GatewayId]) -> AsyncIterator[Gateways]:
    gateways = Gateways(names)
    settings = MqttSettings(
        host=broker.address.host,
        port=broker.address.port,
        client_id="house",
        subscriptions=tuple(GatewayTopics(name).down("settings") for name in names),
    )
    async with Mqtt(settings).connect() as upstream:
        task = asyncio.create_task(gateways.run(upstream))
        await until(lambda: gateways.upstream is not None)
        try:
            yield gateways
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    create_files({tmp_path / "command.pem": private_pem(AUTHORITY.command)})
    for rate in (5, 9):
        (tmp_path / f"{rate}.toml").write_text(SETTINGS.format(rate=rate))
    return tmp_path


async def rolls_out(broker, operator: Path, rate: int, ring: int, *more: str) -> Ran:
    where = ("--broker", f"mqtt://127.0.0.1:{broker.address.port}", "--keys", operator)
    words = ("cloud", "roll-out", operator / f"{rate}.toml", "--ring", str(ring), *where)
    return await asyncio.to_thread(commands.run, *words, "--quiet", "0.3", "--watch", "1", *more)


async def test_ring_by_ring_and_back(broker, operator: Path) -> None:
    async with house(broker, [FIRST, SECOND, LAST]) as at:
        ran = await rolls_out(broker, operator, 5, 100)
        assert ran.code == 1
        assert "smaller rings 2 are not well" in ran.err
        assert not (operator / "sent").exists()
        for ring, count in ((1, 1), (5, 2), (100, 3)):
            ran = await rolls_out(broker, operator, 5, ring)
            assert ran.code == 0, ran
            assert f"{count} of {count} have it; alarms of them: none" in ran.out
        assert [at.taken[each][-1][0] for each in at.taken] == [1, 1, 1]
        # the next ones, and an alarm in the smallest ring
        assert (await rolls_out(broker, operator, 9, 1)).code == 0
        await at.tell(FIRST, clock="unknown")
        ran = await rolls_out(broker, operator, 9, 5, "--json")
        assert (ran.code, "not sent to ring 5" in ran.json["error"]) == (1, True)
        assert at.rates(SECOND) == [5]
        ran = await rolls_out(broker, operator, 9, 5, "--despite-alarms", "--json")
        assert ran.code == 1  # it went out, and one of them is not well
        assert ran.json["serials"] == {FIRST: 2, SECOND: 2}
        assert (ran.json["sent"], ran.json["missing"]) == ([SECOND], [])
        assert [each["alarm"] for each in ran.json["alarms"]] == ["clock_unknown"]
        # and back, for all: who never had it is left alone
        ran = await rolls_out(broker, operator, 9, 100, "--undo", "--json")
        assert ran.json["serials"] == {FIRST: 3, SECOND: 3}
        assert "never sent" in ran.json["left_alone"][LAST]
        assert (at.rates(FIRST), at.rates(SECOND), at.rates(LAST)) == ([5, 9, 5], [5, 9, 5], [5])
        again = await rolls_out(broker, operator, 9, 100, "--undo", "--json")
        assert (again.json["sent"], again.json["serials"]) == ([], {FIRST: 3, SECOND: 3})


async def test_a_stranger_whose_name_is_a_directory_is_sent_nothing(broker, operator: Path) -> None:
    keys = operator / "keys"
    keys.mkdir()
    (operator / "command.pem").rename(keys / "command.pem")
    async with house(broker, [LAST]) as at:
        said = encode(at.told[LAST])
        for name in ("..", ".", "../.."):
            await at.upstream.publish(f"gatewayd/v1/gateway/{name}/status", said, retain=True)
        ran = await rolls_out(broker, operator, 5, 100, "--keys", str(keys), "--json")
        assert (ran.code, ran.json["sent"]) == (0, [LAST])
    assert [path.parent.name for path in written(operator)] == [LAST]


def written(operator: Path) -> list[Path]:
    return list(operator.rglob("settings-*.cose"))


async def test_who_is_deaf_has_it_when_the_same_command_goes_on(broker, operator: Path) -> None:
    async with house(broker, [FIRST]) as at:
        at.deaf.add(FIRST)
        ran = await rolls_out(broker, operator, 5, 1)
        assert (ran.code, "does not say yet" in ran.out) == (1, True)
        at.deaf.clear()
        ran = await rolls_out(broker, operator, 5, 1, "--json")
        assert (ran.code, ran.json["sent"], ran.json["serials"]) == (0, [FIRST], {FIRST: 1})
        assert [path.name for path in (operator / "sent" / FIRST).iterdir()] == [
            "settings-000001.cose"
        ]


async def test_what_came_from_elsewhere_and_what_is_damaged(broker, operator: Path) -> None:
    async with house(broker, [FIRST]) as at:
        at.taken[FIRST].append((7, b""))
        await at.tell(FIRST)
        ran = await rolls_out(broker, operator, 5, 1)
        assert (ran.code, "serial 7, which were not sent" in ran.out) == (1, True)
        (operator / "sent" / FIRST).mkdir(parents=True)
        (operator / "sent" / FIRST / "settings-000001.cose").write_bytes(b"damaged")
        ran = await rolls_out(broker, operator, 5, 1)
        assert (ran.code, "is not what was sent" in ran.err) == (2, True)


async def test_nobody_is_asked_for_what_is_no_settings(operator: Path) -> None:
    (operator / "5.toml").write_text('[[door]]\nid = "street"\npolicy.guest.rat = 1\n')
    words = ("--ring", "1", "--keys", operator, "--broker", "mqtt://127.0.0.1:1")
    ran = await asyncio.to_thread(commands.run, "cloud", "roll-out", operator / "5.toml", *words)
    assert (ran.code, "did you mean 'rate'" in ran.err) == (2, True)
    ran = await asyncio.to_thread(commands.run, "cloud", "roll-out", operator / "9.toml", *words)
    assert (ran.code, "run it again" in ran.err) == (1, True)
