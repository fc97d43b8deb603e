"""Locks on serial lines: the protocol in COBS frames, over a UART, USB or RS-485.

A link on a line carries whole frames: the line does the framing, because half
a frame, noise and the echo of our own words outlive every connection. One lock
per line. All of pyserial is used in `port`.
"""

from gatewayd.adapters.serial_line.central import SerialCentral
from gatewayd.adapters.serial_line.line import LineSettings

__all__ = ["LineSettings", "SerialCentral"]
