"""What the virtual machine boots: Debian's kernel source, compiled as a user-mode Linux.

User-mode Linux is the kernel as an ordinary process: at the speed of the host,
without KVM, and in a few megabytes. Debian's ready-made one has no Bluetooth,
so it is made from Debian's source with `kernel.config` and patches, once per version
of the source and of those files, under build/system. Standard library only: this runs
before anything else.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = CHECKOUT / "build" / "system"
INIT: Final = Path(__file__).with_name("init.sh")
CONFIG: Final = Path(__file__).with_name("kernel.config")
PATCHES: Final = sorted(Path(__file__).parent.glob("kernel-*.patch"))
"""What the machine cannot live with; each says why."""

PACKAGES: Final = {
    "/usr/libexec/bluetooth/bluetoothd": "bluez",
    "/usr/bin/bluetoothctl": "bluez",
    "/usr/bin/dbus-daemon": "dbus",
    "/bin/busybox": "busybox-static",
    "/lib/systemd/systemd": "systemd",
    "/usr/lib/python3/dist-packages/dbus/__init__.py": "python3-dbus",
    "/usr/lib/python3/dist-packages/gi/__init__.py": "python3-gi",
}
"""What runs in the guest, which sees the host's programs."""
BUILD_PACKAGES: Final = {
    "/usr/bin/gcc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/bin/make": "make",
    "/usr/bin/patch": "patch",
    "/usr/bin/flex": "flex",
    "/usr/bin/bison": "bison",
    "/usr/bin/bc": "bc",
    "/usr/bin/xz": "xz-utils",
}
SOURCE: Final = "linux-source"
"""Debian's meta package for the source of its kernel."""
UNNEEDED: Final = (
    *("Documentation/*/*/*", "tools/testing/*", "tools/perf/*", "sound/*.[ch]"),
    *("arch/[a-t]*/*.[chS]", "arch/[a-t]*/*.dts*"),
    *("drivers/gpu/*.[ch]", "drivers/infiniband/*.[ch]", "drivers/media/*.[ch]"),
    *("drivers/net/[a-z]*/*.[ch]", "drivers/scsi/*.[ch]", "drivers/staging/*.[ch]"),
)
"""Half of the source's files: unpacking takes longer than compiling what is left of them."""


class PreparationError(Exception):
    """The machine cannot be made here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Image:
    """version: of the source's package. kernel: an executable of the host."""

    version: str
    kernel: Path


def prepare() -> Image:
    """Install, download and compile what is missing. PreparationError when that fails."""
    _check_host()
    install(PACKAGES)
    CACHE.mkdir(parents=True, exist_ok=True)
    package, version = _source()
    made_of = b"".join(path.read_bytes() for path in (CONFIG, *PATCHES))
    root = CACHE / f"linux-{version}-{hashlib.sha256(made_of).hexdigest()[:12]}"
    kernel = root / "linux"
    if not kernel.exists():
        install(BUILD_PACKAGES)
        _make(package, version, root)
    return Image(version, kernel)


def _check_host() -> None:
    """PreparationError where the machine certainly cannot be."""
    if platform.machine() != "x86_64":
        raise PreparationError(
            f"only x86_64 machines have been tried, this is {platform.machine()}"
        )
    system = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    if (system.get("ID"), system.get("VERSION_ID")) != ("debian", "12"):
        name = system.get("PRETTY_NAME", platform.system())
        raise PreparationError(
            f"Debian 12 is needed, whose programs are tested; this is {name}\n"
            "hint: a container of Debian 12 will do"
        )
    if os.geteuid() != 0:
        raise PreparationError("the machine needs root: it reads the whole disk\nhint: sudo")
    tracing = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)"
    if subprocess.run([sys.executable, "-c", tracing], check=False).returncode:
        raise PreparationError(
            "ptrace is forbidden here, which user-mode Linux is made of\n"
            "hint: docker run --cap-add=SYS_PTRACE; see also /proc/sys/kernel/yama/ptrace_scope"
        )


