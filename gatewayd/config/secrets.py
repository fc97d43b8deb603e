"""The keys that a configuration names: read, and held against each other.

A gateway that starts with the wrong key would be refused by every phone and
lock, one by one, in the field; so everything that can be compared is compared
here, before anything listens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.config import lines
from gatewayd.config.decode import Report
from gatewayd.config.model import Config
from gatewayd.core import provisioned_time
from gatewayd.core.model import DoorId
from gatewayd.core.trust import Trust, verify_bundle, verify_credential
from gatewayd.device_keys import KeyUse, OpenKey
from gatewayd.keyfiles import KeyFileError

_T = TypeVar("_T")

_MAKE_KEYS: Final = "gatewayd keys make gateway"
_MAKE_CREDENTIAL: Final = "the operator issues one: gatewayd keys gateway --help"
_MAKE_TIME: Final = "the operator signs it: gatewayd keys time --help"
_MAKE_BUNDLE: Final = "the operator signs one: gatewayd keys bundle --help"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Everything cryptographic that a gateway starts with, verified and consistent."""

    trust: Trust
    """The bundle that was installed; one that came later may count instead (`gatewayd.trusted`)."""
    bundle: bytes = field(repr=False)
    root: ec.EllipticCurvePublicKey = field(repr=False)
    """Who signed it."""
    credential: GatewayCredential
    credential_bytes: bytes = field(repr=False)
    """As presented to phones and locks, verbatim."""
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    """For handshakes, and nothing else (RFC 9528 §9.2)."""
    log_key: ed25519.Ed25519PrivateKey = field(repr=False)
    receipt_key: ec.EllipticCurvePrivateKey = field(repr=False)
    lock_keys: Mapping[DoorId, ec.EllipticCurvePublicKey] = field(repr=False)
    provisioned_time_s: int | None
    """What the operator's time key signed when this gateway was set up; a floor at least."""


def read(config: Config, report: Report, open_key: OpenKey) -> Secrets | None:
    """Read and compare; None when anything was added to `report`."""
    before = len(report.problems)
    believed = _attempt(report, ("trust", "bundle"), lambda: _trust(config))
    key, log_key, receipt_key = _private_keys(config, report, open_key)
    lock_keys = _lock_keys(config, report)
    if believed is None:
        return None  # without it nobody can say whether the credential is genuine
    trust, bundle, root = believed
    presented = _attempt(report, ("keys", "credential"), lambda: _credential(config, trust))
    if presented is None or key is None or log_key is None or receipt_key is None:
        return None
    data, ours = presented
    time_s = _attempt(report, ("trust", "time"), lambda: _time(config, trust))
    found = Secrets(trust, bundle, root, ours, data, key, log_key, receipt_key, lock_keys, time_s)
    _compare_names(config, report, found)
    _compare_keys(config, report, found)
    return found if len(report.problems) == before else None


def _attempt(report: Report, place: lines.Path, read_it: Callable[[], _T]) -> _T | None:
    try:
        return read_it()
    except KeyFileError as error:
        report.add(place, error.message, error.hint)
        return None


def _trust(config: Config) -> tuple[Trust, bytes, ec.EllipticCurvePublicKey]:
    files = config.trust
    root = keyfiles.read_p256_public(files.root, "root key", "the operator hands it out")
    data = keyfiles.read_file(files.bundle, "trust bundle", _MAKE_BUNDLE)
    try:
        return verify_bundle(data, root), data, root
    except RemoteProtocolError as error:
        raise KeyFileError(
            f"trust bundle {files.bundle} is not one that {files.root} signed: {error.detail}",
            "are the root key and the bundle of the same operator, and is the file whole?",
        ) from None


def _credential(config: Config, trust: Trust) -> tuple[bytes, GatewayCredential]:
    path = config.keys.credential
    data = keyfiles.read_file(path, "gateway credential", _MAKE_CREDENTIAL)
    try:
        return data, verify_credential(data, trust)
    except RemoteProtocolError as error:
        raise KeyFileError(
            f"gateway credential {path} is not one that this operator signed: {error.detail}",
            "are the credential and the trust bundle of the same operator, and is the file whole?",
        ) from None


