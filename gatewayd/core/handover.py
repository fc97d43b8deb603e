"""The paper that an installer leaves behind: what was set up, and how well it was reached.

One page of HTML without anything from elsewhere, with a picture per lock in
SVG: how strong it is heard, and how long each dial took. The same as a
document for programs.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from gatewayd.core import handover_picture
from gatewayd.core.walk import Reach


@dataclass(frozen=True, slots=True)
class Trial:
    """One opening that was watched. leaf: where the door stood."""

    leaf: str
    time_s: int
    outcome: str
    reason: str
    took_ms: int


@dataclass(frozen=True, slots=True)
class DoorReport:
    """One door. moved_by: in words; until_s: of a binding that awaits the operator's word."""

    door: str
    moved_by: str
    until_s: int | None
    lock: str
    trials: Sequence[Trial]
    reach: Reach | None

    @property
    def missing(self) -> tuple[str, ...]:
        """What has not been done yet, or was not good enough."""
        done = {trial.leaf for trial in self.trials if trial.outcome == "confirmed"}
        said = [] if self.moved_by else ["bound to nothing"]
        said += [f"not opened while {leaf}" for leaf in ("open", "closed") if leaf not in done]
        if self.reach is not None:
            said += self.reach.faults
        elif self.lock:
            said.append("its lock was not dialled on a walk")
        return tuple(said)


@dataclass(frozen=True, slots=True)
class Handover:
    """The whole report. Times in Unix seconds."""

    gateway: str
    group: str
    software: str
    made_s: int
    doors: Sequence[DoorReport]
    bindings: bytes | None = None
    """What moves them, as the body of BINDINGS: for the operator, to confirm it."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not any(door.missing for door in self.doors)

    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "gateway": self.gateway,
            "group": self.group,
            "software": self.software,
            "made": self.made_s,
            "complete": self.complete,
            "doors": [_document(door) for door in self.doors],
            "bindings": None if self.bindings is None else b64encode(self.bindings).decode(),
        }

    def html(self) -> str:
        """For people, and for a signature."""
        doors = "".join(map(_section, self.doors))
        verdict = "complete" if self.complete else "not complete"
        return f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Handover of {escape(self.gateway)}</title>
<style>{_STYLE}</style>
<h1>Handover of {escape(self.gateway)}</h1>
<p>Door group {escape(self.group)}; gatewayd {escape(self.software)}; {_when(self.made_s)}.
The set-up is <strong>{verdict}</strong>.</p>
{doors}<h2>Signatures</h2>
<p class="line">installer</p>
<p class="line">for the building</p>
</html>
"""


_STYLE = """
body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;max-width:46rem;padding:1rem;color:#111}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3rem .5rem;
text-align:left}h1{font-size:1.6rem}svg{width:100%;max-width:36rem;height:auto;margin-top:1rem}
.missing{color:#a00000}section{break-inside:avoid}
.line{border-top:1px solid #111;margin-top:4rem;width:20rem;max-width:100%}
"""


def _document(door: DoorReport) -> dict[str, object]:
    reach = door.reach
    return {
        "door": door.door,
        "moved_by": door.moved_by,
        "until": door.until_s,
        "lock": door.lock,
        "missing": list(door.missing),
        "trials": [
            {
                "leaf": trial.leaf,
                "time": trial.time_s,
                "outcome": trial.outcome,
                "reason": trial.reason,
                "ms": trial.took_ms,
            }
            for trial in door.trials
        ],
        "walk": None if reach is None else walk_document(reach),
    }


def walk_document(reach: Reach) -> dict[str, object]:
    """What a walk came to, for programs."""
    return {
        "dials": reach.dials,
        "succeeded": reach.succeeded,
        "p50_ms": reach.percentile_ms(50),
        "p95_ms": reach.percentile_ms(95),
        "median_dbm": reach.median_dbm,
        "margin_db": reach.margin_db,
        "faults": list(reach.faults),
    }


def _section(door: DoorReport) -> str:
    bound = escape(door.moved_by) or "nothing"
    if door.until_s is not None:
        bound += f", until {_when(door.until_s)} unless the operator confirms it"
    rows = "".join(
        f"<tr><td>{escape(t.leaf)}<td>{escape(_ended(t))}<td>{t.took_ms} ms<td>{_when(t.time_s)}"
        for t in door.trials
    )
    trials = f"<table><tr><th>leaf<th>opening<th>took<th>when{rows}</table>" if rows else ""
    missing = "".join(f"<li>{escape(each)}" for each in door.missing)
    lock = f"; lock: {escape(door.lock)}" if door.lock else ""
    return (
        f"<section><h2>{escape(door.door)}</h2>\n<p>Moved by {bound}{lock}.</p>\n"
        + (f'<ul class="missing">{missing}</ul>\n' if missing else "")
        + trials
        + ("" if door.reach is None else handover_picture.svg(door.door, door.reach))
        + "</section>\n"
    )


def _ended(trial: Trial) -> str:
    return trial.outcome if trial.reason == "ok" else f"{trial.outcome}, {trial.reason}"


def _when(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