def compile_python(python: str) -> None:
    """Byte code of everything the guest may import, which cannot keep it."""
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    libraries = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    ours = [str(CHECKOUT / name) for name in ("gatewayd", "firmware_proto", "tests")]
    # a file that does not compile is for whoever imports it to complain about
    subprocess.run(
        [python, "-m", "compileall", "-q", "-q", "-j2", libraries, *ours],
        stdout=subprocess.DEVNULL,
        check=False,
    )


def install(packages: dict[str, str]) -> None:
    """apt-get install what is missing; needs root for that, and only then."""
    missing = sorted({name for path, name in packages.items() if not Path(path).exists()})
    if not missing:
        return
    if os.geteuid() != 0:
        names = " ".join(missing)
        raise PreparationError(f"missing: {names}\nhint: run as root, or: apt-get install {names}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], env=environment)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=environment)


def _source() -> tuple[str, str]:
    """Name and version of the package that Debian's meta package stands for now."""
    depends = _ask("apt-cache", "depends", SOURCE)
    name = re.search(r"Depends: (linux-source-\S+)", depends)
    version = name and re.search(r"Candidate: (\S+)", _ask("apt-cache", "policy", name.group(1)))
    if name is None or version is None:
        raise PreparationError(f"apt knows no {SOURCE}\nhint: apt-get update, on Debian 12")
    return name.group(1), version.group(1)


def _ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _make(package: str, version: str, root: Path) -> None:
    """Download, unpack, compile; only the kernel stays. Takes some minutes, and says so."""
    print(f"compiling the kernel of {package} {version}: once, some minutes", flush=True)
    for old in CACHE.glob("linux-*"):
        shutil.rmtree(old, ignore_errors=True)
    stage = CACHE / f"linux-stage.{os.getpid()}"
    stage.mkdir()
    try:
        # as root apt would warn that its own user cannot write here
        fetch = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root"]
        _run([*fetch, f"{package}={version}"], cwd=stage)
        (archive,) = stage.glob("*.deb")
        _run(["dpkg-deb", "--extract", str(archive), str(stage)])
        (packed,) = (stage / "usr" / "src").glob("*.tar.xz")
        without = [f"--exclude=*/{pattern}" for pattern in UNNEEDED]
        _run(["tar", "--extract", "--file", str(packed), *without], cwd=stage)
        (tree,) = (path.parent for path in stage.glob("*/Kbuild"))
        _patch(tree)
        made = _compile(tree)
        (stage / "done").mkdir()
        _run(["strip", "--output-file", str(stage / "done" / "linux"), str(made)])
        (stage / "done").replace(root)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _patch(tree: Path) -> None:
    """Debian may have mended it meanwhile: then it does not fit, and that is said."""
    for path in PATCHES:
        fits = ["patch", "-p1", "--forward", "--silent", "--input", str(path)]
        try:
            _run([*fits, "--dry-run"], cwd=tree)
        except PreparationError:
            print(f"{path.name} does not fit this kernel: left out", flush=True)
        else:
            _run(fits, cwd=tree)


def _compile(tree: Path) -> Path:
    make = ["make", "ARCH=um", f"-j{(os.cpu_count() or 1) + 1}"]
    _run([*make, "tinyconfig"], cwd=tree)
    with (tree / ".config").open("a") as config:
        config.write(CONFIG.read_text())
    _run([*make, "olddefconfig"], cwd=tree)
    _check_config((tree / ".config").read_text().splitlines())
    _run([*make, "linux"], cwd=tree)
    return tree / "linux"


def _check_config(made: Sequence[str]) -> None:
    """Whatever was asked for is in; a newer kernel may have renamed it."""
    asked = [line for line in CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]
    if missing := sorted(set(asked) - set(made)):
        raise PreparationError(f"this kernel has no {', '.join(missing)}; see {CONFIG}")


def _run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        said = "\n".join(done.stderr.splitlines()[-10:])
        raise PreparationError(
            f"{' '.join(command)} failed with exit code {done.returncode}\n{said}"
        )
