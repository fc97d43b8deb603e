"""`gatewayd log show` and `gatewayd log verify`: look into a gateway's log, change nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Final

from firmware_proto.codes import Outcome
from firmware_proto.errors import RemoteProtocolError
from gatewayd import config, keyfiles, logbook
from gatewayd.cli import check
from gatewayd.cli.command import Command, CommandError, ExitCode, Group, Output
from gatewayd.core.audit import Leaf
from gatewayd.core.checkpoint import Verifier
from gatewayd.core.model import ClockState, EntryKind, GatewayId, origin_of
from gatewayd.logbook import Entry, Verification
from gatewayd.ports import StorageError

_CLOCK_MARKS: Final = {
    ClockState.TRUSTED: " ",
    ClockState.HOLDOVER: "~",
    ClockState.UNKNOWN: "?",
}
_ABOUT_A_COUNT: Final = {EntryKind.STRANGERS}
_GONE: Final = {EntryKind.ERASED}
_MISSING: Final = {EntryKind.GAP}
_ABOUT_AN_ENTRY: Final = {EntryKind.OUTCOME, EntryKind.RESOLVED}
_MAY_BE_ORDERED: Final = {EntryKind.INTENT, EntryKind.JOINED}
_NOTHING_YET: Final = {EntryKind.INTENT, EntryKind.ORDERED}
"""While it is UNKNOWN, what follows says how it ended."""
_ROW: Final = "{:>8}  {:<18} {:<10} {:<16} {:<9}  {:<18} {}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Which log, and whose signature it must bear."""

    path: Path
    verifier: Verifier | None = None


# --- show ------------------------------------------------------------------------------
def _show(arguments: argparse.Namespace, output: Output) -> int:
    place = _place(arguments)
    with _log_errors(), logbook.open_logbook(place.path) as file:
        found = logbook.entries(
            file, since=arguments.since, door=arguments.door, last=arguments.last
        )
        if output.as_json:
            for entry in found:
                sys.stdout.write(json.dumps(_as_object(entry)) + "\n")
            return ExitCode.DONE
        output.line(
            _ROW.format("entry", "time (UTC)", "what", "door", "outcome", "reason", "").rstrip()
        )
        shown = 0
        for shown, entry in enumerate(found, 1):  # noqa: B007 - the count is what is wanted
            output.line(_as_row(entry))
        if not shown:
            output.line("no entries")
    return ExitCode.DONE


def _as_row(entry: Entry) -> str:
    leaf = entry.leaf
    if leaf is None:
        return f"{entry.seq:>8}  {'unreadable' if entry.unreadable else 'pruned'}"
    mark = _CLOCK_MARKS[leaf.clock]
    open_ended = leaf.kind in _NOTHING_YET and leaf.verdict.outcome is Outcome.UNKNOWN
    return _ROW.format(
        entry.seq,
        f"{_time(leaf).strftime('%Y-%m-%d %H:%M')}{mark}",
        _word(leaf.kind),
        leaf.door or "-",
        "-" if open_ended else _word(leaf.verdict.outcome),
        "-" if open_ended else _word(leaf.verdict.reason),
        _about(leaf),
    ).rstrip()


def _about(leaf: Leaf) -> str:
    if leaf.kind in _ABOUT_A_COUNT:
        return f"{leaf.about} in this minute"
    if leaf.kind in _GONE:
        return f"{leaf.about} entries are erased"
    if leaf.kind in _MISSING:
        return f"{leaf.about} entries are missing" if leaf.about else "no entry is missing"
    if leaf.kind in _MAY_BE_ORDERED and leaf.about:
        return f"by the order of entry {leaf.about}"
    return f"of entry {leaf.about}" if leaf.kind in _ABOUT_AN_ENTRY else ""


def _as_object(entry: Entry) -> dict[str, object]:
    leaf = entry.leaf
    if leaf is None:
        return {"seq": entry.seq, "body": "unreadable" if entry.unreadable else "pruned"}
    return {
        "seq": leaf.seq,
        "time": _time(leaf).isoformat(),
        "clock": _word(leaf.clock),
        "kind": _word(leaf.kind),
        "door": leaf.door,
        "outcome": _word(leaf.verdict.outcome),
        "reason": _word(leaf.verdict.reason),
        "about": leaf.about,
        "commitment": leaf.commitment.hex(),
    }


def _time(leaf: Leaf) -> datetime:
    try:
        return datetime.fromtimestamp(leaf.time_s, UTC)
    except (OverflowError, ValueError, OSError):  # a time beyond the year 9999
        return datetime.max.replace(tzinfo=UTC)


def _word(code: IntEnum) -> str:
    return code.name.lower().replace("_", " ")


# --- verify ----------------------------------------------------------------------------
def _verify(arguments: argparse.Namespace, output: Output) -> int:
    place = _place(arguments)
    progress = _Progress()
    with _log_errors(), logbook.open_logbook(place.path) as file:
        try:
            result = logbook.verify(file, place.verifier, progress.show)
        finally:
            progress.clear()
    output.document(_as_document(place, result))
    for line in _as_lines(place, result):
        output.line(line)
    return ExitCode.DONE if result.sound else ExitCode.FAILED


