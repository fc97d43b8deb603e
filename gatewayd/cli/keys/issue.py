"""`gatewayd keys issue`: a key token for a phone."""

from __future__ import annotations

import argparse
import os
import re
import secrets  # noqa: TID251 - a command at a keyboard is an edge
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import Action, KeyClass, Presence
from firmware_proto.cose import key_id
from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud import listfile
from gatewayd.cloud.authority import new_key
from gatewayd.core import keytoken
from gatewayd.core.claims import CTI_BYTES, Claims, StatusReference
from gatewayd.core.schedule import DAY_MINUTES, Schedule, Window

_MOST_DAYS: Final = keytoken.UNLISTED_LIFETIME_S // common.DAY_S
_WINDOW: Final = re.compile(
    r"(?P<days>[a-z,-]+) (?P<from>[0-9]{2}:[0-9]{2})-(?P<to>[0-9]{2}:[0-9]{2})"
)


# --- arguments ---------------------------------------------------------------------
def parse_door(text: str) -> tuple[str, Action]:
    """`street` or `street:open,bolt`."""
    name, _, actions = text.partition(":")
    try:
        bits = [Action[each.strip().upper()] for each in (actions or "open").split(",")]
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"'{text[:60]}' is no door with actions, as street:open,unbolt,bolt"
        ) from None
    return common.name(name), reduce(Action.__or__, bits)


def parse_window(text: str) -> Window:
    """`mon-fri 08:00-17:00`; a window that ends before it starts runs past midnight."""
    try:
        return _window(text.strip().lower())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text[:60]}' is no window, as 'mon-fri 08:00-17:00' or 'daily 22:00-06:00'"
        ) from None


def parse_status(text: str) -> StatusReference:
    """`https://operator.example/lists/1#4711`."""
    uri, _, index = text.rpartition("#")
    if not uri or not index.isascii() or not index.isdigit():
        raise argparse.ArgumentTypeError(
            f"'{text[:60]}' is no place in a list, as https://operator.example/lists/1#4711"
        )
    return StatusReference(int(index), uri)


def _window(text: str) -> Window:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError("another form")
    start, end = _minute(match["from"]), _minute(match["to"])
    duration = (end - start) % DAY_MINUTES or DAY_MINUTES
    return Window(_days(match["days"]), start, duration)


def _days(text: str) -> int:
    mask = 0
    for part in text.replace("daily", "mon-sun").split(","):
        first, dash, last = part.partition("-")
        low = common.WEEKDAYS.index(first)
        high = common.WEEKDAYS.index(last) if dash else low
        for day in range(low, high + 1 if high >= low else high + 8):
            mask |= 1 << day % 7
    return mask


