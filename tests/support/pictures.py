"""`make pictures`: the installer's page, step by step, and the handover report, into docs/pictures.

The way through is the one that the test takes, on the emulated radio, in a real Chromium.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support import installer
from tests.support.installer import Browser, page_of, stairwell

WHERE = Path(__file__).parents[2] / "docs" / "pictures"
ENOUGH = frozenset({"enrolled", "claimed", "opened"})
"""What others show, too."""
REPORT = {"width": 620, "height": 800}


async def main() -> None:
    if installer.CHROMIUM is None:
        sys.exit("error: there is no Chromium\nhint: apt-get install chromium")
    WHERE.mkdir(exist_ok=True)
    for old in WHERE.glob("*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory() as directory:
        await draw(Path(directory))
    total = sum(path.stat().st_size for path in WHERE.glob("*.png"))
    print(f"{len(list(WHERE.glob('*.png')))} pictures, {total} bytes")  # noqa: T201 - a tool


async def draw(directory: Path) -> None:
    here = stairwell(directory)
    async with here.fitting.radios("ours", "neighbours") as (lock, other):
        lock.pressing = False
        async with (
            lock.power(),
            other.power(),
            page_of(here.config) as served,
            installer.browser(served.origin) as page,
        ):
            browser = Browser(page, served.origin)

            async def shot(name: str) -> None:
                if name in ENOUGH:
                    return
                print(name)  # noqa: T201 - a tool
                await page.screenshot(
                    path=WHERE / f"{name}.png", animations="disabled", scale="css"
                )

            await installer.sign_in(browser, served, shot)
            await installer.enrol(browser, here, shot)
            here.take_radio()
            await page.goto("/")
            await shot("steps")
            await browser.tap("Look at the machine")
            await browser.tap("Look at it")
            await page.locator("#result").wait_for(timeout=installer.STEP_MS)
            await shot("machine")
            await installer.claim_lock(browser, lock, shot)
            await installer.bind_and_open(browser, lock, shot)
            await installer.walk_and_report(browser, shot)
            await page.emulate_media(color_scheme="dark")
            await page.goto("/")
            await shot("steps-dark")
            await page.emulate_media(color_scheme="light")
            await page.goto("/handover.html")
            await page.set_viewport_size(REPORT)
            await page.screenshot(path=WHERE / "handover.png", full_page=True, scale="css")


if __name__ == "__main__":
    asyncio.run(main())
