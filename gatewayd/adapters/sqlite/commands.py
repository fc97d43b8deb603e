"""What was commanded and who asked, beside the entries; each function runs on the log's thread."""

from __future__ import annotations

import sqlite3
from typing import Final

from firmware_proto.codes import Outcome, Reason
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
from gatewayd.core.reserve import Reserved

REQUEST_MEMORY_S: Final = 24 * 60 * 60

_RECORDED, _UNRESOLVED, _ENDED = 1, 2, 3  # column `phase`
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


def past_request(connection: sqlite3.Connection, request_key: bytes) -> PastRequest | None:
    """See `ports.storage.AuditLog.past_request`."""
    row = connection.execute(_PAST_REQUEST, (request_key,)).fetchone()
    if row is None:
        return None
    content, door, outcome, reason, seq, time_s = row
    return PastRequest(
        content,
        None if outcome is None else Verdict(Outcome(outcome), Reason(reason)),
        None if seq is None else Record(seq, DoorId(door), time_s),
    )


def recorded(connection: sqlite3.Connection) -> list[Command]:
    """Those without outcome."""
    return _in_phase(connection, _RECORDED)


def unresolved(connection: sqlite3.Connection) -> list[Command]:
    """Those whose outcome is UNKNOWN, and whose lock has not been asked since."""
    return _in_phase(connection, _UNRESOLVED)


def _in_phase(connection: sqlite3.Connection, phase: int) -> list[Command]:
    rows = connection.execute(_COMMANDS, (phase,)).fetchall()
    return [Command(CommandId(id_), DoorId(door), intent_seq) for id_, door, intent_seq in rows]


def lacks(connection: sqlite3.Connection, each: Reserved) -> bool:
    """Is this entry of the reserve news, and does what it is about exist?"""
    if each.command is not None:
        return phase_of(connection, each.command.id) is None
    if each.asked is not None:
        known = connection.execute(
            "SELECT 1 FROM request WHERE key = ?", (each.asked.key,)
        ).fetchone()
        return known is None and phase_of(connection, each.asked.command) is not None
    if each.settles is None:
        return True
    phase = phase_of(connection, each.settles)
    unknown = each.fact.verdict.outcome is Outcome.UNKNOWN
    return phase == _RECORDED or (phase == _UNRESOLVED and not unknown)


def phase_of(connection: sqlite3.Connection, command: CommandId) -> int | None:
    """How far it is; None for a command that is not recorded."""
    row = connection.execute("SELECT phase FROM command WHERE id = ?", (command,)).fetchone()
    return None if row is None else int(row[0])


def intent_of(connection: sqlite3.Connection, command: CommandId) -> int:
    """The entry that recorded it. ValueError when there is none."""
    row = connection.execute("SELECT intent_seq FROM command WHERE id = ?", (command,)).fetchone()
    if row is None:
        raise ValueError("no such command awaits a verdict")
    return int(row[0])


def record(
    connection: sqlite3.Connection, command: Command, intent_seq: int, time: TimeReading
) -> None:
    """Before it is sent. ValueError when it is there already."""
    try:
        connection.execute(
            "INSERT INTO command (intent_seq, id, door, recorded_s) VALUES (?, ?, ?, ?)",
            (intent_seq, command.id, command.door, _known_s(time)),
        )
    except sqlite3.IntegrityError as error:
        raise ValueError("this command is already recorded") from error


def remember(connection: sqlite3.Connection, asked: Asked, seq: int, fact: Fact) -> None:
    """Who asked for what. ValueError: no such command, or the request was another.

    An UNKNOWN that is shared stays the command's, which may yet be resolved.
    """
    shares = fact.kind is EntryKind.JOINED
    verdict = fact.verdict if shares and fact.verdict.outcome is not Outcome.UNKNOWN else None
    try:
        remembered = connection.execute(
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


def settle(connection: sqlite3.Connection, settles: CommandId, seq: int, fact: Fact) -> None:
    """The verdict on a command. ValueError when it awaits none."""
    unknown = fact.verdict.outcome is Outcome.UNKNOWN
    asked = fact.kind is EntryKind.RESOLVED
    settled = connection.execute(
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


def forget(connection: sqlite3.Connection, time: TimeReading) -> None:
    """Drop requests of more than a day ago, as far as time is known.

    What was recorded while the time was unknown counts from when it is
    known again: a clock that jumps forward must not make the gateway
    forget, and so repeat, what it did a minute ago.
    """
    if time.state is ClockState.UNKNOWN:
        return
    limit = time.now_s - REQUEST_MEMORY_S
    execute = connection.execute
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
