"""The four ends of the two relations as data: what may come when, and how long it may take.

A missing key is the illegal transition. Nothing here computes; sessions look
up, tests walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias

from firmware_proto.codes import FrameKind


class SessionState(Enum):
    """Where one end of a connection stands."""

    START = auto()
    AWAITING_HELLO = auto()
    CHOOSING = auto()  # our caller decides between resuming and a handshake
    AWAITING_CHOICE = auto()  # the lock said Hello; Resume or message_1 must follow
    AWAITING_MESSAGE_1 = auto()
    AWAITING_MESSAGE_2 = auto()
    AWAITING_MESSAGE_3 = auto()
    JUDGING = auto()  # our caller decides about the peer's credential
    KEYED = auto()  # keys exist, no record has gone either way
    SPOKEN = auto()  # we have sent records and heard none
    HEARD = auto()  # we have heard records and sent none
    ESTABLISHED = auto()  # sealed records have gone both ways
    CLOSED = auto()


class Input(Enum):
    """What moves a session: our caller's decisions, the peer's frames, a failure."""

    BEGIN = auto()
    CHOOSE_RESUME = auto()
    CHOOSE_HANDSHAKE = auto()
    TRUST = auto()
    SEND = auto()
    REFUSE = auto()
    FAIL = auto()
    ATTACH = auto()
    HELLO = auto()
    RESUME = auto()
    MESSAGE_1 = auto()
    MESSAGE_2 = auto()
    MESSAGE_3 = auto()
    RECORD = auto()
    ERROR = auto()


Table: TypeAlias = Mapping[SessionState, Mapping[Input, SessionState]]

FRAMES: Final[Mapping[int, Input]] = {
    FrameKind.MESSAGE_1: Input.MESSAGE_1,
    FrameKind.MESSAGE_2: Input.MESSAGE_2,
    FrameKind.MESSAGE_3: Input.MESSAGE_3,
    FrameKind.RECORD: Input.RECORD,
    FrameKind.ERROR: Input.ERROR,
    FrameKind.HELLO: Input.HELLO,
    FrameKind.RESUME: Input.RESUME,
    FrameKind.ATTACH: Input.ATTACH,
}
"""Frames that a session understands; message_4 is not for it."""

_S = SessionState
_END: Final = {Input.REFUSE: _S.CLOSED, Input.FAIL: _S.CLOSED}
# An ERROR is in the clear, so it counts only until records have gone both ways.
_OPEN: Final = {**_END, Input.ERROR: _S.CLOSED}

_INITIATOR_TAIL: Final[Table] = {
    _S.AWAITING_MESSAGE_2: {Input.MESSAGE_2: _S.JUDGING, **_OPEN},
    _S.JUDGING: {Input.TRUST: _S.KEYED, **_END},
    # The initiator speaks first, so that its first request travels with message_3.
    _S.KEYED: {Input.SEND: _S.SPOKEN, **_OPEN},
    _S.SPOKEN: {Input.SEND: _S.SPOKEN, Input.RECORD: _S.ESTABLISHED, **_OPEN},
    _S.ESTABLISHED: {Input.SEND: _S.ESTABLISHED, Input.RECORD: _S.ESTABLISHED, **_END},
    _S.CLOSED: {},
}
_RESPONDER_TAIL: Final[Table] = {
    _S.AWAITING_MESSAGE_3: {Input.MESSAGE_3: _S.JUDGING, **_OPEN},
    _S.JUDGING: {Input.TRUST: _S.KEYED, **_END},
    _S.KEYED: {Input.RECORD: _S.HEARD, **_OPEN},
    _S.HEARD: {Input.RECORD: _S.HEARD, Input.SEND: _S.ESTABLISHED, **_OPEN},
    _S.ESTABLISHED: {Input.SEND: _S.ESTABLISHED, Input.RECORD: _S.ESTABLISHED, **_END},
    _S.CLOSED: {},
}

PHONE: Final[Table] = {
    _S.START: {Input.BEGIN: _S.AWAITING_MESSAGE_2, **_OPEN},
    **_INITIATOR_TAIL,
}
GATEWAY: Final[Table] = {
    _S.AWAITING_MESSAGE_1: {Input.MESSAGE_1: _S.AWAITING_MESSAGE_3, **_OPEN},
    **_RESPONDER_TAIL,
}
LOCK_CLIENT: Final[Table] = {
    _S.AWAITING_HELLO: {Input.HELLO: _S.CHOOSING, **_OPEN},
    _S.CHOOSING: {
        Input.CHOOSE_RESUME: _S.KEYED,
        Input.CHOOSE_HANDSHAKE: _S.AWAITING_MESSAGE_2,
        **_END,
    },
    **_INITIATOR_TAIL,
}
LOCK_SERVER: Final[Table] = {
    _S.START: {Input.BEGIN: _S.AWAITING_CHOICE, **_OPEN},
    _S.AWAITING_CHOICE: {
        Input.RESUME: _S.KEYED,
        Input.MESSAGE_1: _S.AWAITING_MESSAGE_3,
        **_OPEN,
    },
    **_RESPONDER_TAIL,
}

# A line connects nobody: the gateway's Attach takes the place of a connection. It may come
# again while it seems lost, and is answered with the same Hello, so that it matters to
# neither side which of them got through. Later it is the beginning of another connection.
LINE_LOCK_SERVER: Final[Table] = {
    **LOCK_SERVER,
    _S.START: {Input.ATTACH: _S.AWAITING_CHOICE, **_OPEN},
    _S.AWAITING_CHOICE: {
        **LOCK_SERVER[_S.AWAITING_CHOICE],
        Input.ATTACH: _S.AWAITING_CHOICE,
    },
}

OUR_TURN: Final = frozenset({_S.CHOOSING, _S.JUDGING})
"""While our caller decides, frames are kept and not looked at."""


class Allowance(NamedTuple):
    """Seconds the peer may take: with no request under way, and with one. None: no limit."""

    idle_s: float | None
    asked_s: float | None


Deadlines: TypeAlias = Mapping[SessionState, Allowance]


def _always(seconds: float | None) -> Allowance:
    return Allowance(seconds, seconds)


_NONE: Final = _always(None)
_OURS: Final[Deadlines] = {
    _S.JUDGING: _NONE,
    _S.CLOSED: _NONE,
}

PHONE_DEADLINES: Final[Deadlines] = {
    **_OURS,
    _S.START: _NONE,
    _S.AWAITING_MESSAGE_2: _always(5.0),
    _S.KEYED: _NONE,
    _S.SPOKEN: _always(20.0),  # a sleeping lock is dialled, then its motor turns
    _S.ESTABLISHED: Allowance(None, 20.0),
}
GATEWAY_DEADLINES: Final[Deadlines] = {
    **_OURS,
    _S.AWAITING_MESSAGE_1: _always(3.0),
    _S.AWAITING_MESSAGE_3: _always(3.0),
    _S.KEYED: _always(3.0),
    _S.HEARD: _NONE,
    _S.ESTABLISHED: Allowance(10.0, None),
}
LOCK_CLIENT_DEADLINES: Final[Deadlines] = {
    **_OURS,
    _S.CHOOSING: _NONE,
    _S.AWAITING_HELLO: _always(3.0),
    _S.AWAITING_MESSAGE_2: _always(5.0),  # a small controller computes for most of a second
    _S.KEYED: _NONE,
    _S.SPOKEN: _always(10.0),
    _S.ESTABLISHED: Allowance(None, 10.0),
}
LOCK_SERVER_DEADLINES: Final[Deadlines] = {
    **_OURS,
    _S.START: _NONE,
    # 2 s to Resume or message_1, and 8 s in all to the first record.
    _S.AWAITING_CHOICE: _always(2.0),
    _S.AWAITING_MESSAGE_3: _always(3.0),
    _S.KEYED: _always(3.0),
    _S.HEARD: _NONE,
    _S.ESTABLISHED: _NONE,  # the gateway keeps or drops the link, not the lock
}
