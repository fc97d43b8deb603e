"""What the page for installers names is there: settings, drop-ins, words of the journal."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from gatewayd.adapters.relay import keeper
from gatewayd.adapters.serial_line.port import Heard
from gatewayd.config.model import Config, Door

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/hardware.md").read_text()
SETTINGS = (ROOT / "docs/configuration.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_examples_are_configurations(block: str) -> None:
    for door in tomllib.loads(block)["door"]:
        made = msgspec.convert(door, Door, strict=True, dec_hook=lambda kind, text: kind(text))
        assert made.id == door["id"]


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([a-z]+\.[a-z_]+)(?: = [a-z]+)?`", PAGE)))
)
def test_settings_with_their_section_exist(name: str) -> None:
    section, setting = name.split(".")
    if setting in {"txt", "conf", "md"}:
        assert name in {"config.txt", "main.conf"} or list(ROOT.glob(f"systemd/**/{name}"))
        return
    assert setting in {each.name for each in msgspec.structs.fields(_section(section))}


def _section(name: str) -> type:
    (found,) = [each.type for each in msgspec.structs.fields(Config) if each.name == name]
    return found


@pytest.mark.parametrize(
    "setting", ["half_duplex", "baud", "serial", "latch_ms", "pulse_ms", "active_low", "contact"]
)
def test_settings_of_doors_exist(setting: str) -> None:
    assert f"`{setting}" in PAGE or f"{setting} =" in PAGE
    assert f"`{setting}`" in SETTINGS or f"door.relay.{setting}" in SETTINGS


@pytest.mark.parametrize("heard", [Heard(), Heard(9), Heard(9, 1), Heard(9, 0, 1)])
def test_words_of_the_journal_are_explained(heard: Heard) -> None:
    said = re.findall(r"^\| `(.*?)` \|", PAGE, re.MULTILINE)
    text, _ = heard.trouble("/dev/x")
    assert [each for each in said if all(part in text for part in each.split("…"))]


def test_the_limits_on_the_page_are_the_programs() -> None:
    assert f"longer than {keeper.LONGEST_PULSE_MS // 1000} s" in PAGE
    assert f"every {keeper.LOOK_S:.0f} s" in PAGE
