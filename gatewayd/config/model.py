"""What a configuration says. Every file name is relative to the configuration file.

The description of a field is its documentation and the hint when it is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from firmware_proto.codes import MAX_DOOR_ID_BYTES
from gatewayd import addresses
from gatewayd.config.policy import Policy

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"
_ADAPTER: Final = f"^{addresses.PATTERN}$"
_DEVICE: Final = r"^/dev/.+$"
_ADDRESS: Final = f"^{addresses.PATTERN}({addresses.PUBLIC})?$"

Name = Annotated[
    str,
    Meta(
        pattern=_NAME,
        max_length=MAX_DOOR_ID_BYTES,
        description="at most 32 letters, digits and . _ - as in the gateway's credential",
    ),
]


class Gateway(Struct, frozen=True, kw_only=True):
    """Which gateway this is."""

    id: Name
    state: Annotated[
        Path, Meta(description="directory of the log; made when its parent exists")
    ] = Path("state")

    battery_clock: Annotated[
        bool, Meta(description="true when a battery keeps this machine's clock through power cuts")
    ] = False

    @property
    def log(self) -> Path:
        """The file of the log."""
        return self.state / "log.db"

    @property
    def reserve(self) -> Path:
        """Room set aside for entries that the log cannot take."""
        return self.state / "log.db.reserve"


class Keys(Struct, frozen=True, kw_only=True):
    """What this gateway proves itself with; `gatewayd keys make gateway` makes the keys."""

    credential: Annotated[
        Path, Meta(description="gateway credential as issued by `gatewayd keys gateway`")
    ] = Path("gateway.cwt")
    gateway: Annotated[
        Path, Meta(description="P-256 private key for handshakes, named by the credential")
    ] = Path("gateway.pem")
    log: Annotated[Path, Meta(description="Ed25519 private key that signs log checkpoints")] = Path(
        "log.pem"
    )
    receipt: Annotated[Path, Meta(description="P-256 private key that signs receipts")] = Path(
        "receipt.pem"
    )


class TrustFiles(Struct, frozen=True, kw_only=True):
    """Whom this gateway believes."""

    root: Annotated[Path, Meta(description="public key of the operator's root")] = Path(
        "root.pub.pem"
    )
    bundle: Annotated[
        Path, Meta(description="trust bundle signed by the root, from `gatewayd keys bundle`")
    ] = Path("trust.cose")
    time: Annotated[
        Path | None, Meta(description="time signed at provisioning, from `gatewayd keys time`")
    ] = None


class Radio(Struct, frozen=True, kw_only=True):
    """How the gateway reaches phones and locks."""

    kind: Annotated[
        Literal["virtual", "bluez"],
        Meta(description="bluez: this machine's own Bluetooth; virtual: a simulated controller"),
    ] = "virtual"
    hci: (
        Annotated[
            str,
            Meta(
                pattern=r"^unix:.+$",
                description="where the virtual controller speaks HCI, as unix:/run/air/gateway.hci",
            ),
        ]
        | None
    ) = None
    adapter: (
        Annotated[
            str,
            Meta(
                pattern=_ADAPTER,
                description="with bluez: the adapter by its address, as B8:27:EB:00:00:01; "
                "the first one when left out",
            ),
        ]
        | None
    ) = None
    lock_adapter: (
        Annotated[
            str,
            Meta(
                pattern=_ADAPTER,
                description="with bluez: a second adapter that dials locks, so that phones never "
                "wait for a dial",
            ),
        ]
        | None
    ) = None
    max_phone_links: Annotated[
        int,
        Meta(ge=1, le=64, description="phones connected at once, 1 to 64; a Pi's radio holds 4"),
    ] = 4


class Uplink(Struct, frozen=True, kw_only=True):
    """The operator's broker. Without this section the gateway keeps its log to itself."""

    broker: Annotated[
        str, Meta(description="mqtts://host:port, or mqtt://127.0.0.1:port on the same machine")
    ]
    authorities: Annotated[
        Path | None, Meta(description="certificates to believe; the system's when left out")
    ] = None
    certificate: Annotated[Path | None, Meta(description="our certificate, for mqtts")] = None
    key: Annotated[Path | None, Meta(description="private key of our certificate")] = None
    home_assistant: (
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z0-9_-]{1,64}\Z",
                description="Home Assistant's discovery prefix, as homeassistant: announces "
                "diagnostics there, and nothing that opens",
            ),
        ]
        | None
    ) = None


