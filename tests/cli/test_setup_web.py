"""setup web: the whole path in a real browser at phone width, and what the page runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from gatewayd import keyfiles, setup_web, setup_words
from gatewayd.adapters.web import wire
from gatewayd.adapters.web.wire import Peer
from gatewayd.config import on_site
from gatewayd.setup_words import Where
from tests.support import installer
from tests.support.brokers import make_broker
from tests.support.commands import PROGRAM, Ran, completed, finished, run, running
from tests.support.fitting import make_fitting
from tests.support.installer import Browser, page_of
from tests.support.terminal import terminal

chromium = pytest.mark.skipif(
    installer.CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)


async def no_picture(_name: str) -> None:
    pass


# --- the whole path ------------------------------------------------------------------------------
@chromium
async def test_the_whole_path_in_a_browser(tmp_path: Path) -> None:
    here = installer.stairwell(tmp_path)
    async with here.fitting.radios("ours", "neighbours") as (lock, other):
        lock.pressing = False
        async with (
            lock.power(),
            other.power(),
            page_of(here.config) as served,
            installer.browser(served.origin) as page,
        ):
            browser = Browser(page, served.origin)
            browser.watch()

            async def look(name: str) -> None:
                assert await browser.fits(), name

            await installer.sign_in(browser, served, look)
            await browser.tap("Look at the machine")
            await browser.tap("Look at it")
            await browser.result("failed")  # nobody has enrolled it yet
            await installer.enrol(browser, here, look)
            here.take_radio()
            await installer.claim_lock(browser, lock, look)
            await page.reload()  # in the middle of everything
            await installer.bind_and_open(browser, lock, look)
            await installer.walk_and_report(browser, look)
            async with page.expect_download() as download:
                await browser.tap("Save it as data")
            await (await download.value).save_as(tmp_path / "handover.json")
            await browser.tap("Show the report")
            assert await page.locator("svg circle").count() == 20
            await page.go_back()
            await browser.tap("Finish")
            await page.get_by_role("heading", name="This page is off").wait_for()
            assert "sudo systemctl start gatewayd" in await page.locator("main").inner_text()
            ran = await finished(served.process)
        assert (ran.code, ran.err) == (0, "")
        assert (browser.elsewhere, browser.complaints) == ([], [])
        assert lock.machine.openings == 2
        assert not other.memory.claimed
    assert json.loads(keyfiles.read_file(tmp_path / "handover.json", "it"))["complete"] is True
    status = await completed("setup", "status", "-c", here.config)
    assert (status.code, "nothing is missing" in status.out) == (0, True)
    setup, _ = on_site.load(here.box / "state")
    assert [each.door for each in setup.binding] == ["street"]


@chromium
async def test_without_scripts_after_a_power_cut_and_with_the_operator_far_away(
    tmp_path: Path,
) -> None:
    """The request was written before the cut, and is answered after it, by another browser."""
    here = installer.stairwell(tmp_path)
    asked = tmp_path / "asked"
    async with page_of(here.config) as served, installer.browser(served.origin) as page:
        browser = Browser(page, served.origin)
        await installer.sign_in(browser, served, no_picture)
        await page.goto("/enrol")
        await page.get_by_label("Claim").fill("GD1AAAA")
        await browser.tap("No network here")
        said = await browser.result("failed")
        assert "error: this is no claim" in said
        assert "hint: " in said
        await page.get_by_label("Claim").fill(here.claim())
        await browser.tap("No network here")
        await browser.result()
        async with page.expect_download() as download:
            await browser.tap("Save the request")
        await (await download.value).save_as(asked)
        served.process.kill()
    answer = await here.answer(asked)
    async with (
        page_of(here.config) as served,
        installer.browser(served.origin, scripts=False, dark=True) as page,
    ):
        browser = Browser(page, served.origin)
        browser.watch()
        await installer.sign_in(browser, served, no_picture)
        await page.goto("/enrol")
        await page.get_by_label("The operator's answer").set_input_files(asked)  # the wrong file
        await browser.tap("Give it to the gateway")
        assert "is no answer to our request" in await browser.result("failed")
        await browser.tap("Make the request")
        await browser.result()
        async with page.expect_download() as download:
            await browser.tap("Save the request")
        again = tmp_path / "again"
        await (await download.value).save_as(again)
        assert keyfiles.read_file(again, "it") == keyfiles.read_file(asked, "it")
        await page.get_by_label("The operator's answer").set_input_files(answer)
        await browser.tap("Give it to the gateway")
        assert "this is stairwell-7" in await browser.result()
        await page.goto("/")
        await page.get_by_text("Claim the lock").first.wait_for()
        assert browser.elsewhere == []
        served.process.send_signal(signal.SIGINT)
        ran = await finished(served.process)
    assert (ran.code, ran.err) == (0, "")
    assert keyfiles.read_file(here.box / "gateway.cwt", "credential")


@chromium
async def test_enrolling_over_the_network_with_an_operator_who_comes_later(tmp_path: Path) -> None:
    here, broker = installer.stairwell(tmp_path), make_broker(tmp_path)
    await broker.start()
    url = f"mqtt://127.0.0.1:{broker.address.port}"
    try:
        async with page_of(here.config) as served, installer.browser(served.origin) as page:
            browser = Browser(page, served.origin)
            browser.watch()
            await installer.sign_in(browser, served, no_picture)
            await page.goto("/enrol")
            await page.get_by_label("Claim").fill(here.claim(url))
            await browser.tap("Enrol")
            await page.get_by_text(f"asking at {url}").first.wait_for()
            await browser.tap("Stop")  # nobody answers
            await browser.result("failed")
            assert not (here.box / "gateway.cwt").exists()
            async with here.answering(url):
                await browser.tap("Ask over the network")
                assert "this is stairwell-7 of vestergade-7 now" in await browser.result()
            await browser.tap("All steps")
            await page.get_by_text("Claim the lock").first.wait_for()
            await browser.tap("Switch this page off")
            await page.get_by_role("heading", name="This page is off").wait_for()
            # no door is bound: there is nothing to start
            assert "systemctl start" not in await page.locator("main").inner_text()
            ran = await finished(served.process)
        assert (ran.code, ran.err) == (0, "")
        assert browser.elsewhere == []  # the last page's icon may come too late on a busy machine
    finally:
        await broker.stop()
    status = await completed("setup", "status", "-c", here.config)
    assert "stairwell-7" in status.out


# --- the process behind it ------------------------------------------------------------------------
async def test_the_page_holds_nothing_and_dies_with_its_terminal(tmp_path: Path) -> None:
    async with page_of(tmp_path / "gatewayd.toml") as served:
        await asyncio.to_thread(urlopen, served.url, timeout=30)
        child = page_process(served.process.pid)
        if os.geteuid() == 0:
            assert set(field_of(child, "Uid").split()) == {"65534"}
            assert int(field_of(child, "CapEff"), 16) == 0
        served.process.kill()
        async with asyncio.timeout(10):
            while not gone(child):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.05)


def page_process(parent: int) -> Path:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = (
        each for each in (Path(f"/proc/{pid}") for pid in listed)
        if b"gatewayd.adapters.web" in (each / "cmdline").read_bytes()
    )  # fmt: skip
    return found


def field_of(process: Path, name: str) -> str:
    return (process / "status").read_text().split(f"{name}:")[1].partition("\n")[0].strip()


def gone(process: Path) -> bool:
    return not process.exists() or field_of(process, "State").startswith("Z")


TAKEN_OVER = """
import fcntl, os, sys, termios
from gatewayd.adapters.web.__main__ import _become_nobody
_become_nobody()
with open("/proc/self/status") as status:
    rights = status.read().split("NoNewPrivs:")[1].split()[0]
