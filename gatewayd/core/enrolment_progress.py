"""How far an enrolment is, as a gateway remembers it through power cuts.

One small value, replaced whole, is all that is kept: with it a device goes on
with the same keys and the same request from wherever it was cut off.

    NOTHING --begin--> ASKING --granted--> ANSWERED --installed--> NOTHING
                       ASKING --refused--> NOTHING
                       ASKING --begin----> ASKING, with another claim and the same keys
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from hashlib import sha256
from typing import Final

from firmware_proto import cbor
from firmware_proto.errors import LocalProtocolError, RemoteProtocolError

_FORMAT: Final = 2
_CHECKSUM_BYTES: Final = 8
_NAMES: Final = frozenset({"gateway.pem", "log.pem", "receipt.pem", "tls.key"})


class Step(IntEnum):
    """Where an enrolment is. NOTHING is when nothing is kept."""

    NOTHING = 0
    ASKING = 1
    ANSWERED = 2


class Event(Enum):
    """What moves it on."""

    BEGIN = "a claim was given"
    GRANTED = "the operator's answer was verified"
    REFUSED = "the operator says no"
    INSTALLED = "every file is in its place"


NEXT: Final = {
    (Step.NOTHING, Event.BEGIN): Step.ASKING,
    (Step.ASKING, Event.BEGIN): Step.ASKING,
    (Step.ASKING, Event.GRANTED): Step.ANSWERED,
    (Step.ASKING, Event.REFUSED): Step.NOTHING,
    (Step.ANSWERED, Event.INSTALLED): Step.NOTHING,
}
"""What is not here is not allowed."""


class DamagedProgressError(ValueError):
    """The stored value is not what `encode` writes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is kept between BEGIN and INSTALLED."""

    step: Step = Step.NOTHING
    claim: str = field(default="", repr=False)
    """As `Claim.text`."""
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Private keys by the name of the file that each becomes, as that file will have it."""
    answer_key: bytes = field(default=b"", repr=False)
    request: bytes = b""
    """As it is sent, and sent again."""
    answer: bytes = b""
    """As it came: sealed."""

    def begun(
        self, claim: str, keys: Mapping[str, bytes], answer_key: bytes, request: bytes
    ) -> Progress:
        """A request is there to be sent."""
        step = self._after(Event.BEGIN)
        return Progress(step, claim, keys, answer_key, request)

    def granted(self, answer: bytes) -> Progress:
        """The answer is there, and good."""
        return replace(self, step=self._after(Event.GRANTED), answer=answer)

    def ended(self, event: Event) -> Progress:
        """REFUSED or INSTALLED: nothing of it is kept."""
        return Progress(self._after(event))

    def _after(self, event: Event) -> Step:
        try:
            return NEXT[self.step, event]
        except KeyError:
            raise LocalProtocolError(f"{event.value}, but it is {self.step.name}") from None

    def encode(self) -> bytes:
        """What is stored: what disks do to it is noticed."""
        body = cbor.encode(
            [
                _FORMAT,
                int(self.step),
                self.claim,
                dict(self.keys),
                self.answer_key,
                self.request,
                self.answer,
            ]
        )
        return body + _checksum(body)

    @classmethod
    def decode(cls, data: bytes) -> Progress:
        """What was stored. DamagedProgressError."""
        body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if checksum != _checksum(body):
            raise DamagedProgressError("its checksum does not fit")
        try:
            found = cls._of(cbor.decode(body))
        except RemoteProtocolError as error:
            raise DamagedProgressError(error.detail) from None
        if found.encode() != data:
            raise DamagedProgressError("another format")
        return found

    @classmethod
    def _of(cls, value: cbor.Value) -> Progress:
        match value:
            case [
                _, int(step), str(claim), dict(keys), bytes(answer_key), bytes(request),
                bytes(answer),
            ] if step in (Step.ASKING, Step.ANSWERED) and keys.keys() == _NAMES:  # fmt: skip
                files = {str(name): pem for name, pem in keys.items() if isinstance(pem, bytes)}
                return cls(Step(step), claim, files, answer_key, request, answer)
            case _:
                raise DamagedProgressError("other fields")


def _checksum(body: bytes) -> bytes:
    return sha256(body).digest()[:_CHECKSUM_BYTES]
