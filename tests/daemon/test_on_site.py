"""setup.toml: written whole, read strictly, and told to the daemon in a form that it knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd import config
from gatewayd.config import on_site, stated
from gatewayd.config.decode import decode
from gatewayd.config.model import Contact, LockFiles, Relay
from gatewayd.config.on_site import Binding, ClaimedLock, Setup, TestOpening, Walk
from gatewayd.keyfiles import KeyFileError, public_pem, replace_file
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


def test_links_in_a_directory_of_everybodys_lead_root_nowhere(tmp_path: Path) -> None:
    """`setup report --out /var/tmp` and the like: neither the file nor its draft is followed."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("handover.html", ".handover.html.new"):
        (shared / name).symlink_to(precious)
    replace_file(shared / "handover.html", b"report")
    assert precious.read_bytes() == b"precious"
    written = shared / "handover.html"
    assert (written.is_symlink(), written.read_bytes()) == (False, b"report")
    assert written.stat().st_mode & 0o777 == 0o600
    assert list(shared.iterdir()) == [written]


def test_what_would_be_too_large_to_read_is_not_written(tmp_path: Path) -> None:
    good = full(tmp_path)
    on_site.save(tmp_path, good)
    for number in range(40):
        long = Walk(door=f"door-{number}", time_s=1, dials=1000, took_ms=(12_345,) * 1000)
        good = good.with_walk(long)
    with pytest.raises(KeyFileError, match="too large"):
        on_site.save(tmp_path, good)
    assert on_site.load(tmp_path) == (full(tmp_path), [])


def test_a_time_that_no_calendar_has_is_a_problem(tmp_path: Path) -> None:
    on_site.save(tmp_path, full(tmp_path))
    path = tmp_path / "setup.toml"
    path.write_text(path.read_text().replace("time_s = 7", f"time_s = {2**53 - 1}"))
    found, problems = on_site.load(tmp_path)
    assert (found, len(problems)) == (Setup(), 1)


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


def test_what_was_bound_goes_before_the_configuration(tmp_path: Path) -> None:
    fitting = make_fitting(tmp_path)
    with pytest.raises(config.ConfigError) as caught:
        config.load_all(fitting.config)
    assert [problem.message for problem in caught.value.problems] == [
        "door[1] needs either a lock or a relay",
        "door[2] needs either a lock or a relay",
    ]
    assert "setup bind-door" in caught.value.problems[0].hint
    fitting.state.mkdir()
    on_site.save(fitting.state, full(fitting.state))
    key = new_key().public_key()
    (fitting.state / "lock-1.pub.pem").write_bytes(public_pem(key))
    text = fitting.config.read_text().replace(
        'id = "cellar"', 'id = "cellar"\nrelay = { chip = "gpiochip9", line = 3 }'
    )
    fitting.config.write_text(text)
    settings, secrets = config.load_all(fitting.config)
    street, cellar = settings.doors
    assert street.lock is not None
    assert (street.lock.address, street.lock.warm) == (LOCK, True)
    assert cellar.relay is not None
    assert cellar.relay.line == 17
    assert secrets.lock_keys == {"street": key}
    installed, _ = config.load_all(fitting.config, as_installed=True)
    assert installed.doors[0].lock is None
    assert installed.doors[1].relay == Relay(chip="gpiochip9", line=3)
    setup = full(fitting.state)
    one, two = (
        stated.bindings(on_site.body(installed, setup, door) or b"")
        for door in ("street", "cellar")
    )
    assert (one.lock_keys, two.lock_keys) == ({"street": key}, {})
    assert [(door.id, door.latch_ms) for door in (*one.doors, *two.doors)] == [
        ("street", 500),
        ("cellar", 500),
    ]
    assert two.doors[0].relay == cellar.relay
    assert on_site.body(installed, setup.with_binding("cellar", None), "cellar") is None


def test_a_binding_without_its_key_is_not_told(tmp_path: Path) -> None:
    fitting = make_fitting(tmp_path)
    installed, _ = config.load_all(fitting.config, as_installed=True)
    with pytest.raises(KeyFileError, match="does not exist"):
        on_site.body(installed, full(fitting.state), "street")