def _minute(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if hours * 60 + minutes > DAY_MINUTES or minutes > 59:  # noqa: PLR2004 - minutes of an hour
        raise ValueError("no time of day")
    return (hours * 60 + minutes) % DAY_MINUTES


# --- the command -----------------------------------------------------------------------
def _run(arguments: argparse.Namespace, output: Output) -> int:
    signer = common.read_signer(arguments.signer, "issuer key")
    if (arguments.wallet is None) == (arguments.phone is None):
        raise CommandError(
            "say whose phone: either --for KEY --out FILE, or --wallet DIR --gateways KEY",
            "a wallet is for the emulated phone; a real one makes its own key",
            ExitCode.USAGE,
        )
    if arguments.wallet is not None:
        return _into_wallet(arguments, signer, output)
    if arguments.out is None:
        raise CommandError("--for needs --out FILE", "where to write the token", ExitCode.USAGE)
    with common.files_are_arguments():
        phone = keyfiles.read_p256_public(arguments.phone, "the phone's key")
        token = _token(arguments, signer, phone)
    common.write(output, {}, {arguments.out: token})
    return ExitCode.DONE


def _into_wallet(
    arguments: argparse.Namespace, signer: ec.EllipticCurvePrivateKey, output: Output
) -> int:
    from gatewayd.emulators.wallet import Wallet  # noqa: PLC0415 - only here, and not light

    if arguments.gateways is None:
        raise CommandError(
            "--wallet needs --gateways KEY",
            "phones pin the operator's public gateways key: gateways.pub.pem",
            ExitCode.USAGE,
        )
    with common.files_are_arguments():
        gateways = keyfiles.read_p256_public(arguments.gateways, "gateways key")
        phone = new_key()
        token = _token(arguments, signer, phone.public_key())
        try:
            Wallet.create(arguments.wallet, phone, token, gateways)
        except OSError as error:
            raise CommandError(
                f"cannot make the wallet {arguments.wallet}: {error.strerror}",
                "name a new directory, where you may write",
                ExitCode.USAGE,
            ) from None
    output.line(f"wrote the wallet {arguments.wallet} (private: keep it to yourself)")
    output.document({"written": [str(arguments.wallet)]})
    return ExitCode.DONE


def _token(
    arguments: argparse.Namespace,
    signer: ec.EllipticCurvePrivateKey,
    phone: ec.EllipticCurvePublicKey,
) -> bytes:
    now_s = common.now_s()
    listed = arguments.status is not None or arguments.list is not None
    start = now_s if arguments.start is None else arguments.start
    days = arguments.days or (365 if listed else _MOST_DAYS)
    end = start + days * common.DAY_S if arguments.end is None else arguments.end
    if end <= start:
        raise CommandError("the key would end before it starts", "--from, --until", ExitCode.USAGE)
    if not listed and end - start > keytoken.UNLISTED_LIFETIME_S:
        raise CommandError(
            f"a key that no revocation list can take back lives at most {_MOST_DAYS} days",
            "give it a place in a list with --list FILE, or issue it anew in time",
            ExitCode.USAGE,
        )
    claims = Claims(
        issuer=arguments.issuer,
        subject=arguments.holder,
        audience=arguments.group,
        cti=os.urandom(CTI_BYTES),  # noqa: TID251 - a command at a keyboard is an edge
        not_before=start,
        expires=end,
        issued_at=now_s,
        key=phone,
        scope=tuple(arguments.door),
        key_class=KeyClass[arguments.key_class.upper()],
        presence=Presence[arguments.presence.upper()],
        status=arguments.status,
        schedule=_schedule(arguments),
    )
    if arguments.list is None:
        return _signed(claims, signer)
    with listfile.editing(arguments.list) as held:  # kept only when the key can be signed
        if held.issuer != arguments.issuer:
            raise CommandError(
                f"{arguments.list} is a list of {held.issuer}, not of {arguments.issuer}",
                "gateways believe an issuer's lists about that issuer's keys only",
                ExitCode.USAGE,
            )
        status = held.allocate(claims.subject, claims.expires, secrets.randbelow)
        return _signed(replace(claims, status=status), signer)


def _signed(claims: Claims, signer: ec.EllipticCurvePrivateKey) -> bytes:
    try:
        return keytoken.issue(claims, signer, key_id(signer.public_key()))
    except ValueError as error:
        raise CommandError(
            f"no gateway could read this key: {error}",
            "names have 1 to 64 letters, every door is named once",
            ExitCode.USAGE,
        ) from None


def _schedule(arguments: argparse.Namespace) -> Schedule | None:
    if not arguments.allow and not arguments.deny:
        return None
    if not arguments.allow or arguments.zone is None:
        raise CommandError(
            "a schedule needs --zone and at least one --allow",
            "as --zone Europe/Copenhagen --allow 'mon-fri 08:00-17:00'",
            ExitCode.USAGE,
        )
    return Schedule(arguments.zone, tuple(arguments.allow), tuple(arguments.deny))


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--issuer", metavar="NAME", required=True, help="as the trust bundle names it")
    add("--signer", metavar="KEY", type=Path, required=True, help="the issuer's private key")
    add("--group", required=True, help="the door group, as the trust bundle names it")
    add(
        "--door", metavar="NAME[:ACTIONS]", type=parse_door, action="append", required=True,
        help="a door and what may be done with it: open (default), unbolt, bolt; repeat",
    )  # fmt: skip
    add("--holder", required=True, help="who it is for, in words that mean nothing to others")
    add(
        "--class", dest="key_class", default="resident",
        choices=[each.name.lower() for each in KeyClass], help="selects policy (default: resident)",
    )  # fmt: skip
    add(
        "--presence", default="tap", choices=["tap", "arrival"],
        help="tap: opens on a tap only (default); arrival: also without, where the door allows it",
    )  # fmt: skip
    time = parser.add_argument_group("when it is valid")
    time.add_argument(
        "--from", dest="start", metavar="TIME", type=common.parse_time, help="(default: now)"
    )
    time.add_argument("--until", dest="end", metavar="TIME", type=common.parse_time)
    time.add_argument(
        "--days",
        type=common.days,
        help=f"when there is no --until (default: 365 with --list, {_MOST_DAYS} without)",
    )
    time.add_argument(
        "--allow", metavar="WINDOW", type=parse_window, action="append", default=[],
        help="only then, as 'mon-fri 08:00-17:00'; repeat",
    )  # fmt: skip
    time.add_argument(
        "--deny", metavar="WINDOW", type=parse_window, action="append", default=[],
        help="never then, whatever is allowed; repeat",
    )  # fmt: skip
    place = time.add_mutually_exclusive_group()
    place.add_argument(
        "--list",
        metavar="LIST",
        type=Path,
        help="give it a place in this list (see new-list), so that it can be taken back",
    )
    place.add_argument(
        "--status",
        metavar="URI#INDEX",
        type=parse_status,
        help="likewise, where its place is kept elsewhere",
    )
    time.add_argument(
        "--zone",
        type=common.zone,
        help="time zone of the windows: the door's, as Europe/Copenhagen",
    )
    phone = parser.add_argument_group("for whose phone")
    phone.add_argument("--for", dest="phone", metavar="KEY", type=Path, help="its public key")
    phone.add_argument("--out", metavar="FILE", type=Path, help="the token")
    phone.add_argument("--wallet", metavar="DIR", type=Path, help="make an emulated phone's wallet")
    phone.add_argument("--gateways", metavar="KEY", type=Path, help="public gateways key to pin")


COMMAND: Final = Command(
    name="issue",
    summary="issue a key token for a phone",
    description="""
    Signs a key token: which doors a phone may open, what it may do with them, and when. The phone
    proves to hold the key that the token names; the gateway needs no network to check it.

    A gateway refuses what the trust bundle does not let this issuer grant. A key without a
    place in a revocation list (--list) cannot be taken back, so gateways accept it for two days
    at most; it is issued anew before it ends.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        (
            "gatewayd keys issue --issuer housing --signer operator/housing.pem \\\n"
            "    --group vestergade-7 --door street --holder r-4711 \\\n"
            "    --list housing.list --for phone.pub.pem --out token.cwt"
        ),
        (
            "gatewayd keys issue --issuer care --signer care.pem --group vestergade-7 \\\n"
            "    --door street --class service --holder w-12 \\\n"
            "    --zone Europe/Copenhagen --allow 'mon-fri 07:00-16:00' \\\n"
            "    --wallet phone --gateways operator/gateways.pub.pem"
        ),
    ),
)
