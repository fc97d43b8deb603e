"""The cloud pulls the log: what is said, and what the cloud checks before it keeps anything.

The log itself is the outbox. `Pull` asks for leaves from a size on; a `Batch`
brings them with a checkpoint of exactly the size where they end and a proof
that this extends what was pulled before; `Ack` returns the checkpoint with the
cloud's cosignature, and only that moves the cursor.

A batch is a COSE_Sign1 by the gateway's log key over the request it answers, so
that no broker can make up, repeat or redirect one. What is wrong with a batch
that bears this signature is the gateway's own doing, hence an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import checkpoint as notes
from gatewayd.core.audit import Leaf
from gatewayd.core.checkpoint import Checkpoint, Verifier
from gatewayd.core.merkle import HASH_BYTES, CompactRange, leaf_hash, verify_consistency

MIN_BATCH_BYTES: Final = 1024
MAX_BATCH_BYTES: Final = 64 * 1024
"""Bounds on the leaves of one batch; every broker takes a message of this size."""

MAX_SEALED_BYTES: Final = 2 * MAX_BATCH_BYTES
"""Leaves, checkpoint, proof, signature and sealing, with room to spare."""

_FORMAT: Final = 1
_MAX_SIZE: Final = 2**63 - 1
_BATCH_LABEL: Final = "gatewayd pull batch"


# --- orders ---------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Pull:
    """Send the leaves from number `from_size` on, at most about `max_bytes` of them."""

    from_size: int
    max_bytes: int

    def body(self) -> list[cbor.Value]:
        """For `envelope.Statement.body`."""
        return [self.from_size, self.max_bytes]

    @classmethod
    def of(cls, body: cbor.Value) -> Pull:
        """The order in a body. RemoteProtocolError (MALFORMED) when it is none."""
        match body:
            case [int(from_size), int(max_bytes)]:
                return cls(_size(from_size), _size(max_bytes))
            case _:
                raise _malformed("not a pull order")

    @property
    def leaf_bytes(self) -> int:
        """What the gateway grants of `max_bytes`."""
        return max(MIN_BATCH_BYTES, min(MAX_BATCH_BYTES, self.max_bytes))


@dataclass(frozen=True, slots=True)
class Ack:
    """The cloud keeps the first `upto` leaves for good; `note` is its cosigned checkpoint."""

    upto: int
    note: bytes

    def body(self) -> list[cbor.Value]:
        """For `envelope.Statement.body`."""
        return [self.upto, self.note]

    @classmethod
    def of(cls, body: cbor.Value) -> Ack:
        """The order in a body. RemoteProtocolError (MALFORMED) when it is none."""
        match body:
            case [int(upto), bytes(note)]:
                return cls(_size(upto), note)
            case _:
                raise _malformed("not an acknowledgement")

    def verify(self, log: Verifier, witnesses: Sequence[Verifier]) -> Checkpoint:
        """The checkpoint that is acknowledged: one that this gateway itself signed.

        Without `witnesses` the signature of the order stands for the cloud.
        RemoteProtocolError when the log or none of the witnesses signed it, or
        when it is of another log or size.
        """
        checkpoint = notes.verify(self.note, log)
        if checkpoint.origin != log.name or checkpoint.size != self.upto:
            raise _malformed("the checkpoint is of another log or size")
        if witnesses and not any(_cosigned(self.note, each) for each in witnesses):
            raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "no witness cosigned it")
        return checkpoint


def _cosigned(note: bytes, witness: Verifier) -> bool:
    try:
        notes.verify_cosignature(note, witness)
    except RemoteProtocolError:
        return False
    return True


# --- batches ----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Batch:
    """Leaves `from_size` to `from_size + len(leaves)`, and what proves them."""

    request: bytes
    """Id of the order that this answers."""
    from_size: int
    log_size: int
    """Entries in the log when this was made: how much is left to pull."""
    leaves: tuple[bytes, ...]
    checkpoint: bytes
    """Signed note at the size where the leaves end."""
    consistency: tuple[bytes, ...]

    def sign(self, origin: str, log_key: Ed25519PrivateKey) -> bytes:
        """The batch as it is sealed."""
        payload = cbor.encode(
            [
                _FORMAT,
                self.request,
                self.from_size,
                self.log_size,
                self.leaves,
                self.checkpoint,
                self.consistency,
            ]
        )
        return cose.sign1(payload, log_key, protected={}, external_aad=_aad(origin))

    @classmethod
    def open(cls, data: bytes, log: Verifier, request: bytes) -> Batch:
        """Read a batch that this log signed in answer to `request`.

        RemoteProtocolError for everything else: anybody at the broker may have
        sent it, so it is to be ignored.
        """
        signed = cose.Sign1.parse(data)
        signed.verify(Ed25519PublicKey.from_public_bytes(log.key), external_aad=_aad(log.name))
        match cbor.decode(signed.payload):
            case [
                int(version),
                bytes(answered),
                int(from_size),
                int(log_size),
                list(leaves),
                bytes(checkpoint),
                list(consistency),
            ] if version == _FORMAT and version is not True:
                batch = cls(
                    request=answered,
                    from_size=_size(from_size),
                    log_size=_size(log_size),
                    leaves=_byte_strings(leaves),
                    checkpoint=checkpoint,
                    consistency=_byte_strings(consistency),
                )
            case _:
                raise _malformed("not a batch")
        if batch.request != request:
            raise RemoteProtocolError(Fault.REPLAYED, "the answer to another order")
        return batch


def seal_info(origin: str, request: bytes) -> bytes:
    """The HPKE `info` of a batch: it opens for this log and this order only."""
    return cbor.encode([_BATCH_LABEL, origin, request])


# --- what the cloud checks --------------------------------------------------------
def hash_of(leaf: bytes) -> bytes:
    """The hash of a leaf, which is all that there is of one that was erased."""
    return leaf if len(leaf) == HASH_BYTES else leaf_hash(leaf)


class Alarm(Enum):
    """What a gateway did that an honest one, kept well, does not do."""

    ROLLED_BACK = "the log is shorter than what was pulled before"
    FORKED = "the log has another past than what was pulled before"
    ALTERED = "the entries are not those that the signed root stands for"
    GAP = "an entry does not bear the number of its place"
    UNPROVEN = "the checkpoint is missing, or of another log or size"


class LogAlarmError(Exception):
    """A batch signed by the gateway proves that something is wrong; nothing of it is kept.

    `note` is the checkpoint it came with, as evidence.
    """

    def __init__(self, alarm: Alarm, note: bytes) -> None:
        super().__init__(alarm.value)
        self.alarm = alarm
        self.note = note


@dataclass(frozen=True, slots=True)
class Verified:
    """Leaves that may be kept, and what then is held of the log."""

    leaves: tuple[bytes, ...]
    held: CompactRange
    checkpoint: Checkpoint
    unreadable: tuple[int, ...]
    """Numbers of leaves that a newer gateway wrote: kept as they are, they block nothing."""
    erased: tuple[int, ...] = ()
    """Numbers of leaves that were erased before this: only their hashes came."""


def verify_batch(batch: Batch, held: CompactRange, log: Verifier) -> Verified:
    """Check a batch against what is held of the log. LogAlarmError when it does not fit."""
    checkpoint = _checkpoint_of(batch, log)
    if checkpoint.size < held.size:
        raise LogAlarmError(Alarm.ROLLED_BACK, batch.checkpoint)
    if batch.from_size != held.size or checkpoint.size != held.size + len(batch.leaves):
        raise LogAlarmError(Alarm.UNPROVEN, batch.checkpoint)
    _check_extends(batch, checkpoint, held)
    grown, unreadable, erased = held, [], []
    for seq, leaf in enumerate(batch.leaves, held.size):
        if len(leaf) == HASH_BYTES:
            erased.append(seq)
        elif not _is_readable(leaf, seq, batch):
            unreadable.append(seq)
        grown, _ = grown.append(hash_of(leaf))
    if grown.root() != checkpoint.root:
        raise LogAlarmError(Alarm.ALTERED, batch.checkpoint)
    return Verified(batch.leaves, grown, checkpoint, tuple(unreadable), tuple(erased))


def _checkpoint_of(batch: Batch, log: Verifier) -> Checkpoint:
    try:
        checkpoint = notes.verify(batch.checkpoint, log)
    except RemoteProtocolError as error:
        raise LogAlarmError(Alarm.UNPROVEN, batch.checkpoint) from error
    if checkpoint.origin != log.name:
        raise LogAlarmError(Alarm.UNPROVEN, batch.checkpoint)
    return checkpoint


def _check_extends(batch: Batch, checkpoint: Checkpoint, held: CompactRange) -> None:
    if held.size == 0:
        return  # everything extends the empty log
    try:
        verify_consistency(
            held.size, checkpoint.size, held.root(), checkpoint.root, batch.consistency
        )
    except RemoteProtocolError as error:
        raise LogAlarmError(Alarm.FORKED, batch.checkpoint) from error


def _is_readable(leaf: bytes, seq: int, batch: Batch) -> bool:
    try:
        number = Leaf.decode(leaf).seq
    except RemoteProtocolError:
        return False
    if number != seq:
        raise LogAlarmError(Alarm.GAP, batch.checkpoint)
    return True


# --- parsing ------------------------------------------------------------------------
def _aad(origin: str) -> bytes:
    return cbor.encode([_BATCH_LABEL, origin])


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, detail)


def _size(value: int) -> int:
    # bool is a subclass of int, and True is not a number here
    if value is True or value is False or not 0 <= value <= _MAX_SIZE:
        raise _malformed("not a size")
    return value


def _byte_strings(values: list[cbor.Value]) -> tuple[bytes, ...]:
    strings = tuple(value for value in values if isinstance(value, bytes))
    if len(strings) != len(values):
        raise _malformed("not byte strings")
    return strings
