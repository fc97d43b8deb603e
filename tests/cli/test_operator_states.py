"""`gatewayd keys state`, `keys floor`, `keys bundle --after`, `cloud publish` and `cloud send`."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware_proto import cose
from firmware_proto.codes import KeyClass
from gatewayd.cli.command import ExitCode
from gatewayd.cloud import outbox
from gatewayd.cloud.authority import Authority, IssuerKey
from gatewayd.config import stated
from gatewayd.core import envelope, state
from gatewayd.core.envelope import EVERYBODY, Floor, Kind
from gatewayd.core.topics import GatewayTopics, everybody_topic, group_topic
from gatewayd.core.trust import verify_bundle
from gatewayd.core.trust_chain import Chain, unpack
from gatewayd.keyfiles import read_p256_private, read_p256_public
from tests.support.commands import Ran
from tests.support.commands import run as ran_


def run(*words: object) -> Ran:
    """Numbers, too."""
    return ran_(*map(str, words))


def done(ran: Ran) -> Ran:
    assert ran.code == ExitCode.DONE, ran.err
    return ran


GROUP = "vestergade-7"
TRUST = """\
group = "vestergade-7"
serial = {serial}
root = "{root}"
recovery = "recovery.pub.pem"
{more}
[[issuer]]
name = "housing"
key = "housing.pub.pem"
classes = ["resident"]
max_lifetime_days = 400
"""
SETTINGS = '[[door]]\nid = "street"\npolicy.guest.rate = 3\n'
DOORS = '[[door]]\nid = "street"\nlock.address = "F0:F1:F2:F3:F4:01"\nlock.key = "l.pub.pem"\n'


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    done(run("keys", "make", "operator", "--into", tmp_path))
    done(run("keys", "make", "recovery", "--into", tmp_path))
    done(run("keys", "make", "issuer", "--into", tmp_path, "--name", "housing"))
    done(run("keys", "make", "lock", "--into", tmp_path, "--name", "l"))
    done(run("keys", "make", "root", "--into", tmp_path, "--name", "next"))
    done(run("keys", "make", "witness", "--into", tmp_path))
    (tmp_path / "settings.toml").write_text(SETTINGS)
    (tmp_path / "doors.toml").write_text(DOORS)
    bundle(tmp_path, 1)
    (tmp_path / "trust.cose").write_bytes((tmp_path / "trust-1.cose").read_bytes())
    return tmp_path


def bundle(  # noqa: PLR0913 - all of it has a default
    at: Path,
    serial: int,
    *,
    signer: str = "root",
    root: str = "root",
    more: str = "",
    code: int = 0,
) -> str:
    text = TRUST.format(serial=serial, root=f"{root}.pub.pem", more=more)
    (at / f"trust-{serial}.toml").write_text(text)
    after = ("--after", at / f"trust-{serial - 1}.cose") if serial > 1 else ()
    ran = run(
        *("keys", "bundle", at / f"trust-{serial}.toml", "--root", at / f"{signer}.pem"),
        *(*after, "--out", at / f"trust-{serial}.cose"),
    )
    assert ran.code == code, ran.err
    return ran.err


def signed(at: Path, kind: str, file: str, *more: object, out: str = "out.cose") -> Path:
    done(
        run(
            *("keys", "state", kind, at / file, "--serial", 3, "--signer", at / "command.pem"),
            *("--out", at / out, *more),
        )
    )
    return at / out


# --- bundles --------------------------------------------------------------------------------
def test_a_root_is_replaced_with_overlap_and_a_stolen_one_by_recovery(operator: Path) -> None:
    bundle(operator, 2, more='other_root = ["next.pub.pem"]')
    bundle(operator, 3, signer="next", root="next")
    assert "no root of the bundle before it signed it" in bundle(operator, 4, code=2)
    bundle(operator, 4, signer="recovery", root="root")
    done(run("keys", "make", "command", "--into", operator, "--name", "later"))
    bundle(operator, 5, more='other_command = ["later.pub.pem"]\n')
    chain = Chain.anchored(
        (operator / "trust-1.cose").read_bytes(),
        _public(operator, "root"),
    ).extended([(operator / f"trust-{n}.cose").read_bytes() for n in (2, 3, 4, 5)])
    assert [link.recovered for link in chain.links] == [False, False, False, True, False]
    assert len(chain.newest.introduced) == 2


def _public(at: Path, name: str):
    return read_p256_public(at / f"{name}.pub.pem", name)


def test_a_bundle_that_would_not_follow_is_not_made(operator: Path) -> None:
    text = TRUST.format(serial=3, root="root.pub.pem", more="")
    (operator / "trust-3.toml").write_text(text)
    ran = run(
        *("keys", "bundle", operator / "trust-3.toml", "--root", operator / "root.pem"),
        *("--after", operator / "trust-1.cose", "--out", operator / "x.cose"),
    )
    assert (ran.code, "serial 3 does not follow 1" in ran.err) == (ExitCode.USAGE, True)
    assert "hint: serial = 2" in ran.err
    assert not (operator / "x.cose").exists()
    same = 'other_root = ["root.pub.pem"]'
    assert "the same key twice" in bundle(operator, 2, more=same, code=2)


def test_inspection_shows_whom_a_bundle_names(operator: Path) -> None:
    witness = '[[witness]]\nname = "cloud"\nkey = "witness.pub.pem"\n'
    bundle(operator, 2, more=witness)
    root = ("--root", operator / "root.pub.pem")
    shown = done(run("keys", "inspect", operator / "trust-2.cose", *root, "--json")).json
    assert shown["witnesses"] == ["cloud"]
    assert len(shown["roots"]) == len(shown["command keys"]) == 1
    assert len(shown["recovery"]) == 16


# --- states ---------------------------------------------------------------------------------
def test_a_state_is_signed_inspected_and_goes_where_it_belongs(operator: Path) -> None:
    settings = signed(operator, "settings", "settings.toml", "--for", GROUP)
    trust = verify_bundle((operator / "trust.cose").read_bytes(), _public(operator, "root"))
    said, _ = state.verify(settings.read_bytes(), trust)
    assert stated.settings(said.body)["street"].guest.settings(KeyClass.GUEST).rate == 3
    believed = ("--root", operator / "root.pub.pem", "--bundle", operator / "trust.cose")
    shown = done(run("keys", "inspect", settings, *believed, "--json")).json
    assert (shown["for"], shown["serial"], shown["subject"]) == (GROUP, 3, "none")
    assert "good" in shown["signature"]
    unchecked = done(run("keys", "inspect", settings, "--json")).json
    assert "NOT CHECKED" in unchecked["signature"]
    doors = signed(operator, "bindings", "doors.toml", "--for", "stairwell-7", out="d.cose")
    lists = signed(
        operator, "list", "doors.toml", "--for", "*", "--subject", "housing", out="l.cose"
    )
    files = [path.read_bytes() for path in (settings, doors, lists)]
    topics = [each.topic for each in outbox.messages(files, trust, _public(operator, "root"))]
    assert topics == [
        group_topic(GROUP, "settings"),
        GatewayTopics("stairwell-7").down("bindings"),  # type: ignore[arg-type] # a gateway's id
        everybody_topic("list", "housing"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("settings", "doors.toml"), "lock is not a setting"),
        (("bindings", "settings.toml"), "door[1] needs either a lock or a relay"),
        (("bindings", "absent.toml"), "absent.toml does not exist"),
        (("list", "doors.toml"), "--subject is for lists"),
        (("settings", "settings.toml", "--subject", "x"), "--subject is for lists"),
        (("credential", "large"), "too large"),
    ],
)
def test_what_cannot_be_meant_is_not_signed(operator: Path, words, message) -> None:
    (operator / "large").write_bytes(bytes(60_000))
    kind, file, *more = words
    ran = run(
        *("keys", "state", kind, operator / file, "--for", "stairwell-7", "--serial", 1),
        *("--signer", operator / "command.pem", "--out", operator / "out.cose", *more),
    )
    assert (ran.code, message in ran.err) == (ExitCode.USAGE, True), ran.err
    assert not (operator / "out.cose").exists()


# --- the floor ------------------------------------------------------------------------------
def test_a_wrong_time_is_taken_back_by_the_root(operator: Path) -> None:
    words = ("keys", "floor", "--for", "*", "--root", operator / "root.pem")
    done(
        run(
            *(*words, "--above", "2040-01-01T00:00Z", "--to", "2030-01-01T00:00Z"),
            *("--out", operator / "floor.cose"),
        )
    )
    trust = verify_bundle((operator / "trust.cose").read_bytes(), _public(operator, "root"))
    order, _ = envelope.opened((operator / "floor.cose").read_bytes(), trust)
    assert (order.kind, order.addressee) == (Kind.FLOOR, EVERYBODY)
    assert Floor.of(order.body) == Floor(2_208_988_800, 1_893_456_000)
    believed = ("--root", operator / "root.pub.pem", "--bundle", operator / "trust.cose")
    shown = done(run("keys", "inspect", operator / "floor.cose", *believed, "--json")).json
    assert shown["kind"] == "operator's statement: floor"
    ran = run(*words, "--above", "2001-01-01T00:00Z", "--out", operator / "other.cose")
    assert (ran.code, "--above is not later" in ran.err) == (ExitCode.USAGE, True)


# --- what is published ------------------------------------------------------------------------
def test_all_bundles_go_as_one_chain_also_after_the_root_was_replaced(operator: Path) -> None:
    bundle(operator, 2, more='other_root = ["next.pub.pem"]')
    bundle(operator, 3, signer="next", root="next")
    files = [(operator / f"trust-{n}.cose").read_bytes() for n in (1, 2, 3)]
    root = _public(operator, "next")
    trust = verify_bundle(files[2], root)
    (message,) = outbox.messages(files, trust, root)
    assert message.topic == group_topic(GROUP, "trust")
    assert unpack(message.payload) == tuple(files)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["trust-1.cose", "trust-3.cose"], "a bundle is missing"),
        (["housing.pub.pem"], "no gateway would take it"),
        (["absent.cose"], "does not exist"),
        (["foreign.cose"], "no command key signed it"),
        (["pull.cose"], "no bundle, state, order or list for gateways"),
        (["slash.cose"], "a name on the broker"),
        (["phone.cwt"], "no bundle, state, order or list for gateways"),
    ],
)
def test_what_no_gateway_would_take_is_not_published(operator: Path, files, message) -> None:
    bundle(operator, 2)
    bundle(operator, 3)
    stranger = Authority.create(GROUP, IssuerKey.create("x"))
    said = state.State(state.StateKind.SETTINGS, GROUP, "", 1, b"")
    (operator / "foreign.cose").write_bytes(state.sign(said, stranger.command))
    pull = envelope.Statement(Kind.PULL, GROUP, bytes(16), 1, [0, 1])
    key = read_p256_private(operator / "command.pem", "command")
    (operator / "pull.cose").write_bytes(envelope.sign(pull, key))
    slash = state.State(state.StateKind.SETTINGS, "a/b", "", 1, b"")
    (operator / "slash.cose").write_bytes(state.sign(slash, key))
    (operator / "phone.cwt").write_bytes(cose.sign1(b"", key, protected={16: "other"}))
    names = [operator / name for name in files]
    ran = run("cloud", "publish", *names, "--keys", operator)
    assert (ran.code, message in ran.err) == (ExitCode.USAGE, True), ran.err
    assert "hint: " in ran.err


def test_a_broker_that_is_away_and_a_directory_that_is_none(operator: Path) -> None:
    settings = signed(operator, "settings", "settings.toml", "--for", GROUP)
    at = ("--broker", "mqtt://127.0.0.1:1")
    ran = run("cloud", "publish", settings, "--keys", operator, *at)
    assert (ran.code, "mqtt://127.0.0.1:1" in ran.err) == (ExitCode.FAILED, True)
    assert run("cloud", "publish", settings, "--keys", operator / "none", *at).code == 2
    ran = run("cloud", "publish", settings, "--keys", operator, "--broker", "mqtt://example.org")
    assert (ran.code, "--broker: " in ran.err) == (ExitCode.USAGE, True)
    (operator / "trust.cose").write_bytes(b"nothing")
    ran = run("cloud", "publish", settings, "--keys", operator, *at)
    assert (ran.code, "is not a bundle that root.pub.pem signed" in ran.err) == (2, True)


def test_an_order_that_could_not_be_sent_is_kept_and_its_number_is_not_used_again(
    operator: Path,
) -> None:
    done(run("keys", "make", "gateway", "--into", operator))
    done(
        run(
            *("keys", "gateway", "--id", "stairwell-7", "--group", GROUP, "--door", "street"),
            *("--keys", operator, "--signer", operator / "gateways.pem"),
            *("--out", operator / "gateway.cwt"),
        )
    )
    words = ("cloud", "send", operator / "gateway.cwt", "retire", "--kept", 0, "--keys", operator)
    for number in (1, 2):
        assert run(*words, "--broker", "mqtt://127.0.0.1:1").code == ExitCode.FAILED
        kept = operator / "sent" / "stairwell-7" / f"{number:06}-retire.cose"
        trust = verify_bundle((operator / "trust.cose").read_bytes(), _public(operator, "root"))
        assert envelope.opened(kept.read_bytes(), trust)[0].number == number
    (operator / "sent" / "stairwell-7" / "notes.txt").write_text("mine")
    assert run(*words, "--broker", "mqtt://127.0.0.1:1").code == ExitCode.FAILED
    assert (operator / "sent" / "stairwell-7" / "000003-retire.cose").exists()
    foreign = ("cloud", "send", operator / "settings.toml", *words[3:])
    assert "is not a credential" in run(*foreign, "--broker", "mqtt://127.0.0.1:1").err
