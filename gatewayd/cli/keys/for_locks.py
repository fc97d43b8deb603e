"""`gatewayd keys anchor` and `lock-release`: what an operator signs for locks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from firmware_proto.cose import key_id
from firmware_proto.statements import Anchoring, Reset
from gatewayd import keyfiles
from gatewayd.cli.command import Command, ExitCode, Output
from gatewayd.cli.keys import common


# --- anchor -----------------------------------------------------------------------------------
def _anchor(arguments: argparse.Namespace, output: Output) -> int:
    root = common.read_signer(arguments.root, "root key")
    with common.files_are_arguments():
        gateways = keyfiles.read_p256_public(arguments.gateways, "gateways key")
        command = keyfiles.read_p256_public(arguments.command, "command key")
    data = Anchoring(arguments.serial, gateways, command).sign(root)
    common.write(output, {}, {arguments.out: data})
    output.line(f"anchor {arguments.serial}, for locks that have {arguments.serial - 1}")
    return ExitCode.DONE


def _anchor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--serial", metavar="N", type=common.positive, required=True,
        help="1, then one more each time; locks take no other",
    )  # fmt: skip
    parser.add_argument(
        "--gateways", metavar="FILE", type=Path, required=True,
        help="public key that signs gateway credentials from then on",
    )  # fmt: skip
    parser.add_argument(
        "--command", metavar="FILE", type=Path, required=True,
        help="public key that signs orders from then on",
    )  # fmt: skip
    parser.add_argument(
        "--root", metavar="KEY", type=Path, required=True, help="the root's private key"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the anchor")


# --- lock-release -----------------------------------------------------------------------------
def _release(arguments: argparse.Namespace, output: Output) -> int:
    signer = common.read_signer(arguments.signer, "command key")
    with common.files_are_arguments():
        lock = keyfiles.read_p256_public(arguments.lock, "lock key")
    data = Reset(key_id(lock), arguments.epoch).sign(signer)
    common.write(output, {}, {arguments.out: data})
    output.line(f"leave for lock {key_id(lock).hex()} in its epoch {arguments.epoch}")
    return ExitCode.DONE


def _release_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lock", metavar="LOCK", type=Path, help="the lock's public key")
    parser.add_argument(
        "--epoch", metavar="N", type=common.positive, required=True,
        help="its present epoch, as `setup claim-lock` and the handover show it",
    )  # fmt: skip
    parser.add_argument(
        "--signer", metavar="KEY", type=Path, required=True, help="the private command key"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the leave")


ANCHOR: Final = Command(
    name="anchor",
    summary="sign other operator's keys for locks",
    description="""
    A lock obeys whatever gateway the operator's gateways key has signed, and learnt that key when
    it was claimed. This signs another one, and the command key beside it; `gatewayd setup
    anchor-lock` carries it to a lock. Anchors are taken in order: a lock that has missed one needs
    that one first.
    """,
    run=_anchor,
    arguments=_anchor_arguments,
    examples=(
        (
            "gatewayd keys anchor --serial 1 --gateways new/gateways.pub.pem \\\n"
            "    --command operator/command.pub.pem --root operator/root.pem --out anchor-1.cose"
        ),
    ),
)

RELEASE: Final = Command(
    name="lock-release",
    summary="sign leave for a lock to belong to nobody again",
    description="""
    For a lock whose label is lost: `gatewayd setup release-lock --statement` carries this to it
    instead of label and button. It serves once, because it names the epoch that the lock is in, and
    each claim and each release begins another one.
    """,
    run=_release,
    arguments=_release_arguments,
    examples=(
        (
            "gatewayd keys lock-release lock-1.pub.pem --epoch 2 --signer operator/command.pem \\\n"
            "    --out leave.cose"
        ),
    ),
)