def _as_document(place: _Place, result: Verification) -> dict[str, object]:
    return {
        "file": str(place.path),
        "sound": result.sound,
        "size": result.size,
        "root": result.root.hex(),
        "pruned": result.pruned,
        "acknowledged": result.acknowledged,
        "checkpoints": [
            {"name": each.name, "size": each.size, "signed": each.signed}
            for each in result.checkpoints
        ],
        "findings": list(result.findings),
        "finding_count": result.finding_count,
    }


def _as_lines(place: _Place, result: Verification) -> Iterator[str]:
    root = f", root {result.root.hex()}" if result.sound else ""
    yield f"{place.path}: {result.size} entries{root}"
    if result.pruned:
        yield f"  {result.pruned} of them pruned to their hash"
    for each in result.checkpoints:
        signed = "signature good" if each.signed else "signature not looked at (no --key)"
        yield f"  held against its {each.name} at {each.size}: {signed}"
    if not result.checkpoints:
        yield "  held against no checkpoint: none is signed yet"
    yield f"  the cloud keeps the first {result.acknowledged}"
    for finding in result.findings:
        yield f"  WRONG: {finding}"
    if result.finding_count > len(result.findings):
        yield f"  and {result.finding_count - len(result.findings)} more"
    yield "the log is whole and unaltered" if result.sound else "THE LOG IS NOT SOUND"


class _Progress:
    """How far, on a terminal only."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, done: int, size: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} of {size} ")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


# --- which log ---------------------------------------------------------------------------
@contextmanager
def _log_errors() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        hint = check.storage_hint(error, "is it the log of a gateway? see -c and --file")
        raise CommandError(str(error), hint) from error


def _place(arguments: argparse.Namespace) -> _Place:
    key = _vkey(arguments)
    if arguments.file is not None:
        return _Place(arguments.file, key)
    try:
        settings = config.load(arguments.config)
        log_key = keyfiles.read_ed25519_private(settings.keys.log, "the log key")
    except config.ConfigError as error:
        first, *others = error.problems
        more = f", and {len(others)} more problems" if others else ""
        hint = f"gatewayd check -c {error.path}" if others else first.hint
        message = f"{check.placed(error.path, first)}{more}"
        raise CommandError(message, hint, ExitCode.USAGE) from error
    except keyfiles.KeyFileError as error:
        raise CommandError(error.message, error.hint) from error
    origin = origin_of(GatewayId(settings.gateway.id))
    own = Verifier(origin, log_key.public_key().public_bytes_raw())
    return _Place(settings.gateway.log, key or own)


def _vkey(arguments: argparse.Namespace) -> Verifier | None:
    if getattr(arguments, "key", None) is None:
        return None
    try:
        return Verifier.parse(arguments.key)
    except RemoteProtocolError as error:
        raise CommandError(
            f"--key: {error.detail}", "name+id+key, as c2sp.org/signed-note", ExitCode.USAGE
        ) from error


def _place_arguments(parser: argparse.ArgumentParser) -> None:
    check.add_config_argument(parser)
    parser.add_argument("--file", metavar="LOG", type=Path, help="a log file without configuration")


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    _place_arguments(parser)
    parser.add_argument("--door", metavar="DOOR", help="entries of this door only")
    parser.add_argument(
        "--since", metavar="N", type=_count, default=0, help="entries from number N on"
    )
    parser.add_argument("--last", metavar="N", type=_count, help="the last N of these only")


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    _place_arguments(parser)
    parser.add_argument(
        "--key", metavar="VKEY", help="who signed (default with -c: this gateway's log key)"
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text[:20]}' is no number of entries")
    return int(text)


COMMAND: Final = Group(
    name="log",
    summary="show and verify this gateway's log",
    description="The log says what was asked of the doors and what became of it; it names nobody.",
    commands=(
        Command(
            name="show",
            summary="show entries",
            description="""
            Prints entries, oldest first, also while the daemon runs. Times are cut to the minute;
            `~` marks a time that was carried on without confirmation, `?` a time nobody vouched
            for. The order of entries is certain in any case. With --json every entry is one
            line with one JSON object.
            """,
            run=_show,
            arguments=_show_arguments,
            examples=("gatewayd log show --last 20", "gatewayd log show --door street --json"),
        ),
        Command(
            name="verify",
            summary="compute the whole log again and compare",
            description="""
            Hashes every entry again (RFC 9162), compares the tree with what is stored and with
            the last checkpoints that were signed and countersigned, and says in one line whether
            the log is whole. Exit code 1 when it is not. Reads only, also beside the daemon.

            It proves that nothing was altered or removed since the last checkpoint that somebody
            else keeps. It cannot tell what a gateway never wrote.
            """,
            run=_verify,
            arguments=_verify_arguments,
            examples=("gatewayd log verify", "gatewayd log verify --file log.db --json"),
        ),
    ),
)
