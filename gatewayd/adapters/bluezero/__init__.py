"""A lock's GATT server that shares no code with ours: bluezero, in a process of its own.

bluezero needs dbus-python, PyGObject and GLib's main loop; `server` is the
program that has them, `peripheral` is our end of the pipe to it. Needs the
extra `bench`, and Debian's python3-dbus and python3-gi.
"""

from gatewayd.adapters.bluezero.peripheral import BluezeroOptions, BluezeroRadio, open_bluezero

__all__ = ["BluezeroOptions", "BluezeroRadio", "open_bluezero"]
