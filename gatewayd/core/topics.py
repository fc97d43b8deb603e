"""Where gateways and the operator's cloud meet on the broker.

Nothing is believed because of its topic: a topic only says what to look at.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from gatewayd.core.model import GatewayId

PREFIX: Final = "gatewayd/v1"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GATEWAY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of gateways: the operator has a directory for each, and `..` is another one."""

EVERY_STATUS: Final = f"{PREFIX}/gateway/+/status"
_STATUS: Final = re.compile(rf"{PREFIX}/gateway/({_GATEWAY.pattern})/status")


def status_of(topic: str) -> str | None:
    """Whose status a topic is for; None when it is none."""
    found = _STATUS.fullmatch(topic)
    return None if found is None else found[1]


def _checked(name: str, allowed: re.Pattern[str] = _NAME) -> str:
    """ValueError for a name that would reach into other topics."""
    if not allowed.fullmatch(name):
        raise ValueError("a name on the broker has 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


CERTIFICATE: Final = "certificate"
RENEWED: Final = "renewed"
"""The kinds of the two answers to `GatewayTopics.renewal`: a certificate, a gateway credential."""
_ASKED: Final = {CERTIFICATE: "renew", RENEWED: "renew-credential"}
_KINDS: Final = {asked: kind for kind, asked in _ASKED.items()}
KEPT: Final = "kept"
"""The kind of what the cloud holds of a log, in topics: the last checkpoint that it cosigned."""
TRUST: Final = "trust"
"""The kind of a trust chain, in topics; the others are the names of states and orders."""


def group_topic(group: str, kind: str, subject: str = "") -> str:
    """Retained: what is to hold for a door group. ValueError for a kind that is none."""
    return f"{PREFIX}/group/{_group(group)}/{_checked(kind)}{_subject(subject)}"


def everybody_topic(kind: str, subject: str = "") -> str:
    """Retained: what is to hold for every gateway of the operator's."""
    return f"{PREFIX}/all/{_checked(kind)}{_subject(subject)}"


def _group(group: str) -> str:
    """A group's name is any text; where it could not stand in a topic its hash does."""
    return group if _NAME.fullmatch(group) else hashlib.sha256(group.encode()).hexdigest()


def _subject(subject: str) -> str:
    """One level more, for several states of one kind: a subject may be an address."""
    return f"/{hashlib.sha256(subject.encode()).hexdigest()[:16]}" if subject else ""


@dataclass(frozen=True, slots=True)
class GatewayTopics:
    """The topics of one gateway. ValueError for an id that cannot stand in a topic."""

    gateway: GatewayId
    group: str = ""
    """Its door group; needed for what the gateway subscribes to."""

    def __post_init__(self) -> None:
        _checked(self.gateway, _GATEWAY)

    @property
    def _base(self) -> str:
        return f"{PREFIX}/gateway/{self.gateway}"

    @property
    def status(self) -> str:
        """Retained JSON: is it there, and how is it. Also the topic of its last will."""
        return f"{self._base}/status"

    @property
    def checkpoint(self) -> str:
        """A signed checkpoint as a hint that there is something to pull."""
        return f"{self._base}/checkpoint"

    @property
    def time(self) -> str:
        """A nonce that wants a signed time."""
        return f"{self._base}/up/time"

    def answer(self, request: bytes) -> str:
        """The answer to one order."""
        return f"{self._base}/up/{request.hex()}"

    def down(self, kind: str, subject: str = "") -> str:
        """Envelopes for this gateway; retained where they are about what is to hold."""
        return f"{self._base}/down/{_checked(kind)}{_subject(subject)}"

    def renewal(self, kind: str) -> str:
        """A request for the next certificate or credential; the answer is `down(kind)`."""
        return f"{self._base}/up/{_ASKED[kind]}"

    @property
    def for_gateway(self) -> tuple[str, ...]:
        """What the gateway subscribes to: as deep as there are subjects, and no deeper."""
        places = [f"{self._base}/down", f"{PREFIX}/all"]
        if self.group:
            places.append(f"{PREFIX}/group/{_group(self.group)}")
        return tuple(f"{place}/{levels}" for place in places for levels in ("+", "+/+"))

    @property
    def for_cloud(self) -> tuple[str, ...]:
        """What the cloud subscribes to while it pulls."""
        return (f"{self._base}/up/+", self.status)


@dataclass(frozen=True, slots=True)
class EnrolTopics:
    """Where the holder of one claim asks, by `Claim.id`. Who listens learns no more."""

    claim: bytes

    @property
    def request(self) -> str:
        """From the gateway."""
        return f"{PREFIX}/enrol/{self.claim.hex()}/up"

    @property
    def answer(self) -> str:
        """To the gateway."""
        return f"{PREFIX}/enrol/{self.claim.hex()}/down"


FOR_ENROLMENT: Final = (
    f"{PREFIX}/enrol/+/up",
    *(f"{PREFIX}/gateway/+/up/{asked}" for asked in _KINDS),
)
"""What the cloud subscribes to for enrolling and renewing."""


def renewing(topic: str) -> tuple[GatewayTopics, str] | None:
    """Of which gateway, and which kind, this is a `renewal`; None for any other topic."""
    match topic.split("/"):
        case ["gatewayd", "v1", "gateway", name, "up", asked] if (
            asked in _KINDS and _GATEWAY.fullmatch(name)
        ):
            return GatewayTopics(GatewayId(name)), _KINDS[asked]
        case _:
            return None
