"""`gatewayd` with a sampler in it: where its processor time goes, without changing its code.

    python -m tests.bench.sampled OUT run -c gatewayd.toml

SIGUSR1 begins, SIGUSR2 ends and writes OUT: how many samples fell into which
part. The kernel interrupts by processor time used, so time spent waiting never
counts. A sample belongs to the innermost frame whose file is listed in `PARTS`;
helpers that everybody uses (CBOR, COSE, messages, framing, conversations)
belong to whoever called them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from gatewayd.cli import main

INTERVAL_S: Final = 0.001
"""Asked for; the kernel may know only its own ticks."""

RADIO: Final = "radio stack"
LOOP: Final = "event loop"
WAITING: Final = "waiting"
"""The main thread waits, so that the time is another thread's, or the wait's own."""

PARTS: Final[dict[str, tuple[str, ...]]] = {
    RADIO: ("/bumble/", "/gatewayd/adapters/virtual_radio/"),
    "handshake with the phone": (
        "/firmware_proto/edhoc.py",
        "/firmware_proto/phone_session.py",
        "/gatewayd/adapters/entropy.py",
    ),
    "token and policy": (
        "/gatewayd/core/keytoken.py",
        "/gatewayd/core/claims.py",
        "/gatewayd/core/policy.py",
    ),
    "record": (
        "/gatewayd/adapters/sqlite/",
        "/gatewayd/core/audit.py",
        "/gatewayd/core/merkle.py",
        "/concurrent/futures/",
    ),
    "lock": (
        "/gatewayd/locks.py",
        "/gatewayd/lock_connection.py",
        "/firmware_proto/lock_session.py",
    ),
    "sealing and opening": ("/firmware_proto/records.py",),
    "receipt": ("/gatewayd/core/receipt.py",),
    "door and phones": (
        "/gatewayd/phones.py",
        "/gatewayd/holders.py",
        "/gatewayd/door.py",
        "/gatewayd/opening.py",
        "/gatewayd/dialling.py",
        "/gatewayd/daemon.py",
        "/gatewayd/timekeeper.py",
        "/gatewayd/core/",
    ),
    "journal": ("/logging/", "/gatewayd/logs.py"),
    "uplink": (
        "/gatewayd/sync.py",
        "/gatewayd/pulling.py",
        "/gatewayd/adapters/mqtt.py",
        "/aiomqtt/",
        "/paho/",
    ),
    WAITING: ("/selectors.py",),
}


def part_of(path: str) -> str | None:
    """The part that a source file belongs to."""
    for part, fragments in PARTS.items():
        if any(fragment in path for fragment in fragments):
            return part
    return None


class Sampler:
    """Counts samples while it is on."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._samples: Counter[str] = Counter()
        self._parts: dict[str, str | None] = {}

    def install(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._end)

    def _begin(self, _number: int, _frame: FrameType | None) -> None:
        self._samples.clear()
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        draft = self._out.with_suffix(".part")
        draft.write_text(json.dumps(self._samples))
        draft.replace(self._out)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        while frame is not None:
            path = frame.f_code.co_filename
            if path not in self._parts:
                self._parts[path] = part_of(path.replace(os.sep, "/"))
            part = self._parts[path]
            if part is not None:
                self._samples[part] += 1
                return
            frame = frame.f_back
        self._samples[LOOP] += 1


if __name__ == "__main__":
    Sampler(Path(sys.argv[1])).install()
    sys.exit(main(sys.argv[2:]))
