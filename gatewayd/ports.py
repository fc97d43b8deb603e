"""What the daemon needs of the outside, seven methods each at most.

An adapter implements a port; only composition roots choose which. Every error a
port may raise says what it implies about delivery.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import Reason
from gatewayd.core.erasure import Erased, Run
from gatewayd.core.model import Asked, Command, CommandId, Fact, Instant, PastRequest, Verdict
from gatewayd.core.reserve import Reserved

if TYPE_CHECKING:  # the doctor's; a daemon that runs does without them
    from gatewayd.core.diagnosis_bluez import Settings, Versions
    from gatewayd.core.diagnosis_host import Access, Disk, Journal
    from gatewayd.core.diagnosis_host import Clock as ClockChips
    from gatewayd.core.diagnosis_radio import Bluetooth


class PortError(Exception):
    """Something outside failed. `remedy`: what a person can do, in one line; may be empty.

    `may_have_happened`: the other side may have acted all the same.
    """

    may_have_happened = False

    def __init__(self, why: str = "", remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


class LinkClosedError(PortError):
    """The connection is gone. What was written last may or may not have arrived."""

    may_have_happened = True


class RadioError(PortError):
    """No connection came about; nothing was sent."""


class StorageError(PortError):
    """The entry does not exist: disk full, read-only or I/O error (`reason`).

    `late`: it took too long (LOG_SLOW) and is still being written; then this
    tells when that has ended, and only a failure of it says that nothing exists.
    """

    def __init__(
        self,
        why: str = "",
        remedy: str = "",
        *,
        reason: Reason = Reason.LOG_UNAVAILABLE,
        late: Future[Any] | None = None,
    ) -> None:
        super().__init__(why, remedy)
        self.reason = reason
        self.late = late


class UpstreamError(PortError):
    """The broker is away; nothing is lost, because the log itself is the outbox."""


# --- radio: both ends of both relations use the same three ports --------------
class Link(Protocol):
    """One connection, carrying whole fragments in order in both directions."""

    @property
    def mtu(self) -> int:
        """The ATT MTU now in force (23..517); a fragment holds at most mtu - 3 bytes."""
        ...

    async def read(self) -> bytes:
        """The next fragment. LinkClosedError when the connection is gone."""
        ...

    async def write(self, fragment: bytes) -> None:
        """Hand one fragment to the radio. LinkClosedError when the connection is gone.

        Its `may_have_happened` is False where nothing of the fragment was handed over.
        """
        ...

    async def close(self) -> None:
        """Disconnect; harmless when already disconnected."""
        ...


class Peripheral(Protocol):
    """The advertising side: a gateway towards phones, a lock towards gateways."""

    async def accept(self) -> Link:
        """The next central that connected and subscribed.

        The adapter holds at most `MAX_MESSAGE_BYTES` unread per link and drops
        the link beyond that.
        """
        ...


class Central(Protocol):
    """The dialling side: a phone towards gateways, a gateway towards locks."""

    async def dial(self, address: str) -> Link:
        """Connect, exchange the MTU, find the service, subscribe. RadioError when that fails."""
        ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """An advertiser of a relation's service. Its name is unproved, and often empty.

    strength_dbm: None where the radio does not say.
    """

    address: str
    strength_dbm: int | None
    name: str = ""


class Lookout(Central, Protocol):
    """A phone's dialling side, which also looks around."""

    async def scan(self, seconds: float) -> Sequence[str]:
        """Addresses advertising this relation's service, strongest first."""
        ...

    async def look(
        self, seconds: float, heard: Callable[[Sighting], None] = lambda _: None
    ) -> Sequence[Sighting]:
        """Who advertises this relation's service, strongest first. `heard` sees each at once."""
        ...


class RadioHelper(Protocol):
    """What a radio can do only for a privileged process. Addresses as F0:F1:F2:F3:F4:F5."""

    async def strength_dbm(self, adapter: str, peer: str, *, public: bool) -> int | None:
        """RSSI of a connected peer, None when it is not connected. RadioError otherwise.

        `public` says of which kind the peer's address is. For people and for
        convenience only: signal strength is no proof of nearness.
        """
        ...

    async def restart(self, adapter: str) -> None:
        """Switch an adapter off and on, which ends every connection. RadioError when it fails."""
        ...


# --- one door's actuator --------------------------------------------------------
class Lock(Protocol):
    """A lock or relay as a door sees it; speaks no bytes."""

    async def prepare(self) -> None:
        """Be ready to command without delay. RadioError when the lock cannot be reached."""
        ...

    async def unlatch(self, command: CommandId, duration_ms: int) -> Verdict:
        """Open. Never raises for what the lock or the radio does: silence is UNKNOWN."""
        ...

    async def result_of(self, command: CommandId) -> Verdict | None:
        """What became of a command; None while the lock cannot be asked."""
        ...

    async def close(self) -> None:
        """Let the link go."""
        ...


