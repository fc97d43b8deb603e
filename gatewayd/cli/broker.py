"""The operator's broker on a command line: where it is, and the certificates to reach it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gatewayd import keyfiles
from gatewayd.cli.command import CommandError, ExitCode
from gatewayd.keyfiles import KeyFileError
from gatewayd.ports import UpstreamError

if TYPE_CHECKING:
    from gatewayd.cloud_app import BrokerFiles

_BROKER: Final = "is the broker running, and is it this address?"
_CERTIFICATES: Final = "see --authorities, --certificate and --key: PEM files, of this broker"
_OURS: Final = {"authorities": "ca.crt", "certificate": "cloud.crt", "key": "cloud.pem"}
"""As docs/broker.md has them made, in the operator's directory."""


_DEFAULT: Final = (
    "default of these three, with --keys: ca.crt, cloud.crt and cloud.pem from there, if all are "
    "there; else whom the system believes is believed"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--broker` and what TLS needs."""
    parser.add_argument(
        "--broker", metavar="URL", default="mqtt://127.0.0.1:1883",
        help="mqtts://host:port, or mqtt:// on this machine (default: mqtt://127.0.0.1:1883)",
    )  # fmt: skip
    for name, text in (
        ("authorities", "certificates to believe, for mqtts"),
        ("certificate", "our certificate"),
        ("key", f"private key of our certificate ({_DEFAULT})"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=text)


def files(arguments: argparse.Namespace) -> BrokerFiles:
    """The same, looked at. CommandError for an address that is none, or a file."""
    from gatewayd.cloud_app import BrokerFiles  # noqa: PLC0415 - so that help stays quick

    tls = _tls_files(arguments)
    broker = BrokerFiles(url=arguments.broker, **tls)
    try:
        broker.where()
        _look_at(**tls)
    except ValueError as error:
        raise no_broker(error) from None
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    return broker


def _tls_files(arguments: argparse.Namespace) -> dict[str, Path | None]:
    """As given; when nothing was, what docs/broker.md has put beside the operator's keys."""
    given: dict[str, Path | None] = {name: getattr(arguments, name) for name in _OURS}
    directory: Path | None = getattr(arguments, "keys", None)
    if directory is None or any(given.values()):
        return given
    ours = {name: directory / file for name, file in _OURS.items()}
    return {**ours} if all(path.exists() for path in ours.values()) else given


def _look_at(authorities: Path | None, certificate: Path | None, key: Path | None) -> None:
    if authorities is not None:
        keyfiles.read_file(authorities, "--authorities")
    if (certificate is None) != (key is None):
        raise KeyFileError("--certificate and --key belong together", "name both or neither")
    if certificate is not None and key is not None:
        keyfiles.read_file(certificate, "--certificate")
        keyfiles.read_file(key, "--key", private=True)


def away(arguments: argparse.Namespace, error: UpstreamError) -> CommandError:
    """What to say when the broker is not reached."""
    hint = _CERTIFICATES if "certificate" in str(error) else _BROKER
    return CommandError(f"{arguments.broker}: {error}", hint)


def no_broker(error: ValueError) -> CommandError:
    """What to say when `--broker` is no address of one."""
    return CommandError(f"--broker: {error}", "as mqtts://broker.example:8883", ExitCode.USAGE)
