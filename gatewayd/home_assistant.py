"""How a gateway presents itself to Home Assistant: diagnostics, and no way to open anything.

One retained message announces the gateway as a device; its entities read the
status that is published anyway. No component can be commanded: all are sensors, and
none names a topic to send to.
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from gatewayd import __version__
from gatewayd.core.model import GatewayId
from gatewayd.core.topics import GatewayTopics

Component = Mapping[str, object]


def announcement(prefix: str, gateway: GatewayId, doors: Sequence[str]) -> tuple[str, bytes]:
    """Topic and payload, to be retained. prefix: `homeassistant`, unless it was changed there."""
    node = f"gatewayd_{_plain(gateway)}"
    components = {
        f"{node}_{name}": {
            **component,
            "unique_id": f"{node}_{name}",
            "entity_category": "diagnostic",
        }
        for name, component in (*_of_gateway(), *_of_doors(doors))
    }
    payload = {
        "device": {
            "identifiers": [node],
            "name": f"Door gateway {gateway}",
            "manufacturer": "gatewayd",
            "sw_version": __version__,
        },
        "origin": {"name": "gatewayd", "sw_version": __version__},
        "components": components,
        "state_topic": GatewayTopics(gateway).status,
        "qos": 1,
    }
    return f"{prefix}/device/{node}/config", json.dumps(payload, separators=(",", ":")).encode()


def _plain(name: str) -> str:
    """In what a discovery topic may hold (letters, digits, _ and -); two names stay two names."""
    return name.replace("_", "__").replace(".", "_d")


def _of_gateway() -> Iterable[tuple[str, Component]]:
    yield "online", _binary("Connection", "value_json.online", "connectivity")
    yield "clock_problem", _binary("Clock", "value_json.get('clock') == 'unknown'", "problem")
    yield (
        "storage_problem",
        _binary("Storage", "not value_json.get('storage', {}).get('kept', true)", "problem"),
    )
    yield "version", _sensor("Version", "value_json.get('version')")
    yield (
        "storage_free",
        {
            **_sensor("Storage free", "value_json.get('storage', {}).get('free_percent')"),
            "unit_of_measurement": "%",
        },
    )


def _of_doors(doors: Iterable[str]) -> Iterable[tuple[str, Component]]:
    for door in doors:
        lock = f"value_json.get('locks', {{}}).get({door!r}, {{}})"
        name = f"door_{_plain(door)}"
        yield (
            f"{name}_battery",
            {
                **_sensor(f"Battery {door}", f"{lock}.get('battery_percent')"),
                "device_class": "battery",
                "unit_of_measurement": "%",
            },
        )
        yield (
            f"{name}_signal",
            {
                **_sensor(f"Signal {door}", f"{lock}.get('rssi_dbm')"),
                "device_class": "signal_strength",
                "unit_of_measurement": "dBm",
            },
        )
        yield (
            f"{name}_problem",
            _binary(
                f"Lock {door}",
                f"{lock}.get('troubles') or {lock}.get('reached') == false",
                "problem",
            ),
        )


def _sensor(name: str, value: str) -> dict[str, object]:
    return {"platform": "sensor", "name": name, "value_template": f"{{{{ {value} }}}}"}


def _binary(name: str, condition: str, device_class: str) -> dict[str, object]:
    return {
        "platform": "binary_sensor",
        "name": name,
        "device_class": device_class,
        "value_template": f"{{{{ 'ON' if {condition} else 'OFF' }}}}",
    }
