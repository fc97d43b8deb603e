"""An operator's directory as the commands make it, and invitations out of it."""

from __future__ import annotations

from pathlib import Path

from tests.support import commands

BUNDLE = """\
group = "vestergade-7"
serial = 1

[[issuer]]
name = "housing"
key = "housing.pub.pem"
classes = ["resident"]
max_lifetime_days = 400
"""


def operator_in(directory: Path) -> Path:
    directory.mkdir()
    (directory / "trust.toml").write_text(BUNDLE)
    for words in (
        ("make", "operator", "--into", directory),
        ("make", "operator-ca", "--into", directory),
        ("make", "issuer", "--into", directory, "--name", "housing"),
        ("bundle", directory / "trust.toml", "--root", directory / "root.pem",
         "--out", directory / "trust.cose"),
    ):  # fmt: skip
        assert commands.run("keys", *words).code == 0
    return directory


def invite(operator: Path, *more: str | Path) -> str:
    """The claim of a new invitation of stairwell-7."""
    found = commands.run(
        "cloud", "invite", "stairwell-7", "--door", "street", "--keys", operator,
        "--store", operator / "invitations.sqlite", *more, "--json",
    )  # fmt: skip
    assert found.code == 0, found.err
    claim: str = found.json["claim"]
    return claim
