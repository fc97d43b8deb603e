"""The host's part before a machine with systemd boots: what an installation takes, fetched once.

Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.system import image

PACKAGES: Final = {
    "/lib/systemd/systemd-udevd": "udev",
    "/usr/lib/polkit-1/polkitd": "polkitd",
    "/usr/share/doc/python3-venv": "python3-venv",
    "/usr/bin/dbus-send": "dbus",
}
REQUIREMENTS: Final = image.CHECKOUT / "requirements-gateway.txt"
DEBIANS_PYTHON: Final = "/usr/bin/python3"
"""Which the gateway's environment is made of; ours may be another."""


def wheels() -> Path:
    """A directory with all wheels of requirements-gateway.txt, checked against it."""
    name = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    return image.CACHE / f"wheels-{name}"


def prepare() -> None:
    """Install packages of Debian, download wheels, where missing. PreparationError."""
    image._install(PACKAGES)
    if wheels().exists():
        return
    for old in image.CACHE.glob("wheels-*"):
        shutil.rmtree(old, ignore_errors=True)
    stage = image.CACHE / f"wheels-stage.{os.getpid()}"
    pip = stage / "environment" / "bin" / "pip"
    fetch = ["download", "--quiet", "--require-hashes", "--only-binary=:all:"]
    try:
        for command in (
            [DEBIANS_PYTHON, "-m", "venv", str(stage / "environment")],
            [str(pip), *fetch, "--dest", str(stage / "wheels"), "--requirement", str(REQUIREMENTS)],
        ):
            subprocess.run(command, check=True)
        (stage / "wheels").rename(wheels())
    except subprocess.CalledProcessError as error:
        raise image.PreparationError(f"failed: {' '.join(map(str, error.cmd))}") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
