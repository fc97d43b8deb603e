"""Where the page is to be had: the loopback, or one address of the installer's side."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
import sys
from typing import Final

_SIOCGIFADDR: Final = 0x8915
_NAME_BYTES: Final = 15


class ListeningError(Exception):
    """Nobody can listen there; the message says why, `hint` what else."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def bound(on: str, port: int) -> socket.socket:
    """A socket at an address of this machine, or at an interface's, and to that interface alone.

    Another interface's packets to that address would be accepted otherwise (RFC 1122 §3.3.4.2).
    """
    try:
        address = str(ipaddress.ip_address(on))
        interface = None if ipaddress.ip_address(on).is_loopback else _interface_with(address)
    except ValueError:
        address, interface = _address_of(on), on
    _judge(address)
    where = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        where.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if interface is not None:
            name = interface.encode() + b"\x00"
            where.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
        where.bind((address, port))
        where.listen()  # who comes before the page is ready waits
    except OSError as error:
        where.close()
        raise ListeningError(
            f"cannot listen at {address} port {port}: {error.strerror}",
            "is it an address of this machine, and the port free? --port names another one",
        ) from None
    return where


def _judge(address: str) -> None:
    """The page is for who stands here. A wildcard would be every interface."""
    found = ipaddress.ip_address(address)
    if found.is_unspecified or found.is_multicast or found.is_global:
        raise ListeningError(
            f"{address} is not only the installer's side",
            "name the interface of the cable or hotspot: --on usb0",
        )


def _interface_with(address: str) -> str | None:
    """The interface whose first IPv4 address this is."""
    for _, name in socket.if_nameindex():
        with contextlib.suppress(ListeningError):
            if _address_of(name) == address:
                return name
    return None


def _address_of(interface: str) -> str:
    """The first IPv4 address of an interface."""
    name = interface.encode()
    if sys.platform == "linux" and 0 < len(name) <= _NAME_BYTES:
        asked = struct.pack("256s", name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            try:
                found = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, asked)
                return socket.inet_ntoa(found[20:24])
            except OSError:
                pass
    raise ListeningError(
        f"{interface[:40]} is no interface with an IPv4 address", "ip -brief address lists them"
    )
