"""The wire protocol between phones, gateways and locks: no clock, no randomness, no I/O."""
