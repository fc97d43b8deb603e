"""`gatewayd setup enrol`: a new gateway becomes an operator's."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import config, drop_ins, enrolment_app, keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cli.screen import Tint
from gatewayd.cli.setup.common import GOES_ON, read_line
from gatewayd.core.enrolment import EnrolmentRefusedError, Refusal
from gatewayd.core.enrolment_progress import Progress, Step
from gatewayd.core.invitation import Claim, NotAClaimError, claim_in
from gatewayd.core.key_uri import KeyUri, NotAKeyUriError
from gatewayd.enrolment import CONFIGURATION, Enrolment
from gatewayd.ports import UpstreamError

_REFUSED: Final = {
    Refusal.USED: "another device has used this claim: ask the operator, who has been told",
    Refusal.EXPIRED: "ask the operator for another claim",
    Refusal.OTHER_KEYS: "for another box or another card he makes a claim with --replaces",
    Refusal.SUPERSEDED: "ask the operator: gatewayd cloud doors says who serves which",
}


_MOST_READ: Final = 16_384
"""Of what holds a claim: with its QR code and the words around it."""
_SILENCE_S: Final = 10.0


def _run(arguments: argparse.Namespace, output: Output) -> int:
    enrolment = enrolment_app.enrolment_in(arguments.into)
    with common.files_are_arguments():
        progress = _begun(enrolment, arguments, output)
        if arguments.request is not None:
            keyfiles.keep_file(arguments.request, progress.request, mode=keyfiles.PUBLIC_MODE)
            output.line(f"wrote {arguments.request}: the operator answers it, gatewayd cloud enrol")
            output.line("then: gatewayd setup enrol --answer FILE")
            output.document({"request": str(arguments.request)})
            return ExitCode.DONE
        if progress.step is Step.ASKING:
            progress = _answered(enrolment, progress, arguments, output)
        enrolled, written = enrolment.install(progress)
        written += _opened(arguments.into)
    for path in written:
        output.line(f"wrote {path}")
    ours = enrolled.credential
    doors = ", ".join(sorted(ours.doors))
    output.line(
        f"this is {ours.gateway} of {ours.group} now; it may serve {doors}", tint=Tint.GOOD, hang=2
    )
    unbound = _unbound(arguments.into)
    if unbound:
        first = unbound[0]
        relay = f"or, with a relay: sudo gatewayd setup bind-door {first} --relay CHIP:LINE"
        output.line(f"next: sudo gatewayd setup claim-lock {first}\n{'':6}{relay}")
    else:
        output.line("what moves them is known; next: sudo systemctl enable --now gatewayd")
    output.document(
        {
            "gateway": ours.gateway,
            "group": ours.group,
            "doors": dict(ours.doors),
            "unbound": unbound,
            "written": [str(path) for path in written],
        }
    )
    return ExitCode.DONE


def _unbound(directory: Path) -> list[str]:
    """Doors of the configuration that nothing moves; `gatewayd check` tells all else of it."""
    try:
        found = config.load(directory / CONFIGURATION, unbound=True)
    except config.ConfigError:
        return []
    return [door.id for door in found.doors if door.lock is None and door.relay is None]


def _opened(directory: Path) -> list[Path]:
    """What the daemon's unit has to be opened for, where this is the gateway that it runs."""
    if directory != enrolment_app.INSTALLED:
        return []
    try:
        needed = drop_ins.needed(config.load(directory / CONFIGURATION, unbound=True))
    except config.ConfigError:
        return []  # it was here before, and whoever wrote it hears of it from gatewayd check
    return drop_ins.Unit().open_for(*needed)


def _begun(enrolment: Enrolment, arguments: argparse.Namespace, output: Output) -> Progress:
    progress = enrolment.progress()
    asked = progress.step is Step.NOTHING and arguments.answer is None and sys.stdin.isatty()
    if arguments.claim is not None or asked:
        text = _claim_text(arguments.claim, output)
        try:
            return enrolment.begin(Claim.parse(text), arguments.key_in)
        except NotAClaimError as error:
            raise CommandError(
                f"this is no claim: {error}",
                "type all of it, or scan it; 0, 1, 8 and 9 stand nowhere behind GD1",
                ExitCode.USAGE,
            ) from None
    if arguments.key_in is not None:
        raise CommandError(
            "--key-in goes with a claim",
            "what was begun goes on where it was begun: leave it out",
            ExitCode.USAGE,
        )
    if progress.step is Step.NOTHING:
        raise CommandError(
            "no enrolment is under way",
            "the operator makes a claim: gatewayd cloud invite",
            ExitCode.USAGE,
        )
    return progress


