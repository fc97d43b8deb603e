"""What a gateway says of itself to its operator: the retained status, as JSON. Never of persons.

Both sides use these types: the gateway writes them, the operator's side reads
them strictly, for whatever the broker retains may be a stranger's. The
descriptions are the schema, docs/status.md. What is not known is left out.

Numbers that grow when somebody comes to the door are cut to powers of two, so
that a status is not published, and nobody's coming is not told, each time.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError

MAX_STATUS_BYTES: Final = 8192
"""Of one status, whoever writes it."""
MAX_LOCKS: Final = 128
MAX_LISTS: Final = 32
MAX_STATES: Final = 64
MAX_HOLES: Final = 64
MAX_COUNT: Final = 2**53 - 1
"""What every reader of JSON can still tell from its neighbours (RFC 8259 section 6)."""

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z"
_WORD: Final = r"^[a-z][a-z_]{0,31}\Z"

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""One that the operator gave: it may be beyond what every reader can tell."""
Percent = Annotated[int, Meta(ge=0, le=100)]
Text = Annotated[str, Meta(max_length=64)]
Word = Annotated[str, Meta(pattern=_WORD)]
Name = Annotated[str, Meta(pattern=_NAME)]


class LockStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One door's lock or relay, under `locks` by the door's name."""

    troubles: Annotated[
        tuple[Word, ...], Meta(max_length=16, description="what stands now: see operator.md")
    ] = ()
    reached: Annotated[
        bool | None,
        Meta(description="whether the last dial found the lock, or the relay's line can be had"),
    ] = None
    model: Annotated[Text, Meta(description="as the lock says")] = ""
    firmware: Annotated[Text, Meta(description="as the lock says")] = ""
    heard_days: Annotated[
        Count | None, Meta(description="whole days since it last told its state")
    ] = None
    battery_percent: Annotated[
        Percent | None,
        Meta(description="as of when it last came five percent up or down, or became low"),
    ] = None
    battery_mv: Annotated[Count | None, Meta(description="at the same moment")] = None
    rssi_dbm: Annotated[
        Annotated[int, Meta(ge=-127, le=20)] | None,
        Meta(description="how strongly the lock was received when it was last dialled, cut to 5"),
    ] = None


class StorageStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The disk under the log, looked at when the daemon starts and every hour."""

    free_percent: Annotated[Percent | None, Meta(description="room left, in percent")] = None
    free_mb: Annotated[
        Count | None, Meta(description="room left in MB of 10^6 bytes, cut to a power of two")
    ] = None
    kept: Annotated[
        bool | None,
        Meta(description="whether the last look's random number was written and read back"),
    ] = None
    read_only: Annotated[bool, Meta(description="mounted read-only")] = False
    written_gb: Annotated[
        Count | None, Meta(description="written to it since the machine started, in 10^9 bytes")
    ] = None
    own_mb: Annotated[
        Count | None,
        Meta(description="of this, what gatewayd wrote since it started, in MB; a power of two"),
    ] = None
    log: Annotated[Word, Meta(description="ok, or why the log takes nothing now")] = "ok"
    log_troubles: Annotated[
        Count, Meta(description="how often the log failed since gatewayd started")
    ] = 0
    missing: Annotated[
        Count, Meta(description="entries that found no place yet; a GAP entry will say so")
    ] = 0
    unrecorded: Annotated[
        Count, Meta(description="emergencies that opened and are recorded nowhere")
    ] = 0
    life_used_percent: Annotated[
        Annotated[int, Meta(ge=0, le=110)] | None,
        Meta(description="what eMMC says of its wear, in steps of 10; SD cards do not say"),
    ] = None


class ListStatus(Struct, frozen=True, kw_only=True):
    """One status list that is held."""

    issuer: Annotated[str, Meta(max_length=64, description="who signed it")]
    uri: Annotated[str, Meta(max_length=256, description="its name")]
    issued_at: Annotated[int, Meta(ge=0, le=MAX_COUNT, description="when, in Unix seconds")]


class OperatorStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the operator has said, as far as it arrived: see envelopes.md."""

    states: Annotated[
        dict[Annotated[str, Meta(max_length=160)], Number],
        Meta(
            max_length=MAX_STATES,
            description="the serial of each state that is kept, by `kind addressee subject`",
        ),
    ] = msgspec.field(default_factory=dict)
    states_left_out: Annotated[Count, Meta(description="those that found no place")] = 0
    orders: Annotated[Number, Meta(description="the highest number of an order")] = 0
    orders_missing: Annotated[
        tuple[tuple[Number, Number], ...],
        Meta(
            max_length=MAX_HOLES,
            description="runs of numbers that were passed over: first and last of each",
        ),
    ] = ()
    unconfirmed: Annotated[
        tuple[Name, ...],
        Meta(
            max_length=MAX_LOCKS,
            description="doors bound on site, which end within a week unless bindings are stated",
        ),
    ] = ()


class Status(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole of it."""

    online: Annotated[bool, Meta(description="false: the broker's word, when the session ended")]
    version: Annotated[Text, Meta(description="of gatewayd")] = ""
    kernel: Annotated[Text, Meta(description="of Linux")] = ""
    bluez: Annotated[Text, Meta(description="of bluetoothd")] = ""
    slot: Annotated[
        Text, Meta(description="which of two systems was started, where an updater names it")
    ] = ""
    clock: Annotated[
        Literal["trusted", "holdover", "unknown"] | None, Meta(description="how sure the time is")
    ] = None
    trust_serial: Annotated[Number | None, Meta(description="of the trust bundle that counts")] = (
        None
    )
    credential: Annotated[
        tuple[Number, Number] | None,
        Meta(description="from when to when our credential is valid, in Unix seconds"),
    ] = None
    certificate: Annotated[
        tuple[Number, Number] | None,
        Meta(description="likewise our certificate towards the broker, as far as it can be read"),
    ] = None
    unpulled_days: Annotated[
        Count | None,
        Meta(description="whole days that the oldest entry waits for the cloud; looked at hourly"),
    ] = None
    other_log: Annotated[
        bool,
        Meta(description="the cloud keeps what we signed over another log: see replace.md"),
    ] = False
    strangers: Annotated[
        Count, Meta(description="phones refused without a key since the start; a power of two")
    ] = 0
    faults: Annotated[
        Count, Meta(description="talks that ended by a fault of ours; a power of two")
    ] = 0
    radio: Annotated[Text, Meta(description="BlueZ: what phones can expect now")] = ""
    radio_both_roles: Annotated[
        bool | None, Meta(description="BlueZ: whether the adapter serves and dials at once")
    ] = None
    radio_losses: Annotated[
        Count, Meta(description="BlueZ: what was lost and had to be had again; a power of two")
    ] = 0
    radio_sent_away: Annotated[
        Count, Meta(description="BlueZ: phones that said nothing, or were too many; likewise")
    ] = 0
    radio_repairs: Annotated[
        Count, Meta(description="BlueZ: steps of the recovery ladder; a power of two")
    ] = 0
    storage: StorageStatus | None = None
    operator: OperatorStatus | None = None
    lists: Annotated[tuple[ListStatus, ...], Meta(max_length=MAX_LISTS)] = ()
    lists_left_out: Annotated[
        Count, Meta(description="status lists that found no place; the oldest come first")
    ] = 0
    locks: Annotated[dict[Name, LockStatus], Meta(max_length=MAX_LOCKS)] = msgspec.field(
        default_factory=dict
    )
    locks_left_out: Annotated[
        Count, Meta(description="doors that found no place; those with troubles come first")
    ] = 0


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final = msgspec.json.Decoder(Status)


def encode(status: Status) -> bytes:
    """The status as it is published: at most MAX_STATUS_BYTES.

    What does not fit is left out: lists first, then the operator's states, then locks.
    """
    most = {"lists": MAX_LISTS, "states": MAX_STATES, "locks": MAX_LOCKS}
    while True:
        data = _encoder.encode(_cut(status, **most))
        crowded = [name for name, count in most.items() if count]
        if len(data) <= MAX_STATUS_BYTES or not crowded:
            return data
        most[crowded[0]] = most[crowded[0]] * 3 // 4


def _cut(status: Status, *, lists: int, states: int, locks: int) -> Status:
    """With so many of each at most, those first that want looking after."""
    doors = sorted(status.locks, key=lambda door: (not status.locks[door].troubles, door))[:locks]
    oldest = sorted(status.lists, key=lambda each: (each.issued_at, each.issuer, each.uri))[:lists]
    return msgspec.structs.replace(
        status,
        operator=None if status.operator is None else _cut_operator(status.operator, states),
        lists=tuple(oldest),
        lists_left_out=status.lists_left_out + len(status.lists) - len(oldest),
        locks={door: status.locks[door] for door in doors},
        locks_left_out=status.locks_left_out + len(status.locks) - len(doors),
    )


def _cut_operator(said: OperatorStatus, states: int) -> OperatorStatus:
    names = sorted(said.states)[:states]
    return msgspec.structs.replace(
        said,
        states={name: said.states[name] for name in names},
        states_left_out=said.states_left_out + len(said.states) - len(names),
        orders_missing=said.orders_missing[:MAX_HOLES],
        unconfirmed=said.unconfirmed[:MAX_LOCKS],
    )


def decode(payload: bytes) -> Status:
    """Read what anybody may have published. What a newer gateway adds is passed over.

    RemoteProtocolError: MALFORMED.
    """
    if len(payload) > MAX_STATUS_BYTES:
        raise RemoteProtocolError(Fault.MALFORMED, "a status longer than any is")
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(Fault.MALFORMED, f"not a status: {error}") from None


def coarse(count: int) -> int:
    """The greatest power of two that is not greater: it changes a few times, however much comes."""
    return 1 << count.bit_length() - 1 if count else 0
