"""How Bluetooth addresses are written: F0:F1:F2:F3:F4:F5, with /P behind a public one of a peer.

And which address on the network is this very machine.
"""

from __future__ import annotations

import ipaddress
from typing import Final

PATTERN: Final = r"[0-9A-F]{2}(:[0-9A-F]{2}){5}"
PUBLIC: Final = "/P"
"""Behind the address of a peer that is public, not random."""


def plain(address: str) -> str:
    """As the system writes it, without the mark of its type."""
    return address.upper().removesuffix(PUBLIC)


def static_random(octets: bytes) -> str:
    """Of six octets, drawn or derived (Core 5.4, Vol 6, Part B, 1.3.2.1)."""
    first, *others = octets
    return ":".join(f"{octet:02X}" for octet in (first | 0xC0, *others))


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
