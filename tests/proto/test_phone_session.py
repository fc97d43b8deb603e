"""A phone and a gateway, both real, over a byte pump: what works, and everything that must not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto import session_tables
from firmware_proto.codes import Action, Fault, FrameKind, Outcome, Presence, Reason
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.framing import GattFraming
from firmware_proto.lock_messages import Done, GetState
from firmware_proto.messages import FaultMessage, GetResult, encode
from firmware_proto.phone_messages import Open, Prepare, Result
from firmware_proto.phone_session import GatewaySession, PhoneSession
from firmware_proto.session import (
    ERROR_FRAME,
    MAX_CREDENTIAL_BYTES,
    CredentialReceived,
    MessageReceived,
    PeerRefused,
)
from firmware_proto.session_tables import SessionState
from tests.support import wire
from tests.support.wire import (
    CHANNEL,
    GATEWAY_KEY,
    GATEWAY_TOKEN,
    PHONE_KEY,
    PHONE_TOKEN,
    Pump,
    gateway,
    key,
    phone,
    token,
)

MTUS = [23, 64, 185, 517]
REQUEST = bytes(range(16))
OPEN = Open(REQUEST, "street", Action.OPEN, Presence.TAP)
OPENED = Result(REQUEST, Outcome.CONFIRMED, Reason.OK)


def established(mtu: int = 185) -> Pump:
    """Opened once."""
    pump = Pump(phone(mtu), gateway(mtu))
    pump.initiator.begin()
    pump.run()
    pump.initiator.send(OPEN)
    pump.run()
    pump.responder.send(OPENED)
    pump.run()
    return pump


def whole(fragments: list[bytes], channel: bytes | None = CHANNEL) -> list[bytes]:
    """The frames in fragments of one direction."""
    framing = GattFraming(517, channel)
    return [frame for fragment in fragments for frame in framing.receive(fragment)]


def feed(session, *frames: bytes, mtu: int = 517) -> None:
    """Give whole frames to a session that has received nothing yet."""
    framing = GattFraming(mtu, CHANNEL)
    for frame in frames:
        for fragment in framing.cut(frame):
            session.receive_data(fragment)


def contents(fragments: list[bytes]) -> list[bytes]:
    """What is in fragments that hold a whole frame each."""
    assert all(fragment[2] & 0xC0 == 0xC0 for fragment in fragments)
    return [fragment[5:] for fragment in fragments]


def drain(session, answer=lambda *_: None) -> None:
    while (event := session.next_event()) is not None:
        answer(session, event)


def fault_of(session) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        drain(session)
    return caught.value.fault


def assert_one_constant_error(session) -> None:
    """Exactly the error frame, once, and the session is over."""
    assert session.state is SessionState.CLOSED
    assert contents(session.data_to_send()) == [ERROR_FRAME]
    assert session.data_to_send() == []
    session.receive_data(b"anything")
    with pytest.raises(LocalProtocolError):
        session.send(OPEN)


# --- the way it should go -----------------------------------------------------------------
@pytest.mark.parametrize("mtu", MTUS)
def test_a_door_opens_at_every_mtu(mtu):
    pump = established(mtu)
    assert pump.heard_by_responder == [
        CredentialReceived(PHONE_TOKEN, None),
        MessageReceived(OPEN),
    ]
    shown, answered = pump.heard_by_initiator
    assert shown == CredentialReceived(GATEWAY_TOKEN, None)
    assert isinstance(answered, MessageReceived)
    assert (answered.message.outcome, answered.message.request) == (Outcome.CONFIRMED, REQUEST)
    assert pump.initiator.state is pump.responder.state is SessionState.ESTABLISHED


def test_the_frames_are_the_same_at_every_mtu():
    # A GATT value of the sender's MTU, seen through the receiver's framing.
    seen = {mtu: [whole(established(mtu).bytes_from(side)) for side in (0, 1)] for mtu in MTUS}
    assert all(frames == seen[23] for frames in seen.values())
    kinds = [[frame[0] for frame in side] for side in seen[23]]
    assert kinds == [
        [FrameKind.MESSAGE_1, FrameKind.MESSAGE_3, FrameKind.RECORD],
        [FrameKind.MESSAGE_2, FrameKind.RECORD],
    ]


def test_message_3_and_the_first_record_leave_in_one_flight_and_are_kept_until_trust():
    one, other = phone(), gateway()
    one.begin()
    for fragment in one.data_to_send():
        other.receive_data(fragment)
    assert other.next_event() is None
    for fragment in other.data_to_send():
        one.receive_data(fragment)
    one.next_event()
    one.trust(GATEWAY_KEY.public_key())
    one.send(Prepare("street"))
    one.send(OPEN)
    for fragment in one.data_to_send():
        other.receive_data(fragment)
    assert isinstance(other.next_event(), CredentialReceived)
    assert other.held > 0
    assert other.next_event() is None  # the caller has not decided
    assert not other.authenticated
    other.trust(PHONE_KEY.public_key())
    assert other.authenticated
    assert other.next_event() == MessageReceived(Prepare("street"))
    assert other.next_event() == MessageReceived(OPEN)
    assert other.next_event() is None
    assert other.held == 0


def test_a_conversation_goes_on():
    pump = established()
    ask = GetResult(REQUEST)
    for _ in range(70):
        pump.initiator.send(ask)
        pump.run()
        pump.responder.send(OPENED)
        pump.run()
    assert pump.heard_by_responder.count(MessageReceived(ask)) == 70


def test_results_have_one_size_on_the_air():
    pump = established()
    sizes = set()
    for answer in (
        OPENED,
        Result(None, Outcome.REFUSED, Reason.EXPIRED),
        Result(REQUEST, Outcome.UNKNOWN, Reason.LOCK_SILENT, bytes(200)),
    ):
        pump.responder.send(answer)
        sizes.add(sum(map(len, pump.responder.data_to_send())))
    assert len(sizes) == 1


def test_deadlines_follow_who_owes_an_answer():
    one, other = phone(), gateway()
    assert one.deadline_s is None
    assert other.deadline_s == 3
    pump = Pump(one, other)
    one.begin()
    assert one.deadline_s == 5
    pump.run()
    assert (one.deadline_s, other.deadline_s) == (None, 3)
    one.send(Prepare("street"))
    one.send(OPEN)
    pump.run()
    assert (one.deadline_s, other.deadline_s) == (20, None)
    other.send(Result(None, Outcome.CONFIRMED, Reason.OK))
    pump.run()
    assert (one.deadline_s, other.deadline_s) == (20, None)  # the opening is still owed
    other.send(OPENED)
    pump.run()
    assert (one.deadline_s, other.deadline_s) == (None, 10)
    one.send(FaultMessage(None, Fault.UNSUPPORTED))
    pump.run()
    assert (one.deadline_s, other.deadline_s) == (None, 10)  # a fault asks nothing
    other.send(OPENED)
    pump.run()
    assert one.deadline_s is None  # an answer too many owes nothing


# --- local errors ---------------------------------------------------------------------------
def test_the_caller_cannot_do_things_out_of_order():
    one, other = phone(), gateway()
    for session in (one, other):
        with pytest.raises(LocalProtocolError):
            session.send(OPEN)
        with pytest.raises(LocalProtocolError):
            session.trust(GATEWAY_KEY.public_key())
    one.begin()
    with pytest.raises(LocalProtocolError):
        one.begin()
    pump = Pump(one, other)
    pump.run()
    with pytest.raises(LocalProtocolError):
        other.send(OPENED)  # nothing heard yet
    one.send(OPEN)
    pump.run()
    other.send(OPENED)
    for wrong in (OPEN, GetState(REQUEST), Done(REQUEST, Outcome.CONFIRMED, Reason.OK, 0)):
        with pytest.raises(LocalProtocolError):
            other.send(wrong)
    for wrong in (OPENED, GetState(REQUEST), GetResult(REQUEST, REQUEST), Prepare("")):
        with pytest.raises(LocalProtocolError):
            one.send(wrong)
    pump.run()
    one.send(OPEN)  # none of this did any harm
    pump.run()
    assert pump.heard_by_responder[-1] == MessageReceived(OPEN)


def test_a_credential_must_fit_into_a_message():
    largest = 0
    while len(token("x", PHONE_KEY, padding=largest + 1)) <= MAX_CREDENTIAL_BYTES:
        largest += 1
    one = PhoneSession(
        GattFraming(23, CHANNEL),
        ephemeral=key(1),
        connection_id=b"\x0a",
        static_key=PHONE_KEY,
        credential=token("x", PHONE_KEY, padding=largest),
    )
    pump = Pump(one, gateway(23))
    one.begin()
    pump.run()
    assert pump.responder.authenticated
    with pytest.raises(LocalProtocolError):
        GatewaySession(
            GattFraming(23, None),
            ephemeral=key(1),
            connection_id=b"\x0a",
            static_key=GATEWAY_KEY,
            credential=token("x", GATEWAY_KEY, padding=largest + 1),
        )


# --- refusals ---------------------------------------------------------------------------------
def test_refusing_is_the_constant_error_before_authentication():
    pump = Pump(phone(), gateway(), answer=lambda session, _: session.refuse())
    pump.initiator.begin()
    pump.run()
    assert pump.heard_by_initiator == [CredentialReceived(GATEWAY_TOKEN, None)]
    assert pump.heard_by_responder == [PeerRefused()]
    assert whole(pump.bytes_from(0))[1:] == [ERROR_FRAME]
    assert pump.responder.data_to_send() == []  # an error is never answered
    assert pump.responder.next_event() is None


def test_refusing_an_authenticated_peer_only_closes():
    pump = established()
    pump.responder.refuse()
    pump.responder.refuse()
    assert pump.responder.state is SessionState.CLOSED
    assert pump.responder.data_to_send() == []
    assert pump.responder.deadline_s is None


def test_every_refusal_by_the_gateway_looks_the_same():
    """Whatever is wrong with the phone, the answer has the same bytes."""

    def run(answer, **changes) -> list[bytes]:
        one = PhoneSession(
            GattFraming(64, CHANNEL),
            **{
                "ephemeral": key(1),
                "connection_id": b"\x0a",
                "static_key": PHONE_KEY,
                "credential": PHONE_TOKEN,
                **changes,
            },
        )
        pump = Pump(one, gateway(64), answer=answer)
        one.begin()
        try:
            pump.run()
        except RemoteProtocolError:
            pump.sent += [(1, fragment) for fragment in pump.responder.data_to_send()]
        return pump.bytes_from(1)

    def distrusting(session, event):
        if isinstance(session, GatewaySession):
            session.refuse()
        else:
            wire.trusting(session, event)

    not_its_own = run(wire.trusting, static_key=key(666))
    untrusted = run(distrusting)
    assert not_its_own == untrusted
    assert whole(untrusted)[-1] == ERROR_FRAME


def test_the_wrong_key_is_found_out_by_both_sides():
    one, other = phone(), gateway()
    pump = Pump(one, other, answer=lambda *_: None)
    one.begin()
    pump.run()
    with pytest.raises(RemoteProtocolError) as caught:
        one.trust(key(667).public_key())
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED
    assert fault_of(one) is Fault.AUTHENTICATION_FAILED
    assert_one_constant_error(one)


def test_a_phone_without_a_token_is_refused():
    """ID_CRED_I that is no CWT by value."""
    one = phone()
    one._id_cred = {4: b"kid"}
    one._credential = wire.LOCK_CCS
    pump = Pump(one, gateway())
    one.begin()
    with pytest.raises(RemoteProtocolError) as caught:
        pump.run()
    assert caught.value.fault is Fault.UNSUPPORTED
    assert_one_constant_error(pump.responder)


# --- disorder before authentication -----------------------------------------------------------
MESSAGE_1, MESSAGE_3, RECORD = whole(established().bytes_from(0))
MESSAGE_2, ANSWER = whole(established().bytes_from(1))


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([MESSAGE_1[:1]], Fault.MALFORMED),
        ([MESSAGE_1[:-1]], Fault.MALFORMED),
        ([MESSAGE_1 + b"\xff"], Fault.MALFORMED),
        ([MESSAGE_2], Fault.UNEXPECTED),
        ([MESSAGE_3], Fault.UNEXPECTED),
        ([RECORD], Fault.UNEXPECTED),
        ([bytes([FrameKind.MESSAGE_4])], Fault.UNSUPPORTED),
        ([bytes([FrameKind.ATTACH])], Fault.UNEXPECTED),
        ([bytes([FrameKind.HELLO])], Fault.UNEXPECTED),
        ([bytes([FrameKind.RESUME])], Fault.UNEXPECTED),
        ([b"\x00"], Fault.UNSUPPORTED),
        ([b"\xff" * 2048], Fault.UNSUPPORTED),
        ([MESSAGE_1, MESSAGE_1], Fault.UNEXPECTED),
        ([MESSAGE_1, RECORD], Fault.UNEXPECTED),
        ([MESSAGE_1, MESSAGE_2], Fault.UNEXPECTED),
        ([MESSAGE_1, MESSAGE_3[:1]], Fault.MALFORMED),
        ([MESSAGE_1, MESSAGE_3[:-1]], Fault.MALFORMED),
    ],
)
def test_disorder_gets_the_constant_error_and_nothing_else(frames, fault):
    session = gateway()
    feed(session, *frames)
    assert fault_of(session) is fault
    assert fault_of(session) is fault  # and again
    assert_one_constant_error(session)


def test_every_changed_byte_of_a_handshake_is_refused_with_the_same_bytes():
    for index in range(1, len(MESSAGE_3), 7):
        changed = MESSAGE_3[:index] + bytes([MESSAGE_3[index] ^ 1]) + MESSAGE_3[index + 1 :]
        session = gateway()
        feed(session, MESSAGE_1, changed)
        with pytest.raises(RemoteProtocolError):
            session.next_event()
        assert_one_constant_error(session)


def test_broken_framing_before_authentication_gets_the_constant_error():
    session = gateway()
    session.receive_data(CHANNEL + b"\x01x")
    session.receive_data(b"more")
    assert fault_of(session) is Fault.OUT_OF_ORDER
    assert_one_constant_error(session)


def test_what_came_before_broken_framing_is_still_told():
    session = gateway()
    framing = GattFraming(517, CHANNEL)
    for frame in (MESSAGE_1, MESSAGE_3):
        for fragment in framing.cut(frame):
            session.receive_data(fragment)
    session.receive_data(CHANNEL + b"\x00x")
    assert session.next_event() == CredentialReceived(PHONE_TOKEN, None)
    assert fault_of(session) is Fault.OUT_OF_ORDER
    assert_one_constant_error(session)


def test_an_error_as_first_word_is_not_answered():
    for body in (b"\x01\x60", b"", b"\xff" * 2000):
        session = gateway()
        feed(session, bytes([FrameKind.ERROR]) + body)
        assert session.next_event() == PeerRefused()
        assert session.next_event() is None
        assert session.data_to_send() == []


def test_a_phone_is_told_that_it_was_refused_after_it_sent_its_request():
    one, other = phone(), gateway()
    pump = Pump(one, other, answer=lambda *_: None)
    one.begin()
    pump.run()
    one.trust(GATEWAY_KEY.public_key())
    one.send(OPEN)
    pump.run()
    assert other.state is SessionState.JUDGING
    other.refuse()
    pump.run()
    assert pump.heard_by_initiator[-1] == PeerRefused()
    assert one.state is SessionState.CLOSED


# --- how much a link may hold -------------------------------------------------------------------
def test_at_most_2048_bytes_are_held_and_more_is_a_fault():
    session = gateway()
    feed(session, MESSAGE_1, MESSAGE_3)
    session.next_event()  # now our caller decides, and everything else is kept
    assert session.held == 0
    framing = GattFraming(517, CHANNEL)
    for frame in (MESSAGE_1, MESSAGE_3):
        framing.cut(frame)  # so that sequence numbers go on
    most = 0
    for fragment in framing.cut(bytes(1000)) + framing.cut(bytes(1048)):
        session.receive_data(fragment)
        most = max(most, session.held)
    assert most == session.held == 2048
    session.receive_data(framing.cut(b"x")[0])
    assert session.held <= 2048
    assert fault_of(session) is Fault.TOO_LARGE
    assert_one_constant_error(session)
    assert session.held == 0


# --- after authentication -------------------------------------------------------------------------
def sealed(session, plaintext: bytes) -> list[bytes]:
    """Fragments of a record with any content, sealed and cut by one end."""
    return session._framing.cut(bytes([FrameKind.RECORD]) + session._records.seal(plaintext))


@pytest.mark.parametrize(
    ("plaintext", "fault"),
    [
        (b"", Fault.MALFORMED),
        (b"\xa1\x00\x01", Fault.MALFORMED),
        (b"\xa1\x00\x18\x40", Fault.UNSUPPORTED),
        (encode(OPENED), Fault.UNEXPECTED),
        (encode(GetState(REQUEST)), Fault.UNEXPECTED),
        (encode(GetResult(REQUEST, REQUEST)), Fault.UNEXPECTED),
    ],
)
def test_an_authenticated_peer_is_told_its_fault_sealed(plaintext, fault):
    pump = established()
    for fragment in sealed(pump.initiator, plaintext):
        pump.responder.receive_data(fragment)
    assert fault_of(pump.responder) is fault
    assert pump.responder.state is SessionState.CLOSED
    for fragment in pump.responder.data_to_send():
        pump.initiator.receive_data(fragment)
    assert pump.initiator.next_event() == MessageReceived(FaultMessage(None, fault))


@pytest.mark.parametrize(
    "frame",
    [
        bytes([FrameKind.RECORD]),
        bytes([FrameKind.RECORD]) + bytes(40),
        ERROR_FRAME,
        MESSAGE_1,
        MESSAGE_3,
        RECORD,
    ],
)
def test_after_authentication_a_bad_frame_ends_the_connection_without_a_word(frame):
    pump = established()
    for fragment in pump.initiator._framing.cut(frame):
        pump.responder.receive_data(fragment)
    fault_of(pump.responder)
    assert pump.responder.state is SessionState.CLOSED
    assert pump.responder.data_to_send() == []


def test_every_changed_bit_of_a_record_ends_the_connection():
    length = len(RECORD)
    for index in range(1, length, 5):
        pump = established()
        pump.initiator.send(OPEN)
        (frame,) = pump.initiator._outbox
        changed = frame[:index] + bytes([frame[index] ^ 0x10]) + frame[index + 1 :]
        for fragment in pump.initiator._framing.cut(changed):
            pump.responder.receive_data(fragment)
        fault_of(pump.responder)
        assert pump.responder.data_to_send() == []


# --- replays ------------------------------------------------------------------------------------
@pytest.mark.parametrize("mtu", MTUS)
def test_everything_captured_is_refused_on_the_same_connection(mtu):
    pump = established(mtu)
    told = len(pump.heard_by_responder)
    for fragment in pump.bytes_from(0):
        pump.responder.receive_data(fragment)
    fault_of(pump.responder)
    assert len(pump.heard_by_responder) == told
    for fragment in pump.bytes_from(1):
        pump.initiator.receive_data(fragment)
    fault_of(pump.initiator)


@pytest.mark.parametrize("mtu", MTUS)
def test_everything_captured_is_refused_on_a_new_connection(mtu):
    captured = established(mtu).bytes_from(0)
    session = gateway(mtu, ephemeral=99)
    for fragment in captured:
        session.receive_data(fragment)
    assert fault_of(session) is Fault.AUTHENTICATION_FAILED
    assert not session.authenticated
    assert_one_constant_error(session)


def test_a_captured_gateway_cannot_be_played_to_a_phone():
    captured = established().bytes_from(1)
    session = phone(ephemeral=98)
    session.begin()
    session.data_to_send()
    for fragment in captured:
        session.receive_data(fragment)
    with pytest.raises(RemoteProtocolError):
        drain(session, wire.trusting)
    assert not session.authenticated


def test_a_record_sent_twice_is_refused_as_replayed():
    pump = established()
    pump.initiator.send(OPEN)
    (frame,) = pump.initiator._outbox
    pump.run()
    for fragment in pump.initiator._framing.cut(frame):
        pump.responder.receive_data(fragment)
    assert fault_of(pump.responder) is Fault.REPLAYED


# --- anything at all ----------------------------------------------------------------------------
FRAMES = [MESSAGE_1, MESSAGE_2, MESSAGE_3, RECORD, ANSWER, ERROR_FRAME, b"\x07\xa0", b"\x09"]


@given(
    st.lists(
        st.sampled_from(FRAMES)
        | st.tuples(st.sampled_from(sorted(session_tables.FRAMES)), st.binary(max_size=60)).map(
            lambda pair: bytes([pair[0]]) + pair[1]
        ),
        max_size=6,
    ),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_whatever_frames_come_only_remote_errors_come_out(frames, as_phone):
    session = phone(23) if as_phone else gateway(23)
    if as_phone:
        session.begin()
        session.data_to_send()
    feed(session, *frames, mtu=185)
    try:
        while (event := session.next_event()) is not None:
            if isinstance(event, MessageReceived):
                break
            wire.trusting(session, event)
    except RemoteProtocolError:
        assert session.state is SessionState.CLOSED
        if not session.authenticated:
            assert contents(session.data_to_send()) == [ERROR_FRAME]
    assert session.held <= 2048


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_arbitrary_bytes_at_any_point_only_ever_raise_remote_errors(fragments, point):
    session = gateway(64)
    framing = GattFraming(64, CHANNEL)
    for fragment in [f for frame in (MESSAGE_1, MESSAGE_3, RECORD) for f in framing.cut(frame)][
        : point * 3
    ]:
        session.receive_data(fragment)
    for fragment in fragments:
        session.receive_data(fragment)
    try:
        while (event := session.next_event()) is not None:
            if not isinstance(event, MessageReceived):
                wire.trusting(session, event)
    except RemoteProtocolError:
        assert session.state is SessionState.CLOSED
    assert session.held <= 2048