def _claim_text(given: str | None, output: Output) -> str:
    if given == "-":
        return claim_in(sys.stdin.read(_MOST_READ))
    if given is not None:
        return given
    text = ""
    prompt = "claim of the operator, GD1…: scan it, or paste all its lines and press Enter\n"
    while line := read_line(prompt, output):
        prompt = ""
        text += f"{line}\n"
        try:
            Claim.parse(text)
        except NotAClaimError:
            continue  # more of it may come; an empty line ends it
        break
    return text


def _answered(
    enrolment: Enrolment, progress: Progress, arguments: argparse.Namespace, output: Output
) -> Progress:
    try:
        if arguments.answer is not None:
            data = keyfiles.read_file(arguments.answer, "answer", "the operator's enrol writes it")
            return enrolment.accept(progress, data)
        broker = Claim.parse(progress.claim).broker
        output.line(f"asking at {broker}")
        return asyncio.run(_ask(enrolment, progress, arguments.patience, output))
    except EnrolmentRefusedError as error:
        raise CommandError(
            f"the operator refuses: {error.refusal.words}",
            _REFUSED[error.refusal],
        ) from None
    except RemoteProtocolError as error:
        raise CommandError(
            f"{arguments.answer} is no answer to our request: {error.detail}",
            "is it the answer to the request that this gateway wrote last?",
        ) from None
    except UpstreamError as error:
        raise CommandError(
            str(error),
            error.remedy or "is there a network? without one: --request FILE, then --answer FILE",
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{GOES_ON}, and needs no claim") from None
    except TimeoutError:
        raise CommandError(
            "no answer from the operator",
            "does gatewayd cloud enrol run there? gatewayd setup enrol goes on, without the claim",
            ExitCode.UNKNOWN,
        ) from None


async def _ask(
    enrolment: Enrolment, progress: Progress, patience_s: int, output: Output
) -> Progress:
    still = asyncio.get_running_loop().call_later(
        _SILENCE_S,
        output.line,
        f"no answer yet; asking for up to {patience_s} s. Ctrl-C ends it, and loses nothing",
    )
    try:
        async with asyncio.timeout(patience_s):
            return await enrolment_app.ask(
                progress, lambda payload: enrolment.accept(progress, payload)
            )
    finally:
        still.cancel()


def element(text: str) -> KeyUri:
    """A place for new keys, as argparse types go."""
    try:
        uri = KeyUri.parse(text)
    except NotAKeyUriError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if uri.object is not None:
        raise argparse.ArgumentTypeError("the keys get their names here: leave object out")
    return uri


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "claim", metavar="CLAIM", nargs="?",
        help="as the operator gave it, or - to read it (default: the one under way, or asked for)",
    )  # fmt: skip
    parser.add_argument(
        "--into", metavar="DIR", type=Path, default=enrolment_app.INSTALLED,
        help="the gateway's files (default: /etc/gatewayd)",
    )  # fmt: skip
    parser.add_argument(
        "--key-in", metavar="URI", type=element,
        help="make keys in a secure element: pkcs11:token=NAME?module-path=FILE&pin-source=FILE",
    )  # fmt: skip
    parser.add_argument(
        "--patience", metavar="SECONDS", type=common.positive, default=300,
        help="how long to wait for the operator (default: 300)",
    )  # fmt: skip
    parser.add_argument(
        "--request", metavar="FILE", type=Path, help="without a network: write the request there"
    )
    parser.add_argument(
        "--answer", metavar="FILE", type=Path, help="without a network: read the answer there"
    )


COMMAND: Final = Command(
    name="enrol",
    summary="make this machine an operator's gateway, with a claim",
    description="""
    Makes this gateway's keys, asks the operator named by the claim for a credential, a certificate
    for the broker, the trust bundle and the time, and writes them, with a configuration. What moves
    a door stands in it where the operator knows, as for a gateway that replaces another; else setup
    claim-lock and bind-door come next. Private keys never leave this machine. An existing
    configuration and existing keys are kept. As root and in /etc/gatewayd it also opens the
    daemon's unit for what the configuration names, such as a network for the broker.

    It may be cut off at any moment: said again, without the claim, it goes on with the same keys
    and the same request. A claim serves one device, which may use it again.

    With --key-in the gateway's key and its receipt key are made in a secure element (RFC 7512 names
    it) and never leave it; their files then say where they are. The PIN stands in a file of its
    own, for root alone. The keys of the log and of the certificate stay in files.

    A machine without a network writes its request to a file, and reads the answer from one.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        "gatewayd setup enrol",
        "gatewayd setup enrol - < claim.txt",
        (
            "gatewayd setup enrol - < claim.txt \\\n"
            "    --key-in 'pkcs11:token=door?module-path=/usr/lib/softhsm/libsofthsm2.so'"
        ),
        "gatewayd setup enrol - --request enrolment.request < claim.txt",
        "gatewayd setup enrol --answer enrolment.answer",
    ),
)
