"""The steps of `gatewayd setup` that change what is kept: claims, releases and bindings.

Each can be repeated, is gone on with after a power cut, can be undone, and
returns what it changed, in words. What a lock may have done is looked up at
the lock, never assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from firmware_proto.claiming import NOBODYS, Label
from firmware_proto.codes import Outcome, Reason
from firmware_proto.cose import key_id
from gatewayd import keyfiles
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.commissioning import Commissioner, Met, OperatorKeys, identity
from gatewayd.config import Report, checks, on_site
from gatewayd.config.lines import Lines
from gatewayd.config.model import LockFiles, Relay
from gatewayd.config.on_site import Binding, ClaimedLock
from gatewayd.config.provisional import HOLDS_S
from gatewayd.core.model import Verdict
from gatewayd.logs import printable
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Lookout, Sighting
from gatewayd.setup_site import SetupError, Site, entropy, open_radio

SCAN_S: Final = 5.0
ROUND_S: Final = 1.0
"""Who was heard so far is asked then; a lock that is near is among the first."""
_KEY_FILE: Final = "lock-{}.pub.pem"
_HINTS: Final = {
    Reason.BAD_CLAIM: "read the label again: its secret is not this lock's",
    Reason.BUTTON_NEEDED: "press the button of the lock, then try again within two minutes",
    Reason.ALREADY_CLAIMED: "its owner has to release it first, or has its label and button",
    Reason.UNTRUSTED_GATEWAY: "the credential and the bundle are of two operators: gatewayd check",
    Reason.WRONG_GATEWAY_DOOR: "the credential does not name this door: gatewayd keys inspect",
    Reason.OLD_STATEMENT: "the operator signs the one that is due: anchors count up by one, "
    "leave names the lock and its present epoch",
    Reason.BAD_SIGNATURE: "the statement is not of the operator to whom the lock belongs",
}


def _nobody_reads() -> Label:
    raise SetupError("the label of the lock is needed", "it is inside its housing, or its box")


@dataclass(frozen=True, slots=True)
class Installer:
    """Who looks on. heard: each lock as it is heard. button: one has to be pressed.

    told: what is being done, where it takes a while. label: asks for it, where it is needed.
    serial: what he was told of the operator's last anchor for locks; 0 where there was none.
    """

    heard: Callable[[Sighting], None] = lambda _: None
    button: Callable[[], None] = lambda: None
    told: Callable[[str], None] = lambda _: None
    label: Callable[[], Label] = _nobody_reads
    serial: int = 0


# --- scanning ---------------------------------------------------------------------------------
async def scan(site: Site, seconds: float, sees: Installer) -> Sequence[Sighting]:
    """Locks around that belong to nobody, strongest first. RadioError."""
    async with open_radio(site, unclaimed=True) as central:
        return await central.look(seconds, sees.heard)


# --- claiming ---------------------------------------------------------------------------------
async def claim_lock(
    site: Site, door: str, label: Label | None, address: str | None, sees: Installer
) -> list[str]:
    """Claim the lock with this label for a door, or end a claim that was cut short.

    RadioError leaves it where it is: the same again goes on. SetupError: it cannot be.
    """
    site.door(door)
    known = site.setup.lock_of(door)
    if known is not None and known.stage == "releasing":
        raise SetupError(
            f"the lock of {door} is being released", f"end that first: setup release-lock {door}"
        )
    if known is not None and (done := await _goes_on(site, known, label, sees)) is not None:
        return done
    label = label or sees.label()
    key_file = site.state / _KEY_FILE.format(key_id(label.key).hex())
    async with open_radio(site, unclaimed=True) as central:
        party = _party(site, central, sees)
        sees.told("looking for the lock with this label")
        found = await _with_label(party, central, label, address, sees)
        sees.told(f"it is {found}, and blinks")
        async with party.meet(identity(label.key, NOBODYS, found)) as met:
            lock = ClaimedLock(door=door, address=found, key=key_file, stage="claiming")
            _keep_key(key_file, label.key)
            site.keep(site.setup.with_lock(door, lock))  # from here on a power cut is found
            verdict = await party.claim(met, label, door, _operator(site, sees.serial))
    if verdict.outcome is not Outcome.CONFIRMED:
        site.keep(site.setup.with_lock(door, known))
        if known is None:
            key_file.unlink(missing_ok=True)
        raise _refused("claim", verdict)
    sees.told("claimed; dialling it once more, as its gateway")
    ours = await _met_as_ours(site, lock)
    if ours is None:
        raise RadioError(
            f"the lock of {door} was claimed, but does not answer as ours yet",
            "the same command again goes on",
        )
    return _claimed(site, lock, ours)


async def _with_label(
    party: Commissioner, central: Lookout, label: Label, address: str | None, sees: Installer
) -> str:
    """The address of the lock with a label. Everybody is asked once, after `SCAN_S` nobody more."""
    asked: set[str] = set()
    for _ in range(1 if address else math.ceil(SCAN_S / ROUND_S)):
        around = [Sighting(address, None)] if address else await central.look(ROUND_S, sees.heard)
        heard = [each for each in around if each.address not in asked]
        if (found := await party.whose_label(label, heard)) is not None:
            return found
        asked.update(each.address for each in heard)
    raise RadioError(
        f"none of {len(asked)} lock(s) that belong to nobody has this label",
        "is it the label of this very lock, and is the lock's radio awake? press its button",
    )


async def _goes_on(
    site: Site, known: ClaimedLock, label: Label | None, sees: Installer
) -> list[str] | None:
    """A lock that this door has already; None when its claim never came to anything."""
    key = _key_of(known)
    if label is not None and label.key != key:
        raise SetupError(
            f"{known.door} has another lock already: {known.address}",
            f"undo that first: setup release-lock {known.door}, with --forget when it is broken",
        )
    sees.told(f"dialling {known.address}: is it the lock of {known.door} already?")
    met = await _met_as_ours(site, known)
    if met is not None:
        return _claimed(site, known, met)
    if known.stage == "claimed":
        raise RadioError(f"the lock of {known.door}, {known.address}, does not answer")
    sees.told("it is not: it is claimed once more")
    return None


def _claimed(site: Site, lock: ClaimedLock, met: Met) -> list[str]:
    done = replace(
        lock,
        stage="claimed",
        epoch=met.epoch,
        model=printable(met.state.model),
        firmware=printable(met.state.firmware),
    )
    if done == site.setup.lock_of(lock.door):
        return []
    site.keep(site.setup.with_lock(lock.door, done))
    what = f"{done.model} {done.firmware} at {lock.address}"
    return [f"{what} is the lock of {lock.door} now, in its epoch {done.epoch}"]


async def _met_as_ours(site: Site, lock: ClaimedLock) -> Met | None:
    """How it is, when it answers as the lock of its door."""
    async with open_radio(site) as central:
        party = _party(site, central, Installer())
        try:
            async with party.meet(identity(_key_of(lock), lock.door, lock.address)) as met:
                return met
        except RadioError:
            return None


# --- anchoring --------------------------------------------------------------------------------
async def anchor_lock(site: Site, door: str, statement: bytes) -> list[str]:
    """Carry an operator's anchor to the lock of a door. As `claim_lock`."""
    lock = lock_of(site, door)
    async with open_radio(site) as central:
        party = _party(site, central, Installer())
        async with party.meet(identity(_key_of(lock), door, lock.address)) as met:
            verdict = await party.anchor(met, statement)
    if verdict.outcome is not Outcome.CONFIRMED:
        raise _refused("anchor", verdict)
    return [f"the lock of {door} obeys the keys of this anchor now"]


