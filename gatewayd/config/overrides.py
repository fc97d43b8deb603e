"""A configuration with what the operator has said since: doors, their policies, the credential.

Whatever of it does not fit this gateway is left out and told, never a reason not
to start: the other doors open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from msgspec import structs

from firmware_proto.codes import Fault
from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd.config import checks, lines, stated
from gatewayd.config.decode import Report
from gatewayd.config.model import Config, Door
from gatewayd.config.secrets import Secrets
from gatewayd.config.stated import Bindings
from gatewayd.core.model import DoorId
from gatewayd.core.trust import Trust, later, verify_credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Bodies of the states that hold; None for what nobody said."""

    bindings: bytes | None = None
    settings: bytes | None = None
    credential: bytes | None = None
    renewed: bytes | None = None
    """A credential, the same but for its times; nobody said it, it was asked for."""
    provisional: tuple[bytes, ...] = ()
    """Bindings made on site, as long as they hold; each of one door."""


def credential(data: bytes, secrets: Secrets, trust: Trust) -> GatewayCredential:
    """A new credential of this gateway: same name, group and keys.

    RemoteProtocolError when it is not signed by the operator, or another's.
    """
    new, ours = verify_credential(data, trust), secrets.credential
    same = (new.gateway, new.group, new.log_key) == (ours.gateway, ours.group, ours.log_key)
    if not same or new.key != ours.key or new.receipt_key != ours.receipt_key:
        raise RemoteProtocolError(Fault.UNEXPECTED, "credential: of another gateway or other keys")
    return new


def overridden(
    config: Config, secrets: Secrets, trust: Trust, said: Said, tell: Callable[[str], None]
) -> tuple[Config, Secrets]:
    """What the gateway is to run with. `tell` hears what of `said` was left out."""
    secrets = _with_credential(secrets, trust, said, tell)
    bound = Bindings(config.doors, secrets.lock_keys)
    if said.bindings is not None:
        bound = _parsed("bindings", said.bindings, bound, tell)
    if said.provisional:
        bound = _with_provisional(bound, said.provisional, tell)
    doors = _with_policies(bound.doors, said, tell)
    bare = [door for door in doors if door.lock is None and door.relay is None]
    for door in bare:
        tell(f"door {door.id} is bound to nothing: gatewayd setup bind-door, or the operator")
    doors = tuple(door for door in doors if door not in bare)
    served = tuple(door for door in doors if door.id in secrets.credential.doors)
    for door in doors:
        if door not in served:
            tell(f"door {door.id} is not served: the gateway's credential does not name it")
    keys = {DoorId(door.id): bound.lock_keys[DoorId(door.id)] for door in served if door.lock}
    return structs.replace(config, door=served), replace(secrets, lock_keys=keys)


def _with_credential(
    secrets: Secrets, trust: Trust, said: Said, tell: Callable[[str], None]
) -> Secrets:
    """The one that was issued last: whoever was enrolled again is not held to an older word."""
    if said.credential is not None:
        try:
            new = credential(said.credential, secrets, trust)
        except RemoteProtocolError as error:
            tell(f"the credential that the operator sent is not used: {error.detail}")
        else:
            if new.issued_at >= secrets.credential.issued_at:
                secrets = replace(secrets, credential=new, credential_bytes=said.credential)
            else:
                tell("the credential that the operator sent is not used: the one here is newer")
    if said.renewed is not None:
        with contextlib.suppress(RemoteProtocolError):  # of a credential that counts no more
            newer = later(said.renewed, secrets.credential, trust)
            if newer is not None:
                secrets = replace(secrets, credential=newer, credential_bytes=said.renewed)
    return secrets


def _parsed(name: str, body: bytes, otherwise: Bindings, tell: Callable[[str], None]) -> Bindings:
    try:
        return stated.bindings(body)
    except RemoteProtocolError as error:
        tell(f"the {name} are not used: {error.detail}")
        return otherwise


def _with_provisional(
    bound: Bindings, bodies: Iterable[bytes], tell: Callable[[str], None]
) -> Bindings:
    """Doors made on site go before others of the same names."""
    nothing = Bindings((), {})
    parsed = [_parsed("provisional bindings", body, nothing, tell) for body in bodies]
    made = {door.id: door for each in parsed for door in each.doors}
    keys = {door: key for each in parsed for door, key in each.lock_keys.items()}
    doors = (*(door for door in bound.doors if door.id not in made), *made.values())
    report = Report(lines.Lines({}), [])
    checks.check_doors(doors, report, unbound=True)  # the others may still wait for theirs
    if report.problems:
        tell(f"the provisional bindings are not used: {report.problems[0].message}")
        return bound
    return Bindings(doors, {**bound.lock_keys, **keys})


def _with_policies(
    doors: tuple[Door, ...], said: Said, tell: Callable[[str], None]
) -> tuple[Door, ...]:
    if said.settings is None:
        return doors
    try:
        policies = stated.settings(said.settings)
    except RemoteProtocolError as error:
        tell(f"the settings are not used: {error.detail}")
        return doors
    return tuple(
        structs.replace(door, policy=policies[door.id]) if door.id in policies else door
        for door in doors
    )
