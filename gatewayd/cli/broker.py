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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--broker` and what TLS needs."""
    parser.add_argument(
        "--broker", metavar="URL", default="mqtt://127.0.0.1:1883",
        help="mqtts://host:port, or mqtt:// on this machine (default: mqtt://127.0.0.1:1883)",
    )  # fmt: skip
    for name, text in (
        ("authorities", "certificates to believe (default: the system's)"),
        ("certificate", "our certificate, for mqtts"),
        ("key", "private key of our certificate"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", type=Path, help=text)


def files(arguments: argparse.Namespace) -> BrokerFiles:
    """The same, looked at. CommandError for an address that is none, or a file."""
    from gatewayd.cloud_app import BrokerFiles  # noqa: PLC0415 - so that help stays quick

    broker = BrokerFiles(
        url=arguments.broker,
        authorities=arguments.authorities,
        certificate=arguments.certificate,
        key=arguments.key,
    )
    try:
        broker.where()
        _tls_files(arguments)
    except ValueError as error:
        raise no_broker(error) from None
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    return broker


def _tls_files(arguments: argparse.Namespace) -> None:
    if arguments.authorities is not None:
        keyfiles.read_file(arguments.authorities, "--authorities")
    if (arguments.certificate is None) != (arguments.key is None):
        raise KeyFileError("--certificate and --key belong together", "name both or neither")
    if arguments.certificate is not None:
        keyfiles.read_file(arguments.certificate, "--certificate")
        keyfiles.read_file(arguments.key, "--key", private=True)


def away(arguments: argparse.Namespace, error: UpstreamError) -> CommandError:
    """What to say when the broker is not reached."""
    hint = _CERTIFICATES if "certificate" in str(error) else _BROKER
    return CommandError(f"{arguments.broker}: {error}", hint)


def no_broker(error: ValueError) -> CommandError:
    """What to say when `--broker` is no address of one."""
    return CommandError(f"--broker: {error}", "as mqtts://broker.example:8883", ExitCode.USAGE)
