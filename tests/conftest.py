"""For every test: hypothesis judges what is right, never how quick the machine is; Ctrl-C works."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("gatewayd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gatewayd")

# A shell that starts us in the background lets us ignore it (POSIX 2.11), and so would every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
