"""A door gateway: validates offline keys, opens locks, keeps an honest log."""

from typing import Final

__version__: Final = "0.1.0"
