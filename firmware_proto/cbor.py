"""Deterministic CBOR (RFC 8949 §4.2.1) and nothing else: what decodes has exactly one encoding.

One pass over the bytes builds the value and proves that it is the only
encoding of that value, so `encode(decode(data)) == data` for all that decodes.
There is no tag, float or simple value, hence nothing for a stranger's bytes to
run: a general decoder would build dates, patterns and fractions first and let
us refuse them afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from firmware_proto.codes import Fault
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

MapKey: TypeAlias = int | bytes | str
Value: TypeAlias = "bool | int | bytes | str | list[Value] | dict[MapKey, Value] | None"
Encodable: TypeAlias = (
    "bool | int | bytes | str | Sequence[Encodable] | Mapping[Any, Encodable] | None"
)

MAX_DEPTH: Final = 16
"""Arrays and maps inside one another."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(0x00, 0xE0, 0x20)
"""Major types, as first bytes (RFC 8949 §3.1)."""

_ONE_BYTE: Final[dict[int, int | None]] = {
    **{_UNSIGNED | number: number for number in range(24)},
    **{_NEGATIVE | number: -1 - number for number in range(24)},
    0xF4: False,
    0xF5: True,
    0xF6: None,
}
_MORE: Final = object()
_IMMEDIATE: Final[tuple[Any, ...]] = tuple(_ONE_BYTE.get(head, _MORE) for head in range(256))
"""By first byte: the value that this byte is already, or _MORE."""

_WIDTH: Final = tuple({24: 1, 25: 2, 26: 4, 27: 8}.get(head & 0x1F, 0) for head in range(256))
"""By first byte: how many bytes hold the argument, if it does not stand in the first itself."""

_LEAST_IN_ONE: Final = 24
_LONG_BYTES: Final = _BYTES | 24
"""First byte of a byte string of 24 to 255 bytes: keys, hashes, what is wrapped in another item."""

_LEAST: Final = {1: _LEAST_IN_ONE, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
"""By width: the smallest argument that needs it (RFC 8949 §4.2.1)."""


def decode(data: bytes) -> Value:
    """The one item in `data`.

    Raises RemoteProtocolError (MALFORMED) for anything but exactly one item in
    deterministic encoding, nested at most `MAX_DEPTH` deep.
    """
    value, end = _checked_item(data, 0)
    if end != len(data):
        raise _malformed("bytes after the item" if end < len(data) else "truncated")
    return value


def decode_sequence(data: bytes) -> list[Value]:
    """The items of a CBOR sequence (RFC 8742), each as strict as in `decode`."""
    values = []
    position, size = 0, len(data)
    while position < size:
        value, position = _checked_item(data, position)
        values.append(value)
    if position != size:
        raise _malformed("truncated")
    return values


def encode(value: Encodable) -> bytes:
    """The deterministic encoding; LocalProtocolError for what has none here."""
    return _encode(value, MAX_DEPTH)


def encode_sequence(values: Iterable[Encodable]) -> bytes:
    """A CBOR sequence (RFC 8742): the encodings one after the other."""
    return b"".join(_encode(value, MAX_DEPTH) for value in values)


def byte_string(data: bytes) -> bytes:
    """The encoding of a byte string, without the choice among types that `encode` makes."""
    return _head(_BYTES, len(data)) + data


# --- decoding -------------------------------------------------------------------
def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"CBOR: {detail}")


def _checked_item(data: bytes, position: int) -> tuple[Value, int]:
    """An item and where it ends, which may lie past the end of `data`: the caller looks."""
    try:
        return _item(data, position, MAX_DEPTH)
    except IndexError:
        raise _malformed("truncated") from None
    except UnicodeDecodeError:
        raise _malformed("text is not UTF-8") from None


