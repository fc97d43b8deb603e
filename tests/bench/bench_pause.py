"""How much dearer the same computation is when the processor has just been doing nothing.

A door opens a few times an hour: the gateway never computes in a loop, as
benchmarks do. This says which part of `bench_cpu` is that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc
from tests.bench.number import Number
from tests.support.handshakes import (
    CRED_I,
    CRED_R,
    EPHEMERAL_I,
    ID_CRED_I,
    ID_CRED_R,
    STATIC_I,
    STATIC_R,
)

TIMES = 60
PAUSE_S = 0.05


def run(times: int = TIMES) -> list[Number]:
    """The responder's half of a handshake, in a loop and after pauses."""
    respond_ms()  # warms up
    loop, paused = [], []
    for _ in range(times):
        paused.append(respond_ms(lambda: time.sleep(PAUSE_S)))
        respond_ms()
        loop.append(respond_ms())
    how = (
        f"EDHOC responder with a fresh ephemeral key, medians of {times} in turn, processor time of"
        " the thread"
    )
    return [
        Number("handshake alone, computed in a loop", statistics.median(loop), "ms", how),
        Number(
            f"handshake alone, after {PAUSE_S * 1000:.0f} ms of sleep",
            statistics.median(paused),
            "ms",
            f"{how}; as it happens at a door, caches and clock of the processor cold",
        ),
    ]


def respond_ms(before_each: Callable[[], None] = lambda: None) -> float:
    """Processor milliseconds of both of the responder's steps; the initiator's are not counted."""
    message_1, initiator = edhoc.start(EPHEMERAL_I, b"\x07")
    before_each()
    began = time.thread_time_ns()
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    message_2, responder = edhoc.receive_message_1(message_1).send(
        ephemeral, b"\x08", STATIC_R, ID_CRED_R, CRED_R
    )
    spent = time.thread_time_ns() - began
    answered = initiator.receive(message_2).authenticate(STATIC_R.public_key(), CRED_R)
    message_3, _ = answered.send(STATIC_I, ID_CRED_I, CRED_I)
    before_each()
    began = time.thread_time_ns()
    responder.receive(message_3).authenticate(STATIC_I.public_key(), CRED_I)
    return (spent + time.thread_time_ns() - began) / 1e6
