"""`gatewayd keys new-list`, `list`, `revoke`, `sign-list`: how an issuer takes keys back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud import listfile
from gatewayd.cloud.listfile import ListFile, Place
from gatewayd.core import statuslist
from gatewayd.keyfiles import replace_file

_SIZE: Final = 10_000
_DAYS: Final = 60


# --- new-list ---------------------------------------------------------------------------
def _new(arguments: argparse.Namespace, output: Output) -> int:
    with common.files_are_arguments():
        listfile.create(arguments.list, arguments.issuer, arguments.uri, arguments.size)
    output.line(f"wrote {arguments.list} (private: it says who has which key)")
    output.document({"written": [str(arguments.list)]})
    return ExitCode.DONE


def _size(text: str) -> int:
    number = common.positive(text)
    if number > listfile.MAX_PLACES:
        raise argparse.ArgumentTypeError(f"'{text[:20]}' is more than {listfile.MAX_PLACES}")
    return -(-number // 8) * 8


def _new_arguments(parser: argparse.ArgumentParser) -> None:
    _list_argument(parser)
    add = parser.add_argument
    add("--issuer", metavar="NAME", required=True, help="as the trust bundle names it")
    add(
        "--uri", required=True,
        help="names the list in keys, as https://housing.example/keys; nobody fetches it there",
    )  # fmt: skip
    add(
        "--size", metavar="KEYS", type=_size, default=_SIZE,
        help=f"how many keys it can ever hold (default: {_SIZE})",
    )  # fmt: skip


# --- list -----------------------------------------------------------------------------
def _show(arguments: argparse.Namespace, output: Output) -> int:
    with common.files_are_arguments():
        held = listfile.read(arguments.list)
    now_s = common.now_s()
    places = sorted(held.places, key=lambda each: each.index)
    for each in places:
        output.line(f"{each.index:>7}  {_state(each, now_s):<32}  {each.holder}")
    revoked = sum(each.revoked is not None for each in places)
    signed = common.shown_time(held.signed) if held.signed else "never"
    output.line(f"{held.uri} of {held.issuer}: {len(places)} of {held.size} places taken,")
    output.line(f"{revoked} taken back; last signed: {signed}")
    if held.untold:
        output.line("NOT SIGNED SINCE THEN: gateways do not know yet (gatewayd keys sign-list)")
    output.document(
        {
            "issuer": held.issuer,
            "uri": held.uri,
            "size": held.size,
            "signed": held.signed,
            "untold": held.untold,
            "places": [_place(each) for each in places],
        }
    )
    return ExitCode.DONE


def _state(place: Place, now_s: int) -> str:
    if place.revoked is not None:
        return f"taken back {common.shown_time(place.revoked)}"
    return f"{'ended' if place.expires <= now_s else 'until'} {common.shown_time(place.expires)}"


def _place(place: Place) -> dict[str, object]:
    return {
        "index": place.index,
        "holder": place.holder,
        "expires": place.expires,
        "revoked": place.revoked,
    }


# --- revoke ---------------------------------------------------------------------------
def _revoke(arguments: argparse.Namespace, output: Output) -> int:
    holders, indexes = set(arguments.holder), set(arguments.index)
    if not holders and not indexes:
        raise CommandError(
            "say whose keys: --holder NAME or --index NUMBER",
            f"gatewayd keys list {arguments.list} shows them",
            ExitCode.USAGE,
        )
    with common.files_are_arguments(), listfile.editing(arguments.list) as held:
        _check_known(held, holders, indexes)
        news = held.revoke(
            lambda each: each.holder in holders or each.index in indexes, common.now_s()
        )
    for each in news:
        output.line(f"taken back: {each.index}, {each.holder}")
    if not news:
        output.line("they were taken back before")
    output.line("gateways know when they have the next list: gatewayd keys sign-list")
    output.document({"revoked": [_place(each) for each in news]})
    return ExitCode.DONE


def _check_known(held: ListFile, holders: set[str], indexes: set[int]) -> None:
    """All of them are in the list, or nothing is done: a slip of the pen must not look done."""
    unknown = [
        *sorted(holders - {each.holder for each in held.places}),
        *map(str, sorted(indexes - {each.index for each in held.places})),
    ]
    if unknown:
        raise CommandError(
            f"not in {held.uri}: {', '.join(unknown)[:200]}",
            "nothing was taken back; gatewayd keys list shows who is there",
        )


def _index(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text[:20]}' is no place in a list")
    return int(text)


def _revoke_arguments(parser: argparse.ArgumentParser) -> None:
    _list_argument(parser)
    parser.add_argument(
        "--holder", metavar="NAME", action="append", default=[],
        help="all keys of this holder, as --holder of `keys issue`; repeat",
    )  # fmt: skip
    parser.add_argument(
        "--index", metavar="NUMBER", type=_index, action="append", default=[],
        help="the key that has this place; repeat",
    )  # fmt: skip


# --- sign-list --------------------------------------------------------------------------
def _sign(arguments: argparse.Namespace, output: Output) -> int:
    signer = common.read_signer(arguments.signer, "issuer key")
    with common.files_are_arguments(), listfile.editing(arguments.list) as held:
        _check_replaceable(arguments.out, held)
        data = held.sign(signer, common.now_s(), arguments.days * common.DAY_S)
    try:
        replace_file(arguments.out, data, keyfiles.PUBLIC_MODE)
    except OSError as error:
        raise CommandError(
            f"cannot write {arguments.out}: {error.strerror}", "is there room, may you write there?"
        ) from None
    said = statuslist.unverified(data)
    output.line(f"wrote {arguments.out} ({len(data)} bytes)")
    output.line(
        f"signed {common.shown_time(said.issued_at)}, for use until "
        f"{common.shown_time(said.expires)}, {said.against} taken back"
    )
    output.document(
        {
            "written": [str(arguments.out)],
            "uri": said.uri,
            "issued_at": said.issued_at,
            "expires": said.expires,
            "revoked": said.against,
        }
    )
    return ExitCode.DONE


def _check_replaceable(out: Path, held: ListFile) -> None:
    """Only an earlier copy of the same list is replaced."""
    if not out.exists():
        return
    data = keyfiles.read_file(out, "what is to be replaced")
    try:
        found = statuslist.unverified(data).uri
    except RemoteProtocolError:
        found = ""
    if found != held.uri:
        raise CommandError(
            f"{out} exists already and is not {held.uri}",
            "choose another place; only an older copy of the same list is replaced",
            ExitCode.USAGE,
        )


def _sign_arguments(parser: argparse.ArgumentParser) -> None:
    _list_argument(parser)
    parser.add_argument(
        "--signer", metavar="KEY", type=Path, required=True, help="the issuer's private key"
    )
    parser.add_argument(
        "--days", type=common.days, default=_DAYS,
        help=f"how long gateways may do without a newer one (default: {_DAYS})",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True,
        help="the signed list; an older copy of it is replaced",
    )  # fmt: skip


def _list_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", metavar="LIST", type=Path, help="the file that the issuer keeps")


COMMANDS: Final = (
    Command(
        name="new-list",
        summary="begin a list in which keys can be taken back",
        description="""
        Makes the file in which an issuer keeps one revocation list: who has which place, and what
        is taken back. It is private, and it is needed for as long as its keys live: keep copies.
        A gateway holds at most eight lists of an issuer.
        """,
        run=_new,
        arguments=_new_arguments,
        examples=(
            (
                "gatewayd keys new-list housing.list --issuer housing \\\n"
                "    --uri https://housing.example/keys"
            ),
        ),
    ),
    Command(
        name="list",
        summary="show who has which place in a list, and what is taken back",
        description="""
        Shows the file that an issuer keeps: each place with its holder and the end of the key.
        What gateways get is the signed list, which names nobody: see `keys inspect`.
        """,
        run=_show,
        arguments=_list_argument,
        examples=("gatewayd keys list housing.list",),
    ),
    Command(
        name="revoke",
        summary="take keys back",
        description="""
        Marks keys as taken back, by holder or by place in the list. There is no way back: issue a
        new key. Gateways refuse them from the moment they hold the next signed list.
        """,
        run=_revoke,
        arguments=_revoke_arguments,
        examples=(
            "gatewayd keys revoke housing.list --holder r-4711",
            "gatewayd keys revoke housing.list --index 17 --index 2301",
        ),
    ),
    Command(
        name="sign-list",
        summary="sign a list for gateways",
        description="""
        Signs the list as it stands, a Token Status List in CWT form. Publish it on the broker,
        retained, and sign it anew now and then though nothing has changed: doors may refuse keys
        whose list is old. docs/operator.md says how.
        """,
        run=_sign,
        arguments=_sign_arguments,
        examples=(
            "gatewayd keys sign-list housing.list --signer operator/housing.pem --out housing.cwt",
        ),
    ),
)