# The hot path of every parser, so a call, which costs more than most items, is
# made only for what is not one byte or a short string. A slice past the end is
# short rather than an error: positions only grow, so the next index or the last
# comparison of the caller notices.
def _item(data: bytes, position: int, depth: int) -> tuple[Value, int]:
    head = data[position]
    position += 1
    value: Value = _IMMEDIATE[head]
    if value is not _MORE:
        return value, position
    if head >= _TAG:
        raise _malformed("a tag, float or simple value")
    width = _WIDTH[head]
    if width:
        argument = int.from_bytes(data[position : position + width], "big")
        position += width
        if argument < _LEAST[width]:
            raise _malformed("a number that is longer than it need be, or cut off")
    else:
        argument = head & 0x1F
        if argument > 27:  # noqa: PLR2004 - RFC 8949 §3: reserved, or an indefinite length
            raise _malformed("an indefinite or reserved length")
    if head < _BYTES:
        return (argument if head < _NEGATIVE else -1 - argument), position
    if head < _ARRAY:
        end = position + argument
        return (data[position:end] if head < _TEXT else data[position:end].decode()), end
    if not depth:
        raise _malformed("nested too deep")
    if head < _MAP:
        return _items(data, position, argument, depth - 1)
    return _pairs(data, position, argument, depth - 1)


def _items(data: bytes, position: int, count: int, depth: int) -> tuple[list[Value], int]:
    values: list[Value] = []
    for _ in range(count):
        value = _IMMEDIATE[data[position]]
        if value is _MORE:
            value, position = _item(data, position, depth)
        else:
            position += 1
        values.append(value)
    return values, position


def _pairs(data: bytes, position: int, count: int, depth: int) -> tuple[dict[MapKey, Value], int]:
    pairs: dict[MapKey, Value] = {}
    previous = b""
    for _ in range(count):
        start = position
        head = data[position]
        if head >= _ARRAY:
            raise _malformed("a map key that is neither number nor string")
        key = _IMMEDIATE[head]
        if key is _MORE:
            key, position = _item(data, position, depth)
        else:
            position += 1
        encoded = data[start:position]
        if encoded <= previous:
            raise _malformed("map keys out of order or repeated")
        previous = encoded
        head = data[position]
        value = _IMMEDIATE[head]
        if value is not _MORE:
            position += 1
        elif _BYTES <= head < _BYTES + 24:
            start = position + 1
            position = start + head - _BYTES
            value = data[start:position]
        elif _TEXT <= head < _TEXT + 24:
            start = position + 1
            position = start + head - _TEXT
            value = data[start:position].decode()
        elif head == _LONG_BYTES and data[position + 1] >= _LEAST_IN_ONE:
            start = position + 2
            position = start + data[position + 1]
            value = data[start:position]
        else:
            value, position = _item(data, position, depth)
        pairs[key] = value
    return pairs, position


# --- encoding -------------------------------------------------------------------
def _head(major: int, argument: int) -> bytes:
    if argument < 24:  # noqa: PLR2004 - RFC 8949 §3
        return bytes((major | argument,))
    if argument <= 0xFF:  # noqa: PLR2004 - one byte
        return bytes((major | 24, argument))
    for form, width in ((25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * width):
            return bytes((major | form,)) + argument.to_bytes(width, "big")
    raise LocalProtocolError("a number of more than 64 bits")


def _encode(value: Encodable, depth: int) -> bytes:  # noqa: PLR0911 - one return per type
    if isinstance(value, int):
        if value is True or value is False:
            return b"\xf5" if value else b"\xf4"
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        return _encode_text(value)
    if value is None:
        return b"\xf6"
    if not depth:
        raise LocalProtocolError("nested too deep")
    if isinstance(value, list | tuple):
        return _head(_ARRAY, len(value)) + b"".join([_encode(item, depth - 1) for item in value])
    if isinstance(value, Mapping):
        return _encode_map(value, depth - 1)
    raise LocalProtocolError(f"{type(value).__name__} has no encoding")


def _encode_text(text: str) -> bytes:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise LocalProtocolError("text with a lone surrogate") from None
    return _head(_TEXT, len(encoded)) + encoded


def _encode_map(value: Mapping[Any, Encodable], depth: int) -> bytes:
    pairs = []
    for key, item in value.items():
        if isinstance(key, bool) or not isinstance(key, int | bytes | str):
            raise LocalProtocolError("a map key that is neither number nor string")
        pairs.append((_encode(key, depth), _encode(item, depth)))
    pairs.sort()
    return _head(_MAP, len(pairs)) + b"".join([key + item for key, item in pairs])
