"""Messages with ids: the catalog has them all, the journal gets them, and they are of nobody."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.model import DoorId
from gatewayd.journal import JournalHandler, listens
from gatewayd.logs import LineFormatter
from gatewayd.messages import Message, about

ROOT = Path(__file__).parent.parent
CATALOG = ROOT / "systemd" / "gatewayd.catalog"
ENTRY = re.compile(
    r"^-- ([0-9a-f]{32})\nSubject: (.+)\nDefined-By: gatewayd\n\n((?:.+\n)+)", re.MULTILINE
)
JOURNALCTL = shutil.which("journalctl")
FIELDS = {"GATEWAYD_DOOR", "GATEWAYD_CLOCK"}


def entries() -> dict[str, tuple[str, str]]:
    return {id_: (subject, text) for id_, subject, text in ENTRY.findall(CATALOG.read_text())}


# --- the catalog --------------------------------------------------------------------------
def test_every_id_is_in_the_catalog_and_every_entry_is_of_an_id() -> None:
    text = CATALOG.read_text("utf-8")
    assert text.count("\n-- ") == len(entries()) == len(Message)
    assert entries().keys() == {each.value for each in Message}
    for each in Message:
        assert f"# {each.name}\n-- {each.value}\n" in text


def test_every_message_is_told_somewhere_and_with_the_fields_its_entry_names() -> None:
    code = "\n".join(path.read_text() for path in sorted((ROOT / "gatewayd").rglob("*.py")))
    for each in Message:
        calls = re.findall(rf"Message\.{each.name}\b(.{{0,40}})", code)
        assert calls, f"nobody tells {each.name}"
        named = set(re.findall(r"@(\w+)@", "".join(entries()[each.value])))
        assert named <= FIELDS
        if "GATEWAYD_DOOR" in named:
            assert any("door=" in call or call.startswith(",") for call in calls), each.name


def test_no_field_is_of_a_person() -> None:
    fields = about(Message.LOG_FAILED, door=DoorId("street"), clock="unknown")["journal"]
    assert fields.keys() == {"MESSAGE_ID", *FIELDS}


@pytest.mark.skipif(JOURNALCTL is None, reason="apt install systemd")
def test_journalctl_takes_the_catalog_and_explains_every_id(tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(CATALOG, place)
    told = [
        subprocess.run(
            [str(JOURNALCTL), f"--root={tmp_path}", *arguments],
            capture_output=True, text=True, check=True, timeout=60,
        )
        for arguments in (["--update-catalog"], ["--dump-catalog"])
    ]  # fmt: skip
    assert told[0].stderr == ""
    for id_, (subject, text) in entries().items():
        assert f"-- {id_}\nSubject: {subject}\n" in told[1].stdout
        assert text in told[1].stdout
    assert told[1].stdout.count("\n-- ") + told[1].stdout.startswith("-- ") == len(Message)


# --- the journal's own protocol -----------------------------------------------------------
class Journal:
    """The receiving end: datagrams, taken apart as journald does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(5)

    def next(self) -> dict[str, str]:
        data = self._socket.recv(1 << 16)
        assert data.endswith(b"\n")
        lines = [line.partition(b"=") for line in data[:-1].split(b"\n")]
        assert all(re.fullmatch(rb"[A-Z][A-Z_]{0,63}", name) for name, _, _ in lines)
        assert all(separator for _, separator, _ in lines)
        assert len({name for name, _, _ in lines}) == len(lines)
        return {name.decode(): value.decode() for name, _, value in lines}

    def close(self) -> None:
        self._socket.close()


def record(text: str, *values: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("gatewayd.door", logging.WARNING, "", 0, text, values, None)
    made.__dict__.update(extra)
    return made


def handler(path: Path | str, stream: io.StringIO) -> JournalHandler:
    made = JournalHandler(logging.StreamHandler(stream), str(path))
    made.setFormatter(LineFormatter(journal=True))
    return made


def test_a_message_arrives_with_its_id_and_its_door(tmp_path: Path) -> None:
    journal, stream = Journal(tmp_path / "socket"), io.StringIO()
    sender = handler(journal.path, stream)
    sender.emit(
        record("door %s: jammed", "street", **about(Message.LOCK_JAMMED, door=DoorId("street")))
    )
    assert journal.next() == {
        "MESSAGE": "gatewayd.door: door street: jammed",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "gatewayd",
        "MESSAGE_ID": Message.LOCK_JAMMED.value,
        "GATEWAYD_DOOR": "street",
    }
    sender.emit(record("no id"))
    assert "MESSAGE_ID" not in journal.next()
    journal.close()
    Path(journal.path).unlink()
    sender.emit(record("nobody listens"))
    assert stream.getvalue() == "<4>gatewayd.door: nobody listens\n"
    sender.close()


@given(st.text(max_size=300))
def test_text_of_strangers_makes_no_field(text: str) -> None:
    path = Path(f"/tmp/gatewayd-test-{os.getpid()}.sock")  # noqa: S108 - a socket's name is short
    path.unlink(missing_ok=True)
    journal, stream = Journal(path), io.StringIO()
    sender = handler(path, stream)
    try:
        sender.emit(record("%s", text))
        assert journal.next().keys() == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}
    finally:
        sender.close()
        journal.close()
        path.unlink()


def test_a_journal_that_is_stuck_holds_nobody_up(tmp_path: Path) -> None:
    journal, stream = Journal(tmp_path / "socket"), io.StringIO()
    sender = handler(journal.path, stream)
    for number in range(2000):
        sender.emit(record("line %d", number))
    assert "line 1999" in stream.getvalue()
    assert journal.next()["MESSAGE"].endswith("line 0")
    sender.close()
    journal.close()


def test_who_listens_is_told_by_the_stream_itself(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        assert listens({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, stream)
        assert not listens({"JOURNAL_STREAM": "8:1"}, stream)
        assert not listens({}, stream)
    assert not listens({"JOURNAL_STREAM": "8:1"}, io.StringIO())
    assert not listens({"JOURNAL_STREAM": "8:1"}, stream)  # closed
