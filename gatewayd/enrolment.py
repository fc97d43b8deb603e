"""A gateway's side of enrolment: its files, and what it asks and hears.

One file holds everything until the end (`core.enrolment_progress`), so that a
power cut at any moment leaves either the step before or the step after, and
the same command goes on from there with the same keys and the same request.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.config import stated
from gatewayd.config.stated import Bindings
from gatewayd.core import certificates, enrolment
from gatewayd.core.certificates import Certificate
from gatewayd.core.enrolment import Enrolled, EnrolmentRefusedError, Request
from gatewayd.core.enrolment_progress import DamagedProgressError, Event, Progress, Step
from gatewayd.core.invitation import Claim
from gatewayd.core.key_uri import SCHEME, KeyUri
from gatewayd.core.topics import EnrolTopics
from gatewayd.device_keys import KeyDeviceError, KeyDevices, KeyUse
from gatewayd.keyfiles import PRIVATE_MODE, PUBLIC_MODE, KeyFileError
from gatewayd.ports.upstream import Upstream

STATE_NAME: Final = "enrolment.state"
CONFIGURATION: Final = "gatewayd.toml"
AGAIN_S: Final = 5.0
"""A request is sent again after so long: brokers keep nothing, and the cloud may come later."""

IN_ELEMENTS: Final = {"gateway.pem": KeyUse.EXCHANGE, "receipt.pem": KeyUse.SIGN}
"""The others cannot be: what elements and Python's ssl know does not reach (decision 36)."""

_URI: Final = SCHEME.encode()

