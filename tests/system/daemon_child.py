"""`gatewayd run` on the kernel's adapter named by GATEWAYD_TEST_ADAPTER, as a child of the tests.

Only which radio is opened differs from the daemon's own composition.
"""

from __future__ import annotations

import os
import sys

from gatewayd import app
from gatewayd.adapters.bluez import BluezOptions, open_bluez
from gatewayd.cli import main
from gatewayd.config import Config


def _radio(config: Config):
    options = BluezOptions(
        adapter=os.environ["GATEWAYD_TEST_ADAPTER"],
        link_cap=config.radio.max_phone_links + 1,
        start_s=30.0,
    )
    return open_bluez(options)


if __name__ == "__main__":
    app._radio = _radio
    sys.exit(main(sys.argv[1:]))
