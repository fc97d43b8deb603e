"""Keys that never leave their element: `device_keys.DeviceKey`, opened, made and tried out."""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from gatewayd.adapters.element.token import COORDINATE_BYTES, Element, element
from gatewayd.core.key_uri import KeyUri
from gatewayd.device_keys import DeviceKey, KeyDeviceError, KeyUse


class ElementKey(DeviceKey):
    """One key of an element, by its label."""

    def __init__(self, element: Element, label: str) -> None:
        self._element = element
        self._label = label
        self._public = element.public(label)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Of the same pair."""
        return self._public

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """ECDH. KeyDeviceError."""
        del algorithm  # there is but this one
        return self._element.derive(self._label, peer_public_key)

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:  # noqa: ANN401 - as in the interface
        """ECDSA, DER; whether it is deterministic is up to the element. KeyDeviceError."""
        chosen = signature_algorithm.algorithm
        if isinstance(chosen, Prehashed):
            digest = bytes(data)
        else:
            hashing = hashes.Hash(chosen)
            hashing.update(data)
            digest = hashing.finalize()
        raw = self._element.sign(self._label, digest)
        r, s = raw[:COORDINATE_BYTES], raw[COORDINATE_BYTES:]
        return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


def _of(uri: KeyUri) -> Element:
    return element(uri.changed(object=None, pin_source=None))


def open_key(uri: KeyUri, use: KeyUse, pin: str | None, *, try_pin: bool = False) -> ElementKey:
    """The key that `uri` names, tried out once. KeyDeviceError."""
    if uri.object is None:
        raise KeyDeviceError("the URI names no key", "object=… is its label")
    found = _of(uri)
    found.login(pin, try_pin=try_pin)
    key = ElementKey(found, uri.object)
    if not _TRIALS[use](key):
        raise KeyDeviceError(f"secure element {uri.token}: {uri.object} is no pair of keys")
    return key


def make_key(uri: KeyUri, label: str, use: KeyUse, pin: str | None) -> KeyUri:
    """Where the key of this label is, which is made unless it is there. KeyDeviceError."""
    found = _of(uri)
    found.login(pin, try_pin=False)
    found.make(label, use)
    return uri.changed(object=label)


def _exchanges(key: ElementKey) -> bool:
    other = ec.generate_private_key(ec.SECP256R1())
    ours = key.exchange(ec.ECDH(), other.public_key())
    return ours == other.exchange(ec.ECDH(), key.public_key())


def _signs(key: ElementKey) -> bool:
    algorithm = ec.ECDSA(hashes.SHA256())
    try:
        key.public_key().verify(key.sign(b"a trial", algorithm), b"a trial", algorithm)
    except InvalidSignature:
        return False
    return True


_TRIALS: Final = {KeyUse.EXCHANGE: _exchanges, KeyUse.SIGN: _signs}
