"""The helper as a whole: a fake kernel behind it, the daemon's real adapter before it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import pwd
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from gatewayd.adapters.helper_client import HelperClient, where_there_is_one
from gatewayd.ports import RadioError
from gatewayd.radio_helper import __main__ as program
from gatewayd.radio_helper import kernel as kernel_module
from gatewayd.radio_helper.kernel import SPACING_S, Kernel
from gatewayd.radio_helper.server import MOST_CLIENTS, Server, peer_uid
from gatewayd.radio_helper.wire import (
    AddressType,
    Answer,
    Request,
    Restart,
    Status,
    Strength,
    encode_request,
)
from tests.support import fake_mgmt
from tests.support.fake_mgmt import Controller, FakeKernel

ADAPTER, OTHER, PHONE = "B8:27:EB:00:00:01", "B8:27:EB:00:00:02", "C0:FF:EE:01:02:03"


def raw(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


STRENGTH = Strength(raw(ADAPTER), raw(PHONE), AddressType.RANDOM)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fake() -> Iterator[FakeKernel]:
    made = FakeKernel({0: Controller(OTHER), 3: Controller(ADAPTER)})
    made.controllers[3].connected[PHONE, 2] = -60
    yield made
    made.close()
    assert made.malformed == []


# --- asking the kernel ------------------------------------------------------------------
def test_the_strength_of_a_connected_phone(fake: FakeKernel, clock: Clock) -> None:
    kernel = Kernel(fake.connect, clock)
    assert kernel.carry_out(STRENGTH) == Answer(Status.OK, -60)
    public = Strength(raw(ADAPTER), raw(PHONE), AddressType.PUBLIC)
    assert kernel.carry_out(public) == Answer(Status.NOT_CONNECTED)
    assert fake.opened == 2


def test_news_about_others_is_not_taken_for_an_answer(fake: FakeKernel, clock: Clock) -> None:
    fake.noise = [
        fake_mgmt.event(fake_mgmt.DEVICE_FOUND, 3, bytes(30)),
        fake_mgmt.complete(0x31, 0, 0, bytes(10)),
    ]
    assert Kernel(fake.connect, clock).carry_out(STRENGTH) == Answer(Status.OK, -60)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Strength(raw("00:00:00:00:00:09"), raw(PHONE), AddressType.RANDOM), Status.NO_ADAPTER),
        (Strength(raw(OTHER), raw(PHONE), AddressType.RANDOM), Status.NOT_CONNECTED),
        (Restart(raw("00:00:00:00:00:09")), Status.NO_ADAPTER),
    ],
)
def test_who_is_not_there(
    fake: FakeKernel, clock: Clock, request_: Request, status: Status
) -> None:
    assert Kernel(fake.connect, clock).carry_out(request_) == Answer(status)
    assert fake.controllers[3].switched == []


def test_an_adapter_that_is_off_has_nobody_connected(fake: FakeKernel, clock: Clock) -> None:
    fake.controllers[3].powered = False
    assert Kernel(fake.connect, clock).carry_out(STRENGTH) == Answer(Status.NOT_CONNECTED)


def test_an_adapter_is_restarted_and_not_again_at_once(fake: FakeKernel, clock: Clock) -> None:
    kernel = Kernel(fake.connect, clock)
    assert kernel.carry_out(Restart(raw(ADAPTER))) == Answer(Status.OK)
    assert kernel.carry_out(Restart(raw(ADAPTER))) == Answer(Status.TOO_SOON)
    assert kernel.carry_out(Restart(raw(OTHER))) == Answer(Status.OK)
    clock.now_s += SPACING_S
    assert kernel.carry_out(Restart(raw(ADAPTER))) == Answer(Status.OK)
    assert fake.controllers[3].switched == [False, True] * 2


@pytest.mark.parametrize(("code", "status"), [(0x0A, Status.FAILED), (0x11, Status.NO_ADAPTER)])
def test_an_adapter_that_does_not_come_back(
    fake: FakeKernel, clock: Clock, code: int, status: Status
) -> None:
    fake.controllers[3].refuses = code
    pauses: list[float] = []
    kernel = Kernel(fake.connect, clock, pauses.append)
    assert kernel.carry_out(Restart(raw(ADAPTER))) == Answer(status)
    assert 1 < sum(pauses) < 10 if code == 0x0A else not pauses


def test_an_adapter_that_somebody_else_is_switching_on_is_waited_for(
    fake: FakeKernel, clock: Clock
) -> None:
    adapter = fake.controllers[3]
    adapter.refuses = 0x0A  # Busy

    def done(_: float) -> None:
        adapter.refuses = None

    assert Kernel(fake.connect, clock, done).carry_out(Restart(raw(ADAPTER))) == Answer(Status.OK)
    assert adapter.switched == [False, True]


@pytest.mark.parametrize(
    ("opcode", "spoiled", "status"),
    [
        (0x03, b"", Status.FAILED),
        (0x03, fake_mgmt.status(0x03, 0xFFFF, 0x14), Status.NO_ADAPTER),
        (0x04, fake_mgmt.complete(0x04, 0, 0, b"too short"), Status.FAILED),
        (0x31, fake_mgmt.complete(0x31, 3, 0, b"too short"), Status.FAILED),
        (0x31, fake_mgmt.status(0x31, 3, 0x0D), Status.FAILED),
        (
            0x31,
            fake_mgmt.complete(0x31, 3, 0, raw(PHONE)[::-1] + b"\x02\x7f\x7f\x7f"),
            Status.FAILED,
        ),
    ],
)
def test_a_kernel_that_does_not_make_sense(
    fake: FakeKernel, clock: Clock, opcode: int, spoiled: bytes, status: Status
) -> None:
    fake.twist = lambda asked, packet: spoiled if asked == opcode else packet
    assert Kernel(fake.connect, clock).carry_out(STRENGTH) == Answer(status)


def test_a_kernel_that_switches_on_without_settings(fake: FakeKernel, clock: Clock) -> None:
    fake.twist = lambda asked, packet: packet[:-4] if asked == 5 and packet[-4] else packet
    assert Kernel(fake.connect, clock).carry_out(Restart(raw(ADAPTER))) == Answer(Status.FAILED)


def test_a_kernel_that_only_talks_about_others(fake: FakeKernel) -> None:
    fake.twist = lambda _opcode, _packet: fake_mgmt.event(fake_mgmt.DEVICE_FOUND, 3, b"")
    fake.noise = [fake_mgmt.event(fake_mgmt.DEVICE_FOUND, 3, b"")] * 3
    ticks = itertools.count(0.0, 0.6)  # every look at the clock finds it later
    assert Kernel(fake.connect, lambda: next(ticks)).carry_out(STRENGTH) == Answer(Status.NO_ANSWER)


def test_a_kernel_that_says_nothing(fake: FakeKernel) -> None:
    fake.twist = lambda _opcode, _packet: None
    ticks = iter([0.0, 0.0, 1.95])  # of the two seconds, 0.05 are left to wait
    assert Kernel(fake.connect, lambda: next(ticks, 1.95)).carry_out(STRENGTH) == Answer(
        Status.NO_ANSWER
    )


def test_a_kernel_without_bluetooth(clock: Clock) -> None:
    def connect() -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "no such family")

    assert Kernel(connect, clock).carry_out(STRENGTH) == Answer(Status.FAILED)


def test_the_real_socket_is_refused_or_answers() -> None:
    """Here there may be no Bluetooth, or no right to it; then that is said and nothing leaks."""
    answer = Kernel(kernel_module.connect, lambda: 0.0).carry_out(
        Strength(raw("00:00:00:00:00:09"), raw(PHONE), AddressType.RANDOM)
    )
    assert answer in (Answer(Status.FAILED), Answer(Status.NO_ADAPTER))


def test_a_socket_that_cannot_be_bound_is_an_error() -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as wrong,
        pytest.raises(OSError) as caught,  # noqa: PT011 - the number depends on the kernel
    ):
        kernel_module._bind(wrong)
    assert caught.value.errno is not None


# --- serving ---------------------------------------------------------------------------------
class Serving:
    """A server in a thread; the daemon's end is a path."""

    def __init__(self, path: Path, kernel: Kernel, uid: int) -> None:
        self.path = path
        self._kernel = kernel
        self._uid = uid
        self._stop = threading.Event()
        self.start()

    def start(self) -> None:
        self._stop.clear()
        self.path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(str(self.path))
        listening.listen()
        self.server = Server(listening, self._uid, self._kernel.carry_out)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self.server.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.server.turn(0.02)

    def connect(self) -> socket.socket:
        talk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        talk.settimeout(3)
        talk.connect(str(self.path))
        return talk


