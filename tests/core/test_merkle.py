"""The tree of RFC 9162 §2.1: against its definition, the vectors of others, and every forgery."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import merkle

VECTORS = json.loads((Path(__file__).parent / "vectors" / "merkle.json").read_text())


def vectors(kind):
    return [pytest.param(vector, id=name) for name, vector in VECTORS[kind].items()]


def decoded(text):
    return base64.b64decode(text or "")


def leaf(number):
    return merkle.leaf_hash(b"%d" % number)


def defined_root(hashes):
    """RFC 9162 §2.1.1 as it is defined: split at the largest power of two."""
    if len(hashes) <= 1:
        return hashes[0] if hashes else hashlib.sha256().digest()
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return merkle.node_hash(defined_root(hashes[:split]), defined_root(hashes[split:]))


class Tree:
    """A tree as a log stores it: the nodes that each leaf completes."""

    def __init__(self, size):
        self.hashes = [leaf(number) for number in range(size)]
        self.nodes = {}
        self.range = merkle.CompactRange()
        for number, value in enumerate(self.hashes):
            self.range, completed = self.range.append(value)
            assert len(completed) == merkle.nodes_completed_by(number)
            for level, node in enumerate(completed):
                assert merkle.completing_leaf(level, number >> level) == number
                self.nodes[level, number >> level] = node

    def node(self, level, index):
        return self.nodes[level, index]

    def root(self, size):
        return merkle.root(size, self.node)


@pytest.fixture(scope="module")
def tree():
    return Tree(70)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (merkle.EMPTY_ROOT, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (
            merkle.leaf_hash(b""),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        ),
        (
            merkle.leaf_hash(b"L123456"),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56",
        ),
        (
            merkle.node_hash(b"N123", b"N456"),
            "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb",
        ),
    ],
)
def test_hashes_of_rfc_6962_which_rfc_9162_keeps(got, expected):
    # numbers from transparency-dev/merkle, rfc6962/rfc6962_test.go
    assert got.hex() == expected


def test_the_root_at_every_size(tree):
    assert tree.range.root() == tree.root(70)
    for size in range(71):
        assert tree.root(size) == defined_root(tree.hashes[:size])
        assert merkle.CompactRange.load(size, tree.node).root() == tree.root(size)


def test_growth_goes_on_from_any_loaded_range(tree):
    for size in range(70):
        grown, completed = merkle.CompactRange.load(size, tree.node).append(tree.hashes[size])
        assert grown == merkle.CompactRange.load(size + 1, tree.node)
        assert [tree.nodes[level, size >> level] for level in range(len(completed))] == list(
            completed
        )


def test_storage_is_two_hashes_for_each_leaf():
    assert sum(map(merkle.nodes_completed_by, range(1 << 12))) == (1 << 13) - 1


def test_a_range_of_ten_million_is_loaded_from_few_nodes():
    assert len(merkle.perfect_subtrees(0, 10_000_000)) < 24


def test_every_inclusion_proof_verifies_and_no_other_leaf_or_size_does(tree):
    for size in range(1, 24):
        root = tree.root(size)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, tree.node)
            merkle.verify_inclusion(tree.hashes[index], index, size, proof, root)
            for other in range(size):
                if other != index:
                    with pytest.raises(RemoteProtocolError):
                        merkle.verify_inclusion(tree.hashes[index], other, size, proof, root)


def test_every_consistency_proof_verifies(tree):
    for new in range(1, 70):
        for old in range(1, new + 1):
            proof = merkle.consistency_proof(old, new, tree.node)
            merkle.verify_consistency(old, new, tree.root(old), tree.root(new), proof)


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_inclusion_vectors(vector):
    arguments = (
        decoded(vector["leafHash"]),
        vector["leafIdx"],
        vector["treeSize"],
        [decoded(each) for each in vector["proof"] or ()],
        decoded(vector["root"]),
    )
    if vector["wantErr"]:
        with pytest.raises(RemoteProtocolError):
            merkle.verify_inclusion(*arguments)
    else:
        assert merkle.verify_inclusion(*arguments) is None


@pytest.mark.parametrize("vector", vectors("consistency"))
def test_consistency_vectors(vector):
    arguments = (
        vector["size1"],
        vector["size2"],
        decoded(vector["root1"]),
        decoded(vector["root2"]),
        [decoded(each) for each in vector["proof"] or ()],
    )
    if vector["wantErr"]:
        with pytest.raises(RemoteProtocolError):
            merkle.verify_consistency(*arguments)
    elif any(len(each) != merkle.HASH_BYTES for each in arguments[2:4]):
        # the one good vector whose roots are words: here that is refused for its form
        old, new, old_root, new_root, proof = arguments
        with pytest.raises(RemoteProtocolError, match="32 bytes"):
            merkle.verify_consistency(*arguments)
        roots = (merkle.leaf_hash(old_root), merkle.leaf_hash(new_root))
        assert merkle.verify_consistency(old, new, *roots, proof) is None
    else:
        assert merkle.verify_consistency(*arguments) is None


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3), (5, 3)])
def test_no_inclusion_outside_of_the_tree(tree, index, size):
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(index, size, tree.node)
    with pytest.raises(RemoteProtocolError) as caught:
        merkle.verify_inclusion(leaf(0), index, size, (), leaf(0))
    assert caught.value.fault is Fault.MALFORMED


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 3), (-1, 3), (3, 2)])
def test_sizes_that_prove_nothing(tree, old, new):
    with pytest.raises(ValueError, match="no consistency"):
        merkle.consistency_proof(old, new, tree.node)
    with pytest.raises(RemoteProtocolError) as caught:
        merkle.verify_consistency(old, new, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, ())
    assert caught.value.fault is Fault.MALFORMED


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_hash_of_another_length_is_refused_wherever_it_stands(tree, length):
    bad, good = bytes(length), leaf(0)
    for arguments in ((bad, 0, 1, (), bad), (good, 0, 1, (), bad), (good, 0, 2, (bad,), good)):
        with pytest.raises(RemoteProtocolError) as caught:
            merkle.verify_inclusion(*arguments)
        assert caught.value.fault is Fault.MALFORMED
    for arguments in (
        (1, 1, bad, bad, ()),
        (1, 2, good, bad, (good,)),
        (1, 2, bad, good, (good,)),
        (1, 2, good, good, (bad,)),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            merkle.verify_consistency(*arguments)
        assert caught.value.fault is Fault.MALFORMED


def test_a_proof_between_equal_trees_is_empty(tree):
    root = tree.root(7)
    assert merkle.consistency_proof(7, 7, tree.node) == ()
    merkle.verify_consistency(7, 7, root, root, ())
    with pytest.raises(RemoteProtocolError, match="too long"):
        merkle.verify_consistency(7, 7, root, root, (root,))
    with pytest.raises(RemoteProtocolError) as caught:
        merkle.verify_consistency(7, 7, root, tree.root(8), ())
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED


def test_an_empty_proof_between_trees_that_need_one(tree):
    with pytest.raises(RemoteProtocolError, match="too short"):
        merkle.verify_consistency(3, 7, tree.root(3), tree.root(7), ())
    with pytest.raises(RemoteProtocolError, match="too short"):
        merkle.verify_consistency(4, 7, tree.root(4), tree.root(7), ())


SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70)).map(sorted)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.data())
def test_no_altered_proof_is_believed(tree, sizes, data):
    old, new = sizes
    proof = list(merkle.consistency_proof(old, new, tree.node))
    altered = [tree.root(old), tree.root(new), *proof]
    change = data.draw(st.sampled_from(["flip", "drop", "insert", "cut", "extend", "swap roots"]))
    place = data.draw(st.integers(0, len(altered) - 1))
    match change:
        case "flip":
            bit = data.draw(st.integers(0, 255))
            value = int.from_bytes(altered[place], "big") ^ 1 << bit
            altered[place] = value.to_bytes(32, "big")
        case "drop" if place >= 2:
            del altered[place]
        case "insert" if place >= 2:
            altered.insert(place, altered[0])
        case "cut" if proof:
            altered.pop()
        case "swap roots" if old != new:
            altered[0], altered[1] = altered[1], altered[0]
        case _:
            altered.append(altered[0])
    first, second, *rest = altered
    with pytest.raises(RemoteProtocolError):
        merkle.verify_consistency(old, new, first, second, rest)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-2, 2**64),
    st.integers(-2, 2**64),
    st.lists(st.binary(min_size=31, max_size=33), max_size=70),
    st.binary(min_size=32, max_size=32),
)
def test_whatever_a_stranger_sends_is_refused_in_one_way(index, size, proof, root):
    if not (proof or (index, size) == (0, 1)):
        proof = [root]
    with pytest.raises(RemoteProtocolError):
        merkle.verify_inclusion(leaf(0), index, size, proof, root)
    with pytest.raises(RemoteProtocolError):
        merkle.verify_consistency(index, size, leaf(1), root, proof)
