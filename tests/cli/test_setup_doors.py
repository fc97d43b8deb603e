"""bind-door, test-open, doctor --walk and report: the installer's path, and the door opens."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from firmware_proto.codes import Action, KeyClass, Outcome
from gatewayd import phone_app, setup_app, setup_trials
from gatewayd.adapters.clock import SystemClock
from gatewayd.adapters.virtual_radio import serve_hci
from gatewayd.cli.command import ExitCode
from gatewayd.config import on_site
from gatewayd.config.model import Relay
from gatewayd.config.provisional import MEMORY_NAME, Provisional
from gatewayd.core.claims import Claims
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.emulators.wallet import Wallet
from gatewayd.setup_app import Installer
from gatewayd.setup_site import SetupError, open_site
from tests.support.commands import Ran, completed, finished, run, running, spawn
from tests.support.fitting import BoxedLock, Fitting, make_fitting
from tests.support.household import new_key


@pytest.fixture
def fitting(tmp_path: Path) -> Fitting:
    return make_fitting(tmp_path, ("street",))


async def gatewayd(fitting: Fitting, *words: str) -> Ran:
    return await completed(*words, "-c", fitting.config)


async def claimed(fitting: Fitting, lock: BoxedLock, door: str = "street") -> None:
    async with open_site(fitting.config) as site:
        await setup_app.claim_lock(site, door, lock.label, None, Installer())


def wallet(fitting: Fitting) -> Wallet:
    """A resident's, by the only issuer there is."""
    key, now_s = new_key(), int(SystemClock().instant().wall_s)
    token = fitting.authority.issuers[0].issue(
        Claims(
            issuer="", subject="holder-1", audience="vestergade-7", cti=b"12345678",
            not_before=now_s - 3600, expires=now_s + 3600, issued_at=now_s - 3600,
            key=key.public_key(), scope=(("street", Action.OPEN),), key_class=KeyClass.RESIDENT,
        )
    )  # fmt: skip
    path = fitting.directory / "wallet"
    return Wallet.create(path, key, token, fitting.authority.gateways.public_key())


