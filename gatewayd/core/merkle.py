"""The Merkle tree of RFC 9162 §2.1: hashes, growth, and the two proofs.

A perfect subtree is named by `(level, index)`: it covers the leaves from
`index << level` up to `(index + 1) << level`, and level 0 is the leaf hashes.
Its hash never changes once its last leaf is there, so these hashes are all
that is ever stored; roots and proofs are made of them in O(log² n) at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from typing import Final

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

GetNode = Callable[[int, int], bytes]
"""Gives the hash of the perfect subtree `(level, index)`."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one encoded leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def completing_leaf(level: int, index: int) -> int:
    """The leaf whose arrival completes a perfect subtree."""
    return ((index + 1) << level) - 1


def nodes_completed_by(leaf: int) -> int:
    """How many perfect subtrees leaf number `leaf` completes: levels 0 to this minus one."""
    following = leaf + 1
    return (following & -following).bit_length()


@dataclass(frozen=True, slots=True)
class CompactRange:
    """All that is needed to let a tree grow: the perfect subtrees of its present size.

    `hashes` go from left to right, which is from the largest to the smallest.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> tuple[CompactRange, tuple[bytes, ...]]:
        """Add one leaf hash.

        Returns the grown range, and the hashes of the perfect subtrees that
        this leaf completes, from level 0 upwards: these are to be stored.
        """
        completed = [leaf]
        remaining = list(self.hashes)
        for _ in range(nodes_completed_by(self.size) - 1):
            completed.append(node_hash(remaining.pop(), completed[-1]))
        grown = CompactRange(self.size + 1, (*remaining, completed[-1]))
        return grown, tuple(completed)

    def root(self) -> bytes:
        """Root of the whole tree."""
        return root_from_range(self.hashes)

    @classmethod
    def load(cls, size: int, get_node: GetNode) -> CompactRange:
        """The range of the first `size` leaves of a stored tree; reads O(log n) nodes."""
        return cls(size, tuple(get_node(*node) for node in perfect_subtrees(0, size)))


def perfect_subtrees(start: int, end: int) -> list[tuple[int, int]]:
    """The fewest perfect subtrees that cover leaves `start` to `end`, from left to right.

    `start` must be a multiple of the largest power of two not above
    `end - start`, as every range in RFC 9162 §2.1 is.
    """
    subtrees = []
    for level in reversed(range((end - start).bit_length())):
        if (end - start) >> level:
            subtrees.append((level, start >> level))
            start += 1 << level
    return subtrees


def root_from_range(hashes: Sequence[bytes]) -> bytes:
    """Root over perfect subtrees given from left to right (RFC 9162 §2.1.1)."""
    if not hashes:
        return EMPTY_ROOT
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes))


def root(size: int, get_node: GetNode) -> bytes:
    """Root over the first `size` leaves of a stored tree that has at least so many."""
    return CompactRange.load(size, get_node).root()


def inclusion_proof(index: int, size: int, get_node: GetNode) -> tuple[bytes, ...]:
    """Path from leaf `index` to the root at `size` (RFC 9162 §2.1.3.1).

    ValueError when that leaf is not in a tree of that size.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, get_node))
            end = middle
        else:
            path.append(_subtree(start, middle, get_node))
            start = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, get_node: GetNode) -> tuple[bytes, ...]:
    """Proof that the tree at `new` extends the tree at `old` (RFC 9162 §2.1.4.1).

    ValueError unless 0 < old <= new: the empty tree proves nothing.
    """
    if not 0 < old <= new:
        raise ValueError(f"no consistency proof from {old} to {new}")
    path = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_subtree(middle, end, get_node))
            end = middle
        else:
            path.append(_subtree(start, middle, get_node))
            start = middle
    if start:  # else the old tree is itself a subtree, whose root the verifier has
        path.append(_subtree(start, end, get_node))
    return tuple(reversed(path))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Check that the leaf hash `leaf` is number `index` under a root (RFC 9162 §2.1.3.2).

    RemoteProtocolError: MALFORMED for a proof of the wrong shape,
    AUTHENTICATION_FAILED for one that proves something else.
    """
    _check_hashes((leaf, expected_root, *proof))
    if not 0 <= index < size:
        raise RemoteProtocolError(Fault.MALFORMED, "leaf is outside of the tree")
    computed = leaf
    for sibling, is_left in _climb(index, size - 1, proof):
        computed = node_hash(sibling, computed) if is_left else node_hash(computed, sibling)
    _check_root(computed, expected_root)


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `new` leaves extends the tree of `old` (RFC 9162 §2.1.4.2).

    `old` = 0 is refused: any tree extends the empty one, so there is nothing
    to prove and a caller that asks has lost its state. RemoteProtocolError as
    for `verify_inclusion`.
    """
    _check_hashes((old_root, new_root, *proof))
    if not 0 < old <= new:
        raise RemoteProtocolError(Fault.MALFORMED, "these sizes prove nothing")
    if old == new:
        if proof:
            raise RemoteProtocolError(Fault.MALFORMED, "proof is too long")
        _check_root(old_root, new_root)
        return
    position, last = old - 1, new - 1
    while position & 1:
        position >>= 1
        last >>= 1
    # where the old tree is perfect, it is itself the node where the climb begins
    path = proof if position else (old_root, *proof)
    if not path:
        raise RemoteProtocolError(Fault.MALFORMED, "proof is too short")
    old_computed = new_computed = path[0]
    for sibling, is_left in _climb(position, last, path[1:]):
        if is_left:
            old_computed = node_hash(sibling, old_computed)
            new_computed = node_hash(sibling, new_computed)
        else:
            new_computed = node_hash(new_computed, sibling)
    _check_root(old_computed, old_root)
    _check_root(new_computed, new_root)


def _climb(position: int, last: int, siblings: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Pair each sibling with whether it stands on the left, from node `position` to the root.

    `last` is the rightmost node of the same level. RemoteProtocolError when
    there are too many or too few siblings to reach the root exactly.
    """
    for sibling in siblings:
        if last == 0:
            raise RemoteProtocolError(Fault.MALFORMED, "proof is too long")
        is_left = bool(position & 1) or position == last
        yield sibling, is_left
        if is_left:  # a node without sibling is carried up until it has one
            while not position & 1:
                position >>= 1
                last >>= 1
        position >>= 1
        last >>= 1
    if last:
        raise RemoteProtocolError(Fault.MALFORMED, "proof is too short")


def _split(count: int) -> int:
    """The largest power of two smaller than `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(start: int, end: int, get_node: GetNode) -> bytes:
    return root_from_range([get_node(*node) for node in perfect_subtrees(start, end)])


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise RemoteProtocolError(Fault.MALFORMED, "a hash is not 32 bytes long")


def _check_root(computed: bytes, expected: bytes) -> None:
    if computed != expected:
        raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "the proof leads to another root")