Unseal = Callable[[bytes, bytes, ec.EllipticCurvePrivateKey], bytes]
"""(sealed, info, key) -> plaintext; RemoteProtocolError."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The enrolment of the gateway whose files are in `directory`."""

    directory: Path
    unseal: Unseal
    devices: KeyDevices
    zone: str = ""
    """Of new doors."""

    @property
    def _state(self) -> Path:
        return self.directory / STATE_NAME

    def progress(self) -> Progress:
        """Where it is. KeyFileError when what is kept is damaged."""
        if not self._state.exists():
            return Progress()
        data = keyfiles.read_file(self._state, "enrolment under way", private=True)
        try:
            return Progress.decode(data)
        except DamagedProgressError as error:
            raise KeyFileError(
                f"{self._state} is damaged: {error}",
                "take it away and ask the operator for another claim",
            ) from None

    def begin(self, claim: Claim, element: KeyUri | None = None) -> Progress:
        """The request for this claim, kept; the same again when it was begun before.

        `element`: where those keys are made that can be in a secure element. KeyFileError.
        """
        progress = self.progress()
        if progress.step is not Step.NOTHING and progress.claim == claim.text():
            if element is not None and not progress.keys["gateway.pem"].startswith(_URI):
                raise KeyFileError(
                    "this claim was begun without a secure element",
                    "go on without --key-in, or ask the operator for another claim",
                )
            return progress
        if progress.step is Step.ANSWERED:
            raise KeyFileError(
                f"this machine has become {Claim.parse(progress.claim).gateway} with another claim",
                "say gatewayd setup enrol first: it ends that, without a claim",
            )
        self._check_name(claim.gateway)
        keys = {name: self._key(name, progress.keys, element) for name in _MAKERS}
        answer_key = _new_p256()
        request = Request(
            claim=claim.id,
            certificate_request=certificates.request(claim.gateway, _p256(keys["tls.key"])),
            key=self._public("gateway.pem", keys),
            log_key=_ed25519(keys["log.pem"]).public_key().public_bytes_raw(),
            receipt_key=self._public("receipt.pem", keys),
            answer_key=_p256(answer_key).public_key(),
        )
        begun = progress.begun(claim.text(), keys, answer_key, request.sign(claim))
        keyfiles.keep_file(self._state, begun.encode())
        return begun

    def accept(self, progress: Progress, answer: bytes) -> Progress:
        """Keep an answer that is this operator's to our request.

        Raises:
            RemoteProtocolError: it is not.
            EnrolmentRefusedError: it is, and it is no; nothing is kept of it then.
        """
        try:
            self._verified(progress, answer)
        except EnrolmentRefusedError:
            progress.ended(Event.REFUSED)
            keyfiles.remove_file(self._state)
            raise
        granted = progress.granted(answer)
        keyfiles.keep_file(self._state, granted.encode())
        return granted

    def install(self, progress: Progress) -> tuple[Enrolled, list[Path]]:
        """Every file in its place, and then no more to remember; returns what was written."""
        enrolled = self._verified(progress, progress.answer)
        progress.ended(Event.INSTALLED)
        private = {self.directory / name: pem for name, pem in progress.keys.items()}
        files_of_all = public_files(enrolled)
        if not (self.directory / CONFIGURATION).exists():
            bound = _bound(enrolled)
            files_of_all |= {
                stated.key_name(door): keyfiles.public_pem(key)
                for door, key in bound.lock_keys.items()
            }
            text = configuration(enrolled, bound, self.directory, self.zone)
            files_of_all[CONFIGURATION] = text.encode()
        public = {self.directory / name: data for name, data in files_of_all.items()}
        for files, mode in ((private, PRIVATE_MODE), (public, PUBLIC_MODE)):
            for path, data in files.items():
                keyfiles.keep_file(path, data, mode=mode)
        keyfiles.remove_file(self._state)
        return enrolled, [*private, *public]

    def _verified(self, progress: Progress, answer: bytes) -> Enrolled:
        claim = Claim.parse(progress.claim)
        request = Request.verify(progress.request, claim.key.public_key())
        opened = self.unseal(answer, enrolment.seal_info(claim.id), _p256(progress.answer_key))
        enrolled = enrolment.verify_answer(opened, claim, request)
        _bound(enrolled)
        return enrolled

    def _check_name(self, gateway: str) -> None:
        """A claim is for this gateway, or this machine is none yet. KeyFileError."""
        path = self.directory / CONFIGURATION
        if not path.exists():
            return
        text = keyfiles.read_file(path, "configuration").decode("utf-8", "replace")
        try:
            match tomllib.loads(text):
                case {"gateway": {"id": str(name)}} if name != gateway:
                    raise KeyFileError(
                        f"this machine is {name} already, and the claim is for {gateway}",
                        "one card is one gateway: take an empty card (docs/replace.md)",
                    )
        except (tomllib.TOMLDecodeError, RecursionError):
            return  # `gatewayd check` says more

    def _key(self, name: str, begun: Mapping[str, bytes], element: KeyUri | None) -> bytes:
        """The key there is, so that one claim after another is for the same gateway; else new."""
        path = self.directory / name
        use = IN_ELEMENTS.get(name) if element is not None else None
        there = name in begun or path.exists()
        kept = begun.get(name) or (self._kept(path) if there else b"")
        if element is None or use is None:
            return kept or _MAKERS[name]()
        if kept and not kept.startswith(_URI):
            raise KeyFileError(
                f"{path} is there already, in a file, and a gateway keeps its keys",
                "take gateway.pem and receipt.pem away first, and ask for another claim",
            )
        return kept or self._in_element(element, name, use)

    def _kept(self, path: Path) -> bytes:
        if path.name in IN_ELEMENTS and (uri := keyfiles.device_uri(path, "key")) is not None:
            return f"{uri.text()}\n".encode()
        read = (
            keyfiles.read_ed25519_private if path.name == "log.pem" else keyfiles.read_p256_private
        )
        return keyfiles.private_pem(read(path, "key"))

    def _in_element(self, element: KeyUri, name: str, use: KeyUse) -> bytes:
        try:
            uri = self.devices.make(element, f"gatewayd {name.removesuffix('.pem')}", use)
        except KeyDeviceError as error:
            raise KeyFileError(str(error), error.remedy) from None
        return f"{uri.text()}\n".encode()

    def _public(self, name: str, keys: Mapping[str, bytes]) -> ec.EllipticCurvePublicKey:
        data = keys[name]
        if not data.startswith(_URI):
            return _p256(data).public_key()
        try:
            return self.devices.open(
                KeyUri.parse(data.decode().strip()), IN_ELEMENTS[name]
            ).public_key()
        except KeyDeviceError as error:
            raise KeyFileError(str(error), error.remedy) from None


