"""What the operator keeps of every invitation and of every certificate, as a port.

Whoever implements it decides inside one transaction; a call that returned is
durable, a call that did not has changed nothing or everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gatewayd.cloud.holdings import Holding


class ClaimUsedError(Exception):
    """Another device has used this claim; that this one tried was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """One claim as its operator knows it: without the secret. Times in Unix seconds."""

    id: bytes
    key: bytes
    """The public half of `Claim.key`, raw: it verifies, and cannot sign."""
    gateway: str
    doors: Mapping[str, int]
    """Door to generation; before it is used to the least one, 0 where the store counts."""
    broker: str
    """Where the gateway is to keep its session."""
    authorities: tuple[bytes, ...]
    """Who signed that broker's certificate, DER."""
    expires: int
    enrols: str = ""
    """The broker that the claim names."""
    replaces: str | None = None
    """The gateway whose doors it takes over."""
    used_s: int | None = None
    alarms: int = 0
    """How often another device came with it."""


Sign = Callable[[Mapping[str, int], bytes | None], bytes]
"""(doors with generations, the credential before) -> the next one. What it raises undoes all."""


class InvitationStore(Protocol):
    """By claim, by gateway, and by door."""

    def add(self, invitation: Invitation) -> None:
        """A new one."""
        ...

    def find(self, claim: bytes) -> Invitation | None:
        """None for a claim that this operator never made."""
        ...

    def overtaken(self, claim: bytes) -> bool:
        """Whether its gateway has used a later one: then this one serves nobody any more."""
        ...

    def use(self, claim: bytes, digest: bytes, sign: Sign, now_s: int) -> bytes:
        """Bind the claim to the request of this digest; returns the credential kept with it.

        For the same request again it is the first one. ClaimUsedError for
        another request, which is counted; OthersDoorError, and nothing is used.
        """
        ...

    def certificate(self, gateway: str) -> bytes | None:
        """The newest that this gateway was given, DER."""
        ...

    def keep_certificate(self, gateway: str, der: bytes) -> None:
        """The newest from now on."""
        ...

    def all(self) -> Sequence[Invitation]:
        """Every invitation, in the order in which they were made."""
        ...

    # --- gateways and doors ---------------------------------------------------------
    def credential(self, gateway: str) -> bytes | None:
        """The newest that was signed for this gateway."""
        ...

    def successor(self, gateway: str) -> str | None:
        """Which gateway took over the last of its doors."""
        ...

    def holdings(self, gateway: str | None = None) -> Sequence[Holding]:
        """The doors of a gateway, or all; by name."""
        ...

    def bind(self, bodies: Mapping[str, bytes]) -> None:
        """What moves these doors, from now on."""
        ...

    def move(self, door: str, gateway: str, sign: Sign) -> None:
        """Give a door to another gateway, at the next generation, with a credential for both.

        A gateway that is left without doors keeps the credential it has. KeyError for a door or
        a gateway that there is not.
        """
        ...

    def next_serial(self, gateway: str, kind: str, least: int) -> int:
        """More than the last for this kind of state, and never given again."""
        ...
