"""What an operator sees of many gateways, hostile ones among them; rings; alarms."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.adapters.sqlite_fleet import open_fleet
from gatewayd.cloud import fleet as fleets
from gatewayd.cloud.fleet import RINGS, Alarm, Fleet, Report, ring_of
from gatewayd.core.model import GatewayId
from gatewayd.core.topics import EVERY_STATUS, GatewayTopics, status_of
from gatewayd.ports import StorageError
from gatewayd.status import LockStatus, OperatorStatus, Status, StorageStatus, encode

NOW = 1_790_000_000
ONE = GatewayId("stairwell-1")
FINE = Status(
    online=True,
    version="1.0",
    clock="trusted",
    radio="advertising",
    unpulled_days=0,
    storage=StorageStatus(free_percent=50, kept=True, life_used_percent=10),
    locks={"street": LockStatus(reached=True, battery_percent=60)},
)


def heard(**statuses: Status | bytes) -> Fleet:
    fleet = Fleet()
    for gateway, told in statuses.items():
        payload = told if isinstance(told, bytes) else encode(told)
        fleet.hear(GatewayId(gateway), payload, NOW)
    return fleet


def changed(**fields: object) -> Status:
    return msgspec.structs.replace(FINE, **fields)


def names(fleet: Fleet, now_s: int = NOW, **options: object) -> list[str]:
    return [each.name for each in fleet.alarms(now_s, **options)]


# --- rings --------------------------------------------------------------------------------
def test_rings_are_one_four_and_ninety_five_percent_and_never_change() -> None:
    rings = [ring_of(f"gateway-{number}") for number in range(20_000)]
    shares = [rings.count(ring) / len(rings) for ring in RINGS]
    assert shares == pytest.approx([0.01, 0.04, 0.95], abs=0.004)
    # for good: operators have told their staff who is first
    assert [ring_of(f"gateway-{number}") for number in (359, 26, 28, 0)] == [1, 5, 5, 100]


# --- alarms -------------------------------------------------------------------------------
def test_a_fleet_that_is_well_has_no_alarms() -> None:
    fleet = heard(a=FINE, b=FINE)
    assert fleet.alarms(NOW) == []
    assert fleet.reports[GatewayId("a")] == Report(
        version="1.0", clock="trusted", free_percent=50, battery_percent=60, seen_s=NOW
    )


@pytest.mark.parametrize(
    ("told", "alarm", "detail"),
    [
        (changed(clock="unknown"), "clock_unknown", ""),
        (
            changed(operator=OperatorStatus(orders=9, orders_missing=((1, 1), (4, 6)))),
            "orders_missing",
            "1 to 1, 4 to 6",
        ),
        (
            changed(operator=OperatorStatus(unconfirmed=("street", "cellar"))),
            "not_confirmed",
            "street, cellar",
        ),
        (changed(radio="no adapter"), "no_radio", "no adapter"),
        (changed(unpulled_days=7), "log_not_pulled", "7 days"),
        (changed(storage=StorageStatus(free_percent=9)), "storage_low", "9 % free"),
        (changed(storage=StorageStatus(life_used_percent=80)), "storage_worn", "80 %"),
        (
            changed(storage=StorageStatus(kept=False)),
            "storage_failed",
            "what is written is not kept",
        ),
        (changed(storage=StorageStatus(kept=True, read_only=True)), "storage_failed", "read-only"),
        (changed(storage=StorageStatus(kept=True, log="log_full")), "storage_failed", "log full"),
        (changed(locks={"a": LockStatus(battery_percent=15)}), "low_battery", "a 15 %"),
        (changed(locks={"a": LockStatus(troubles=("low_battery",))}), "low_battery", "a"),
        (
            changed(locks={"a": LockStatus(troubles=("forced", "jammed"))}),
            "lock_trouble",
            "a forced, a jammed",
        ),
        (changed(locks={"a": LockStatus(reached=False)}), "lock_not_reached", "a"),
    ],
)
def test_what_a_status_tells(told: Status, alarm: str, detail: str) -> None:
    assert heard(one=told).alarms(NOW) == [Alarm("one", alarm, detail)]


def test_just_short_of_an_alarm() -> None:
    told = changed(
        clock="holdover",
        radio="full",
        unpulled_days=6,
        storage=StorageStatus(free_percent=10, life_used_percent=70),
        locks={"a": LockStatus(battery_percent=16)},
    )
    assert heard(one=told).alarms(NOW) == []


def test_details_of_a_house_with_a_hundred_troubles_are_bounded() -> None:
    locks = {f"door-{number}": LockStatus(troubles=("jammed",)) for number in range(100)}
    (alarm,) = heard(one=changed(locks=locks)).alarms(NOW)
    assert len(alarm.detail) == 200
    assert alarm.detail.endswith("…")


def test_offline_since_and_back_again() -> None:
    fleet = heard(one=FINE)
    gone = encode(Status(online=False, version="1.0"))
    fleet.hear(GatewayId("one"), gone, NOW + 100)
    fleet.hear(GatewayId("one"), gone, NOW + 200)
    known = fleet.reports[GatewayId("one")]
    assert (known.seen_s, known.offline_s, known.battery_percent) == (NOW, NOW + 100, 60)
    assert names(fleet, NOW + 300, grace_s=300) == []
    assert names(fleet, NOW + 400, grace_s=300) == ["offline"]
    fleet.standing(NOW + 400)
    assert fleet.reports[GatewayId("one")].seen_s == NOW
    fleet.hear(GatewayId("one"), encode(FINE), NOW + 500)
    fleet.standing(NOW + 600)
    assert (names(fleet), fleet.reports[GatewayId("one")].seen_s) == ([], NOW + 600)


def test_a_gateway_never_seen_connected_is_offline_with_its_version() -> None:
    fleet = heard(one=Status(online=False, version="0.9"))
    known = fleet.reports[GatewayId("one")]
    assert (known.version, known.seen_s, known.offline_s) == ("0.9", None, NOW)
    fleet.standing(NOW + 1)
    assert fleet.reports[GatewayId("one")] == known
    assert names(fleet) == ["offline"]


def test_whom_the_broker_no_longer_knows_is_missing() -> None:
    fleet = heard(one=FINE)
    fleet.hear(GatewayId("one"), b"", NOW + 1)
    assert names(fleet) == ["missing"]
    assert names(Fleet(dict(fleet.reports))) == ["missing"]


def test_another_version_than_the_ring_has() -> None:
    old = changed(version="0.9")
    rings = {f"g{number}": ring_of(f"g{number}") for number in range(2000)}
    first = [gateway for gateway, ring in rings.items() if ring == 1][:3]
    last = [gateway for gateway, ring in rings.items() if ring == 100][:3]
    fleet = heard(**dict.fromkeys(first, FINE), **dict.fromkeys(last[:2], old), **{last[2]: FINE})
    assert fleet.alarms(NOW) == [Alarm(last[2], "other_version", "1.0, not 0.9")]
    found = fleet.alarms(NOW, expected={1: "1.1", 100: "1.0"})
    assert {each.gateway for each in found} == {*first, *last[:2]}
    assert names(heard(**{last[0]: old, last[1]: FINE})) == ["other_version"]


# --- hostile ------------------------------------------------------------------------------
def test_a_status_that_is_none_is_an_alarm_and_keeps_what_was_known() -> None:
    fleet = heard(one=FINE)
    fleet.hear(GatewayId("one"), b"\x1b[2J", NOW + 5)
    (alarm,) = fleet.alarms(NOW)
    assert (alarm.name, fleet.reports[GatewayId("one")].version) == ("unreadable", "1.0")
    fleet.hear(GatewayId("one"), encode(FINE), NOW + 6)
    assert fleet.alarms(NOW) == []


def test_more_gateways_than_there_is_place_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "MAX_GATEWAYS", 3)
    fleet = heard(**{f"g{number}": FINE for number in range(20)})
    assert (len(fleet.reports), len(fleet.heard), len(fleet.left_out)) == (3, 3, 3)
    assert names(fleet) == ["no_place"] * 3


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.binary(max_size=60)), max_size=20))
def test_whatever_is_published_there_is_a_table(said: list[tuple[str, bytes]]) -> None:
    fleet = Fleet()
    for gateway, payload in said:
        fleet.hear(GatewayId(gateway), payload, NOW)
        fleet.standing(NOW)
        assert all(len(each.detail) <= 200 for each in fleet.alarms(NOW))
    assert fleet.heard <= fleet.reports.keys()


@pytest.mark.parametrize(
    "topic",
    ["", "gatewayd/v1/gateway//status", "gatewayd/v1/gateway/a/b/status", EVERY_STATUS,
     "gatewayd/v1/gateway/a/status\n", "xgatewayd/v1/gateway/a/status",
     f"gatewayd/v1/gateway/{'a' * 65}/status", "gatewayd/v1/gateway/\u202ea/status",
     "gatewayd/v1/gateway/../status", "gatewayd/v1/gateway/.a/status"],
)  # fmt: skip
def test_other_topics_are_nobodys_status(topic: str) -> None:
    assert status_of(topic) is None
    assert status_of(GatewayTopics(ONE).status) == ONE


# --- what is remembered -------------------------------------------------------------------
def test_what_is_kept_is_found_again(tmp_path) -> None:
    fleet = heard(one=FINE, two=changed(clock="unknown"), three=Status(online=False))
    with open_fleet(tmp_path / "fleet") as file:
        assert file.load() == {}
        file.keep(fleet.reports)
    with open_fleet(tmp_path / "fleet") as file:
        assert file.load() == fleet.reports
        file.keep({})
        assert file.load() == {}


def test_a_file_that_is_another_or_damaged_is_left_alone(tmp_path) -> None:
    with open_cloud(tmp_path / "cloud"):
        pass
    before = (tmp_path / "cloud").read_bytes()
    with (
        pytest.raises(StorageError, match="not a database of this kind"),
        open_fleet(tmp_path / "cloud"),
    ):
        pass
    assert (tmp_path / "cloud").read_bytes() == before
    with open_fleet(tmp_path / "fleet") as file:
        file._connection.execute("INSERT INTO gateway VALUES ('a', CAST('{' AS BLOB))")
        with pytest.raises(StorageError, match="damaged"):
            file.load()
