"""A process that keeps a log as the daemon does: `python -m tests.support.storage_child STATE`.

Obeys one word a line: `open` records an opening with its outcome, `recover` tries the
log, `floor N` stores a time, `settings N` takes the operator's envelope of that serial,
`upgrade` makes the schema a version younger. Says what came of it, in one line, once it
may be believed.
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
from gatewayd.adapters.sqlite.schema import open_writer
from gatewayd.cloud.authority import Authority
from gatewayd.config import stated
from gatewayd.core import state
from gatewayd.core.model import Command, CommandId, DoorId, EntryKind, Fact, Verdict
from gatewayd.core.register import Slot
from gatewayd.core.state import State, StateKind
from gatewayd.handlers import AtNextStart
from gatewayd.mailbox import Handlers, Mailbox
from gatewayd.ports import StorageError
from gatewayd.recorder import COMMIT_S, Recorder
from gatewayd.timekeeper import Timekeeper
from gatewayd.trusted import Trusted
from tests.support.log_child import INTENT, TIME, say
from tests.support.younger import younger

SECRET = bytes(range(32))
DOOR = DoorId("a")
OPENED = Verdict(Outcome.CONFIRMED, Reason.OK)
YOUNGER = younger(1)
AUTHORITY = Authority.create("group")
GATEWAY = "stairwell-7"
SLOT = Slot(StateKind.SETTINGS, GATEWAY, "")
SETTINGS = '[[door]]\nid = "a"\npolicy.guest.rate = {}\n'


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


async def mailbox_of(recorder: Recorder) -> Mailbox:
    settings = AtNextStart("settings", stated.settings, lambda: None)
    trusted = Trusted(AUTHORITY.trust())
    handlers = Handlers(states={StateKind.SETTINGS: settings})
    return await Mailbox.load(GATEWAY, trusted, recorder.memory, lambda: 0, handlers)


def envelope(serial: int) -> bytes:
    body = stated.packed(SETTINGS.format(serial), {})
    said = State(StateKind.SETTINGS, GATEWAY, "", serial, body)
    return state.sign(said, AUTHORITY.command)


async def obey(words: list[str], recorder: Recorder, mailbox: Mailbox) -> None:
    match words:
        case ["open"]:
            await opening(recorder)
        case ["recover"]:
            say("well" if await recorder.recover() else "ill", recorder.trouble.name)
        case ["floor", number]:
            await recorder.memory.store("floor", number.encode())
            say("floor", number)
        case ["settings", number]:
            await mailbox.deliver(envelope(int(number)))
            say("settings", number)
        case ["fail"]:  # without a disk that fails: the reserve, wherever strace cannot inject
            recorder._fell_ill(StorageError("told to fail", reason=Reason.LOG_FULL))
            say("failing")


async def keep(place: Path) -> None:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_log(place / "log.db"))
        reserve = await stack.enter_async_context(open_reserve(place / "log.db.reserve"))
        timekeeper = await Timekeeper.load(SystemClock(), log, battery_clock=False)
        recorder = Recorder(log, log, timekeeper, SECRET, reserve)
        await recorder.begin()
        log.patience_s = COMMIT_S
        mailbox = await mailbox_of(recorder)
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.split() == ["upgrade"]:
                break
            await obey(line.split(), recorder, mailbox)
        else:
            return
    with closing(open_writer(place / "log.db", YOUNGER)):
        say("upgraded")


if __name__ == "__main__":
    asyncio.run(keep(Path(sys.argv[1])))
