"""One token of PKCS#11, and everything that is asked of it.

Everything that talks to the element happens in one thread of its own, each call
with a deadline, because nothing in PKCS#11 can be interrupted. A session that
is lost is opened again, once per call.

A wrong PIN is never tried twice: elements lock themselves after a few. The
element itself remembers (CKF_USER_PIN_COUNT_LOW), so that holds for a daemon
that is started again and again, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, TokenFlag
from pkcs11.util.ec import encode_named_curve_parameters

from gatewayd.core.key_uri import KeyUri
from gatewayd.device_keys import KeyDeviceError, KeyUse

USE_S: Final = 3.0
"""One use of a key; slow elements need a third of a second."""
OPEN_S: Final = 30.0
"""Opening the element, or making a key in it."""

COORDINATE_BYTES: Final = 32
_DER_POINT: Final = b"\x04\x41\x04"  # OCTET STRING of 65 bytes, uncompressed (X9.62)
_LOST: Final = (
    pkcs11.SessionHandleInvalid, pkcs11.SessionClosed, pkcs11.UserNotLoggedIn,
    pkcs11.ObjectHandleInvalid, pkcs11.KeyHandleInvalid, pkcs11.DeviceRemoved,
    pkcs11.DeviceError, pkcs11.TokenNotPresent, pkcs11.GeneralError,
)  # fmt: skip
_CAPABLE: Final = {KeyUse.EXCHANGE: MechanismFlag.DERIVE, KeyUse.SIGN: MechanismFlag.SIGN}
_TRY_PIN: Final = "put the right PIN into its file, then say gatewayd check --try-pin"
_UNLOCK: Final = "unlock it with the tool of its maker"

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)


class Element:
    """One token. Use `element`: PKCS#11 knows one login per process and token."""

    def __init__(self, where: KeyUri) -> None:
        self._where = where
        self._name = where.token or where.serial
        self._session: Any = None
        self._keys: dict[str, Any] = {}
        self._refused: KeyDeviceError | None = None
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._hangs: Future[Any] | None = None
        self._well = True
        self._failed = False
        self._pin: str | None = None
        self._try_pin = False
        threading.Thread(target=self._work, name=f"element {self._name}", daemon=True).start()

    def login(self, pin: str | None, *, try_pin: bool) -> None:
        """What to log in with; `try_pin`: also when a wrong one was tried before. KeyDeviceError.

        Logged in already, nothing is tried.
        """
        self._pin, self._try_pin = pin, try_pin
        self._call(self._open, OPEN_S)

    # --- what keys do: each call in the element's thread ------------------------------
    def public(self, label: str) -> ec.EllipticCurvePublicKey:
        """The public half of a key. KeyDeviceError."""
        return self._call(lambda: self._public(label), USE_S)

    def derive(self, label: str, peer: ec.EllipticCurvePublicKey) -> bytes:
        """The x coordinate of ECDH (RFC 6090 §4). KeyDeviceError."""
        point = peer.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return self._call(lambda: self._derive(label, point), USE_S)

    def sign(self, label: str, digest: bytes) -> bytes:
        """An ECDSA signature, r and s. KeyDeviceError."""
        return self._call(lambda: self._sign(label, digest), USE_S)

    def make(self, label: str, use: KeyUse) -> None:
        """See that there is a key of this label. KeyDeviceError."""
        self._call(lambda: self._make(label, use), OPEN_S)

    def _sign(self, label: str, digest: bytes) -> bytes:
        return bytes(self._able(label, "sign")(digest, mechanism=Mechanism.ECDSA))

    def _derive(self, label: str, point: bytes) -> bytes:
        secret = self._able(label, "derive_key")(
            KeyType.GENERIC_SECRET,
            8 * COORDINATE_BYTES,
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(pkcs11.KDF.NULL, None, point),
            template={
                Attribute.TOKEN: False, Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True,
            },
        )  # fmt: skip
        value = bytes(secret[Attribute.VALUE])
        secret.destroy()
        return value

    def _make(self, label: str, use: KeyUse) -> None:
        if self._objects(label, ObjectClass.PRIVATE_KEY):
            return  # a power cut came after it was made, or a claim before this one
        curve = encode_named_curve_parameters("secp256r1")
        self._open().create_domain_parameters(
            KeyType.EC, {Attribute.EC_PARAMS: curve}, local=True
        ).generate_keypair(
            store=True,
            label=label,
            id=label.encode(),
            capabilities=_CAPABLE[use],
            private_template={
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.SIGN: use is KeyUse.SIGN,
                Attribute.DERIVE: use is KeyUse.EXCHANGE,
            },
        )

    def _public(self, label: str) -> ec.EllipticCurvePublicKey:
        self._private(label)
        encoded = bytes(self._one(label, ObjectClass.PUBLIC_KEY)[Attribute.EC_POINT])
        point = encoded[2:] if encoded.startswith(_DER_POINT) else encoded
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError:
            raise self._error(f"key {label} is not on P-256") from None

    def _private(self, label: str) -> Any:  # noqa: ANN401 - python-pkcs11's mixins
        if label not in self._keys:
            found = self._one(label, ObjectClass.PRIVATE_KEY)
            if not found[Attribute.SENSITIVE] or found[Attribute.EXTRACTABLE]:
                raise self._error(
                    f"key {label} can be read out of it",
                    "make another one: gatewayd setup enrol --key-in; this one protects nothing",
                )
            self._keys[label] = found
        return self._keys[label]

    def _able(self, label: str, what: str) -> Callable[..., Any]:
        method: Callable[..., Any] | None = getattr(self._private(label), what, None)
        if method is None:
            raise self._error(f"key {label} is not for this use: it cannot {what}")
        return method

    def _one(self, label: str, kind: ObjectClass) -> Any:  # noqa: ANN401 - likewise
        found = self._objects(label, kind)
        name = kind.name.lower().replace("_", " ")
        if not found:
            raise self._error(
                f"it has no {name} {label}", "is it the element with which this gateway enrolled?"
            )
        if len(found) > 1:
            raise self._error(
                f"it has {len(found)} {name}s {label}", "which one is meant? Delete the others"
            )
        return found[0]

    def _objects(self, label: str, kind: ObjectClass) -> list[Any]:
        asked = {Attribute.CLASS: kind, Attribute.LABEL: label}
        return list(self._open().get_objects(asked))

    # --- the session ------------------------------------------------------------------
    def _open(self) -> Any:  # noqa: ANN401 - likewise
        if self._session is None:
            failed, self._failed = self._failed, True
            token = self._token(anew=failed)
            try:
                # May write, for keys are made in it, too: there is one login for all.
                self._session = token.open(rw=True, user_pin=self._allowed(token))
            except pkcs11.UserAlreadyLoggedIn:
                self._session = token.open(rw=True)
            except (pkcs11.PinIncorrect, pkcs11.PinLenRange, pkcs11.PinInvalid):
                self._refused = self._error("it does not take the PIN", _TRY_PIN)
                raise self._refused from None
            except pkcs11.PinLocked:
                raise self._error("its PIN is locked", _UNLOCK) from None
            self._failed = False
        return self._session

    def _token(self, *, anew: bool) -> Any:  # noqa: ANN401 - likewise
        where = self._where
        library = pkcs11.lib(where.module_path)
        if anew:  # some never see again what was once away
            library.reinitialize()
        found = [
            each
            for each in library.get_tokens()
            if where.token in {None, each.label}
            and where.serial in {None, each.serial.decode("ascii", "replace")}
            and where.manufacturer in {None, each.manufacturer_id}
            and where.model in {None, each.model}
        ]
        if len(found) != 1:
            raise self._error(
                f"{len(found)} of this name are there" if found else "it is not there",
                "name its serial, too" if found else "is it plugged in, is its driver running?",
            )
        return found[0]

    def _allowed(self, token: Any) -> str | None:  # noqa: ANN401 - likewise
        """The PIN, if it may be tried."""
        if self._pin is None:
            return None
        if token.flags & TokenFlag.USER_PIN_LOCKED:
            raise self._error("its PIN is locked", _UNLOCK)
        if self._refused is not None:
            raise self._refused
        if token.flags & TokenFlag.USER_PIN_COUNT_LOW and not self._try_pin:
            raise self._error("a wrong PIN was tried, and no right one since", _TRY_PIN)
        return self._pin

    # --- the thread -------------------------------------------------------------------
    def _work(self) -> None:
        while True:
            answer, call = self._calls.get()
            if answer.set_running_or_notify_cancel():
                try:
                    answer.set_result(self._kept_open(call))
                except BaseException as error:  # noqa: BLE001 - it goes to who asked
                    answer.set_exception(error)

    def _kept_open(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except _LOST as error:
            if self._session is None:
                raise
            _log.info("element %s: %s; opening it again", self._name, type(error).__name__)
            self._session = None
            self._keys.clear()
            return call()

    def _call(self, call: Callable[[], _T], within_s: float) -> _T:
        try:
            result = self._answer(call, within_s)
        except KeyDeviceError as error:
            if self._well:  # once: whoever taps may tap again and again
                _log.error("%s", error)
            self._well = False
            raise
        if not self._well:
            _log.info("element %s works again", self._name)
        self._well = True
        return result

    def _answer(self, call: Callable[[], _T], within_s: float) -> _T:
        if self._hangs is not None and not self._hangs.done():
            raise self._error("it has not answered yet")
        answer: Future[_T] = Future()
        self._calls.put((answer, call))
        try:
            return answer.result(within_s)
        except TimeoutError:
            if not answer.cancel():
                self._hangs = answer
            raise self._error(f"no answer in {within_s:.0f} s") from None
        except pkcs11.PKCS11Error as error:
            said = f"{type(error).__name__} {error}".strip()
            raise self._error(said, "is module-path its library, and is it well?") from error

    def _error(self, what: str, remedy: str = "") -> KeyDeviceError:
        return KeyDeviceError(f"secure element {self._name}: {what}", remedy)


@cache
def element(where: KeyUri) -> Element:
    """The token that a URI names; `where` names neither a key nor a PIN."""
    return Element(where)
