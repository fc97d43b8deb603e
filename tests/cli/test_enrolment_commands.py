"""Invite, enrol, install: as installer and operator say it, through files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gatewayd import config, enrolment_app, keyfiles
from gatewayd.core.enrolment_progress import Progress
from gatewayd.core.invitation import Claim
from tests.support import commands
from tests.support.commands import Ran
from tests.support.operator_side import invite as invited
from tests.support.operator_side import operator_in

BROKER = ("--broker", "mqtt://127.0.0.1:1")
RELAY = 'relay = { chip = "pinctrl-rp1", line = "GPIO17" }\n'


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return operator_in(tmp_path / "operator")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "box").mkdir()
    return tmp_path / "box"


def cloud(word: str, operator: Path, *more: str | Path) -> Ran:
    return commands.run(
        "cloud", word, *more, "--keys", operator, "--store", operator / "invitations.sqlite"
    )


def invite(operator: Path, *more: str) -> str:
    return invited(operator, *BROKER, *more)


def request(box: Path, claim: str) -> Path:
    path = box.parent / f"{box.name}.request"
    ran = commands.run("setup", "enrol", claim, "--into", box, "--request", path)
    assert ran.code == 0, ran.err
    return path


def answer(operator: Path, asked: Path, name: str = "answer", code: int = 0) -> Path:
    path = asked.with_suffix(f".{name}")
    ran = cloud("enrol", operator, "--request", asked, "--answer", path)
    assert ran.code == code, ran.err
    return path


def finish(box: Path, answered: Path) -> Ran:
    return commands.run("setup", "enrol", "--into", box, "--answer", answered)


def enrolled(operator: Path, box: Path, name: str = "answer") -> Ran:
    return finish(box, answer(operator, request(box, invite(operator)), name))


# --- the whole way ---------------------------------------------------------------------
def test_a_gateway_becomes_the_operators(operator: Path, box: Path) -> None:
    ran = enrolled(operator, box)
    assert ran.code == 0, ran.err
    assert "this is stairwell-7 of vestergade-7 now; it may serve street" in ran.out
    private = {"gateway.pem", "log.pem", "receipt.pem", "tls.key"}
    modes = {path.name: path.stat().st_mode & 0o777 for path in box.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == private
    assert "enrolment.state" not in modes
    path = box / "gatewayd.toml"
    assert [door.id for door in config.load(path, unbound=True).doors] == ["street"]
    (only,) = config.check(path)
    assert "gatewayd setup bind-door" in only.hint
    with path.open("a") as file:  # what bind-door would add
        file.write(RELAY)
    assert config.check(path) == []
    loaded, secrets = config.load_all(path)
    assert loaded.gateway.id == secrets.credential.gateway == "stairwell-7"
    assert secrets.provisioned_time_s is not None
    listed = cloud("invitations", operator)
    assert (listed.code, "used" in listed.out, "ALARM" in listed.out) == (0, True, False)


def test_what_the_operator_keeps_cannot_sign_for_the_claim(operator: Path) -> None:
    claim = Claim.parse(invite(operator))
    kept = (operator / "invitations.sqlite").read_bytes()
    wal = operator / "invitations.sqlite-wal"
    kept += wal.read_bytes() if wal.exists() else b""
    assert claim.key.public_key().public_bytes_raw() in kept
    assert claim.secret not in kept
    assert claim.key.private_bytes_raw() not in kept


def test_a_person_gets_a_code_to_scan_and_groups_to_type(operator: Path) -> None:
    segno = pytest.importorskip("segno")
    ran = cloud("invite", operator, "stairwell-7", "--door", "street", *BROKER)
    text = ran.out[ran.out.index("GD1") : ran.out.index("\n\nwhoever")]
    claim = Claim.parse(text)
    lines = [line for line in ran.out.splitlines() if set(line) & set("█▀▄")]
    scanned = [[half in {" ", mark} for half in line] for line in lines for mark in "▄▀"]
    expected = [
        [bool(dot) for dot in row]
        for row in segno.make_qr(claim.text(), error="l").matrix_iter(border=4)
    ]
    assert scanned[: len(expected)] == expected
    assert claim.secret.hex() not in ran.out


def test_the_same_device_is_answered_again_and_another_is_refused_and_counted(
    operator: Path, box: Path, tmp_path: Path
) -> None:
    claim = invite(operator)
    asked = request(box, claim)
    answer(operator, asked)
    assert finish(box, answer(operator, asked, "again")).code == 0
    credential = (box / "gateway.cwt").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    stolen = request(other, claim)
    ran = finish(other, answer(operator, stolen, code=1))
    assert ran.code == 1
    assert "error: the operator refuses: the claim is used" in ran.err
    assert not (other / "enrolment.state").exists()
    assert not (other / "gateway.cwt").exists()
    listed = cloud("invitations", operator)
    assert listed.code == 1
    assert "ALARM: 1 more time(s)" in listed.out
    # the first is answered all the same
    answer(operator, asked, "third")
    assert (box / "gateway.cwt").read_bytes() == credential


def test_an_answer_is_good_for_one_request_and_once(
    operator: Path, box: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    answered = answer(operator, request(box, invite(operator)))
    request(other, invite(operator))
    ran = finish(other, answered)
    assert (ran.code, "is no answer to our request" in ran.err) == (1, True)
    assert finish(box, answered).code == 0
    ran = finish(box, answered)
    assert (ran.code, "no enrolment is under way" in ran.err) == (2, True)


def test_a_second_claim_keeps_keys_and_configuration(operator: Path, box: Path) -> None:
    enrolled(operator, box)
    kept = {name: (box / name).read_bytes() for name in ("gateway.pem", "log.pem", "tls.key")}
    (box / "gatewayd.toml").write_text("# mine\n")
    certificate = (box / "tls.crt").read_bytes()
    assert enrolled(operator, box, "second").code == 0
    assert {name: (box / name).read_bytes() for name in kept} == kept
    assert (box / "gatewayd.toml").read_text() == "# mine\n"
    assert (box / "tls.crt").read_bytes() == certificate  # it was not due


def test_another_claim_while_asking_keeps_the_keys(operator: Path, box: Path) -> None:
    request(box, invite(operator))
    before = Progress.decode((box / "enrolment.state").read_bytes())
    request(box, invite(operator))
    after = Progress.decode((box / "enrolment.state").read_bytes())
    assert after.keys == before.keys
    assert after.request != before.request


def test_an_expired_claim_is_refused(
    operator: Path, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(box, invite(operator, "--days", "1"))
    later = enrolment_app.now_s() + 86_400
    monkeypatch.setattr(enrolment_app, "now_s", lambda: later)
    ran = finish(box, answer(operator, asked, code=1))
    assert "the claim is expired" in ran.err
    assert "hint: ask the operator for another claim" in ran.err


# --- power cuts ------------------------------------------------------------------------
def cut_after(count: int, act: Callable[[], object]) -> bool:
    """Run `act` in a process of its own that ends, for good, before its `count`th durable step."""
    child = os.fork()
    if child == 0:
        left = [count]

        def counted(real: Callable[..., object]) -> Callable[..., object]:
            def step(*arguments: object, **named: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return real(*arguments, **named)

            return step

        for name in ("fsync", "replace", "unlink", "open", "rename"):
            setattr(os, name, counted(getattr(os, name)))
        code = 8
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), code
    return code == 9


def test_cut_off_at_every_write_it_goes_on_with_the_same_keys_and_request(
    operator: Path, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim.parse(invite(operator))
    enrolment = enrolment_app.enrolment_in(box)
    count = 0
    while cut_after(count, lambda: enrolment.begin(claim)):
        assert enrolment.progress().step.name in ("NOTHING", "ASKING")
        count += 1
    assert count > 4
    begun = enrolment.begin(claim)
    asked = box.parent / "request"
    asked.write_bytes(begun.request)
    answered = answer(operator, asked).read_bytes()
    count = 0
    while cut_after(count, lambda: enrolment.install(enrolment.accept(begun, answered))):
        now = enrolment.progress()
        assert now.request == begun.request
        assert now.keys == begun.keys
        count += 1
    assert count > 50
    assert not (box / "enrolment.state").exists()
    assert sorted(path.name for path in box.iterdir() if path.name.startswith(".")) == []
    for name, pem in begun.keys.items():
        assert (box / name).read_bytes() == pem
    assert cloud("invitations", operator).code == 0


def test_cut_off_while_installing_it_ends_without_asking_again(operator: Path, box: Path) -> None:
    asked = request(box, invite(operator))
    enrolment = enrolment_app.enrolment_in(box)
    granted = enrolment.accept(enrolment.progress(), answer(operator, asked).read_bytes())
    assert cut_after(25, lambda: enrolment.install(granted))
    ran = commands.run("setup", "enrol", "--into", box)
    assert (ran.code, ran.err) == (0, "")
    assert (box / "gateway.cwt").exists()


# --- what can be wrong -----------------------------------------------------------------
def test_what_is_no_claim_is_wrong_usage(box: Path) -> None:
    ran = commands.run("setup", "enrol", "GD1NONSENSE", "--into", box)
    assert (ran.code, list(box.iterdir())) == (2, [])
    assert ran.err.startswith("error: this is no claim: ")


def test_without_a_network_it_says_what_to_do(operator: Path, box: Path) -> None:
    ran = commands.run("setup", "enrol", invite(operator), "--into", box)
    assert ran.code == 1
    assert "hint: is there a network? without one: --request FILE" in ran.err
    assert (box / "enrolment.state").stat().st_mode & 0o777 == 0o600


def test_a_damaged_state_is_told(box: Path) -> None:
    keyfiles.keep_file(box / "enrolment.state", b"nonsense")
    ran = commands.run("setup", "enrol", "--into", box)
    assert (ran.code, "is damaged" in ran.err) == (2, True)


def test_a_claim_is_read_from_a_pipe(
    operator: Path, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io  # noqa: PLC0415

    monkeypatch.setattr("sys.stdin", io.StringIO(invite(operator).lower() + "\n"))
    assert request(box, "-").exists()


def test_a_request_of_another_operators_claim_is_not_answered(
    operator: Path, box: Path, tmp_path: Path
) -> None:
    other = operator_in(tmp_path / "other-operator")
    asked = request(box, invite(other))
    ran = cloud("enrol", operator, "--request", asked, "--answer", tmp_path / "a")
    assert (ran.code, "deserves no answer" in ran.err) == (1, True)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["ca.pem", "ca.crt", "gateways.pem", "time.pem", "trust.cose"])
def test_a_missing_key_of_the_operators_is_named(operator: Path, name: str) -> None:
    (operator / name).unlink()
    ran = cloud("enrol", operator, "--request", operator / "root.pub.pem")
    assert ran.code == 2
    assert name in ran.err


def test_files_that_do_not_fit_are_told(operator: Path, tmp_path: Path) -> None:
    (operator / "ca.crt").write_text("nonsense")
    ran = cloud("enrol", operator)
    assert (ran.code, "no certificates in PEM form" in ran.err) == (2, True)
    (operator / "trust.cose").write_bytes(b"nonsense")
    ran = cloud("invitations", operator)
    assert (ran.code, "is not what root.pub.pem signed" in ran.err) == (2, True)
    (operator / "trust.cose").unlink()
    again = operator_in(tmp_path / "again")
    (again / "invitations.sqlite").write_bytes(b"my diary")
    assert cloud("invitations", again).code == 1


def test_a_broker_that_is_none_is_wrong_usage(operator: Path) -> None:
    ran = cloud("invite", operator, "a", "--door", "street", "--broker", "nonsense and more")
    assert (ran.code, "--broker" in ran.err) == (2, True)
    ran = cloud("enrol", operator, "--broker", "nonsense")
    assert (ran.code, "--broker" in ran.err) == (2, True)


def test_a_program_gets_documents(operator: Path, box: Path) -> None:
    claim = invite(operator)
    path = box.parent / "r"
    ran = commands.run("setup", "enrol", claim, "--into", box, "--request", path, "--json")
    assert ran.json == {"request": str(path)}
    ran = cloud("enrol", operator, "--request", path, "--answer", box.parent / "a", "--json")
    assert ran.json == {"gateway": "stairwell-7", "refusal": None}
    ran = commands.run("setup", "enrol", "--into", box, "--answer", box.parent / "a", "--json")
    assert json.loads(ran.out)["doors"] == {"street": 1}
    (listed,) = cloud("invitations", operator, "--json").json
    assert (listed["gateway"], listed["alarms"]) == ("stairwell-7", 0)


def test_a_claim_is_not_passed_over_for_the_one_that_was_answered(
    operator: Path, box: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = answer(operator, request(box, invite(operator)))

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(enrolment_app.Enrolment, "install", cut)
        assert finish(box, answered).code == 1
    ran = commands.run("setup", "enrol", invite(operator), "--into", box)
    assert (ran.code, "has become stairwell-7 with another claim" in ran.err) == (2, True)
    assert "hint: say gatewayd setup enrol first" in ran.err
    assert commands.run("setup", "enrol", "--into", box).code == 0


def test_where_keys_are_made_is_said_when_they_are(operator: Path, box: Path) -> None:
    where = ("--key-in", "pkcs11:token=a?module-path=/b")
    ran = commands.run("setup", "enrol", "--into", box, *where)
    assert (ran.code, "--key-in goes with a claim" in ran.err) == (2, True)
    claim = invite(operator)
    request(box, claim)
    ran = commands.run("setup", "enrol", claim, "--into", box, *where)
    assert (ran.code, "was begun without a secure element" in ran.err) == (2, True)


def test_an_operators_next_authority_signs_for_who_has_a_certificate_of_the_last(
    operator: Path, box: Path
) -> None:
    assert enrolled(operator, box).code == 0
    before = (box / "tls.crt").read_bytes()
    for name in ("ca.pem", "ca.pub.pem", "ca.crt"):
        (operator / name).unlink()
    assert commands.run("keys", "make", "operator-ca", "--into", operator).code == 0
    assert enrolled(operator, box, "again").code == 0
    assert (box / "tls.crt").read_bytes() != before
