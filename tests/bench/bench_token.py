"""What judging a key token costs beside the one signature that must be verified anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from firmware_proto import cose
from firmware_proto.codes import Action, KeyClass, Presence
from gatewayd.cloud.authority import DAY_S, Authority, IssuerKey, new_key
from gatewayd.core import keytoken, policy
from gatewayd.core.claims import Claims
from gatewayd.core.model import ClockState, DoorId, TimeReading
from gatewayd.core.policy import DoorSettings, OpenRequest, Situation
from gatewayd.core.trust import Trust
from tests.bench.number import Bar, Number, medians, percentile

HOLDERS = 64
ROUNDS = 100
BAR = Bar("<=", 1.5)
NOW_S = 1_800_000_000
NOW = TimeReading(ClockState.TRUSTED, NOW_S, 1.0, NOW_S)
ZONE = ZoneInfo("Europe/Copenhagen")
SETTINGS = DoorSettings()
ES256 = ec.ECDSA(hashes.SHA256())
GROUP = "vestergade-7"
DOOR = "street"
SCOPES = (("street",), ("street", "stairs"), ("street", "yard"), ("street", "stairs", "yard"))


@dataclass(frozen=True, slots=True)
class Presented:
    """One holder's token, and what a bare verification needs of it."""

    token: bytes
    signature: bytes
    signed: bytes


def run(rounds: int = ROUNDS) -> list[Number]:
    """The ratios, all of one run."""
    issuer = IssuerKey.create("vestergade")
    trust = Authority.create(GROUP, issuer).trust()
    keys = [_present(issuer, number) for number in range(HOLDERS)]
    times = _measure(keys, trust, issuer.limits.key, rounds)
    mid = medians(times)
    quiet = {name: percentile(values, 0.1) for name, values in times.items()}
    size = sorted(len(key.token) for key in keys)
    how = (
        f"medians over {rounds * HOLDERS} calls each, the three kinds of call in turn one by one,"
        f" {HOLDERS} holders' tokens of {size[0]} to {size[-1]} bytes with {len(SCOPES)} different"
        f" scopes; bare: ECDSA P-256 verification of the same signature over ready bytes with a"
        f" ready key, {mid['bare'] / 1000:.0f} us"
    )
    decision = "CBOR and claims parsed strictly, signature verified, grants and full policy asked"
    return [
        Number(
            "token decision / bare ES256 verification",
            mid["decision"] / mid["bare"],
            "",
            f"{decision}; {how}",
            BAR,
        ),
        Number(
            "token decision and key object / bare ES256 verification",
            mid["with key"] / mid["bare"],
            "",
            f"the same, and the object of the phone's key made, which MAC_3 needs next; {how}",
        ),
        Number(
            "token decision / bare, first deciles",
            quiet["decision"] / quiet["bare"],
            "",
            "the same calls, first deciles instead of medians: those that other work on the machine"
            " disturbed least",
        ),
        Number("token decision", mid["decision"] / 1000, "us", f"{decision}; {how}"),
    ]


def _present(issuer: IssuerKey, number: int) -> Presented:
    token = issuer.issue(
        Claims(
            issuer="",
            subject=f"h-{1000 + number}",
            audience=GROUP,
            cti=number.to_bytes(8, "big"),
            not_before=NOW_S - 3600,
            expires=NOW_S + DAY_S,
            issued_at=NOW_S - 3600,
            key=new_key().public_key(),
            scope=tuple((door, Action.OPEN) for door in SCOPES[number % len(SCOPES)]),
            key_class=KeyClass.RESIDENT,
        )
    )
    parsed = cose.Sign1.parse(token)
    r, s = parsed.signature[:32], parsed.signature[32:]
    return Presented(
        token,
        encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")),
        cose._to_be_signed(parsed.protected_bytes, b"", parsed.payload),
    )


def decide(token: bytes, trust: Trust) -> keytoken.KeyToken:
    """What `phones` and `door` do with a token, from its bytes to the decision."""
    known = keytoken.authenticate(token, trust)
    granted = keytoken.grants(
        known, trust, audience=GROUP, door=DOOR, action=Action.OPEN, time=NOW, zone=ZONE
    )
    asked = OpenRequest(DoorId(DOOR), Action.OPEN, Presence.TAP)
    decision = policy.decide(granted, asked, Situation(SETTINGS, NOW))
    if not decision.allowed:
        raise AssertionError(decision)
    return known


def _measure(
    keys: Sequence[Presented], trust: Trust, issuer: ec.EllipticCurvePublicKey, rounds: int
) -> dict[str, list[float]]:
    """Nanoseconds of every call. Taken in turn, so that a busy neighbour slows them alike."""

    def bare(key: Presented) -> None:
        issuer.verify(key.signature, key.signed, ES256)

    def decision(key: Presented) -> None:
        decide(key.token, trust)

    def with_key(key: Presented) -> None:
        _ = decide(key.token, trust).key

    calls: dict[str, Callable[[Presented], None]] = {
        "bare": bare,
        "decision": decision,
        "with key": with_key,
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for key in keys:
            for name, call in calls.items():
                began = perf_counter_ns()
                call(key)
                if number:  # the first round warms up
                    times[name].append(perf_counter_ns() - began)
    return times
