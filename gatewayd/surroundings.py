"""What all doors of one gateway have around them: the log, the time, whom to believe."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gatewayd.lists import StatusLists
from gatewayd.ports.process import Entropy
from gatewayd.recorder import Recorder
from gatewayd.refusals import Refusals
from gatewayd.timekeeper import Timekeeper
from gatewayd.trusted import Trusted


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every door of one gateway shares."""

    log: Recorder
    timekeeper: Timekeeper
    entropy: Entropy
    trusted: Trusted
    lists: StatusLists
    secret: bytes
    """Keys the names of past requests; the same across restarts."""
    tasks: asyncio.TaskGroup
    refusals: Refusals
