"""Writes docs/{commands,configuration,status}.md from the code: `make docs`."""

from __future__ import annotations

import math
import textwrap
import typing
from pathlib import Path

import msgspec

from gatewayd import status as statuses
from gatewayd.cli import TABLE, load
from gatewayd.cli.command import Command, ExitCode, Group
from gatewayd.config import model, policy
from gatewayd.core.policy import DEFAULTS

DAY_S = 86_400
DOCS = Path(__file__).parents[2] / "docs"
NOTE = "<!-- written by `make docs`; change the code instead -->\n"

EXAMPLE = """\
[gateway]
id = "stairwell-7"
state = "/var/lib/gatewayd"

[keys]
credential = "gateway.cwt"
gateway = "gateway.pem"
log = "log.pem"
receipt = "receipt.pem"

[trust]
root = "root.pub.pem"
bundle = "trust.cose"

[radio]
kind = "bluez"
adapter = "B8:27:EB:00:00:01"

[uplink]
broker = "mqtts://broker.example:8883"
certificate = "tls/gateway.crt"
key = "tls/gateway.key"

[[door]]
id = "street"
zone = "Europe/Copenhagen"
lock.address = "F0:F1:F2:F3:F4:01"
lock.key = "street.pub.pem"

[[door]]
id = "cellar"
latch_ms = 3000
lock = { address = "F0:F1:F2:F3:F4:02", key = "cellar.pub.pem", warm = true }
policy.resident.unknown_time = false
policy.guest = { rate = 5, stale_list_days = 1 }

[[door]]
id = "gate"
lock.serial = "/dev/serial/by-id/usb-FTDI_USB-RS485_Cable_FT1A2B3C-if00-port0"
lock.key = "gate.pub.pem"
lock.half_duplex = true

[[door]]
id = "yard"
latch_ms = 4000
relay = { chip = "pinctrl-rp1", line = "GPIO17", contact = { line = "GPIO27" } }
"""

SECTIONS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("[gateway]", model.Gateway),
    ("[keys]", model.Keys),
    ("[trust]", model.TrustFiles),
    ("[radio]", model.Radio),
    ("[uplink]", model.Uplink),
    ("[metrics]", model.Metrics),
    ("[helpdesk]", model.Helpdesk),
    ("[[door]]", model.Door),
    ("[door.lock]", model.LockFiles),
    ("[door.relay]", model.Relay),
    ("[door.relay.contact]", model.Contact),
    ("[door.policy.CLASS]", policy.ClassPolicy),
    ("[door.policy.resident]", policy.ResidentPolicy),
)


# --- commands ------------------------------------------------------------------------
def commands() -> str:
    codes = "\n".join(f"| {code.value} | {code.meaning} |" for code in ExitCode)
    head = (
        f"{NOTE}\n# Commands\n\nEvery command takes `--help`, which also lists its options, and "
        f"`--json`.\n\n| exit code | |\n|---|---|\n{codes}\n"
    )
    parts = [head]
    for name in TABLE:
        found = load(name)
        parts.append(_section(f"gatewayd {name}", found, "##"))
        if isinstance(found, Group):
            parts.extend(
                _section(f"gatewayd {name} {each.name}", each, "###") for each in found.commands
            )
    return "\n".join(parts)


def _section(title: str, found: Command | Group, level: str) -> str:
    text = f"{level} {title}\n\n{_wrap(found.description)}\n"
    if isinstance(found, Command):
        text += "\n```sh\n" + "\n".join(found.examples) + "\n```\n"
    return text


def _wrap(text: str) -> str:
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(each.split()), 98) for each in paragraphs)


