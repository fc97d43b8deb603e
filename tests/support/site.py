"""A whole site on disk: operator, gateway, two locks, configuration; as an installer leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gatewayd.cloud.authority import Authority, GatewayKeys, IssuerKey, new_key
from gatewayd.keyfiles import create_files, private_pem, public_pem

NOW = 1_790_000_000
YEAR = 365 * 86_400
DOORS = ("street", "cellar")

CONFIG = """\
[gateway]
id = "stairwell-7"

[radio]
hci = "unix:air.sock"

[uplink]
broker = "mqtt://127.0.0.1:1883"

[[door]]
id = "street"
zone = "Europe/Copenhagen"
lock.address = "F0:F1:F2:F3:F4:01"
lock.key = "street.pub.pem"

[[door]]
id = "cellar"
latch_ms = 3000

[door.lock]
address = "F0:F1:F2:F3:F4:02"
key = "cellar.pub.pem"
"""


@dataclass(frozen=True, slots=True)
class Site:
    directory: Path
    authority: Authority
    keys: GatewayKeys

    @property
    def config(self) -> Path:
        return self.directory / "gatewayd.toml"

    def replace(self, name: str, data: bytes, mode: int = 0o600) -> None:
        path = self.directory / name
        path.unlink(missing_ok=True)
        create_files({path: data}, mode=mode)


def make_site(directory: Path) -> Site:
    authority = Authority.create("vestergade-7", IssuerKey.create("housing"))
    keys = GatewayKeys.create()
    credential = authority.gateway_credential(
        "stairwell-7", dict.fromkeys(DOORS, 1), keys, issued_at=NOW, expires=NOW + YEAR
    )
    locks = {directory / f"{door}.pub.pem": public_pem(new_key().public_key()) for door in DOORS}
    create_files(
        {
            directory / "gateway.pem": private_pem(keys.handshake),
            directory / "log.pem": private_pem(keys.log),
            directory / "receipt.pem": private_pem(keys.receipt),
        }
    )
    create_files(
        {
            directory / "gatewayd.toml": CONFIG.encode(),
            directory / "gateway.cwt": credential,
            directory / "root.pub.pem": public_pem(authority.root.public_key()),
            directory / "trust.cose": authority.bundle(),
            **locks,
        },
        mode=0o644,
    )
    return Site(directory, authority, keys)
