"""A gateway's credential renews itself: what it takes, and what the operator refuses."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from firmware_proto import credential
from firmware_proto.credential import GatewayCredential
from firmware_proto.errors import RemoteProtocolError
from gatewayd import enrolment_app
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.sealing import seal
from gatewayd.adapters.sqlite_invitations import SqliteInvitations, open_invitations
from gatewayd.cloud.authority import issue_gateway_credential
from gatewayd.cloud.enrolling import Enroller, Registrar
from gatewayd.cloud.invitations import Invitation
from gatewayd.core import envelope
from gatewayd.core.certificates import Use
from gatewayd.core.envelope import Kind, Retire, Statement
from gatewayd.core.topics import CERTIFICATE, RENEWED, GatewayTopics, renewing
from gatewayd.core.trust import later
from gatewayd.credential_renewal import MEMORY_NAME, CredentialRenewal
from gatewayd.ports import StorageError
from tests.support.enrolling import CA, DAY_S, GATEWAY, GROUP, NOW, OPERATOR, Device
from tests.support.memory_log import MemoryLog

DEVICE = Device()
LIFE_S = 90 * DAY_S
DUE = NOW + 60 * DAY_S
TRUST = OPERATOR.trust()
TOPIC = GatewayTopics(GATEWAY).renewal(RENEWED)  # type: ignore[arg-type]


def stated(device: Device = DEVICE, **changes: object) -> GatewayCredential:
    ours = GatewayCredential(
        gateway=GATEWAY,
        doors={"street": 2, "cellar": 1},
        group=GROUP,
        issued_at=NOW,
        expires=NOW + LIFE_S,
        key=device.keys.handshake.public_key(),
        log_key=device.keys.log.public_key().public_bytes_raw(),
        receipt_key=device.keys.receipt.public_key(),
    )
    return replace(ours, **changes)  # type: ignore[arg-type]


def signed(ours: GatewayCredential) -> bytes:
    return issue_gateway_credential(ours, OPERATOR.gateways)


OLD = signed(stated())
NEW = signed(stated(issued_at=DUE, expires=DUE + LIFE_S))
WRONG = {
    "cut off": NEW[:-1],
    "more": NEW + b"\0",
    "nobody's": issue_gateway_credential(stated(expires=DUE + LIFE_S), OPERATOR.command),
    "another name": signed(stated(gateway="stairwell-8", expires=DUE + LIFE_S)),
    "another group": signed(stated(group="other", expires=DUE + LIFE_S)),
    "a higher generation": signed(stated(doors={"street": 3, "cellar": 1}, expires=DUE + LIFE_S)),
    "a lower generation": signed(stated(doors={"street": 1, "cellar": 1}, expires=DUE + LIFE_S)),
    "a door less": signed(stated(doors={"street": 2}, expires=DUE + LIFE_S)),
    "other keys": signed(stated(Device(), expires=DUE + LIFE_S)),
}


# --- what a gateway takes -----------------------------------------------------------------
def make(memory: MemoryLog, at_s: int = DUE) -> tuple[CredentialRenewal, list[bytes]]:
    shown: list[bytes] = []
    renewal = CredentialRenewal(stated(), OLD, lambda: TRUST, memory, lambda: at_s, shown.append)
    return renewal, shown


def test_it_asks_when_a_third_is_left_and_not_again_at_once() -> None:
    assert make(MemoryLog(), DUE - 1)[0].question() is None
    renewal, _ = make(MemoryLog())
    assert renewal.question() == OLD
    assert renewal.question() is None
    renewal.now_s = lambda: DUE + 3600
    assert renewal.question() == OLD


async def test_a_later_one_is_kept_and_shown_and_taken_once() -> None:
    memory = MemoryLog()
    renewal, shown = make(memory)
    assert await renewal.answered(NEW)
    assert await memory.load(MEMORY_NAME) == NEW
    assert shown == [NEW]
    assert not await renewal.answered(NEW)  # repeated
    assert not await renewal.answered(OLD)
    assert shown == [NEW]
    assert renewal.question() is None


@pytest.mark.parametrize("name", WRONG)
async def test_what_says_anything_else_is_refused(name: str) -> None:
    memory = MemoryLog()
    renewal, shown = make(memory)
    with pytest.raises(RemoteProtocolError):
        await renewal.answered(WRONG[name])
    assert (await memory.load(MEMORY_NAME), shown) == (None, [])


def test_cut_off_or_changed_anywhere_it_is_none() -> None:
    for at in range(len(NEW)):
        for data in (NEW[:at], NEW[:at] + bytes([NEW[at] ^ 1]) + NEW[at + 1 :]):
            try:
                found = later(data, stated(), TRUST)
            except RemoteProtocolError:
                continue
            # the key id beside the signature is the one thing that nobody signs
            assert found == stated(issued_at=DUE, expires=DUE + LIFE_S)


async def test_what_is_not_kept_is_not_shown() -> None:
    class Full(MemoryLog):
        async def store(self, name: str, value: bytes) -> None:
            raise StorageError("disk full")

    renewal, shown = make(Full())
    with pytest.raises(StorageError):
        await renewal.answered(NEW)
    assert (shown, renewal.data) == ([], OLD)


# --- what the operator gives --------------------------------------------------------------
def enroller(store: SqliteInvitations, at_s: int, *, retired: bool = False) -> Enroller:
    registrar = Registrar(
        root=OPERATOR.root.public_key(),
        bundle=OPERATOR.bundle(),
        group=GROUP,
        gateways=OPERATOR.gateways,
        time=OPERATOR.time,
        authority=CA,
        certificate_s=LIFE_S,
        credential_s=LIFE_S,
        retired=lambda _: retired,
        now_s=lambda: at_s,
        token_bytes=SystemEntropy().token_bytes,
        seal=seal,
    )
    return Enroller(registrar, store)


def enrolled(
    store: SqliteInvitations,
    shown: bytes = OLD,
    used_s: int = NOW,
    device: Device = DEVICE,
    replaces: str | None = None,
) -> None:
    ours = credential.unverified(shown)
    claim = os.urandom(16)
    store.add(
        Invitation(
            id=claim, key=bytes(32), gateway=ours.gateway, doors=ours.doors, broker="mqtts://b",
            authorities=(), expires=used_s + 60, replaces=replaces,
        )
    )  # fmt: skip
    store.use(claim, os.urandom(32), lambda _doors, _before: shown, used_s)
    leaf = CA.issue(
        ours.gateway, device.tls.public_key(), use=Use.CLIENT, now_s=used_s, lifetime_s=LIFE_S,
        serial=os.urandom(16),
    )  # fmt: skip
    store.keep_certificate(ours.gateway, leaf.der)


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    with open_invitations(tmp_path / "i.sqlite") as found:
        yield found


def test_the_same_claims_with_a_later_end(store: SqliteInvitations) -> None:
    enrolled(store)
    answered = enroller(store, DUE).consider(TOPIC, OLD)
    assert answered is not None
    assert (answered.gateway, answered.renewed) == (GATEWAY, RENEWED)
    assert answered.topic == f"gatewayd/v1/gateway/{GATEWAY}/down/renewed"
    assert answered.payload == NEW
    again = enroller(store, DUE + 5).consider(TOPIC, OLD)  # the answer was lost
    assert again is not None
    assert later(again.payload, stated(), TRUST) is not None
    # and that one is renewed, too, when it is due
    assert enroller(store, DUE + 10 * DAY_S).consider(TOPIC, NEW) is None


def test_renewed_again_and_again(store: SqliteInvitations) -> None:
    enrolled(store)
    shown, at_s = OLD, DUE
    for _ in range(4):
        leaf = CA.issue(
            GATEWAY, DEVICE.tls.public_key(), use=Use.CLIENT, now_s=at_s, lifetime_s=LIFE_S,
            serial=os.urandom(16),
        )  # fmt: skip
        store.keep_certificate(GATEWAY, leaf.der)  # as it is renewed beside
        answered = enroller(store, at_s).consider(TOPIC, shown)
        assert answered is not None
        shown, at_s = answered.payload, at_s + 60 * DAY_S


def test_who_gets_nothing(store: SqliteInvitations) -> None:
    assert enroller(store, DUE).consider(TOPIC, OLD) is None  # nobody enrolled
    enrolled(store)
    assert enroller(store, DUE - 1).consider(TOPIC, OLD) is None  # not due
    assert enroller(store, NOW + LIFE_S).consider(TOPIC, OLD) is None  # its certificate lapsed
    assert enroller(store, DUE, retired=True).consider(TOPIC, OLD) is None
    other = GatewayTopics("stairwell-8").renewal(RENEWED)  # type: ignore[arg-type]
    assert enroller(store, DUE).consider(other, OLD) is None
    for name in ("cut off", "nobody's", "another name", "another group", "other keys"):
        assert enroller(store, DUE).consider(TOPIC, WRONG[name]) is None
    assert enroller(store, DUE).consider(TOPIC, OLD) is not None


def test_a_door_that_another_serves_with_a_higher_generation_ends_it(
    store: SqliteInvitations,
) -> None:
    enrolled(store)
    elsewhere = Device()
    higher = signed(stated(elsewhere, gateway="stairwell-9", doors={"street": 3}))
    assert enroller(store, DUE).consider(TOPIC, OLD) is not None
    enrolled(store, higher, device=elsewhere, replaces=GATEWAY)
    assert enroller(store, DUE).consider(TOPIC, OLD) is None


def test_a_new_box_of_the_same_name_ends_the_old_one(store: SqliteInvitations) -> None:
    enrolled(store)
    box = Device()
    theirs = signed(stated(box))
    enrolled(store, theirs, used_s=NOW + 1, device=box)
    assert enroller(store, DUE).consider(TOPIC, OLD) is None
    assert enroller(store, DUE).consider(TOPIC, theirs) is not None


def test_an_order_to_retire_is_known_by_the_key_of_the_log(tmp_path: Path) -> None:
    registry = enrolment_app.Registry(
        office=enrolment_app.Office(
            store=tmp_path / "i.sqlite", root=OPERATOR.root.public_key(), bundle=OPERATOR.bundle()
        ),
        gateways=OPERATOR.gateways,
        time=OPERATOR.time,
        authority=CA,
        certificate_s=LIFE_S,
        credential_s=LIFE_S,
        orders=tmp_path / "sent",
    )
    assert not registry._retired(stated())
    (tmp_path / "sent" / GATEWAY).mkdir(parents=True)
    for number, device in ((1, Device()), (2, DEVICE)):
        said = stated(device)
        order = Statement(
            Kind.RETIRE, GATEWAY, bytes(16), NOW, Retire(0, said.log_key).body(), number
        )
        path = tmp_path / "sent" / GATEWAY / f"{number:06}-retire.cose"
        path.write_bytes(envelope.sign(order, OPERATOR.command))
        assert registry._retired(said)
        assert registry._retired(stated()) is (device is DEVICE)


def test_topics() -> None:
    for kind in (CERTIFICATE, RENEWED):
        found = renewing(GatewayTopics(GATEWAY).renewal(kind))  # type: ignore[arg-type]
        assert found is not None
        assert (found[0].gateway, found[1]) == (GATEWAY, kind)
    for topic in (
        "", f"gatewayd/v1/gateway/{GATEWAY}/up/time", "gatewayd/v1/gateway/+/up/renew",
        "gatewayd/v1/gateway/../up/renew",
    ):  # fmt: skip
        assert renewing(topic) is None
