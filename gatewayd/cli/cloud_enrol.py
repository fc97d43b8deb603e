"""`gatewayd cloud enrol`: gateways that were invited become this operator's."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import enrolment_app, keyfiles
from gatewayd.cli import broker
from gatewayd.cli.cloud_order import SENT
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.invite import FOR_KEYS, common_arguments, office, problems
from gatewayd.cli.keys import common
from gatewayd.cli.keys.certificate import read_authority
from gatewayd.cloud.enrolling import CREDENTIAL_S, Answered
from gatewayd.core.topics import CERTIFICATE, RENEWED


def _enrol(arguments: argparse.Namespace, output: Output) -> int:
    with problems(arguments):
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
        return f"{answered.gateway}: REFUSED, {answered.refusal.words}"
    if answered.replaced is not None:
        before = answered.replaced
        return (
            f"{answered.gateway}: enrolled, with the doors of {before}\n"
            f"  close the log of {before}: gatewayd cloud send {before} retire"
        )
    return f"{answered.gateway}: {_RENEWED[answered.renewed]}"


def _registry(arguments: argparse.Namespace) -> enrolment_app.Registry:
    directory: Path = arguments.keys
    return enrolment_app.Registry(
        office=office(arguments),
        gateways=keyfiles.read_p256_private(directory / "gateways.pem", "gateways key", FOR_KEYS),
        time=keyfiles.read_p256_private(directory / "time.pem", "time key", FOR_KEYS),
        authority=read_authority(directory),
        certificate_s=arguments.lifetime,
        credential_s=arguments.credential_lifetime,
        orders=directory / SENT,
    )


# --- the command ---
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
    common_arguments(parser)


ENROL: Final = Command(
    name="enrol",
    summary="answer gateways that enrol, and renew their certificates",
    description="""
    Needs gateways.pem, time.pem, ca.pem and ca.crt. Serves every claim that was made with the same
    --store, at the broker, until stopped. A certificate or gateway credential of which a third is
    left is renewed when its gateway asks; a credential not for a gateway that was sent `retire`,
    nor when another one has a door of it with a higher generation. With --request it
    answers one file instead, for a gateway without a network.
    """,
    run=_enrol,
    arguments=_enrol_arguments,
    examples=(
        "gatewayd cloud enrol --keys operator --broker mqtts://broker.example:8883",
        "gatewayd cloud enrol --keys operator --request enrolment.request",
    ),
)
