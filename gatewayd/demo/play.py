"""Plays the whole story once, and cleans up after it however it ends."""

from __future__ import annotations

import inspect
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from gatewayd.demo.child import Child, ChildError
from gatewayd.demo.stage import Chapter, Record
from gatewayd.demo.story import CHAPTERS, Stage
from gatewayd.demo.world import build


async def play(told: Callable[[int, Chapter], None]) -> Record:
    """Play every chapter, telling each when it is over. Stops at a daemon that does not run."""
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gatewayd-demo-") as directory:
        async with (
            build(Path(directory), free_port()) as world,
            AsyncExitStack() as stack,
        ):
            stage = Stage(world, Child(world.config), stack)
            stack.push_async_callback(lambda: stage.child.stop())  # noqa: PLW0108 - whichever runs then
            await stage.child.start()
            for number, act in enumerate(CHAPTERS, start=1):
                chapter = Chapter(inspect.cleandoc(act.__doc__ or act.__name__))
                stage.record.chapters.append(chapter)
                chapter_s = time.perf_counter()
                try:
                    await act(stage, chapter)
                except ChildError as error:
                    chapter.expect("the daemon", "as it should be", error)
                chapter.seconds = time.perf_counter() - chapter_s
                told(number, chapter)
            stage.record.seconds = time.perf_counter() - began_s
            return stage.record


def free_port() -> int:
    """A port where no broker listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
