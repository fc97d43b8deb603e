"""An operator's gateways, from what each says of itself: who is well, who is to be looked after.

Pure: the caller brings statuses and the time. Nobody signs a status, so nothing
here is proof; and whoever publishes may be hostile, so that of each gateway only
a few short words are kept, and of gateways only so many.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from firmware_proto.errors import RemoteProtocolError
from gatewayd import status
from gatewayd.cloud.store import Erasing
from gatewayd.core.model import GatewayId, gateway_of
from gatewayd.core.term import Term
from gatewayd.status import Status

MAX_GATEWAYS: Final = 20_000
RINGS: Final = (1, 5, 100)
"""Percent of all gateways that have a change once it has reached this ring."""

LOW_BATTERY_PERCENT: Final = 15
LOW_STORAGE_PERCENT: Final = 10
WORN_PERCENT: Final = 80
LATE_DAYS: Final = 7
ERASE_WITHIN_S: Final = 72 * 3600
"""An erasure that takes longer is looked after, well before the month that the law gives."""
_SERVING: Final = {"", "advertising", "full"}
_MOST_DETAILS: Final = 200
_STEPS: Final = 10_000
_DAY_S: Final = 86_400


def ring_of(gateway: str) -> int:
    """Which ring a gateway is in: always the same, and nobody keeps a list."""
    digest = hashlib.sha256(b"gatewayd ring\0" + gateway.encode()).digest()
    share = int.from_bytes(digest[:8], "big") % _STEPS / _STEPS * 100
    return next(ring for ring in RINGS if share < ring)


@dataclass(frozen=True, slots=True, order=True)
class Alarm:
    """Something to be looked after. `name` is stable: one of docs/operator.md's table."""

    gateway: str
    name: str
    detail: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """What is kept of one gateway's last status, and when it was heard, in Unix seconds.

    alarms: names and details that follow from the status alone.
    terms: of credential and certificate, whose ends come also when it is silent.
    seen_s: when it was last known to be connected; None: never while we listened.
    offline_s: since when it is not, as far as we know; None while it is.
    """

    version: str = ""
    clock: str = ""
    free_percent: int | None = None
    battery_percent: int | None = None
    alarms: Annotated[tuple[tuple[str, str], ...], Meta(max_length=32)] = ()
    terms: Annotated[tuple[tuple[str, Term], ...], Meta(max_length=2)] = ()
    seen_s: int | None = None
    offline_s: int | None = None


def report(told: Status, now_s: int) -> Report:
    """What is kept of a status of a gateway that is connected."""
    batteries = [
        each.battery_percent for each in told.locks.values() if each.battery_percent is not None
    ]
    terms = {"credential": told.credential, "certificate": told.certificate}
    return Report(
        version=told.version,
        clock=told.clock or "",
        free_percent=None if told.storage is None else told.storage.free_percent,
        battery_percent=min(batteries, default=None),
        alarms=tuple(_alarms(told)),
        terms=tuple((name, Term(*term)) for name, term in terms.items() if term is not None),
        seen_s=now_s,
    )


def _alarms(told: Status) -> Iterable[tuple[str, str]]:
    simple = {"clock_unknown": told.clock == "unknown", "other_log": told.other_log}
    yield from ((name, "") for name, stands in simple.items() if stands)
    if told.radio not in _SERVING:
        yield "no_radio", told.radio
    if told.unpulled_days is not None and told.unpulled_days >= LATE_DAYS:
        yield "log_not_pulled", f"{told.unpulled_days} days"
    if told.operator is not None and told.operator.orders_missing:
        runs = told.operator.orders_missing
        yield "orders_missing", _joined([f"{first} to {last}" for first, last in runs])
    if told.operator is not None and told.operator.unconfirmed:
        yield "not_confirmed", _joined(list(told.operator.unconfirmed))
    if told.storage is not None:
        yield from _storage_alarms(told.storage)
    low = [
        (f"{door} {known.battery_percent} %" if known.battery_percent is not None else door)
        for door, known in told.locks.items()
        if "low_battery" in known.troubles
        or (known.battery_percent is not None and known.battery_percent <= LOW_BATTERY_PERCENT)
    ]
    if low:
        yield "low_battery", _joined(low)
    troubles = [
        f"{door} {trouble}"
        for door, known in told.locks.items()
        for trouble in known.troubles
        if trouble != "low_battery"
    ]
    if troubles:
        yield "lock_trouble", _joined(troubles)
    away = [door for door, known in told.locks.items() if known.reached is False]
    if away:
        yield "lock_not_reached", _joined(away)


