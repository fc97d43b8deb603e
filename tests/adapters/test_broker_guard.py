"""Limits on a broker, judged byte by byte as in one piece."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.adapters.broker_guard import BrokerGuard, BrokerMisbehavedError, Limits
from tests.support.rogue_broker import ACCEPTED, frame, publish

SMALL = Limits(
    packet_bytes=300, packets_per_minute=10, bytes_per_minute=5000, unread_acknowledgements=3
)


def feed(data: bytes, limits: Limits = SMALL, step: int = 10_000) -> None:
    guard = BrokerGuard(limits)
    for start in range(0, len(data), step):
        guard.received(data[start : start + step], 0.0)


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
def test_an_honest_stream_passes_in_any_slices(step):
    stream = ACCEPTED + publish("t", b"x" * 290) + publish("t", b"", quality=1) + b"\xd0\x00"
    feed(stream, step=step)


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (frame(0x30, b"x" * 301), "longer"),
        (b"\x30\xff\xff\xff\x7f", "longer"),
        (b"\x30\x80\x80\x80\x80\x01", "longer"),
        (b"\xd0\x00" * 11, "packets"),
        (publish("t", b"", quality=2), "QoS 2"),
        (publish("t", b"", quality=3), "QoS 2"),
        (publish("t", b"", quality=1) * 4, "acknowledgements"),
    ],
)
def test_whatever_oversteps_is_noticed(stream, why, step):
    with pytest.raises(BrokerMisbehavedError, match=why):
        feed(stream, step=step)


def test_bytes_a_minute_are_limited_and_the_next_minute_is_a_new_one():
    guard = BrokerGuard(Limits(bytes_per_minute=100, packets_per_minute=2))
    guard.received(frame(0x30, b"x" * 98), 0.0)
    with pytest.raises(BrokerMisbehavedError, match="bytes"):
        guard.received(b"\xd0", 59.9)
    guard = BrokerGuard(Limits(bytes_per_minute=100, packets_per_minute=1))
    for minute in range(3):
        guard.received(frame(0x30, b"x" * 98), 60.0 * minute)


def test_a_broker_that_reads_may_send_on():
    guard = BrokerGuard(SMALL)
    for _ in range(9):
        guard.received(publish("t", b"", quality=1), 0.0)
        guard.sent()


@given(st.binary(max_size=400), st.integers(1, 50))
@settings(max_examples=60)
def test_slices_never_change_the_verdict(data, step):
    def verdict(width):
        try:
            feed(data, step=width)
        except BrokerMisbehavedError as error:
            return str(error)
        return None

    assert verdict(step) == verdict(len(data) or 1)
