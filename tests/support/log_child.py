"""A process that appends until it is killed, and says what it has been told is durable.

Run as `python -m tests.support.log_child PATH`; prints one line per entry
after `append` returned: its seq, and the number of the command recorded in it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.sqlite import open_log
from gatewayd.core.model import (
    ClockState,
    Command,
    CommandId,
    DoorId,
    EntryKind,
    Fact,
    TimeReading,
    Verdict,
)

TIME = TimeReading(ClockState.TRUSTED, 1_800_000_000, 1.0, 1_800_000_000)
INTENT = Fact(TIME, EntryKind.INTENT, DoorId("a"), Verdict(Outcome.UNKNOWN, Reason.OK))


def say(*words: object) -> None:
    sys.stdout.write(f"{' '.join(map(str, words))}\n")
    sys.stdout.flush()


async def main(path: Path) -> None:
    async with open_log(path) as log:
        say("open")
        while True:
            id_ = CommandId(os.urandom(16))
            seq = await log.append(INTENT, command=Command(id_, DoorId("a")))
            say("intent", seq, id_.hex())
            fact = Fact(
                TIME, EntryKind.OUTCOME, DoorId("a"), Verdict(Outcome.CONFIRMED, Reason.OK), seq
            )
            seq = await log.append(fact, settles=id_)
            say("outcome", seq, id_.hex())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
