"""The operator's commands, in the order in which a site is set up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_proto.codes import Action, KeyClass
from gatewayd import keyfiles
from gatewayd.cli.command import ExitCode
from gatewayd.cli.keys import common
from gatewayd.cli.keys.inspection import _window
from gatewayd.cli.keys.issue import parse_door, parse_window
from gatewayd.cli.keys.make import ROLES
from gatewayd.cloud.authority import IssuerKey, new_key
from gatewayd.config import check, load_all
from gatewayd.core import keytoken
from gatewayd.core.claims import Claims, Lending
from gatewayd.core.trust import verify_bundle
from gatewayd.emulators.wallet import Wallet
from tests.support.commands import Ran, run, spawn
from tests.support.site import CONFIG

TRUST = """\
group = "vestergade-7"
serial = 1

[[issuer]]
name = "housing"
key = "housing.pub.pem"
classes = ["resident", "guest"]
max_lifetime_days = 400

[[issuer]]
name = "parcels"
key = "parcels.pub.pem"
doors = ["street"]
classes = ["delivery"]
actions = ["open", "unbolt"]
max_lifetime_days = 30
"""


def done(ran: Ran) -> Ran:
    assert ran.code == ExitCode.DONE, ran.err
    return ran


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    directory = tmp_path / "operator"
    directory.mkdir()
    done(run("keys", "make", "operator", "--into", directory))
    for issuer in ("housing", "parcels"):
        done(run("keys", "make", "issuer", "--into", directory, "--name", issuer))
    (directory / "trust.toml").write_text(TRUST, "utf-8")
    done(bundle(directory))
    return directory


def bundle(operator: Path, out: str = "trust.cose") -> Ran:
    return run(
        "keys", "bundle", operator / "trust.toml",
        "--root", operator / "root.pem", "--out", operator / out,
    )  # fmt: skip


def credential(operator: Path, gateway: Path, *more: str | Path) -> Ran:
    return run(
        "keys", "gateway", "--id", "stairwell-7", "--group", "vestergade-7",
        "--door", "street", "--door", "cellar=2", "--keys", gateway,
        "--signer", operator / "gateways.pem", "--out", gateway / "gateway.cwt", *more,
    )  # fmt: skip


def signed_time(operator: Path, gateway: str, out: Path, *more: str) -> Ran:
    signer = operator / "time.pem"
    return run("keys", "time", "--gateway", gateway, "--signer", signer, "--out", out, *more)


def issue(operator: Path, *more: str | Path) -> Ran:
    return run(
        "keys", "issue", "--issuer", "housing", "--signer", operator / "housing.pem",
        "--group", "vestergade-7", "--door", "street:open,bolt", "--holder", "r-1", *more,
    )  # fmt: skip


@pytest.fixture
def gateway(tmp_path: Path, operator: Path) -> Path:
    directory = tmp_path / "gateway"
    directory.mkdir()
    done(run("keys", "make", "gateway", "--into", directory))
    done(credential(operator, directory))
    return directory


# --- a site from nothing ------------------------------------------------------------
def test_a_site_is_set_up_with_commands_alone(
    operator: Path, gateway: Path, tmp_path: Path
) -> None:
    for door in ("street", "cellar"):
        done(run("keys", "make", "lock", "--into", gateway, "--name", door))
    done(signed_time(operator, "stairwell-7", gateway / "time.cose", "--at", "2026-08-01T12:00Z"))
    for name in ("trust.cose", "root.pub.pem"):
        (gateway / name).write_bytes((operator / name).read_bytes())
    config = gateway / "gatewayd.toml"
    config.write_text(f'{CONFIG}\n[trust]\ntime = "time.cose"\n', "utf-8")
    assert check(config) == []
    _, secrets = load_all(config)
    assert secrets.provisioned_time_s == 1_785_585_600
    assert dict(secrets.credential.doors) == {"street": 1, "cellar": 2}

    wallet = tmp_path / "wallet"
    done(issue(operator, "--wallet", wallet, "--gateways", operator / "gateways.pub.pem"))
    token = keytoken.authenticate(Wallet.load(wallet).token, secrets.trust)
    assert token.claims.subject == "r-1"
    assert token.claims.expires - token.claims.not_before == 2 * 86_400


@pytest.mark.parametrize("role", ROLES)
def test_keys_of_every_role_are_private(role: str, tmp_path: Path) -> None:
    ran = done(run("keys", "make", role, "--into", tmp_path, "--json"))
    written = [Path(each) for each in ran.json["written"]]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    for name in ROLES[role]:
        assert (tmp_path / f"{name}.pem").stat().st_mode & 0o777 == 0o600
        ed25519 = name in {"log", "witness"}
        read = keyfiles.read_ed25519_private if ed25519 else keyfiles.read_p256_private
        public = (keyfiles.read_ed25519_public if ed25519 else keyfiles.read_p256_public)(
            tmp_path / f"{name}.pub.pem", "key"
        )
        assert read(tmp_path / f"{name}.pem", "key").public_key() == public


def test_nothing_is_overwritten_and_nothing_left_behind(tmp_path: Path) -> None:
    (tmp_path / "receipt.pub.pem").write_bytes(b"precious")
    ran = run("keys", "make", "gateway", "--into", tmp_path)
    assert ran.code == ExitCode.USAGE
    assert "receipt.pub.pem exists already and is never overwritten" in ran.err
    assert "hint: " in ran.err
    assert [each.name for each in tmp_path.iterdir()] == ["receipt.pub.pem"]
    assert (tmp_path / "receipt.pub.pem").read_bytes() == b"precious"


def test_as_a_process_of_its_own(tmp_path: Path) -> None:
    ran = spawn("keys", "make", "phone", "--into", tmp_path)
    assert ran.code == ExitCode.DONE
    assert "phone.pem (private: keep it to yourself)" in ran.out
    ran = spawn("keys", "make", "phone", "--into", tmp_path / "absent")
    assert ran.code == ExitCode.USAGE
    assert ran.err.startswith("error: cannot write")
    assert "Traceback" not in ran.err


# --- bundles ------------------------------------------------------------
def test_the_bundle_says_what_its_description_says(operator: Path) -> None:
    root = keyfiles.read_p256_public(operator / "root.pub.pem", "root")
    trust = verify_bundle((operator / "trust.cose").read_bytes(), root)
    issuers = {each.name: each for each in trust.issuers.values()}
    assert (trust.group, trust.serial) == ("vestergade-7", 1)
    assert issuers["housing"].doors is None
    assert issuers["parcels"].doors == {"street"}
    assert issuers["parcels"].max_lifetime_s == 30 * 86_400
    assert issuers["parcels"].actions == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("serial = 1", "", "trust.toml:1: serial is missing"),
        ("serial = 1", "serial = 0", "trust.toml:2: serial: expected a whole number >= 1"),
        ('"resident"', '"king"', "trust.toml:7: issuer[1].classes"),
        ("classes = [", "class = [", "trust.toml:7: issuer[1].class is not a setting"),
        ('"parcels.pub.pem"', '"housing.pub.pem"', "two issuers have one key"),
        ('"parcels.pub.pem"', '"absent.pub.pem"', "absent.pub.pem does not exist"),
        ('"parcels.pub.pem"', '"root.pem"', "root.pem is not a public key"),
        ("serial = 1", "serial = 18446744073709551616", "trust.toml:2: serial"),
        ("group", "\udc80", "trust.toml:1: not TOML"),
    ],
)
def test_a_description_that_will_not_do(operator: Path, old: str, new: str, message: str) -> None:
    text = TRUST.replace(old, new, 1)
    (operator / "trust.toml").write_text(text, "utf-8", errors="surrogateescape")
    ran = bundle(operator, "other.cose")
    assert ran.code == ExitCode.USAGE
    assert message in ran.err
    assert "hint: " in ran.err
    assert not (operator / "other.cose").exists()


# --- credentials ------------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--door", "=1"], "'' is no name"),
        (["--door", "a b"], "'a b' is no name"),
        (["--id", "stair/+#"], "'stair/+#' is no name"),
        (["--door", "street=2"], "named twice"),
        (["--days", "99999999999"], "is more than 3660 days"),
        (["--door", "street=no"], "'no' is no whole number above zero"),
        (["--door", "x" * 33], "is no name"),
        (["--group", "x" * 2000], "too long"),
        (["--days", "0"], "is no whole number above zero"),
        (["--signer", "absent.pem"], "absent.pem does not exist"),
        (["--keys", "absent"], "does not exist"),
    ],
)
def test_a_credential_that_will_not_do(
    operator: Path, gateway: Path, more: list[str], message: str
) -> None:
    (gateway / "gateway.cwt").unlink()
    ran = credential(operator, gateway, *more)
    assert ran.code == ExitCode.USAGE
    assert message in ran.err
    assert not (gateway / "gateway.cwt").exists()


def test_one_key_for_two_purposes(operator: Path, gateway: Path) -> None:
    (gateway / "gateway.cwt").unlink()
    (gateway / "receipt.pub.pem").write_bytes((gateway / "gateway.pub.pem").read_bytes())
    ran = credential(operator, gateway)
    assert ran.code == ExitCode.USAGE
    assert "one key for two purposes" in ran.err


# --- tokens ------------------------------------------------------------
@pytest.fixture
def phone(tmp_path: Path) -> Path:
    done(run("keys", "make", "phone", "--into", tmp_path))
    return tmp_path / "phone.pub.pem"


def test_a_scheduled_key_and_its_inspection(operator: Path, phone: Path, tmp_path: Path) -> None:
    out = tmp_path / "token.cwt"
    start, end = "2026-08-01T00:00+02:00", "2026-08-15T00:00+02:00"
    about = ("--class", "guest", "--presence", "arrival", "--zone", "Europe/Copenhagen")
    allow = ("--allow", "mon-fri 22:00-06:00", "--deny", "sat,sun 12:00-24:00")
    valid = ("--from", start, "--until", end, "--status", "https://housing.example/keys#17")
    done(issue(operator, "--for", phone, "--out", out, *about, *allow, *valid))
    ran = done(run("keys", "inspect", out, "--json"))
    facts = ran.json
    assert facts["kind"] == "key token"
    assert facts["doors"] == {"street": "open, bolt"}
    assert facts["valid from"] == "2026-07-31T22:00:00Z"
    assert facts["valid until"] == "2026-08-14T22:00:00Z"
    assert (facts["class"], facts["presence"]) == ("guest", "arrival")
    assert facts["allowed"] == ["mon,tue,wed,thu,fri 22:00-06:00"]
    assert facts["revocation list"] == "https://housing.example/keys, entry 17"
    assert facts["denied"] == ["sat,sun 12:00-00:00"]
    assert facts["signature"].startswith("NOT CHECKED")
    trusted = ("--root", operator / "root.pub.pem", "--bundle", operator / "trust.cose")
    shown = done(run("keys", "inspect", out, *trusted)).out
    shown = " ".join(shown.split())
    assert "signature good, by issuer housing" in shown
    assert "denied sat,sun 12:00-00:00" in shown


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "say whose phone"),
        (["--for", "PHONE", "--wallet", "w"], "say whose phone"),
        (["--for", "PHONE"], "--for needs --out FILE"),
        (["--wallet", "w"], "--wallet needs --gateways KEY"),
        (["--for", "absent", "--out", "OUT"], "absent does not exist"),
        (["--for", "PHONE", "--out", "OUT", "--door", "a:fly"], "is no door with actions"),
        (["--for", "PHONE", "--out", "OUT", "--door", "street"], "no gateway could read this key"),
        (["--for", "PHONE", "--out", "OUT", "--holder", ""], "no gateway could read this key"),
        (["--for", "PHONE", "--out", "OUT", "--allow", "mon 8-9"], "is no window"),
        (["--for", "PHONE", "--out", "OUT", "--allow", "day 08:00-09:00"], "is no window"),
        (["--for", "PHONE", "--out", "OUT", "--allow", "mon 08:61-09:00"], "is no window"),
        (["--for", "PHONE", "--out", "OUT", "--allow", "mon 25:00-26:00"], "is no window"),
        (["--for", "PHONE", "--out", "OUT", "--allow", "mon 08:00-09:00"], "needs --zone"),
        (["--for", "PHONE", "--out", "OUT", "--deny", "mon 08:00-09:00"], "at least one --allow"),
        (["--for", "PHONE", "--out", "OUT", "--zone", "Europe/Kopenhagen"], "'Europe/Copenhagen'?"),
        (["--for", "PHONE", "--out", "OUT", "--zone", "0"], "there is no time zone '0'"),
        (["--for", "PHONE", "--out", "OUT", "--from", "0001-01-01T00:00Z"], "is before 1970"),
        (["--for", "PHONE", "--out", "OUT", "--door", "a b"], "'a b' is no name"),
        (["--wallet", "PHONE", "--gateways", "PHONE"], "cannot make the wallet"),
        (["--for", "PHONE", "--out", "OUT", "--until", "2001-01-01T00:00Z"], "end before it"),
        (["--for", "PHONE", "--out", "OUT", "--until", "2031-01-01T00:00"], "has no zone"),
        (["--for", "PHONE", "--out", "OUT", "--until", "soon"], "is no time"),
        (["--for", "PHONE", "--out", "OUT", "--days", "3"], "lives at most 2 days"),
        (["--for", "PHONE", "--out", "OUT", "--status", "17"], "is no place in a list"),
        (["--for", "PHONE", "--out", "OUT", "--status", "a#b"], "is no place in a list"),
    ],
)
def test_a_token_that_will_not_do(
    operator: Path, phone: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    out = tmp_path / "token.cwt"
    named = {"PHONE": str(phone), "OUT": str(out), "w": str(tmp_path / "w")}
    ran = issue(operator, *(named.get(each, each) for each in more))
    assert ran.code == ExitCode.USAGE
    assert message in ran.err
    assert not out.exists()
    assert not (tmp_path / "w").exists()


def test_a_wallet_is_never_overwritten(operator: Path, tmp_path: Path) -> None:
    arguments = ("--wallet", tmp_path / "w", "--gateways", operator / "gateways.pub.pem")
    done(issue(operator, *arguments))
    before = (tmp_path / "w" / "key.pem").read_bytes()
    assert issue(operator, *arguments, "--json").code == ExitCode.USAGE
    assert (tmp_path / "w" / "key.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mon 08:00-09:00", "mon 08:00-09:00"),
        ("daily 00:00-24:00", "mon,tue,wed,thu,fri,sat,sun 00:00-00:00"),
        ("fri-mon 22:00-06:00", "mon,fri,sat,sun 22:00-06:00"),
        ("TUE,thu-fri 08:15-08:16", "tue,thu,fri 08:15-08:16"),
    ],
)
def test_windows(text: str, shown: str) -> None:
    window = parse_window(text)
    assert window.is_valid()
    assert _window(window) == shown


def test_doors() -> None:
    assert parse_door("street") == ("street", 1)
    assert parse_door("street:open,unbolt,bolt") == ("street", 7)


# --- inspection ------------------------------------------------------------
def test_everything_can_be_looked_at(operator: Path, gateway: Path, tmp_path: Path) -> None:
    statement = tmp_path / "time.cose"
    done(signed_time(operator, "stairwell-7", statement))
    trusted = ("--root", operator / "root.pub.pem", "--bundle", operator / "trust.cose")
    looked = {
        path: done(run("keys", "inspect", path, *trusted, "--json")).json
        for path in (operator / "trust.cose", gateway / "gateway.cwt", statement)
    }
    assert [each["kind"] for each in looked.values()] == [
        "trust bundle",
        "gateway credential",
        "operator's statement: time",
    ]
    assert all(each["signature"].startswith("good") for each in looked.values())
    assert looked[operator / "trust.cose"]["issuers"]["parcels"] == (
        "open, unbolt at street, for delivery, at most 30 days"
    )
    assert looked[gateway / "gateway.cwt"]["doors"]["cellar"] == "generation 2"
    for path in looked:
        unchecked = done(run("keys", "inspect", path)).out
        assert "NOT CHECKED" in unchecked


def test_rare_claims_are_shown(tmp_path: Path) -> None:
    phone = new_key().public_key()
    claims = Claims(
        issuer="", subject="r-1", audience="g", cti=bytes(8), not_before=1, expires=2,
        issued_at=1, key=phone, scope=(("street", Action.OPEN),), key_class=KeyClass.GUEST,
        lending=Lending(3600, phone), once=True,
    )  # fmt: skip
    (tmp_path / "token.cwt").write_bytes(IssuerKey.create("housing").issue(claims))
    facts = done(run("keys", "inspect", tmp_path / "token.cwt", "--json")).json
    assert facts["may be lent"] == "for 3600 s"
    assert facts["once"] == "valid for one opening"
    assert facts["issuer"] == "housing"


def test_a_root_alone_says_nothing_about_a_token(operator: Path, phone: Path) -> None:
    out = operator / "token.cwt"
    done(issue(operator, "--for", phone, "--out", out))
    shown = done(run("keys", "inspect", out, "--root", operator / "root.pub.pem")).out
    assert "NOT CHECKED: give --root and --bundle" in shown


def test_keys_are_named_and_not_shown(operator: Path) -> None:
    private = done(run("keys", "inspect", operator / "root.pem")).out
    public = done(run("keys", "inspect", operator / "root.pub.pem", "--json")).json
    assert public["id"] in private
    secret = (operator / "root.pem").read_text("ascii").splitlines()[1]
    assert secret not in private


def other_operator(tmp_path: Path) -> Path:
    directory = tmp_path / "other"
    directory.mkdir()
    done(run("keys", "make", "operator", "--into", directory))
    done(run("keys", "make", "issuer", "--into", directory, "--name", "housing"))
    done(run("keys", "make", "issuer", "--into", directory, "--name", "parcels"))
    (directory / "trust.toml").write_text(TRUST, "utf-8")
    done(bundle(directory))
    return directory


def test_what_another_operator_signed_is_not_believed(
    operator: Path, gateway: Path, phone: Path, tmp_path: Path
) -> None:
    other = other_operator(tmp_path)
    trusted = ("--root", other / "root.pub.pem", "--bundle", other / "trust.cose")
    token, statement = tmp_path / "token.cwt", tmp_path / "time.cose"
    done(issue(operator, "--for", phone, "--out", token))
    done(signed_time(operator, "g", statement))
    for path in (token, statement, gateway / "gateway.cwt", operator / "trust.cose"):
        ran = run("keys", "inspect", path, *trusted)
        assert ran.code == ExitCode.FAILED, path
        assert "NOT GOOD" in ran.out or "cannot be believed" in ran.err
    ran = run("keys", "inspect", token, "--root", operator / "root.pub.pem", *trusted[2:])
    assert ran.code == ExitCode.USAGE
    assert "is not a bundle that" in ran.err
    ran = run("keys", "inspect", token, *trusted[2:])
    assert (ran.code, "--bundle needs --root" in ran.err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-1], "cannot be believed"),
        (lambda data: data + b"\0", "cannot be believed"),
        (lambda data: b"\x84\x43\xa1\x01\x26\xa0\x40\x58\x40" + bytes(64), "nothing that is known"),
        (lambda data: b"", "is empty"),
        (lambda data: b"-----BEGIN PUBLIC KEY-----\n", "is damaged"),
        (lambda data: b"hello", "cannot be believed"),
    ],
)
def test_files_that_are_nothing(
    operator: Path, tmp_path: Path, spoil: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "spoilt"
    path.write_bytes(spoil((operator / "trust.cose").read_bytes()))
    ran = run("keys", "inspect", path)
    assert ran.code in {ExitCode.FAILED, ExitCode.USAGE}
    assert message in ran.err


def test_an_ed25519_key_is_shown_too(gateway: Path) -> None:
    kinds = {"log.pem": "private key, Ed25519", "log.pub.pem": "public key, Ed25519"}
    shown = {name: run("keys", "inspect", gateway / name, "--json").json for name in kinds}
    assert {name: each["kind"] for name, each in shown.items()} == kinds
    assert shown["log.pem"]["log key"] == shown["log.pub.pem"]["log key"]
    ran = run("keys", "inspect", gateway / "gateway.pub.pem")
    assert ran.out.startswith("kind  public key, P-256\n")


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "/etc/x", ".."])
def test_a_name_is_no_way_out_of_the_directory(tmp_path: Path, name: str) -> None:
    into = tmp_path / "keys"
    into.mkdir()
    ran = run("keys", "make", "issuer", "--into", into, "--name", name)
    assert ran.code == ExitCode.USAGE
    assert "is no file name" in ran.err
    assert [each for each in tmp_path.rglob("*") if each != into] == []


def test_one_name_for_many_keys_is_refused(tmp_path: Path) -> None:
    ran = run("keys", "make", "gateway", "--into", tmp_path, "--name", "stairs")
    assert (ran.code, "--name is for one key" in ran.err) == (ExitCode.USAGE, True)
    assert list(tmp_path.iterdir()) == []


def test_a_public_key_cannot_sign(operator: Path, tmp_path: Path) -> None:
    ran = run(
        "keys", "time", "--gateway", "g", "--signer", operator / "time.pub.pem",
        "--out", tmp_path / "t",
    )  # fmt: skip
    assert ran.code == ExitCode.USAGE
    assert "is not a private key but a public one" in ran.err
    assert "chmod" not in ran.err


def test_several_problems_of_a_bundle_are_one_document(operator: Path, tmp_path: Path) -> None:
    described = operator / "odd.toml"
    described.write_text('group = "v"\nserial = 0\n[[issuer]]\nclasses = ["resdent"]\n')
    ran = run(
        "keys", "bundle", described, "--root", operator / "root.pem",
        "--out", tmp_path / "b", "--json",
    )  # fmt: skip
    assert ran.code == ExitCode.USAGE
    messages = [each["message"] for each in ran.json["problems"]]
    assert "issuer[1].classes: 'resdent' is none of them" in messages
    assert len(messages) == 5


def test_what_is_shown_of_a_file_cannot_move_the_cursor(operator: Path, tmp_path: Path) -> None:
    ran = run("keys", "make", "phone", "--into", tmp_path)
    assert ran.code == 0, ran.err
    ran = run(
        "keys", "issue", "--issuer", "housing", "--signer", operator / "housing.pem",
        "--group", "v", "--door", "street", "--holder", "\x1b[2J\x9b2Jr",
        "--for", tmp_path / "phone.pub.pem", "--out", tmp_path / "t.cwt",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    ran = run("keys", "inspect", tmp_path / "t.cwt")
    assert ran.code == 0, ran.err
    assert "holder       \\x1b[2J\\x9b2Jr\n" in ran.out


def test_a_time_beyond_every_calendar_is_still_shown() -> None:
    assert common.shown_time(2**62) == f"{2**62} s after 1970"
    assert common.shown_time(0) == "1970-01-01T00:00:00Z"
