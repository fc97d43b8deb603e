"""One line per event, whatever a peer put into it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.logs import MAX_LINE, LineFormatter, printable, set_up


@given(st.text(max_size=200), st.integers(0, 100))
def test_printable_is_one_capped_line(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= max(limit, 1)
    if text.isprintable() and len(text) <= limit:
        assert shown == text


def test_escape_sequences_never_reach_the_terminal() -> None:
    assert printable("\x1b[2Jgone\r\n") == "\\x1b[2Jgone\\r\\n"
    assert printable("\ud800") == "\\ud800"
    assert printable("a" * 100) == "a" * 63 + "…"


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, "<2>"),
        (logging.ERROR, "<3>"),
        (logging.WARNING, "<4>"),
        (logging.INFO, "<6>"),
        (logging.DEBUG, "<7>"),
    ],
)
def test_the_journal_gets_priorities(level: int, priority: str) -> None:
    record = logging.LogRecord("gatewayd.door", level, "", 0, "opened\n%s", ("twice",), None)
    assert LineFormatter(journal=True).format(record) == f"{priority}gatewayd.door: opened\\ntwice"


@pytest.fixture
def quiet_root() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("gatewayd")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.mark.usefixtures("quiet_root")
def test_a_traceback_is_one_line_too() -> None:
    stream = io.StringIO()
    set_up({}, stream=stream)
    try:
        {}["x" * 3 * MAX_LINE]
    except KeyError:
        logging.getLogger("gatewayd.sync").exception("failed")
    logging.getLogger("gatewayd.sync").debug("silent unless verbose")
    logging.getLogger("elsewhere").info("libraries stay silent")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert " error    gatewayd.sync: failed\\nTraceback" in text
    assert len(text) < MAX_LINE + 100


@pytest.mark.usefixtures("quiet_root")
def test_verbose_shows_detail() -> None:
    stream = io.StringIO()
    set_up({"JOURNAL_STREAM": "8:1"}, verbose=True, stream=stream)
    logging.getLogger("gatewayd.sync").debug("detail")
    assert stream.getvalue() == "<7>gatewayd.sync: detail\n"
