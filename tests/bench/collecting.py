"""`gatewayd` that collects its garbage when it is told to: what it then holds, it holds.

    python -m tests.bench.collecting run -c gatewayd.toml

SIGUSR1 collects. Otherwise cycles of one opening wait for those of a hundred
others, and growth that is none hides growth that is one.
"""

from __future__ import annotations

import gc
import signal
import sys

from gatewayd.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: gc.collect())
    sys.exit(main())
