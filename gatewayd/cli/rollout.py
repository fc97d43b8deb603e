"""`gatewayd cloud roll-out`: settings for many gateways, ring by ring."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.errors import RemoteProtocolError
from gatewayd import keyfiles, rollout_app
from gatewayd.cli import broker, check, fleet
from gatewayd.cli.cloud_order import SENT
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.keys import common
from gatewayd.cloud.fleet import RINGS, Alarm
from gatewayd.cloud.outbox import Message
from gatewayd.cloud.rollout import (
    Again,
    Has,
    Leave,
    Send,
    Sent,
    Step,
    back,
    forth,
    objections,
    targets,
)
from gatewayd.config import stated
from gatewayd.core import state
from gatewayd.core.model import GatewayId
from gatewayd.core.state import State, StateKind
from gatewayd.core.topics import GatewayTopics
from gatewayd.ports import UpstreamError
from gatewayd.rollout_app import View

_KIND: Final = "settings"
_SHOWN: Final = 20
"""Gateways that are named of those that object; all are counted."""


# --- what was sent ---------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Drawer:
    """The operator's directory of what was sent, as far as it is settings."""

    directory: Path
    signer: ec.EllipticCurvePrivateKey = field(repr=False)

    def sent(self, gateway: GatewayId) -> list[Sent]:
        """Ascending. KeyFileError for a file that is none."""
        found = []
        for path in self.directory.joinpath(gateway).glob(f"{_KIND}-*.cose"):
            try:
                said = state.stated(keyfiles.read_file(path, "settings that were sent"))
            except RemoteProtocolError as error:
                raise keyfiles.KeyFileError(
                    f"{path} is not what was sent: {error.detail}", "put it back, or away"
                ) from None
            if said.kind is StateKind.SETTINGS and said.addressee == gateway:
                found.append(Sent(said.serial, said.body))
        return sorted(found)

    def message(self, gateway: GatewayId, step: Send | Again) -> Message:
        """What to publish; a new state is kept before it leaves."""
        path = self.directory / gateway / f"{_KIND}-{step.serial:06}.cose"
        if isinstance(step, Send):
            said = State(StateKind.SETTINGS, gateway, "", step.serial, step.body)
            data = state.sign(said, self.signer)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            keyfiles.create_files({path: data}, mode=0o644)
        else:
            data = keyfiles.read_file(path, "settings that were sent")
        what = f"{_KIND} for {gateway}, serial {step.serial}"
        return Message(GatewayTopics(gateway).down(_KIND), data, what)


# --- roll-out --------------------------------------------------------------------------
def _run(arguments: argparse.Namespace, output: Output) -> int:
    at = broker.files(arguments)
    signer = common.read_signer(arguments.keys / "command.pem", "command key")
    with common.files_are_arguments():
        bodies = [
            None if path is None else stated.pack_settings(path)
            for path in (arguments.settings, arguments.before)
        ]
    for path, body in zip((arguments.settings, arguments.before), bodies, strict=True):
        if isinstance(body, list):
            check.report(path, body, output)
            return ExitCode.USAGE
    wanted, before = bodies
    drawer = Drawer(arguments.keys / SENT, signer)

    def step(gateway: GatewayId, held: int) -> Step:
        sent = drawer.sent(gateway)
        if arguments.undo:
            return back(sent, held, wanted, before)  # type: ignore[arg-type] # no list any more
        return forth(sent, held, wanted)  # type: ignore[arg-type] # likewise

    async def roll_out() -> int:
        async with rollout_app.look(at, arguments.quiet) as view:
            return await _roll_out(view, drawer, step, arguments, output)

    try:
        with common.files_are_arguments():
            return asyncio.run(roll_out())
    except UpstreamError as error:
        away = broker.away(arguments, error)
        raise CommandError(
            away.message, f"{away.hint} What was sent is kept: run it again"
        ) from None


async def _roll_out(
    view: View,
    drawer: Drawer,
    step: Callable[[GatewayId, int], Step],
    arguments: argparse.Namespace,
    output: Output,
) -> int:
    gateways = targets(tuple(view.fleet.reports), arguments.ring)
    steps = {each: step(each, view.serials.get(each, 0)) for each in gateways}
    if not arguments.undo:
        _object(steps, view, arguments, output)
    for gateway, each in steps.items():
        if isinstance(each, Leave):
            output.line(f"{gateway} {each.why}: left alone")
    wanted = {
        gateway: each.serial
        for gateway, each in steps.items()
        if isinstance(each, Send | Again | Has)
    }
    messages = [
        drawer.message(gateway, each)
        for gateway, each in steps.items()
        if isinstance(each, Send | Again)
    ]
    rings = f"ring {arguments.ring}: {len(gateways)} of {len(view.fleet.reports)} gateways"
    output.line(f"{rings}; {len(messages)} to be sent, {len(wanted) - len(messages)} have it")
    await view.publish(messages, _progress(output, "sent", len(messages)))
    await view.wait(wanted, arguments.watch, _progress(output, "have it", len(wanted)))
    return _tell(view, steps, wanted, arguments, output)


