"""A D-Bus daemon of our own, found by everything that asks for the system bus."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.commands import end

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{directory}</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""
VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"
HERE = shutil.which("dbus-daemon") is not None


@asynccontextmanager
async def private_bus() -> AsyncIterator[str]:
    """Its address, which is also where bleak finds the system bus meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config, socket = directory / "bus.conf", directory / "bus"
        config.write_text(CONFIG.format(socket=socket, directory=directory))
        daemon = await asyncio.create_subprocess_exec(
            "dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        before = os.environ.get(VARIABLE)
        try:
            assert daemon.stdout is not None
            address = os.environ[VARIABLE] = (await daemon.stdout.readline()).decode().strip()
            yield address
        finally:
            os.environ.pop(VARIABLE, None)
            if before is not None:
                os.environ[VARIABLE] = before
            await end(daemon)
