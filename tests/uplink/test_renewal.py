"""A certificate renews itself while its gateway is connected, and has a way back when it lapsed."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from gatewayd import keyfiles, renewal, uplink_app
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.entropy import SystemEntropy
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.adapters.sealing import seal
from gatewayd.adapters.sqlite_invitations import open_invitations
from gatewayd.cloud.enrolling import Enroller, Registrar
from gatewayd.cloud.invitations import Invitation, InvitationStore
from gatewayd.config import Config
from gatewayd.config.decode import decode
from gatewayd.config.model import Uplink
from gatewayd.core import certificates
from gatewayd.core.certificates import Certificate, Use
from gatewayd.core.enrolment import Refusal
from gatewayd.core.invitation import Claim, claim_id
from gatewayd.core.model import ClockState, TimeReading
from gatewayd.core.renewal import Issued
from gatewayd.core.topics import CERTIFICATE, GatewayTopics
from gatewayd.enrolment_app import now_s
from gatewayd.ports import StorageError
from tests.support.enrolling import CA, GATEWAY, OPERATOR, Device, make_claim
from tests.support.memory_log import MemoryLog
from tests.support.uplink import TOPICS, gateway_mqtt, make_uplink, running, until

DEVICE = Device()
START = now_s()


def leaf(*, since: int = START, lifetime_s: int = 90, device: Device = DEVICE) -> Certificate:
    return CA.issue(
        GATEWAY, device.tls.public_key(),
        use=Use.CLIENT, now_s=since, lifetime_s=lifetime_s, serial=os.urandom(16),
    )  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    keyfiles.create_files({tmp_path / "tls.key": keyfiles.private_pem(DEVICE.tls)})
    (tmp_path / "tls.crt").write_bytes(leaf().pem() + CA.certificate.pem())
    return tmp_path


def load(box: Path, at_s: int = START) -> renewal.Renewal | None:
    return renewal.load(
        gateway=GATEWAY,
        trust=OPERATOR.trust,
        certificate=box / "tls.crt",
        key=box / "tls.key",
        state=box / "state",
        now_s=lambda: at_s,
    )


def loaded(box: Path, at_s: int = START) -> renewal.Renewal:
    found = load(box, at_s)
    assert found is not None
    return found


def enroller(store: object, *, at_s: int, lifetime_s: int = 90) -> Enroller:
    registrar = Registrar(
        root=OPERATOR.root.public_key(),
        bundle=OPERATOR.bundle(),
        group=OPERATOR.group,
        gateways=OPERATOR.gateways,
        time=OPERATOR.time,
        authority=CA,
        certificate_s=lifetime_s,
        now_s=lambda: at_s,
        token_bytes=SystemEntropy().token_bytes,
        seal=seal,
    )
    return Enroller(registrar, store)  # type: ignore[arg-type]


def signed(certificate: Certificate) -> bytes:
    return Issued(certificate, CA.certificate).sign(OPERATOR.gateways)


# --- the gateway's side -----------------------------------------------------------------
def test_it_asks_when_a_third_is_left_and_not_again_at_once(box: Path) -> None:
    found = loaded(box)
    assert found.question() is None
    late = loaded(box, START + 61)
    request = late.question()
    assert request is not None
    assert certificates.key_of_request(request) == DEVICE.tls.public_key()
    assert late.question() is None


async def test_the_next_one_is_kept_and_found_again(box: Path) -> None:
    found = loaded(box)
    following = leaf(since=START + 60)
    assert await found.answered(signed(following))
    assert not await found.answered(signed(following))  # repeated
    assert not await found.answered(signed(leaf(since=START - 100)))  # an older one
    again = loaded(box)
    assert again.held == following
    assert Certificate.parse(certificates.from_pem(again.path.read_bytes())[0]) == following


async def test_a_configured_one_that_is_newer_counts(box: Path) -> None:
    await loaded(box).answered(signed(leaf(since=START + 60)))
    newest = leaf(since=START + 1000)
    (box / "tls.crt").write_bytes(newest.pem())
    assert loaded(box).held == newest


async def test_a_disk_that_takes_nothing_loses_nothing(box: Path) -> None:
    found = loaded(box)
    before = found.held
    found.path = box / "nowhere" / "tls.crt"
    with pytest.raises(StorageError):
        await found.answered(signed(leaf(since=START + 60)))
    assert found.held == before


def test_what_is_not_ours_to_renew_is_used_as_it_is(box: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    (box / "tls.crt").write_bytes(leaf(device=Device()).pem())
    assert load(box) is None
    (box / "tls.crt").write_bytes(b"nonsense")
    assert load(box) is None
    (box / "tls.crt").write_bytes(leaf().pem())
    (box / "state" / "tls.crt").mkdir()
    assert load(box) is None


def test_when_it_ends_is_known_whosever_it_is(box: Path) -> None:
    ours, state = box / "tls.crt", box / "state"
    held = Certificate.parse(certificates.from_pem(ours.read_bytes())[0])
    assert renewal.term(ours, state) == uplink_app._term(ours) == (held.since, held.until)
    (state / "tls.crt").write_bytes(leaf(since=START + 60).pem())
    assert renewal.term(ours, state) == (held.since + 60, held.until + 60)
    (state / "tls.crt").write_bytes(leaf(since=START - 60).pem())
    assert renewal.term(ours, state) == (held.since, held.until)
    (state / "tls.crt").write_bytes(leaf(since=START + 60, device=Device()).pem())
    assert renewal.term(ours, state) == (held.since, held.until)
    (state / "tls.crt").write_bytes(b"nonsense")
    assert renewal.term(ours, state) == (held.since, held.until)
    # of another authority, for a key that is none of P-256
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "box")])
    since, until = datetime(1969, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    foreign = x509.CertificateBuilder(name, name, key.public_key(), 1, since, until).sign(key, None)
    ours.write_bytes(foreign.public_bytes(Encoding.PEM))
    assert renewal.term(ours, state) == (0, int(until.timestamp()))
    ours.write_bytes(b"nonsense")
    assert renewal.term(ours, state) is None
    ours.unlink()
    assert renewal.term(ours, state) is None


@pytest.mark.parametrize(
    ("state", "known_s"),
    [(ClockState.TRUSTED, START + 61), (ClockState.UNKNOWN, START)],
    ids=("trusted", "unknown"),
)
def test_the_daemon_asks_by_its_own_time_and_without_one_by_its_floor(
    box: Path, state: ClockState, known_s: int
) -> None:
    text = (
        '[gateway]\nid = "stairwell-7"\n[radio]\nkind = "bluez"\n'
        '[uplink]\nbroker = "mqtts://b"\ncertificate = "tls.crt"\nkey = "tls.key"\n'
        '[[door]]\nid = "street"\nrelay = { chip = "c", line = 1 }\n'
    )
    config, _ = decode(text, Config, box)
    assert config is not None
    assert config.uplink is not None

    def now_s() -> int:
        return uplink_app._now_s(lambda: TimeReading(state, START + 61, 60.0, START))

    found = uplink_app._renewal(config, config.uplink, OPERATOR.trust, now_s)
    assert found is not None
    assert found.now_s() == known_s
    without = Uplink(broker="mqtt://127.0.0.1")
    assert uplink_app._renewal(config, without, OPERATOR.trust, now_s) is None


# --- both, over a broker -----------------------------------------------------------------
async def test_it_is_renewed_over_the_session_while_a_stranger_talks(broker, box: Path) -> None:
    short = leaf(since=now_s() - 80)
    (box / "tls.crt").write_bytes(short.pem())
    found = renewal.load(
        gateway=GATEWAY, trust=OPERATOR.trust, certificate=box / "tls.crt",
        key=box / "tls.key", state=box / "state", now_s=now_s,
    )  # fmt: skip
    assert found is not None
    with open_invitations(box / "invitations.sqlite") as store:
        store.keep_certificate(GATEWAY, short.der)
        cloud = enroller(store, at_s=now_s())
        settings = MqttSettings(
            host="127.0.0.1", port=broker.address.port, client_id="cloud",
            subscriptions=("gatewayd/v1/gateway/+/up/renew",),
        )  # fmt: skip
        uplink = make_uplink(
            MemoryLog(), gateway_mqtt(broker.address).connect, renewals={CERTIFICATE: found},
        )  # fmt: skip
        async with Mqtt(settings).connect() as session:
            down = GatewayTopics(TOPICS.gateway).down("certificate")
            serving = asyncio.create_task(
                cloud.serve(session, lambda answered: bool(answered.renewed))
            )
            async with running(uplink):
                await until(lambda: found.held != short)
                await until(lambda: uplink.counts["taken"] == 1)
                for _ in range(10):
                    await session.publish(down, os.urandom(40))
                await until(lambda: uplink.counts["ignored: malformed"] == 10)
                assert not uplink.counts["sessions ended"]
            await serving
        assert store.certificate(GATEWAY) == found.held.der


async def test_the_cloud_renews_only_for_the_key_that_is_certified_and_lasts(tmp_path) -> None:
    topic = GatewayTopics(TOPICS.gateway).renewal(CERTIFICATE)
    request = certificates.request(GATEWAY, DEVICE.tls)
    with open_invitations(tmp_path / "i.sqlite") as store:
        cloud = enroller(store, at_s=START)
        assert cloud.consider(topic, request) is None  # never enrolled
        store.keep_certificate(GATEWAY, leaf().der)
        assert cloud.consider(topic, certificates.request(GATEWAY, Device().tls)) is None
        early = cloud.consider(topic, request)
        assert early is not None
        assert store.certificate(GATEWAY) == leaf_of(early.payload).der
        late = enroller(store, at_s=START + 61)
        again = [late.consider(topic, request) for _ in range(2)]
        assert len({each.payload for each in again if each is not None}) == 1  # one, twice told
        assert enroller(store, at_s=START + 1000).consider(topic, request) is None  # lapsed
        assert cloud.counts["authentication_failed"] == 2


def invited(
    store: InvitationStore, claim: Claim, gateway: str = GATEWAY, replaces: str | None = None
) -> None:
    public = claim.key.public_key()
    store.add(
        Invitation(
            id=claim_id(public), key=public.public_bytes_raw(), gateway=gateway,
            doors={"street": 1}, broker="mqtts://b:1", authorities=(), expires=START + 60,
            replaces=replaces,
        )
    )  # fmt: skip


def test_a_box_takes_nothing_by_an_earlier_claim_of_its_name(tmp_path) -> None:
    """Its requests are on the broker for all to see, and to say again."""
    claims = [make_claim(secret=bytes([number]) * 16, expires=START + 60) for number in range(4)]
    old, other = Device(), Device()
    with open_invitations(tmp_path / "i.sqlite") as store:
        cloud = enroller(store, at_s=START)
        for claim in claims:
            invited(store, claim)
        before = old.request(claims[0]).sign(claims[0])
        assert cloud.answer(before).refusal is None
        assert cloud.answer(before).refusal is None  # it lost its power
        assert cloud.answer(old.request(claims[2]).sign(claims[2])).refusal is None
        assert cloud.answer(before).refusal is Refusal.USED
        unused = cloud.answer(old.request(claims[1]).sign(claims[1]))
        assert unused.refusal is Refusal.EXPIRED
        anothers = cloud.answer(other.request(claims[3]).sign(claims[3]))
        assert anothers.refusal is Refusal.OTHER_KEYS


def test_the_box_before_takes_nothing_back_from_its_successor(tmp_path) -> None:
    first, second = (make_claim(secret=bytes([n]) * 16, expires=START + 60) for n in range(2))
    old, new = Device(), Device()
    with open_invitations(tmp_path / "i.sqlite") as store:
        cloud = enroller(store, at_s=START)
        invited(store, first)
        invited(store, second, "stairwell-8", replaces=GATEWAY)
        before = old.request(first).sign(first)
        assert cloud.answer(before).refusal is None
        assert cloud.answer(new.request(second).sign(second)).refusal is None
        held = store.certificate(GATEWAY)
        late = enroller(store, at_s=START + 61)  # when its certificate is due
        assert late.answer(before).refusal is Refusal.SUPERSEDED
        assert store.certificate(GATEWAY) == held
        topic = GatewayTopics(TOPICS.gateway).renewal(CERTIFICATE)
        assert late.consider(topic, certificates.request(GATEWAY, old.tls)) is None


def leaf_of(payload: bytes) -> Certificate:
    trust = OPERATOR.trust()
    return Issued.verify(payload, trust, GATEWAY, DEVICE.tls.public_key()).certificate
