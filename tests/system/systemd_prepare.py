"""The host's part before a machine with systemd boots: the package that is installed in it.

Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.system import image

PACKAGES: Final = {
    "/lib/systemd/systemd-udevd": "udev",
    "/usr/lib/polkit-1/polkitd": "polkitd",
    "/usr/share/doc/python3-venv": "python3-venv",
    "/usr/share/zoneinfo/UTC": "tzdata",
    "/usr/bin/dbus-send": "dbus",
    "/usr/bin/dh": "debhelper",
}
SOURCES: Final = (
    *("gatewayd", "firmware_proto", "systemd", "pyproject.toml", "requirements-gateway.txt"),
    *("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "docs"),
)
"""What a package is made of."""
BUILD: Final = image.CHECKOUT / "systemd" / "debian" / "build"
LATER: Final = "CREATE TABLE of_a_later_version (anything INTEGER) STRICT;\n"
VERSION: Final = re.compile(r"^Version: (.*)$", re.MULTILINE)


def package() -> Path:
    """The .deb of this checkout, once it has been made."""
    (found,) = _directory().glob("*.deb")
    return found


def newer() -> Path:
    """A later version, with a schema of the log of its own; otherwise the same."""
    return _directory() / "newer" / package().name


def _directory() -> Path:
    made_of = hashlib.sha256()
    for path in _files():
        made_of.update(f"{path}\0".encode() + path.read_bytes())
    return image.CACHE / f"deb-{made_of.hexdigest()[:12]}"


def _files() -> Iterator[Path]:
    for name in SOURCES:
        path = image.CHECKOUT / name
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (each for each in found if each.is_file() and each.suffix != ".pyc")


def prepare() -> None:
    """Install packages of Debian and make ours, where missing. PreparationError."""
    image.install(PACKAGES)
    done = _directory()
    if done.exists():
        return
    for old in image.CACHE.glob("deb-*"):
        shutil.rmtree(old, ignore_errors=True)
    stage = image.CACHE / f"deb-stage.{os.getpid()}"
    try:
        image._run([str(BUILD), str(stage)])
        _make_newer(stage)
        stage.rename(done)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _make_newer(directory: Path) -> None:
    """What `newer` says, made out of the one in the directory."""
    (made,) = directory.glob("*.deb")
    tree = directory / "tree"
    image._run(["dpkg-deb", "--raw-extract", str(made), str(tree)])
    control = tree / "DEBIAN" / "control"
    control.write_text(VERSION.sub(r"Version: \1+newer", control.read_text("utf-8")), "utf-8")
    (versions,) = tree.glob(
        "usr/lib/gatewayd/lib/*/site-packages/gatewayd/adapters/sqlite/versions"
    )
    known = len(list(versions.glob("*.sql")))
    (versions / f"{known + 1}.sql").write_text(LATER, "utf-8")
    preinst = tree / "DEBIAN" / "preinst"
    text = preinst.read_text("utf-8")
    preinst.write_text(text.replace(f'-gt "{known}"', f'-gt "{known + 1}"'), "utf-8")
    (directory / "newer").mkdir()
    pack = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree)]
    image._run([*pack, str(directory / "newer" / made.name)])
    shutil.rmtree(tree)
