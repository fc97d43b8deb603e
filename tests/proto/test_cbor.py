from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.codes import Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from tests.support.parsing import REFUSED, parsed_or_refused

# RFC 8949 Appendix A, as far as it is deterministic and of our types
EXAMPLES = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (b"", "40"),
    (b"\x01\x02\x03\x04", "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("\u00fc", "62c3bc"),
    ("\u6c34", "63e6b0b4"),
    ("\U00010151", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
]

NOT_DETERMINISTIC = [
    ("", "truncated"),
    ("0000", "bytes after"),
    ("1817", "longer than it need be"),
    ("190018", "longer than it need be"),
    ("1900ff", "longer than it need be"),
    ("1a0000ffff", "longer than it need be"),
    ("1b00000000ffffffff", "longer than it need be"),
    ("3817", "longer than it need be"),
    ("580161", "longer than it need be"),
    ("780161", "longer than it need be"),
    ("980100", "longer than it need be"),
    ("b8010000", "longer than it need be"),
    ("1c", "indefinite or reserved"),
    ("1e", "indefinite or reserved"),
    ("5f4101ff", "indefinite or reserved"),
    ("7f6101ff", "indefinite or reserved"),
    ("9f01ff", "indefinite or reserved"),
    ("bf0101ff", "indefinite or reserved"),
    ("c11a514b67b0", "tag, float or simple"),
    ("c249010000000000000000", "tag, float or simple"),
    ("d81c80", "tag, float or simple"),
    ("f90000", "tag, float or simple"),
    ("fb3ff8000000000000", "tag, float or simple"),
    ("f7", "tag, float or simple"),
    ("e0", "tag, float or simple"),
    ("f8ff", "tag, float or simple"),
    ("ff", "tag, float or simple"),
    ("81ff", "tag, float or simple"),
    ("62ffff", "UTF-8"),
    ("61c3", "UTF-8"),
    ("a203040102", "out of order or repeated"),
    ("a201020103", "out of order or repeated"),
    ("a2617a00616100", "out of order or repeated"),
    ("a220000100", "out of order or repeated"),
    ("a1f500", "neither number nor string"),
    ("a1f600", "neither number nor string"),
    ("a1a00000", "neither number nor string"),
    ("a18000", "neither number nor string"),
    ("5bffffffffffffffff", "truncated"),
    ("7bffffffffffffffff", "truncated"),
    ("9bffffffffffffffff", "truncated"),
    ("bbffffffffffffffff", "truncated"),
    ("4100" * 2, "bytes after"),
]

keys = st.one_of(st.integers(-(2**64), 2**64 - 1), st.binary(max_size=30), st.text(max_size=10))
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**64), 2**64 - 1),
        st.binary(max_size=300),
        st.text(max_size=40),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=30), st.dictionaries(keys, inner, max_size=8)),
    max_leaves=30,
)


def nested(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


@pytest.mark.parametrize(("value", "encoded"), EXAMPLES)
def test_examples_of_the_standard_in_both_directions(value, encoded):
    assert cbor.encode(value).hex() == encoded
    decoded = cbor.decode(bytes.fromhex(encoded))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(("encoded", "detail"), NOT_DETERMINISTIC)
def test_what_is_not_deterministic_is_refused_for_its_reason(encoded, detail):
    with pytest.raises(RemoteProtocolError, match=detail) as caught:
        cbor.decode(bytes.fromhex(encoded))
    assert caught.value.fault is Fault.MALFORMED


def test_map_keys_ascend_by_their_encodings():
    # the order given as an example in RFC 8949 §4.2.1
    unsorted = {"aa": 4, 100: 1, "z": 3, -1: 2, 10: 0}
    encoded = cbor.encode(unsorted)
    assert encoded.hex() == "a5" + "0a00" + "186401" + "2002" + "617a03" + "62616104"
    assert list(cbor.decode(encoded)) == [10, 100, -1, "z", "aa"]


def test_nesting_ends_at_sixteen_in_both_directions():
    assert cbor.encode(cbor.decode(nested(cbor.MAX_DEPTH))) == nested(cbor.MAX_DEPTH)
    with pytest.raises(RemoteProtocolError, match="nested too deep"):
        cbor.decode(nested(cbor.MAX_DEPTH + 1))
    with pytest.raises(RemoteProtocolError, match="nested too deep"):
        cbor.decode(nested(100_000))
    too_deep = [cbor.decode(nested(cbor.MAX_DEPTH))]
    with pytest.raises(LocalProtocolError, match="nested too deep"):
        cbor.encode(too_deep)


def test_subclasses_encode_as_what_they_are():
    class Number(IntEnum):
        SEVEN = 7

    assert cbor.encode(Number.SEVEN) == b"\x07"
    assert cbor.encode((Number.SEVEN, OrderedDict({Number.SEVEN: 1}))).hex() == "8207a10701"


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        {1, 2},
        bytearray(b"x"),
        object(),
        2**64,
        -(2**64) - 1,
        "\ud800",
        {True: 1},
        {None: 1},
        {(1,): 1},
        [[2**64]],
        {1: {2: 0.0}},
        {2**64: 1},
    ],
)
def test_what_has_no_encoding_is_our_own_mistake(value):
    with pytest.raises(LocalProtocolError):
        cbor.encode(value)


@given(values)
@settings(max_examples=100, deadline=None)
def test_what_is_encoded_decodes_to_the_same(value):
    encoded = cbor.encode(value)
    assert cbor.decode(encoded) == value
    assert cbor2.loads(encoded) == value  # another implementation reads the same


@given(values)
@settings(max_examples=60, deadline=None)
def test_cut_off_or_followed_it_is_refused(value):
    encoded = cbor.encode(value)
    for end in range(len(encoded)):
        with pytest.raises(RemoteProtocolError):
            cbor.decode(encoded[:end])
    for extra in (b"\x00", b"\xff", encoded):
        with pytest.raises(RemoteProtocolError):
            cbor.decode(encoded + extra)


@given(st.one_of(st.binary(max_size=60), values.map(cbor2.dumps)))
@settings(max_examples=200, deadline=None)
def test_whatever_decodes_encodes_to_the_same_bytes(data):
    value = parsed_or_refused(cbor.decode, data)
    assert value is REFUSED or cbor.encode(value) == data


@given(values, st.data())
@settings(max_examples=100, deadline=None)
def test_one_changed_byte_gives_another_value_or_a_refusal(value, data):
    encoded = bytearray(cbor.encode(value))
    index = data.draw(st.integers(0, len(encoded) - 1))
    encoded[index] ^= data.draw(st.integers(1, 255))
    changed = parsed_or_refused(cbor.decode, bytes(encoded))
    assert changed is REFUSED or cbor.encode(changed) == encoded


@given(st.lists(values, max_size=5))
@settings(max_examples=60, deadline=None)
def test_sequences_come_back_item_by_item(items):
    encoded = cbor.encode_sequence(items)
    assert encoded == b"".join(cbor.encode(item) for item in items)
    assert cbor.decode_sequence(encoded) == items


@pytest.mark.parametrize("encoded", ["0018", "0044aa", "00c0", "001817", "00a2030001"])
def test_each_item_of_a_sequence_is_strict(encoded):
    with pytest.raises(RemoteProtocolError):
        cbor.decode_sequence(bytes.fromhex(encoded))


def test_byte_strings_of_every_length_form():
    for length in (0, 23, 24, 255, 256, 65535, 65536):
        data = bytes(length)
        assert cbor.byte_string(data) == cbor.encode(data) == cbor2.dumps(data)
        assert cbor.decode(cbor.byte_string(data)) == data
