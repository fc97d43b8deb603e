"""The certificate that the broker knows us by: asked for anew before it ends.

The configured one belongs to root and is never touched; the newest lies in the
state directory and is taken instead, for as long as it is for the same key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.core import certificates
from gatewayd.core.certificates import Certificate
from gatewayd.core.renewal import Issued
from gatewayd.core.term import Term
from gatewayd.core.trust import Trust
from gatewayd.keyfiles import PUBLIC_MODE, KeyFileError
from gatewayd.ports import StorageError

NAME: Final = "tls.crt"
_AGAIN_S: Final = 3600
_TRIES: Final = 90
"""In a whole life, at least; a third of them before it ends."""
_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Renewal:
    """Of one gateway. `path` is what the broker is to be shown."""

    gateway: str
    trust: Callable[[], Trust]
    path: Path
    held: Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    now_s: Callable[[], int]
    """The best estimate of Unix time."""
    asked_s: int = 0

    def question(self) -> bytes | None:
        """A request for the next certificate when it is time for one, else None."""
        now_s = self.now_s()
        again_s = min(_AGAIN_S, (self.held.until - self.held.since) // _TRIES)
        if not self.held.due(now_s) or now_s - self.asked_s < again_s:
            return None
        self.asked_s = now_s
        return certificates.request(self.gateway, self.key)

    async def answered(self, payload: bytes) -> bool:
        """Keep the certificate in an answer; whether it was newer than ours.

        RemoteProtocolError when it is not this operator's for us, StorageError.
        """
        renewed = Issued.verify(payload, self.trust(), self.gateway, self.key.public_key())
        if renewed.certificate.until <= self.held.until:
            return False
        data = renewed.certificate.pem() + renewed.authority.pem()
        try:
            await asyncio.to_thread(keyfiles.keep_file, self.path, data, mode=PUBLIC_MODE)
        except KeyFileError as error:
            raise StorageError(error.message) from error
        self.held = renewed.certificate
        _log.info("our certificate was renewed")
        return True


def load(  # noqa: PLR0913 - what it is made of
    *,
    gateway: str,
    trust: Callable[[], Trust],
    certificate: Path,
    key: Path,
    state: Path,
    now_s: Callable[[], int],
) -> Renewal | None:
    """With the newest certificate there is; None when it is of another kind than we renew.

    A gateway whose certificate cannot be read opens doors all the same; that
    there is no session says the connection itself.
    """
    try:
        private = keyfiles.read_p256_private(key, "key of our certificate")
        configured = _read(certificate)
    except (KeyFileError, RemoteProtocolError) as error:
        _log.info("our certificate is not renewed by itself: %s", error)
        return None
    if (configured.name, configured.key) != (gateway, private.public_key()):
        _log.info("our certificate is not renewed by itself: it is for another name or key")
        return None
    path = state / NAME
    held = configured
    try:
        newest = _read(path)
    except (KeyFileError, RemoteProtocolError):
        newest = configured
    if newest.key == configured.key and newest.until > configured.until:
        held = newest
    else:
        try:
            data = keyfiles.read_file(certificate, "our certificate")
            keyfiles.keep_file(path, data, mode=PUBLIC_MODE)
        except KeyFileError as error:
            _log.warning("our certificate is not renewed by itself: %s", error)
            return None
    return Renewal(gateway, trust, path, held, private, now_s)


def term(certificate: Path, state: Path | None = None) -> Term | None:
    """When it is valid, or the newer one for the same key in `state`; None: it cannot be read."""
    try:
        configured = certificates.from_pem(keyfiles.read_file(certificate, "our certificate"))[0]
        told = certificates.term(configured)
    except (KeyFileError, RemoteProtocolError):
        return None
    if state is not None:
        with contextlib.suppress(KeyFileError, RemoteProtocolError):
            newest = _read(state / NAME)
            if newest.key == Certificate.parse(configured).key and newest.until > told.until:
                return Term(newest.since, newest.until)
    return told


def _read(path: Path) -> Certificate:
    return Certificate.parse(certificates.from_pem(keyfiles.read_file(path, "our certificate"))[0])
