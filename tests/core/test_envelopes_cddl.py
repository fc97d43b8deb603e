"""The schema in docs/envelopes.md accepts what is sent, and refuses what the code refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pycddl import Schema, ValidationError

from firmware_proto import cbor, cose
from firmware_proto.codes import Outcome, Reason
from gatewayd.cloud.authority import Authority, IssuerKey, new_key
from gatewayd.core import answers, envelope, state
from gatewayd.core.answers import Opened
from gatewayd.core.envelope import Floor, Kind, Retire, Statement, TimeAnswer
from gatewayd.core.erasure import Erase, Erased, Run
from gatewayd.core.helpdesk import Open
from gatewayd.core.model import DoorId, Verdict
from gatewayd.core.pull import Ack, Pull
from gatewayd.core.state import State, StateKind
from gatewayd.core.trust import Role, sign_bundle
from gatewayd.core.trust_chain import pack

PAGE = (Path(__file__).parents[2] / "docs" / "envelopes.md").read_text()
(RULES,) = re.findall(r"```cddl\n(.*?)```", PAGE, re.DOTALL)
OPERATOR = Authority.create("house-7", IssuerKey.create("housing"))
ORDERS = {
    Kind.PULL: Pull(0, 4096).body(),
    Kind.ACK: Ack(9, b"note").body(),
    Kind.TIME: TimeAnswer(bytes(16), 1_800_000_000).body(),
    Kind.RETIRE: Retire(7, bytes(32)).body(),
    Kind.FLOOR: Floor(9, 5).body(),
    Kind.OPEN: Open(DoorId("street"), 5).body(),
    Kind.DIAGNOSE: None,
    Kind.ERASE: Erase((Run(1, 3), Run(5, 5))).body(),
}


def schema(rule: str) -> Schema:
    return Schema(f"start = {rule}\n{RULES}")


def payload(data: bytes) -> bytes:
    return cose.Sign1.parse(data).payload


def changed(data: bytes) -> list[bytes]:
    """One item less, one more, and each replaced by what it never is."""
    items = cbor.decode(data)
    assert isinstance(items, list)
    wrong = [items[:-1], [*items, 0]]
    wrong += [[*items[:at], False, *items[at + 1 :]] for at in range(len(items))]
    return [cbor.encode(each) for each in wrong]


def test_bundles_and_chains() -> None:
    more = replace(
        OPERATOR.trust(2),
        recovery=new_key().public_key(),
        others={Role.COMMAND: (new_key().public_key(),)},
        witnesses={"w": bytes(32)},
    )
    bundles = [OPERATOR.bundle(1), sign_bundle(more, OPERATOR.root)]
    schema("trust-chain").validate_cbor(pack(bundles))
    for bundle in bundles:
        schema("trust").validate_cbor(payload(bundle))
        for wrong in changed(payload(bundle)):
            with pytest.raises(ValidationError):
                schema("trust").validate_cbor(wrong)


@pytest.mark.parametrize("kind", StateKind)
def test_states(kind: StateKind) -> None:
    data = payload(state.sign(State(kind, "gw", "", 1, b"body"), OPERATOR.command))
    schema("state").validate_cbor(data)
    for wrong in changed(data):
        with pytest.raises(ValidationError):
            schema("state").validate_cbor(wrong)


@pytest.mark.parametrize("kind", Kind)
def test_orders(kind: Kind) -> None:
    number = 1 if kind in envelope.NUMBERED else None
    order = Statement(kind, "gw", bytes(16), 5, ORDERS[kind], number)
    data = payload(envelope.sign(order, OPERATOR.command))
    schema("order").validate_cbor(data)
    schema(f"{kind.name.lower()}-body").validate_cbor(cbor.encode(order.body))
    for wrong in changed(data)[:-1]:  # the last is the body, which may be anything here
        with pytest.raises(ValidationError):
            schema("order").validate_cbor(wrong)


def test_answers() -> None:
    key = Ed25519PrivateKey.generate()
    opened = Opened(Verdict(Outcome.UNKNOWN, Reason.LOCK_SILENT), 7, b"receipt").body()
    for body in (opened, [2, 1, None, None]):
        data = answers.sign(Kind.OPEN, bytes(16), body, "gatewayd/gw", key)
        schema("answer").validate_cbor(payload(data))
        schema("open-answer").validate_cbor(cbor.encode(body))
    schema("erase-answer").validate_cbor(cbor.encode(Erased(3, 9, clean=True).body()))
    for wrong in changed(cbor.encode(opened)):
        with pytest.raises(ValidationError):
            schema("open-answer").validate_cbor(wrong)


def test_every_kind_is_in_the_page() -> None:
    for kind in (*Kind, *StateKind):
        assert re.search(rf"\b{kind.name.lower()}: {int(kind)}\b", RULES)
