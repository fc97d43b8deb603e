"""What the package's recipe says, where the program says it, too."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from gatewayd import __version__
from gatewayd.adapters.sqlite.schema import LOG
from gatewayd.cli import TABLE

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "systemd" / "debian"


def ran(program: str, *words: object) -> str:
    return subprocess.run(
        [sys.executable, RECIPE / program, *map(str, words)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def test_its_version_is_the_programs() -> None:
    newest = (RECIPE / "changelog").read_text("utf-8").splitlines()[0]
    assert re.fullmatch(rf"gatewayd \({re.escape(__version__)}-\d+\) \w+; urgency=\w+", newest)


def test_it_asks_for_the_python_that_the_program_wants() -> None:
    wanted = re.search(r'requires-python = ">=(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert wanted is not None
    assert sys.version_info >= tuple(map(int, wanted[1].split(".")))


# --- the way back ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schema", "verdict"), [(LOG.version, 0), (LOG.version - 1, 0), (LOG.version + 1, 1), (300, 1)]
)
def test_a_log_of_a_later_schema_keeps_an_older_program_away(
    tmp_path: Path, schema: int, verdict: int
) -> None:
    log = tmp_path / "log.db"
    header = bytearray(b"SQLite format 3\0" + bytes(84))
    header[60:64] = schema.to_bytes(4, "big")
    log.write_bytes(header)
    # over the newer one, where it was removed and its log stayed, and where only a log is
    for words in (("upgrade", "0.2"), ("install", "0.2"), ("install",)):
        said = preinst(tmp_path, *words)
        assert said.returncode == verdict, said.stderr
        assert bool(verdict) == (f"error: {log} is of schema {schema};" in said.stderr)
    assert preinst(tmp_path, "abort-upgrade", "0.2").returncode == 0


@pytest.mark.parametrize("content", [None, b"", b"SQLite format 3\0", bytes(62)])
def test_a_log_that_is_none_keeps_no_program_away(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "log.db").write_bytes(content)
    assert preinst(tmp_path, "upgrade", "0.2").returncode == 0


def preinst(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As dpkg runs it, about another directory."""
    script = (RECIPE / "gatewayd.preinst").read_text("utf-8")
    assert script.count("/var/lib/gatewayd") == 1
    script = script.replace("/var/lib/gatewayd", str(state)).replace("#SCHEMA#", str(LOG.version))
    return subprocess.run(
        ["/bin/sh", "-s", "--", *words], input=script,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


# --- bluetoothd's settings ---------------------------------------------------------------------
OURS = "/usr/libexec/bluetooth/bluetoothd\0-f\0/etc/gatewayd/bluetooth.conf\0"
THEIRS = "/usr/libexec/bluetooth/bluetoothd\0"


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg compares versions")
@pytest.mark.parametrize(
    ("before", "runs", "restarted"),
    [
        ("", THEIRS, True),  # the first time
        ("", None, True),
        ("0.1.0-1", OURS, False),  # an upgrade leaves links to phones and locks alone
        ("0.1.0-1", THEIRS, True),  # it was removed, and is back
        ("0.1.0-1", None, False),  # whoever stopped it had a reason; it finds ours when it starts
    ],
)
def test_bluetoothd_is_started_again_when_it_runs_without_our_settings(
    tmp_path: Path, before: str, runs: str | None, restarted: bool
) -> None:
    bin_, proc, run = (tmp_path / name for name in ("bin", "proc", "run"))
    for each in (bin_, proc, proc / "4711", run):
        each.mkdir()
    if runs is not None:
        (proc / "4711" / "cmdline").write_text(runs)
    for name in ("systemd-sysusers", "py3compile", "udevadm", "dbus-send", "deb-systemd-invoke"):
        said = f'echo {name} "$@" >> {tmp_path}/said\n'
        (bin_ / name).write_text(f"#!/bin/sh\n{said}")
    (bin_ / "systemctl").write_text(f"#!/bin/sh\necho {0 if runs is None else 4711}\n")
    for each in bin_.iterdir():
        each.chmod(0o755)
    script = (RECIPE / "gatewayd.postinst").read_text("utf-8")
    for theirs, here in (
        ("/etc/dbus-1/system-local.conf", tmp_path / "local.conf"),
        ("/usr/share/gatewayd/system-local.conf", ROOT / "systemd/system-local.dbus.conf"),
        ("/run/systemd/system", run),
        ("/proc/", f"{proc}/"),
    ):
        assert theirs in script
        script = script.replace(theirs, str(here))
    done = subprocess.run(
        ["/bin/sh", "-s", "--", "configure", before], input=script,
        env={"PATH": f"{bin_}:{os.defpath}"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    said = (tmp_path / "said").read_text()
    assert ("deb-systemd-invoke restart bluetooth.service" in said) is restarted


# --- what it says of itself -------------------------------------------------------------------
def test_every_command_has_a_page(tmp_path: Path) -> None:
    ran("manual.py", tmp_path)
    pages = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert set(pages) == {
        "gatewayd.1", "gatewayd-radio-helper.8", *(f"gatewayd-{name}.1" for name in TABLE)
    }  # fmt: skip
    assert "gatewayd keys issue" in pages["gatewayd-keys.1"]
    assert r"\-\-holder HOLDER" in pages["gatewayd-keys.1"]
    for text in pages.values():
        requests = [line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))]
        assert set(requests) <= {".TH", ".SH", ".nf", ".fi"}


def test_the_bill_of_materials_is_what_is_there(tmp_path: Path) -> None:
    """Of an environment with one library and ourselves, as far as the recipe looks at them."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    for name in ("cryptography", "gatewayd"):
        version = distribution(name).version
        (wheels / f"{name}-{version}-py3-none-any.whl").write_bytes(name.encode())
        (site / f"{name}-{version}.dist-info").mkdir(parents=True)
        (site / f"{name}-{version}.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n"
        )
    inside = site / f"cryptography-{distribution('cryptography').version}.dist-info" / "sboms"
    inside.mkdir()
    (inside / "a.json").write_text('{"components": [{"type": "library", "name": "openssl"}]}')
    script = f"import sys, runpy; sys.path[:] = [{str(site)!r}, *sys.path[1:]]; "
    script += "sys.path = [each for each in sys.path if 'site-packages' not in each]; "
    script += f"sys.argv = ['sbom', {str(wheels)!r}]; "
    script += f"runpy.run_path({str(RECIPE / 'sbom.py')!r}, run_name='__main__')"
    said = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["name"] == "gatewayd"
    (library,) = found["components"]
    assert library["purl"] == f"pkg:pypi/cryptography@{distribution('cryptography').version}"
    assert library["licenses"] == [{"expression": "MIT"}]
    assert [each["name"] for each in library["components"]] == ["openssl"]
    assert len(library["hashes"][0]["content"]) == 64
