"""Private keys that systemd handed over (systemd.exec(5), LoadCredential).

The configuration names the files as root sees them, so `gatewayd check` can be
run by root; the daemon, who cannot read those, has been given copies of the
same names in a directory of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from gatewayd.config.model import Config


def directory(environment: Mapping[str, str]) -> Path | None:
    """Where credentials are, when systemd gave us any."""
    name = environment.get("CREDENTIALS_DIRECTORY", "")
    return Path(name) if name else None


def place(config: Config, credentials: Path | None) -> Config:
    """`config` with every private key for which there is a credential of its file's name."""
    if credentials is None:
        return config
    keys, uplink = config.keys, config.uplink
    keys = replace(
        keys,
        gateway=placed(keys.gateway, credentials),
        log=placed(keys.log, credentials),
        receipt=placed(keys.receipt, credentials),
    )
    if uplink is not None and uplink.key is not None:
        uplink = replace(uplink, key=placed(uplink.key, credentials))
    return replace(config, keys=keys, uplink=uplink)


def placed(path: Path, credentials: Path | None) -> Path:
    """The credential of this file's name, when there is one, else the file."""
    if credentials is None:
        return path
    found = credentials / path.name
    return found if found.is_file() else path
