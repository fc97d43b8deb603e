"""A gateway and a lock, both real, over a byte pump: resumption, handshake, and their abuse."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import (
    BoltState,
    DoorState,
    EventKind,
    Fault,
    FrameKind,
    LatchState,
    Mechanism,
    Outcome,
    Reason,
)
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from firmware_proto.fields import Battery
from firmware_proto.framing import GattFraming, WholeFrames
from firmware_proto.lock_messages import (
    Done,
    Event,
    GetEvents,
    GetState,
    Hello,
    Resume,
    State,
    Unlatch,
)
from firmware_proto.lock_session import LineLockServerSession, LockServerSession
from firmware_proto.messages import FaultMessage, GetResult, encode
from firmware_proto.phone_messages import Open
from firmware_proto.resumption import ResumptionSecret, records
from firmware_proto.session import (
    ERROR_FRAME,
    CredentialReceived,
    HelloReceived,
    MessageReceived,
    PeerRefused,
    SecretEstablished,
)
from firmware_proto.session_tables import SessionState
from tests.support import wire
from tests.support.messages import example
from tests.support.wire import (
    CHANNEL,
    GATEWAY_TOKEN,
    LOCK_CCS,
    LOCK_KEY,
    LOCK_KEY_ID,
    SECRET,
    Pump,
    choosing_handshake,
    key,
    line_client,
    line_server,
    lock_client,
    lock_server,
    resuming,
)

MTUS = [23, 64, 185, 517]
COMMAND = bytes(range(16))
UNLATCH = Unlatch(COMMAND, 9000, 3000)
DONE = Done(COMMAND, Outcome.CONFIRMED, Reason.OK, 5100)
STATE = State(
    None,
    BoltState.LOCKED,
    LatchState.REST,
    DoorState.CLOSED,
    Mechanism.OK,
    False,
    Battery(2950, 80, False),
    "emulated",
    "1.0",
    5200,
)


def begun(pump: Pump) -> Pump:
    pump.responder.begin()
    pump.run()
    return pump


def opened(pump: Pump) -> Pump:
    begun(pump)
    pump.initiator.send(UNLATCH)
    pump.run()
    pump.responder.send(DONE)
    pump.run()
    return pump


def resumed(mtu: int = 185) -> Pump:
    return opened(Pump(lock_client(mtu), lock_server(mtu), resuming(SECRET)))


def shaken(mtu: int = 185, secret: ResumptionSecret | None = SECRET) -> Pump:
    return opened(Pump(lock_client(mtu), lock_server(mtu, secret=secret), choosing_handshake))


def whole(fragments: list[bytes]) -> list[bytes]:
    framing = GattFraming(517, CHANNEL)
    return [frame for fragment in fragments for frame in framing.receive(fragment)]


def feed(session, *frames: bytes) -> None:
    framing = GattFraming(517, CHANNEL)
    for frame in frames:
        for fragment in framing.cut(frame):
            session.receive_data(fragment)


def greeted(**changes) -> LockServerSession:
    """A lock that has said Hello."""
    session = lock_server(**changes)
    session.begin()
    session.data_to_send()
    return session


def drain(session, answer=lambda *_: None) -> None:
    while (event := session.next_event()) is not None:
        answer(session, event)


def fault_of(session, answer=lambda *_: None) -> Fault:
    with pytest.raises(RemoteProtocolError) as caught:
        drain(session, answer)
    return caught.value.fault


def assert_one_constant_error(session) -> None:
    assert session.state is SessionState.CLOSED
    assert [fragment[5:] for fragment in session.data_to_send()] == [ERROR_FRAME]
    assert session.data_to_send() == []


def frame(kind: FrameKind, body: bytes) -> bytes:
    return bytes([kind]) + body


RESUME = Resume(SECRET.session, bytes([1]) * 16)
CAPTURED_RESUME, CAPTURED_COMMAND = whole(resumed().bytes_from(0))
MESSAGE_1, MESSAGE_3, CAPTURED_RECORD = whole(shaken().bytes_from(0))
HELLO, MESSAGE_2, CAPTURED_ANSWER = whole(shaken().bytes_from(1))


# --- the way it should go -------------------------------------------------------------------
@pytest.mark.parametrize("mtu", MTUS)
def test_a_resumed_connection_at_every_mtu(mtu):
    pump = resumed(mtu)
    hello, done = pump.heard_by_initiator
    assert isinstance(hello, HelloReceived)
    assert hello.hello == Hello(SECRET.session, wire.EPOCH, bytes([9]) * 16, 5000)
    assert done == MessageReceived(DONE)
    assert pump.heard_by_responder == [MessageReceived(UNLATCH)]
    assert pump.initiator.authenticated
    assert pump.responder.authenticated
    assert pump.initiator.state is pump.responder.state is SessionState.ESTABLISHED


@pytest.mark.parametrize("mtu", MTUS)
def test_a_handshake_at_every_mtu_gives_both_the_same_new_secret(mtu):
    pump = shaken(mtu)
    hello, shown, done, ours = pump.heard_by_initiator
    assert isinstance(hello, HelloReceived)
    assert shown == CredentialReceived(None, LOCK_KEY_ID)
    assert done == MessageReceived(DONE)
    presented, command, theirs = pump.heard_by_responder
    assert presented == CredentialReceived(GATEWAY_TOKEN, None)
    assert command == MessageReceived(UNLATCH)
    assert isinstance(ours, SecretEstablished)
    assert ours == theirs
    assert ours.secret.session != SECRET.session


def test_the_frames_are_the_same_at_every_mtu():
    for make in (resumed, shaken):
        seen = {mtu: [whole(make(mtu).bytes_from(side)) for side in (0, 1)] for mtu in MTUS}
        assert all(frames == seen[23] for frames in seen.values())


def test_the_new_secret_resumes_the_next_connection():
    (established,) = [e for e in shaken().heard_by_responder if isinstance(e, SecretEstablished)]
    pump = opened(
        Pump(
            lock_client(nonce=2),
            lock_server(nonce=8, secret=established.secret),
            resuming(established.secret),
        )
    )
    assert [frame[0] for frame in whole(pump.bytes_from(0))] == [
        FrameKind.RESUME,
        FrameKind.RECORD,
    ]
    assert pump.heard_by_responder == [MessageReceived(UNLATCH)]


def test_a_lock_without_a_session_gets_a_handshake():
    pump = opened(Pump(lock_client(), lock_server(secret=None), resuming(SECRET)))
    assert pump.heard_by_initiator[0].hello.session is None
    assert isinstance(pump.heard_by_initiator[-1], SecretEstablished)


def test_the_old_secret_stays_until_records_have_gone_both_ways():
    pump = begun(Pump(lock_client(), lock_server(), choosing_handshake))
    pump.initiator.send(UNLATCH)
    pump.run()
    for told in pump.events.values():
        assert not any(isinstance(event, SecretEstablished) for event in told)
    pump.responder.send(DONE)
    assert isinstance(pump.responder.next_event(), SecretEstablished)
    assert pump.responder.next_event() is None
    assert pump.initiator.next_event() is None  # the answer has not arrived yet
    pump.run()
    assert isinstance(pump.heard_by_initiator[-1], SecretEstablished)


def test_resume_and_the_first_command_leave_in_one_flight():
    client, server = lock_client(), lock_server()
    server.begin()
    for fragment in server.data_to_send():
        client.receive_data(fragment)
    client.next_event()
    client.resume(SECRET)
    client.send(UNLATCH)
    assert not client.authenticated
    for fragment in client.data_to_send():
        server.receive_data(fragment)
    assert not server.authenticated
    assert server.next_event() == MessageReceived(UNLATCH)
    assert server.authenticated


def test_reports_and_deadlines():
    client, server = lock_client(), lock_server()
    assert (client.deadline_s, server.deadline_s) == (3, None)
    server.begin()
    assert server.deadline_s == 2
    pump = Pump(client, server, resuming(SECRET))
    pump.run()
    assert (client.deadline_s, server.deadline_s) == (None, 3)
    client.send(GetEvents(COMMAND, 0))
    pump.run()
    assert (client.deadline_s, server.deadline_s) == (10, None)
    report = Event(None, 4, 5300, EventKind.TAMPER, 1)
    for unasked in (STATE, report, Event(COMMAND, 4, 5300, EventKind.TAMPER, 1)):
        server.send(unasked)
        pump.run()
        assert pump.heard_by_initiator[-1] == MessageReceived(unasked)
        assert client.deadline_s == 10
    server.send(DONE)
    pump.run()
    assert (client.deadline_s, server.deadline_s) == (None, None)
    client.send(GetState(COMMAND))
    assert client.deadline_s == 10
    server.send(example(State))
    pump.run()
    assert client.deadline_s is None


# --- on a serial line -------------------------------------------------------------------------
ATTACH = frame(FrameKind.ATTACH, b"")


def lock_on_a_line(**changes) -> LineLockServerSession:
    session = line_server(**changes)
    assert session.deadline_s is None
    assert session.data_to_send() == []
    return session


def answered(session, *frames: bytes) -> list[bytes]:
    """What the lock says to these frames, in the frames of the line."""
    for each in frames:
        session.receive_data(each)
    drain(session, resuming(SECRET))
    return session.data_to_send()


def test_a_lock_on_a_line_says_hello_when_the_gateway_attaches():
    session = lock_on_a_line()
    with pytest.raises(LocalProtocolError):
        session.begin()
    assert answered(session, ATTACH) == [HELLO]
    assert session.deadline_s == 2


@pytest.mark.parametrize("secret", [SECRET, None])
def test_an_attach_that_comes_again_gets_the_same_hello(secret):
    session = lock_on_a_line(secret=secret)
    (first,) = answered(session, ATTACH)
    assert answered(session, ATTACH, ATTACH) == [first, first]


@pytest.mark.parametrize("attaches", [1, 3])
@pytest.mark.parametrize("answer", [resuming(SECRET), choosing_handshake])
def test_a_connection_on_a_line(answer, attaches):
    client, server = line_client(), lock_on_a_line()
    pump = Pump(client, server, answer)
    hello, *copies = answered(server, *[ATTACH] * attaches)
    assert copies == [hello] * (attaches - 1)
    client.receive_data(hello)
    pump.run()
    client.send(UNLATCH)
    pump.run()
    server.send(DONE)
    pump.run()
    assert MessageReceived(UNLATCH) in pump.heard_by_responder
    assert MessageReceived(DONE) in pump.heard_by_initiator
    # nobody hangs up on a line: another Attach begins another connection
    server.receive_data(ATTACH)
    assert fault_of(server) is Fault.UNEXPECTED


def test_no_two_ends_of_a_line_say_the_same():
    for answer in (resuming(SECRET), choosing_handshake):
        client, server = line_client(), lock_on_a_line()
        pump = Pump(client, server, answer)
        client.receive_data(answered(server, ATTACH)[0])
        pump.run()
        client.send(UNLATCH)
        pump.run()
        server.send(DONE)
        pump.run()
        assert not {ATTACH, *pump.bytes_from(0)} & {HELLO, *pump.bytes_from(1)}


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([ATTACH + b"\x00"], Fault.MALFORMED),
        ([ATTACH, ATTACH + b"\x00"], Fault.MALFORMED),
        ([CAPTURED_COMMAND], Fault.UNEXPECTED),
        ([CAPTURED_RESUME], Fault.UNEXPECTED),
        ([MESSAGE_1], Fault.UNEXPECTED),
        ([HELLO], Fault.UNEXPECTED),
        ([ATTACH, CAPTURED_COMMAND], Fault.UNEXPECTED),
        ([ATTACH, CAPTURED_RESUME, ATTACH], Fault.UNEXPECTED),
        ([ATTACH, MESSAGE_1, ATTACH], Fault.UNEXPECTED),
        ([b""], Fault.MALFORMED),
        ([bytes(2049)], Fault.MALFORMED),
    ],
)
def test_disorder_on_a_line_ends_in_the_constant_error(frames, fault):
    session = lock_on_a_line()
    for each in frames:
        session.receive_data(each)
    assert fault_of(session) is fault
    assert session.state is SessionState.CLOSED
    assert session.data_to_send()[-1] == ERROR_FRAME


def test_a_gateway_is_not_attached_to():
    session = line_client()
    session.receive_data(ATTACH)
    assert fault_of(session) is Fault.UNEXPECTED


# --- local errors -----------------------------------------------------------------------------
def test_the_caller_cannot_do_things_out_of_order():
    client, server = lock_client(), lock_server()
    for forbidden in (lambda: client.resume(SECRET), client.handshake):
        with pytest.raises(LocalProtocolError):
            forbidden()
    pump = Pump(client, server, lambda *_: None)
    begun(pump)
    with pytest.raises(LocalProtocolError):
        server.begin()
    with pytest.raises(LocalProtocolError):
        client.resume(ResumptionSecret(b"another1", SECRET.secret))
    client.handshake()
    with pytest.raises(LocalProtocolError):
        client.resume(SECRET)
    pump.run()
    with pytest.raises(LocalProtocolError):
        client.trust(LOCK_KEY.public_key())  # a key id is no credential
    client.trust(LOCK_KEY.public_key(), LOCK_CCS)
    for wrong in (DONE, GetResult(COMMAND), Open(COMMAND, "street", 1, 2)):
        with pytest.raises(LocalProtocolError):
            client.send(wrong)
    client.send(GetResult(COMMAND, COMMAND))
    assert client.state is SessionState.SPOKEN


@pytest.mark.parametrize(
    ("session", "secret"), [(None, SECRET), (b"session2", SECRET), (b"session1", None)]
)
def test_a_hello_must_fit_the_secret(session, secret):
    with pytest.raises(LocalProtocolError):
        LockServerSession(
            GattFraming(23, None),
            hello=Hello(session, 0, bytes(16), 0),
            secret=secret,
            ephemeral=key(4),
            connection_id=b"\x0d",
            static_key=LOCK_KEY,
            credential=LOCK_CCS,
            key_id=LOCK_KEY_ID,
        )


# --- what a lock refuses ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        (
            [frame(FrameKind.RESUME, encode(Resume(b"session2", bytes(16))))],
            Fault.AUTHENTICATION_FAILED,
        ),
        ([frame(FrameKind.RESUME, b"")], Fault.MALFORMED),
        ([frame(FrameKind.RESUME, encode(RESUME) + b"\x00")], Fault.MALFORMED),
        ([CAPTURED_COMMAND], Fault.UNEXPECTED),
        ([CAPTURED_COMMAND, CAPTURED_RESUME], Fault.UNEXPECTED),
        ([CAPTURED_RESUME, CAPTURED_RESUME], Fault.UNEXPECTED),
        ([CAPTURED_RESUME, MESSAGE_1], Fault.UNEXPECTED),
        ([MESSAGE_1, CAPTURED_RESUME], Fault.UNEXPECTED),
        ([MESSAGE_1, MESSAGE_1], Fault.UNEXPECTED),
        ([MESSAGE_1, CAPTURED_COMMAND], Fault.UNEXPECTED),
        ([MESSAGE_3], Fault.UNEXPECTED),
        ([HELLO], Fault.UNEXPECTED),
        ([MESSAGE_2], Fault.UNEXPECTED),
        ([MESSAGE_1[:-1]], Fault.MALFORMED),
        ([frame(FrameKind.ATTACH, b"")], Fault.UNEXPECTED),
    ],
)
def test_disorder_gets_the_constant_error_and_nothing_else(frames, fault):
    session = greeted()
    feed(session, *frames)
    assert fault_of(session) is fault
    assert not session.authenticated
    assert_one_constant_error(session)


def test_a_resume_is_refused_where_nothing_is_remembered():
    session = greeted(secret=None)
    feed(session, CAPTURED_RESUME)
    assert fault_of(session) is Fault.AUTHENTICATION_FAILED
    assert_one_constant_error(session)


def test_a_resume_with_another_secret_is_found_out_by_the_first_record():
    wrong = ResumptionSecret(SECRET.session, bytes(32))
    pump = begun(Pump(lock_client(), lock_server(), resuming(wrong)))
    pump.initiator.send(UNLATCH)
    with pytest.raises(RemoteProtocolError) as caught:
        pump.run()
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED
    assert not pump.responder.authenticated
    for fragment in pump.responder.data_to_send():
        pump.initiator.receive_data(fragment)
    assert pump.initiator.next_event() == PeerRefused()


def test_a_lock_that_does_not_know_the_secret_cannot_answer():
    pump = begun(Pump(lock_client(), lock_server(), resuming(SECRET)))
    pump.initiator.send(UNLATCH)
    pump.run()
    hello, resume = encode(Hello(SECRET.session, 3, bytes(16), 0)), encode(RESUME)
    forged = records(SECRET, hello, resume, initiator=False).seal(encode(DONE))
    for fragment in pump.responder._framing.cut(frame(FrameKind.RECORD, forged)):
        pump.initiator.receive_data(fragment)
    assert fault_of(pump.initiator) is Fault.AUTHENTICATION_FAILED
    assert_one_constant_error(pump.initiator)


def test_a_changed_hello_is_found_out():
    client, server = lock_client(), lock_server()
    server.begin()
    (fragment,) = server.data_to_send()
    client.receive_data(fragment.replace(bytes([9]) * 16, bytes([7]) * 16))
    drain(client, resuming(SECRET))
    client.send(UNLATCH)
    for part in client.data_to_send():
        server.receive_data(part)
    assert fault_of(server) is Fault.AUTHENTICATION_FAILED
    assert_one_constant_error(server)


def test_refusing_a_gateway():
    def answer(session, event):
        if isinstance(session, LockServerSession):
            session.refuse()
        else:
            choosing_handshake(session, event)

    pump = begun(Pump(lock_client(), lock_server(), answer))
    assert pump.heard_by_initiator[-1] == PeerRefused()
    assert pump.initiator.state is SessionState.CLOSED


def test_a_lock_may_give_up_before_anybody_spoke():
    session, client = lock_server(), lock_client()
    session.begin()
    session.refuse()
    (error,) = session.data_to_send()
    client.receive_data(error)
    assert client.next_event() == PeerRefused()


# --- what a gateway refuses -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([MESSAGE_2], Fault.UNEXPECTED),
        ([CAPTURED_ANSWER], Fault.UNEXPECTED),
        ([MESSAGE_1], Fault.UNEXPECTED),
        ([frame(FrameKind.HELLO, b"\xa0")], Fault.MALFORMED),
        ([frame(FrameKind.HELLO, encode(RESUME))], Fault.MALFORMED),
        ([HELLO, HELLO], Fault.UNEXPECTED),
        ([HELLO, CAPTURED_ANSWER], Fault.UNEXPECTED),
    ],
)
def test_a_gateway_refuses_disorder_of_a_lock(frames, fault):
    session = lock_client()
    feed(session, *frames)
    assert fault_of(session, choosing_handshake) is fault
    assert_one_constant_error(session)


@pytest.mark.parametrize(
    "id_cred", [{14: {2: "lock"}}, {4: b"a", 5: b"b"}, wire.edhoc.kcwt_id(GATEWAY_TOKEN)]
)
def test_a_lock_must_name_its_key_by_key_id(id_cred):
    server = lock_server()
    server._id_cred = id_cred
    client = lock_client()
    with pytest.raises(RemoteProtocolError) as caught:
        begun(Pump(client, server, choosing_handshake))
    assert caught.value.fault is Fault.UNSUPPORTED
    assert_one_constant_error(client)


def test_another_lock_with_the_same_key_id_is_refused():
    server = lock_server()
    server._static_key = key(4321)
    client = lock_client()
    with pytest.raises(RemoteProtocolError) as caught:
        begun(Pump(client, server, choosing_handshake))
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED
    assert_one_constant_error(client)


def test_a_lock_that_says_what_only_gateways_say_is_told_so_sealed():
    pump = resumed()
    body = pump.responder._records.seal(encode(UNLATCH))
    for fragment in pump.responder._framing.cut(frame(FrameKind.RECORD, body)):
        pump.initiator.receive_data(fragment)
    assert fault_of(pump.initiator) is Fault.UNEXPECTED
    for fragment in pump.initiator.data_to_send():
        pump.responder.receive_data(fragment)
    expected = MessageReceived(FaultMessage(None, Fault.UNEXPECTED))
    assert pump.responder.next_event() == expected


# --- replays ------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [resumed, shaken])
@pytest.mark.parametrize("mtu", MTUS)
def test_everything_captured_is_refused_on_the_same_connection(make, mtu):
    pump = make(mtu)
    told = [len(events) for events in pump.events.values()]
    for side in (0, 1):
        receiver = (pump.responder, pump.initiator)[side]
        for fragment in pump.bytes_from(side):
            receiver.receive_data(fragment)
        fault_of(receiver)
    assert [len(events) for events in pump.events.values()] == told


@pytest.mark.parametrize("make", [resumed, shaken])
@pytest.mark.parametrize("mtu", MTUS)
def test_everything_captured_is_refused_on_a_new_connection(make, mtu):
    """A lock with the same secret, but a fresh nonce and a fresh ephemeral key."""
    session = greeted(mtu=mtu, nonce=10, ephemeral=77)
    for fragment in make(mtu).bytes_from(0):
        session.receive_data(fragment)
    heard = []
    with pytest.raises(RemoteProtocolError) as caught:
        drain(session, lambda _, event: heard.append(event))
    assert caught.value.fault is Fault.AUTHENTICATION_FAILED
    assert heard == []
    assert_one_constant_error(session)


@pytest.mark.parametrize("make", [resumed, shaken])
def test_a_captured_lock_cannot_be_played_to_a_gateway(make):
    client = lock_client(ephemeral=78, nonce=33)
    answer = resuming(SECRET) if make is resumed else choosing_handshake
    pump = Pump(client, client, answer)
    captured = make().bytes_from(1)

    def play() -> None:
        for fragment in captured:
            client.receive_data(fragment)
            pump.take(1)
            if client.state is SessionState.KEYED:
                client.send(UNLATCH)

    with pytest.raises(RemoteProtocolError):
        play()
    assert not any(isinstance(event, MessageReceived) for event in pump.heard_by_responder)
    assert not client.authenticated


# --- anything at all ------------------------------------------------------------------------------
def test_a_session_that_we_have_ended_has_nothing_to_say_about_odd_fragments():
    session = line_server(nonce=5, ephemeral=55)
    session.receive_data(b"")
    session.refuse()
    assert session.next_event() is None
    assert session.state is SessionState.CLOSED


FRAMES = [
    *(CAPTURED_RESUME, CAPTURED_COMMAND, MESSAGE_1, MESSAGE_2, MESSAGE_3),
    *(CAPTURED_RECORD, HELLO, CAPTURED_ANSWER, ERROR_FRAME, ATTACH, b"\x00"),
]


@given(
    st.lists(
        st.sampled_from(FRAMES)
        | st.tuples(st.integers(0, 10), st.binary(max_size=60)).map(
            lambda pair: bytes([pair[0]]) + pair[1]
        ),
        max_size=6,
    ),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_whatever_frames_come_only_remote_errors_come_out(frames, as_lock, resumes):
    session = greeted(nonce=5, ephemeral=55) if as_lock else lock_client(ephemeral=56, nonce=4)
    feed(session, *frames)
    try:
        drain(session, resuming(SECRET) if resumes else choosing_handshake)
    except RemoteProtocolError:
        assert_one_constant_error(session)
    # Nothing captured elsewhere, and nothing invented, proves anybody.
    assert not session.authenticated
    assert session.held <= 2048


@given(st.lists(st.sampled_from(FRAMES) | st.binary(max_size=60), max_size=6))
@hypothesis.example([ERROR_FRAME, b""])  # what follows the peer's last word is no news, however odd
@settings(max_examples=60, deadline=None)
def test_whatever_comes_down_a_line_only_remote_errors_come_out(frames):
    session = line_server(nonce=5, ephemeral=55)
    for each in (ATTACH, *frames):
        session.receive_data(each)
    try:
        drain(session, resuming(SECRET))
    except RemoteProtocolError:
        assert session.state is SessionState.CLOSED
    assert not session.authenticated
    assert session.held <= 2048


def test_a_line_carries_messages_within_the_limits():
    for size in (0, 2049):
        with pytest.raises(LocalProtocolError):
            WholeFrames().cut(bytes(size))
    assert WholeFrames().cut(bytes(2048)) == WholeFrames().receive(bytes(2048)) == [bytes(2048)]
