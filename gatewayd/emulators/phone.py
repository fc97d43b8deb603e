"""An emulated phone: opens a door with a key of its wallet, and says honestly how it ended.

Everything real but the screen: the whole protocol over the port `Lookout`.
The phone never sends an `Open` that could count twice: whatever it repeats,
it repeats under the same request id, and first asks what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from firmware_proto.codes import FAULTS, ID_BYTES, Action, Fault, Outcome, Presence, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.messages import GetResult
from firmware_proto.phone_messages import Open, Prepare, Result
from gatewayd.conversation import NotSentError
from gatewayd.core import keytoken, receipt
from gatewayd.core.model import Verdict
from gatewayd.emulators.visit import Answer, TurnedAwayError, Visit, visit
from gatewayd.emulators.wallet import Wallet
from gatewayd.ports import LinkClosedError, RadioError
from gatewayd.ports.process import Clock, Entropy
from gatewayd.ports.radio import Lookout

_OUT_OF_REACH = Verdict(Outcome.REFUSED, Reason.LOCK_UNREACHABLE)
_NO_ANSWER = Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT)
_FAULT_REASONS = {Fault.BUSY: Reason.BUSY, Fault.ID_REUSED: Reason.REPLAYED}


@dataclass(frozen=True, slots=True)
class Patience:
    """attempts: connections per errand. The rest in seconds.

    tap_valid_s: an `Open` that certainly never arrived is sent once more only
    so long after the tap; nobody expects a door to open later than that.
    """

    attempts: int = 3
    scan_s: float = 2.0
    dial_s: float = 8.0
    tap_valid_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds; of the last connection, except `total_s`. None: that step was not reached.

    connect_s: dialling. handshake_s: until message_2 had been checked.
    prepare_s: `Prepare` to its answer. answer_s: `Open` or `GetResult` to its answer.
    """

    total_s: float = 0.0
    connect_s: float | None = None
    handshake_s: float | None = None
    prepare_s: float | None = None
    answer_s: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How an errand ended.

    `receipt` is what the gateway signed, checked and kept in the wallet.
    `exchanges` counts application round trips of the last connection.
    """

    outcome: Outcome
    reason: Reason
    request: bytes
    gateway: str | None = None
    receipt: bytes | None = None
    timings: Timings = Timings()
    exchanges: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Errand:
    """What the user wants. `tap`: connect and prepare first, open when it completes."""

    door: str
    request: bytes
    action: Action = Action.OPEN
    presence: Presence = Presence.TAP
    tap: Awaitable[None] | None = None
    ask_only: bool = False


class Phone:
    """One phone with one wallet."""

    def __init__(
        self,
        central: Lookout,
        wallet: Wallet,
        clock: Clock,
        entropy: Entropy,
        patience: Patience | None = None,
    ) -> None:
        self.central = central
        self.wallet = wallet
        self.clock = clock
        self.entropy = entropy
        self.patience = patience or Patience()

    async def open_door(  # noqa: PLR0913 - every one is the user's choice
        self,
        door: str,
        *,
        address: str | None = None,
        action: Action = Action.OPEN,
        presence: Presence = Presence.TAP,
        tap: Awaitable[None] | None = None,
        request: bytes | None = None,
    ) -> Report:
        """Open a door: at `address`, or at whatever gateway in range serves it.

        `request` (16 bytes) only to repeat an earlier one. Never raises for
        what a gateway or the radio does.
        """
        errand = Errand(door, request or self.entropy.token_bytes(ID_BYTES), action, presence, tap)
        return await _Run(self, errand).to_the_end(address)

    async def ask_result(self, door: str, request: bytes, *, address: str | None = None) -> Report:
        """What became of an earlier request? Opens nothing."""
        return await _Run(self, Errand(door, request, ask_only=True)).to_the_end(address)

    async def arrive(self, door: str, address: str | None = None) -> Visit:
        """Connected to a gateway that serves the door. TurnedAwayError, RadioError."""
        return await _Run(self, Errand(door, b"", ask_only=True)).find(address)

    def now_s(self) -> float:
        """Steady seconds."""
        return self.clock.instant().boottime_s


class _Run:
    """One errand under way."""

    def __init__(self, phone: Phone, errand: Errand) -> None:
        self._phone = phone
        self._errand = errand
        self._began_s = phone.now_s()
        self._tapped_s = self._began_s
        self._waiting = errand.tap
        self._open_left = errand.ask_only  # from then on nothing but an answer proves anything
        self._attempts = 0
        self._times: dict[str, float] = {}

    async def to_the_end(self, address: str | None) -> Report:
        """Connect, ask, and connect again while that is safe and of use."""
        try:
            return await self._tries(address)
        finally:
            if asyncio.iscoroutine(self._waiting):
                self._waiting.close()  # nobody waits for the tap any more

    async def _tries(self, address: str | None) -> Report:
        for _ in range(self._phone.patience.attempts):
            self._attempts += 1
            self._times.clear()
            try:
                there = await self.find(address)
            except TurnedAwayError as error:
                if self._open_left:
                    return self._report(_NO_ANSWER)
                return self._report(Verdict(Outcome.REFUSED, error.reason))
            except RadioError:
                continue
            try:
                return await self._talk(there)
            except (LinkClosedError, TimeoutError, RemoteProtocolError):
                continue
            finally:
                await there.leave()
        return self._report(_NO_ANSWER if self._open_left else _OUT_OF_REACH)

    # --- finding the gateway ----------------------------------------------------------
    async def find(self, address: str | None) -> Visit:
        """A gateway that may serve the door. TurnedAwayError, RadioError."""
        turned_away: TurnedAwayError | None = None
        for candidate in await self._candidates(address):
            try:
                return await self._arrive(candidate)
            except TurnedAwayError as error:
                if turned_away is None or turned_away.reason is Reason.WRONG_GATEWAY_DOOR:
                    turned_away = error
        raise turned_away or RadioError("no gateway in range")

    async def _candidates(self, address: str | None) -> Sequence[str]:
        if address is not None:
            return [address]
        return await self._phone.central.scan(self._phone.patience.scan_s)

    async def _arrive(self, address: str) -> Visit:
        phone, began_s = self._phone, self._phone.now_s()
        try:
            async with asyncio.timeout(phone.patience.dial_s):
                link = await phone.central.dial(address)
        except TimeoutError as error:
            raise RadioError(f"{address} does not answer") from error
        self._times["connect_s"] = phone.now_s() - began_s
        there = await visit(
            link, phone.wallet, self._errand.door, phone.clock.instant().wall_s, phone.entropy
        )
        self._times["handshake_s"] = phone.now_s() - began_s - self._times["connect_s"]
        return there

    # --- asking -------------------------------------------------------------------------
    async def _talk(self, there: Visit) -> Report:
        errand = self._errand
        if self._waiting is not None:
            began_s = self._phone.now_s()
            ready = await there.ask(Prepare(errand.door))
            if ready is None:
                return self._conclude(there, ready)
            # Refused or not, the tap comes and Open decides anew.
            self._times["prepare_s"] = self._phone.now_s() - began_s
            waiting, self._waiting = self._waiting, None
            await waiting
            self._tapped_s = self._phone.now_s()
        began_s = self._phone.now_s()
        answer = await self._answer(there)
        self._times["answer_s"] = self._phone.now_s() - began_s
        return self._conclude(there, answer)

    async def _answer(self, there: Visit) -> Answer:
        errand = self._errand
        if self._open_left:
            answer = await there.ask(GetResult(errand.request, None))
            if errand.ask_only or not _never_asked(answer) or self._too_late():
                return answer
        try:
            self._open_left = True
            return await there.ask(
                Open(errand.request, errand.door, errand.action, errand.presence)
            )
        except NotSentError:
            self._open_left = False
            raise

    def _too_late(self) -> bool:
        return self._phone.now_s() - self._tapped_s > self._phone.patience.tap_valid_s

    # --- the end --------------------------------------------------------------------------
    def _conclude(self, there: Visit, answer: Answer) -> Report:
        if answer is None:
            # Nobody signed this: whoever forwarded an `Open` could also say so.
            outcome = Outcome.UNKNOWN if self._open_left else Outcome.REFUSED
            return self._report(Verdict(outcome, Reason.STRANGER), there)
        if isinstance(answer, Result):
            verdict = Verdict(answer.outcome, answer.reason)
            return self._report(verdict, there, self._checked(there, answer))
        may_have = FAULTS[answer.fault].may_have_happened
        reason = _FAULT_REASONS.get(answer.fault, Reason.LOCK_FAULT)
        return self._report(
            Verdict(Outcome.UNKNOWN if may_have else Outcome.REFUSED, reason), there
        )

    def _checked(self, there: Visit, answer: Result) -> bytes | None:
        """The receipt, if it says of this door, key and outcome what the answer says."""
        if answer.receipt is None:
            return None
        wallet = self._phone.wallet
        try:
            signed = receipt.verify(answer.receipt, there.credential.receipt_key)
        except RemoteProtocolError:
            return None
        own = keytoken.unverified(wallet.token).identity.digest()
        if (signed.door, signed.token, signed.outcome) != (
            self._errand.door,
            own,
            answer.outcome,
        ):
            return None
        wallet.keep_receipt(self._errand.request, answer.receipt)
        return answer.receipt

    def _report(
        self, verdict: Verdict, there: Visit | None = None, signed: bytes | None = None
    ) -> Report:
        return Report(
            outcome=verdict.outcome,
            reason=verdict.reason,
            request=self._errand.request,
            gateway=there.credential.gateway if there else None,
            receipt=signed,
            timings=Timings(total_s=self._phone.now_s() - self._began_s, **self._times),
            exchanges=there.exchanges if there else 0,
            attempts=self._attempts,
        )


def _never_asked(answer: Answer) -> bool:
    return isinstance(answer, Result) and answer.reason is Reason.NEVER_ASKED
