"""A Bluetooth LE radio with no radio: google/bumble hosts and controllers on a modelled air.

The ports above see a whole LE stack: HCI, L2CAP, ATT and GATT are bumble's;
only the radio waves (`air`) and what a controller does with them
(`controller`) are modelled here. Needs the extra `demo`.
"""

from gatewayd.adapters.virtual_radio.air import INSTANT, AirModel, VirtualAir
from gatewayd.adapters.virtual_radio.controller import AirController
from gatewayd.adapters.virtual_radio.gatt import LOCK, PHONE, UNCLAIMED, GattService
from gatewayd.adapters.virtual_radio.hci_socket import serve_hci
from gatewayd.adapters.virtual_radio.host import Radio, open_radio
from gatewayd.adapters.virtual_radio.link import Exchanges, RadioLink
from gatewayd.adapters.virtual_radio.stack import RadioOptions

__all__ = [
    "INSTANT",
    "LOCK",
    "PHONE",
    "UNCLAIMED",
    "AirController",
    "AirModel",
    "Exchanges",
    "GattService",
    "Radio",
    "RadioLink",
    "RadioOptions",
    "VirtualAir",
    "open_radio",
    "serve_hci",
]
