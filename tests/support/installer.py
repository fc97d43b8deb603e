"""An installer with a phone: a real Chromium at phone width, at the page of `gatewayd setup web`.

One way through the page for the test and for the pictures, so that the
pictures show what was tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page, Request, async_playwright

from tests.support.commands import completed, running
from tests.support.fitting import BoxedLock, Fitting, make_fitting
from tests.support.operator_side import invite, operator_in

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE = {"width": 360, "height": 740}
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
STEP_MS = 240_000
"""For whatever is waited for: it only has to be longer than anything takes on a busy machine."""

Shot = Callable[[str], Awaitable[None]]


@dataclass
class Browser:
    """What the page asked for beyond itself, and what it complained of: nothing, one hopes."""

    page: Page
    origin: str
    elsewhere: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("request", self._asked)
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))

    def _asked(self, request: Request) -> None:
        split = urlsplit(request.url)
        if f"{split.scheme}://{split.netloc}" != self.origin:
            self.elsewhere.append(request.url)

    # --- what thumbs do ---------------------------------------------------------------------
    async def tap(self, words: str) -> None:
        await (
            self.page.get_by_role("button", name=words, exact=True)
            .or_(self.page.get_by_role("link", name=words, exact=True))
            .first.click()
        )

    async def result(self, kind: str = "done") -> str:
        """The box in which a step says what it came to, once it is over."""
        box = self.page.locator("#result")
        await box.wait_for(timeout=STEP_MS)
        assert kind in (await box.get_attribute("class") or "").split(), await box.inner_text()
        return await box.inner_text()

    async def fits(self) -> bool:
        """Nothing is wider than the phone, and nothing to tap is smaller than a thumb."""
        await self.page.wait_for_load_state()  # without its style sheet everything is small
        found: Any = await self.page.evaluate(
            """() => [document.documentElement.scrollWidth <= innerWidth,
              ...[...document.querySelectorAll("main button, footer button, .button, summary")]
                .filter((each) => each.offsetParent)
                .map((each) => each.getBoundingClientRect().height >= 44)]"""
        )
        return all(found)


@contextlib.asynccontextmanager
async def browser(origin: str, *, dark: bool = False, scripts: bool = True) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            context = await chromium.new_context(
                viewport=PHONE, device_scale_factor=1.5, has_touch=True,
                color_scheme="dark" if dark else "light", java_script_enabled=scripts,
                base_url=origin,
            )  # fmt: skip
            context.set_default_timeout(STEP_MS)
            yield await context.new_page()
        finally:
            await chromium.close()


# --- a stairwell --------------------------------------------------------------------------------
@dataclass
class Stairwell:
    """A blank gateway, its operator, and locks in their boxes."""

    fitting: Fitting
    operator: Path
    box: Path

    @property
    def config(self) -> Path:
        return self.box / "gatewayd.toml"

    def take_radio(self) -> None:
        """What was enrolled has BlueZ; here there is an emulated radio."""
        text = self.config.read_text()
        hci = f'hci = "unix:{self.fitting.directory}/gateway.hci"\n'
        self.config.write_text(text.replace('kind = "bluez"\n', hci))

    def claim(self, broker: str = "mqtt://127.0.0.1:1") -> str:
        return invite(self.operator, "--broker", broker)

    @contextlib.asynccontextmanager
    async def answering(self, broker: str) -> AsyncIterator[None]:
        """The operator, at his broker."""
        store = self.operator / "invitations.sqlite"
        words = ("--broker", broker, "--keys", self.operator, "--store", store)
        async with running("cloud", "enrol", *words):
            yield

    async def answer(self, request: Path) -> Path:
        """The operator, wherever he is."""
        path = request.with_suffix(".answer")
        store = self.operator / "invitations.sqlite"
        words = ("--request", request, "--answer", path, "--keys", self.operator, "--store", store)
        ran = await completed("cloud", "enrol", *words)
        assert ran.code == 0, ran.err
        return path


def stairwell(directory: Path) -> Stairwell:
    (directory / "air").mkdir()
    (directory / "box").mkdir()
    operator = operator_in(directory / "operator")
    return Stairwell(make_fitting(directory / "air"), operator, directory / "box")


@dataclass
class Served:
    """A page, as its terminal announced it."""

    url: str
    code: str
    process: asyncio.subprocess.Process

    @property
    def origin(self) -> str:
        return self.url.rstrip("/")


@contextlib.asynccontextmanager
async def page_of(config: Path, *more: str) -> AsyncIterator[Served]:
    words = ("setup", "web", "--port", "0", "--json", "-c", config, *more)
    async with running(*words) as process:
        assert process.stdout is not None
        said = b""
        while not said.endswith(b"}\n"):
            line = await process.stdout.readline()
            assert line, (said, await process.stderr.read() if process.stderr else b"")
            said += line
        announced = json.loads(said)
        yield Served(announced["urls"][0], announced["code"], process)


# --- the way through ----------------------------------------------------------------------------
async def sign_in(browser: Browser, served: Served, shot: Shot) -> None:
    page = browser.page
    await page.goto(served.url)
    await shot("code")
    await page.get_by_label("Code").fill(served.code.lower())
    await browser.tap("Begin")
    await page.get_by_role("heading", level=1).wait_for()


async def enrol(browser: Browser, here: Stairwell, shot: Shot) -> None:
    """By the installer's device: there is no network at this door."""
    page = browser.page
    await page.goto("/enrol")
    await page.get_by_label("Claim").fill(here.claim())
    await browser.tap("No network here")
    await browser.result()
    async with page.expect_download() as download:
        await browser.tap("Save the request")
    request = here.box.parent / "carried.request"
    await (await download.value).save_as(request)
    await shot("enrol-without-network")
    answer = await here.answer(request)
    await page.get_by_label("The operator's answer").set_input_files(answer)
    await browser.tap("Give it to the gateway")
    said = await browser.result()
    assert "this is stairwell-7 of vestergade-7 now" in said
    await shot("enrolled")


