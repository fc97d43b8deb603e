"""How one trust bundle follows another: the chain from the one installed to the newest.

Each bundle is signed by a root that the bundle before it names, or by the
recovery key, and its serial is exactly one more. A courier carries the whole
chain, so it does not matter how many were missed. Nothing goes back: a chain
that ends before ours, or differs from it, changes nothing.

One exception: a thief with a root key can sign bundles of his own, and some
gateways take them. So what the recovery key signed replaces what a root key
signed under the same serial, provided that the chain ends later than ours. A
root cannot name another recovery key, hence a thief cannot prevent it.

Bundles are compared by what was signed: an ECDSA signature can be written anew
by anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.cose import Sign1, VerifyingKey, key_id
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.trust import (
    Role,
    Trust,
    decode_payload,
    parse_bundle,
    serial_of,
    signed_by,
    unverified_bundle,
    verify_bundle,
)

MAX_CHAIN_BYTES: Final = 56 * 1024
"""What a broker's message takes with room to spare. Older links are let go of beyond it."""
MAX_LINKS: Final = 64

_FORMAT: Final = 1


class DamagedChainError(ValueError):
    """The stored value is not what `Chain.encode` writes."""


@dataclass(frozen=True, slots=True)
class Link:
    """One bundle, believed."""

    data: bytes
    trust: Trust
    recovered: bool
    """The recovery key signed it."""
    introduced: Mapping[bytes, int]
    """Since which serial each command key, by its id, has been named without a break."""

    @property
    def payload(self) -> bytes:
        """What was signed."""
        return Sign1.parse(self.data).payload


@dataclass(frozen=True, slots=True)
class Chain:
    """Links with ascending serials, without gaps; at least one."""

    links: tuple[Link, ...]

    @classmethod
    def anchored(
        cls, data: bytes, root: VerifyingKey, known: Mapping[bytes, int] | None = None
    ) -> Chain:
        """Begin with a bundle that was installed by hand, beside its root key.

        `known`: what an earlier chain knew of command keys; a key that it knew
        is no newer for having been installed again.

        Raises RemoteProtocolError as `verify_bundle`.
        """
        return cls((_link(data, verify_bundle(data, root), False, known or {}),))

    @property
    def newest(self) -> Link:
        """The one that counts."""
        return self.links[-1]

    @property
    def trust(self) -> Trust:
        """Whom to believe now."""
        return self.newest.trust

    @property
    def bundles(self) -> tuple[bytes, ...]:
        """As a courier carries them."""
        return tuple(link.data for link in self.links)

    def extended(self, bundles: Sequence[bytes]) -> Chain:
        """This chain with what follows in `bundles`; the same object when there is nothing new.

        `bundles` may begin with any number of bundles that are held already.

        Raises RemoteProtocolError: MALFORMED, AUTHENTICATION_FAILED (a step
        that nobody may sign), OUT_OF_ORDER (a serial is missing), REPLAYED (it
        ends before ours), ID_REUSED (it differs from ours without right).
        """
        # Nothing that costs more than a hash is done for bundles that nobody signed.
        parsed = [(data, parse_bundle(data)) for data in bundles]
        serials = [serial_of(signed.payload) for _, signed in parsed]
        if not serials or serials != list(range(serials[0], serials[0] + len(serials))):
            raise _refused(Fault.OUT_OF_ORDER, "a bundle is missing in between")
        if serials[0] > self.trust.serial + 1:
            raise _refused(Fault.OUT_OF_ORDER, "bundles between ours and these are missing")
        if serials[-1] < self.trust.serial:
            raise _refused(Fault.REPLAYED, "it ends before the bundle that is held")
        grown = self
        for serial, (data, signed) in zip(serials, parsed, strict=True):
            grown = grown._with(serial, data, signed)
        if grown is not self and grown.trust.serial <= self.trust.serial:
            raise _refused(Fault.ID_REUSED, "another past than ours, and no longer")
        return _shortened(grown)

    def _with(self, serial: int, data: bytes, signed: Sign1) -> Chain:
        """One more, or instead of one that no recovery key signed, or already there."""
        place = serial - self.links[0].trust.serial
        if place < 0:
            return self  # before all that we know: nobody can say
        if place < len(self.links) and self.links[place].payload == signed.payload:
            return self
        if place == 0:
            raise _refused(Fault.ID_REUSED, "another bundle than the one that was installed")
        before = self.links[place - 1]
        trust, recovered = check_step(before.trust, signed)
        if place < len(self.links) and (not recovered or self.links[place].recovered):
            raise _refused(Fault.ID_REUSED, "two bundles with one serial")
        return Chain((*self.links[:place], _link(data, trust, recovered, before.introduced)))

    # --- storing ---------------------------------------------------------------------
    def encode(self) -> bytes:
        """For `Memory`."""
        first = self.links[0]
        return cbor.encode([_FORMAT, first.recovered, first.introduced, self.bundles])

    @classmethod
    def decode(cls, data: bytes) -> Chain:
        """What `encode` wrote; signatures of all but the first link are verified again.

        DamagedChainError for anything else.
        """
        try:
            match cbor.decode(data):
                case [_, bool(recovered), dict(table), [bytes(first), *others]]:
                    _, trust = unverified_bundle(first)
                    introduced = {
                        key: at
                        for key, at in table.items()
                        if isinstance(key, bytes) and type(at) is int
                    }
                    begun = cls((Link(first, trust, recovered, introduced),))
                    chain = begun.extended(
                        [first, *(each for each in others if isinstance(each, bytes))]
                    )
                case _:
                    raise DamagedChainError("other fields")
        except RemoteProtocolError as error:
            raise DamagedChainError(error.detail) from None
        if chain.encode() != data:
            raise DamagedChainError("another format")
        return chain


