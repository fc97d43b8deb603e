"""`gatewayd` whose relays are on chips that are directories: see `fake_gpiod`."""

from __future__ import annotations

import sys

from gatewayd.__main__ import main
from gatewayd.adapters.relay.relay import Relay
from tests.support.gpio import KEEPER

defaults = Relay.__init__.__kwdefaults__
assert defaults is not None
defaults["keeper"] = KEEPER
sys.exit(main())
