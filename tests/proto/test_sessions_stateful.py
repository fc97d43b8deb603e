"""Two real ends, and an attacker who delays, drops, repeats, invents and replays.

Whatever happens: only RemoteProtocolError comes out; what one end hears is what
the other said, in order and once; whoever is not proved hears one constant
error and nothing else; no link holds more than it may.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from firmware_proto.codes import Action, FrameKind, Outcome, Presence, Reason
from firmware_proto.errors import RemoteProtocolError
from firmware_proto.lock_messages import Done, GetState
from firmware_proto.messages import FaultMessage
from firmware_proto.phone_messages import Open, Result
from firmware_proto.session import ERROR_FRAME, HelloReceived, MessageReceived, Session
from firmware_proto.session_tables import SessionState
from tests.support import wire
from tests.support.wire import SECRET

IDS = st.binary(min_size=16, max_size=16)
SPEAKING = {
    0: {SessionState.KEYED, SessionState.SPOKEN, SessionState.ESTABLISHED},
    1: {SessionState.HEARD, SessionState.ESTABLISHED},
}


class Attacked(RuleBasedStateMachine):
    """Side 0 is the initiator. `pipes[side]` is what side has written and nobody has read."""

    captured = Bundle("captured")

    def __init__(self) -> None:
        super().__init__()
        self.ends: tuple[Session, Session] = (wire.phone(64), wire.gateway(64))
        self.pipes: list[list[bytes]] = [[], []]
        self.said: list[list[object]] = [[], []]
        self.heard: list[list[object]] = [[], []]
        self.written: list[list[bytes]] = [[], []]
        self.failed = [False, False]
        self.meddled = False
        self.resumes = False

    @initialize(
        mtu=st.sampled_from([23, 64, 517]), kind=st.integers(0, 2), peaceful=st.integers(0, 3)
    )
    def connect(self, mtu: int, kind: int, peaceful: int) -> None:
        """The attack begins at once, after the handshake, the first request or its answer."""
        self.resumes = kind == 1
        if kind == 0:
            self.ends = (wire.phone(mtu), wire.gateway(mtu))
            self.ends[0].begin()
        else:
            self.ends = (wire.lock_client(mtu), wire.lock_server(mtu))
            self.ends[1].begin()
        steps = (self.settle, lambda: self.ask(bytes(16)), lambda: self.answer(bytes(16)))
        for step in steps[:peaceful]:
            step()
            self.settle()

    # --- the two ends -----------------------------------------------------------------
    @rule(side=st.integers(0, 1))
    def write(self, side: int) -> None:
        fragments = self.ends[side].data_to_send()
        self.pipes[side] += fragments
        self.written[side] += fragments

    @rule()
    def settle(self) -> None:
        """Everything arrives, until both are quiet."""
        for _ in range(6):
            for side in (0, 1):
                self.write(side)
                self.deliver(side, len(self.pipes[side]))

    @rule(side=st.integers(0, 1), count=st.integers(1, 40))
    def deliver(self, side: int, count: int) -> None:
        for _ in range(min(count, len(self.pipes[side]))):
            self.give(1 - side, self.pipes[side].pop(0))

    @precondition(lambda self: self.can_speak(0))
    @rule(request=IDS)
    def ask(self, request: bytes) -> None:
        is_phone = isinstance(self.ends[0], wire.PhoneSession)
        self.say(
            0,
            Open(request, "street", Action.OPEN, Presence.TAP) if is_phone else GetState(request),
        )

    @precondition(lambda self: self.can_speak(1))
    @rule(request=IDS)
    def answer(self, request: bytes) -> None:
        is_phone = isinstance(self.ends[0], wire.PhoneSession)
        kind = Result if is_phone else Done
        last = (None,) if is_phone else (7,)
        self.say(1, kind(request, Outcome.CONFIRMED, Reason.OK, *last))

    # --- the attacker -------------------------------------------------------------------
    @precondition(lambda self: any(self.written))
    @rule(target=captured, side=st.integers(0, 1), at=st.integers(0, 200))
    def capture(self, side: int, at: int) -> bytes:
        known = self.written[side] or self.written[1 - side]
        return known[at % len(known)]

    @rule(side=st.integers(0, 1), fragment=captured)
    def replay(self, side: int, fragment: bytes) -> None:
        self.meddle(side, fragment)

    @rule(side=st.integers(0, 1), noise=st.binary(max_size=70), plausible=st.booleans())
    def invent(self, side: int, noise: bytes, plausible: bool) -> None:
        self.meddle(side, wire.CHANNEL + noise if plausible else noise)

    @rule(side=st.integers(0, 1), kind=st.sampled_from(FrameKind), body=st.binary(max_size=10))
    def forge(self, side: int, kind: FrameKind, body: bytes) -> None:
        """A frame in one well-formed fragment with the right sequence number."""
        number = self.ends[side]._framing._next_in
        frame = bytes([kind]) + body
        header = wire.CHANNEL + bytes([0xC0 | number]) + len(frame).to_bytes(2, "big")
        self.meddle(side, header + frame)

    @precondition(lambda self: any(self.pipes))
    @rule(side=st.integers(0, 1))
    def drop(self, side: int) -> None:
        self.meddled = True
        if self.pipes[side]:
            self.pipes[side].pop(0)

    # --- what must always hold ------------------------------------------------------------
    @invariant()
    def nothing_is_heard_that_was_not_said(self) -> None:
        for side in (0, 1):
            heard = [item for item in self.heard[side] if not isinstance(item, FaultMessage)]
            assert heard == self.said[1 - side][: len(heard)]

    @invariant()
    def no_link_holds_too_much(self) -> None:
        assert all(end.held <= 2048 for end in self.ends)

    @invariant()
    def honest_ends_left_alone_do_not_fail(self) -> None:
        assert self.meddled or not any(self.failed)

    # --- helpers --------------------------------------------------------------------------
    def can_speak(self, side: int) -> bool:
        return self.ends[side].state in SPEAKING[side]

    def say(self, side: int, message) -> None:
        self.ends[side].send(message)
        self.said[side].append(message)
        self.take(side)

    def meddle(self, side: int, fragment: bytes) -> None:
        self.meddled = True
        self.give(side, fragment)

    def give(self, side: int, fragment: bytes) -> None:
        self.ends[side].receive_data(fragment)
        self.take(side)

    def take(self, side: int) -> None:
        end = self.ends[side]
        try:
            while (event := end.next_event()) is not None:
                if isinstance(event, MessageReceived):
                    self.heard[side].append(unpadded(event.message))
                elif isinstance(event, HelloReceived) and self.resumes:
                    self.try_to_resume(end, event)
                else:
                    wire.choosing_handshake(end, event)
        except RemoteProtocolError:
            self.check_failure(side)

    def try_to_resume(self, end, event: HelloReceived) -> None:
        if event.hello.session == SECRET.session:
            end.resume(SECRET)
        else:
            end.refuse()

    def check_failure(self, side: int) -> None:
        end = self.ends[side]
        assert end.state is SessionState.CLOSED
        if not self.failed[side] and not end.authenticated:
            fragments = end.data_to_send()
            assert [fragment[5:] for fragment in fragments] == [ERROR_FRAME]
        self.failed[side] = True


def unpadded(message):
    if isinstance(message, Result):
        return Result(message.request, message.outcome, message.reason, message.receipt)
    return message


Attacked.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestAttacked = Attacked.TestCase
