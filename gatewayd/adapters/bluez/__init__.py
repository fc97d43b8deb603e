"""The machine's own Bluetooth, through BlueZ: phones connect to us, we connect to locks.

`bus` is the one module that imports dbus-fast; `lock_client` tells bleak what it
must know of BlueZ. Every work-around says which issue explains it. Needs the extra `bluez`.
"""

from gatewayd.adapters.bluez.options import BluezOptions
from gatewayd.adapters.bluez.radio import BluezRadio, open_bluez

__all__ = ["BluezOptions", "BluezRadio", "open_bluez"]
