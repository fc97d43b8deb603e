"""What the key commands share: arguments, now, and the one way to write."""

from __future__ import annotations

import argparse
import difflib
import time
import zoneinfo
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd import keyfiles
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.config.model import Name
from gatewayd.keyfiles import PRIVATE_MODE, PUBLIC_MODE, KeyFileError

DAY_S: Final = 86_400
MOST_DAYS: Final = 3660
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def now_s() -> int:
    """Unix time, as the operator's machine believes it."""
    return int(time.time())  # noqa: TID251 - a command at a keyboard is an edge


def shown_time(time_s: int) -> str:
    """ISO 8601 in UTC; Unix seconds for what no calendar shows."""
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{time_s} s after 1970"


def parse_time(text: str) -> int:
    """Unix seconds of an ISO 8601 moment with its zone, as argparse types go."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no time as 2026-08-01T12:00Z") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"'{text}' has no zone: add Z or +02:00")
    if moment.timestamp() < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is before 1970")
    return int(moment.timestamp())


def positive(text: str) -> int:
    """A whole number above zero, as argparse types go."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text[:20]}' is no whole number above zero")
    return int(text)


def days(text: str) -> int:
    """As `max_lifetime_days` of the trust bundle."""
    number = positive(text)
    if number > MOST_DAYS:
        raise argparse.ArgumentTypeError(f"'{text[:20]}' is more than {MOST_DAYS} days")
    return number


def name(text: str) -> str:
    """The name of a gateway or a door, as its configuration takes it."""
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        raise argparse.ArgumentTypeError(
            f"'{text[:60]}' is no name: at most 32 letters, digits and . _ -"
        ) from None


def zone(text: str) -> str:
    """A time zone that gateways know."""
    known = zoneinfo.available_timezones()
    if text in known:
        return text
    near = difflib.get_close_matches(text, known, n=1)
    raise argparse.ArgumentTypeError(
        f"there is no time zone '{text[:60]}'" + (f"; did you mean '{near[0]}'?" if near else "")
    )


@contextmanager
def files_are_arguments() -> Iterator[None]:
    """What is wrong with a file is wrong with the command line that named it."""
    try:
        yield
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None


def read_signer(path: Path, what: str) -> ec.EllipticCurvePrivateKey:
    """A private key that signs."""
    with files_are_arguments():
        return keyfiles.read_p256_private(path, what, "gatewayd keys make --help")


def write(
    output: Output, private: Mapping[Path, bytes], public: Mapping[Path, bytes] | None = None
) -> None:
    """Create every file or none, and say which."""
    public = public or {}
    with files_are_arguments():
        keyfiles.create_files(private, mode=PRIVATE_MODE)
        try:
            keyfiles.create_files(public, mode=PUBLIC_MODE)
        except KeyFileError:
            for path in private:
                path.unlink()
            raise
    for path in private:
        output.line(f"wrote {path} (private: keep it to yourself)")
    for path in public:
        output.line(f"wrote {path}")
    output.document({"written": [str(path) for path in (*private, *public)]})