def installed(held: Chain | None, data: bytes, root: VerifyingKey) -> Chain:
    """What to begin with: the bundle installed by hand, and the chain held from before.

    The chain that is held counts where it goes on from the bundle, also where
    the recovery key replaced that; otherwise somebody with the machine in his
    hands has chosen anew, and the bundle counts.

    Raises RemoteProtocolError when `root` did not sign the bundle.
    """
    trust = verify_bundle(data, root)
    if held is None or held.trust.group != trust.group:
        return Chain.anchored(data, root)
    anew = Chain.anchored(data, root, held.newest.introduced)
    if trust.serial > held.trust.serial:
        try:
            return held.extended([data])
        except RemoteProtocolError:
            return anew
    place = trust.serial - held.links[0].trust.serial
    payload = Sign1.parse(data).payload
    known = place < 0 or held.links[place].payload == payload
    replaced = any(link.recovered for link in held.links[: place + 1])
    return held if known or replaced else anew


def pack(bundles: Sequence[bytes]) -> bytes:
    """Bundles as a courier or a broker carries them."""
    return cbor.encode(list(bundles))


def unpack(data: bytes) -> tuple[bytes, ...] | None:
    """The bundles in `data`, not yet looked at; None where it is no chain at all.

    RemoteProtocolError for what is not even CBOR.
    """
    items = cbor.decode(data)
    if not isinstance(items, list) or not items:
        return None
    bundles = tuple(item for item in items if isinstance(item, bytes))
    return bundles if len(bundles) == len(items) else None


def _shortened(chain: Chain) -> Chain:
    """Without the oldest links when there are too many to be carried."""
    links = chain.links
    while len(links) > MAX_LINKS or sum(len(each.data) for each in links) > MAX_CHAIN_BYTES:
        links = links[1:]
    return chain if links is chain.links else Chain(links)


def check_step(before: Trust, signed: Sign1) -> tuple[Trust, bool]:
    """The bundle that follows `before`, and whether the recovery key signed it.

    Serials are not compared here. RemoteProtocolError when nobody signed it who may.
    """
    recovered = before.recovery is not None and signed_by(signed, before.recovery)
    if not recovered and not any(signed_by(signed, root) for root in before.roots):
        raise _refused(Fault.AUTHENTICATION_FAILED, "no root of the bundle before it signed it")
    trust = decode_payload(signed.payload)
    if trust.group != before.group:
        raise _refused(Fault.UNEXPECTED, "of another door group")
    if trust.recovery != before.recovery and not recovered:
        raise _refused(Fault.AUTHENTICATION_FAILED, "a root names another recovery key")
    return trust, recovered


def _link(data: bytes, trust: Trust, recovered: bool, before: Mapping[bytes, int]) -> Link:
    named = map(key_id, trust.keys(Role.COMMAND))
    return Link(data, trust, recovered, {key: before.get(key, trust.serial) for key in named})


def _refused(fault: Fault, detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(fault, f"trust chain: {detail}")
