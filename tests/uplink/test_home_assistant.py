"""Home Assistant: what its documentation asks of an announcement; nothing to open."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys

import pytest

from gatewayd import uplink_app
from gatewayd.adapters.broker_settings import MqttSettings
from gatewayd.adapters.mqtt import Mqtt
from gatewayd.config.decode import decode as decode_config
from gatewayd.config.model import Config
from gatewayd.core.model import GatewayId
from gatewayd.home_assistant import announcement
from gatewayd.status import LockStatus, Status, StorageStatus, encode
from tests.support.reference import EXAMPLE
from tests.support.uplink import (
    GATEWAY,
    TOPICS,
    filled_log,
    gateway_mqtt,
    make_uplink,
    running,
)

TOPIC, PAYLOAD = announcement("homeassistant", GATEWAY, ["street", "back.yard"])
TOLD = json.loads(PAYLOAD)
PYTHON = shutil.which("python3") or sys.executable
HAS_JINJA = subprocess.run(
    [PYTHON, "-c", "import jinja2"], capture_output=True, check=False
).returncode == 0  # fmt: skip

RENDER = """
import json, sys, jinja2
template, status = json.load(sys.stdin)
environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
print(environment.from_string(template).render(value_json=status), end="")
"""


def render(component: str, status: Status) -> str:
    """As Home Assistant does: Jinja, with the payload's JSON as value_json."""
    template = TOLD["components"][f"gatewayd_stairwell-7_{component}"]["value_template"]
    return subprocess.run(
        [PYTHON, "-c", RENDER], input=json.dumps([template, json.loads(encode(status))]),
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


# --- what the documentation asks for ------------------------------------------------------
def test_the_announcement_is_what_the_documentation_says() -> None:
    assert re.fullmatch(r"homeassistant/device/[A-Za-z0-9_-]+/config", TOPIC)
    assert TOLD.keys() == {"device", "origin", "components", "state_topic", "qos"}
    assert TOLD["origin"]["name"]
    assert TOLD["device"]["identifiers"]
    assert TOLD["state_topic"] == TOPICS.status
    assert len(TOLD["components"]) == 5 + 2 * 3
    for each in TOLD["components"].values():
        assert {"platform", "unique_id", "name", "value_template"} <= each.keys()
    ids = [each["unique_id"] for each in TOLD["components"].values()]
    assert len(set(ids)) == len(ids)


def test_nothing_in_it_opens_anything() -> None:
    assert {each["platform"] for each in TOLD["components"].values()} == {"sensor", "binary_sensor"}
    assert {each["entity_category"] for each in TOLD["components"].values()} == {"diagnostic"}
    text = PAYLOAD.decode()
    assert not re.search("command|cmd_t|payload_open|payload_unlock|/down/|/up/", text)


def test_two_names_stay_two() -> None:
    names = ["a.b", "a_b", "a_db", "a-b", "a._b", "a_.b"]
    topics = {announcement("x", GatewayId(name), [])[0] for name in names}
    assert len(topics) == len(names)
    assert all(re.fullmatch(r"x/device/[A-Za-z0-9_-]+/config", each) for each in topics)


@pytest.mark.skipif(not HAS_JINJA, reason="apt install python3-jinja2")
def test_what_home_assistant_makes_of_a_status() -> None:
    fine = Status(
        online=True, version="1.0", clock="trusted",
        storage=StorageStatus(free_percent=40, kept=True),
        locks={"street": LockStatus(reached=True, battery_percent=61, rssi_dbm=-65)},
    )  # fmt: skip
    broken = Status(
        online=True, clock="unknown", storage=StorageStatus(kept=False),
        locks={
            "street": LockStatus(reached=False),
            "back.yard": LockStatus(reached=True, troubles=("jammed",)),
        },
    )  # fmt: skip
    gone = Status(online=False)
    expected = {
        "online": ("ON", "ON", "OFF"),
        "clock_problem": ("OFF", "ON", "OFF"),
        "storage_problem": ("OFF", "ON", "OFF"),
        "version": ("1.0", "None", "None"),
        "storage_free": ("40", "None", "None"),
        "door_street_battery": ("61", "None", "None"),
        "door_street_signal": ("-65", "None", "None"),
        "door_street_problem": ("OFF", "ON", "OFF"),
        "door_back_dyard_problem": ("OFF", "ON", "OFF"),
    }
    for component, answers in expected.items():
        found = tuple(render(component, status) for status in (fine, broken, gone))
        assert found == answers, component


# --- on a broker --------------------------------------------------------------------------
async def test_it_is_retained_once_and_reads_the_status_that_is_there_anyway(broker) -> None:
    mqtt = gateway_mqtt(broker.address)
    uplink = make_uplink(await filled_log(1), mqtt.connect, announcement=(TOPIC, PAYLOAD))
    settings = MqttSettings(
        host=broker.address.host,
        port=broker.address.port,
        client_id="home-assistant",
        subscriptions=("homeassistant/#",),
    )
    async with running(uplink), asyncio.timeout(20):
        while True:
            async with Mqtt(settings).connect() as session:
                try:
                    async with asyncio.timeout(1):
                        assert await session.receive() == (TOPIC, PAYLOAD)
                        break
                except TimeoutError:
                    continue
    async with Mqtt(settings).connect() as session, asyncio.timeout(20):
        assert await session.receive() == (TOPIC, PAYLOAD)  # the gateway is gone, and it stays


def test_it_is_announced_by_option_only(tmp_path) -> None:
    for text, prefix in ((EXAMPLE, None), (EXAMPLE.replace(
        "[uplink]", '[uplink]\nhome_assistant = "ha"'), "ha")):  # fmt: skip
        config, report = decode_config(text, Config, tmp_path)
        assert (report.problems, config is not None) == ([], True)
        said = uplink_app._announcement(config, config.uplink)
        assert (said and said[0].partition("/")[0]) == prefix
    wrong = EXAMPLE.replace("[uplink]", '[uplink]\nhome_assistant = "ha/#"')
    _, report = decode_config(wrong, Config, tmp_path)
    assert [each.hint.partition(",")[0] for each in report.problems] == [
        "Home Assistant's discovery prefix"
    ]
