"""What the daemon says while it runs: one line per event, fit for journald.

Laws: an event is one line, whatever a peer put into it; text chosen by a peer
goes through `printable`; nothing here names a person, because nothing that
calls it may.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Final, TextIO

from gatewayd import journal
from gatewayd.messages import ATTRIBUTE, Message

MAX_LINE: Final = 2000
_PEER_TEXT: Final = 64

# sd-daemon(3): a line may begin with its syslog priority
_PRIORITIES: Final = (
    (logging.CRITICAL, "<2>"),
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
    (logging.NOTSET, "<7>"),
)


def printable(text: str, limit: int = _PEER_TEXT) -> str:
    """Foreign text made harmless for a terminal and a log: escaped and capped at `limit`."""
    head = text[:limit]
    escaped = "".join(each if each.isprintable() else _escape(each) for each in head)
    if len(text) > limit or len(escaped) > limit:
        return escaped[: max(limit - 1, 0)] + "…"
    return escaped


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class LineFormatter(logging.Formatter):
    """One line per record; the journal adds the time, a terminal needs it from us."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(name)s: %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = printable(super().format(record), MAX_LINE)
        if self._journal:
            priority = next(text for level, text in _PRIORITIES if record.levelno >= level)
            return priority + line
        return f"{self.formatTime(record)} {record.levelname.lower():<8} {line}"


class Tally(logging.Handler):
    """Counts messages with ids, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """One more, if it has an id."""
        fields = getattr(record, ATTRIBUTE, None)
        if fields is not None:
            self.counts[Message(fields["MESSAGE_ID"]).name.lower()] += 1


def set_up(
    environment: Mapping[str, str], *, verbose: bool = False, stream: TextIO | None = None
) -> None:
    """Send everything to the journal where it reads standard error, else there."""
    stream = sys.stderr if stream is None else stream
    handler: logging.Handler = logging.StreamHandler(stream)
    if journal.listens(environment, stream):
        handler = journal.JournalHandler(handler)
    handler.setFormatter(LineFormatter(journal="JOURNAL_STREAM" in environment))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gatewayd").setLevel(logging.DEBUG if verbose else logging.INFO)