sys.stderr.write("\\x1b]0;no new" + rights + chr(10))
for each in (*range(3), "/dev/tty"):
    try:
        terminal = each if isinstance(each, int) else os.open(each, os.O_RDWR)
        os.write(terminal, b"TAKEN OVER" if os.isatty(terminal) else b"")
        fcntl.ioctl(terminal, termios.TIOCSTI, b"!")
    except OSError:
        pass
"""
ITS_TERMINAL = """
import asyncio, pathlib, select, sys, tty
from gatewayd import setup_web
from gatewayd.cli.command import Output
setup_web._PAGE = ("-I", "-c", sys.argv[1])
tty.setcbreak(0)
where = setup_web.bound("127.0.0.1", 0)
say = Output(as_json=False).line
asyncio.run(setup_web.serve(pathlib.Path("none"), where, "code", 60, say))
print("typed by somebody" if select.select([0], [], [], 0)[0] else "nobody typed")
"""


async def test_a_page_that_was_taken_over_has_no_terminal_and_gets_no_rights() -> None:
    async with terminal([sys.executable, "-c", ITS_TERMINAL, TAKEN_OVER]) as shown:
        assert await shown.ended() == 0
        assert "nobody typed" in shown.screen
        assert "TAKEN OVER" not in shown.screen
        assert "\\x1b]0;no new1" in shown.screen  # it says so, and moves no cursor
        assert "\x1b]" not in shown.raw


async def test_strangers_do_not_fill_the_terminal(tmp_path: Path) -> None:
    """A body that is wrong behind its beginning makes a traceback of the server's."""
    words = (PROGRAM, "setup", "web", "--port", "0", "-c", tmp_path / "gatewayd.toml")
    async with terminal(words) as shown:
        await shown.shows("Ctrl-C ends it")
        host = shown.screen.split("http://")[1].split("/")[0]
        head = f"POST /machine HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        for _ in range(8):
            reader, writer = await asyncio.open_connection(*host.split(":"))
            writer.write(f"{head}1\r\nx\r\nno length\r\n".encode())
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
        shown.type("\x03")
        assert await shown.ended() == 0
        assert 1 <= shown.screen.count("Traceback") <= 3