# --- releasing --------------------------------------------------------------------------------
async def release_lock(
    site: Site, door: str, label: Label | None, statement: bytes | None, sees: Installer
) -> list[str]:
    """Make a door's lock nobody's: by its label, or by the operator's word. As `claim_lock`."""
    lock = lock_of(site, door)
    if label is not None and label.key != _key_of(lock):
        raise SetupError("that is the label of another lock", f"{door} has {lock.address}")
    going = replace(lock, stage="releasing")
    site.keep(site.setup.with_lock(door, going))
    if await _is_nobodys(site, lock):  # what was cut short had come to its end
        return await forget_lock(site, door)
    async with open_radio(site) as central:
        party = _party(site, central, sees)
        async with party.meet(identity(_key_of(lock), door, lock.address)) as met:
            if label is not None:
                verdict = await party.release(met, label)
            else:
                verdict = await party.release_by(met, statement or b"")
    if verdict.outcome is not Outcome.CONFIRMED:
        site.keep(site.setup.with_lock(door, replace(lock, stage="claimed")))
        raise _refused("release", verdict)
    return await forget_lock(site, door)


async def _is_nobodys(site: Site, lock: ClaimedLock) -> bool:
    """Only a release that was begun before is worth the question."""
    if lock.stage != "releasing":
        return False
    async with open_radio(site, unclaimed=True) as central:
        try:
            nobody = identity(_key_of(lock), NOBODYS, lock.address)
            async with _party(site, central, Installer()).meet(nobody):
                return True
        except RadioError:
            return False


