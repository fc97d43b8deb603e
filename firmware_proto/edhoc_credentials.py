"""How credentials are named and carried in EDHOC (RFC 9528 §3.5.2, §3.5.3)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.edhoc_wire import KCWT, malformed
from firmware_proto.errors import RemoteProtocolError

_CWT_ITEMS: Final = 4
_SUBJECT, _CNF, _COSE_KEY, _KEY_ID = 2, 8, 1, 2  # RFC 8392, RFC 8747, RFC 9052 §7.1


def ccs(subject: str, public_key: ec.EllipticCurvePublicKey, kid: bytes) -> bytes:
    """A CWT Claims Set: how a bare key dresses as a credential (RFC 9528 §3.5.2)."""
    key = {**cose.public_key_to_cose(public_key), _KEY_ID: kid}
    return cbor.encode({_SUBJECT: subject, _CNF: {_COSE_KEY: key}})


def kcwt_id(cwt: bytes) -> dict[int, cbor.Value]:
    """ID_CRED carrying an untagged CWT by value (RFC 9528 §3.5.3.1)."""
    return {KCWT: cbor.decode(cwt)}


def cwt_from_id(id_cred: cbor.Value) -> bytes:
    """The CWT in an ID_CRED, byte for byte: encodings are unique, so none had to be kept.

    RemoteProtocolError (UNSUPPORTED) when the credential is not a CWT by value.
    """
    if not isinstance(id_cred, dict) or id_cred.keys() != {KCWT}:
        raise RemoteProtocolError(Fault.UNSUPPORTED, "EDHOC: the credential is no CWT by value")
    cwt = id_cred[KCWT]
    if not isinstance(cwt, list) or len(cwt) != _CWT_ITEMS:
        raise malformed("the CWT is not four items")
    return cbor.encode(cwt)
