"""Judgements about what has an end: the gateway's credential, its certificate for the broker.

Both renew themselves while the operator answers; whoever looks long before their end
has the time to find out why they do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gatewayd.core.findings import Finding, Severity
from gatewayd.core.term import Term

TERMS: Final = "validity"

_WITHOUT: Final = {
    "credential": "phones and locks refuse this gateway",
    "certificate": "the broker refuses this gateway",
}
_AGAIN: Final = "another claim of the operator's, gatewayd setup enrol with it, and a restart"
_RENEWS: Final = "it renews itself where the broker is reached and gatewayd cloud enrol answers"


@dataclass(frozen=True, slots=True)
class Terms:
    """What was looked at, by the names in `_WITHOUT`. now_s: this machine's clock."""

    terms: Mapping[str, Term]
    now_s: int


def judge_terms(seen: Terms) -> Iterator[Finding]:
    """One finding for all that is well, and one for each that is not."""
    fine = []
    for name, term in seen.terms.items():
        left = f"the {name} {term.left(seen.now_s)}"
        if seen.now_s >= term.until:
            yield Finding(TERMS, Severity.ERROR, f"{left}: {_WITHOUT[name]}", _AGAIN)
        elif term.late(seen.now_s):
            yield Finding(TERMS, Severity.WARNING, f"{left} and was not renewed", _RENEWS)
        else:
            fine.append(left)
    if fine:
        yield Finding(TERMS, Severity.FINE, ", ".join(fine))
