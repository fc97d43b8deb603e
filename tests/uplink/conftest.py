from __future__ import annotations

import pytest

from tests.support.brokers import make_broker


@pytest.fixture
async def broker(tmp_path):
    """A running broker: amqtt, or mosquitto when GATEWAYD_TEST_BROKER says so."""
    started = make_broker(tmp_path)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()
