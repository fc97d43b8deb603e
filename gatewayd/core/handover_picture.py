"""The picture of one lock's reach: above how strong it is heard, below how long each dial took."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from gatewayd.core.walk import FLOOR_DBM, MARGIN_DB, Reach

_WIDTH: Final = 440
"""Narrow, so that words are still read on a phone."""
_LEFT, _RIGHT = 48, 425
_WEAKEST, _STRONGEST = -100, -30
_SIGNAL_Y: Final = 48
_TOP, _BOTTOM = 140, 260
_HEIGHT: Final = 290
_LEAST_MS: Final = 1_000


def svg(title: str, reach: Reach) -> str:
    """Inline SVG, complete in itself."""
    parts = [*_signal(reach), *_times(reach)]
    label = escape(f"{title}: signal and times")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" '
        f'font-family="system-ui,sans-serif" font-size="14">{"".join(parts)}</svg>'
    )


def _signal(reach: Reach) -> Iterable[str]:
    median, margin = reach.median_dbm, reach.margin_db
    if median is None or margin is None:
        yield _text(4, 20, "no signal was measured")
        return
    good = _dbm_x(FLOOR_DBM + MARGIN_DB)
    yield _text(4, 20, f"heard with {median} dBm, {margin} dB above where packets are lost")
    yield _bar(_LEFT, _dbm_x(FLOOR_DBM), "#f2b8b5")
    yield _bar(_dbm_x(FLOOR_DBM), good, "#f7e3a1")
    yield _bar(good, _RIGHT, "#b9dfb4")
    for each in reach.strength_dbm:
        x = _dbm_x(each)
        yield _line(x, _SIGNAL_Y - 8, x, _SIGNAL_Y + 8, "#555", 1)
    x = _dbm_x(median)
    yield _line(x, _SIGNAL_Y - 14, x, _SIGNAL_Y + 14, "#111", 3)
    for mark in (_WEAKEST, FLOOR_DBM, -60):
        yield _text(_dbm_x(mark), _SIGNAL_Y + 34, str(mark), "middle")
    yield _text(_RIGHT + 10, _SIGNAL_Y + 34, f"{_STRONGEST} dBm", "end")


def _times(reach: Reach) -> Iterable[str]:
    most = max(_LEAST_MS, *reach.took_ms) if reach.took_ms else _LEAST_MS
    half, late = reach.percentile_ms(50), reach.percentile_ms(95)
    times = "" if late is None else f": p50 {half} ms, p95 {late} ms"
    yield _text(4, _TOP - 22, f"{reach.succeeded} of {reach.dials} dials succeeded{times}")
    yield _line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "#111", 1)
    for share in (0, 0.5, 1):
        y = _ms_y(most * share, most)
        yield _text(4, y + 5, f"{most * share / 1000:.1f} s")
        yield _line(_LEFT, y, _RIGHT, y, "#ddd", 1)
    step = (_RIGHT - _LEFT) / max(1, reach.dials)
    for number, took in enumerate(reach.took_ms):
        x = _LEFT + step * (number + 0.5)
        yield f'<circle cx="{x:.1f}" cy="{_ms_y(took, most):.1f}" r="4" fill="#1f5fa8"/>'
    if late is not None:
        yield _line(_LEFT, _ms_y(late, most), _RIGHT, _ms_y(late, most), "#a00000", 1)
    yield _text(_LEFT, _BOTTOM + 22, "each dial that succeeded, in order; red: p95")


def _dbm_x(dbm: int) -> float:
    share = (min(max(dbm, _WEAKEST), _STRONGEST) - _WEAKEST) / (_STRONGEST - _WEAKEST)
    return _LEFT + share * (_RIGHT - _LEFT)


def _ms_y(took_ms: float, most_ms: int) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * took_ms / most_ms


def _bar(x: float, to: float, colour: str) -> str:
    top = _SIGNAL_Y - 10
    return f'<rect x="{x:.1f}" y="{top}" width="{to - x:.1f}" height="20" fill="{colour}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int) -> str:  # noqa: PLR0913, PLR0917 - a line has these
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
