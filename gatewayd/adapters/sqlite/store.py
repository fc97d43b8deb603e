"""The log in its file: every statement that writes, for the one thread that may run them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.sqlite import erasing, reading
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.core import erasure, merkle
from gatewayd.core.audit import COMMITMENT_BYTES, SALT_BYTES, Leaf
from gatewayd.core.erasure import Erased, Run
from gatewayd.core.model import (
    Asked,
    ClockState,
    Command,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    PastRequest,
    Record,
    TimeReading,
    Verdict,
)
from gatewayd.core.reserve import MERGED_NAME, Reserved

REQUEST_MEMORY_S: Final = 24 * 60 * 60

_RECORDED, _UNRESOLVED, _ENDED = 1, 2, 3  # column `phase`
_NUMBER_BYTES: Final = 8
_COMMANDS: Final = (
    "SELECT id, door, intent_seq FROM command"
    " WHERE phase = ? AND phase < 3 ORDER BY intent_seq"  # `< 3` names the partial index
)

_PAST_REQUEST: Final = (
    "SELECT content, door, coalesce(request.outcome, command.outcome),"
    " coalesce(request.reason, command.reason), coalesce(seq, settled_seq),"
    " coalesce(written_s, settled_s)"
    " FROM request JOIN command ON request.command = command.id WHERE key = ?"
)


class LogStore:
    """Reads and writes one log. Not for use by two threads; every method may raise StorageError.

    `writing` False: the connection cannot write.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        randomness: Callable[[int], bytes],
        *,
        writing: bool = True,
    ) -> None:
        self._connection = connection
        self._path = path
        self._randomness = randomness
        self._node = partial(reading.tree_node, connection)
        self._tree: merkle.CompactRange | None = None
        with self._errors():
            self._grown_tree()
            if writing and reading.recall(connection, erasure.MEMORY_NAME) is not None:
                erasing.scrub(connection)  # the power may have gone before that

    def close(self) -> None:
        """Close the file; nothing is pending, ever."""
        with self._errors():
            self._connection.close()

    # --- writing --------------------------------------------------------------
    def append(
        self,
        fact: Fact,
        command: Command | None,
        asked: Asked | None,
        settles: CommandId | None,
    ) -> int:
        """See `ports.storage.AuditLog.append`.

        ValueError, and nothing is written, when the command is already recorded,
        when `asked` names no command or was asked with other content or of another
        command, or when `settles` names no command that awaits a verdict.
        """
        with self._transaction():
            return self._write(fact, command, asked, settles)

    def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None) -> None:
        """See `ports.storage.AuditLog.merge`."""
        with self._transaction():
            merged = int.from_bytes(reading.recall(self._connection, MERGED_NAME) or b"", "big")
            for each in records:
                if each.number > merged and self._lacks(each):
                    self._write(each.fact, each.command, each.asked, each.settles)
            if gap is not None:
                self._write(gap, None, None, None)
            self._store(MERGED_NAME, max(merged, upto).to_bytes(_NUMBER_BYTES, "big"))

    def erase(self, order: bytes, runs: Sequence[Run], fact: Fact) -> Erased:
        """See `ports.storage.Erasing.erase`."""
        with self._transaction():
            done = erasing.carried_out(self._connection)
            erased = done.done.get(order)
            if erased is None:
                if runs[-1].last >= reading.cursor(self._connection):
                    raise ValueError("the cloud has not said that it keeps these entries")
                entries = erasing.prune(self._connection, runs)
                seq = self._write(replace(fact, about=entries), None, None, None)
                erased = Erased(entries, seq)
                self._store(erasure.MEMORY_NAME, done.and_(order, erased).encode())
        with self._errors():
            return erased._replace(clean=erasing.scrub(self._connection))

    def acknowledge(self, upto: int) -> int:
        """See `ports.storage.LogReader.acknowledge`."""
        cursor = self.acknowledged()
        raised = min(upto, self.size())
        if raised <= cursor:
            return cursor
        with self._transaction():
            self._connection.execute("UPDATE cursor SET acknowledged = ?", (raised,))
        return raised

    def store(self, name: str, value: bytes) -> None:
        """See `ports.storage.Memory.store`."""
        with self._transaction():
            self._store(name, value)

    # --- reading --------------------------------------------------------------
    def past_request(self, request_key: bytes) -> PastRequest | None:
        """See `ports.storage.AuditLog.past_request`."""
        with self._errors():
            row = self._connection.execute(_PAST_REQUEST, (request_key,)).fetchone()
        if row is None:
            return None
        content, door, outcome, reason, seq, time_s = row
        return PastRequest(
            content,
            None if outcome is None else Verdict(Outcome(outcome), Reason(reason)),
            None if seq is None else Record(seq, DoorId(door), time_s),
        )

    def unsettled(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog.unsettled`."""
        return self._commands(_RECORDED)

    def unresolved(self) -> Sequence[Command]:
        """See `ports.storage.AuditLog.unresolved`."""
        return self._commands(_UNRESOLVED)

    def size(self) -> int:
        """See `ports.storage.LogReader.size`."""
        with self._errors():
            return self._grown_tree().size

    def leaves(self, start: int, max_bytes: int) -> Sequence[bytes]:
        """See `ports.storage.LogReader.leaves`."""
        bodies: list[bytes] = []
        with self._errors():
            for (body,) in self._connection.execute(
                "SELECT coalesce(body, substr(nodes, 1, 32)) FROM leaf WHERE seq >= ? ORDER BY seq",
                (max(start, 0),),
            ):
                max_bytes -= len(body)
                if bodies and max_bytes < 0:
                    break
                bodies.append(body)
        return bodies

    def root(self, size: int) -> bytes:
        """See `ports.storage.LogReader.root`. ValueError beyond the size."""
        with self._errors():
            self._check_size(size)
            return merkle.root(size, self._node)

    def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """See `ports.storage.LogReader.consistency`. ValueError beyond the size, for `old` = 0."""
        with self._errors():
            self._check_size(new)
            return merkle.consistency_proof(old, new, self._node)

    def inclusion(self, index: int, size: int) -> Sequence[bytes]:
        """RFC 9162 §2.1.3 proof. ValueError beyond the size."""
        with self._errors():
            self._check_size(size)
            return merkle.inclusion_proof(index, size, self._node)

    def acknowledged(self) -> int:
        """See `ports.storage.LogReader.acknowledged`."""
        with self._errors():
            return reading.cursor(self._connection)

    def load(self, name: str) -> bytes | None:
        """See `ports.storage.Memory.load`."""
        with self._errors():
            return reading.recall(self._connection, name)

    # --- inside ---------------------------------------------------------------
    def _errors(self) -> AbstractContextManager[None]:
        return storage_errors(str(self._path))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # what the file holds is asked again, never guessed
                self._tree = None
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _grown_tree(self) -> merkle.CompactRange:
        if self._tree is None:
            size = reading.tree_size(self._connection)
            self._tree = merkle.CompactRange.load(size, self._node)
        return self._tree

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._grown_tree().size:
            raise ValueError(f"the log does not have {size} entries")

    def _commands(self, phase: int) -> list[Command]:
        with self._errors():
            rows = self._connection.execute(_COMMANDS, (phase,)).fetchall()
        return [Command(CommandId(id_), DoorId(door), intent_seq) for id_, door, intent_seq in rows]

    def _write(
        self,
        fact: Fact,
        command: Command | None,
        asked: Asked | None,
        settles: CommandId | None,
    ) -> int:
        """One entry, inside a transaction."""
        tree = self._grown_tree()
        if settles is not None:
            fact = replace(fact, about=self._intent_of(settles))
        leaf = Leaf.of(
            fact,
            seq=tree.size,
            salt=self._randomness(SALT_BYTES),
            commitment=self._randomness(COMMITMENT_BYTES),
        )
        body = leaf.encode()
        self._tree, nodes = tree.append(merkle.leaf_hash(body))
        self._connection.execute(
            "INSERT INTO leaf (seq, body, nodes) VALUES (?, ?, ?)",
            (leaf.seq, body, b"".join(nodes)),
        )
        self._forget(fact.time)
        if command is not None:
            self._record(command, leaf.seq, fact.time)
        if asked is not None:
            self._remember(asked, leaf.seq, fact)
        if settles is not None:
            self._settle(settles, leaf.seq, fact)
        return leaf.seq

    def _lacks(self, each: Reserved) -> bool:
        """Is this entry of the reserve news, and does what it is about exist?"""
        if each.command is not None:
            return self._phase(each.command.id) is None
        if each.asked is not None:
            known = self._connection.execute(
                "SELECT 1 FROM request WHERE key = ?", (each.asked.key,)
            ).fetchone()
            return known is None and self._phase(each.asked.command) is not None
        if each.settles is None:
            return True
        phase = self._phase(each.settles)
        unknown = each.fact.verdict.outcome is Outcome.UNKNOWN
        return phase == _RECORDED or (phase == _UNRESOLVED and not unknown)

    def _phase(self, command: CommandId) -> int | None:
        row = self._connection.execute(
            "SELECT phase FROM command WHERE id = ?", (command,)
        ).fetchone()
        return None if row is None else int(row[0])

    def _intent_of(self, command: CommandId) -> int:
        row = self._connection.execute(
            "SELECT intent_seq FROM command WHERE id = ?", (command,)
        ).fetchone()
        if row is None:
            raise ValueError("no such command awaits a verdict")
        return int(row[0])

    def _store(self, name: str, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO memory (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def _record(self, command: Command, intent_seq: int, time: TimeReading) -> None:
        try:
            self._connection.execute(
                "INSERT INTO command (intent_seq, id, door, recorded_s) VALUES (?, ?, ?, ?)",
                (intent_seq, command.id, command.door, _known_s(time)),
            )
        except sqlite3.IntegrityError as error:
            raise ValueError("this command is already recorded") from error

    def _remember(self, asked: Asked, seq: int, fact: Fact) -> None:
        """An UNKNOWN that is shared stays the command's, which may yet be resolved."""
        shares = fact.kind is EntryKind.JOINED
        verdict = fact.verdict if shares and fact.verdict.outcome is not Outcome.UNKNOWN else None
        try:
            remembered = self._connection.execute(
                "INSERT INTO request VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET recorded_s = excluded.recorded_s"
                " WHERE content = excluded.content AND command = excluded.command",
                (
                    asked.key,
                    asked.content,
                    asked.command,
                    _known_s(fact.time),
                    seq if shares else None,
                    fact.time.now_s if shares else None,
                    None if verdict is None else int(verdict.outcome),
                    None if verdict is None else int(verdict.reason),
                ),
            )
        except sqlite3.IntegrityError as error:
            raise ValueError("this request has no command") from error
        if remembered.rowcount != 1:
            raise ValueError("this request was asked with other content or of another command")

    def _settle(self, settles: CommandId, seq: int, fact: Fact) -> None:
        unknown = fact.verdict.outcome is Outcome.UNKNOWN
        asked = fact.kind is EntryKind.RESOLVED
        settled = self._connection.execute(
            "UPDATE command SET outcome = ?, reason = ?, phase = ?, settled_seq = ?, settled_s = ?"
            " WHERE id = ? AND phase < 3",
            (
                int(fact.verdict.outcome),
                int(fact.verdict.reason),
                _UNRESOLVED if unknown and not asked else _ENDED,
                seq,
                fact.time.now_s,
                settles,
            ),
        )
        if settled.rowcount != 1:
            raise ValueError("no such command awaits a verdict")

    def _forget(self, time: TimeReading) -> None:
        """Drop requests of more than a day ago, as far as time is known.

        What was recorded while the time was unknown counts from when it is
        known again: a clock that jumps forward must not make the gateway
        forget, and so repeat, what it did a minute ago.
        """
        if time.state is ClockState.UNKNOWN:
            return
        limit = time.now_s - REQUEST_MEMORY_S
        execute = self._connection.execute
        execute("UPDATE request SET recorded_s = ? WHERE recorded_s IS NULL", (time.now_s,))
        execute("UPDATE command SET recorded_s = ? WHERE recorded_s IS NULL", (time.now_s,))
        execute("DELETE FROM request WHERE recorded_s <= ?", (limit,))
        execute(
            "DELETE FROM command WHERE recorded_s <= ? AND phase = 3"
            " AND NOT EXISTS (SELECT 1 FROM request WHERE request.command = command.id)",
            (limit,),
        )


def _known_s(time: TimeReading) -> int | None:
    return None if time.state is ClockState.UNKNOWN else time.now_s
