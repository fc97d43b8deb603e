"""`gatewayd setup bind-door`, `unbind-door` and `test-open`: what moves a door, and whether."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, Literal

from gatewayd import drop_ins
from gatewayd.cli.command import Command, CommandError, ExitCode, Output
from gatewayd.cli.phone_radio import address
from gatewayd.cli.screen import Tint
from gatewayd.cli.setup import common
from gatewayd.stand_in import Daemon

if TYPE_CHECKING:
    from gatewayd.config.model import Relay
    from gatewayd.setup_site import Site
    from gatewayd.setup_trials import Tried

_ENDED: Final = {
    "confirmed": ("opened", Tint.GOOD),
    "refused": ("refused", Tint.BAD),
    "unknown": ("unknown", Tint.CARE),
}
_LEAVES: Final[tuple[Literal["open", "closed"], ...]] = ("open", "closed")


# --- bind-door and unbind-door ----------------------------------------------------------------
def _bind(arguments: argparse.Namespace, output: Output) -> int:
    relay = _relay(arguments)

    async def work(site: Site) -> list[str]:
        from gatewayd import setup_app  # noqa: PLC0415 - help stays quick

        if relay is not None:
            return await setup_app.bind_relay(site, arguments.door, relay)
        return await setup_app.bind_lock(site, arguments.door, arguments.lock, warm=arguments.warm)

    if relay is not None:  # before the step becomes the daemon's user, who may not
        for path in drop_ins.Unit().open_for(drop_ins.RELAY):
            output.line(f"wrote {path}")
    said = common.on_site(arguments, work, output)
    following = f"sudo gatewayd setup test-open {arguments.door}"
    return common.changed(said, output, following, door=arguments.door)


def _relay(arguments: argparse.Namespace) -> Relay | None:
    """As the configuration would name it. CommandError."""
    of_relays = (arguments.active_low, arguments.pulse_ms, arguments.contact)
    if arguments.relay is None:
        if any(of_relays):
            raise CommandError(
                "--active-low, --pulse-ms and --contact are about a relay",
                "name it: --relay CHIP:LINE",
                ExitCode.USAGE,
            )
        return None
    from gatewayd.config.model import Contact, Relay  # noqa: PLC0415 - help stays quick

    chip, _, line = arguments.relay.rpartition(":")
    if not chip or not line or arguments.warm:
        raise CommandError(
            f"--relay {arguments.relay[:60]} is no CHIP:LINE" if not arguments.warm
            else "--warm is about a lock",
            "as --relay pinctrl-rp1:GPIO17, or by offset: --relay gpiochip0:17",
            ExitCode.USAGE,
        )  # fmt: skip
    contact = None if arguments.contact is None else Contact(line=_line(arguments.contact))
    return Relay(
        chip=chip,
        line=_line(line),
        active_low=arguments.active_low,
        pulse_ms=arguments.pulse_ms,
        contact=contact,
    )


def _line(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _pulse(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 50 <= int(text) <= 30_000:  # noqa: PLR2004 - model.Relay
        raise argparse.ArgumentTypeError("a pulse is 50 to 30000 ms")
    return int(text)


def _bind_arguments(parser: argparse.ArgumentParser) -> None:
    common.door_argument(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--lock", metavar="ADDRESS", type=address,
        help="the lock that was claimed for it (default: that lock, whatever its address)",
    )  # fmt: skip
    what.add_argument("--relay", metavar="CHIP:LINE", help="a relay on a GPIO line instead")
    parser.add_argument("--warm", action="store_true", help="keep the link to the lock")
    parser.add_argument("--active-low", action="store_true", help="a low line pulls the relay")
    parser.add_argument("--pulse-ms", metavar="MS", type=_pulse, help="shorter than latch_ms")
    parser.add_argument("--contact", metavar="LINE", help="of the same chip, low while closed")


def _unbind(arguments: argparse.Namespace, output: Output) -> int:
    async def work(site: Site) -> list[str]:
        from gatewayd import setup_app  # noqa: PLC0415 - help stays quick

        return await setup_app.unbind(site, arguments.door)

    said = common.on_site(arguments, work, output)
    return common.changed(said, output, door=arguments.door)


# --- test-open --------------------------------------------------------------------------------
def _test_open(arguments: argparse.Namespace, output: Output) -> int:
    leaves = _LEAVES if arguments.leaf is None else (arguments.leaf,)
    runs = Daemon().runs(arguments.config)  # who becomes its user may not ask any more
    waiting: list[str] = []

    async def work(site: Site) -> list[Tried]:
        from gatewayd import setup_trials  # noqa: PLC0415 - help stays quick

        tried = []
        waiting.extend(site.unbound)
        for leaf in leaves:
            _wait_for(leaf, arguments, output)
            output.line(f"opening {arguments.door}")
            tried.append(await setup_trials.test_open(site, arguments.door, leaf))
            _tell(tried[-1], output)
            if tried[-1].opening.outcome != "confirmed":
                break
        return tried

    tried = common.on_site(arguments, work, output)
    output.document(
        [
            {
                "door": each.opening.door,
                "leaf": each.opening.leaf,
                "outcome": each.opening.outcome,
                "reason": each.opening.reason,
                "ms": each.opening.took_ms,
                "sensed": each.sensed.name.lower(),
            }
            for each in tried
        ]
    )
    outcome = tried[-1].opening.outcome
    if outcome == "confirmed":
        start = "sudo gatewayd doctor --walk" if runs else "sudo systemctl start gatewayd"
        output.line(f"next: {common.binding(waiting[0]) if waiting else start}")
    else:
        output.line(
            "look at the door, then the same again; sudo gatewayd doctor --walk dials its lock"
        )
    if outcome == "unknown":
        return ExitCode.UNKNOWN
    return ExitCode.DONE if outcome == "confirmed" else ExitCode.FAILED


def _wait_for(leaf: str, arguments: argparse.Namespace, output: Output) -> None:
    """A bolt that is thrown against a closed leaf may do harm; so the open leaf comes first."""
    if arguments.yes:
        return
    verb = {"open": "open the door and keep it open", "closed": "close the door"}[leaf]
    if common.read_line(f"{verb}, then press Enter ", output) is None:
        raise CommandError(
            "nobody pressed Enter", "with --yes nobody is asked; look at the door all the same"
        )


def _tell(tried: Tried, output: Output) -> None:
    opening = tried.opening
    why = "" if opening.reason == "ok" else f": {opening.reason}"
    word, tint = _ENDED[opening.outcome]
    output.line(
        f"{opening.door}, leaf {opening.leaf}: {word}{why} in {opening.took_ms} ms", tint=tint
    )
    sensed = tried.sensed.name.lower()
    if sensed not in {"unknown", opening.leaf}:
        output.line(
            f"  but its sensor says {sensed}: is it wired and placed right?", tint=Tint.CARE
        )


def _test_open_arguments(parser: argparse.ArgumentParser) -> None:
    common.door_argument(parser)
    parser.add_argument("--leaf", choices=_LEAVES, help="only this trial (default: both, in order)")
    parser.add_argument("--yes", action="store_true", help="do not wait for Enter")


BIND: Final = Command(
    name="bind-door",
    summary="say what moves a door",
    description="""
    Binds a door to the lock that was claimed for it, or with --relay to a GPIO line of this
    machine, whatever the configuration says of it. The binding is provisional: it ends after 7
    days, or when the operator states what moves the doors of this gateway. Doing it again changes
    nothing, and does not prolong it; `setup unbind-door` undoes it. The daemon takes it up when it
    is started, and tells the operator that the door awaits his word.
    """,
    run=_bind,
    arguments=_bind_arguments,
    examples=(
        "gatewayd setup bind-door street",
        "gatewayd setup bind-door garage --relay pinctrl-rp1:GPIO17 --pulse-ms 500",
    ),
)

UNBIND: Final = Command(
    name="unbind-door",
    summary="take back what moves a door",
    description="""
    Undoes `setup bind-door`: from the next start of the daemon on the door is moved by what it was
    moved by before, or by nothing. Its lock stays claimed, and can be bound again without a visit.
    """,
    run=_unbind,
    arguments=common.door_argument,
    examples=("gatewayd setup unbind-door street",),
)

TEST_OPEN: Final = Command(
    name="test-open",
    summary="open a door twice: with its leaf open, then closed",
    description="""
    With the leaf open nobody can be locked out while something is still wrong; so that comes first,
    and the closed door only when it went well. Each opening is recorded like any other before the
    lock moves. A lock or contact that senses the leaf is compared with where the leaf should be.
    """,
    run=_test_open,
    arguments=_test_open_arguments,
    examples=("gatewayd setup test-open street",),
)
