"""Which keys an issuer has taken back: a Token Status List in its CWT form.

After draft-ietf-oauth-status-list-20. One status per token, found by the index
in the token's `status` claim; indexes, unlike hashes of tokens, do not change
with the bytes of a malleable signature. A list speaks for the issuer that
signed it and for nobody else. What it says of time raises no floor.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core.claims import MAX_NUMBER, MAX_URI_BYTES
from gatewayd.core.model import ClockState, TimeReading
from gatewayd.core.trust import Trust

LIST_TYPE: Final = "application/statuslist+cwt"
SIGN1_TAG: Final = b"\xd2"
"""COSE_Sign1_Tagged (RFC 9052 §2), which §5.2 of the draft demands; there is no CWT tag."""

MAX_LIST_BYTES: Final = 60 * 1024
"""Of the signed list, so that it fits one packet of a broker: a million keys, 7 % taken back."""
MAX_ARRAY_BYTES: Final = 2**17
"""Of the statuses, inflated: what a gateway holds in memory. A million keys of one bit each."""

SKEW_S: Final = 300
"""How far an issuer's clock may be ahead of ours, beside what ours may be wrong by."""

VALID: Final = 0
INVALID: Final = 1

# RFC 8392 §4 and §14.2 of the draft
_SUB, _EXP, _IAT = 2, 4, 6
_STATUS_LIST: Final = 65533
_TTL: Final = 65534
_REQUIRED: Final[frozenset[cbor.MapKey]] = frozenset({_SUB, _EXP, _IAT, _STATUS_LIST})
_KNOWN: Final = _REQUIRED | {_TTL}
_MEMBERS: Final[frozenset[cbor.MapKey]] = frozenset({"bits", "lst"})
_WIDTHS: Final = (1, 2, 4, 8)
_HEADERS: Final = {cose.HEADER_ALG, cose.HEADER_TYP}


