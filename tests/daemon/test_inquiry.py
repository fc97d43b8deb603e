"""How a gateway is, when its operator asks: whole, bounded, and of nobody."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd import facts
from gatewayd.core.findings import Finding, Severity
from gatewayd.facts import MAX_FACTS_BYTES, MAX_FINDINGS, Facts, Found
from gatewayd.inquiry import EVERY_S, Inquiry
from gatewayd.logs import Tally
from gatewayd.messages import Message, about
from gatewayd.status import Status
from tests.support.gateway import STREET, Site, gateway

FOUND = (
    Finding("storage", Severity.FINE, "a card"),
    Finding("clock", Severity.ERROR, "no battery " + "x" * 900, "put one in"),
)


async def look() -> tuple[Finding, ...]:
    return FOUND


def inquiry(site: Site, tmp_path: Path, **changes: object) -> Inquiry:
    given_: dict[str, object] = {
        "health": site.gateway.health(tmp_path),
        "log": site.log,
        "timekeeper": site.gateway.timekeeper,
        "counts": {"phones": site.gateway.phones.counts, "uplink": Counter(taken=5)},
        "messages": Counter(log_failed=3),
        "look": look,
    }
    return Inquiry(**{**given_, **changes})  # type: ignore[arg-type]


async def test_it_says_how_it_is_once_a_minute_and_names_nobody(tmp_path: Path) -> None:
    async with gateway(tmp_path) as site:
        wallet = site.building.wallet()
        await site.phone(wallet).open_door(STREET)
        asked = inquiry(site, tmp_path)
        site.building.clock.skip_s += 30
        data = await asked.answer()
        assert data is not None
        told = facts.decode(data)
        assert told.status.clock == "trusted"
        assert told.status.locks[STREET].reached
        assert (told.running_s, told.log_size, told.log_acknowledged) == (30, 2, 0)
        assert told.clock_bound_s is not None
        assert told.counts["uplink: taken"] == 4  # a power of two
        assert told.messages == {"log_failed": 2}
        assert [each.severity for each in told.findings] == ["error", "fine"]
        assert len(told.findings[0].message) == 400
        token = site.building.token(wallet)
        for secret in (
            token.identity.digest().hex(),
            "holder-",
            token.identity.digest().decode("latin1"),
        ):
            assert secret not in data.decode()
        assert await asked.answer() is None
        site.building.clock.skip_s += EVERY_S
        assert await asked.answer() is not None


async def test_what_cannot_be_looked_at_hides_nothing_else(tmp_path: Path) -> None:
    async def broken() -> tuple[Finding, ...]:
        raise OSError("told to fail")

    async with gateway(tmp_path, serving=False) as site:
        site.building.clock.skip_s += 10**9  # the clock knows nothing any more

        async def unreadable() -> int:
            from gatewayd.ports import StorageError  # noqa: PLC0415

            raise StorageError("told to fail")

        class Log:
            size = acknowledged = staticmethod(unreadable)

        for changes in ({"look": broken, "log": Log()}, {"look": None}):
            data = await inquiry(site, tmp_path, **changes).answer()
            assert data is not None
            told = facts.decode(data)
            assert (told.findings, told.clock_bound_s, told.log_size) == ((), None, 0)
            assert told.status.clock == "unknown"


async def test_many_findings_are_cut_and_counted(tmp_path: Path) -> None:
    async def many() -> tuple[Finding, ...]:
        return tuple(
            Finding("c" * 90, Severity.WARNING, "m" * 500, "r" * 500)
            for _ in range(MAX_FINDINGS + 9)
        )

    async with gateway(tmp_path, serving=False) as site:
        data = await inquiry(site, tmp_path, look=many).answer()
        assert data is not None
        assert len(data) <= MAX_FACTS_BYTES
        told = facts.decode(data)
        assert len(told.findings) + told.findings_left_out == MAX_FINDINGS + 9
        assert 0 < len(told.findings) < MAX_FINDINGS


GOOD = Facts(
    status=Status(online=True), running_s=1, findings=(Found(check="a", severity="b", message="c"),)
)


def test_facts_are_read_strictly() -> None:
    data = facts.encode(GOOD)
    assert facts.decode(data) == GOOD
    for length in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            facts.decode(data[:length])
    with pytest.raises(RemoteProtocolError):
        facts.decode(data + b"x")
    with pytest.raises(RemoteProtocolError) as caught:
        facts.decode(data + b" " * MAX_FACTS_BYTES)
    assert caught.value.fault is Fault.TOO_LARGE
    for name, wrong in (
        ("running_s", -1), ("running_s", True), ("status", {}), ("findings", [{}]),
        ("counts", {"a": -1}), ("counts", {str(n): 1 for n in range(65)}),
        ("log_size", 2**63), ("messages", ["x"]),
    ):  # fmt: skip
        with pytest.raises(RemoteProtocolError):
            facts.decode(json.dumps({**json.loads(data), name: wrong}).encode())


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        facts.decode(data)


def test_messages_with_ids_are_counted() -> None:
    tally, logger = Tally(), logging.getLogger("gatewayd.tests.tally")
    logger.addHandler(tally)
    try:
        logger.warning("one", extra=about(Message.LOG_FAILED))
        logger.warning("two", extra=about(Message.LOG_FAILED))
        logger.warning("without one")
    finally:
        logger.removeHandler(tally)
    assert tally.counts == {"log_failed": 2}
