"""What a machine at a door should be like: the table of checks, and what becomes of findings.

Laws: a judgement sees only what was observed and reads nothing itself; every
finding that wants something done has its remedy in one line; what could not
be looked at is said, and never counts as fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gatewayd.core import diagnosis_bluez as bluez
from gatewayd.core import diagnosis_host as host
from gatewayd.core import diagnosis_radio as radio
from gatewayd.core import diagnosis_terms as terms
from gatewayd.core import diagnosis_unit as unit
from gatewayd.core import diagnosis_wires as wires
from gatewayd.core.findings import Check, Finding, NotSeen, Severity

CHECKS: Final[tuple[Check[Any], ...]] = (
    Check(host.CONFIGURATION, host.Configuration, host.judge_configuration),
    Check(terms.TERMS, terms.Terms, terms.judge_terms),
    Check(bluez.VERSIONS, bluez.Versions, bluez.judge_versions),
    Check(bluez.SETTINGS, bluez.Settings, bluez.judge_settings),
    Check(radio.ADAPTERS, radio.Bluetooth, radio.judge_adapters),
    Check(radio.ADVERTISING, radio.Bluetooth, radio.judge_advertising),
    Check(wires.WIRES, wires.Wires, wires.judge_wires),
    Check(unit.UNIT, unit.Unit, unit.judge_unit),
    Check(host.PERMISSIONS, host.Access, host.judge_access),
    Check(host.CLOCK, host.Clock, host.judge_clock),
    Check(host.STORAGE, host.Disk, host.judge_disk),
    Check(host.JOURNAL, host.Journal, host.judge_journal),
)

NOBODY_LOOKED: Final = NotSeen("nobody looked")


def diagnose(observations: Mapping[str, object]) -> tuple[Finding, ...]:
    """All findings, in the order of the table, from observations by the name of their check."""
    return tuple(
        finding
        for check in CHECKS
        for finding in check.findings(observations.get(check.name, NOBODY_LOOKED))
    )


def worst(findings: Iterable[Finding]) -> Severity:
    """The worst severity among them; FINE when there are none."""
    return max((each.severity for each in findings), default=Severity.FINE)


def passes(findings: Iterable[Finding], *, strict: bool = False) -> bool:
    """Whether a gateway may be left alone here. `strict` accepts only what was seen to be fine."""
    accepted = {Severity.FINE, Severity.NOTE}
    if not strict:
        accepted |= {Severity.NOT_LOOKED_AT, Severity.WARNING}
    return all(each.severity in accepted for each in findings)