async def forget_lock(site: Site, door: str) -> list[str]:
    """Forget the lock of a door, and its binding to it."""
    lock = lock_of(site, door)
    binding = site.setup.binding_of(door)
    bound = binding is not None and binding.lock is not None
    left = site.setup.with_lock(door, None)
    if bound:
        await site.bind(left.with_binding(door, None), door)
    else:
        site.keep(left)
    if lock.key.parent == site.state and fnmatch(lock.key.name, _KEY_FILE.format("*")):
        with storage_errors(str(lock.key)):  # whatever else a hand has written there is not ours
            lock.key.unlink(missing_ok=True)
    said = [f"{door} has no lock of ours any more: {lock.address}"]
    return [*said, f"{door} is not bound on site any more"] if bound else said


# --- binding ----------------------------------------------------------------------------------
async def bind_lock(site: Site, door: str, address: str | None, *, warm: bool) -> list[str]:
    """Bind a door to the lock that was claimed for it."""
    lock = lock_of(site, door)
    if lock.stage != "claimed":
        raise SetupError(
            f"the lock of {door} is not claimed yet", f"go on with it: setup claim-lock {door}"
        )
    if address is not None and address != lock.address:
        raise SetupError(
            f"{address} was not claimed for {door}", f"the lock of {door} is {lock.address}"
        )
    files = LockFiles(key=lock.key, address=lock.address, warm=warm)
    return await _bind(site, door, files, None)


async def bind_relay(site: Site, door: str, relay: Relay) -> list[str]:
    """Bind a door to a relay of this machine."""
    return await _bind(site, door, None, relay)


async def _bind(site: Site, door: str, lock: LockFiles | None, relay: Relay | None) -> list[str]:
    site.door(door)
    now_s, known = site.now_s, site.setup.binding_of(door)
    new = Binding(door=door, since_s=now_s, until_s=now_s + HOLDS_S, lock=lock, relay=relay)
    same = known is not None and (known.lock, known.relay) == (lock, relay)
    if known is not None and same and door in site.mailbox.unconfirmed:
        new = known  # its week goes on
    setup = site.setup.with_binding(door, new)
    report = Report(Lines({}), [])
    checks.check_doors(on_site.place(site.config, setup).doors, report, unbound=True)
    if report.problems:
        raise SetupError(report.problems[0].message, report.problems[0].hint)
    await site.bind(setup, door)
    if new is known:
        return []
    moves = lock.address if lock is not None else f"relay {relay.line}" if relay else ""
    return [f"{door} is moved by {moves}, for 7 days unless the operator confirms it"]


async def unbind(site: Site, door: str) -> list[str]:
    """Bind a door to nothing; its lock stays claimed."""
    site.door(door)
    if site.setup.binding_of(door) is None:
        raise SetupError(f"{door} was not bound on site", "setup bind-door binds it")
    await site.bind(site.setup.with_binding(door, None), door)
    return [f"{door} is not bound on site any more"]


# --- what they share --------------------------------------------------------------------------
def lock_of(site: Site, door: str) -> ClaimedLock:
    """The lock that was claimed for a door. SetupError."""
    site.door(door)
    lock = site.setup.lock_of(door)
    if lock is None:
        raise SetupError(
            f"no lock was claimed for {door}", f"sudo gatewayd setup claim-lock {door}"
        )
    return lock


def _key_of(lock: ClaimedLock) -> ec.EllipticCurvePublicKey:
    return keyfiles.read_p256_public(lock.key, "lock key", "setup claim-lock wrote it")


def _keep_key(path: Path, key: ec.EllipticCurvePublicKey) -> None:
    with storage_errors(str(path)):
        keyfiles.replace_file(path, keyfiles.public_pem(key))


def _operator(site: Site, serial: int) -> OperatorKeys:
    return OperatorKeys(site.secrets.root, site.trust.gateways_key, site.trust.command_key, serial)


def _party(site: Site, central: Lookout, sees: Installer) -> Commissioner:
    return Commissioner(central, site.gateway, entropy(), sees.button)


def _refused(what: str, verdict: Verdict) -> SetupError:
    reason = verdict.reason.name.lower()
    return SetupError(
        f"the lock refuses the {what}: {reason}",
        _HINTS.get(verdict.reason, "see docs/setup.md, when something goes wrong"),
    )
