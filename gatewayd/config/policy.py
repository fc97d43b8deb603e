"""What a configuration says of the keys that a door lets in, class by class.

The description of a field is its documentation and the hint when it is wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from firmware_proto.codes import KeyClass
from gatewayd.core.policy import DEFAULTS, DISK_TROUBLES, ClassSettings, DoorSettings

_DAY_S: Final = 86_400


class ClassPolicy(Struct, frozen=True, kw_only=True):
    """What a door decides for one class of key; what is left out has its default."""

    stale_list_days: (
        Annotated[float, Meta(ge=0, description="how old a revocation list may be, in days")] | None
    ) = None
    arrival: Annotated[
        bool | None, Meta(description="true opens without a tap for keys that allow it")
    ] = None
    rate: (
        Annotated[int, Meta(ge=1, description="openings that one holder may ask for in a minute")]
        | None
    ) = None

    log_unavailable: (
        Annotated[
            tuple[Literal["full", "read-only", "io-error", "slow"], ...],
            Meta(
                description="opens, recorded in the reserve, while the log is: full, read-only, "
                "io-error, slow; residents in all four when left out, others in none"
            ),
        ]
        | None
    ) = None

    def settings(self, key_class: KeyClass) -> ClassSettings:
        """For the core."""
        troubles = self.log_unavailable
        default = DEFAULTS[key_class]
        days = self.stale_list_days
        return replace(
            default,
            stale_list_s=default.stale_list_s if days is None else days * _DAY_S,
            arrival=default.arrival if self.arrival is None else self.arrival,
            rate=default.rate if self.rate is None else self.rate,
            log_unavailable=default.log_unavailable
            if troubles is None
            else frozenset(DISK_TROUBLES[each] for each in troubles),
        )


class ResidentPolicy(ClassPolicy, frozen=True, kw_only=True):
    """Residents may be let in while nobody knows the time; so are emergency keys, always."""

    unknown_time: Annotated[
        bool | None, Meta(description="true opens for unscheduled keys while time is unknown")
    ] = None

    def settings(self, key_class: KeyClass) -> ClassSettings:
        """For the core."""
        settings = super().settings(key_class)
        if self.unknown_time is None:
            return settings
        return replace(settings, unknown_time=self.unknown_time)


class Policy(Struct, frozen=True, kw_only=True):
    """One door's settings per class; nothing keeps the emergency class out."""

    resident: ResidentPolicy = ResidentPolicy()
    service: ClassPolicy = ClassPolicy()
    delivery: ClassPolicy = ClassPolicy()
    guest: ClassPolicy = ClassPolicy()

    @property
    def settings(self) -> DoorSettings:
        """For the core."""
        return DoorSettings(
            {
                KeyClass.RESIDENT: self.resident.settings(KeyClass.RESIDENT),
                KeyClass.SERVICE: self.service.settings(KeyClass.SERVICE),
                KeyClass.DELIVERY: self.delivery.settings(KeyClass.DELIVERY),
                KeyClass.GUEST: self.guest.settings(KeyClass.GUEST),
            }
        )