# --- settings ------------------------------------------------------------------------
def configuration() -> str:
    head = (
        f"{NOTE}\n# Configuration\n\nOne TOML file, `/etc/gatewayd/gatewayd.toml` unless `-c` says "
        "otherwise. File names in it count\nfrom where it lies. `gatewayd check` reports every "
        f"problem in it at once.\n\n```toml\n{EXAMPLE}```\n"
    )
    parts = [head]
    for title, cls in SECTIONS:
        rows = "".join(_row(each) for each in msgspec.structs.fields(cls) if _has_value(each))
        about = (cls.__doc__ or "").strip().splitlines()[0]
        parts.append(f"## {title}\n\n{about}\n\n| setting | default | |\n|---|---|---|\n{rows}")
    return "\n".join([*parts, _class_defaults()])


def _class_defaults() -> str:
    """What holds for a class of key where its door says nothing."""
    rows = "".join(
        f"| {key_class.name.lower()} | {_limit(own.stale_list_s / DAY_S)} | "
        f"{str(own.arrival).lower()} | {_limit(own.rate)} | {str(own.unknown_time).lower()} |\n"
        for key_class, own in DEFAULTS.items()
    )
    return (
        "## Defaults of the classes\n\n"
        "| class | `stale_list_days` | `arrival` | `rate` | `unknown_time` |\n"
        f"|---|---|---|---|---|\n{rows}\n"
        "A key whose revocation list is older than `stale_list_days` is refused with `stale_list`. "
        "A list that was\nnever held or is over is infinitely old, and so is any while time is "
        "unknown; `any` means that not even\nthis refuses. A key that a list held says is revoked "
        "is refused always. Nothing can be set for the\nemergency class, and no list is too old "
        "for it.\n"
    )


def _limit(number: float) -> str:
    return "any" if number == math.inf else f"{number:g}"


def _has_value(field: msgspec.structs.FieldInfo) -> bool:
    kinds = typing.get_args(field.type) or (field.type,)
    return not any(isinstance(kind, type) and issubclass(kind, msgspec.Struct) for kind in kinds)


def _row(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        default = "required"
    elif field.default is None:
        default = "none"
    else:
        shown = str(field.default)
        default = f"`{shown.lower() if isinstance(field.default, bool) else shown}`"
    return f"| `{field.encode_name}` | {default} | {describe(field.type)} |\n"


def describe(kind: typing.Any) -> str:
    options = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    return str(options[0].__metadata__[-1].description)


# --- status ----------------------------------------------------------------------------
STATUS = f"""{NOTE}
# The status of a gateway

`gatewayd/v1/gateway/ID/status`, retained by the broker: JSON of at most
{statuses.MAX_STATUS_BYTES} bytes, published when it changes and at most once a minute. When the
session ends, the broker puts the gateway's last will in its place, which says no more than
`online` and `version`. Nobody signs it: it is as true as the broker's access lists are tight.

It holds nothing of persons, and nothing that moves when somebody comes: where bolt, latch and
leaf are stays on the gateway, and counts are cut to the power of two below them. What is not
known is left out; `false`, `0` and what is empty may be left out, too. A reader passes over
what it does not know, and refuses a status with a known field of another kind.
`gatewayd cloud fleet` is such a reader.
"""


def status() -> str:
    parts = [STATUS]
    for title, cls in (
        ("The gateway", statuses.Status),
        ("Under `storage`", statuses.StorageStatus),
        ("Under `operator`", statuses.OperatorStatus),
        ("Under `lists`, for each", statuses.ListStatus),
        ("Under `locks`, by door", statuses.LockStatus),
    ):
        rows = "".join(
            f"| `{each.encode_name}` | {describe(each.type)} |\n"
            for each in msgspec.structs.fields(cls)
            if hasattr(each.type, "__metadata__") and each.encode_name not in {"lists", "locks"}
        )
        parts.append(f"## {title}\n\n| field | |\n|---|---|\n{rows}")
    return "\n".join(parts)


def main() -> None:
    (DOCS / "commands.md").write_text(commands(), "utf-8")
    (DOCS / "configuration.md").write_text(configuration(), "utf-8")
    (DOCS / "status.md").write_text(status(), "utf-8")


if __name__ == "__main__":
    main()
