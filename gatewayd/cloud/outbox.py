"""What the operator publishes: which topic an envelope belongs on, and numbers for orders.

Everything here is retained by the broker, orders that last too: a gateway that
is away finds them when it comes back, and one that had them takes them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from firmware_proto import cose
from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.core import envelope, state, statuslist
from gatewayd.core.envelope import ENVELOPE_TYPE, EVERYBODY, Kind, Statement
from gatewayd.core.model import GatewayId
from gatewayd.core.state import STATE_TYPE
from gatewayd.core.statuslist import SIGN1_TAG
from gatewayd.core.topics import TRUST, GatewayTopics, everybody_topic, group_topic
from gatewayd.core.trust import TRUST_TYPE, Trust, signed_by, unverified_bundle
from gatewayd.core.trust_chain import Chain, pack

SENDABLE: Final = frozenset({Kind.RETIRE, Kind.FLOOR, Kind.ERASE})
"""Orders that are files; the others are answers, made where they are needed."""


class Message(NamedTuple):
    """One retained message."""

    topic: str
    payload: bytes
    what: str
    """For people."""


def messages(files: Sequence[bytes], trust: Trust, root: cose.VerifyingKey) -> list[Message]:
    """What to publish of these files: states, orders, lists, all bundles of the group as one chain.

    Raises RemoteProtocolError for a file that no gateway would take, ValueError
    for an addressee that cannot stand in a topic.
    """
    found: list[Message] = []
    bundles: list[bytes] = []
    for data in files:
        if data.startswith(SIGN1_TAG):
            found.append(_list(data, trust))
            continue
        kind = cose.Sign1.parse(data).protected.get(cose.HEADER_TYP)
        if kind == TRUST_TYPE:
            bundles.append(data)
        elif kind == STATE_TYPE:
            found.append(_state(data, trust))
        elif kind == ENVELOPE_TYPE:
            found.append(_order(data, trust))
        else:
            raise RemoteProtocolError(*_NOT_ENVELOPE)
    if bundles:
        chain = Chain.anchored(bundles[0], _signer(bundles[0], root)).extended(bundles)
        what = f"trust chain of {chain.trust.group} up to serial {chain.trust.serial}"
        topic = group_topic(chain.trust.group, TRUST)
        found.insert(0, Message(topic, pack(chain.bundles), what))
    return found


def _signer(bundle: bytes, root: cose.VerifyingKey) -> cose.VerifyingKey:
    """Who began the chain: the root of today, or one of that time."""
    signed, then = unverified_bundle(bundle)
    return next((key for key in then.roots if signed_by(signed, key)), root)


def _list(data: bytes, trust: Trust) -> Message:
    """A status list as its issuer signed it; the topic only keeps it apart from others."""
    said = statuslist.verify(data, trust)
    topic = group_topic(trust.group, "list", f"{said.issuer} {said.uri}")
    return Message(topic, data, f"list {said.uri} of {said.issuer}, {said.against} taken back")


def _state(data: bytes, trust: Trust) -> Message:
    said, _ = state.verify(data, trust)
    kind = said.kind.name.lower()
    what = f"{kind} for {said.addressee}, serial {said.serial}"
    return Message(_topic(said.addressee, trust.group, kind, said.subject), data, what)


def _order(data: bytes, trust: Trust) -> Message:
    order, _ = envelope.opened(data, trust)
    if order.kind not in SENDABLE:
        raise RemoteProtocolError(*_NOT_ENVELOPE)
    kind = order.kind.name.lower()
    number = "" if order.number is None else str(order.number)
    what = f"order {kind} {number}".rstrip() + f" for {order.addressee}"
    return Message(_topic(order.addressee, trust.group, kind, number), data, what)


def numbered_topic(order: Statement) -> str:
    """Where a lasting order to one gateway waits for it."""
    kind, number = order.kind.name.lower(), str(order.number)
    return GatewayTopics(GatewayId(order.addressee)).down(kind, number)


def _topic(addressee: str, group: str, kind: str, subject: str) -> str:
    if addressee == EVERYBODY:
        return everybody_topic(kind, subject)
    if addressee == group:
        return group_topic(group, kind, subject)
    return GatewayTopics(GatewayId(addressee)).down(kind, subject)


_NOT_ENVELOPE: Final = (Fault.MALFORMED, "no bundle, state, order or list for gateways")
