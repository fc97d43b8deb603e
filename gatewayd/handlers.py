"""What each kind of envelope does at this gateway: the table that the mailbox is given.

A further kind of state is one more line in `handlers`, and a `mailbox.StateHandler`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from firmware_proto.codes import Fault, Outcome, Reason
from firmware_proto.errors import RemoteProtocolError
from gatewayd.config import Secrets, overrides, stated
from gatewayd.core import statuslist
from gatewayd.core.envelope import Floor, Kind, Retire, Statement, TimeAnswer
from gatewayd.core.erasure import Erase, Erased
from gatewayd.core.model import EntryKind, Fact, Verdict
from gatewayd.core.state import StateKind
from gatewayd.lists import StatusLists
from gatewayd.mailbox import Handlers
from gatewayd.ports import StorageError
from gatewayd.ports.storage import Erasing, Memory
from gatewayd.retirement import retire, retired
from gatewayd.timekeeper import SignedTime, Timekeeper
from gatewayd.trusted import Trusted

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class AtNextStart:
    """A state that the gateway is wired from: it counts from the next start, which this asks for.

    So there is one way in which doors come about, and it is tried at every start.
    """

    name: str
    parse: Callable[[bytes], object]
    restart: Callable[[], None]
    in_force: bytes | None = field(default=None, repr=False)
    """What this run was wired from."""

    def check(self, subject: str, body: bytes) -> None:
        """See `mailbox.StateHandler`."""
        if subject:
            raise RemoteProtocolError(Fault.MALFORMED, f"{self.name} have no subject")
        self.parse(body)

    async def take(self, subject: str, body: bytes) -> None:
        """See `mailbox.StateHandler`."""
        del subject
        if body != self.in_force:
            _log.info("the operator sent other %s: they count from the next start", self.name)
            self.restart()


@dataclass(frozen=True, slots=True)
class EnclosedList:
    """A status list within an envelope: its issuer signed it all the same."""

    trusted: Trusted
    lists: StatusLists

    def check(self, subject: str, body: bytes) -> None:
        """See `mailbox.StateHandler`. The subject only keeps lists apart."""
        del subject
        statuslist.verify(body, self.trusted.now)

    async def take(self, subject: str, body: bytes) -> None:
        """See `mailbox.StateHandler`. What is held already may be newer, having come by itself."""
        try:
            await self.lists.deliver(body)
        except (RemoteProtocolError, StorageError) as error:  # the envelope itself is kept
            _log.info("list %s: %s", subject, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the handlers work on. `restart`: soon; `stop`: now."""

    secrets: Secrets
    trusted: Trusted
    memory: Memory
    log: Erasing
    timekeeper: Timekeeper
    times: SignedTime
    lists: StatusLists
    restart: Callable[[], None]
    stop: Callable[[], None]

    async def time(self, order: Statement) -> None:
        """An answer to a question of ours. TimeRefusedError."""
        answer = TimeAnswer.of(order.body)
        await self.times.answered(answer.nonce, answer.time_s)

    async def floor(self, order: Statement) -> None:
        """A time that was signed wrongly is taken back."""
        wrong = Floor.of(order.body)
        await self.timekeeper.lower(wrong.above_s, wrong.to_s)

    async def erase(self, order: Statement) -> Erased:
        """Entries are forgotten, those that the cloud keeps; told again, nothing changes."""
        wanted = Erase.of(order.body)
        if await retired(self.memory) is not None:
            raise RemoteProtocolError(Fault.UNSUPPORTED, "the log is closed")
        done = Verdict(Outcome.CONFIRMED, Reason.OK)
        fact = Fact(self.timekeeper.reading(), EntryKind.ERASED, None, done, order=order.name)
        try:
            erased = await self.log.erase(order.id, wanted.runs, fact)
        except ValueError as error:
            raise RemoteProtocolError(Fault.UNEXPECTED, str(error)) from None
        _log.info("the operator had %d entries erased: entry %d", erased.entries, erased.seq)
        if not erased.clean:
            _log.warning(
                "somebody reads the log: older copies of what was erased go at the next start"
            )
        return erased

    async def erase_unheard(self, order: Statement) -> None:
        """The same, where no answer can be brought back: the log's entry is one."""
        await self.erase(order)

    async def retire(self, order: Statement) -> None:
        """This gateway opens nothing any more; told again, it has nothing to stop.

        An order for the one before it, of the same name, is none of its own.
        """
        wanted = Retire.of(order.body)
        ours = wanted.log_key == self.secrets.credential.log_key
        if ours and await retired(self.memory) is None:
            await retire(self.memory, wanted)
            self.stop()

    def credential(self, body: bytes) -> None:
        """Whether it is one of ours. RemoteProtocolError."""
        overrides.credential(body, self.secrets, self.trusted.now)


def wiring(desk: Desk) -> dict[StateKind, AtNextStart]:
    """The states that the gateway is wired from."""
    return {
        StateKind.BINDINGS: AtNextStart("bindings", stated.bindings, desk.restart),
        StateKind.SETTINGS: AtNextStart("settings", stated.settings, desk.restart),
        StateKind.CREDENTIAL: AtNextStart("credentials", desk.credential, desk.restart),
    }


def handlers(desk: Desk, wired: dict[StateKind, AtNextStart]) -> Handlers:
    """All of them."""
    return Handlers(
        states={**wired, StateKind.LIST: EnclosedList(desk.trusted, desk.lists)},
        orders={
            Kind.TIME: desk.time,
            Kind.FLOOR: desk.floor,
            Kind.RETIRE: desk.retire,
            Kind.ERASE: desk.erase_unheard,
        },
        take_list=desk.lists.deliver,
    )