@pytest.mark.parametrize("way", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
async def test_whatever_ends_it_nothing_is_left_behind(tmp_path: Path, way: signal.Signals) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = (PROGRAM, "setup", "web", "--port", "0", "-c", tmp_path / "gatewayd.toml")
    async with terminal(words, environment={"TMPDIR": str(scratch)}) as shown:
        await shown.shows("code")
        while not held_in(scratch):  # noqa: ASYNC110 - the file system tells nobody
            await asyncio.sleep(0.05)
        shown._process.send_signal(way)
        assert await shown.ended() == 0
        assert "goes on where it ended" in shown.screen
    assert held_in(scratch) == []


def held_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


# --- steps that cannot be run, and are stopped at odd moments ------------------------------------
@asynccontextmanager
async def conducting(config: Path) -> AsyncIterator[Peer[wire.Told]]:
    """The other end of what runs the steps: a page, played by the test."""
    ours, theirs = socket.socketpair()
    async with setup_web.peer(ours) as page:
        conductor = setup_web.Conductor(config, page, lambda _: None)
        begin = wire.Begin("code", ("localhost",), 60.0)
        task = asyncio.create_task(conductor.run(begin), name="conductor")
        reader, writer = await asyncio.open_connection(sock=theirs, limit=wire.MAX_TOLD_BYTES)
        end = Peer(reader, writer, wire.telling())
        async with asyncio.timeout(120):
            yield end
            await end.close()
            await task


@pytest.mark.parametrize(
    "said",
    [b"nonsense", b'{"do":"run"}', b'{"do":' + b"[" * 100_000, b"x" * wire.MAX_ASKED_BYTES * 2],
)
async def test_what_no_page_says_ends_the_page(tmp_path: Path, said: bytes) -> None:
    async with conducting(tmp_path / "gatewayd.toml") as end:
        words = end.hear()
        assert isinstance(await anext(words), wire.Begin)
        assert isinstance(await anext(words), wire.State)
        end._writer.write(said + b"\n")  # and nothing of ours is raised


async def test_a_step_that_cannot_be_run_is_over_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with conducting(tmp_path / "gatewayd.toml") as end:
        words = end.hear()
        assert isinstance(await anext(words), wire.Begin)
        assert isinstance(await anext(words), wire.State)
        (scratch,) = held_in(tmp_path)
        shutil.rmtree(scratch)
        for _ in range(2):
            end.say(wire.TakeAnswer(b"an answer"))
            ended = await anext(words)
            assert isinstance(ended, wire.Ended)
            assert (ended.code, "No such file" in ended.error) == (1, True)


async def test_who_stops_a_step_that_has_just_ended_still_sees_the_set_up(tmp_path: Path) -> None:
    async with conducting(tmp_path / "gatewayd.toml") as end:
        words = end.hear()
        assert isinstance(await anext(words), wire.Begin)
        before = await anext(words)
        end.say(wire.Report())

        async def stop() -> None:
            while True:
                end.say(wire.Stop())
                await asyncio.sleep(0.02)

        stopping = asyncio.create_task(stop())
        states = []
        while not isinstance(word := await anext(words), wire.Ended):
            states.append(word)
        stopping.cancel()
        assert states[-1] == before


async def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    for words, said in (
        (("--on", "224.0.0.1"), "is not only the installer's side"),
        (("--on", "nowhere0"), "is no interface"),
        (("--port", "70000"), "a port is 0 to 65535"),
        (("--idle", "0"), "1 to 1440 minutes"),
    ):
        ran: Ran = await completed("setup", "web", "-c", tmp_path / "none.toml", *words)
        assert (ran.code, said in ran.err) == (2, True), ran


def test_secrets_are_typed_and_what_is_typed_is_no_option(tmp_path: Path) -> None:
    uri = "pkcs11:token=door?module-path=/x.so&pin-source=/etc/gatewayd/element.pin"
    where = Where(tmp_path / "gatewayd.toml", tmp_path, uri)
    steps: list[wire.Step] = [
        wire.Doctor(), wire.Enrol("GD1SECRET"), wire.Enrol(), wire.WriteRequest("GD1SECRET"),
        wire.TakeAnswer(b"x"), wire.Scan(), wire.ClaimLock("street", "GWL1-SECRET", 7),
        wire.ClaimLock("street"), wire.ReleaseLock("street", "GWL1-SECRET"),
        wire.ForgetLock("street"), wire.BindDoor("street"),
        wire.BindDoor("street", "chip:1", "2", 500, active_low=True), wire.UnbindDoor("street"),
        wire.TestOpen("street", "open"), wire.Walk(), wire.Report(),
    ]  # fmt: skip
    for step in steps:
        words, typed = setup_words.typed(step, where)
        assert "SECRET" not in " ".join(words)
        assert ("SECRET" in typed) == ("SECRET" in repr(step))
        assert (uri in words) == ("GD1" in repr(step))
        parsed = run(*words, "--help")
        assert (parsed.code, parsed.err) == (0, ""), words
    assert {type(each) for each in steps} == set(setup_words._COMMANDS)


def test_however_a_step_ends_its_error_is_told() -> None:
    refused = setup_web._ended(1, {"error": "the lock refuses", "hint": "press"})
    assert (refused.error, refused.hint) == ("the lock refuses", "press")
    problems = [{"line": 3, "message": "no such door", "hint": "name it"}, {}]
    broken = setup_web._ended(2, {"document": {"file": "x", "problems": problems}})
    assert (broken.error, broken.hint) == ("no such door", "name it")
    silent = setup_web._ended(-9, {})
    assert (silent.code, silent.error) == (-9, "the step ended with -9")
    assert setup_web._ended(0, {"document": {"changed": []}}).error == ""
    assert setup_web._word(b"oops \xff\n")["line"] == "oops \ufffd"


def test_how_far_it_is_is_said_also_where_it_cannot_be_read(tmp_path: Path) -> None:
    config = tmp_path / "gatewayd.toml"
    ran = run("setup", "status", "-c", config)
    assert (ran.code, "not enrolled yet" in ran.out) == (1, True)
    config.write_text("nonsense")
    ran = run("setup", "status", "-c", config)
    assert (ran.code, "hint: " in ran.err) == (2, True)
    (tmp_path / "enrolment.state").write_bytes(b"nonsense")
    (tmp_path / "enrolment.state").chmod(0o600)
    ran = run("setup", "status", "-c", config)
    assert (ran.code, "is damaged" in ran.err) == (2, True)


async def test_status_and_scan_and_a_typed_label(tmp_path: Path) -> None:
    fitting = make_fitting(tmp_path, ("street",))
    async with fitting.radios("ours") as (lock,), lock.power():
        heard = await completed("setup", "scan", "-c", fitting.config, "--json")
        (only,) = heard.json
        assert (heard.code, only["dbm"]) == (0, -50)
        words = ("setup", "claim-lock", "street", "-", "-c", fitting.config)
        async with running(*words) as process:
            assert process.stdin is not None
            process.stdin.write(f"{lock.label.text()}\n".encode())
            ran = await finished(process)
        assert (ran.code, ran.err) == (0, "")
        none = await completed("setup", "scan", "-c", fitting.config)
        assert (none.code, "no lock that belongs to nobody" in none.out) == (1, True)
    ran = await completed("setup", "status", "-c", fitting.config)
    assert (ran.code, "street: bound to nothing" in ran.out) == (1, True)
    ran = await completed("setup", "status", "-c", fitting.config, "--json")
    assert ran.json["locks"]["street"]
