"""A process that keeps a log as the daemon does: `python -m tests.support.storage_child STATE`.

Obeys one word a line: `open` records an opening with its outcome, `recover` tries the
log, `floor N` stores a time, `upgrade` makes the schema a version younger. Says what
came of it, in one line, once it may be believed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

from firmware_proto.codes import Outcome, Reason
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.reserve import open_reserve
from gatewayd.adapters.sqlite import open_log
from gatewayd.adapters.sqlite.schema import LOG, Schema, open_writer
from gatewayd.core.model import Command, CommandId, DoorId, EntryKind, Fact, Verdict
from gatewayd.ports import StorageError
from gatewayd.recorder import COMMIT_S, Recorder
from gatewayd.timekeeper import Timekeeper
from tests.support.log_child import INTENT, TIME, say

SECRET = bytes(range(32))
DOOR = DoorId("a")
OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
YOUNGER = Schema(LOG.application_id, (*LOG.scripts, "CREATE TABLE more (id INTEGER) STRICT;\n"))


async def opening(recorder: Recorder) -> None:
    command = Command(CommandId(os.urandom(16)), DOOR)
    fact = Fact(TIME, EntryKind.OUTCOME, DOOR, OPENED)
    for each, about in ((INTENT, {"command": command}), (fact, {"settles": command.id})):
        try:
            await recorder.append(each, **about)
            say("log", each.kind.name, command.id.hex())
        except StorageError as error:
            try:
                await recorder.reserve(each, emergency=True, **about)
                say("reserve", each.kind.name, command.id.hex(), error.reason.name)
            except StorageError as last:
                say("none", each.kind.name, last.reason.name, error.reason.name)
                return


async def obey(state: Path, words: list[str], recorder: Recorder) -> None:
    match words:
        case ["open"]:
            await opening(recorder)
        case ["recover"]:
            say("well" if await recorder.recover() else "ill", recorder.trouble.name)
        case ["floor", number]:
            await recorder.memory.store("floor", number.encode())
            say("floor", number)
        case ["fail"]:  # without a disk that fails: the reserve, wherever strace cannot inject
            recorder._fell_ill(StorageError("told to fail", reason=Reason.LOG_FULL))
            say("failing")


async def keep(state: Path) -> None:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(state / "log.db"))
        reserve = await stack.enter_async_context(open_reserve(state / "log.db.reserve"))
        timekeeper = await Timekeeper.load(SystemClock(), log, battery_clock=False)
        recorder = Recorder(log, log, timekeeper, SECRET, reserve)
        await recorder.begin()
        log.patience_s = COMMIT_S
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.split() == ["upgrade"]:
                break
            await obey(state, line.split(), recorder)
        else:
            return
    with closing(open_writer(state / "log.db", YOUNGER)):
        say("upgraded")


if __name__ == "__main__":
    asyncio.run(keep(Path(sys.argv[1])))