async def test_the_whole_path_and_then_a_phone_opens(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        label = lock.label.text()
        assert (await gatewayd(fitting, "setup", "claim-lock", "street", label)).code == 0
        early = await gatewayd(fitting, "setup", "test-open", "street", "--yes")
        assert (early.code, "bound to nothing" in early.err) == (ExitCode.FAILED, True)
        bound = await gatewayd(fitting, "setup", "bind-door", "street")
        assert (bound.code, "for 7 days" in bound.out) == (0, True)
        async with running("setup", "test-open", "street", "-c", fitting.config) as process:
            assert process.stdin is not None
            lock.hands.move_door(is_open=True)
            process.stdin.write(b"\n")
            await asyncio.sleep(0)
            process.stdin.write(b"\n")
            ran = await finished(process)
        assert (ran.code, ran.out.count("opened in")) == (0, 2)
        assert "its sensor says open" in ran.out  # of the second: nobody closed it
        assert "next: sudo systemctl start gatewayd" in ran.out  # it has no other door
        assert lock.machine.openings == 2
        lock.hands.move_door(is_open=False)
        walk = await gatewayd(fitting, "doctor", "--walk", "--dials", "3")
        assert (walk.code, walk.err) == (0, "")
        assert "  3 of 3 succeeded\n" in walk.out
        assert "dB to spare" in walk.out
        out = str(fitting.directory)
        report = await gatewayd(fitting, "setup", "report", "--out", out, "--json")
        assert (report.code, report.json["complete"]) == (0, True)
        assert report.json == json.loads((fitting.directory / "handover.json").read_text())
        page = (fitting.directory / "handover.html").read_text()
        assert "<svg" in page
        assert "http" not in page
        opened = await a_phone_opens(fitting)
        assert opened is Outcome.CONFIRMED
        assert lock.machine.openings == 3
    log = await completed("log", "show", "--file", fitting.state / "log.db")
    assert log.out.count("confirmed") >= 3
    assert (await completed("log", "verify", "--file", fitting.state / "log.db")).code == 0


async def a_phone_opens(fitting: Fitting) -> Outcome:
    """The daemon serves, and the door was bound on site only."""
    held = wallet(fitting)
    hci = fitting.directory / "phone.hci"
    async with (
        serve_hci(fitting.air, hci, address="00:00:00:00:00:0F"),
        running("run", "-c", fitting.config) as daemon,
    ):
        assert daemon.stderr is not None
        while b"serving street" not in (line := await daemon.stderr.readline()):
            assert line
        report = await phone_app.open_door(
            phone_app.Choice(f"unix:{hci}"), held.path, "street", None, bytes(16)
        )
        daemon.send_signal(15)
        await daemon.wait()
    return report.outcome


async def test_a_trial_whose_answer_is_lost_is_asked_about(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        await claimed(fitting, lock)
        async with open_site(fitting.config) as site:
            await setup_app.bind_lock(site, "street", None, warm=False)
        assert lock.hands.lock is not None
        lock.hands.lock.faults.power_cut = PowerCut.BEFORE_ANSWER
        async with open_site(fitting.config) as site:
            tried = await setup_trials.test_open(site, "street", "open")
            assert (tried.opening.outcome, tried.opening.reason) == ("confirmed", "ok")
            assert await site.log.unsettled() == await site.log.unresolved() == []
        assert lock.machine.openings == 1


async def test_a_trial_leads_to_the_next_door(tmp_path: Path) -> None:
    fitting = make_fitting(tmp_path)
    async with fitting.radios("ours") as (lock,), lock.power():
        await claimed(fitting, lock)
        async with open_site(fitting.config) as site:
            await setup_app.bind_lock(site, "street", None, warm=False)
        ran = await gatewayd(fitting, "setup", "test-open", "street", "--yes", "--leaf", "open")
    assert (ran.code, "next: sudo gatewayd setup claim-lock cellar\n" in ran.out) == (0, True)


async def test_a_lock_out_of_reach_fails_walk_and_trial(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,):
        async with lock.power():
            await claimed(fitting, lock)
        async with open_site(fitting.config) as site:
            await setup_app.bind_lock(site, "street", None, warm=False)
        walk = await gatewayd(fitting, "doctor", "--walk", "--dials", "1", "--json")
        assert walk.code == ExitCode.FAILED
        assert walk.json["street"]["faults"] == ["only 0 of 1 dials succeeded"]
        ran = await gatewayd(fitting, "setup", "test-open", "street", "--yes")
        assert (ran.code, "refused: lock_unreachable" in ran.out) == (ExitCode.FAILED, True)
        report = await gatewayd(fitting, "setup", "report", "--out", str(fitting.directory))
        assert (report.code, "street: not opened while open" in report.out) == (1, True)


def test_relays_are_bound_checked_and_unbound(fitting: Fitting) -> None:
    relay = ("setup", "bind-door", "street", "-c", fitting.config, "--relay", "gpiochip0:17")
    ran = run(*relay, "--contact", "GPIO4", "--pulse-ms", "400", "--active-low", "--json")
    assert ran.code == 0
    setup, problems = on_site.load(fitting.state)
    assert problems == []
    (binding,) = setup.binding
    assert binding.relay is not None
    assert (binding.relay.line, binding.relay.pulse_ms, binding.relay.active_low) == (17, 400, True)
    assert binding.until_s - binding.since_s == 7 * 86_400
    wrong = run(*relay, "--contact", "17")
    assert (wrong.code, "contact.line is the relay's own" in wrong.err) == (ExitCode.FAILED, True)
    assert on_site.load(fitting.state)[0] == setup
    strange = run("setup", "bind-door", "street", "-c", fitting.config, "--relay", "a\x7fb:1")
    assert (strange.code, "illegal character" in strange.err) == (ExitCode.USAGE, True)
    again = run("setup", "unbind-door", "street", "-c", fitting.config)
    assert (again.code, again.out) == (0, "street is not bound on site any more\n")
    ran = run("setup", "unbind-door", "street", "-c", fitting.config)
    assert (ran.code, "was not bound on site" in ran.err) == (ExitCode.FAILED, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--relay", "gpiochip0"), "no CHIP:LINE"),
        (("--relay", "a:1", "--warm"), "about a lock"),
        (("--contact", "1"), "about a relay"),
        (("--relay", "a:1", "--pulse-ms", "5"), "50 to 30000"),
        (("--relay", "a:1", "--lock", "F0:F1:F2:F3:F4:F5"), "not allowed"),
    ],
)
def test_words_that_do_not_fit(fitting: Fitting, words: tuple[str, ...], said: str) -> None:
    ran = run("setup", "bind-door", "street", "-c", fitting.config, *words)
    assert (ran.code, said in ran.err) == (ExitCode.USAGE, True)


def test_what_is_not_there_is_said(fitting: Fitting) -> None:
    for words, said in (
        (("setup", "bind-door", "street"), "no lock was claimed"),
        (("setup", "bind-door", "attic", "--relay", "a:1"), "no door 'attic'"),
        (("setup", "test-open", "street", "--yes"), "bound to nothing"),
        (("doctor", "--walk"), "no door has a lock"),
        (("setup", "report", "--out", "/nonexistent"), "cannot write"),
    ):
        ran = run(*words, "-c", fitting.config)
        assert (ran.code, said in ran.err) == (ExitCode.FAILED, True), ran
        assert "hint: " in ran.err
    assert run("doctor", "--walk", "--dials", "0", "-c", fitting.config).code == ExitCode.USAGE


def for_everybody(path: Path) -> bool:
    """Whether others than root may go there."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(
    not (for_everybody(Path(os.__file__).parent) and for_everybody(Path(pytest.__file__).parent)),
    reason="this Python and its libraries are root's alone, so nobody else can run it",
)
def test_what_root_sets_up_belongs_to_the_daemons_user() -> None:
    """Keys stay root's: they are read before."""
    owner = 65_534
    with tempfile.TemporaryDirectory() as name:
        fitting = make_fitting(Path(name), ("street",))
        Path(name).chmod(0o755)
        for public in ("root.pub.pem", "gatewayd.toml"):
            (fitting.directory / public).chmod(0o644)
        fitting.state.mkdir(mode=0o700)
        os.chown(fitting.state, owner, owner)
        words = ("setup", "bind-door", "street", "--relay", "gpiochip0:17", "-c")
        ran = spawn(*words, fitting.config)
        assert (ran.code, ran.err) == (0, "")
        made = {path.name: path.stat().st_uid for path in fitting.state.iterdir()}
        assert {"setup.toml", "log.db"} <= set(made)
        assert set(made.values()) == {owner}


async def test_a_claimed_lock_is_bound_to_its_own_door_only(tmp_path: Path) -> None:
    fitting = make_fitting(tmp_path)
    async with fitting.radios("ours") as (lock,), lock.power():
        await claimed(fitting, lock)
        async with open_site(fitting.config) as site:
            with pytest.raises(SetupError, match="no lock was claimed for cellar"):
                await setup_app.bind_lock(site, "cellar", None, warm=False)
            with pytest.raises(SetupError, match="was not claimed for street"):
                await setup_app.bind_lock(site, "street", "F0:F1:F2:F3:F4:F5", warm=False)
            await setup_app.bind_lock(site, "street", None, warm=True)
            said = await setup_app.forget_lock(site, "street")
            assert said[-1] == "street is not bound on site any more"
            assert site.setup == on_site.Setup()


async def test_what_the_configuration_says_is_put_aside_for_a_week(fitting: Fitting) -> None:
    text = fitting.config.read_text()
    fitting.config.write_text(f'{text}relay = {{ chip = "gpiochip0", line = 3 }}\n')
    async with open_site(fitting.config) as site:
        assert site.served.doors[0].relay == Relay(chip="gpiochip0", line=3)
        await setup_app.bind_relay(site, "street", Relay(chip="gpiochip0", line=4))
    async with open_site(fitting.config) as site:
        assert site.served.doors[0].relay == Relay(chip="gpiochip0", line=4)
        made = Provisional.decode(await site.log.load(MEMORY_NAME) or b"")
        assert [door.name for door in made.doors] == ["street"]
        assert await setup_app.bind_relay(site, "street", Relay(chip="gpiochip0", line=4)) == []
        assert Provisional.decode(await site.log.load(MEMORY_NAME) or b"") == made
        assert await setup_app.bind_relay(site, "street", Relay(chip="gpiochip0", line=5)) != []
        await setup_app.unbind(site, "street")
    async with open_site(fitting.config) as site:
        assert site.served.doors[0].relay == Relay(chip="gpiochip0", line=3)


async def test_the_last_binding_of_a_door_leaves_it_bound_to_nothing(fitting: Fitting) -> None:
    async with open_site(fitting.config) as site:
        assert site.served.doors == ()
        await setup_app.bind_relay(site, "street", Relay(chip="gpiochip0", line=4))
    async with open_site(fitting.config) as site:
        assert [door.id for door in site.served.doors] == ["street"]
        await setup_app.unbind(site, "street")
    async with open_site(fitting.config) as site:
        assert site.served.doors == ()
