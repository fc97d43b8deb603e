"""setup claim-lock and release-lock: with label and button, again and again, cut off anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from firmware_proto.claiming import Label
from firmware_proto.statements import Anchoring, Reset
from gatewayd import config, setup_app
from gatewayd.adapters.sqlite import open_log
from gatewayd.cli.command import ExitCode
from gatewayd.commissioning import Commissioner
from gatewayd.config import on_site
from gatewayd.core.trust import Role, sign_bundle
from gatewayd.emulators.lock_faults import PowerCut
from gatewayd.keyfiles import create_files, private_pem, public_pem
from gatewayd.lock_connection import GatewayIdentity
from gatewayd.ports import RadioError
from gatewayd.ports.radio import Sighting
from gatewayd.setup_app import Installer
from gatewayd.setup_site import SetupError, Site, open_site
from tests.support.commands import Ran, completed, finished, run, running
from tests.support.fitting import GENERATION, BoxedLock, Fitting, make_fitting
from tests.support.household import new_key
from tests.support.hub import Fuse, Killed
from tests.support.site import NOW, YEAR


@pytest.fixture
def fitting(tmp_path: Path) -> Fitting:
    return make_fitting(tmp_path)


async def setup(fitting: Fitting, *words: str) -> Ran:
    return await completed("setup", *words, "-c", fitting.config)


def recorded(fitting: Fitting) -> on_site.Setup:
    found, problems = on_site.load(fitting.state)
    assert problems == []
    return found


# --- as an installer types it -----------------------------------------------------------------
async def test_claimed_by_its_label_among_others(fitting: Fitting) -> None:
    async with (
        fitting.radios("ours", "neighbours") as (lock, other),
        lock.power(),
        other.power(),
    ):
        ran = await setup(fitting, "claim-lock", "street", lock.label.text())
        assert (ran.code, ran.err) == (0, "")
        assert "belongs to nobody" in ran.out
        assert "is the lock of street now" in ran.out
        again = await setup(fitting, "claim-lock", "street", "--json")
        assert again.json == {"door": "street", "changed": []}
    memory = lock.memory
    assert (memory.door, memory.generation) == ("street", GENERATION)
    assert memory.root_key == fitting.authority.root.public_key()
    assert memory.command_key == fitting.authority.command.public_key()
    assert not other.memory.claimed
    assert lock.blinked == [5_000]
    claimed = recorded(fitting).lock_of("street")
    assert claimed is not None
    assert (claimed.stage, claimed.model) == ("claimed", "gatewayd emulated lock")
    secret = lock.memory.claim_secret
    assert secret is not None
    written = (fitting.state / "setup.toml").read_bytes()
    assert secret not in written
    assert secret.hex().encode() not in written


async def test_the_label_is_asked_for_and_the_button_waited_for(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,):
        lock.pressing = False
        async with (
            lock.power(),
            running("setup", "claim-lock", "street", "-c", fitting.config) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{lock.label.text()}\n".encode())
            said = b""
            while b"press its button" not in said:
                read = await process.stdout.readline()
                assert read, said
                said += read
            lock.hands.press()
            ran = await finished(process)
    assert (ran.code, "is the lock of street now" in ran.out) == (0, True)


async def test_released_with_label_or_statement_and_claimed_again(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        label = lock.label.text()
        assert (await setup(fitting, "claim-lock", "street", label)).code == 0
        ran = await setup(fitting, "release-lock", "street", label)
        assert (ran.code, "has no lock of ours any more" in ran.out) == (0, True)
        assert not lock.memory.claimed
        assert recorded(fitting).lock == ()
        assert list(fitting.state.glob("lock-*.pub.pem")) == []
        assert (await setup(fitting, "claim-lock", "cellar", label)).code == 0
        statement = fitting.directory / "leave.cose"
        wrong = Reset(lock.memory.key_id, 1).sign(fitting.authority.command)
        statement.write_bytes(wrong)
        words = ("release-lock", "cellar", "--statement", str(statement))
        ran = await setup(fitting, *words)
        assert (ran.code, "old_statement" in ran.err) == (ExitCode.FAILED, True)
        assert "leave names the lock and its present epoch" in ran.err
        assert lock.memory.door == "cellar"
        leave = Reset(lock.memory.key_id, lock.memory.epoch).sign(fitting.authority.command)
        statement.write_bytes(leave)
        assert (await setup(fitting, *words)).code == 0
        assert not lock.memory.claimed


async def test_what_the_operator_signs_for_locks_is_carried_to_them(fitting: Fitting) -> None:
    directory, newer = fitting.directory, new_key()
    for name, key in (("root", fitting.authority.root), ("command", fitting.authority.command)):
        create_files({directory / f"{name}.pem": private_pem(key)})
    for name, key in (("new", newer), ("command", fitting.authority.command)):
        (directory / f"{name}.pub.pem").write_bytes(public_pem(key.public_key()))
    anchor, leave = directory / "anchor.cose", directory / "leave.cose"
    keys = ("--gateways", directory / "new.pub.pem", "--command", directory / "command.pub.pem")
    words = ("keys", "anchor", "--serial", "8", *keys, "--root", directory / "root.pem", "--out")
    assert (await completed(*words, anchor)).code == 0
    async with fitting.radios("ours") as (lock,), lock.power():
        label = lock.label.text()
        words = ("claim-lock", "street", label, "--anchor-serial", "6")
        ran = await setup(fitting, *words)
        assert (ran.code, "in its epoch 2" in ran.out) == (0, True)
        ran = await setup(fitting, "anchor-lock", "street", str(anchor))
        assert (ran.code, "anchors count up by one" in ran.err) == (ExitCode.FAILED, True)
        claimed = recorded(fitting).lock_of("street")
        assert claimed is not None
        public = claimed.key
        signer = ("--epoch", "2", "--signer", directory / "command.pem", "--out", leave)
        assert (await completed("keys", "lock-release", public, *signer)).code == 0
        ran = await setup(fitting, "release-lock", "street", "--statement", str(leave))
        assert (ran.code, lock.memory.claimed) == (0, False)
        lock.hands.press()
        words = ("claim-lock", "street", label, "--anchor-serial", "7")
        assert (await setup(fitting, *words)).code == 0
        assert (await setup(fitting, "anchor-lock", "street", str(anchor))).code == 0
        assert (lock.memory.serial, lock.memory.gateways_key) == (8, newer.public_key())
        refused = await setup(fitting, "claim-lock", "street")
        assert refused.code == ExitCode.FAILED  # our credential is of the key that went


async def test_a_new_gateways_key_goes_to_the_lock_first_and_to_the_gateway_after(
    fitting: Fitting,
) -> None:
    directory, authority, newer = fitting.directory, fitting.authority, new_key()
    later = replace(authority, gateways=newer)
    doors = dict.fromkeys(("street", "cellar"), GENERATION)
    new = later.gateway_credential(
        "stairwell-7", doors, fitting.keys, issued_at=NOW, expires=NOW + YEAR
    )
    both = replace(later.trust(2), others={Role.GATEWAYS: (authority.gateways.public_key(),)})
    anchor = Anchoring(1, newer.public_key(), authority.command.public_key()).sign(authority.root)
    (directory / "anchor.cose").write_bytes(anchor)
    async with fitting.radios("ours") as (lock,), lock.power():
        await claim(fitting, lock)
        (directory / "trust.cose").write_bytes(sign_bundle(both, authority.root))
        old = (directory / "gateway.cwt").read_bytes()
        (directory / "gateway.cwt").write_bytes(new)
        to_lock = ("anchor-lock", "street", str(directory / "anchor.cose"))
        assert (await setup(fitting, *to_lock)).code == ExitCode.FAILED  # it knows no such key
        (directory / "gateway.cwt").write_bytes(old)
        assert (await setup(fitting, *to_lock)).code == 0
        assert (await setup(fitting, "claim-lock", "street")).code == ExitCode.FAILED
        (directory / "gateway.cwt").write_bytes(new)
        assert (await setup(fitting, "claim-lock", "street", "--json")).json["changed"] == []
        assert (await setup(fitting, *to_lock)).code == ExitCode.FAILED  # once
    assert (lock.memory.serial, lock.memory.gateways_key) == (1, newer.public_key())


async def test_a_label_need_not_stand_where_sudo_and_shells_keep_it(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        await claim(fitting, lock)
        words = ("setup", "release-lock", "street", "-c", fitting.config)
        async with running(*words) as process:
            assert process.stdin is not None
            process.stdin.write(f"{lock.label.text()}\n".encode())
            ran = await finished(process)
        assert (ran.code, "has no lock of ours any more" in ran.out) == (0, True), ran
        assert not lock.memory.claimed


async def test_forgetting_takes_away_no_file_but_the_locks_key(fitting: Fitting) -> None:
    fitting.state.mkdir()
    for name in ("precious.db", "lock-1.pub.pem"):
        (fitting.state / name).write_bytes(public_pem(new_key().public_key()))
        edited = on_site.ClaimedLock(
            door="street", address="F0:F1:F2:F3:F4:01", key=fitting.state / name, stage="claimed"
        )
        on_site.save(fitting.state, on_site.Setup(lock=(edited,)))
        assert (await setup(fitting, "release-lock", "street", "--forget")).code == 0
    assert (fitting.state / "precious.db").exists()
    assert not (fitting.state / "lock-1.pub.pem").exists()


async def test_what_cannot_be_is_said(fitting: Fitting) -> None:
    async with fitting.radios("ours", "other") as (lock, other), lock.power(), other.power():
        for words, code, said in (
            (("claim-lock", "attic", "x"), ExitCode.USAGE, "no lock's label"),
            (("claim-lock", "attic", lock.label.text()), ExitCode.FAILED, "no door 'attic'"),
            (("release-lock", "street", "--forget"), ExitCode.FAILED, "no lock was claimed"),
            (("release-lock", "street"), ExitCode.FAILED, "no lock was claimed"),
            (("release-lock", "street", lock.label.text(), "--forget"), ExitCode.USAGE, "one of"),
            (("release-lock", "street", "--statement", "absent"), ExitCode.USAGE, "not exist"),
        ):
            ran = await setup(fitting, *words)
            assert (ran.code, said in ran.err) == (code, True), ran
            assert "hint: " in ran.err
        assert (await setup(fitting, "claim-lock", "street", lock.label.text())).code == 0
        taken = await setup(fitting, "claim-lock", "street", other.label.text())
        assert (taken.code, "another lock already" in taken.err) == (ExitCode.FAILED, True)
        gone = await setup(fitting, "claim-lock", "cellar", lock.label.text())
        assert (gone.code, "has this label" in gone.err) == (ExitCode.FAILED, True)
        wrong = await setup(fitting, "release-lock", "street", other.label.text())
        assert (wrong.code, "label of another lock" in wrong.err) == (ExitCode.FAILED, True)
        assert lock.memory.door == "street"


async def test_a_running_daemon_is_in_the_way(fitting: Fitting) -> None:
    fitting.state.mkdir()
    async with open_log(fitting.state / "log.db"):
        ran = await setup(fitting, "release-lock", "street", "--forget")
    assert (ran.code, "another gatewayd is writing" in ran.err) == (ExitCode.FAILED, True)
    assert "systemctl stop gatewayd" in ran.err


def test_a_damaged_file_is_named_with_its_line(fitting: Fitting) -> None:
    fitting.state.mkdir()
    (fitting.state / "setup.toml").write_text(
        '[[lock]]\ndoor = "street"\nstage = "eaten"\naddress = "a"\nkey = "k"\n'
    )
    ran = run("setup", "release-lock", "street", "--forget", "-c", fitting.config)
    assert (ran.code, "setup.toml:3" in ran.err) == (ExitCode.USAGE, True)
    with pytest.raises(config.ConfigError) as caught:
        config.load_all(fitting.config)
    assert any("setup.toml:3" in problem.message for problem in caught.value.problems)


class Rounds:
    """Locks that are heard round by round, and dialled in vain."""

    def __init__(self, *rounds: str) -> None:
        self.rounds = list(rounds)
        self.dialled = ""

    async def look(self, seconds: float, heard: object) -> list[Sighting]:
        return [Sighting(name, None) for name in self.rounds.pop(0)]

    async def dial(self, address: str) -> NoReturn:
        self.dialled += address
        raise RadioError("away")


async def test_each_lock_is_asked_for_the_label_once_and_as_soon_as_it_was_heard() -> None:
    central = Rounds("b", "ba", "", "abc", "c")
    identity = GatewayIdentity(new_key(), b"")
    party = Commissioner(central, identity, setup_app.entropy())  # type: ignore[arg-type] # as much
    label = Label(new_key().public_key(), bytes(16))
    with pytest.raises(RadioError, match=r"none of 3 lock\(s\)"):
        await setup_app._with_label(party, central, label, None, Installer())  # type: ignore[arg-type]
    assert (central.dialled, central.rounds) == ("bac", [])


# --- cut off anywhere -------------------------------------------------------------------------
async def claim(fitting: Fitting, lock: BoxedLock) -> list[str]:
    async with open_site(fitting.config) as site:
        return await setup_app.claim_lock(site, "street", lock.label, None, Installer())


async def release(fitting: Fitting, lock: BoxedLock) -> list[str]:
    async with open_site(fitting.config) as site:
        return await setup_app.release_lock(site, "street", lock.label, None, Installer())


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    """Kills before or after anything that is kept and anything that a lock is asked."""
    fuse = Fuse(2**31)
    keep, ask = Site.keep, Commissioner._ask

    def cut_keep(self: Site, setup: on_site.Setup) -> None:
        fuse.step()
        keep(self, setup)
        fuse.step()

    async def cut_ask(self: Commissioner, *words: object) -> object:
        fuse.step()
        answer = await ask(self, *words)  # type: ignore[arg-type] # as they come
        fuse.step()
        return answer

    monkeypatch.setattr(Site, "keep", cut_keep)
    monkeypatch.setattr(Commissioner, "_ask", cut_ask)
    return fuse


CLAIM_STEPS, RELEASE_STEPS = 8, 6


@pytest.mark.parametrize("steps", range(CLAIM_STEPS + 1))
async def test_a_claim_goes_on_after_a_power_cut_anywhere(
    fitting: Fitting, fuse: Fuse, steps: int
) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        fuse.after = steps
        if steps < CLAIM_STEPS:
            with pytest.raises(Killed):
                await claim(fitting, lock)
        else:
            assert len(await claim(fitting, lock)) == 1
        assert fuse.steps == min(steps + 1, CLAIM_STEPS)
        fuse.after = 2**31
        await claim(fitting, lock)
        assert await claim(fitting, lock) == []
        assert lock.memory.door == "street"
    claimed = recorded(fitting).lock_of("street")
    assert claimed is not None
    assert claimed.stage == "claimed"


@pytest.mark.parametrize("steps", range(RELEASE_STEPS + 1))
async def test_a_release_goes_on_after_a_power_cut_anywhere(
    fitting: Fitting, fuse: Fuse, steps: int
) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        await claim(fitting, lock)
        fuse.steps, fuse.after = 0, steps
        lock.hands.press()
        if steps < RELEASE_STEPS:
            with pytest.raises(Killed):
                await release(fitting, lock)
        else:
            await release(fitting, lock)
        assert fuse.steps == min(steps + 1, RELEASE_STEPS)
        fuse.after = 2**31
        if recorded(fitting).lock_of("street") is not None:
            lock.hands.press()
            await release(fitting, lock)
        assert not lock.memory.claimed
    assert recorded(fitting).lock == ()


@pytest.mark.parametrize(
    "cut", [PowerCut.BEFORE_STORING, PowerCut.AFTER_STORING, PowerCut.BEFORE_ANSWER]
)
async def test_a_claim_goes_on_when_the_locks_power_went(fitting: Fitting, cut: PowerCut) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        assert lock.hands.lock is not None
        lock.hands.lock.faults.power_cut = cut
        with pytest.raises(RadioError):
            await claim(fitting, lock)
        claimed = recorded(fitting).lock_of("street")
        assert claimed is not None
        assert claimed.stage == "claiming"
        assert len(await claim(fitting, lock)) == 1
        assert lock.memory.door == "street"


async def test_a_refused_claim_leaves_nothing_behind(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,), lock.power():
        store = lock.store.load()
        label = lock.label
        wrong = type(label)(label.key, bytes(16))
        async with open_site(fitting.config) as site:
            with pytest.raises(SetupError, match="bad_claim"):
                await setup_app.claim_lock(site, "street", wrong, None, Installer())
            assert site.setup == on_site.Setup()
        assert lock.memory.door == store.door == ""
    assert list(fitting.state.glob("lock-*.pub.pem")) == []


async def test_a_lock_that_is_silent_and_one_being_released(fitting: Fitting) -> None:
    async with fitting.radios("ours") as (lock,):
        async with lock.power():
            await claim(fitting, lock)
        async with open_site(fitting.config) as site:
            with pytest.raises(RadioError, match="does not answer"):
                await setup_app.claim_lock(site, "street", None, None, Installer())
            with pytest.raises(RadioError):
                await setup_app.release_lock(site, "street", lock.label, None, Installer())
            with pytest.raises(SetupError, match="is being released"):
                await setup_app.claim_lock(site, "street", None, None, Installer())
            with pytest.raises(SetupError, match="label of the lock is needed"):
                await setup_app.claim_lock(site, "cellar", None, None, Installer())
            assert await setup_app.forget_lock(site, "street")
