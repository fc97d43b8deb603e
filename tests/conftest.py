"""For every test: hypothesis judges what is right, never how quick the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("gatewayd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gatewayd")
