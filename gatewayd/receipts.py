"""Receipts of one gateway: what they are made with, and when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto.codes import Outcome
from gatewayd.core import receipt
from gatewayd.core.model import Record
from gatewayd.core.receipt import Receipt
from gatewayd.device_keys import apart


@dataclass(frozen=True, slots=True)
class Receipts:
    """`origin` names the log."""

    key: ec.EllipticCurvePrivateKey
    origin: str

    async def issue(self, record: Record, whose: bytes, outcome: Outcome) -> bytes:
        """For an entry of the log: `whose` token or order, as a hash. KeyDeviceError."""
        minute_s = receipt.cut_to_minute(record.time_s)
        stated = Receipt(record.door, minute_s, whose, outcome, self.origin, record.seq)
        return await apart(self.key, partial(receipt.issue, stated, self.key))
