"""The handover: whole without anything from elsewhere, honest about what is missing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.core.handover import DoorReport, Handover, Trial
from gatewayd.core.handover_picture import svg
from gatewayd.core.walk import Reach

WALKED = Reach(20, [300, 900, *([400] * 18)], [-60, -62, -58])
BOTH = [Trial(leaf, 1_790_000_000, "confirmed", "ok", 412) for leaf in ("open", "closed")]
GOOD = DoorReport("street", "the lock at F0:…", 1_790_600_000, "Model 1.0", BOTH, WALKED)


def handover(*doors: DoorReport) -> Handover:
    return Handover("stairwell-7", "vestergade-7", "0.1", 1_790_000_000, doors)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_complete_one_says_so_and_has_a_picture():
    made = handover(GOOD)
    assert made.complete
    page = Page(made.html())
    assert "set-up is complete" in page.words
    assert page.tags.count("svg") == 1
    assert page.tags.count("circle") == 20
    assert "p95 400 ms" in page.words
    assert "until 2026-09-28" in page.words
    assert json.loads(json.dumps(made.document()))["doors"][0]["walk"] == {
        "dials": 20, "succeeded": 20, "p50_ms": 400, "p95_ms": 400, "median_dbm": -60,
        "margin_db": 30, "faults": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("door", "missing"),
    [
        (DoorReport("d", "", None, "", (), None), ("bound to nothing", "not opened while open",
                                                   "not opened while closed")),
        (DoorReport("d", "a relay", None, "", BOTH, None), ()),
        (DoorReport("d", "a lock", None, "Model", BOTH, None),
         ("its lock was not dialled on a walk",)),
        (DoorReport("d", "a lock", None, "Model", BOTH[:1], WALKED), ("not opened while closed",)),
        (DoorReport("d", "a lock", None, "Model", BOTH, Reach(20, [1])),
         ("only 1 of 20 dials succeeded",)),
        (DoorReport("d", "a lock", None, "Model",
                    [*BOTH[:1], Trial("closed", 0, "unknown", "x", 1)], WALKED),
         ("not opened while closed",)),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(door, missing):
    made = handover(door)
    assert door.missing == missing
    assert made.complete is not bool(missing)
    page = Page(made.html())
    assert ("not complete" in page.words) is bool(missing)
    for each in missing:
        assert each in page.words


@given(st.text(max_size=40), st.lists(st.integers(0, 3_600_000), max_size=40),
       st.lists(st.integers(-126, 20), max_size=10))  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_whatever_a_lock_calls_itself_it_is_text(name, took, heard):
    door = DoorReport(name, name, None, name, [Trial(name, 0, name, name, 1)],
                      Reach(40, took, heard))  # fmt: skip
    page = Page(handover(door).html())
    assert set(page.tags) <= {
        *("html", "meta", "title", "style", "h1", "h2", "p", "strong", "section", "ul", "li"),
        *("table", "tr", "th", "td", "svg", "rect", "line", "text", "circle"),
    }
    assert not {name for name, _ in page.attributes} & {"src", "href", "onload", "onclick"}


@given(st.lists(st.integers(0, 3_600_000), max_size=40), st.lists(st.integers(-126, 20)))
@settings(max_examples=50, deadline=None)
def test_the_picture_is_whole_and_stays_in_its_frame(took, heard):
    picture = ET.fromstring(svg("<&>", Reach(40, took, heard)))  # noqa: S314 - our own
    width, height = map(float, picture.attrib["viewBox"].split()[2:])
    for each in picture:
        for name in ("x", "x1", "x2", "cx"):
            assert 0 <= float(each.attrib.get(name, 0)) <= width
        for name in ("y", "y1", "y2", "cy"):
            assert 0 <= float(each.attrib.get(name, 0)) <= height
