"""A door gateway: validates offline keys, opens locks, keeps an honest log."""

__version__ = "0.1.0"