# --- the log --------------------------------------------------------------------
class AuditLog(Protocol):
    """The door's side of the log. Durable when a call returns."""

    async def append(
        self,
        fact: Fact,
        *,
        command: Command | None = None,
        asked: Asked | None = None,
        settles: CommandId | None = None,
    ) -> int:
        """Write one entry and return its seq; StorageError means that the entry does not exist.

        In the same transaction `command` is stored, `asked` is remembered (again,
        when it was before), and `settles` gets the verdict of `fact`.
        """
        ...

    async def past_request(self, request_key: bytes) -> PastRequest | None:
        """What became of a request; forgotten after 24 hours."""
        ...

    async def unsettled(self) -> Sequence[Command]:
        """Commands recorded but without outcome: the daemon stopped in between."""
        ...

    async def unresolved(self) -> Sequence[Command]:
        """Commands whose outcome is UNKNOWN and whose lock has not been asked since."""
        ...

    async def merge(self, records: Sequence[Reserved], upto: int, gap: Fact | None = None) -> None:
        """Take entries over from the reserve, then write `gap`; all or nothing.

        In the same transaction the log remembers that it has every number up to
        `upto`. What it has already is passed over: by number, and where a command is
        recorded or settled, or a request known. Takes as long as it takes.
        """
        ...


class Erasing(Protocol):
    """The log's side of being forgotten."""

    async def erase(self, order: bytes, runs: Sequence[Run], fact: Fact) -> Erased:
        """Take the bodies of these entries away, as far as they are of `erasure.ERASABLE` kinds.

        In the same transaction `fact` is written, with their number as what it is about,
        and the order's id remembered: the same order again changes nothing. ValueError for
        entries that the cloud has not said it keeps. Proofs verify as before.
        """
        ...


class Reserve(Protocol):
    """Room that was set aside for entries while the log takes none; see `core.reserve`."""

    async def read(self) -> Sequence[bytes]:
        """Every slot."""
        ...

    async def write(self, slot: int, data: bytes) -> None:
        """Durable when this returns; StorageError after half a second at most."""
        ...

    async def clear(self) -> None:
        """Forget them all."""
        ...


class LogReader(Protocol):
    """The uplink's side of the same log: reads, and the cursor."""

    async def size(self) -> int:
        """Number of entries."""
        ...

    async def leaves(self, start: int, max_bytes: int) -> Sequence[bytes]:
        """Encoded leaves from `start` on, at most `max_bytes` in all, but at least one if any.

        Of what was erased only the leaf's hash is there; no leaf is as short.
        """
        ...

    async def root(self, size: int) -> bytes:
        """RFC 9162 root over the first `size` entries."""
        ...

    async def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """RFC 9162 §2.1.4 proof."""
        ...

    async def acknowledged(self) -> int:
        """How many entries the cloud has said it keeps."""
        ...

    async def acknowledge(self, upto: int) -> int:
        """Raise the cursor to max(cursor, upto), never above the size; returns the cursor."""
        ...


# --- the machine, as `gatewayd doctor` looks at it --------------------------------
class NotSeenError(PortError):
    """It could not be looked at; `remedy` says how it can be."""


class Machine(Protocol):
    """Looks, and changes nothing but a small file of its own. NotSeenError wherever it cannot."""

    async def versions(self) -> Versions:
        """Of the kernel and of the bluetoothd that runs, or else is installed."""
        ...

    async def settings(self) -> Settings:
        """What bluetoothd was told."""
        ...

    async def bluetooth(self) -> Bluetooth:
        """Adapters, and who uses them."""
        ...

    async def clock(self, *, promised: bool | None) -> ClockChips:
        """The clocks that outlive a power cut; `promised` is handed on."""
        ...

    async def disk(self, state: Path, *, writing: bool = True) -> Disk:
        """The disk under the log's directory, or under the nearest parent that exists.

        `writing`: also how long it takes to keep something.
        """
        ...

    async def journal(self) -> Journal:
        """Where journald writes."""
        ...

    async def unit(self) -> Mapping[str, tuple[str, ...]]:
        """The service settings of the daemon's unit; see `diagnosis_unit.Settings`."""
        ...

    async def access(self, state: Path) -> Access:
        """Users, policies, and whose the log's directory is."""
        ...


# --- time, chance, supervision ----------------------------------------------------
class Clock(Protocol):
    """All the clocks at once."""

    def instant(self) -> Instant:
        """Read them."""
        ...


class Entropy(Protocol):
    """Chance, drawn only at the edge."""

    def token_bytes(self, count: int) -> bytes:
        """`count` bytes that nobody can guess."""
        ...

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """A fresh P-256 key for one handshake."""
        ...

    def fraction(self) -> float:
        """A number in [0, 1), for jitter."""
        ...


class Memory(Protocol):
    """Small durable values (time floor, anchors), each replaced whole."""

    async def load(self, name: str) -> bytes | None:
        """The value, or None when never stored."""
        ...

    async def store(self, name: str, value: bytes) -> None:
        """Durable when this returns. StorageError otherwise."""
        ...


class Supervisor(Protocol):
    """systemd, or nobody."""

    def ready(self) -> None:
        """Phones are being served."""
        ...

    def status(self, text: str) -> None:
        """One line for people."""
        ...

    def alive(self) -> None:
        """Every named task has shown life."""
        ...

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        ...


class Pulse(Protocol):
    """How one long-running task shows that it is not hung; see `core.heartbeat`."""

    def beat(self, within_s: float) -> None:
        """I live; unless you hear of me within so many seconds, I hang."""
        ...

    def waits(self) -> None:
        """I live, and wait for somebody outside, for as long as it takes.

        Only before an await that cannot be stuck: a queue, an event, a stream.
        """
        ...

    def part(self, name: str) -> Pulse:
        """The pulse of a task within this task. It waits until it says otherwise."""
        ...


class Upstream(Protocol):
    """A connected session with the broker."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Returns when the broker acknowledged (QoS 1). UpstreamError otherwise."""
        ...

    async def receive(self) -> tuple[str, bytes]:
        """The next message on the subscribed topics. UpstreamError when the session is gone."""
        ...
