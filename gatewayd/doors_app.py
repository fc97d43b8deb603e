"""Composition root of `gatewayd cloud confirm` and `move-door`: what the operator says of doors.

The store counts generations and serials. It is changed first, and then what it
says is signed, so whatever was cut off is said again by the same command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.credential import GatewayCredential, unverified
from gatewayd.adapters.sqlite_invitations import SqliteInvitations, open_invitations
from gatewayd.cloud.authority import issue_gateway_credential
from gatewayd.cloud.enrolling import CREDENTIAL_S
from gatewayd.cloud.holdings import apart, bindings
from gatewayd.config import stated
from gatewayd.core import state
from gatewayd.core.state import State, StateKind
from gatewayd.enrolment_app import Office, now_s


class NotSoError(Exception):
    """It cannot be said; `hint` says what can be done."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Said(NamedTuple):
    """One state, signed."""

    gateway: str
    kind: StateKind
    serial: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Spokesman:
    """The operator as whoever says what gateways serve. gateways: only to move doors."""

    office: Office
    command: ec.EllipticCurvePrivateKey = field(repr=False)
    gateways: ec.EllipticCurvePrivateKey | None = field(repr=False, default=None)

    def confirm(self, gateway: str, body: bytes) -> list[Said]:
        """What was bound on site, a body of BINDINGS, holds from now on.

        RemoteProtocolError for another body, NotSoError, StorageError.
        """
        bound = apart(body)
        with open_invitations(self.office.store) as store:
            _check_known(store, gateway)
            ours = {each.door: each for each in store.holdings(gateway)}
            for door in bound:
                if door not in ours:
                    raise NotSoError(f"{door} is no door of {gateway}", "gatewayd cloud doors")
            whole = [replace(each, body=bound.get(each.door, each.body)) for each in ours.values()]
            stated.bindings(bindings(whole) or b"")  # no lock twice, say
            store.bind(bound)
            return self._bindings(store, gateway)

    def move(self, door: str, to: str) -> list[Said]:
        """A door is served by another gateway from now on. As `confirm`."""
        with open_invitations(self.office.store) as store:
            _check_known(store, to)
            held = {each.door: each for each in store.holdings()}.get(door)
            if held is None:
                raise NotSoError(f"no gateway has a door {door}", "gatewayd cloud doors")
            for each in (*store.holdings(held.gateway), *store.holdings(to)):
                if each.body is None:
                    raise NotSoError(
                        f"what moves {each.door} of {each.gateway} is not known here",
                        "its installer's handover.json says it: gatewayd cloud confirm",
                    )
            store.move(door, to, self._next_credential)
            said = self._credential(store, to) + self._bindings(store, to)
            if held.gateway != to and store.holdings(held.gateway):
                said += self._credential(store, held.gateway)
                said += self._bindings(store, held.gateway)
            return said

    def _next_credential(self, doors: Mapping[str, int], before: bytes | None) -> bytes:
        assert self.gateways is not None  # noqa: S101 - whoever moves doors has it
        old = unverified(before or b"")
        now = now_s()
        stated = GatewayCredential(
            gateway=old.gateway,
            doors=doors,
            group=old.group,
            issued_at=now,
            expires=now + CREDENTIAL_S,
            key=old.key,
            log_key=old.log_key,
            receipt_key=old.receipt_key,
        )
        return issue_gateway_credential(stated, self.gateways)

    def _credential(self, store: SqliteInvitations, gateway: str) -> list[Said]:
        return self._say(store, gateway, StateKind.CREDENTIAL, store.credential(gateway) or b"")

    def _bindings(self, store: SqliteInvitations, gateway: str) -> list[Said]:
        body = bindings(store.holdings(gateway))
        return [] if body is None else self._say(store, gateway, StateKind.BINDINGS, body)

    def _say(
        self, store: SqliteInvitations, gateway: str, kind: StateKind, body: bytes
    ) -> list[Said]:
        serial = store.next_serial(gateway, kind.name.lower(), now_s())
        said = state.sign(State(kind, gateway, "", serial, body), self.command)
        return [Said(gateway, kind, serial, said)]


def _check_known(store: SqliteInvitations, gateway: str) -> None:
    if store.credential(gateway) is None:
        raise NotSoError(f"no gateway {gateway} has enrolled here", "gatewayd cloud doors")
    successor = store.successor(gateway)
    if successor is not None:
        raise NotSoError(f"{gateway} was replaced by {successor}", "gatewayd cloud doors")
