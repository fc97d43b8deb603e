"""`gatewayd cloud` as a person and as a program use it."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import sqlite3
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from gatewayd import cloud_app, facts
from gatewayd.adapters.sqlite_cloud import open_cloud
from gatewayd.cli import main
from gatewayd.cloud.authority import Authority, GatewayKeys, new_key
from gatewayd.cloud.pull import Patience
from gatewayd.core import audit, envelope
from gatewayd.core.envelope import Kind, Statement
from gatewayd.core.model import ClockState, EntryKind, origin_of
from gatewayd.facts import Facts, Found
from gatewayd.handlers import Desk
from gatewayd.keyfiles import create_files, private_pem, public_pem
from gatewayd.obeying import Obedience
from gatewayd.status import LockStatus, Status, StorageStatus
from gatewayd.timekeeper import Timekeeper
from tests.support import commands
from tests.support.brokers import free_port
from tests.support.uplink import (
    AUTHORITY,
    GATEWAY,
    LOG_KEY,
    NOW,
    TOPICS,
    MachineClock,
    Times,
    cloud_session,
    filled_log,
    gateway_mqtt,
    make_uplink,
    running,
    until,
)

GATEWAY_KEYS = GatewayKeys(new_key(), LOG_KEY, new_key())


def operator_directory(directory, authority=AUTHORITY):
    """The operator's keys as `gatewayd keys` leaves them, and a gateway's credential."""
    directory.mkdir(exist_ok=True)
    create_files(
        {
            directory / f"{role}.pem": private_pem(getattr(authority, role))
            for role in ("command", "seal", "time")
        }
    )
    credential = authority.gateway_credential(
        GATEWAY, {"street": 1}, GATEWAY_KEYS, issued_at=NOW, expires=NOW + 86_400
    )
    create_files(
        {
            directory / "root.pub.pem": public_pem(authority.root.public_key()),
            directory / "trust.cose": authority.bundle(),
            directory / "gateway.cwt": credential,
        },
        mode=0o644,
    )
    return directory


@pytest.fixture
def operator(tmp_path):
    return operator_directory(tmp_path / "operator")


def arguments(word, operator, port=1, *more):
    return [
        "cloud", word, str(operator / "gateway.cwt"), "--keys", str(operator),
        "--store", str(operator / "cloud.sqlite"), "--broker", f"mqtt://127.0.0.1:{port}", *more,
    ]  # fmt: skip


async def command(*argv):
    """Run a command in a thread, as it would run in a process of its own."""
    return await asyncio.to_thread(main, argv)


def uplink_to(broker, log, **changes):
    return make_uplink(log, gateway_mqtt(broker.address).connect, witnesses=(), **changes)


async def test_a_person_pulls_twice_and_verifies(broker, operator, capsys):
    log = await filled_log(1000)
    async with running(uplink_to(broker, log)):
        await until(lambda: log._memory)
        assert await command(*arguments("pull", operator, broker.address.port)) == 0
        told = capsys.readouterr()
        assert "pulling the log of stairwell-7" in told.out
        assert "1000 of 1000 entries kept and proven" in told.out
        assert "1000 new, 1000 in all" in told.out
        assert "witness.pem" in told.out
        assert told.err == ""
        assert await command(*arguments("pull", operator, broker.address.port)) == 0
        told = capsys.readouterr()
        assert "0 new, 1000 in all" in told.out
        assert "witness.pem" not in told.out
        await until(lambda: log._cursor == 1000)
    assert await command(*arguments("verify", operator)) == 0
    assert "1000 entries match" in capsys.readouterr().out
    assert (operator / "witness.pem").stat().st_mode & 0o777 == 0o600


async def test_a_program_gets_one_document(broker, operator, capsys):
    log, times = await filled_log(3), Times(wanted=True)
    async with running(uplink_to(broker, log, times=times)):
        await until(lambda: log._memory)
        await command(*arguments("pull", operator, broker.address.port, "--json"))
        document = json.loads(capsys.readouterr().out)
        await until(lambda: times.reading().state is ClockState.TRUSTED)
    assert document["gateway"] == "stairwell-7"
    assert document["origin"] == origin_of(GATEWAY)
    assert (document["stored"], document["size"], document["unreadable"]) == (3, 3, [])
    assert document["root"] == (await log.root(3)).hex()
    await command(*arguments("verify", operator, 1, "--json"))
    document = json.loads(capsys.readouterr().out)
    assert (document["entries"], document["holds"], document["alarms"]) == (3, True, [])


async def test_an_alarm_is_one_error_line_and_stays_visible(broker, operator, capsys):
    async with running(uplink_to(broker, await filled_log(30))):
        await asyncio.sleep(0.3)
        assert await command(*arguments("pull", operator, broker.address.port)) == 0
    capsys.readouterr()
    async with running(uplink_to(broker, await filled_log(20))):
        await asyncio.sleep(0.3)
        assert await command(*arguments("pull", operator, broker.address.port)) == 1
    told = capsys.readouterr()
    assert told.err.splitlines()[0].startswith("error: ALARM: the log is shorter")
    assert told.err.splitlines()[1].startswith("hint: what was pulled before is untouched")
    assert await command(*arguments("verify", operator)) == 1
    assert "alarm rolled back" in capsys.readouterr().out


async def test_a_store_that_was_changed_no_longer_verifies(broker, operator, capsys):
    async with running(uplink_to(broker, await filled_log(5))):
        await asyncio.sleep(0.3)
        await command(*arguments("pull", operator, broker.address.port))
    with closing(sqlite3.connect(operator / "cloud.sqlite")) as writer:
        writer.execute("UPDATE leaves SET leaf = x'00' WHERE seq = 2")
        writer.commit()
    assert await command(*arguments("verify", operator)) == 1
    assert "DO NOT match" in capsys.readouterr().out
    (operator / "witness.pem").unlink()
    create_files({operator / "witness.pem": private_pem(Ed25519PrivateKey.generate())})
    assert await command(*arguments("verify", operator)) == 1
    assert "error: the stored checkpoint is not what was stored" in capsys.readouterr().err


async def test_entries_of_a_newer_gateway_are_told_of(broker, operator, capsys, monkeypatch):
    log = await filled_log(3)
    async with running(uplink_to(broker, log)):
        await asyncio.sleep(0.3)
        monkeypatch.setattr(audit, "LEAF_VERSION", 7)
        assert await command(*arguments("pull", operator, broker.address.port)) == 0
    assert "3 were written by a newer gateway" in capsys.readouterr().out


# --- what can be wrong -----------------------------------------------------------------------
async def test_a_gateway_that_is_away_and_one_that_was_never_there(
    broker, operator, capsys, monkeypatch
):
    hasty = functools.partial(cloud_app.Cloud, patience=Patience(0.1, 2))
    monkeypatch.setattr(cloud_app, "Cloud", hasty)
    assert await command(*arguments("pull", operator, broker.address.port)) == 1
    assert "hint: the broker has never seen it" in capsys.readouterr().err
    async with running(uplink_to(broker, await filled_log(1))):
        await asyncio.sleep(0.3)
    assert await command(*arguments("pull", operator, broker.address.port)) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "error: the gateway does not answer",
        "hint: it is not connected to the broker; its log waits, nothing is lost",
    ]


def test_no_broker(operator, capsys):
    assert main(arguments("pull", operator, free_port())) == 1
    told = capsys.readouterr().err
    assert "error: mqtt://127.0.0.1:" in told
    assert "hint: is the broker running" in told
    assert main(arguments("time", operator, free_port())) == 1
    assert "hint: is the broker running" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["nonsense", "mqtt://", "http://127.0.0.1"])
def test_an_address_that_is_none_is_wrong_usage(operator, capsys, url):
    argv = arguments("pull", operator)
    argv[argv.index("--broker") + 1] = url
    assert main(argv) == 2
    assert "error: --broker: a broker is mqtts://" in capsys.readouterr().err


def test_plain_tcp_to_another_machine_is_wrong_usage(operator, capsys):
    argv = arguments("pull", operator)
    argv[argv.index("--broker") + 1] = "mqtt://192.0.2.1"
    assert main(argv) == 2
    assert "plain TCP is only for loopback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["command.pem", "seal.pem", "root.pub.pem", "trust.cose", "gateway.cwt"]
)
def test_a_missing_file_is_named_with_what_to_do(operator, capsys, name):
    (operator / name).unlink()
    assert main(arguments("pull", operator)) == 2
    told = capsys.readouterr().err
    assert name in told
    assert "does not exist" in told
    assert not (operator / "cloud.sqlite").exists()


def test_a_private_key_that_others_can_read_is_refused(operator, capsys):
    (operator / "command.pem").chmod(0o644)
    assert main(arguments("pull", operator)) == 2
    assert "can be read by others" in capsys.readouterr().err


def test_a_credential_of_another_operator_is_refused(operator, tmp_path, capsys):
    other = operator_directory(tmp_path / "other", Authority.create("elsewhere"))
    argv = arguments("pull", operator)
    argv[2] = str(other / "gateway.cwt")
    assert main(argv) == 2
    assert "is not a credential that this operator signed" in capsys.readouterr().err


def test_without_the_time_key_pulling_still_works_and_a_store_that_is_none_is_left(
    operator, capsys
):
    (operator / "time.pem").unlink()
    (operator / "cloud.sqlite").write_bytes(b"my diary")
    assert main(arguments("pull", operator)) == 1
    assert "nothing was acknowledged" in capsys.readouterr().err
    assert main(arguments("verify", operator)) == 1
    assert (operator / "cloud.sqlite").read_bytes() == b"my diary"


def test_verify_without_a_store_or_without_this_log(operator, capsys):
    assert main(arguments("verify", operator)) == 1
    assert "does not exist" in capsys.readouterr().err
    with open_cloud(operator / "cloud.sqlite"):
        pass
    assert main(arguments("verify", operator)) == 1
    assert "nothing of stairwell-7 is stored" in capsys.readouterr().err


# --- being interrupted -------------------------------------------------------------------------
@pytest.mark.parametrize(("word", "code", "error"), [("pull", 1, "interrupted"), ("time", 0, "")])
async def test_control_c_is_clean(broker, operator, word, code, error):
    words = arguments(word, operator, broker.address.port)
    async with commands.running(*words, PYTHONUNBUFFERED="1") as process:
        async with asyncio.timeout(20):
            while b"stairwell-7" not in await process.stdout.readline():
                pass
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGINT)
        told = await commands.finished(process)
    assert (told.code, told.err) == (code, f"error: {error}\n" if error else "")


# --- send erase ----------------------------------------------------------------------------
def erasing(operator, entries, port=1, *more):
    return [
        "cloud", "send", str(operator / "gateway.cwt"), "erase", "--entries", entries,
        *arguments("", operator, port, *more)[3:],
    ]  # fmt: skip


def waiting(operator):
    with open_cloud(operator / "cloud.sqlite") as store:
        return [each.number for each in store.erasings()]


async def test_entries_are_erased_here_and_there_and_everything_still_verifies(
    broker, operator, capsys
):
    log = await filled_log(20)
    clock = functools.partial(Timekeeper.load, MachineClock(), log, battery_clock=False)
    unused = dict.fromkeys(("secrets", "trusted", "times", "lists", "restart", "stop"))
    desk = Desk(**unused, memory=log, log=log, timekeeper=await clock())
    port = broker.address.port
    async with running(uplink_to(broker, log, obedience=Obedience(erase=desk.erase))) as uplink:
        await until(lambda: log._memory)
        assert await command(*erasing(operator, "3", port)) == 1  # not pulled yet
        assert await command(*arguments("pull", operator, port)) == 0
        await until(lambda: log._cursor == 20)
        assert await command(*erasing(operator, "20", port)) == 1
        assert "was not pulled yet" in capsys.readouterr().err
        assert await command(*erasing(operator, "3,5-7", port)) == 0
        told = capsys.readouterr().out
        assert "4 entries erased from stairwell-7; entry 20 says so" in told
        assert await command(*erasing(operator, "3,5-7", port, "--json")) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["erased_here"], document["erased"], document["number"]) == (0, 0, 2)
        assert waiting(operator) == []
        assert uplink.mailbox.report().orders == 2
        assert uplink.mailbox.report().orders_missing == ()
        # what was sent lies at the broker, and brings nothing back nor erases anything again
        assert await command(*arguments("pull", operator, port)) == 0
        assert await command(*arguments("verify", operator, port)) == 0
        assert "22 entries match" in capsys.readouterr().out
        # a cloud that begins anew gets hashes where bodies were
        anew = ("--store", str(operator / "anew.sqlite"))
        assert await command(*arguments("pull", operator, port, *anew, "--json")) == 0
        document = json.loads(capsys.readouterr().out.partition("made")[0])
        assert (document["erased"], document["size"]) == (4, 22)
        assert await command(*arguments("verify", operator, port, *anew)) == 0
    names = sorted(path.name for path in (operator / "sent" / GATEWAY).iterdir())
    assert names == ["000001-erase.cose", "000002-erase.cose"]
    for file in ("cloud.sqlite", "anew.sqlite"):
        with open_cloud(operator / file) as store:
            short = [len(leaf) == 32 for leaf in store.leaves(origin_of(GATEWAY))]
        assert [at for at, each in enumerate(short) if each] == [3, 5, 6, 7]


@pytest.mark.parametrize("entries", ["", "x", "1-", "-1", "3,2", "1-2-3", "1,,2", "0-9999", "1,1"])
def test_what_is_no_list_of_entries(operator, entries, capsys):
    with pytest.raises(SystemExit) as caught:
        main(erasing(operator, entries))
    assert caught.value.code == 2
    assert "as 17,19-24" in capsys.readouterr().err


@pytest.mark.parametrize(("order", "missing"), [("open", "door"), ("erase", "entries")])
def test_what_an_order_needs(operator, order, missing, capsys):
    words = ["cloud", "send", str(operator / "gateway.cwt"), order, "--keys", str(operator)]
    assert main(words) == 2
    assert f"--{missing} is missing" in capsys.readouterr().err


async def test_a_gateway_that_is_away_finds_the_order_when_it_comes_back(
    broker, operator, capsys, monkeypatch
):
    monkeypatch.setattr("gatewayd.cli.cloud_erase._WAIT_S", 0.5)
    log = await filled_log(5)
    async with running(uplink_to(broker, log)):
        await until(lambda: log._memory)
        assert await command(*arguments("pull", operator, broker.address.port)) == 0
        await until(lambda: log._cursor == 5)
    assert await command(*erasing(operator, "1", broker.address.port)) == 3
    assert "did not answer" in capsys.readouterr().err
    assert waiting(operator) == [1]
    clock = await Timekeeper.load(MachineClock(), log, battery_clock=False)
    unused = dict.fromkeys(("secrets", "trusted", "times", "lists", "restart", "stop"))
    desk = Desk(**unused, memory=log, log=log, timekeeper=clock)
    async with running(uplink_to(broker, log, obedience=Obedience(erase=desk.erase))):
        await until(lambda: log.entries[-1].kind is EntryKind.ERASED)
        assert waiting(operator) == [1]  # nobody heard of it
        assert await command(*arguments("pull", operator, broker.address.port)) == 0
        assert waiting(operator) == []  # its log says so


# --- send diagnose -------------------------------------------------------------------------
def diagnosing(operator, port=1, *more):
    return [
        "cloud",
        "send",
        str(operator / "gateway.cwt"),
        "diagnose",
        *arguments("", operator, port, *more)[3:],
    ]


async def test_a_gateway_says_how_it_is_to_its_operator(broker, operator, capsys):
    told = Facts(
        status=Status(
            online=True, version="0.1", kernel="6.1", bluez="5.66", clock="trusted",
            storage=StorageStatus(free_percent=71),
            locks={"street": LockStatus(reached=False, battery_percent=40, troubles=("jammed",))},
        ),
        running_s=90_061, clock_bound_s=2, log_size=9, messages={"log_failed": 2},
        counts={"phones: served": 4}, findings_left_out=3,
        findings=(Found(check="clock", severity="note", message="no battery", remedy="buy one"),),
    )  # fmt: skip
    answers = [facts.encode(told), b"nonsense", None]
    worse = Found(check="clock", severity="error", message="none")
    answers.insert(1, facts.encode(structs.replace(told, findings=(worse,))))

    async def diagnose():
        return answers.pop(0)

    log, port = await filled_log(1), broker.address.port
    async with running(uplink_to(broker, log, obedience=Obedience(diagnose=diagnose))) as uplink:
        await until(uplink.standing.is_set)
        assert await command(*diagnosing(operator, port)) == 0
        shown = capsys.readouterr().out
        for wanted in (
            "running 1 d 1 h", "trusted, within 2 s", "9 entries, 0 of them", "71 % free",
            "buy one", "street: not reached, battery 40 %, jammed", "log failed: 2",
            "phones: served: 4", "3 findings",
        ):  # fmt: skip
            assert wanted in shown
        assert await command(*diagnosing(operator, port, "--json")) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["facts"]["status"]["version"] == "0.1"
        assert await command(*diagnosing(operator, port)) == 1
        assert "cannot be read" in capsys.readouterr().err
    assert not any(path.name.startswith("diag") for path in operator.rglob("*"))


async def test_a_question_is_exactly_one(broker):
    async def diagnose():
        raise AssertionError("asked")

    log = await filled_log(1)
    async with running(uplink_to(broker, log, obedience=Obedience(diagnose=diagnose))) as uplink:
        await until(uplink.standing.is_set)
        order = Statement(Kind.DIAGNOSE, GATEWAY, bytes(16), NOW + 60, [])
        async with cloud_session(broker.address) as cloud:
            await cloud.publish(TOPICS.down("diagnose"), envelope.sign(order, AUTHORITY.command))
            await until(lambda: uplink.counts["ignored: malformed"])
