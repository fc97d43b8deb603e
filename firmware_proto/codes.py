"""The numbers both sides share. Nothing here computes anything.

A number, once released, keeps its meaning; gaps are reserved in PROTOCOL.md.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

# --- limits (PROTOCOL.md, "Transport") ---------------------------------------
MAX_MESSAGE_BYTES: Final = 2048
MIN_ATT_MTU: Final = 23
MAX_ATT_MTU: Final = 517
MAX_DOOR_ID_BYTES: Final = 32
MAX_CARRIED_BYTES: Final = 65_536  # what a phone brings or fetches, whole
MAX_PIECE_BYTES: Final = 1792  # and in one message
ID_BYTES: Final = 16  # request ids, command ids, resumption nonces

# --- GATT table: frozen per service UUID, so that a phone may cache it --------
PHONE_SERVICE_UUID: Final = "7b1f0001-5c0e-4d5a-9a3e-2f6d8c41b7e0"
PHONE_REQUEST_UUID: Final = "7b1f0002-5c0e-4d5a-9a3e-2f6d8c41b7e0"
PHONE_RESPONSE_UUID: Final = "7b1f0003-5c0e-4d5a-9a3e-2f6d8c41b7e0"
PHONE_INFO_UUID: Final = "7b1f0004-5c0e-4d5a-9a3e-2f6d8c41b7e0"
LOCK_SERVICE_UUID: Final = "7b1f0101-5c0e-4d5a-9a3e-2f6d8c41b7e0"
LOCK_REQUEST_UUID: Final = "7b1f0102-5c0e-4d5a-9a3e-2f6d8c41b7e0"
LOCK_RESPONSE_UUID: Final = "7b1f0103-5c0e-4d5a-9a3e-2f6d8c41b7e0"
LOCK_INFO_UUID: Final = "7b1f0104-5c0e-4d5a-9a3e-2f6d8c41b7e0"
UNCLAIMED_LOCK_UUID: Final = "7b1f0110-5c0e-4d5a-9a3e-2f6d8c41b7e0"
"""What a lock that belongs to nobody advertises instead of its service; its table is the same."""


class FrameKind(IntEnum):
    """First byte of every message on a transport; the rest is its body."""

    MESSAGE_1 = 1
    MESSAGE_2 = 2
    MESSAGE_3 = 3
    MESSAGE_4 = 4
    RECORD = 5
    ERROR = 6  # constant body: EDHOC error, ERR_CODE 1, empty text (RFC 9528 §6)
    HELLO = 7
    RESUME = 8
    ATTACH = 9  # serial lines only


class MessageType(IntEnum):
    """Key 0 of every sealed message."""

    # phone -> gateway
    PREPARE = 1
    OPEN = 2
    GET_RESULT = 3  # also gateway -> lock
    DELIVER = 4
    COLLECT = 5
    # gateway -> phone
    RESULT = 16
    CHUNK = 17
    # gateway -> lock
    UNLATCH = 32
    UNBOLT = 33
    BOLT = 34
    GET_STATE = 35
    GET_EVENTS = 36
    ACK_EVENTS = 37
    SET_TIME = 38
    CONFIGURE = 39
    IDENTIFY = 40
    CLAIM = 41
    ANCHOR = 42
    FACTORY_RESET = 43
    # lock -> gateway
    STATE = 48
    DONE = 49
    EVENT = 50
    # every relation
    FAULT = 63


class Key(IntEnum):
    """Map keys of sealed messages and of `Hello`/`Resume`; one number, one meaning."""

    TYPE = 0
    REQUEST = 1  # id of this request, or of the request that this answers
    DOOR = 2
    ACTION = 3
    PRESENCE = 4
    OUTCOME = 5
    REASON = 6
    RECEIPT = 7
    PADDING = 8
    DEADLINE_MS = 9  # on the lock's millisecond clock
    DURATION_MS = 10
    COMMAND = 11
    AFTER = 12
    UPTO = 13
    TIME_S = 14
    CLOCK_MS = 15  # the lock's millisecond clock
    BOLT_STATE = 16
    LATCH_STATE = 17
    DOOR_STATE = 18
    MECHANISM = 19
    TAMPER = 20
    BATTERY = 21  # [millivolts, percent, low]
    MODEL = 22
    FIRMWARE = 23
    INDEX = 24
    EVENT_KIND = 25
    VALUE = 26
    FAULT = 27
    SESSION = 28
    EPOCH = 29
    NONCE = 30
    OFFSET = 31  # of a piece in what is carried
    TOTAL = 32
    DATA = 33
    ITEM = 34
    # 35-47 are reserved for phones
    PROOF = 48  # that the sender knows the claim secret of the lock's label
    ROOT_KEY = 49
    GATEWAYS_KEY = 50
    COMMAND_KEY = 51
    SERIAL = 52
    STATEMENT = 53  # signed by the operator
    AJAR_MS = 54
    KEY_ID = 55  # of a lock's key


class Action(IntFlag):
    """What may be done with a door; the permission bits of the AIF scope (RFC 9237)."""

    OPEN = 1  # pull the latch, or pulse the relay
    UNBOLT = 2
    BOLT = 4


class Presence(IntEnum):
    """How the phone came to ask. A larger number is the stricter proof of intent."""

    ARRIVAL = 1
    TAP = 2


class Item(IntEnum):
    """What a phone may fetch."""

    TIME_QUESTION = 1  # a nonce; what the operator's time key signs in answer is delivered


class KeyClass(IntEnum):
    """Selects policy, never identity."""

    RESIDENT = 1
    SERVICE = 2
    DELIVERY = 3
    GUEST = 4
    EMERGENCY = 5


class Outcome(IntEnum):
    """Three outcomes, never two. UNKNOWN is never retried blindly."""

    CONFIRMED = 1
    REFUSED = 2
    UNKNOWN = 3


class Reason(IntEnum):
    """Why: one enum for the reply, the log, the metrics and the commands."""

    OK = 0
    # the peer never proved who it is; on the air these are all one constant answer
    STRANGER = 1  # malformed handshake or no handshake at all
    UNTRUSTED_ISSUER = 2
    BAD_SIGNATURE = 3
    MALFORMED_TOKEN = 4
    BAD_PROOF = 5  # the token is genuine, its holder is not the peer (MAC_3)
    REPLAYED = 6
    # the token does not grant this
    NOT_YET_VALID = 16
    EXPIRED = 17
    WRONG_AUDIENCE = 18
    WRONG_DOOR = 19
    ACTION_NOT_GRANTED = 20
    ISSUER_EXCEEDED = 21  # the issuer may not grant what it granted
    OUTSIDE_SCHEDULE = 22
    REVOKED = 23
    USED_UP = 24  # a one-time key that is used, or that this gateway cannot prove unused
    # the door does not allow it now
    STALE_LIST = 32
    TIME_UNKNOWN = 33
    LOG_UNAVAILABLE = 34
    TAP_REQUIRED = 35
    RATE_LIMITED = 36
    BUSY = 37
    UNKNOWN_DOOR = 38
    LOG_FULL = 39  # LOG_UNAVAILABLE, where it is known why: no space left on the disk
    LOG_READ_ONLY = 40
    LOG_IO_ERROR = 41
    LOG_SLOW = 42  # the disk did not keep the entry in time
    # the lock
    LOCK_UNREACHABLE = 48  # certainly not moved: the command never left
    LOCK_SILENT = 49  # may have moved
    JAMMED = 50
    LOW_VOLTAGE = 51
    UNCALIBRATED = 52
    COMMAND_EXPIRED = 53  # the lock saw it after its deadline and did not move
    COMMAND_NEVER_SEEN = 54  # the lock has no record of it and cannot have moved
    LOCK_FAULT = 55
    UNCLAIMED = 56  # the lock belongs to nobody yet, and moves for nobody
    ALREADY_CLAIMED = 57
    BUTTON_NEEDED = 58  # somebody has to press the lock's button first
    BAD_CLAIM = 59  # not made with the secret on the lock's label, or of another connection
    OLD_STATEMENT = 60  # its serial or epoch is not the one that the lock expects
    # the gateway
    ALREADY_OPEN = 64  # a no-op success within the latch time
    RESTARTED = 65  # the daemon stopped between record and outcome
    NEVER_ASKED = 67  # GetResult for a request this gateway has no record of
    NOTHING_NEW = 68  # it has what was delivered, or newer; it has nothing to be fetched
    NOT_BELIEVED = 69  # nobody whom it believes has said what was delivered, or not to it
    # what the phone or the lock says of the gateway
    OLD_GENERATION = 80
    WRONG_GATEWAY_DOOR = 81  # the credential does not name the door the user chose
    UNTRUSTED_GATEWAY = 82


class Fault(IntEnum):
    """What the peer did wrong; `FAULTS` answers the three questions of each."""

    MALFORMED = 1
    TOO_LARGE = 2
    UNEXPECTED = 3  # a legal message in an illegal state
    UNSUPPORTED = 4
    AUTHENTICATION_FAILED = 5
    REPLAYED = 6
    OUT_OF_ORDER = 7
    TIMED_OUT = 8
    ID_REUSED = 9  # a known request or command id with other content
    BUSY = 10
    CLOCK_EXPIRED = 11


class FaultMeaning(NamedTuple):
    """temporary: worth another try? may_have_happened: all the same? refresh: what first?"""

    temporary: bool
    may_have_happened: bool
    refresh: str


FAULTS: Final[dict[Fault, FaultMeaning]] = {
    Fault.MALFORMED: FaultMeaning(temporary=False, may_have_happened=False, refresh="software"),
    Fault.TOO_LARGE: FaultMeaning(temporary=False, may_have_happened=False, refresh="software"),
    Fault.UNEXPECTED: FaultMeaning(temporary=True, may_have_happened=False, refresh="connection"),
    Fault.UNSUPPORTED: FaultMeaning(temporary=False, may_have_happened=False, refresh="software"),
    Fault.AUTHENTICATION_FAILED: FaultMeaning(
        temporary=True, may_have_happened=True, refresh="connection"
    ),
    Fault.REPLAYED: FaultMeaning(temporary=True, may_have_happened=True, refresh="connection"),
    Fault.OUT_OF_ORDER: FaultMeaning(temporary=True, may_have_happened=True, refresh="connection"),
    Fault.TIMED_OUT: FaultMeaning(temporary=True, may_have_happened=True, refresh="connection"),
    Fault.ID_REUSED: FaultMeaning(temporary=False, may_have_happened=True, refresh="request id"),
    Fault.BUSY: FaultMeaning(temporary=True, may_have_happened=False, refresh="nothing"),
    Fault.CLOCK_EXPIRED: FaultMeaning(
        temporary=True, may_have_happened=False, refresh="lock clock"
    ),
}


# --- states, after the vocabulary of Matter's Door Lock cluster ---------------
class BoltState(IntEnum):
    """Where the bolt is; a transitional state always has a deadline."""

    UNKNOWN = 0
    LOCKED = 1
    UNLOCKING = 2
    UNLOCKED = 3
    LOCKING = 4
    NOT_FULLY_LOCKED = 5


class LatchState(IntEnum):
    """Where the latch is."""

    REST = 1
    UNLATCHING = 2
    UNLATCHED = 3


class DoorState(IntEnum):
    """Where the door leaf is; "closed" is not "locked"."""

    UNKNOWN = 0
    CLOSED = 1
    OPEN = 2
    AJAR = 3
    FORCED = 4


class Mechanism(IntEnum):
    """The state of the motor; a jam is sticky until a good movement."""

    OK = 1
    JAMMED = 2
    UNCALIBRATED = 3
    LOW_VOLTAGE = 4


class EventKind(IntEnum):
    """What a lock writes into its own event log."""

    STARTED = 1
    COMMAND = 2  # value: outcome of the movement
    DOOR = 3  # value: DoorState
    JAMMED = 4
    TAMPER = 5
    BATTERY_LOW = 6
    NEW_GENERATION = 7  # value: generation accepted
    CLAIMED = 8  # value: the epoch that began
    ANCHORED = 9  # value: serial accepted
