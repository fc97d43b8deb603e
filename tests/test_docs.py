"""The documentation says what is: commands, settings, links and the tests it points to."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest

from gatewayd.cli import load
from gatewayd.cli.command import build_parser
from gatewayd.config import model
from gatewayd.config.decode import decode
from tests.support import reference

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "firmware_proto/*.md")
    for page in ROOT.glob(pattern)
)

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
BEHIND = {"|", "<", ">", "&&", ";"}
NAMED_FILE = re.compile(
    r"`(?P<file>(?:tests|docs|gatewayd|firmware_proto)/[\w./-]+\.\w+)(?:::(?P<test>\w+))?`"
)
ATTACKERS = (  # whom the design names, and who came to it since
    *("Sniffer", "Malicious broker", "Stolen phone", "Relay", "Stolen SD card"),
    *("Malicious courier", "Malicious issuer", "Compromised gateway", "Installer", "Insider"),
    *("Thief of an operator's key", "Supplier", "Whoever has the old gateway", "Holder against"),
)
ATTACKS = (
    *("suppressed and reordered orders", "replayed time", "spoofed NTP, forwards"),
    *("spoofed NTP, backwards", "rolled-back bundle", "stolen issuer key", "hostile courier"),
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_commands_are_documented() -> None:
    assert (ROOT / "docs/commands.md").read_text("utf-8") == reference.commands(), "make docs"


def test_settings_are_documented() -> None:
    written = (ROOT / "docs/configuration.md").read_text("utf-8")
    assert written == reference.configuration(), "make docs"


def test_the_status_is_documented() -> None:
    assert (ROOT / "docs/status.md").read_text("utf-8") == reference.status(), "make docs"


def test_the_documented_configuration_is_one() -> None:
    config, report = decode(reference.EXAMPLE, model.Config, ROOT)
    assert report.problems == []
    assert config is not None
    assert [each.id for each in config.doors] == ["street", "cellar", "gate", "yard"]


def commands_of(page: Path) -> list[list[str]]:
    """What is to be typed, of the blocks that are for a shell."""
    found = []
    for block in SHELL.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            words = words[1:] if words[:1] == ["sudo"] else words
            if words[:1] == ["gatewayd"]:
                found.append(list(takewhile(lambda word: word not in BEHIND, words[1:])))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_can_be_typed_as_they_stand(page: Path) -> None:
    for command, *words in commands_of(page):
        build_parser(load(command)).parse_args(words)


def test_commands_are_found() -> None:
    assert len(commands_of(ROOT / "docs/operator.md")) > 30
    assert ["setup", "enrol", "-"] in commands_of(ROOT / "docs/replace.md")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [each for each in LINK.findall(page.read_text("utf-8")) if "://" not in each]
    assert [each for each in targets if not (page.parent / each).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page: Path) -> None:
    named = {(each["file"], each["test"]) for each in NAMED_FILE.finditer(page.read_text("utf-8"))}
    assert [file for file, _ in named if not (ROOT / file).exists()] == []
    missing = [
        f"{file}::{test}"
        for file, test in named
        if test
        and not re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_decision_is_in_the_list_and_has_its_parts() -> None:
    directory = ROOT / "docs/decisions"
    index = (directory / "README.md").read_text("utf-8")
    records = sorted(directory.glob("[0-9]*.md"))
    assert [int(each.name[:4]) for each in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text("utf-8")
        assert f"]({record.name})" in index
        assert text.startswith(f"# {int(record.name[:4])}. ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ]


def test_every_attacker_has_four_answers() -> None:
    text = (ROOT / "docs/threat-model.md").read_text("utf-8")
    attackers = text.partition("## Attackers")[2].partition("### The plug")[0].split("\n### ")[1:]
    for known in ATTACKERS:
        assert any(each.startswith(known) for each in attackers), known
    for attacker in attackers:
        for question in ("gets", "does not get", "what ends it", "shown by"):
            assert f"| {question} |" in attacker, attacker.partition("\n")[0]
        assert NAMED_FILE.search(attacker), attacker.partition("\n")[0]


def test_every_attack_of_the_design_has_tests_by_name() -> None:
    text = (ROOT / "docs/threat-model.md").read_text("utf-8")
    table = text.partition("## Attacks by name")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|]+?) \| (.+) \|$", table, re.MULTILINE))
    for attack in ATTACKS:
        assert any(each["test"] for each in NAMED_FILE.finditer(rows.get(attack, ""))), attack


def test_changelog_has_a_place_for_what_is_new() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in text
    assert "keepachangelog.com" in text
