"""State envelopes: what is to hold from now on, for a gateway, a door group or everybody.

The operator's command key signs each, with a serial per (kind, addressee,
subject); what holds of several is `core.register`. A body is whole, never a
patch, and opaque here: each kind has a parser of its own, and where a body
is itself signed (a status list by its issuer, a credential by the gateways
key) that signature counts for what is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from firmware_proto import cbor, cose
from firmware_proto.codes import Fault
from firmware_proto.cose import key_id
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError
from gatewayd.core.trust import MAX_NAME_BYTES, Role, Trust, signed_by

STATE_TYPE: Final = "application/gatewayd-state+cbor"
MAX_STATE_BYTES: Final = 56 * 1024
"""Of the whole envelope: it fits into one message of any broker."""

_FORMAT: Final = 1
_MAX_SERIAL: Final = 2**63 - 1


class StateKind(IntEnum):
    """What a state is about, and what its subject names. None of these is an `envelope.Kind`."""

    LIST = 32  # what an issuer has revoked; subject: whatever names the list
    SETTINGS = 33  # what doors decide for each class of key; no subject
    BINDINGS = 34  # which doors there are, and what moves them; no subject
    CREDENTIAL = 35  # the gateway's credential; no subject


@dataclass(frozen=True, slots=True)
class State:
    """One state as the operator says it."""

    kind: StateKind
    addressee: str
    """A gateway, a door group, or `envelope.EVERYBODY`."""
    subject: str
    """Which of several of a kind; empty where there is only one."""
    serial: int
    body: bytes


def sign(state: State, key: cose.SigningKey) -> bytes:
    """The envelope. LocalProtocolError for what no gateway would take."""
    payload = _encode(state)
    data = cose.sign1(payload, key, protected={cose.HEADER_TYP: STATE_TYPE})
    try:
        _decode(cbor.decode(payload))
        _check_size(data)
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.detail) from None
    return data


def verify(data: bytes, trust: Trust) -> tuple[State, bytes]:
    """The state in `data`, and the id of the command key that signed it.

    Raises RemoteProtocolError: MALFORMED, UNSUPPORTED, AUTHENTICATION_FAILED.
    """
    signed = _parse(data)
    signer = next((key for key in trust.keys(Role.COMMAND) if signed_by(signed, key)), None)
    if signer is None:
        raise RemoteProtocolError(Fault.AUTHENTICATION_FAILED, "state: no command key signed it")
    return _stated(signed), key_id(signer)


def stated(data: bytes) -> State:
    """The state in `data`, whoever signed it: for the operator, of what he keeps himself.

    RemoteProtocolError (MALFORMED) when it is none.
    """
    return _stated(_parse(data))


def _parse(data: bytes) -> cose.Sign1:
    _check_size(data)
    signed = cose.Sign1.parse(data)
    if not signed.is_typed(STATE_TYPE):
        raise _malformed("another type of statement")
    return signed


def _stated(signed: cose.Sign1) -> State:
    state = _decode(cbor.decode(signed.payload))
    if _encode(state) != signed.payload:  # to Python true is a number, too
        raise _malformed("another format")
    return state


def _check_size(data: bytes) -> None:
    if len(data) > MAX_STATE_BYTES:
        raise _malformed("too large")


def _encode(state: State) -> bytes:
    fields = (int(state.kind), state.addressee, state.subject, state.serial, state.body)
    return cbor.encode([_FORMAT, *fields])


def _decode(value: cbor.Value) -> State:
    match value:
        case [_, int(kind), str(addressee), str(subject), int(serial), bytes(body)] if (
            kind in _KINDS and 0 < serial <= _MAX_SERIAL
        ):
            if not addressee or max(map(_bytes, (addressee, subject))) > MAX_NAME_BYTES:
                raise _malformed("a name that is empty or too long")
            return State(_KINDS[kind], addressee, subject, int(serial), body)
        case _:
            raise _malformed("other fields")


def _bytes(name: str) -> int:
    return len(name.encode())


_KINDS: Final = {int(kind): kind for kind in StateKind}


def _malformed(detail: str) -> RemoteProtocolError:
    return RemoteProtocolError(Fault.MALFORMED, f"state: {detail}")