def _object(
    steps: Mapping[GatewayId, Step], view: View, arguments: argparse.Namespace, output: Output
) -> None:
    found = list(objections(steps, view.alarms(), arguments.ring))
    for gateway, why in found[:_SHOWN]:
        output.line(f"{gateway}: {why}")
    if found and not arguments.despite_alarms:
        raise CommandError(
            f"not sent to ring {arguments.ring}: of the smaller rings {len(found)} are not well",
            "look after them (gatewayd cloud fleet), go back with --undo, or --despite-alarms",
        )


def _progress(output: Output, what: str, whole: int) -> Callable[[int], None]:
    stride = max(1, whole // 20)

    def told(count: int) -> None:
        if count and (count % stride == 0 or count == whole):
            output.line(f"  {count} of {whole} {what}")

    return told


def _tell(
    view: View,
    steps: Mapping[GatewayId, Step],
    wanted: Mapping[GatewayId, int],
    arguments: argparse.Namespace,
    output: Output,
) -> int:
    missing = sorted(each for each, at in wanted.items() if view.serials.get(each, 0) < at)
    alarms = [each for each in view.alarms() if each.gateway in steps]
    left = {gateway: each.why for gateway, each in steps.items() if isinstance(each, Leave)}
    for gateway in missing[:_SHOWN]:
        output.line(f"{gateway} does not say yet that it has it")
    counted = Counter(each.name.replace("_", " ") for each in alarms)
    shown = ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "none"
    output.line(f"{len(wanted) - len(missing)} of {len(wanted)} have it; alarms of them: {shown}")
    if missing:
        output.line("the broker keeps it for them; the same command goes on where this one ends")
    output.document(
        {
            "ring": arguments.ring,
            "undo": arguments.undo,
            "serials": dict(wanted),
            "sent": [each for each, step in steps.items() if isinstance(step, Send | Again)],
            "missing": missing,
            "left_alone": left,
            "alarms": _as_objects(alarms),
        }
    )
    return ExitCode.FAILED if missing or alarms or left else ExitCode.DONE


def _as_objects(alarms: Sequence[Alarm]) -> list[dict[str, str]]:
    return [{"gateway": each.gateway, "alarm": each.name, "detail": each.detail} for each in alarms]


# --- arguments ------------------------------------------------------------------------------
def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "settings", metavar="SETTINGS", type=Path, help="[[door]] tables with id and policy"
    )
    parser.add_argument(
        "--ring", metavar="RING", type=int, choices=RINGS, required=True,
        help="1, 5 or 100: percent of the gateways that have it then",
    )  # fmt: skip
    parser.add_argument(
        "--undo", action="store_true", help="send what each was sent before, under a new serial"
    )
    parser.add_argument(
        "--before", metavar="FILE", type=Path,
        help="with --undo: settings for gateways that were sent none before",
    )  # fmt: skip
    parser.add_argument(
        "--despite-alarms", action="store_true", help="go on though smaller rings are not well"
    )
    parser.add_argument(
        "--watch", metavar="SECONDS", type=common.positive, default=300,
        help="how long to wait until all say that they have it (default: 300)",
    )  # fmt: skip
    parser.add_argument(
        "--quiet", metavar="SECONDS", type=fleet.quiet_s, default=2.0,
        help="the broker has said all when it is silent for so long (default: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--keys", metavar="DIR", type=Path, default=Path(),
        help="the operator's keys: command (default: here)",
    )  # fmt: skip
    broker.add_arguments(parser)


_EXAMPLE: Final = "--keys operator --broker mqtts://broker.example:8883"
COMMAND: Final = Command(
    name="roll-out",
    summary="send settings to one percent of the gateways, then five, then all",
    description="""
    Signs settings for each gateway of a ring, keeps them in the operator's directory under
    sent/GATEWAY, leaves them at the broker, and waits until the gateways say in their status that
    they have them. Ring 1 is one percent of the gateways, ring 5 four more, ring 100 all others; a
    gateway's name alone decides. A ring has its turn only when all of the smaller ones have the
    same settings and no alarm (gatewayd cloud fleet).

    The same command again goes on where it was interrupted, and sends nobody anything twice. --undo
    sends what each gateway was sent before, whole, under a higher serial; where nothing was sent
    before, --before says what. A gateway whose settings came from elsewhere is left alone.

    Fails (1) when a smaller ring is not well, and when not all have it at the end, or not all
    are well. Statuses are not signed: whoever owns the broker can stop a roll-out, or say
    that all is well. He cannot change what is sent.
    """,
    run=_run,
    arguments=_arguments,
    examples=(
        f"gatewayd cloud roll-out evening.toml --ring 1 {_EXAMPLE}",
        f"gatewayd cloud roll-out evening.toml --ring 100 --undo --before plain.toml {_EXAMPLE}",
    ),
)
