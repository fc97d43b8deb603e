"""What a device remembers of its enrolment: a table, and one value that is read strictly."""

from __future__ import annotations

import itertools
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_proto import cbor
from firmware_proto.errors import LocalProtocolError
from gatewayd.core.enrolment_progress import NEXT, DamagedProgressError, Event, Progress, Step

KEYS = {name: name.encode() for name in ("gateway.pem", "log.pem", "receipt.pem", "tls.key")}
ASKING = Progress().begun("GD1", KEYS, b"answer key", b"request")
ANSWERED = ASKING.granted(b"answer")
BY_STEP = {Step.NOTHING: Progress(), Step.ASKING: ASKING, Step.ANSWERED: ANSWERED}


def move(progress: Progress, event: Event) -> Progress:
    if event is Event.BEGIN:
        return progress.begun("GD1", KEYS, b"", b"")
    return progress.granted(b"") if event is Event.GRANTED else progress.ended(event)


@pytest.mark.parametrize(("step", "event"), list(itertools.product(Step, Event)))
def test_only_what_the_table_has_is_done(step: Step, event: Event) -> None:
    if (step, event) in NEXT:
        assert move(BY_STEP[step], event).step is NEXT[step, event]
    else:
        with pytest.raises(LocalProtocolError):
            move(BY_STEP[step], event)


def test_every_step_but_nothing_is_kept_and_read_back() -> None:
    for progress in (ASKING, ANSWERED):
        assert Progress.decode(progress.encode()) == progress
    with pytest.raises(DamagedProgressError):
        Progress.decode(Progress().encode())


def test_what_has_ended_keeps_no_key() -> None:
    assert ANSWERED.ended(Event.INSTALLED) == Progress()
    assert "answer key" not in repr(ASKING)


def kept(*fields: cbor.Encodable) -> bytes:
    body = cbor.encode([*fields])
    return body + sha256(body).digest()[:8]


def test_anything_else_is_damage() -> None:
    whole = ANSWERED.encode()
    fields = cbor.decode(whole[:-8])
    assert isinstance(fields, list)
    assert kept(*fields) == whole  # type: ignore[arg-type]
    others = [
        kept(*fields, 1),  # type: ignore[arg-type]
        kept(1, *fields[1:]),  # type: ignore[arg-type]
        kept(fields[0], 3, *fields[2:]),  # type: ignore[arg-type]
        kept(*fields[:3], {**KEYS, "other": b""}, *fields[4:]),  # type: ignore[arg-type]
        kept(*fields[:3], {**KEYS, "tls.key": 1}, *fields[4:]),  # type: ignore[arg-type]
        kept()[1:],
        whole + b"\0",
        *(whole[:length] for length in range(len(whole))),
        *(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))),
    ]
    for other in others:
        with pytest.raises(DamagedProgressError):
            Progress.decode(other)


@given(st.binary(max_size=60))
def test_nothing_but_damage_comes_out_of_any_bytes_with_a_checksum(data: bytes) -> None:
    with pytest.raises(DamagedProgressError):
        Progress.decode(data + sha256(data).digest()[:8])


@given(st.binary(max_size=60))
def test_nothing_but_damage_comes_out_of_any_bytes(data: bytes) -> None:
    with pytest.raises(DamagedProgressError):
        Progress.decode(data)