async def ask(
    upstream: Upstream, progress: Progress, accept: Callable[[bytes], Progress]
) -> Progress:
    """Send the request until an answer is accepted. Whatever else is said counts for nothing."""
    topics = EnrolTopics(Claim.parse(progress.claim).id)
    while True:
        await upstream.publish(topics.request, progress.request)
        try:
            async with asyncio.timeout(AGAIN_S):
                while True:
                    _, payload = await upstream.receive()
                    try:
                        return accept(payload)
                    except RemoteProtocolError:
                        continue  # anybody may say anything here
        except TimeoutError:
            continue


def public_files(enrolled: Enrolled) -> dict[str, bytes]:
    """What is not secret, by name."""
    grant = enrolled.grant
    chain = [Certificate.parse(each) for each in (grant.certificate, grant.authority)]
    files = {
        "gateway.cwt": grant.credential,
        "root.pub.pem": keyfiles.public_pem(enrolled.root),
        "trust.cose": enrolled.bundle,
        "time.cose": grant.time,
        "tls.crt": b"".join(each.pem() for each in chain),
    }
    if grant.authorities:
        files["broker.crt"] = b"".join(certificates.pem(each) for each in grant.authorities)
    return files


def configuration(enrolled: Enrolled, bound: Bindings, directory: Path, zone: str) -> str:
    """A configuration with the doors; what the operator does not know is bound on site."""
    ours = enrolled.credential
    lines = ["# written by gatewayd setup enrol; see docs/configuration.md", "[gateway]"]
    lines.append(f'id = "{ours.gateway}"')
    if directory == Path("/etc/gatewayd"):
        lines.append('state = "/var/lib/gatewayd"')
    lines += ["", "[trust]", 'time = "time.cose"', "", "[radio]", 'kind = "bluez"']
    lines += ["", "[uplink]", f'broker = "{enrolled.grant.broker}"']
    if enrolled.grant.broker.startswith("mqtts:"):
        if enrolled.grant.authorities:
            lines.append('authorities = "broker.crt"')
        lines += ['certificate = "tls.crt"', 'key = "tls.key"']
    known = {door.id: stated.tables([door]) for door in bound.doors}
    for door in sorted(ours.doors):
        where = f'zone = "{zone}"' if zone else '# zone = "Europe/Copenhagen"'
        by_name = f'[[door]]\nid = "{door}"\n{where}\n'
        lines += ["", known.get(door, by_name).rstrip()]
    return "\n".join(lines) + "\n"


def _bound(enrolled: Enrolled) -> Bindings:
    """What the answer says of its doors. RemoteProtocolError."""
    if enrolled.grant.bindings is None:
        return Bindings((), {})
    bound = stated.bindings(enrolled.grant.bindings)
    if not {door.id for door in bound.doors} <= enrolled.credential.doors.keys():
        raise enrolment.unauthentic("it binds doors that the credential does not name")
    return bound


# --- keys -----------------------------------------------------------------------
def _new_p256() -> bytes:
    return keyfiles.private_pem(ec.generate_private_key(ec.SECP256R1()))


def _new_ed25519() -> bytes:
    return keyfiles.private_pem(ed25519.Ed25519PrivateKey.generate())


_MAKERS: Final[Mapping[str, Callable[[], bytes]]] = {
    "gateway.pem": _new_p256,
    "log.pem": _new_ed25519,
    "receipt.pem": _new_p256,
    "tls.key": _new_p256,
}


def _p256(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - `_MAKERS` made it
    return key


def _ed25519(pem: bytes) -> ed25519.Ed25519PrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ed25519.Ed25519PrivateKey)  # noqa: S101 - `_MAKERS` made it
    return key