def _storage_alarms(storage: status.StorageStatus) -> Iterable[tuple[str, str]]:
    if storage.log != "ok":
        yield "storage_failed", storage.log.replace("_", " ")
    elif storage.kept is False or storage.read_only:
        yield "storage_failed", "read-only" if storage.read_only else "what is written is not kept"
    if storage.free_percent is not None and storage.free_percent < LOW_STORAGE_PERCENT:
        yield "storage_low", f"{storage.free_percent} % free"
    if storage.life_used_percent is not None and storage.life_used_percent >= WORN_PERCENT:
        yield "storage_worn", f"{storage.life_used_percent} %"


def _overdue(erasings: Iterable[Erasing], now_s: int) -> Iterable[Alarm]:
    late: dict[str, list[str]] = {}
    for each in erasings:
        waits_s = now_s - each.ordered_s
        if waits_s > ERASE_WITHIN_S:
            told = f"order {each.number} since {waits_s // _DAY_S} days"
            late.setdefault(gateway_of(each.origin), []).append(told)
    return (Alarm(gateway, "erasure_overdue", _joined(told)) for gateway, told in late.items())


def _joined(details: list[str]) -> str:
    text = ", ".join(details)
    return text if len(text) <= _MOST_DETAILS else f"{text[: _MOST_DETAILS - 1]}…"


@dataclass(slots=True)
class Fleet:
    """All gateways of a broker. `reports` may begin with what an earlier look kept."""

    reports: dict[GatewayId, Report] = field(default_factory=dict)
    heard: set[GatewayId] = field(default_factory=set)
    """Whose status the broker holds."""
    unreadable: dict[GatewayId, str] = field(default_factory=dict)
    """Whose last status is none, and why."""
    left_out: set[GatewayId] = field(default_factory=set)
    """Some of those for whom there was no place."""
    erasings: Sequence[Erasing] = ()
    """What gateways were told to erase, and have not as far as the operator's store knows."""

    def hear(self, gateway: GatewayId, payload: bytes, now_s: int) -> None:
        """One message on a gateway's status topic, as anybody may have sent it."""
        if gateway not in self.reports and len(self.reports) >= MAX_GATEWAYS:
            if len(self.left_out) < MAX_GATEWAYS:
                self.left_out.add(gateway)
            return
        self.unreadable.pop(gateway, None)
        if not payload:  # somebody has taken it from the broker
            self.heard.discard(gateway)
            return
        self.heard.add(gateway)
        before = self.reports.get(gateway, Report())
        try:
            told = status.decode(payload)
        except RemoteProtocolError as error:
            self.unreadable[gateway] = error.detail[:_MOST_DETAILS]
            self.reports[gateway] = before
            return
        if told.online:
            self.reports[gateway] = report(told, now_s)
        else:
            self.reports[gateway] = replace(
                before,
                version=before.version or told.version,
                offline_s=now_s if before.offline_s is None else before.offline_s,
            )

    def standing(self, now_s: int) -> None:
        """Whoever is connected now is seen now."""
        for gateway in self.heard:
            known = self.reports[gateway]
            if known.offline_s is None and known.seen_s is not None:
                self.reports[gateway] = replace(known, seen_s=now_s)

    def alarms(
        self, now_s: int, *, expected: Mapping[int, str] | None = None, grace_s: int = 0
    ) -> list[Alarm]:
        """All that stands, by gateway. expected: versions by ring; else what most of a ring have.

        grace_s: how long a gateway may be offline before it is told.
        """
        wanted = {**self._usual(), **(expected or {})}
        found = [Alarm(gateway, "no_place") for gateway in self.left_out]
        found += _overdue(self.erasings, now_s)
        for gateway, known in self.reports.items():
            if gateway in self.unreadable:
                found.append(Alarm(gateway, "unreadable", self.unreadable[gateway]))
            elif gateway not in self.heard:
                found.append(Alarm(gateway, "missing", "the broker holds no status"))
            elif known.offline_s is None:
                found += (Alarm(gateway, name, detail) for name, detail in known.alarms)
            elif now_s - known.offline_s >= grace_s:
                found.append(Alarm(gateway, "offline"))
            found += (
                Alarm(gateway, f"{name}_ends", term.left(now_s))
                for name, term in known.terms
                if term.late(now_s)
            )
            version = wanted.get(ring_of(gateway))
            if version and known.version and known.version != version:
                found.append(Alarm(gateway, "other_version", f"{known.version}, not {version}"))
        return sorted(found)

    def _usual(self) -> dict[int, str]:
        """The version that most gateways of each ring have; of two the later in the alphabet."""
        counted: dict[int, Counter[str]] = {ring: Counter() for ring in RINGS}
        for gateway, known in self.reports.items():
            if known.version:
                counted[ring_of(gateway)][known.version] += 1
        return {
            ring: max(versions, key=lambda version: (versions[version], version))
            for ring, versions in counted.items()
            if versions
        }
