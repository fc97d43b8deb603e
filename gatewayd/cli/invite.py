"""`gatewayd cloud invite` and `invitations`: who may become a gateway of this operator's."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import enrolment_app, keyfiles
from gatewayd.cli import broker, check
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common, gateway
from gatewayd.cloud.holdings import OthersDoorError
from gatewayd.core import certificates
from gatewayd.core.certificates import Certificate
from gatewayd.core.invitation import grouped
from gatewayd.keyfiles import KeyFileError
from gatewayd.ports import StorageError, UpstreamError

CLOUD: Final = "cloud"
"""Whose certificate may speak and hear on every topic: docs/broker.md."""
FOR_KEYS: Final = "name the operator's directory with --keys; gatewayd keys --help"
_FOR_CA: Final = "gatewayd keys make operator-ca makes it"


# --- invite -------------------------------------------------------------------------
def _invite(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.gateway == CLOUD:
        raise CommandError(
            f"{CLOUD} is what the broker calls the cloud itself", "another name", ExitCode.USAGE
        )
    if not arguments.door and arguments.replaces is None:
        raise CommandError(
            "no door is named", "--door NAME, or --replaces GATEWAY for all of its", ExitCode.USAGE
        )
    if arguments.gateway == arguments.replaces:
        raise CommandError(
            f"{arguments.gateway} cannot replace itself",
            "give the new one a name of its own: log and certificate of the old one keep theirs",
            ExitCode.USAGE,
        )
    with problems(arguments):
        inviting = office(arguments)
        claim = inviting.invite(
            enrolment_app.Wanted(
                gateway=arguments.gateway,
                doors=dict(arguments.door),
                replaces=arguments.replaces,
                network=_network(arguments),
                lifetime_s=arguments.days * common.DAY_S,
            )
        )
        unknown = [
            each.door for each in inviting.holdings() if each.door in claim.doors and not each.body
        ]
    text = claim.text()
    output.line(f"for {claim.gateway} of {claim.group}, doors {', '.join(claim.doors)}")
    output.line(f"at {claim.broker}, once, until {common.shown_time(claim.expires)}")
    output.line(f"root key {claim.root.hex()}")
    if arguments.replaces is not None:
        output.line(f"once it has enrolled it has the doors of {arguments.replaces}")
        for door in unknown:
            output.line(
                f"{door}: what moves it is not known here, so somebody has to bind it there"
            )
    output.line(f"\n{_qr(text)}{grouped(text)}\n")
    output.line("whoever has this is that gateway: hand it over as you would a key")
    output.document({"claim": text, "id": claim.id, "expires": claim.expires})
    return ExitCode.DONE


def _qr(text: str) -> str:
    """In half blocks, dark on light; nothing where the library is not installed."""
    try:
        import segno  # noqa: PLC0415 - the extra `cloud`
    except ImportError:
        return ""
    rows = [[*row] for row in segno.make_qr(text, error="l").matrix_iter(border=4)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    drawn = ("".join(_HALVES[a, b] for a, b in zip(*pair, strict=True)) for pair in pairs)
    return "\n".join(drawn) + "\n\n"


# Terminals are dark: what is drawn is what is light in the code.
_HALVES: Final = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}


# --- invitations --------------------------------------------------------------------
def _invitations(arguments: argparse.Namespace, output: Output) -> int:
    with problems(arguments):
        found = office(arguments).invitations()
    for each in found:
        used = "not used" if each.used_s is None else f"used {common.shown_time(each.used_s)}"
        alarms = f", ALARM: {each.alarms} more time(s)" if each.alarms else ""
        until = common.shown_time(each.expires)
        instead = f" for {each.replaces}" if each.replaces else ""
        output.line(f"{each.id.hex()[:8]} {each.gateway}{instead} until {until}: {used}{alarms}")
    output.document(
        [
            {
                "id": each.id,
                "gateway": each.gateway,
                "replaces": each.replaces,
                "expires": each.expires,
                "used": each.used_s,
                "alarms": each.alarms,
            }
            for each in found
        ]
    )
    return ExitCode.FAILED if any(each.alarms for each in found) else ExitCode.DONE


# --- files --------------------------------------------------------------------------
@contextmanager
def problems(arguments: argparse.Namespace) -> Iterator[None]:
    """CommandError for what files, stores and brokers do."""
    try:
        yield
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    except StorageError as error:
        hint = check.storage_hint(error, "is it the file that `gatewayd cloud invite` made?")
        raise CommandError(str(error), hint) from None
    except UpstreamError as error:
        raise broker.away(arguments, error) from None
    except OthersDoorError as error:
        raise CommandError(
            str(error),
            f"--replaces {error.gateway} takes all of its doors over; gatewayd cloud move-door one",
        ) from None
    except enrolment_app.NoNetworkError:
        raise CommandError(
            "nobody was invited yet, so it is not known where", "--broker URL", ExitCode.USAGE
        ) from None
    except ValueError as error:
        raise CommandError(
            f"no such claim can be: {error}",
            "--broker is as mqtts://broker.example:8884; gatewayd cloud doors says who has which",
            ExitCode.USAGE,
        ) from None


def _network(arguments: argparse.Namespace) -> enrolment_app.Network | None:
    if arguments.broker is None:
        if arguments.uplink is not None or arguments.authorities is not None:
            raise KeyFileError("--uplink and --authorities go with --broker", "name all of them")
        return None
    return enrolment_app.Network(
        arguments.broker,
        arguments.uplink or arguments.broker,
        _certificates(arguments.authorities),
    )


def office(arguments: argparse.Namespace) -> enrolment_app.Office:
    """The operator's, as --keys and --store say. KeyFileError."""
    directory: Path = arguments.keys
    found = enrolment_app.Office(
        store=arguments.store,
        root=keyfiles.read_p256_public(directory / "root.pub.pem", "root key", FOR_KEYS),
        bundle=keyfiles.read_file(directory / "trust.cose", "trust bundle", FOR_KEYS),
    )
    try:
        _ = found.group
    except RemoteProtocolError as error:
        raise KeyFileError(
            f"trust.cose is not what root.pub.pem signed: {error.detail}", FOR_KEYS
        ) from None
    return found


