"""Chance from the operating system."""

from __future__ import annotations

import os
import random
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

_SYSTEM: Final = random.SystemRandom()


class SystemEntropy:
    """`ports.process.Entropy` on the kernel's generator."""

    def token_bytes(self, count: int) -> bytes:
        """`count` bytes from the kernel."""
        return os.urandom(count)

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """A fresh P-256 key."""
        return ec.generate_private_key(ec.SECP256R1())

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return _SYSTEM.random()
