"""Files that are not a log, not whole, too old or too new: told apart, and never overwritten."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing

import pytest

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.sqlite import open_log, open_log_file, schema
from gatewayd.adapters.sqlite.schema import LOG, Schema
from gatewayd.core.model import ClockState, DoorId, EntryKind, Fact, TimeReading, Verdict
from gatewayd.ports import StorageError

FACT = Fact(
    TimeReading(ClockState.TRUSTED, 1_800_000_000, 1.0, 1_800_000_000),
    EntryKind.STARTED,
    DoorId("street"),
    Verdict(Outcome.CONFIRMED, Reason.OK),
)
FIRST = (
    "-- how it began; with a semicolon\nCREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT);\n"
)
SECOND = "ALTER TABLE thing ADD COLUMN size INTEGER;\nUPDATE thing SET size = length(name);\n"
THIRD = """\
CREATE TABLE part (id INTEGER PRIMARY KEY, thing INTEGER REFERENCES thing (id));
INSERT INTO part (thing) SELECT id FROM thing;
"""
OLD = Schema(7, (FIRST,))
NEW = Schema(7, (FIRST, SECOND, THIRD))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


def use(path):
    async def append():
        async with open_log(path) as log:
            return await log.append(FACT)

    return asyncio.run(append())


def contents(directory):
    return {each.name: each.read_bytes() for each in directory.iterdir()}


def refuse(path, message):
    """Both ways in refuse, and leave every file as it was."""
    before = contents(path.parent)
    before.setdefault(path.name + ".lock", b"")
    with pytest.raises(StorageError, match=message):
        use(path)
    with pytest.raises(StorageError, match=message), open_log_file(path):
        pytest.fail("it was opened")
    after = contents(path.parent)
    empty = {path.name + "-wal", path.name + "-shm"} - set(before)
    for name in empty:
        after.pop(name, None)
    assert after == before


@pytest.fixture
def old(path):
    with closing(schema.open_writer(path, OLD)) as connection:
        connection.execute("INSERT INTO thing (name) VALUES ('key'), ('door')")
    return path


def version_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


# --- what is not a log ------------------------------------------------------------------------
def test_garbage(path):
    path.write_bytes(b"\x00\xff not a database " * 400)
    refuse(path, "not a SQLite database")


@pytest.mark.parametrize("size", [0, 1, 99, 100, 512])
def test_an_empty_or_nearly_empty_file_is_not_taken_for_a_new_one(path, size):
    path.write_bytes(b"SQLite format 3\x00".ljust(512, b"\x01")[:size])
    refuse(path, "not a")


def test_a_database_of_somebody_else(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE leaf (seq INTEGER)")
    refuse(path, "not a database of this kind")


@pytest.mark.parametrize("keep", [0.95, 0.5, 0.2])
def test_a_file_cut_short(path, keep):
    async def fill():
        async with open_log(path) as log:
            for _ in range(300):
                await log.append(FACT)

    asyncio.run(fill())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    refuse(path, "damaged")


def test_a_file_whose_pages_are_garbage(path):
    async def fill():
        async with open_log(path) as log:
            for _ in range(300):
                await log.append(FACT)

    asyncio.run(fill())
    whole = bytearray(path.read_bytes())
    whole[4096:] = b"\xa5" * len(whole[4096:])
    path.write_bytes(whole)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="damaged"):
        use(path)
    assert path.read_bytes() == before


def test_a_schema_that_is_no_text(path):
    """SQLite quotes it in its error, which is then no text either."""
    use(path)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE command", b"CREATE TABL\xfe command"))
    refuse(path, "damaged")


def test_an_entry_that_is_nothing(path):
    use(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA writable_schema = ON;"
            "UPDATE sqlite_schema SET sql = replace(sql, 'nodes BLOB NOT NULL', 'nodes BLOB');"
        )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO leaf VALUES (9, NULL, NULL)")

    async def read():
        async with open_log(path) as log:
            await log.leaves(9, 1 << 20)

    with pytest.raises(StorageError, match="damaged"):
        asyncio.run(read())


def test_a_tree_node_that_is_missing(path):
    for _ in range(4):
        use(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE leaf SET nodes = substr(nodes, 1, 32)")
    with pytest.raises(StorageError, match="tree node 2/0 is missing"):
        use(path)


def test_a_newer_version(path):
    use(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {LOG.version + 1}")
    refuse(path, "newer gatewayd")


def test_a_version_that_never_was(path):
    use(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
    refuse(path, "not a database of this kind")


def test_a_missing_file_is_made_by_the_writer_only(path):
    with pytest.raises(StorageError, match="no such file"), open_log_file(path):
        pytest.fail("it was opened")
    assert not path.exists()
    assert use(path) == 0


def test_a_missing_file_whose_journal_is_still_there(path):
    use(path)
    path.rename(path.with_name("elsewhere"))
    path.with_name("log.db-wal").write_bytes(b"what was last written")
    with pytest.raises(StorageError, match=r"its journal log\.db-wal is here"):
        use(path)
    assert not path.exists()
    assert path.with_name("log.db-wal").read_bytes() == b"what was last written"


def test_a_directory_that_is_missing_and_one_in_the_way(path, tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        use(tmp_path / "nowhere" / "log.db")
    path.mkdir()
    with pytest.raises(StorageError, match="not a file"):
        use(path)


def test_remains_of_a_creation_that_was_interrupted(path):
    for name in ("log.db.new", "log.db.new-wal"):
        path.with_name(name).write_bytes(b"half")
    assert use(path) == 0
    assert set(contents(path.parent)) == {"log.db", "log.db.lock"}


def test_a_file_that_lost_its_write_ahead_log_mode_gets_it_back(path):
    use(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    assert use(path) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_where_a_write_ahead_log_is_impossible_nothing_is_opened():
    connection = sqlite3.connect(":memory:")
    with closing(connection), pytest.raises(StorageError, match="write-ahead log refused"):
        schema._configure_writer(connection)


# --- migration -----------------------------------------------------------------------------------
def test_an_old_file_is_brought_up_to_date_with_what_it_holds(old):
    with closing(schema.open_writer(old, NEW)) as connection:
        assert connection.execute("SELECT id, name, size FROM thing").fetchall() == [
            (1, "key", 3),
            (2, "door", 4),
        ]
        assert connection.execute("SELECT count(*) FROM part").fetchone() == (2,)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert version_of(old) == 3
    assert set(contents(old.parent)) == {"log.db"}, "no copy outlives what must be forgotten"
    with closing(schema.open_writer(old, NEW)) as connection:
        assert connection.execute("SELECT count(*) FROM part").fetchone() == (2,), "once only"


def test_a_new_file_has_the_newest_version_at_once(path):
    schema.open_writer(path, NEW).close()
    assert version_of(path) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_reader_does_not_migrate(old):
    before = old.read_bytes()
    with pytest.raises(StorageError, match="start the daemon once"):
        schema.open_reader(old, NEW)
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    "broken",
    [
        "ALTER TABLE thing ADD COLUMN size INTEGER;\nINSERT INTO nowhere VALUES (1);\n",
        "DELETE FROM thing;\nCREATE TABLE unfinished (",
        f"{THIRD}INSERT INTO part (thing) VALUES (99);\n",  # noqa: S608 - literals
    ],
    ids=["wrong statement", "unfinished statement", "row that refers to nothing"],
)
@pytest.mark.parametrize("good", [(), (SECOND,)], ids=["first step", "second step"])
def test_a_migration_that_fails_leaves_the_old_file_and_a_copy(old, good, broken):
    with pytest.raises(StorageError):
        schema.open_writer(old, Schema(7, (FIRST, *good, broken)))
    backup = old.with_name("log.db.backup")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    for file in (old, backup):
        assert version_of(file) == 1
        with closing(sqlite3.connect(file)) as connection:
            names = connection.execute("SELECT name FROM thing").fetchall()
            tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
        assert names == [("key",), ("door",)]
        assert tables == [("thing",)]
    with closing(schema.open_writer(old, NEW)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert not backup.exists()


def test_scripts_are_numbered_without_gaps():
    assert LOG.version == len(LOG.scripts) >= 1
    assert all(script.rstrip().endswith(";") for script in LOG.scripts)
