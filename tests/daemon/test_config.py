"""The configuration: every problem at once, each with its line and what to do."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import example, given
from hypothesis import strategies as st

from firmware_proto.codes import KeyClass, Reason
from gatewayd import keyfiles
from gatewayd.cloud.authority import Authority, GatewayKeys, new_key
from gatewayd.config import ConfigError, Problem, check, load, load_all
from gatewayd.config.decode import decode
from gatewayd.config.lines import locate
from gatewayd.config.model import Config
from gatewayd.core import provisioned_time
from gatewayd.core.policy import DEFAULTS, ClassSettings
from gatewayd.keyfiles import KeyFileError
from tests.support.site import CONFIG, NOW, YEAR, Site, make_site

ODD_TEXT = st.sampled_from(
    [
        "\\u0000",
        "[" * 2000,
        "9" * 5000,
        "//[",
        '"',
        "'",
        "\n",
        "=",
        "/../",
        "x" * 5000,
        "\\U0010ffff",
    ]
) | st.text(st.characters(codec="utf-8"), max_size=8)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def problems_of(text: str, directory: Path = Path()) -> list[Problem]:
    config, report = decode(text, Config, directory)
    assert (config is None) == bool(report.problems)
    return sorted(report.problems)


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


# --- a good one -------------------------------------------------------------------
def test_a_whole_site(site: Site) -> None:
    assert check(site.config) == []
    config, secrets = load_all(site.config)
    assert config == load(site.config)
    assert [each.id for each in config.doors] == ["street", "cellar"]
    assert [each.latch_ms for each in config.doors] == [5000, 3000]
    assert config.gateway.state == site.directory / "state"
    assert secrets.credential.gateway == "stairwell-7"
    assert secrets.credential_bytes == (site.directory / "gateway.cwt").read_bytes()
    assert secrets.trust == site.authority.trust()
    assert set(secrets.lock_keys) == {"street", "cellar"}
    assert secrets.key.public_key() == site.keys.handshake.public_key()


def test_secrets_do_not_show_themselves(site: Site) -> None:
    _, secrets = load_all(site.config)
    assert "lock_keys" not in repr(secrets)
    assert " key=" not in repr(secrets).replace("credential=GatewayCredential", "").split(")")[-1]


def test_the_uplink_is_optional(site: Site) -> None:
    site.replace("gatewayd.toml", CONFIG.replace("[uplink]\nbroker", "#").encode())
    assert load(site.config).uplink is None


def test_policies_per_class(site: Site) -> None:
    site.replace(
        "gatewayd.toml",
        CONFIG.encode() + b"\n[door.policy]\nresident = { unknown_time = false }\n"
        b"guest = { stale_list_days = 0.5, arrival = true, rate = 3 }\n"
        b"service = { log_unavailable = ['full', 'slow'] }\n",
    )
    street, cellar = load(site.config).doors
    assert all(street.policy.settings.of(each) == DEFAULTS[each] for each in KeyClass)
    assert cellar.policy.settings.of(KeyClass.GUEST) == ClassSettings(43_200, arrival=True, rate=3)
    assert not cellar.policy.settings.of(KeyClass.RESIDENT).unknown_time
    disk = frozenset({Reason.LOG_FULL, Reason.LOG_SLOW})
    assert cellar.policy.settings.of(KeyClass.SERVICE).log_unavailable == disk
    assert cellar.policy.settings.of(KeyClass.DELIVERY) == DEFAULTS[KeyClass.DELIVERY]


# --- every problem at once ----------------------------------------------------------
def test_all_problems_are_reported_with_their_lines() -> None:
    text = (
        '[gateway]\nid = 7\nsate = "x"\n'  # 2, 3
        '[radio]\nkind = "real"\nhci = "unix:a"\nmax_phone_links = 0\n'  # 5, 7
        '[[door]]\nid = "street"\nlock = { address = "F0", key = "k" }\n'  # 10
        '[[door]]\nlatch_ms = 100\nlock.address = "F0:F1:F2:F3:F4:02"\n'  # 11, 12, 13
        "[zzz]\n"  # 14
    )
    problems = problems_of(text)
    assert [each.line for each in problems] == [2, 3, 5, 7, 10, 11, 12, 13, 14]
    assert all(each.hint for each in problems)
    shown = {each.line: each for each in problems}
    assert shown[2].message == "gateway.id: expected text, got a whole number"
    assert shown[3] == Problem(3, "gateway.sate is not a setting", "did you mean 'state'?")
    assert "'real'" in shown[5].message
    assert shown[11].message == "door[2].id is missing"
    assert shown[12].hint == "how long the latch is held, 500 to 30000 ms"
    assert shown[13].message == "door[2].lock.key is missing"
    assert shown[14].hint == "one of: gateway, radio, door, keys, trust, uplink, metrics, helpdesk"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("door = []", "door: expected a list of length >= 1"),
        ("door = 1", "door: expected a list, got a whole number"),
        ("door = [1]", "door[1]: expected a table, got a whole number"),
        ("gateway = 1", "gateway: expected a table, got a whole number"),
        ("[keys]\nlog = 1", "keys.log: expected the name of a file"),
        ('[keys]\nlog = ""', "keys.log: expected the name of a file"),
        ("[uplink]\nkey = 1", "uplink.key: expected"),
        (
            "[[door]]\npolicy.guest.rate = 0",
            "guest.rate: expected a whole number >= 1",
        ),
        ("[[door]]\npolicy.guest.unknown_time = true", "unknown_time is not a setting"),
        ("[[door]]\npolicy.guest.log_unavailable = ['never']", "log_unavailable"),
        ("[[door]]\npolicy.guest.log_unavailable = 'full'", "log_unavailable"),
    ],
)
def test_values_of_another_shape(text: str, message: str) -> None:
    problems = problems_of(text)
    assert any(message in each.message and each.hint for each in problems), problems


def test_an_empty_file_lacks_everything() -> None:
    assert [each.message for each in problems_of("")] == [
        "door is missing",
        "gateway is missing",
        "radio is missing",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[gateway\n", 1),
        ('[gateway]\nid = "a"\nid = "b"\n', 3),
        ('[gateway]\nid = "a', 2),
        ("[gateway]\n\nid = \n", 3),
    ],
)
def test_what_is_not_toml(text: str, line: int) -> None:
    problem = only(problems_of(text))
    assert problem.line == line
    assert problem.message.startswith("not TOML: ")
    assert "line" not in problem.message


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('id = "cellar"', 'id = "street"', 17, "street is door[1]'s already"),
        ("F4:02", "F4:01", 21, "F0:F1:F2:F3:F4:01 is door[1]'s already"),
        ("Copenhagen", "Copenhagn", 12, "no time zone 'Europe/Copenhagn'"),
        ("Europe/Copenhagen", "0", 12, "no time zone '0'"),
        ("mqtt://127.0.0.1:1883", "mqtt://broker.example", 8, "in the clear to broker.example"),
        ("mqtt://127.0.0.1:1883", "http://127.0.0.1", 8, "not the address of a broker"),
        ("mqtt://127.0.0.1:1883", "mqtt://localhost:99999", 8, "not the address of a broker"),
        ("mqtt://127.0.0.1:1883", "mqtts://me:secret@broker", 8, "has a password in it"),
        ("[uplink]\n", '[uplink]\ncertificate = "c"\n', 8, "no use with mqtt://"),
        ("mqtt://127.0.0.1:1883", 'mqtts://b"\nkey = "absent', 9, "absent does not exist"),
        ("mqtt://127.0.0.1:1883", 'mqtts://b"\nkey = "gateway.pem', 7, "belong together"),
        ('id = "stairwell-7"', 'id = "x"\nstate = "gateway.pem"', 3, "is not a directory"),
        ('id = "stairwell-7"', 'id = "x"\nstate = "no/where"', 3, "does not exist"),
        ("[uplink]\nbroker", "[helpdesk]\ndoors = ['street']\n#", 7, "no use without [uplink]"),
    ],
)
def test_what_no_field_can_say_alone(
    site: Site, old: str, new: str, line: int, message: str
) -> None:
    site.replace("gatewayd.toml", CONFIG.replace(old, new).encode())
    with pytest.raises(ConfigError) as raised:
        load(site.config)
    assert any(
        each.line == line and message in each.message and each.hint
        for each in raised.value.problems
    ), raised.value.problems


def test_plain_localhost_and_tls_files(site: Site) -> None:
    site.replace(
        "gatewayd.toml",
        CONFIG.replace(
            '"mqtt://127.0.0.1:1883"',
            '"mqtts://broker.example"\nauthorities = "trust.cose"\n'
            'certificate = "gateway.cwt"\nkey = "gateway.pem"',
        ).encode(),
    )
    assert check(site.config) == []
    (site.directory / "gateway.pem").chmod(0o640)
    assert {each.message.split(" ")[0] for each in check(site.config)} == {"uplink.key:", "gateway"}
    site.replace("gatewayd.toml", CONFIG.replace("127.0.0.1", "localhost").encode())
    assert load(site.config).uplink is not None


def test_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "gatewayd.toml"
    assert "does not exist" in only(check(path)).message
    path.write_bytes(b'[gateway]\nid = "\xff"\n')
    assert only(check(path)) == Problem(2, "not UTF-8", "save it as UTF-8")
    path.write_bytes(b"[gateway")
    assert only(check(path)).line == 1
    path.write_bytes(b"")
    assert "is empty" in only(check(path)).message


# --- keys -----------------------------------------------------------------------------
def p384() -> bytes:
    return keyfiles.private_pem(ec.generate_private_key(ec.SECP384R1()))


def locked(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize("name", ["gateway.pem", "log.pem", "receipt.pem"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[: len(data) // 2], "is damaged"),
        (lambda data: b"", "is empty"),
        (lambda data: bytes(100_000), "too large"),
        (lambda data: locked(new_key()), "locked with a passphrase"),
        (lambda data: p384(), "holds a secp384r1 key where"),
        (lambda data: keyfiles.public_pem(new_key().public_key()), "not a private key"),
    ],
)
def test_private_keys_that_will_not_do(site: Site, name: str, spoil, message: str) -> None:
    path = site.directory / name
    spoilt = spoil(path.read_bytes())
    site.replace(name, spoilt)
    problem = only(check(site.config))
    assert message in problem.message
    assert str(path) in problem.message
    assert problem.hint
    assert path.read_bytes() == spoilt  # nothing was overwritten


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o666])
def test_private_keys_that_others_can_read(site: Site, mode: int) -> None:
    path = site.directory / "gateway.pem"
    path.chmod(mode)
    problem = only(check(site.config))
    assert f"can be read by others (mode {mode:04o})" in problem.message
    assert problem.hint.startswith(f"chmod 600 {path}")


def test_swapped_and_foreign_keys(site: Site) -> None:
    gateway = (site.directory / "gateway.pem").read_bytes()
    receipt = (site.directory / "receipt.pem").read_bytes()
    site.replace("gateway.pem", receipt)
    site.replace("receipt.pem", gateway)
    messages = [each.message for each in check(site.config)]
    assert [each.split(":")[0] for each in messages] == ["keys.gateway", "keys.receipt"]
    site.replace("gateway.pem", gateway)
    messages = [each.message for each in check(site.config)]
    assert "keys.receipt: handshakes and receipts would share one key" in messages
    site.replace("receipt.pem", receipt)
    site.replace("log.pem", keyfiles.private_pem(ed25519.Ed25519PrivateKey.generate()))
    assert "is not the key that the credential names" in only(check(site.config)).message
    site.replace("log.pem", gateway)
    assert "holds a secp256r1 key where Ed25519 is needed" in only(check(site.config)).message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gateway.cwt", "gateway credential"),
        ("trust.cose", "trust bundle"),
        ("root.pub.pem", "root key"),
        ("street.pub.pem", "lock key"),
        ("gateway.pem", "gateway key"),
    ],
)
def test_files_missing_truncated_or_damaged(site: Site, name: str, message: str) -> None:
    path = site.directory / name
    data = path.read_bytes()
    path.unlink()
    problem = only(check(site.config))
    assert message in problem.message
    assert "does not exist" in problem.message
    for spoilt in (data[:-1], data[: len(data) // 2], data[:20], b"\0" + data):
        site.replace(name, spoilt)
        if keyfiles_still_reads(path):
            continue  # a PEM without its last line break is still whole
        problem = only(check(site.config))
        assert message in problem.message
        assert problem.hint
        assert path.read_bytes() == spoilt


def keyfiles_still_reads(path: Path) -> bool:
    try:
        if path.name.endswith(".pub.pem"):
            keyfiles.read_p256_public(path, "key")
        else:
            keyfiles.read_p256_private(path, "key")
    except KeyFileError:
        return False
    return True


def test_a_directory_where_a_file_should_be(site: Site) -> None:
    (site.directory / "trust.cose").unlink()
    (site.directory / "trust.cose").mkdir()
    assert "cannot be read: Is a directory" in only(check(site.config)).message


def test_public_and_private_are_told_apart(site: Site) -> None:
    site.replace("street.pub.pem", (site.directory / "gateway.pem").read_bytes())
    problem = only(check(site.config))
    assert problem.hint == "it holds a private key: name the .pub.pem beside it"
    assert problem.line == 14
    site.replace("street.pub.pem", keyfiles.public_pem(site.keys.log.public_key()))
    assert "holds a Ed25519 key where P-256 is needed" in only(check(site.config)).message


def test_time_signed_at_provisioning(site: Site) -> None:
    site.replace("gatewayd.toml", f'{CONFIG}\n[trust]\ntime = "time.cose"\n'.encode())
    assert "signed time" in only(check(site.config)).message
    signed = provisioned_time.sign("stairwell-7", NOW, bytes(16), site.authority.time)
    site.replace("time.cose", signed)
    assert load_all(site.config)[1].provisioned_time_s == NOW
    for spoilt in (signed[:-1], provisioned_time.sign("other", NOW, bytes(16), site.keys.receipt)):
        site.replace("time.cose", spoilt)
        problem = only(check(site.config))
        assert "is not one that this operator signed for us" in problem.message
        assert problem.line == 25


def test_a_public_log_key_is_ed25519(site: Site) -> None:
    with pytest.raises(KeyFileError, match="secp256r1 key where Ed25519 is needed"):
        keyfiles.read_ed25519_public(site.directory / "street.pub.pem", "log key")


def test_another_operator_signed_it(site: Site) -> None:
    other = Authority.create("vestergade-7")
    credential = other.gateway_credential(
        "stairwell-7", {"street": 1, "cellar": 1}, site.keys, issued_at=NOW, expires=NOW + YEAR
    )
    site.replace("gateway.cwt", credential)
    assert "is not one that this operator signed" in only(check(site.config)).message
    site.replace("trust.cose", other.bundle())
    assert "root.pub.pem signed" in only(check(site.config)).message


def test_the_credential_says_something_else(site: Site) -> None:
    elsewhere = replace(site.authority, group="elsewhere")
    credential = elsewhere.gateway_credential(
        "stairwell-8", {"street": 1}, site.keys, issued_at=NOW, expires=NOW + YEAR
    )
    site.replace("gateway.cwt", credential)
    shown = [(each.line, each.message) for each in check(site.config)]
    assert shown == [
        (1, "the credential is for group elsewhere, the trust bundle for vestergade-7"),
        (2, "gateway.id is stairwell-7, but the credential is for stairwell-8"),
        (17, "door[2].id: the credential does not name cellar"),
    ]


def test_problems_of_configuration_and_keys_come_together(site: Site) -> None:
    site.replace("gatewayd.toml", CONFIG.replace("Copenhagen", "Atlantis").encode())
    (site.directory / "log.pem").unlink()
    (site.directory / "cellar.pub.pem").unlink()
    assert [each.line for each in check(site.config)] == [1, 12, 22]
    with pytest.raises(ConfigError, match="3 problem"):
        load_all(site.config)


# --- writing ----------------------------------------------------------------------------
def test_files_are_created_private_and_never_replaced(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pem", tmp_path / "b.pem"
    keyfiles.create_files({second: b"old"})
    assert second.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFileError) as raised:
        keyfiles.create_files({first: b"new", second: b"new"})
    assert "b.pem exists already and is never overwritten" in raised.value.message
    assert not first.exists()  # all or none
    assert second.read_bytes() == b"old"
    with pytest.raises(KeyFileError, match="No such file or directory"):
        keyfiles.create_files({first: b"new", tmp_path / "no" / "where": b"new"})
    assert not first.exists()


@pytest.mark.parametrize("keys", [GatewayKeys.create()])
def test_what_is_written_is_read(tmp_path: Path, keys: GatewayKeys) -> None:
    p256, edwards, public = tmp_path / "p256", tmp_path / "ed25519", tmp_path / "public"
    keyfiles.create_files(
        {
            p256: keyfiles.private_pem(keys.handshake),
            edwards: keyfiles.private_pem(keys.log),
            public: keyfiles.public_pem(keys.handshake.public_key()),
        }
    )
    assert keyfiles.read_p256_private(p256, "key").public_key() == keys.handshake.public_key()
    assert keyfiles.read_ed25519_private(edwards, "key").public_key() == keys.log.public_key()
    assert keyfiles.read_p256_public(public, "key") == keys.handshake.public_key()


# --- line numbers ---------------------------------------------------------------------------
def test_lines_are_found_around_every_kind_of_value() -> None:
    text = (
        'a = """\n[not.a.header]\nb = 1\n"""\n'  # 1 to 4
        "list = [ # ]\n  '[',\n  [1, 2],\n]\n"  # 5 to 8
        '"quoted key" = 1\n'  # 9
        "dotted.path . here = 2\n"  # 10
        "raw = '''\nx = 1'''\n"  # 11, 12
        "[[door]]\nid = 1\n[door.policy]\nguest = 1\n"  # 13 to 16
        '[[door]]\nid = "]"\n[door.policy]\nguest = "\\""\n'  # 17 to 20
        "[ spaced . header ]\n\n"  # 21
        "key = { inline = 1 }"  # 23
    )
    lines = locate(text)
    assert {
        "a": lines.of(("a",)),
        "list": lines.of(("list", 1)),
        "quoted": lines.of(("quoted key",)),
        "dotted": lines.of(("dotted", "path", "here")),
        "raw": lines.of(("raw",)),
        "first": lines.of(("door", 0, "policy", "guest")),
        "second": lines.of(("door", 1, "policy", "guest")),
        "array": lines.of(("door",)),
        "header": lines.of(("door", 1, "policy")),
        "spaced": lines.of(("spaced", "header", "absent")),
        "inline": lines.of(("spaced", "header", "key", "inline")),
        "b": lines.of(("b",)),
    } == {
        "a": 1, "list": 5, "quoted": 9, "dotted": 10, "raw": 11, "first": 16, "second": 20,
        "array": 13, "header": 19, "spaced": 21, "inline": 23, "b": 1,
    }  # fmt: skip


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert problems_of(text)  # a configuration has at least one door: no short text is one


@given(st.integers(0, len(CONFIG) - 1), st.sampled_from(['"', "[", "]", "=", "\n", "{", "0", "#"]))
def test_no_slip_of_the_pen_breaks_the_reader(place: int, character: str) -> None:
    text = CONFIG[:place] + character + CONFIG[place + 1 :]
    config, report = decode(text, Config, Path())
    assert (config is None) == bool(report.problems)
    assert all(1 <= each.line <= text.count("\n") + 1 for each in report.problems)


# --- what no file of ours says -------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "instead", "message"),
    [
        ('"street.pub.pem"', '"a\\u0000b"', "door[1].lock.key: has characters that nobody can see"),
        ('id = "stairwell-7"', 'id = "stairwell-7"\nstate = "\\u001b[2J"', "gateway.state: has"),
        ('lock.address = "F0:F1:F2:F3:F4:01"', 'lock.serial = "/dev/\\u0000"', "lock.serial: has"),
        ("latch_ms = 3000", f"latch_ms = {'9' * 5000}", "not TOML: exceeds the limit"),
        ("latch_ms = 3000", f"latch_ms = {'[' * 3000}", "not TOML: "),
        ("mqtt://127.0.0.1:1883", "mqtt://[::1", "uplink.broker is not the address of a broker"),
        (
            'id = "stairwell-7"',
            f'id = "a"\nstate = "{"x" * 300}"',
            "x cannot be looked at: File na",
        ),
        ('id = "stairwell-7"', 'id = "a"\nstate = "loop"', "loop is not a directory"),
        ('id = "stairwell-7"', 'id = "a"\nstate = "dangling"', "dangling is not a directory"),
        ("mqtt://127.0.0.1:1883", f'mqtts://a"\nkey = "{"x" * 300}', "x cannot be looked at: File"),
    ],
)
def test_odd_values_are_problems(site: Site, said: str, instead: str, message: str) -> None:
    (site.directory / "loop").symlink_to("loop")
    (site.directory / "dangling").symlink_to("nowhere")
    site.replace("gatewayd.toml", CONFIG.replace(said, instead).encode())
    said_of_it = [each.message for each in check(site.config)]
    assert any(message in each for each in said_of_it), said_of_it


@given(st.lists(st.tuples(st.integers(0, len(CONFIG)), ODD_TEXT), min_size=1, max_size=3))
@example([(CONFIG.index("street.pub.pem"), "\\u0000")])
@example([(CONFIG.index("3000"), "9" * 5000)])
def test_whatever_a_configuration_says_it_can_be_used_or_has_problems(
    changes: list[tuple[int, str]],
) -> None:
    text = CONFIG
    for place, odd in changes:
        text = text[:place] + odd + text[place:]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "gatewayd.toml"
        path.write_text(text, "utf-8")
        assert check(path)  # there are no keys
