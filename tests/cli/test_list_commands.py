"""How an issuer takes keys back, with commands alone, up to the gateway that refuses them."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_proto.cose import key_id
from gatewayd import keyfiles
from gatewayd.cli.command import ExitCode
from gatewayd.cloud import listfile
from gatewayd.cloud.authority import Authority, IssuerKey, new_key
from gatewayd.cloud.listfile import ListFile
from gatewayd.core import keytoken, statuslist
from gatewayd.core.trust import Trust, sign_bundle
from tests.support.commands import PROGRAM, Ran, run

URI = "https://housing.example/keys"


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    """An operator with one issuer, on disk as the commands leave it."""
    issuer = IssuerKey.create("housing")
    authority = Authority.create("vestergade-7", issuer)
    keyfiles.create_files(
        {
            tmp_path / "housing.pem": keyfiles.private_pem(issuer.key),
            tmp_path / "root.pub.pem": keyfiles.public_pem(authority.root.public_key()),
            tmp_path / "phone.pub.pem": keyfiles.public_pem(new_key().public_key()),
            tmp_path / "trust.cose": sign_bundle(authority.trust(), authority.root),
        }
    )
    return authority.trust()


@pytest.fixture
def kept(tmp_path: Path, trust: Trust) -> Path:
    done(run("keys", "new-list", tmp_path / "kept", "--issuer", "housing", "--uri", URI))
    return tmp_path / "kept"


def done(ran: Ran) -> Ran:
    assert ran.code == ExitCode.DONE, ran.err
    return ran


def issue(directory: Path, out: str, holder: str = "r-1", *more: str, issuer="housing") -> Ran:
    return run(
        "keys", "issue", "--issuer", issuer, "--signer", directory / "housing.pem",
        "--group", "vestergade-7", "--door", "street", "--holder", holder,
        "--list", directory / "kept", "--for", directory / "phone.pub.pem",
        "--out", directory / out, *more,
    )  # fmt: skip


def sign(directory: Path, out: str = "list.cwt", *more: str) -> Ran:
    return run(
        "keys", "sign-list", directory / "kept", "--signer", directory / "housing.pem",
        "--out", directory / out, *more,
    )  # fmt: skip


def index_of(directory: Path, out: str) -> int:
    status = keytoken.unverified((directory / out).read_bytes()).parsed.status
    assert status is not None
    assert status.uri == URI
    return status.index


def held(directory: Path, trust: Trust, out: str = "list.cwt") -> statuslist.StatusList:
    return statuslist.verify((directory / out).read_bytes(), trust)


# --- the way it goes ------------------------------------------------------------------------
def test_a_key_is_issued_taken_back_and_refused_by_what_gateways_get(
    tmp_path: Path, kept: Path, trust: Trust
) -> None:
    for number in (1, 2, 3):
        done(issue(tmp_path, f"{number}.cwt", f"r-{number}"))
    first, second, third = (index_of(tmp_path, f"{number}.cwt") for number in (1, 2, 3))
    assert len({first, second, third}) == 3
    done(sign(tmp_path))
    before = held(tmp_path, trust)
    assert before.against == 0
    assert len(before.statuses) == 1250

    assert f"taken back: {second}, r-2" in done(run("keys", "revoke", kept, "--holder", "r-2")).out
    assert "NOT SIGNED SINCE THEN" in done(run("keys", "list", kept)).out
    ran = done(sign(tmp_path, "list.cwt", "--json"))
    after = held(tmp_path, trust)
    assert ran.json["revoked"] == after.against == 1
    assert [after.vouches_for(each) for each in (first, second, third)] == [True, False, True]
    assert after.issued_at > before.issued_at  # also within one second
    assert after.expires == after.issued_at + 60 * 86400
    assert "NOT SIGNED" not in done(run("keys", "list", kept)).out

    again = run("keys", "revoke", kept, "--index", str(second), "--index", str(third), "--json")
    assert [each["index"] for each in done(again).json["revoked"]] == [third]
    assert "taken back before" in done(run("keys", "revoke", kept, "--holder", "r-3")).out


def test_a_listed_key_lives_a_year_and_an_unlisted_one_two_days(tmp_path: Path, kept: Path) -> None:
    done(issue(tmp_path, "t.cwt"))
    claims = keytoken.unverified((tmp_path / "t.cwt").read_bytes()).claims
    assert claims.expires - claims.not_before == 365 * 86400
    shown = done(run("keys", "list", kept, "--json")).json
    assert [(each["holder"], each["expires"]) for each in shown["places"]] == [
        ("r-1", claims.expires)
    ]


def test_a_wallet_has_a_place_too(tmp_path: Path, kept: Path, trust: Trust) -> None:
    gateways = tmp_path / "gateways.pub.pem"
    keyfiles.create_files({gateways: keyfiles.public_pem(trust.gateways_key)})
    done(
        run(
            "keys", "issue", "--issuer", "housing", "--signer", tmp_path / "housing.pem",
            "--group", "vestergade-7", "--door", "street", "--holder", "r-1",
            "--list", kept, "--wallet", tmp_path / "w", "--gateways", gateways,
        )
    )  # fmt: skip
    assert listfile.read(kept).places[0].index == index_of(tmp_path, "w/token.cwt")


def test_a_signed_list_can_be_looked_at(tmp_path: Path, kept: Path) -> None:
    done(issue(tmp_path, "t.cwt"))
    done(run("keys", "revoke", kept, "--holder", "r-1"))
    done(sign(tmp_path))
    plain = done(run("keys", "inspect", tmp_path / "list.cwt")).out
    assert "NOT CHECKED" in plain
    assert URI in plain
    believed = ("--root", tmp_path / "root.pub.pem", "--bundle", tmp_path / "trust.cose")
    shown = done(run("keys", "inspect", tmp_path / "list.cwt", *believed, "--json")).json
    assert shown["signature"] == "good, by issuer housing"
    assert (shown["entries"], shown["taken back"]) == (10_000, 1)
    stranger = new_key()
    said = held(tmp_path, _any_trust(tmp_path))
    forged = statuslist.StatusList(
        "", URI, said.issued_at, said.expires, 1, b"\0", key_id(stranger.public_key())
    )
    (tmp_path / "forged.cwt").write_bytes(statuslist.sign(forged, stranger))
    ran = run("keys", "inspect", tmp_path / "forged.cwt", *believed)
    assert ran.code == ExitCode.FAILED
    assert "NOT GOOD" in ran.out


def _any_trust(directory: Path) -> Trust:
    signer = keyfiles.read_p256_private(directory / "housing.pem", "key")
    issuer = IssuerKey(IssuerKey.create("housing").limits, signer)
    limits = issuer.limits
    named = type(limits)(
        limits.name, signer.public_key(), None, limits.actions, limits.classes, 86400
    )
    return Authority.create("g", IssuerKey(named, signer)).trust()


# --- what goes wrong ------------------------------------------------------------------------
def test_a_key_that_is_not_made_takes_no_place(tmp_path: Path, kept: Path) -> None:
    assert issue(tmp_path, "t.cwt", "r-1", issuer="parcels").code == ExitCode.USAGE
    assert issue(tmp_path, "t.cwt", "x" * 65).code == ExitCode.USAGE
    assert issue(tmp_path, "t.cwt", "r-1", "--status", f"{URI}#3").code == ExitCode.USAGE
    assert listfile.read(kept).places == []
    done(issue(tmp_path, "t.cwt"))
    assert issue(tmp_path, "t.cwt").code == ExitCode.USAGE  # the file exists; its place is spent
    assert len(listfile.read(kept).places) == 2


def test_nobody_is_revoked_by_a_slip_of_the_pen(tmp_path: Path, kept: Path) -> None:
    done(issue(tmp_path, "t.cwt"))
    before = kept.read_bytes()
    ran = run("keys", "revoke", kept, "--holder", "r-1", "--holder", "r-l", "--index", "99999")
    assert ran.code == ExitCode.FAILED
    assert "r-l, 99999" in ran.err
    assert run("keys", "revoke", kept).code == ExitCode.USAGE
    assert run("keys", "revoke", kept, "--index", "-1").code == ExitCode.USAGE
    assert kept.read_bytes() == before


def test_a_full_list_says_so(tmp_path: Path, trust: Trust) -> None:
    done(
        run(
            "keys", "new-list", tmp_path / "kept", "--issuer", "housing", "--uri", URI,
            "--size", "3",
        )
    )  # fmt: skip
    indexes = set()
    for number in range(8):
        done(issue(tmp_path, f"{number}.cwt"))
        indexes.add(index_of(tmp_path, f"{number}.cwt"))
    assert indexes == set(range(8))
    ran = issue(tmp_path, "more.cwt")
    assert ran.code == ExitCode.USAGE
    assert "all 8 places" in ran.err
    assert not (tmp_path / "more.cwt").exists()


def test_only_an_older_copy_is_replaced(tmp_path: Path, kept: Path) -> None:
    done(sign(tmp_path))
    done(sign(tmp_path))
    signed = listfile.read(kept).signed
    for other in ("phone.pub.pem", "trust.cose"):
        before = (tmp_path / other).read_bytes()
        assert sign(tmp_path, other).code == ExitCode.USAGE
        assert (tmp_path / other).read_bytes() == before
    assert listfile.read(kept).signed == signed
    ran = sign(tmp_path, "missing/list.cwt")
    assert ran.code == ExitCode.FAILED
    assert "cannot write" in ran.err


def test_a_list_of_the_future_is_not_outbid(tmp_path: Path, kept: Path) -> None:
    with listfile.editing(kept) as state:
        state.signed = 4_000_000_000
    ran = sign(tmp_path)
    assert ran.code == ExitCode.USAGE
    assert "clock" in ran.err
    assert not (tmp_path / "list.cwt").exists()


def test_a_list_that_no_gateway_could_hold_is_not_signed(tmp_path: Path) -> None:
    dice = random.Random(1)
    state = ListFile(1, "housing", URI, listfile.MAX_PLACES)
    state.places = [
        listfile.Place(index, "h", 1, 1)
        for index in range(0, listfile.MAX_PLACES, 2)
        if dice.random() < 0.5
    ]
    with pytest.raises(keyfiles.KeyFileError, match="no gateway could hold"):
        state.sign(new_key(), 1_800_000_000, 86400)


def damaged(change: Callable[[dict[str, object]], object]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        state = json.loads(data)
        change(state)
        return json.dumps(state).encode()

    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda data: data[:-20],
        lambda data: data + b"x",
        lambda _: b"\xff\xfe",
        damaged(lambda state: state.update(version=2)),
        damaged(lambda state: state.update(size=12)),
        damaged(lambda state: state.update(more=1)),
        damaged(lambda state: state.pop("uri")),
        damaged(lambda state: state["places"].append(state["places"][0])),
        damaged(lambda state: state["places"][0].update(index=10_000)),
    ],
)
def test_a_damaged_list_is_left_as_it_is(tmp_path: Path, kept: Path, change) -> None:
    done(issue(tmp_path, "t.cwt"))
    kept.write_bytes(change(kept.read_bytes()))
    before = kept.read_bytes()
    for ran in (
        issue(tmp_path, "u.cwt"),
        run("keys", "revoke", kept, "--holder", "r-1"),
        run("keys", "list", kept),
        sign(tmp_path),
    ):
        assert ran.code == ExitCode.USAGE
        assert ran.err.startswith("error: ")
        assert "hint: " in ran.err
    assert kept.read_bytes() == before
    assert not (tmp_path / "u.cwt").exists()


def test_lists_that_are_not_there(tmp_path: Path, kept: Path) -> None:
    assert "new-list" in run("keys", "list", tmp_path / "none").err
    assert "new-list" in run("keys", "revoke", tmp_path / "none", "--index", "1").err
    assert run("keys", "list", tmp_path).code == ExitCode.USAGE
    again = run("keys", "new-list", kept, "--issuer", "housing", "--uri", URI)
    assert "never overwritten" in again.err
    for odd in (["--uri", ""], ["--issuer", ""], ["--size", "0"], ["--size", "99999999"]):
        arguments = ["--issuer", "housing", "--uri", URI, *odd]
        assert run("keys", "new-list", tmp_path / "new", *arguments).code == ExitCode.USAGE
    assert not (tmp_path / "new").exists()


def test_the_file_is_for_the_issuer_alone(tmp_path: Path, kept: Path) -> None:
    done(issue(tmp_path, "t.cwt"))
    assert kept.stat().st_mode & 0o777 == 0o600
    done(sign(tmp_path))
    assert (tmp_path / "list.cwt").stat().st_mode & 0o777 == 0o644


def test_commands_at_the_same_time_give_no_place_twice(tmp_path: Path, trust: Trust) -> None:
    size = ("--size", "8")
    done(run("keys", "new-list", tmp_path / "kept", "--issuer", "housing", "--uri", URI, *size))
    children = [
        subprocess.Popen(
            [
                PROGRAM, "keys", "issue", "--issuer", "housing",
                "--signer", tmp_path / "housing.pem", "--group", "vestergade-7",
                "--door", "street", "--holder", f"r-{number}", "--list", tmp_path / "kept",
                "--for", tmp_path / "phone.pub.pem", "--out", tmp_path / f"{number}.cwt",
            ],
            stdout=subprocess.DEVNULL,
        )
        for number in range(8)
    ]  # fmt: skip
    assert [child.wait(120) for child in children] == [0] * 8
    assert {index_of(tmp_path, f"{number}.cwt") for number in range(8)} == set(range(8))
    assert len(listfile.read(tmp_path / "kept").places) == 8


def test_a_disk_that_takes_nothing_changes_nothing(tmp_path: Path, kept: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = kept.read_bytes()
    monkeypatch.setattr(listfile, "replace_file", full)
    ran = issue(tmp_path, "t.cwt")
    assert ran.code == ExitCode.USAGE
    assert "No space left" in ran.err
    assert kept.read_bytes() == before
    assert not (tmp_path / "t.cwt").exists()
