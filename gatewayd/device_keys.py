"""Private keys that a device holds: they can be used, and not be read.

To whoever uses one it is an `EllipticCurvePrivateKey` like any other; the two
differences are that using it may fail, and that it takes so long that it is
done in a thread (`apart`), for nobody else may wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import NoReturn, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd.core.key_uri import KeyUri
from gatewayd.ports import PortError

_T = TypeVar("_T")


class KeyDeviceError(PortError):
    """The device is away, too slow, or refuses; nothing was computed."""


class KeyUse(Enum):
    """What a key is for, and all that it can do."""

    EXCHANGE = "ECDH"
    SIGN = "ECDSA"


class DeviceKey(ec.EllipticCurvePrivateKey):
    """A P-256 private key in a device. KeyDeviceError from `exchange` and `sign`."""

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        """In bits."""
        return self.curve.key_size

    def private_numbers(self) -> NoReturn:
        """Never."""
        raise KeyDeviceError("a key in a device cannot be read")

    def private_bytes(self, *_how: object) -> NoReturn:
        """Never."""
        raise KeyDeviceError("a key in a device cannot be read")

    def __copy__(self) -> DeviceKey:
        return self

    def __deepcopy__(self, memo: object) -> DeviceKey:
        return self


OpenKey = Callable[[KeyUri, KeyUse], DeviceKey]
"""The key that a URI names, tried out. KeyDeviceError."""


class KeyDevices(Protocol):
    """Whatever devices there are."""

    def open(self, uri: KeyUri, use: KeyUse) -> DeviceKey:
        """See `OpenKey`."""
        ...

    def make(self, uri: KeyUri, label: str, use: KeyUse) -> KeyUri:
        """Where the key of this label is, which is made unless it is there. KeyDeviceError."""
        ...


def no_device(uri: KeyUri, use: KeyUse) -> NoReturn:
    """`OpenKey` of who has none."""
    del uri, use
    raise KeyDeviceError("keys in a secure element are not used here")


async def apart(key: ec.EllipticCurvePrivateKey | None, call: Callable[[], _T]) -> _T:
    """What `call` returns, which uses this key: in a thread where that may take long."""
    return await asyncio.to_thread(call) if isinstance(key, DeviceKey) else call()