def _certificates(path: Path | None) -> tuple[bytes, ...]:
    if path is None:
        return ()
    data = keyfiles.read_file(path, "certificate", _FOR_CA)
    try:
        found = certificates.from_pem(data)
        Certificate.parse(found[0])
    except RemoteProtocolError as error:
        raise KeyFileError(f"{path}: {error.detail}", _FOR_CA) from None
    return found


# --- arguments ----------------------------------------------------------------------
def common_arguments(parser: argparse.ArgumentParser) -> None:
    """`--keys` and `--store`."""
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, default=Path(),
        help="the operator's keys, root.pub.pem and trust.cose (default: here)",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="FILE", type=Path, default=Path("invitations.sqlite"),
        help="where invitations are kept; made when missing (default: invitations.sqlite)",
    )  # fmt: skip


def _door(text: str) -> tuple[str, int]:
    """A door, and the least generation: 0 where the store counts."""
    name, generation = gateway.door(text)
    return name, generation if "=" in text else 0


def _invite_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gateway", metavar="ID", type=common.name, help="the gateway's name")
    parser.add_argument(
        "--door", metavar="NAME[=GENERATION]", type=_door, action="append", default=[],
        help="a door that it may serve (repeat); generations are counted, unless this is the "
        "first time and its gateway before was made by hand",
    )  # fmt: skip
    parser.add_argument(
        "--replaces", metavar="GATEWAY", type=common.name,
        help="take over all doors of this one, which is dead, lost or stolen",
    )  # fmt: skip
    parser.add_argument(
        "--broker", metavar="URL",
        help="where it enrols: mqtts://host:port (default: as said the last time)",
    )  # fmt: skip
    parser.add_argument(
        "--uplink", metavar="URL", help="where it then keeps its session (default: as --broker)"
    )
    parser.add_argument(
        "--authorities", metavar="FILE", type=Path,
        help="who signs the broker's certificate (PEM, P-256; default: whom systems believe)",
    )  # fmt: skip
    parser.add_argument(
        "--days", type=common.days, default=7, help="until when it may be used (default: 7)"
    )
    common_arguments(parser)


INVITE: Final = Command(
    name="invite",
    summary="make a claim with which one new gateway enrols, once",
    description="""
    Prints a claim, as a QR code (with the extra `cloud`) and as text: the gateway's name, its
    group and doors, the broker and how to believe it, the fingerprint of the root key, an expiry,
    and a secret that is kept nowhere. Whoever enters it first with gatewayd setup enrol is that
    gateway.

    For a gateway that lost its certificate, make another claim: its keys stay. A box that replaces
    another one has a name of its own and --replaces: when it enrols it gets all doors of the other
    one, each at the next generation, and what moves them (gatewayd cloud confirm). Phones and locks
    that have met it refuse the old one. Where gateways enrol is said once; after that it is as
    the last time.
    """,
    run=_invite,
    arguments=_invite_arguments,
    examples=(
        (
            "gatewayd cloud invite stairwell-7 --door street --keys operator \\\n"
            "    --broker mqtts://broker.example:8884 --uplink mqtts://broker.example:8883 \\\n"
            "    --authorities operator/ca.crt"
        ),
        "gatewayd cloud invite stairwell-8 --replaces stairwell-7 --keys operator",
    ),
)
INVITATIONS: Final = Command(
    name="invitations",
    summary="list claims: open, used, and tried by somebody else",
    description="""
    Fails when a second device has come with a claim that was used: somebody else has it.
    """,
    run=_invitations,
    arguments=common_arguments,
    examples=("gatewayd cloud invitations --keys operator",),
)