class Metrics(Struct, frozen=True, kw_only=True):
    """How the gateway is, for Prometheus. Without this section nothing is written."""

    file: Annotated[
        Path,
        Meta(description="written every ten seconds for node_exporter's textfile collector"),
    ] = Path("/run/gatewayd/gatewayd.prom")


class Helpdesk(Struct, frozen=True, kw_only=True):
    """What the operator may open from afar, by signed orders. Without this section nothing."""

    doors: Annotated[
        tuple[Name, ...],
        Meta(
            min_length=1,
            description="these; only this file says so, so that a stolen command key cannot",
        ),
    ]


class LockFiles(Struct, frozen=True, kw_only=True):
    """The lock that is bound to a door: by its Bluetooth address, or by its serial line."""

    key: Annotated[Path, Meta(description="the lock's public key, from its label or maker")]
    address: (
        Annotated[
            str,
            Meta(
                pattern=_ADDRESS,
                description="Bluetooth address as F0:F1:F2:F3:F4:F5, with /P behind a public one",
            ),
        ]
        | None
    ) = None
    warm: Annotated[
        bool,
        Meta(description="true keeps the link to the lock of a busy door, at a battery's cost"),
    ] = False
    serial: (
        Annotated[
            str,
            Meta(
                pattern=_DEVICE,
                description="serial line with this lock alone on it, as /dev/serial/by-id/usb-…",
            ),
        ]
        | None
    ) = None
    baud: Annotated[
        int, Meta(ge=9_600, le=1_000_000, description="of the serial line, 9600 to 1000000")
    ] = 115_200
    half_duplex: Annotated[
        bool, Meta(description="true for RS-485 on one pair of wires: the lock speaks when asked")
    ] = False


class Contact(Struct, frozen=True, kw_only=True):
    """A contact that tells whether a door with a relay is closed."""

    line: Annotated[int | str, Meta(description="GPIO line of the same chip: offset, or name")]
    low: Annotated[bool, Meta(description="true when the line is low while the door is closed")] = (
        True
    )


class Relay(Struct, frozen=True, kw_only=True):
    """A door strike, or the contact of a door phone, on a GPIO line; instead of a lock."""

    chip: Annotated[
        str, Meta(min_length=1, description="GPIO chip: label (as pinctrl-rp1), name or path")
    ]
    line: Annotated[int | str, Meta(description="GPIO line: offset, or name (as GPIO17)")]
    active_low: Annotated[bool, Meta(description="true when a low line pulls the relay")] = False
    pulse_ms: (
        Annotated[
            int,
            Meta(
                ge=50,
                le=30_000,
                description="a pulse shorter than latch_ms, where the door holds itself open",
            ),
        ]
        | None
    ) = None
    contact: Contact | None = None


class Door(Struct, frozen=True, kw_only=True):
    """One door, with either its lock or its relay."""

    id: Name
    lock: LockFiles | None = None
    relay: Relay | None = None
    latch_ms: Annotated[
        int, Meta(ge=500, le=30_000, description="how long the latch is held, 500 to 30000 ms")
    ] = 5000
    zone: Annotated[str, Meta(description="time zone of schedules, as Europe/Copenhagen")] = "UTC"
    policy: Policy = Policy()


class Config(Struct, frozen=True, kw_only=True):
    """A whole configuration file."""

    gateway: Gateway
    radio: Radio
    door: Annotated[tuple[Door, ...], Meta(min_length=1, description="at least one [[door]]")]
    keys: Keys = Keys()
    trust: TrustFiles = TrustFiles()
    uplink: Uplink | None = None
    metrics: Metrics | None = None
    helpdesk: Helpdesk | None = None

    @property
    def doors(self) -> tuple[Door, ...]:
        """The doors, by the word that code uses for them."""
        return self.door
