"""What the operator keeps of every invitation and of every certificate, as a port.

Whoever implements it decides inside one transaction; a call that returned is
durable, a call that did not has changed nothing or everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


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
    """Door to generation."""
    broker: str
    """Where the gateway is to keep its session."""
    authorities: tuple[bytes, ...]
    """Who signed that broker's certificate, DER."""
    expires: int
    used_s: int | None = None
    alarms: int = 0
    """How often another device came with it."""


class InvitationStore(Protocol):
    """By claim, and by gateway."""

    def add(self, invitation: Invitation) -> None:
        """A new one."""
        ...

    def find(self, claim: bytes) -> Invitation | None:
        """None for a claim that this operator never made."""
        ...

    def overtaken(self, claim: bytes) -> bool:
        """Whether its gateway has used a later one: then this one serves nobody any more."""
        ...

    def use(self, claim: bytes, digest: bytes, credential: bytes, now_s: int) -> bytes:
        """Bind the claim to the request of this digest; returns the credential kept with it.

        For the same request again it is the first one. ClaimUsedError for
        another request, which is counted.
        """
        ...

    def credential(self, gateway: str) -> bytes | None:
        """What this gateway was given when it enrolled last."""
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