async def claim_lock(browser: Browser, lock: BoxedLock, shot: Shot) -> None:
    page = browser.page
    await page.goto("/lock/street")
    await browser.tap("Which locks are around?")
    assert "belong" in await browser.result()
    await shot("scan")
    await page.get_by_label("Text of the lock's label").fill(lock.label.text())
    await browser.tap("Claim this lock")
    now = page.locator(".now", has_text="press its button")
    await now.wait_for(timeout=STEP_MS)
    await shot("button")
    lock.hands.press()
    assert "is the lock of street now" in await browser.result()
    await shot("claimed")


async def bind_and_open(browser: Browser, lock: BoxedLock, shot: Shot) -> None:
    page = browser.page
    await browser.tap("Next: Bind the door, street")
    await browser.tap("Bind the door to its lock")
    assert "for 7 days" in await browser.result()
    await shot("bound")
    await browser.tap("Next: Test opening, street")
    await shot("open")
    lock.hands.move_door(is_open=True)
    await browser.tap("The door is open: open it")
    assert "street, leaf open: opened" in await browser.result()
    lock.hands.move_door(is_open=False)
    await browser.tap("The door is closed: open it")
    await page.get_by_text("leaf closed: opened").wait_for(timeout=STEP_MS)
    await browser.result()
    await shot("opened")


async def walk_and_report(browser: Browser, shot: Shot) -> None:
    page = browser.page
    await browser.tap("Next: Dial every lock")
    await browser.tap("Dial every lock")
    bar = page.locator("progress")
    await bar.wait_for(timeout=STEP_MS)
    while int(await bar.get_attribute("value") or 0) < 8:  # noqa: ASYNC110 - as people watch
        await asyncio.sleep(0.1)
    await shot("walking")
    await browser.result()
    await shot("walked")
    await browser.tap("Next: Hand over")
    await browser.tap("Make the report")
    assert "Nothing is missing" in await browser.result()
    await shot("report")
