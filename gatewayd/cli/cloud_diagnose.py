"""`gatewayd cloud send … diagnose`: how a gateway is, from itself, and from nobody else."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Final

import msgspec

from firmware_proto.errors import RemoteProtocolError
from gatewayd import facts
from gatewayd.cli.cloud_order import Sender
from gatewayd.cli.command import CommandError, ExitCode, Output
from gatewayd.core.envelope import Kind
from gatewayd.facts import Facts

_LIVES_S: Final = 300
_WAIT_S: Final = 45.0
_BAD: Final = {"warning", "error"}


def send_diagnose(sender: Sender, arguments: argparse.Namespace, output: Output) -> int:
    """Ask, and show what it says. Fails when it finds something that wants looking after."""
    gateway = sender.gateway.gateway
    output.line(f"asking {gateway} how it is")
    order, signed = sender.order(Kind.DIAGNOSE, None, _LIVES_S)
    answered = sender.ask(order, signed, arguments, _WAIT_S)
    try:
        told = facts.decode(answered if isinstance(answered, bytes) else b"")
    except RemoteProtocolError as error:
        raise CommandError(
            f"the answer cannot be read: {error.detail}", "is the gateway newer?"
        ) from None
    output.document({"gateway": gateway, "facts": json.loads(msgspec.json.encode(told))})
    for line in _lines(told):
        output.line(line)
    return (
        ExitCode.FAILED if any(each.severity in _BAD for each in told.findings) else ExitCode.DONE
    )


def _lines(told: Facts) -> Iterator[str]:
    status = told.status
    bound = "" if told.clock_bound_s is None else f", within {told.clock_bound_s} s"
    yield f"  version    {status.version}, kernel {status.kernel}, running {_span(told.running_s)}"
    if status.bluez:
        yield f"  bluetooth  {status.bluez}, {status.radio or 'serving'}"
    yield f"  clock      {status.clock}{bound}"
    yield f"  log        {told.log_size} entries, {told.log_acknowledged} of them acknowledged"
    storage = status.storage
    if storage is not None:
        free = "unknown" if storage.free_percent is None else f"{storage.free_percent} %"
        yield f"  storage    {free} free, log {storage.log.replace('_', ' ')}"
    for door, lock in status.locks.items():
        reached = {True: "reached", False: "not reached", None: "not dialled yet"}[lock.reached]
        troubles = "".join(f", {each.replace('_', ' ')}" for each in lock.troubles)
        battery = "" if lock.battery_percent is None else f", battery {lock.battery_percent} %"
        yield f"  door       {door}: {reached}{battery}{troubles}"
    for name, count in told.messages.items():
        yield f"  journal    {name.replace('_', ' ')}: {count}"
    for name, count in told.counts.items():
        yield f"  counted    {name}: {count}"
    for each in told.findings:
        yield f"  {each.severity:<10} {each.check}: {each.message}"
        if each.remedy:
            yield f"             -> {each.remedy}"
    if told.findings_left_out:
        yield f"  {told.findings_left_out} findings found no place"


def _span(seconds: int) -> str:
    days, hours = seconds // 86_400, seconds // 3600 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {seconds // 60 % 60} min"
