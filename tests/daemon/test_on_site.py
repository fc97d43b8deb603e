"""setup.toml: written whole, read strictly; and a binding that ends when a week has passed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_proto.codes import Outcome, Reason
from gatewayd import config
from gatewayd.config import on_site
from gatewayd.config.decode import decode
from gatewayd.config.model import Contact, LockFiles, Relay
from gatewayd.config.on_site import Binding, ClaimedLock, Setup, TestOpening, Walk
from gatewayd.core.model import ClockState, CommandId, TimeReading, Verdict
from gatewayd.keyfiles import KeyFileError, public_pem
from gatewayd.unconfirmed import ENDED, UnconfirmedLock
from tests.support.fitting import make_fitting
from tests.support.household import new_key

LOCK = "F0:F1:F2:F3:F4:01"


def full(state: Path) -> Setup:
    key = state / "lock-1.pub.pem"
    return Setup(
        lock=(
            ClaimedLock(door="street", address=LOCK, key=key, stage="claimed", model='a "b" \\ ö'),
        ),
        binding=(
            Binding(
                door="street", since_s=5, until_s=9,
                lock=LockFiles(key=key, address=LOCK, warm=True),
            ),
            Binding(
                door="cellar", since_s=5, until_s=9,
                relay=Relay(chip="gpiochip0", line=17, pulse_ms=500, contact=Contact(line="GPIO4")),
            ),
        ),
        opening=(
            TestOpening(
                door="street", leaf="open", time_s=7, outcome="unknown", reason="lock_silent",
                took_ms=5,
            ),
        ),
        walk=(
            Walk(door="street", time_s=8, dials=20, took_ms=(1, 2, 3), strength_dbm=(-70, -71)),
        ),
    )  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert on_site.load(tmp_path) == (Setup(), [])
    on_site.save(tmp_path, full(tmp_path))
    assert on_site.load(tmp_path) == (full(tmp_path), [])
    assert (tmp_path / "setup.toml").stat().st_mode & 0o777 == 0o600
    on_site.save(tmp_path, Setup())
    assert on_site.load(tmp_path) == (Setup(), [])


def test_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    good = full(tmp_path)
    on_site.save(tmp_path, good)
    bad = good.with_binding(
        "cellar", Binding(door="cellar", since_s=0, until_s=1, relay=Relay(chip="a\nb", line=1))
    )
    with pytest.raises(KeyFileError, match="cannot hold"):
        on_site.save(tmp_path, bad)
    assert on_site.load(tmp_path) == (good, [])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused_and_never_half_read(tmp_path_factory, data) -> None:
    state = tmp_path_factory.mktemp("state")
    on_site.save(state, full(state))
    text = (state / "setup.toml").read_bytes()
    at = data.draw(st.integers(0, len(text) - 1))
    what = data.draw(st.sampled_from(["cut", "flip", "insert"]))
    byte = bytes([data.draw(st.integers(0, 255))])
    changed = {
        "cut": text[:at], "flip": text[:at] + byte + text[at + 1 :],
        "insert": text[:at] + byte + text[at:],
    }[what]  # fmt: skip
    (state / "setup.toml").write_bytes(changed)
    found, problems = on_site.load(state)
    if problems:
        assert found == Setup()
        assert all(problem.message and problem.hint for problem in problems)
    else:
        assert decode(changed.decode(), Setup, state)[0] == found or not changed


def test_a_door_of_the_configuration_is_moved_by_what_was_bound(tmp_path: Path) -> None:
    fitting = make_fitting(tmp_path)
    with pytest.raises(config.ConfigError) as caught:
        config.load_all(fitting.config)
    assert [problem.message for problem in caught.value.problems] == [
        "door[1] needs either a lock or a relay",
        "door[2] needs either a lock or a relay",
    ]
    assert "setup bind-door" in caught.value.problems[0].hint
    settings, secrets = config.load_all(fitting.config, unbound=True)
    assert secrets.bound_until == {}
    fitting.state.mkdir()
    on_site.save(fitting.state, full(fitting.state))
    (fitting.state / "lock-1.pub.pem").write_bytes(public_pem(new_key().public_key()))
    settings, secrets = config.load_all(fitting.config)
    street, cellar = settings.doors
    assert street.lock is not None
    assert (street.lock.address, street.lock.warm) == (LOCK, True)
    assert cellar.relay is not None
    assert cellar.relay.line == 17
    assert secrets.bound_until == {"street": 9, "cellar": 9}
    text = fitting.config.read_text().replace(
        'id = "cellar"', 'id = "cellar"\nrelay = { chip = "gpiochip9", line = 3 }'
    )
    fitting.config.write_text(text)
    settings, secrets = config.load_all(fitting.config)
    assert settings.doors[1].relay == Relay(chip="gpiochip9", line=3)
    assert secrets.bound_until == {"street": 9}


class Moving:
    """A lock that always opens."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def prepare(self) -> None:
        self.calls.append("prepare")

    async def unlatch(self, _command: CommandId, _duration_ms: int) -> Verdict:
        self.calls.append("unlatch")
        return Verdict(Outcome.CONFIRMED, Reason.OK)

    async def result_of(self, _command: CommandId) -> Verdict | None:
        self.calls.append("result")
        return None

    async def close(self) -> None:
        self.calls.append("close")


async def test_it_ends_when_the_time_has_certainly_passed() -> None:
    lock, command = Moving(), CommandId(bytes(16))
    reading = TimeReading(ClockState.UNKNOWN, 50, float("inf"), 9)
    bound = UnconfirmedLock(lock, 10, lambda: reading)
    await bound.prepare()
    assert (await bound.unlatch(command, 1)).outcome is Outcome.CONFIRMED
    reading = TimeReading(ClockState.TRUSTED, 50, 1.0, 10)
    await bound.prepare()
    assert await bound.unlatch(command, 1) == ENDED
    assert await bound.result_of(command) is None
    await bound.close()
    assert lock.calls == ["prepare", "unlatch", "result", "close"]
