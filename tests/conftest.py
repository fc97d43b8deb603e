"""For every test: hypothesis judges what is right, never how quick the machine is; Ctrl-C works.

What a module leaves behind is collected at its end, so that it is blamed and no other.
"""

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("gatewayd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gatewayd")

# A shell that starts us in the background lets us ignore it (POSIX 2.11), and so would every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _collect_garbage() -> Iterator[None]:
    yield
    gc.collect()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: most tests wait, and those with deadlines still get their turn."""
    return (os.cpu_count() or 1) + 1