def _time(config: Config, trust: Trust) -> int | None:
    path = config.trust.time
    if path is None:
        return None
    data = keyfiles.read_file(path, "signed time", _MAKE_TIME)
    try:
        return provisioned_time.verify(data, trust, config.gateway.id)
    except RemoteProtocolError as error:
        raise KeyFileError(
            f"signed time {path} is not one that this operator signed for us: {error.detail}",
            _MAKE_TIME,
        ) from None


def _private_keys(
    config: Config, report: Report, open_key: OpenKey
) -> tuple[
    ec.EllipticCurvePrivateKey | None,
    ed25519.Ed25519PrivateKey | None,
    ec.EllipticCurvePrivateKey | None,
]:
    files = config.keys
    return (
        _attempt(
            report,
            ("keys", "gateway"),
            lambda: keyfiles.read_gateway_key(
                files.gateway, "gateway key", KeyUse.EXCHANGE, open_key, _MAKE_KEYS
            ),
        ),
        _attempt(
            report,
            ("keys", "log"),
            lambda: keyfiles.read_ed25519_private(files.log, "log key", _MAKE_KEYS),
        ),
        _attempt(
            report,
            ("keys", "receipt"),
            lambda: keyfiles.read_gateway_key(
                files.receipt, "receipt key", KeyUse.SIGN, open_key, _MAKE_KEYS
            ),
        ),
    )


def _lock_keys(config: Config, report: Report) -> dict[DoorId, ec.EllipticCurvePublicKey]:
    found: dict[DoorId, ec.EllipticCurvePublicKey] = {}
    for index, door in enumerate(config.doors):
        if door.lock is None:
            continue  # a relay has no key
        place = ("door", index, "lock", "key")
        key = _attempt(report, place, partial(_lock_key, door.lock.key))
        if key is not None:
            found[DoorId(door.id)] = key
    return found


def _lock_key(path: Path) -> ec.EllipticCurvePublicKey:
    return keyfiles.read_p256_public(path, "lock key", "it is on the lock's label")


def _compare_names(config: Config, report: Report, found: Secrets) -> None:
    """What the configuration, the credential and the bundle call things."""
    ours = found.credential
    if ours.gateway != config.gateway.id:
        report.add(
            ("gateway", "id"),
            f"gateway.id is {config.gateway.id}, but the credential is for {ours.gateway}",
            "mend the name, or name the other credential under [keys]",
        )
    if ours.group != found.trust.group:
        report.add(
            ("keys", "credential"),
            f"the credential is for group {ours.group}, the trust bundle for {found.trust.group}",
            _MAKE_CREDENTIAL,
        )
    for index, door in enumerate(config.doors):
        if door.id not in ours.doors:
            report.add(
                ("door", index, "id"),
                f"door[{index + 1}].id: the credential does not name {door.id}",
                f"it names {', '.join(sorted(ours.doors))}; phones would refuse this gateway",
            )


def _compare_keys(config: Config, report: Report, found: Secrets) -> None:
    """Each private key is the one whose public half the operator signed."""
    ours = found.credential
    pairs = {
        "gateway": found.key.public_key() == ours.key,
        "log": found.log_key.public_key().public_bytes_raw() == ours.log_key,
        "receipt": found.receipt_key.public_key() == ours.receipt_key,
    }
    for name, same in pairs.items():
        if not same:
            path = getattr(config.keys, name)
            report.add(
                ("keys", name),
                f"keys.{name}: {path} is not the key that the credential names",
                f"name the right file, or have a credential issued for it: {_MAKE_CREDENTIAL}",
            )
    if found.key.public_key() == found.receipt_key.public_key():
        report.add(
            ("keys", "receipt"),
            "keys.receipt: handshakes and receipts would share one key",
            f"one key has one purpose: {_MAKE_KEYS}",
        )
