"""What the page and the process that runs the steps say to each other: a JSON object per line.

The page is where strangers' bytes arrive, so what it asks for is decoded
strictly: one of these, with these fields, within these bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

MAX_ASKED_BYTES: Final = 128 * 1024
"""An answer to an enrolment has 48 KiB at most, and a third more in JSON."""
MAX_TOLD_BYTES: Final = 8 * 1024 * 1024
"""A report of sixteen doors, each dialled a thousand times."""
MAX_ANSWER_BYTES: Final = 48 * 1024

Door = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")]
Text = Annotated[str, Meta(max_length=200, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
Word = Annotated[str, Meta(max_length=80, pattern=r"\A([A-Za-z0-9/][A-Za-z0-9:./_-]*)?\Z")]


class _Asked(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do"):
    pass


# --- steps that the page asks for: each is a command of the terminal ---------------------------
class Doctor(_Asked, frozen=True, tag="doctor"):
    """Look at the machine."""


class Enrol(_Asked, frozen=True, tag="enrol"):
    """Ask the operator at the claim's broker; without a claim, go on with the last one."""

    claim: Annotated[str, Meta(max_length=2100, pattern=r"\A[A-Za-z0-9\s-]*\Z")] = ""


class WriteRequest(_Asked, frozen=True, tag="request"):
    """The request as a file, for an operator whom only the installer's device can reach."""

    claim: Annotated[str, Meta(max_length=2100, pattern=r"\A[A-Za-z0-9\s-]*\Z")] = ""


class TakeAnswer(_Asked, frozen=True, tag="answer"):
    """What the operator made of that file."""

    data: Annotated[bytes, Meta(min_length=1, max_length=MAX_ANSWER_BYTES)]


class Scan(_Asked, frozen=True, tag="scan"):
    """Which locks are around that belong to nobody."""


class ClaimLock(_Asked, frozen=True, tag="claim-lock"):
    """Without a label: go on with a claim that was cut short."""

    door: Door
    label: Text = ""
    serial: Annotated[int, Meta(ge=0, lt=2**53)] = 0


class ReleaseLock(_Asked, frozen=True, tag="release-lock"):
    """By its label and its button."""

    door: Door
    label: Annotated[Text, Meta(min_length=1)]


class ForgetLock(_Asked, frozen=True, tag="forget-lock"):
    """Here only: the lock is not asked."""

    door: Door


class BindDoor(_Asked, frozen=True, tag="bind-door"):
    """To the lock that was claimed for it, or to a relay."""

    door: Door
    relay: Word = ""
    contact: Word = ""
    pulse_ms: Annotated[int, Meta(ge=50, le=30_000)] | None = None
    active_low: bool = False


class UnbindDoor(_Asked, frozen=True, tag="unbind-door"):
    """Bind it to nothing."""

    door: Door


class TestOpen(_Asked, frozen=True, tag="test-open"):
    """Open it once; leaf: where it stands."""

    __test__ = False

    door: Door
    leaf: Literal["open", "closed"]


class Walk(_Asked, frozen=True, tag="walk"):
    """Dial every lock again and again."""


class Report(_Asked, frozen=True, tag="report"):
    """Write the handover."""


Step = (
    Doctor | Enrol | WriteRequest | TakeAnswer | Scan | ClaimLock | ReleaseLock
    | ForgetLock | BindDoor | UnbindDoor | TestOpen | Walk | Report
)  # fmt: skip


# --- what else it says -------------------------------------------------------------------------
class Stop(_Asked, frozen=True, tag="stop"):
    """End the step that runs, as Ctrl-C would."""


class Noticed(_Asked, frozen=True, tag="noticed"):
    """For the terminal: who came, or failed to."""

    said: Annotated[str, Meta(max_length=200)]


class End(_Asked, frozen=True, tag="end"):
    """The page is off now. why: finished, idle, or strangers at the door."""

    why: Literal["finished", "idle", "guessed"]


Asked = Step | Stop | Noticed | End


# --- what it is told ---------------------------------------------------------------------------
class _Told(Struct, frozen=True, tag_field="told"):
    pass


class Begin(_Told, frozen=True, tag="begin"):
    """The first word. hosts: how browsers may name this page."""

    code: str
    hosts: tuple[str, ...]
    idle_s: float


class Status(Struct, frozen=True):
    """What `gatewayd setup status` says: its document, or why it has none."""

    error: str = ""
    hint: str = ""
    enrolment: str = "nothing"
    configured: bool = False
    gateway: str = ""
    group: str = ""
    complete: bool = False
    doors: tuple[dict[str, Any], ...] = ()
    """As the handover has them."""
    locks: dict[str, dict[str, Any]] = {}
    """What was claimed, by door."""


class State(_Told, frozen=True, tag="state"):
    """After every step, and before the first."""

    status: Status


class Line(_Told, frozen=True, tag="line"):
    """A step says so. number and of: how far it is, where it can tell."""

    text: str
    number: int = 0
    of: int = 0


class Ended(_Told, frozen=True, tag="ended"):
    """A step is over. files: by name, for the installer's device."""

    code: int
    error: str = ""
    hint: str = ""
    document: Any = None
    files: dict[str, bytes] = {}


Told = Begin | State | Line | Ended


# --- the socket --------------------------------------------------------------------------------
_Heard = TypeVar("_Heard")


class Peer(Generic[_Heard]):
    """One end. What does not decode ends the conversation: it is no slip of a person."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: msgspec.json.Decoder[_Heard],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder
        self._encoder = msgspec.json.Encoder()

    def say(self, word: Struct) -> None:
        """Without waiting; after the other end has gone it is lost."""
        self._writer.write(self._encoder.encode(word) + b"\n")

    async def hear(self) -> AsyncIterator[_Heard]:
        """Until the other end goes, or says what nobody can mean."""
        with contextlib.suppress(ConnectionError, ValueError, RecursionError, msgspec.MsgspecError):
            while line := await self._reader.readline():
                yield self._decoder.decode(line)

    async def close(self) -> None:
        """What was said is sent before."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def asking() -> msgspec.json.Decoder[Asked]:
    """What the page may say."""
    return msgspec.json.Decoder(Asked)


def telling() -> msgspec.json.Decoder[Told]:
    """What the page is told."""
    return msgspec.json.Decoder(Told)