@pytest.fixture
def serving(tmp_path: Path, fake: FakeKernel, clock: Clock) -> Iterator[Serving]:
    made = Serving(tmp_path / "helper", Kernel(fake.connect, clock), os.getuid())
    yield made
    made.stop()


@asynccontextmanager
async def daemon_side(path: Path) -> AsyncIterator[HelperClient]:
    helper = HelperClient(path)
    try:
        async with asyncio.timeout(20):
            yield helper
    finally:
        await helper.close()


async def test_the_daemon_asks_and_is_answered(serving: Serving, fake: FakeKernel) -> None:
    async with daemon_side(serving.path) as helper:
        assert await helper.strength_dbm(ADAPTER, PHONE, public=False) == -60
        assert await helper.strength_dbm(ADAPTER, PHONE, public=True) is None
        await helper.restart(ADAPTER)
        with pytest.raises(RadioError, match="too soon"):
            await helper.restart(ADAPTER)
        with pytest.raises(RadioError, match="no adapter"):
            await helper.strength_dbm("00:00:00:00:00:09", PHONE, public=False)
        with pytest.raises(RadioError, match="6 bytes"):
            await helper.restart("00:01")
    assert fake.controllers[3].switched == [False, True]


async def test_the_daemon_comes_back_to_a_helper_that_was_restarted(serving: Serving) -> None:
    async with daemon_side(serving.path) as helper:
        assert await helper.strength_dbm(ADAPTER, PHONE, public=False) == -60
        await asyncio.to_thread(serving.stop)
        with pytest.raises(RadioError, match="radio helper"):
            await helper.strength_dbm(ADAPTER, PHONE, public=False)
        serving.start()
        assert await helper.strength_dbm(ADAPTER, PHONE, public=False) == -60
        await asyncio.to_thread(serving.stop)
        serving.start()
        assert await helper.strength_dbm(ADAPTER, PHONE, public=False) == -60


