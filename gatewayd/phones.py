"""Serves phones: every link gets a session, every holder an answer, every stranger the same one.

Laws of this file:

* Until the holder of a genuine token has proved to hold its key, whatever
  fails gets the session's one constant error; the reason goes to the journal
  and, counted, into one log entry a minute.
* One phone's fault is that phone's: it ends its own task and no other.
* Links are few; `core.admission` says who yields.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from functools import partial
from typing import Final

from firmware_proto.codes import Fault, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.phone_session import GatewaySession
from firmware_proto.session import CredentialReceived, MessageReceived
from firmware_proto.session_tables import SessionState
from gatewayd.conversation import Conversation, WatchedLink
from gatewayd.core import keytoken
from gatewayd.core.admission import Evict, Links, Stay, Wait
from gatewayd.core.keytoken import KeyToken, TokenRejected
from gatewayd.courier import Bag, Carried, Courier
from gatewayd.device_keys import KeyDeviceError
from gatewayd.holders import Asked, Holders
from gatewayd.lock_connection import GatewayIdentity
from gatewayd.ports import LinkClosedError
from gatewayd.ports.process import Pulse
from gatewayd.ports.radio import Link, Peripheral
from gatewayd.surroundings import Surroundings
from gatewayd.vitals import UNWATCHED

_log: Final = logging.getLogger(__name__)

SECOND_LOOK_S: Final = 0.01
"""Before a link is ended: a busy gateway may have something of it that is not read yet."""
TURN_S: Final = 30.0
"""More than letting somebody in or sending him away takes."""


class _Strange(Exception):  # noqa: N818 - a way out of a conversation, not an error of ours
    """The peer is no holder, or stopped behaving like one; `reason` is for us alone."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Phones:
    """Everybody who is connected now: `cap` links at most, and one more while another leaves."""

    def __init__(
        self,
        identity: GatewayIdentity,
        holders: Holders,
        around: Surroundings,
        courier: Courier,
        *,
        cap: int,
    ) -> None:
        self.counts = holders.counts
        self._identity = identity
        self._holders = holders
        self._around = around
        self._courier = courier
        self._links = Links(cap)
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._newest = 0
        self._accepting: asyncio.Task[None] | None = None
        self._draining = False
        self._leaving = 0
        self._hanging_up: Pulse = UNWATCHED

    async def serve(self, peripheral: Peripheral, pulse: Pulse = UNWATCHED) -> None:
        """Accept phones until cancelled."""
        self._hanging_up = pulse.part("hanging up")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._make_room(pulse.part("room")), name="room for phones")
            self._accepting = group.create_task(
                self._accept(peripheral, group, pulse), name="phones arrive"
            )

    async def _accept(self, peripheral: Peripheral, group: asyncio.TaskGroup, pulse: Pulse) -> None:
        while True:
            pulse.waits()
            while not self._links.room:
                await self._change()
            link = await peripheral.accept()
            pulse.beat(TURN_S)
            self._newest += 1
            number = self._newest
            self._update(self._links.opened(number, self._now_s()))
            task = group.create_task(self._serve(number, link), name=f"phone {number}")
            self._serving[number] = task
            task.add_done_callback(partial(self._gone, number))

    def _gone(self, number: int, _task: asyncio.Task[None]) -> None:
        del self._serving[number]
        self._update(self._links.closed(number))

    async def drain(self) -> None:
        """No new phones; return when those who waited for an answer have it and all are gone."""
        if self._accepting is not None:
            self._accepting.cancel()
        for number, task in self._serving.items():
            state = self._links.held.get(number)
            if state is None or not state.asking:
                task.cancel()
        self._draining = True
        while self._serving:
            await self._change()

    async def _make_room(self, pulse: Pulse) -> None:
        """End links that have had their chance while there are too many; runs for ever."""
        while True:
            pulse.waits()
            match self._links.decide(self._now_s()):
                case Stay():
                    await self._change()
                case Evict(number):
                    pulse.beat(TURN_S)
                    await asyncio.sleep(SECOND_LOOK_S)
                    if self._links.decide(self._now_s()) != Evict(number):
                        continue
                    self.counts["evicted"] += 1
                    self._serving[number].cancel()
                    self._update(self._links.evicted(number, self._now_s()))
                case Wait(until_s):
                    wait_s = max(until_s - self._now_s(), 0.0)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s if wait_s < math.inf else None):
                            await self._change()

    async def _change(self) -> None:
        """Wait until a link came, went or got its answer."""
        await self._changed.wait()

    def _update(self, links: Links) -> None:
        """Tell everybody who waits for a change."""
        self._links = links
        self._changed.set()
        self._changed = asyncio.Event()

    # --- one link -------------------------------------------------------------------
    async def _serve(self, number: int, link: Link) -> None:
        try:
            await self._converse(number, link)
        except LinkClosedError:
            self.counts["left"] += 1
        except _Strange as strange:
            self._refused(strange.reason)
        except TimeoutError:
            self.counts["too slow"] += 1
        except KeyDeviceError:  # the device itself has told the journal, once
            self.counts["our key cannot be used"] += 1
        except Exception:  # noqa: BLE001 - a bug of ours must not close the door to everybody
            self.counts["our fault"] += 1
            _log.exception("phone %d: a fault of ours", number)
        finally:
            self._update(self._links.closed(number))
            await asyncio.shield(self._hang_up(link))

    async def _hang_up(self, link: Link) -> None:
        """Disconnect; the pulse stops when a radio lets nobody go any more."""
        if not self._leaving:
            self._hanging_up.beat(TURN_S)
        self._leaving += 1
        try:
            await link.close()
        finally:
            self._leaving -= 1
            if self._leaving:
                self._hanging_up.beat(TURN_S)
            else:
                self._hanging_up.waits()

    async def _converse(self, number: int, link: Link) -> None:
        entropy = self._around.entropy
        session = GatewaySession(
            GattFraming(link.mtu, None),
            ephemeral=entropy.private_key(),
            connection_id=entropy.token_bytes(1),
            static_key=self._identity.key,
            credential=self._identity.credential,
        )
        watched = WatchedLink(link, lambda: self._active(number, session))
        talk = Conversation(watched, session, self._identity.key)
        token = await self._identify(talk)
        if token is None:
            return
        bag = Bag(self._courier, token.identity.digest())
        while not self._draining:
            try:
                event = await talk.next_event()
            except RemoteProtocolError as error:
                await self._broken(number, token, error)
                return
            message = event.message if isinstance(event, MessageReceived) else None
            if not isinstance(message, Carried | Asked):
                self.counts["refused us"] += 1  # a fault is never answered with a fault
                return
            self._links = self._links.asked(number, self._now_s())
            if isinstance(message, Carried):
                await talk.send(await bag.answer(message))
            else:
                await talk.send(await self._holders.answer(token, message))
            self._update(self._links.answered(number, self._now_s()))

    def _active(self, number: int, session: GatewaySession) -> None:
        """A fragment came or went."""
        if session.state is SessionState.AWAITING_MESSAGE_3:
            self._links = self._links.greeted(number, self._now_s())
        else:
            self._links = self._links.active(number, self._now_s())

    async def _identify(self, talk: Conversation[GatewaySession]) -> KeyToken | None:
        """Whose key is it, and does the peer hold it? _Strange otherwise, after the error.

        None: the peer does not want to talk to this gateway.
        """
        try:
            event = await talk.next_event()
            if not isinstance(event, CredentialReceived):
                self.counts["refused us"] += 1
                return None
            token = keytoken.authenticate(event.credential or b"", self._around.trusted.now)
            key = token.key
        except TokenRejected as rejected:
            raise await self._constant_error(talk, rejected.reason) from None
        except (RemoteProtocolError, TimeoutError):
            raise await self._constant_error(talk, Reason.STRANGER) from None
        try:
            talk.session.trust(key)
        except RemoteProtocolError:
            raise await self._constant_error(talk, Reason.BAD_PROOF) from None
        return token

    async def _constant_error(self, talk: Conversation[GatewaySession], reason: Reason) -> _Strange:
        talk.session.refuse()
        with contextlib.suppress(LinkClosedError):  # gone or not, it is counted
            await talk.flush()
        return _Strange(reason)

    async def _broken(self, number: int, token: KeyToken, error: RemoteProtocolError) -> None:
        """The holder of an accepted token broke the protocol."""
        _log.warning("phone %d: %s", number, error)
        self.counts[f"broken: {error.fault.name.lower()}"] += 1
        if error.fault is Fault.REPLAYED:
            await self._around.refusals.write(token, None, Reason.REPLAYED)

    # --- bookkeeping ------------------------------------------------------------------
    def _refused(self, reason: Reason) -> None:
        self.counts[f"stranger: {reason.name.lower()}"] += 1
        self._around.refusals.stranger()
        # at debug, for a stranger must not be able to fill the journal either
        _log.debug("a stranger was refused: %s", reason.name.lower())

    def _now_s(self) -> float:
        return self._around.timekeeper.instant().boottime_s
