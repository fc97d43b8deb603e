"""The Bluetooth of a laptop, for a phone on it: Linux, macOS and Windows, through bleak.

Unlike `bluez` it keeps nothing alive: it looks, dials and hangs up for one
command. Needs the extra `phone`.
"""

from gatewayd.adapters.bleak_radio.central import BleakOptions, BleakRadio, open_bleak

__all__ = ["BleakOptions", "BleakRadio", "open_bleak"]
