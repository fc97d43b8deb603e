"""What the operator said is to hold: what is held of it, and what of that wins.

Versions are compared per slot (kind, addressee, subject): first by the bundle
serial that introduced the command key, then by the serial in the envelope. So
a thief who signed the highest of serials loses to the next key's first.

What wins of several slots about one thing: what a key said that is still
named goes before what a key said that is not; then what was said to the
gateway before what was said to its group, and that before what was said to
all. A key that goes thus takes nothing with it until its successor has spoken.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.state import State, StateKind

MAX_SLOTS: Final = 64
"""A few per issuer; more than that is a thief's doing."""

_FORMAT: Final = 1


class DamagedRegisterError(ValueError):
    """A stored value is not what `encode` writes."""


class Slot(NamedTuple):
    """Where one state is held."""

    kind: StateKind
    addressee: str
    subject: str

    @property
    def name(self) -> str:
        """For `Memory`: no two slots have the same."""
        return f"state {self.kind.name} {len(self.addressee)} {self.addressee} {self.subject}"


@dataclass(frozen=True, slots=True)
class Held:
    """The newest state of a slot."""

    introduced: int
    """The bundle serial that introduced its signer."""
    signer: bytes
    serial: int
    body: bytes = field(repr=False)

    @property
    def version(self) -> tuple[int, int]:
        """Higher is newer."""
        return self.introduced, self.serial

    def encode(self, slot: Slot) -> bytes:
        """For `Memory`, each slot on its own: a list of kilobytes is not rewritten for a word."""
        fields = (int(slot.kind), slot.addressee, slot.subject)
        return cbor.encode([_FORMAT, *fields, self.introduced, self.signer, self.serial, self.body])

    @classmethod
    def decode(cls, data: bytes) -> tuple[Slot, Held]:
        """What `encode` wrote. DamagedRegisterError for anything else."""
        try:
            match cbor.decode(data):
                case [
                    _, int(kind), str(addressee), str(subject),
                    int(introduced), bytes(signer), int(serial), bytes(body),
                ]:  # fmt: skip
                    slot = Slot(StateKind(kind), addressee, subject)
                    held = cls(int(introduced), signer, int(serial), body)
                case _:
                    raise DamagedRegisterError("other fields")
        except (RemoteProtocolError, ValueError) as error:  # also a kind that there is not
            raise DamagedRegisterError(str(error)) from None
        if held.encode(slot) != data:
            raise DamagedRegisterError("another format")
        return slot, held


@dataclass(frozen=True, slots=True)
class Register:
    """All that is held. Methods return the next register; none changes this one.

    addressees: how we are spoken to, the narrowest first: gateway, group, everybody.
    """

    addressees: tuple[str, ...]
    held: Mapping[Slot, Held] = field(default_factory=dict)

    def with_state(
        self, state: State, *, signer: bytes, introduced: int, named: Collection[bytes]
    ) -> tuple[Slot, Register]:
        """Take a verified state in.

        `named`: ids of the command keys of now; for them, room is made of what others said.

        Raises RemoteProtocolError: UNEXPECTED (for somebody else), REPLAYED
        (no newer than what is held), ID_REUSED (the same serial, another
        body), BUSY (no room).
        """
        if state.addressee not in self.addressees:
            raise _refused(Fault.UNEXPECTED, "for somebody else")
        slot = Slot(state.kind, state.addressee, state.subject)
        new = Held(introduced, signer, state.serial, state.body)
        old = self.held.get(slot)
        if old is not None and new.version <= old.version:
            same = new.version < old.version or new.body == old.body
            fault = Fault.REPLAYED if same else Fault.ID_REUSED
            raise _refused(fault, "no newer than what is held")
        held = {**self.held, slot: new}
        if len(held) > MAX_SLOTS:
            held = {each: said for each, said in held.items() if said.signer in named}
        if len(held) > MAX_SLOTS:
            raise _refused(Fault.BUSY, "no room for another")
        return slot, replace(self, held=held)

    def winner(self, kind: StateKind, subject: str, named: Collection[bytes]) -> Held | None:
        """What holds of this kind and subject; None when nobody said anything."""
        said = [
            (held.signer not in named, level, held)
            for level, addressee in enumerate(self.addressees)
            if (held := self.held.get(Slot(kind, addressee, subject))) is not None
        ]
        return min(said, key=lambda each: each[:2])[2] if said else None

    def subjects(self, kind: StateKind) -> tuple[str, ...]:
        """Of this kind, in alphabetical order."""
        return tuple(sorted({slot.subject for slot in self.held if slot.kind is kind}))


def encode_names(slots: Collection[Slot]) -> bytes:
    """The names under which states are stored, for `Memory`, which cannot list them."""
    return cbor.encode([_FORMAT, sorted(slot.name for slot in slots)])


def decode_names(data: bytes) -> tuple[str, ...]:
    """What `encode_names` wrote. DamagedRegisterError for anything else."""
    try:
        match cbor.decode(data):
            case [1, list(names)]:
                found = tuple(name for name in names if isinstance(name, str))
            case _:
                raise DamagedRegisterError("other fields")
    except RemoteProtocolError as error:
        raise DamagedRegisterError(error.detail) from None
    if cbor.encode([_FORMAT, found]) != data:
        raise DamagedRegisterError("another format")
    return found


def _refused(fault: Fault, detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(fault, f"state: {detail}")
