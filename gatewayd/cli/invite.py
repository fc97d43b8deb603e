"""`gatewayd cloud invite`, `enrol` and `invitations`: how gateways become this operator's."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import enrolment_app, keyfiles
from gatewayd.cli import broker, check
from gatewayd.cli.cloud_order import SENT
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common, gateway
from gatewayd.cli.keys.certificate import read_authority
from gatewayd.cloud.enrolling import CREDENTIAL_S, Answered
from gatewayd.core import certificates
from gatewayd.core.certificates import Certificate
from gatewayd.core.invitation import grouped
from gatewayd.core.topics import CERTIFICATE, RENEWED
from gatewayd.keyfiles import KeyFileError
from gatewayd.ports import StorageError, UpstreamError

CLOUD: Final = "cloud"
"""Whose certificate may speak and hear on every topic: docs/broker.md."""
_FOR_KEYS: Final = "name the operator's directory with --keys; gatewayd keys --help"
_FOR_CA: Final = "gatewayd keys make operator-ca makes it"


# --- invite -------------------------------------------------------------------------
def _invite(arguments: argparse.Namespace, output: Output) -> int:
    if arguments.gateway == CLOUD:
        raise CommandError(
            f"{CLOUD} is what the broker calls the cloud itself", "another name", ExitCode.USAGE
        )
    doors = dict(arguments.door)
    uplink = arguments.uplink or arguments.broker
    with _problems(arguments):
        office = _office(arguments)
        authorities = _certificates(arguments.authorities)
        claim = office.invite(
            gateway=arguments.gateway,
            doors=doors,
            broker=arguments.broker,
            anchor=Certificate.parse(authorities[0]).key if authorities else None,
            uplink=uplink,
            authorities=authorities,
            lifetime_s=arguments.days * common.DAY_S,
        )
    text = claim.text()
    output.line(f"for {claim.gateway} of {claim.group}, doors {', '.join(claim.doors)}")
    output.line(f"at {claim.broker}, once, until {common.shown_time(claim.expires)}")
    output.line(f"root key {claim.root.hex()}")
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


# --- enrol --------------------------------------------------------------------------
def _enrol(arguments: argparse.Namespace, output: Output) -> int:
    with _problems(arguments):
        registry = _registry(arguments)
        if arguments.request is not None:
            return _enrol_from_file(registry, arguments, output)
        where = broker.files(arguments).where()
        output.line(f"answering at {arguments.broker}; Ctrl-C ends it")

        def report(answered: Answered) -> bool:
            output.line(_told(answered))
            done = arguments.once and answered.refusal is None and not answered.renewed
            if done:
                output.document({"enrolled": answered.gateway})
            return done

        try:
            asyncio.run(registry.serve(where, report))
        except KeyboardInterrupt:
            return ExitCode.DONE
    return ExitCode.DONE


def _enrol_from_file(
    registry: enrolment_app.Registry, arguments: argparse.Namespace, output: Output
) -> int:
    data = keyfiles.read_file(arguments.request, "request", "gatewayd setup enrol writes it")
    with registry.enroller() as enroller:
        try:
            answered = enroller.answer(data)
        except RemoteProtocolError as error:
            raise CommandError(
                f"{arguments.request} deserves no answer: {error.detail}",
                "was it made with a claim of this operator's, and is the file whole?",
            ) from None
    keyfiles.create_files({arguments.answer: answered.payload}, mode=keyfiles.PUBLIC_MODE)
    output.line(_told(answered))
    output.line(f"wrote {arguments.answer}: take it back to the gateway")
    refusal = None if answered.refusal is None else answered.refusal.name.lower()
    output.document({"gateway": answered.gateway, "refusal": refusal})
    return ExitCode.DONE if refusal is None else ExitCode.FAILED


_RENEWED: Final = {
    "": "enrolled",
    CERTIFICATE: "certificate renewed",
    RENEWED: "credential renewed",
}


def _told(answered: Answered) -> str:
    if answered.refusal is not None:
        return f"{answered.gateway}: REFUSED, the claim is {answered.refusal.name.lower()}"
    return f"{answered.gateway}: {_RENEWED[answered.renewed]}"


# --- invitations --------------------------------------------------------------------
def _invitations(arguments: argparse.Namespace, output: Output) -> int:
    with _problems(arguments):
        found = _office(arguments).invitations()
    for each in found:
        used = "not used" if each.used_s is None else f"used {common.shown_time(each.used_s)}"
        alarms = f", ALARM: {each.alarms} more time(s)" if each.alarms else ""
        until = common.shown_time(each.expires)
        output.line(f"{each.id.hex()[:8]} {each.gateway} until {until}: {used}{alarms}")
    output.document(
        [
            {
                "id": each.id,
                "gateway": each.gateway,
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
def _problems(arguments: argparse.Namespace) -> Iterator[None]:
    try:
        yield
    except KeyFileError as error:
        raise CommandError(error.message, error.hint, ExitCode.USAGE) from None
    except StorageError as error:
        hint = check.storage_hint(error, "is it the file that `gatewayd cloud invite` made?")
        raise CommandError(str(error), hint) from None
    except UpstreamError as error:
        raise broker.away(arguments, error) from None
    except ValueError as error:
        raise CommandError(
            f"--broker: {error}", "as mqtts://broker.example:8884", ExitCode.USAGE
        ) from None


def _office(arguments: argparse.Namespace) -> enrolment_app.Office:
    directory: Path = arguments.keys
    office = enrolment_app.Office(
        store=arguments.store,
        root=keyfiles.read_p256_public(directory / "root.pub.pem", "root key", _FOR_KEYS),
        bundle=keyfiles.read_file(directory / "trust.cose", "trust bundle", _FOR_KEYS),
    )
    try:
        _ = office.group
    except RemoteProtocolError as error:
        raise KeyFileError(
            f"trust.cose is not what root.pub.pem signed: {error.detail}", _FOR_KEYS
        ) from None
    return office


def _registry(arguments: argparse.Namespace) -> enrolment_app.Registry:
    directory: Path = arguments.keys
    return enrolment_app.Registry(
        office=_office(arguments),
        gateways=keyfiles.read_p256_private(directory / "gateways.pem", "gateways key", _FOR_KEYS),
        time=keyfiles.read_p256_private(directory / "time.pem", "time key", _FOR_KEYS),
        authority=read_authority(directory),
        certificate_s=arguments.lifetime,
        credential_s=arguments.credential_lifetime,
        orders=directory / SENT,
    )


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
def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, default=Path(),
        help="the operator's keys, root.pub.pem and trust.cose (default: here)",
    )  # fmt: skip
    parser.add_argument(
        "--store", metavar="FILE", type=Path, default=Path("invitations.sqlite"),
        help="where invitations are kept; made when missing (default: invitations.sqlite)",
    )  # fmt: skip


def _invite_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gateway", metavar="ID", type=common.name, help="the gateway's name")
    parser.add_argument(
        "--door", metavar="NAME[=GENERATION]", type=gateway.door, action="append", required=True,
        help="a door that it may serve (repeat); a higher generation retires the gateway before",
    )  # fmt: skip
    parser.add_argument(
        "--broker", metavar="URL", required=True, help="where it enrols: mqtts://host:port"
    )
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
    _common(parser)


def _enrol_arguments(parser: argparse.ArgumentParser) -> None:
    broker.add_arguments(parser)
    parser.add_argument("--once", action="store_true", help="end when one gateway is enrolled")
    parser.add_argument(
        "--lifetime", metavar="SECONDS", type=common.positive, default=90 * common.DAY_S,
        help="of certificates (default: 90 days)",
    )  # fmt: skip
    parser.add_argument(
        "--credential-lifetime", metavar="SECONDS", type=common.positive,
        default=CREDENTIAL_S, help="of gateway credentials (default: 3 years)",
    )  # fmt: skip
    parser.add_argument("--request", metavar="FILE", type=Path, help="answer this file instead")
    parser.add_argument(
        "--answer", metavar="FILE", type=Path, default=Path("enrolment.answer"),
        help="where the answer to --request goes (default: enrolment.answer)",
    )  # fmt: skip
    _common(parser)


INVITE: Final = Command(
    name="invite",
    summary="make a claim with which one new gateway enrols, once",
    description="""
    Prints a claim, as a QR code (with the extra `cloud`) and as text: the gateway's name, its
    group and doors, the broker and how to believe it, the fingerprint of the root key, an expiry,
    and a secret that is kept nowhere. Whoever enters it first with gatewayd setup enrol is that
    gateway.

    For a gateway that lost its certificate, make another claim: its keys stay. To replace a
    gateway, raise the generation of every door by one.
    """,
    run=_invite,
    arguments=_invite_arguments,
    examples=(
        (
            "gatewayd cloud invite stairwell-7 --door street --keys operator \\\n"
            "    --broker mqtts://broker.example:8884 --uplink mqtts://broker.example:8883 \\\n"
            "    --authorities operator/ca.crt"
        ),
    ),
)
ENROL: Final = Command(
    name="enrol",
    summary="answer gateways that enrol, and renew their certificates and credentials",
    description="""
    Needs gateways.pem, time.pem, ca.pem and ca.crt. Serves every claim that was made with the same
    --store, at the broker, until stopped. A certificate or gateway credential of which a third is
    left is renewed when its gateway asks; a credential not for a gateway that was sent `retire`,
    nor when somebody enrolled for one of its doors with a higher generation. With --request it
    answers one file instead, for a gateway without a network.
    """,
    run=_enrol,
    arguments=_enrol_arguments,
    examples=(
        (
            "gatewayd cloud enrol --keys operator --broker mqtts://broker.example:8883 \\\n"
            "    --authorities operator/ca.crt --certificate cloud.crt --key cloud.pem"
        ),
        "gatewayd cloud enrol --keys operator --request enrolment.request",
    ),
)
INVITATIONS: Final = Command(
    name="invitations",
    summary="list claims: open, used, and tried by somebody else",
    description="""
    Fails when a second device has come with a claim that was used: somebody else has it.
    """,
    run=_invitations,
    arguments=_common,
    examples=("gatewayd cloud invitations --keys operator",),
)