def test_a_helper_is_used_where_there_is_one(serving: Serving, tmp_path: Path) -> None:
    assert where_there_is_one(serving.path) is not None
    assert where_there_is_one(tmp_path / "nowhere") is None


async def test_without_a_helper_there_is_no_reading(tmp_path: Path) -> None:
    async with daemon_side(tmp_path / "absent") as helper:
        with pytest.raises(RadioError, match="radio helper"):
            await helper.strength_dbm(ADAPTER, PHONE, public=False)


async def test_a_question_given_up_leaves_no_answer_for_the_next(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with closing(listening):
        listening.bind(str(tmp_path / "slow"))
        listening.listen()
        async with daemon_side(tmp_path / "slow") as helper:
            first = asyncio.create_task(helper.strength_dbm(ADAPTER, PHONE, public=False))
            talk, _ = await asyncio.to_thread(listening.accept)
            with talk:
                assert await asyncio.to_thread(talk.recv, 100) == encode_request(STRENGTH)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                assert await asyncio.to_thread(talk.recv, 100) == b""


async def test_an_answer_that_is_none_ends_the_connection(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with closing(listening):
        listening.bind(str(tmp_path / "odd"))
        listening.listen()
        async with daemon_side(tmp_path / "odd") as helper:
            asked = asyncio.create_task(helper.strength_dbm(ADAPTER, PHONE, public=False))
            talk, _ = await asyncio.to_thread(listening.accept)
            with talk:
                await asyncio.to_thread(talk.recv, 100)
                talk.send(b"\x00\x01\x02")
                with pytest.raises(RadioError, match="not the answer"):
                    await asked


def test_whatever_is_no_request_is_answered_so(serving: Serving, fake: FakeKernel) -> None:
    with serving.connect() as talk:
        for packet in (b"\x01", b"\x09" * 14, b"\x01" * 1000, bytes(7)):
            talk.send(packet)
            assert talk.recv(10) == bytes([Status.MALFORMED])
        talk.send(encode_request(STRENGTH))
        assert talk.recv(10) == b"\x00\xc4"
    assert fake.opened == 1


def test_another_user_is_turned_away(tmp_path: Path, fake: FakeKernel, clock: Clock) -> None:
    made = Serving(tmp_path / "helper", Kernel(fake.connect, clock), os.getuid() + 1)
    try:
        with made.connect() as talk:
            try:
                talk.send(encode_request(STRENGTH))
                answer = talk.recv(10)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
        assert answer == b""
    finally:
        made.stop()
    assert fake.opened == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_process_of_another_user_is_turned_away(serving: Serving, fake: FakeKernel) -> None:
    serving.path.chmod(0o777)
    for directory in serving.path.parents:
        if directory != Path("/") and directory.stat().st_uid == os.getuid():
            directory.chmod(directory.stat().st_mode | 0o011)
    script = (
        "import os, socket, sys; os.setuid(65534); "
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(3); "
        f"s.connect({str(serving.path)!r}); "
        "s.send(bytes(14)); sys.exit(0 if s.recv(5) == b'' else 7)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, timeout=30, capture_output=True, text=True
    )
    # turned away before or after it could write
    assert done.returncode == 0 or "Broken pipe" in done.stderr or "reset" in done.stderr, done
    assert fake.opened == 0


def test_connections_left_behind_are_let_go(serving: Serving) -> None:
    left = [serving.connect() for _ in range(MOST_CLIENTS + 1)]
    try:
        assert left[0].recv(10) == b""
        left[-1].send(encode_request(STRENGTH))
        assert left[-1].recv(10) == b"\x00\xc4"
    finally:
        for each in left:
            each.close()


def test_who_does_not_read_his_answers_is_let_go(serving: Serving) -> None:
    with serving.connect() as greedy, serving.connect() as other:
        with pytest.raises((BrokenPipeError, ConnectionResetError, TimeoutError)):  # noqa: PT012
            while True:
                greedy.send(b"\x00")
        other.send(encode_request(STRENGTH))
        assert other.recv(10) == b"\x00\xc4"


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert peer_uid(ours) == os.getuid()


# --- starting ---------------------------------------------------------------------------------
def user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("arguments", [(), ("one", "two"), ("--help",)])
def test_it_takes_one_user(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(arguments) == 2
    assert capsys.readouterr().err == program.USAGE


def test_it_says_why_it_cannot_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["nobody-of-that-name"]) == 1
    assert program.main([user()]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: there is no user nobody-of-that-name",
        "error: no socket: start gatewayd-radio-helper.socket instead",
    ]


def test_the_socket_must_be_of_the_right_kind() -> None:
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream,
        pytest.raises(program.NotStartedError, match="for packets"),
    ):
        program.inherited(told, os.dup(stream.fileno()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as packets:
        found = program.inherited(told, os.dup(packets.fileno()))
        found.close()
    with pytest.raises(program.NotStartedError, match="no socket"):
        program.inherited(told | {"LISTEN_PID": "1"})


LAUNCH = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.executable, [sys.executable, "-m", "gatewayd.radio_helper", sys.argv[2]])
"""


def test_started_as_systemd_does_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "helper"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        with subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(listening.fileno()), user()],
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as talk:
                    talk.settimeout(20)
                    talk.connect(str(path))
                    talk.send(b"not a request")
                    assert talk.recv(10) == bytes([Status.MALFORMED])
                    talk.send(encode_request(STRENGTH))
                    # whether there is Bluetooth here or not, there is no such adapter
                    assert talk.recv(10) in (bytes([Status.FAILED]), bytes([Status.NO_ADAPTER]))
            finally:
                process.terminate()
