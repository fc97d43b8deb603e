"""What the virtual machine boots: Debian's own kernel, unpacked, and a small initramfs.

Nothing is installed on the host but the programs of `PACKAGES`; the kernel
package is downloaded and unpacked under build/system of the checkout and found
there again by its version. Standard library only: it runs before anything else.
"""

from __future__ import annotations

import gzip
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = CHECKOUT / "build" / "system"
INIT: Final = Path(__file__).with_name("init.sh")

PACKAGES: Final = {
    "/usr/bin/qemu-system-x86_64": "qemu-system-x86",
    "/usr/libexec/bluetooth/bluetoothd": "bluez",
    "/usr/bin/bluetoothctl": "bluez",
    "/usr/bin/dbus-daemon": "dbus",
    "/bin/busybox": "busybox-static",
    "/usr/bin/cpio": "cpio",
    "/sbin/depmod": "kmod",
    "/lib/systemd/systemd": "systemd",
}
KERNEL: Final = "linux-image-amd64"

MODULES: Final = (
    # the root file system
    *("virtio_pci", "9pnet_virtio", "9p", "overlay"),
    # bluetooth checks its own ECDH when it is loaded, and for that draws randomness
    *(
        "virtio-rng",
        "sha512_generic",
        "sha3_generic",
        "aes_generic",
        "ctr",
        "jitterentropy_rng",
        "drbg",
        "ecdh_generic",
    ),
    # SMP and the random addresses of LE
    *("cmac", "ecb"),
    *("bluetooth", "hci_vhci", "uhid"),
)
"""Loaded by init in this order, each after what it depends on."""


class PreparationError(Exception):
    """The machine cannot be made here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Image:
    """version: of the kernel. modules: the tree that is /lib/modules/<version> in the guest."""

    version: str
    kernel: Path
    initramfs: Path
    modules: Path


def prepare() -> Image:
    """Install and unpack what is missing. PreparationError when that fails."""
    if platform.machine() != "x86_64":
        raise PreparationError(
            f"only x86_64 machines have been tried, this is {platform.machine()}"
        )
    install_packages()
    CACHE.mkdir(parents=True, exist_ok=True)
    package = _kernel_package()
    root = CACHE / package
    if not (root / ".unpacked").exists():
        _unpack(package, root)
    (modules,) = (root / "lib" / "modules").iterdir()
    version = modules.name
    initramfs = root / "initramfs.gz"
    order = module_files(modules, MODULES)
    _pack_initramfs(initramfs, modules, order)
    return Image(version, root / "boot" / f"vmlinuz-{version}", initramfs, modules)


def install_packages() -> None:
    """apt-get install what is missing; needs root for that, and only then."""
    missing = sorted({name for path, name in PACKAGES.items() if not Path(path).exists()})
    if not missing:
        return
    if os.geteuid() != 0:
        names = " ".join(missing)
        raise PreparationError(f"missing: {names}\nhint: run as root, or: apt-get install {names}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], env=environment)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], env=environment)


def compile_python(python: str) -> None:
    """Byte code of everything the guest may import, so that it does not compile in software."""
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    libraries = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    ours = [str(CHECKOUT / name) for name in ("gatewayd", "firmware_proto", "tests")]
    # a file that does not compile is for whoever imports it to complain about
    subprocess.run(
        [python, "-m", "compileall", "-q", "-q", "-j2", libraries, *ours],
        stdout=subprocess.DEVNULL,
        check=False,
    )


def _kernel_package() -> str:
    """The kernel that Debian's meta package stands for now; else the newest one in the cache."""
    answer = subprocess.run(
        ["apt-cache", "depends", KERNEL], capture_output=True, text=True, check=False
    )
    if found := re.search(r"Depends: (linux-image-\S+)", answer.stdout):
        return found.group(1)
    cached = sorted(CACHE.glob("linux-image-*/.unpacked"))
    if not cached:
        raise PreparationError(f"apt knows no {KERNEL}\nhint: apt-get update, on Debian 12")
    return cached[-1].parent.name


def _unpack(package: str, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    # as root apt would warn that its own user cannot write here
    _run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], cwd=root)
    (archive,) = root.glob("*.deb")
    _run(["dpkg-deb", "--extract", str(archive), str(root)])
    archive.unlink()
    (modules,) = (root / "lib" / "modules").iterdir()
    _run(["/sbin/depmod", "--basedir", str(root), modules.name])
    (root / ".unpacked").touch()


def module_files(tree: Path, wanted: tuple[str, ...]) -> list[Path]:
    """Paths below `tree`, dependencies first; modules that are built in are left out.

    PreparationError when the kernel has no such module.
    """
    needs: dict[str, list[str]] = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {_module_name(path): path for path in needs}
    built_in = {_module_name(line) for line in (tree / "modules.builtin").read_text().split()}
    order: dict[str, None] = {}
    for name in map(_module_name, wanted):
        if name in by_name:
            # modules.dep lists the nearest dependency first
            order |= dict.fromkeys([*reversed(needs[by_name[name]]), by_name[name]])
        elif name not in built_in:
            raise PreparationError(f"this kernel has no module {name}")
    return [Path(path) for path in order]


def _module_name(path: str) -> str:
    return Path(path).name.removesuffix(".ko").replace("-", "_")


def _pack_initramfs(target: Path, tree: Path, order: list[Path]) -> None:
    """busybox, the modules, and init. Made anew every time: it takes a tenth of a second."""
    stage = target.with_suffix(f".{os.getpid()}")
    (stage / "bin").mkdir(parents=True)
    (stage / "modules").mkdir()
    shutil.copy("/bin/busybox", stage / "bin" / "busybox")
    for number, module in enumerate(order):
        shutil.copy(tree / module, stage / "modules" / f"{number:02}-{module.name}")
    shutil.copy(INIT, stage / "init")
    (stage / "init").chmod(0o755)
    try:
        names = "\n".join(str(path.relative_to(stage)) for path in sorted(stage.rglob("*")))
        packed = subprocess.run(
            ["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"],
            cwd=stage,
            input=names.encode(),
            capture_output=True,
            check=True,
        )
        finished = target.with_suffix(f".{os.getpid()}.gz")
        finished.write_bytes(gzip.compress(packed.stdout, 1))
        finished.replace(target)
    finally:
        shutil.rmtree(stage)


def _run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise PreparationError(f"{' '.join(command)} failed with exit code {done.returncode}")
