"""What every adapter over GATT shares: a connection as a port, and a dialled one through bleak.

`client` needs bleak (extras `bluez` and `phone`), `link` needs nothing.
"""