@dataclass(frozen=True, slots=True)
class StatusList:
    """One list. Times are Unix seconds; `expires` is the first second too late."""

    issuer: str
    """Whose keys it is about: the name that the trust bundle gives its signer."""
    uri: str
    issued_at: int
    expires: int
    bits: int
    """Width of one status: 1, 2, 4 or 8."""
    statuses: bytes
    signer: bytes
    """Key id of the issuer's key that signs or signed it."""
    ttl_s: int | None = None
    """When the issuer means to have a newer one; nobody here fetches lists, so it is for people."""

    @property
    def name(self) -> tuple[str, str]:
        """What a key token finds it by."""
        return self.issuer, self.uri

    def vouches_for(self, index: int) -> bool:
        """Is this key still good? What lies outside the list is not (§8.3 of the draft)."""
        place, shift = divmod(index * self.bits, 8)
        if place >= len(self.statuses):
            return False
        return self.statuses[place] >> shift & ((1 << self.bits) - 1) == VALID

    @property
    def against(self) -> int:
        """How many keys it speaks against; for people."""
        return sum(
            not self.vouches_for(index) for index in range(len(self.statuses) * 8 // self.bits)
        )

    def is_over(self, time: TimeReading) -> bool:
        """It has certainly expired, or as far as the clock knows."""
        clock_counts = time.state is not ClockState.UNKNOWN
        return time.floor_s >= self.expires or (clock_counts and time.now_s >= self.expires)

    def is_early(self, time: TimeReading) -> bool:
        """It was signed later than it can be now."""
        known = time.state is not ClockState.UNKNOWN
        return known and self.issued_at > time.now_s + time.bound_s + SKEW_S

    def age_s(self, time: TimeReading) -> float:
        """How old; infinite for one that is over, and while nobody knows the time."""
        if time.state is ClockState.UNKNOWN or self.is_over(time):
            return math.inf
        return max(0.0, float(time.now_s - self.issued_at))


Lists: TypeAlias = Mapping[tuple[str, str], StatusList]
"""The lists held, by `StatusList.name`."""


def believed(lists: Lists, name: tuple[str, str], trust: Trust) -> StatusList | None:
    """The list of that name, unless the bundle of now has dropped the key that signed it."""
    held = lists.get(name)
    return None if held is None or held.signer not in trust.issuers else held


def sign(status_list: StatusList, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The list as its issuer gives it out. ValueError when `verify` would not take it."""
    claims: dict[int, Any] = {
        _SUB: status_list.uri,
        _EXP: status_list.expires,
        _IAT: status_list.issued_at,
        _STATUS_LIST: {"bits": status_list.bits, "lst": zlib.compress(status_list.statuses, 9)},
    }
    if status_list.ttl_s is not None:
        claims[_TTL] = status_list.ttl_s
    protected = {cose.HEADER_KID: status_list.signer, cose.HEADER_TYP: LIST_TYPE}
    data = SIGN1_TAG + cose.sign1(cbor.encode(claims), key, protected=protected)
    try:
        unverified(data)
    except RemoteProtocolError as error:
        raise ValueError(error.detail) from error
    return data


def verify(data: bytes, trust: Trust) -> StatusList:
    """The list in `data`, signed by an issuer that `trust` names.

    Whether it is to replace another one is `judge`'s question.

    Raises RemoteProtocolError: TOO_LARGE, MALFORMED, UNSUPPORTED, AUTHENTICATION_FAILED.
    """
    signed, key_id = _unwrap(data)
    issuer = trust.issuers.get(key_id)
    if issuer is None:
        raise _refused(Fault.AUTHENTICATION_FAILED, "of no issuer that the trust bundle names")
    signed.verify(issuer.key)
    return _parse(signed.payload, issuer.name, key_id)


def unverified(data: bytes) -> StatusList:
    """The list in `data`, for people to look at: nobody may have signed it. Errors as `verify`."""
    signed, key_id = _unwrap(data)
    return _parse(signed.payload, "", key_id)


def judge(new: StatusList, held: StatusList | None, time: TimeReading) -> bool:
    """Is `new` to take the place of `held`? False when it is the same.

    A held list that says it was signed in the future gives way: a clock that
    was wrong for once, the issuer's or ours, must not shut out all later lists.

    Raises RemoteProtocolError: CLOCK_EXPIRED (over, or from the future),
    REPLAYED (not newer than what is held).
    """
    if new == held:
        return False
    if new.is_over(time):
        raise _refused(Fault.CLOCK_EXPIRED, "expired")
    if new.is_early(time):
        raise _refused(Fault.CLOCK_EXPIRED, "signed in the future")
    if held is not None and new.issued_at <= held.issued_at and not held.is_early(time):
        raise _refused(Fault.REPLAYED, "not newer than the one held")
    return True


# --- details --------------------------------------------------------------------
def _unwrap(data: bytes) -> tuple[cose.Sign1, bytes]:
    """The wrapper and the key id, which the draft's own examples carry unprotected."""
    if len(data) > MAX_LIST_BYTES:
        raise _refused(Fault.TOO_LARGE, f"longer than {MAX_LIST_BYTES} bytes")
    if data[:1] != SIGN1_TAG:
        raise _refused(Fault.MALFORMED, "not a tagged COSE_Sign1")
    signed = cose.Sign1.parse(data[1:])
    headers = {**signed.unprotected, **signed.protected}
    key_id = headers.pop(cose.HEADER_KID, None)
    if headers.keys() != _HEADERS or not signed.protected.keys() >= _HEADERS:
        raise _refused(Fault.MALFORMED, "other headers")
    if signed.protected[cose.HEADER_TYP] != LIST_TYPE or type(key_id) is not bytes:
        raise _refused(Fault.MALFORMED, "another type, or no key id")
    return signed, key_id


def _parse(payload: bytes, issuer: str, signer: bytes) -> StatusList:
    claims = cbor.decode(payload)
    if type(claims) is not dict or not _REQUIRED <= claims.keys() <= _KNOWN:
        raise _refused(Fault.MALFORMED, "other claims")
    uri, body = claims[_SUB], claims[_STATUS_LIST]
    if type(uri) is not str or not 0 < len(uri.encode()) <= MAX_URI_BYTES:
        raise _refused(Fault.MALFORMED, "sub is no URI")
    if type(body) is not dict or body.keys() != _MEMBERS:
        raise _refused(Fault.MALFORMED, "another form of list")
    bits, compressed = body["bits"], body["lst"]
    if type(bits) is not int or bits not in _WIDTHS or type(compressed) is not bytes:
        raise _refused(Fault.MALFORMED, "other bits, or no byte string")
    issued_at, expires = _number(claims[_IAT]), _number(claims[_EXP])
    if issued_at >= expires:
        raise _refused(Fault.MALFORMED, "over before it began")
    ttl_s = _number(claims[_TTL]) if _TTL in claims else None
    statuses = inflate(compressed)
    return StatusList(issuer, uri, issued_at, expires, bits, statuses, signer, ttl_s)


def _number(value: cbor.Value) -> int:
    if type(value) is not int or not 0 < value < MAX_NUMBER:
        raise _refused(Fault.MALFORMED, "a time that is none")
    return value


def inflate(compressed: bytes, most: int = MAX_ARRAY_BYTES) -> bytes:
    """All of one ZLIB stream (RFC 1950) of at most `most` bytes; a bomb costs no more than that.

    RemoteProtocolError: MALFORMED, TOO_LARGE.
    """
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(compressed, most + 1)
    except zlib.error:
        raise _refused(Fault.MALFORMED, "not deflated") from None
    if len(data) > most:
        raise _refused(Fault.TOO_LARGE, f"more than {most} bytes of statuses")
    if not data or not stream.eof or stream.unused_data:
        raise _refused(Fault.MALFORMED, "not one whole stream, or an empty one")
    return data


def _refused(fault: Fault, detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(fault, f"status list: {detail}")
