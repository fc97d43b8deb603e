"""`gatewayd log`: what a person and a program read, and every way in which a log can be wrong."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmware_proto.codes import Outcome, Reason
from gatewayd import logbook
from gatewayd.adapters.sqlite import open_log
from gatewayd.cli import log as log_command
from gatewayd.cli import main
from gatewayd.core import checkpoint as notes
from gatewayd.core.checkpoint import Checkpoint, Verifier
from gatewayd.core.model import ClockState, DoorId, EntryKind, Fact, TimeReading, Verdict
from gatewayd.pulling import COSIGNED_NAME
from tests.support.bulk_log import fill_in_bulk

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ORIGIN = "gatewayd/g1"
VERIFIER = Verifier(ORIGIN, KEY.public_key().public_bytes_raw())
NOW_S = 1_800_000_007
STREET, YARD = DoorId("street"), DoorId("yard")
OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
RUNNING = Verdict(Outcome.UNKNOWN, Reason.OK)
EXPIRED = Verdict(Outcome.REFUSED, Reason.EXPIRED)

STORY = (
    (EntryKind.STARTED, None, OPENED, 0, ClockState.UNKNOWN),
    (EntryKind.INTENT, STREET, RUNNING, 0, ClockState.HOLDOVER),
    (EntryKind.OUTCOME, STREET, OPENED, 1, ClockState.TRUSTED),
    (EntryKind.REFUSAL, YARD, EXPIRED, 0, ClockState.TRUSTED),
    (EntryKind.STRANGERS, None, Verdict(Outcome.REFUSED, Reason.STRANGER), 7, ClockState.TRUSTED),
)


def story():
    for kind, door, verdict, about, clock in STORY:
        yield Fact(TimeReading(clock, NOW_S, 1.0, NOW_S), kind, door, verdict, about)


@pytest.fixture
def path(tmp_path):
    asyncio.run(write(tmp_path / "log.db"))
    return tmp_path / "log.db"


async def write(path):
    async with open_log(path) as log:
        for fact in story():
            await log.append(fact)
        for name, size in ((notes.MEMORY_NAME, 4), (COSIGNED_NAME, 3)):
            note = notes.sign(Checkpoint(ORIGIN, size, await log.root(size)), KEY)
            await log.store(name, note)
        await log.acknowledge(3)


def tamper(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement, values)


def run(capsys, *arguments):
    code = main(["log", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def shown(capsys, path, *arguments):
    code, out, _ = run(capsys, "show", "--file", path, "--json", *arguments)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


def verified(capsys, path, *arguments):
    code, out, _ = run(capsys, "verify", "--file", path, "--json", *arguments)
    document = json.loads(out)
    assert (code == 0) == document["sound"]
    return document


def test_what_was_ordered_says_so(capsys, tmp_path):
    time = TimeReading(ClockState.TRUSTED, NOW_S, 1.0, NOW_S)
    facts = [
        *story(),
        Fact(time, EntryKind.ORDERED, STREET, RUNNING, order=b"n" * 32),
        Fact(time, EntryKind.INTENT, STREET, RUNNING, 5),
        Fact(time, EntryKind.ORDERED, STREET, EXPIRED, order=b"m" * 32),
    ]

    async def written():
        async with open_log(tmp_path / "log.db") as log:
            for fact in facts:
                await log.append(fact)

    asyncio.run(written())
    _, out, _ = run(capsys, "show", "--file", tmp_path / "log.db", "--last", 3)
    ordered, intent, refused = (line.split() for line in out.splitlines()[1:])
    assert ordered[3:] == ["ordered", "street", "-", "-"]
    assert intent[3:] == ["intent", "street", "-", "-", *["by", "the", "order", "of", "entry", "5"]]
    assert refused[3:] == ["ordered", "street", "refused", "expired"]
    assert shown(capsys, tmp_path / "log.db", "--last", 3)[0]["commitment"] == "6e" * 32


# --- show ---------------------------------------------------------------------------------------
def test_a_person_reads_a_table(capsys, path):
    code, out, _ = run(capsys, "show", "--file", path)
    assert code == 0
    strangers = f"{'stranger':18} 7 in this minute"
    assert out.splitlines() == [
        "   entry  time (UTC)         what       door             outcome    reason",
        "       0  2027-01-15 08:00?  started    -                confirmed  ok",
        "       1  2027-01-15 08:00~  intent     street           -          -",
        f"       2  2027-01-15 08:00   outcome    street           confirmed  {'ok':18} of entry 1",
        "       3  2027-01-15 08:00   refusal    yard             refused    expired",
        f"       4  2027-01-15 08:00   strangers  -                refused    {strangers}",
    ]


def test_a_program_reads_a_line_for_each_entry(capsys, path):
    lines = shown(capsys, path)
    assert lines[2] == {
        "seq": 2,
        "time": "2027-01-15T08:00:00+00:00",
        "clock": "trusted",
        "kind": "outcome",
        "door": "street",
        "outcome": "confirmed",
        "reason": "ok",
        "about": 1,
        "commitment": lines[2]["commitment"],
    }
    assert len({line["commitment"] for line in lines}) == 5
    assert [line["seq"] for line in lines] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", 3], [3, 4]),
        (["--since", 9], []),
        (["--last", 2], [3, 4]),
        (["--last", 0], []),
        (["--last", 99], [0, 1, 2, 3, 4]),
        (["--door", "street"], [1, 2]),
        (["--door", "street", "--last", 1], [2]),
        (["--door", "street", "--since", 2, "--last", 5], [2]),
        (["--door", "nowhere"], []),
    ],
)
def test_filters(capsys, path, arguments, expected):
    assert [line["seq"] for line in shown(capsys, path, *arguments)] == expected


def test_the_last_of_a_rare_door_is_found_far_back(tmp_path):
    path = tmp_path / "log.db"

    async def fill():
        async with open_log(path) as log:
            for fact in story():
                await log.append(fact)
            await log._call(fill_in_bulk, 3500)

    asyncio.run(fill())
    with logbook.open_logbook(path) as file:
        assert [each.seq for each in logbook.entries(file, door="yard", last=2)] == [3]
        assert [each.seq for each in logbook.entries(file, last=2)] == [3498, 3499]
        assert len(list(logbook.entries(file, last=2500))) == 2500


def test_no_entries_are_told(capsys, path):
    code, out, _ = run(capsys, "show", "--file", path, "--since", 9)
    assert (code, out.splitlines()[1:]) == (0, ["no entries"])


def test_what_was_pruned_or_damaged_is_shown_as_such(capsys, path):
    tamper(path, "UPDATE leaf SET body = NULL WHERE seq = 1")
    tamper(path, "UPDATE leaf SET body = x'00' WHERE seq = 2")
    assert shown(capsys, path, "--since", 1, "--last", 4)[:2] == [
        {"seq": 1, "body": "pruned"},
        {"seq": 2, "body": "unreadable"},
    ]
    _, out, _ = run(capsys, "show", "--file", path)
    assert "       1  pruned\n       2  unreadable\n" in out


def test_a_time_that_no_calendar_has(capsys, path):
    far = TimeReading(ClockState.UNKNOWN, 2**62, 0.0, 0)

    async def append():
        async with open_log(path) as log:
            await log.append(Fact(far, EntryKind.STARTED, None, OPENED))

    asyncio.run(append())
    assert shown(capsys, path, "--last", 1)[0]["time"].startswith("9999-12-31")


# --- verify: sound ------------------------------------------------------------------------------
def test_a_sound_log(capsys, path):
    code, out, _ = run(capsys, "verify", "--file", path, "--key", VERIFIER.encode())
    assert code == 0
    first, *rest = out.splitlines()
    assert first.startswith(f"{path}: 5 entries, root ")
    assert rest == [
        "  held against its checkpoint at 4: signature good",
        "  held against its cosigned checkpoint at 3: signature good",
        "  the cloud keeps the first 3",
        "the log is whole and unaltered",
    ]


def test_without_a_key_it_says_that_nobody_was_asked(capsys, path):
    assert "signature not looked at" in run(capsys, "verify", "--file", path)[1]
    assert [each["signed"] for each in verified(capsys, path)["checkpoints"]] == [None, None]


def test_the_root_that_it_prints_is_the_root(capsys, path):
    async def root():
        async with open_log(path) as log:
            return await log.root(5)

    assert verified(capsys, path)["root"] == asyncio.run(root()).hex()


def test_a_new_log_is_sound(capsys, tmp_path):
    async def make():
        async with open_log(tmp_path / "log.db"):
            pass

    asyncio.run(make())
    document = verified(capsys, tmp_path / "log.db", "--key", VERIFIER.encode())
    assert (document["sound"], document["size"], document["checkpoints"]) == (True, 0, [])
    assert "none is signed yet" in run(capsys, "verify", "--file", tmp_path / "log.db")[1]


def test_a_pruned_body_is_no_damage(capsys, path):
    tamper(path, "UPDATE leaf SET body = NULL WHERE seq = 1")
    document = verified(capsys, path)
    assert (document["sound"], document["pruned"]) == (True, 1)
    assert "1 of them pruned" in run(capsys, "verify", "--file", path)[1]


# --- verify: every kind of wrong ----------------------------------------------------------------
@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (
            "UPDATE leaf SET body = (SELECT body FROM leaf WHERE seq = 3) WHERE seq = 2",
            "entry 2 has been altered",
        ),
        ("UPDATE leaf SET body = x'00' WHERE seq = 2", "entry 2 has been altered"),
        (
            "UPDATE leaf SET nodes = (SELECT nodes FROM leaf WHERE seq = 0) WHERE seq = 4",
            "entry 4 has been altered",
        ),
        (
            "UPDATE leaf SET nodes = CAST(nodes || zeroblob(32) AS BLOB) WHERE seq = 1",
            "the tree above entry 1 has been altered",
        ),
        (
            "UPDATE leaf SET nodes = substr(nodes, 1, 32) WHERE seq = 3",
            "the tree above entry 3 has been altered",
        ),
        ("DELETE FROM leaf WHERE seq = 2", "entry 2 of 5 is missing"),
        ("DELETE FROM leaf WHERE seq = 0", "entry 0 of 5 is missing"),
        ("DELETE FROM leaf WHERE seq > 2", "the log ends at 3, but its checkpoint says 4"),
        ("DELETE FROM leaf", "the log ends at 0"),
        ("UPDATE cursor SET acknowledged = 6", "the cloud keeps 6 entries, the log has 5"),
        ("UPDATE memory SET value = x'00'", "the checkpoint is not good"),
    ],
)
def test_what_was_altered_is_found(capsys, path, statement, finding):
    tamper(path, statement)
    document = verified(capsys, path)
    assert any(each.startswith(finding) for each in document["findings"]), document["findings"]
    code, out, _ = run(capsys, "verify", "--file", path)
    assert code == 1
    assert f"  WRONG: {finding}" in out
    assert out.endswith("THE LOG IS NOT SOUND\n")


def rewrite(path, facts):
    """What somebody with the whole file can do: another history, with a tree that fits."""

    async def make():
        other = path.with_name("other.db")
        async with open_log(other) as log:
            for fact in facts:
                await log.append(fact)
        with closing(sqlite3.connect(other)) as connection:
            return connection.execute("SELECT seq, body, nodes FROM leaf").fetchall()

    for row in asyncio.run(make()):
        tamper(path, "INSERT OR REPLACE INTO leaf (seq, body, nodes) VALUES (?, ?, ?)", *row)


def test_a_history_that_was_rewritten_whole_is_not_what_was_signed(capsys, path):
    rewrite(path, story())
    document = verified(capsys, path, "--key", VERIFIER.encode())
    assert document["findings"] == [
        "the first 4 entries are not those of its checkpoint",
        "the first 3 entries are not those of its cosigned checkpoint",
    ]


def test_a_checkpoint_of_another_signer(capsys, path):
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    stranger = Verifier(ORIGIN, other.public_key().public_bytes_raw())
    document = verified(capsys, path, "--key", stranger.encode())
    assert document["finding_count"] == 2
    assert "did not sign" in document["findings"][0]


def test_a_checkpoint_of_another_log_by_the_same_key(path):
    async def swap():
        async with open_log(path) as log:
            text = Checkpoint("gatewayd/other", 4, await log.root(4)).encode()
            blob = VERIFIER.key_id + KEY.sign(text.encode())
            await log.store(notes.MEMORY_NAME, notes.Note(text, ((ORIGIN, blob),)).encode())

    asyncio.run(swap())
    with logbook.open_logbook(path) as file:
        assert logbook.verify(file, VERIFIER).findings == ("the checkpoint is of another log",)


def test_findings_are_all_counted_and_some_described(capsys, tmp_path):
    path = tmp_path / "log.db"

    async def fill():
        async with open_log(path) as log:
            await log._call(fill_in_bulk, 50)

    asyncio.run(fill())
    tamper(path, "UPDATE leaf SET body = CAST(body || x'00' AS BLOB)")
    document = verified(capsys, path)
    assert (document["finding_count"], len(document["findings"])) == (100, logbook.MAX_FINDINGS)
    assert "and 80 more" in run(capsys, "verify", "--file", path)[1]


def test_an_entry_in_the_wrong_place(tmp_path):
    path = tmp_path / "log.db"
    asyncio.run(write(path))
    with closing(sqlite3.connect(path)) as connection:
        [(body, nodes)] = connection.execute("SELECT body, nodes FROM leaf WHERE seq = 2")
    tamper(path, "UPDATE leaf SET body = ?, nodes = ? WHERE seq = 4", body, nodes)
    with logbook.open_logbook(path) as file:
        assert "entry 4 says that it is entry 2" in logbook.verify(file).findings


# --- long work ----------------------------------------------------------------------------------
class Terminal:
    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.fixture
def long_log(tmp_path):
    async def fill():
        async with open_log(tmp_path / "log.db") as log:
            await log._call(fill_in_bulk, 20_500)

    asyncio.run(fill())
    return tmp_path / "log.db"


def test_progress_is_told(long_log, monkeypatch, capsys):
    told = []
    with logbook.open_logbook(long_log) as file:
        assert logbook.verify(file, progress=lambda *where: told.append(where)).sound
    assert told == [(10_000, 20_500), (20_000, 20_500)]
    assert run(capsys, "verify", "--file", long_log)[2] == "", "not into a pipe"
    terminal = Terminal()
    monkeypatch.setattr(log_command.sys, "stderr", terminal)
    assert main(["log", "verify", "--file", str(long_log)]) == 0
    assert terminal.text == "\r10000 of 20500 \r20000 of 20500 \r\033[K"


def test_interrupted_it_ends_cleanly(long_log, monkeypatch, capsys):
    def interrupt(_self, _done, _size):
        raise KeyboardInterrupt

    monkeypatch.setattr(log_command._Progress, "show", interrupt)
    code, out, err = run(capsys, "verify", "--file", long_log)
    assert (code, out, err) == (1, "", "error: interrupted\n")


# --- which log ----------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_log_that_is_not_there(capsys, tmp_path, command):
    code, out, err = run(capsys, command, "--file", tmp_path / "log.db")
    assert (code, out) == (1, "")
    assert "no such file" in err
    assert "hint:" in err
    assert not list(tmp_path.iterdir())


def test_a_key_that_is_none(capsys, path):
    code, _, err = run(capsys, "verify", "--file", path, "--key", "nonsense")
    assert code == 2
    assert "--key" in err


@pytest.mark.parametrize("number", ["-1", "x"])
def test_numbers_that_are_none(capsys, path, number):
    with pytest.raises(SystemExit) as caught:
        main(["log", "show", "--file", str(path), "--last", number])
    assert caught.value.code == 2
    assert "--last" in capsys.readouterr().err


CONFIG = """\
[gateway]
id = "g1"
[radio]
hci = "unix:/nonexistent/gateway.hci"
[[door]]
id = "street"
lock = { address = "F0:F1:F2:F3:F4:F5", key = "lock.pub.pem" }
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "gatewayd.toml").write_text(CONFIG)
    (tmp_path / "state").mkdir()
    asyncio.run(write(tmp_path / "state" / "log.db"))
    private = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "log.pem").write_bytes(private)
    (tmp_path / "log.pem").chmod(0o600)
    return tmp_path / "gatewayd.toml"


def test_the_gateways_own_log_is_held_against_its_own_key(capsys, site):
    code, out, _ = run(capsys, "verify", "-c", site)
    assert code == 0
    assert out.count("signature good") == 2
    assert run(capsys, "show", "-c", site, "--last", "1")[1].splitlines()[1].startswith("       4")


def test_a_configuration_that_is_wrong_and_a_key_that_is_missing(capsys, site):
    site.with_name("log.pem").unlink()
    code, _, err = run(capsys, "verify", "-c", site)
    assert code == 1
    assert "log key" in err
    site.write_text("[gateway]\n")
    code, _, err = run(capsys, "verify", "-c", site)
    assert code == 2
    assert "gatewayd check -c" in err
