"""What moves each door: a lock over radio, a lock on a wire, or a relay. Part of the composition.

Libraries of wires and relays are loaded only where a door needs them (see `extras`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec

from firmware_proto import edhoc
from firmware_proto.cose import key_id
from firmware_proto.framing import WholeFrames
from gatewayd.budget import Budget
from gatewayd.conditions import Conditions
from gatewayd.config import Secrets
from gatewayd.config import model as config_model
from gatewayd.core.model import DoorId
from gatewayd.lock_connection import GatewayIdentity, LockIdentity
from gatewayd.lock_keeping import look_after
from gatewayd.lock_timing import KEPT, PER_USE, WIRED
from gatewayd.locks import RemoteLock
from gatewayd.ports.lock import Lock
from gatewayd.ports.process import Clock, Entropy, Pulse
from gatewayd.ports.radio import Central


@dataclass(frozen=True, slots=True)
class Actuator:
    """`keep` is to run as long as the daemon does. `budget`: of a lock on batteries."""

    lock: Lock
    keep: Callable[[Pulse], Coroutine[object, object, None]]
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class Workshop:
    """What locks are made with. `stack` closes what they hold when the daemon ends.

    `conditions` hears how they are.
    """

    central: Central
    gateway: GatewayIdentity
    secrets: Secrets
    clock: Clock
    entropy: Entropy
    stack: AsyncExitStack
    conditions: Conditions

    def actuator(self, door: config_model.Door) -> Actuator:
        """The one of this door."""
        if door.relay is not None:
            return self._relay(door.id, door.relay, door.latch_ms)
        if door.lock is None:
            raise AssertionError("the configuration was not checked")
        if door.lock.serial is not None:
            return self._wired(door.id, door.lock, door.lock.serial)
        return self._radio(door.id, door.lock)

    def _radio(self, door: str, lock: config_model.LockFiles) -> Actuator:
        budget = Budget(DoorId(door), self.clock)
        remote = RemoteLock(
            self.central,
            self._identity(door, lock.address or ""),
            self.gateway,
            self.clock,
            self.entropy,
            timing=KEPT if lock.warm else PER_USE,
            on_state=partial(self.conditions.heard, DoorId(door)),
            on_dialled=partial(self.conditions.dialled, DoorId(door)),
            budget=budget,
        )
        if lock.warm:
            return Actuator(remote, remote.keep_warm, budget)
        return Actuator(remote, partial(look_after, remote, self.clock, self.entropy), budget)

    def _wired(self, door: str, lock: config_model.LockFiles, path: str) -> Actuator:
        from gatewayd.adapters.serial_line import LineSettings, SerialCentral  # noqa: PLC0415 - extra

        line = SerialCentral(path, LineSettings(baud=lock.baud, half_duplex=lock.half_duplex))
        self.stack.push_async_callback(line.close)
        remote = RemoteLock(
            line,
            self._identity(door, path),
            self.gateway,
            self.clock,
            self.entropy,
            framing=lambda _: WholeFrames(),
            timing=WIRED,
            on_state=partial(self.conditions.heard, DoorId(door)),
            on_dialled=partial(self.conditions.dialled, DoorId(door)),
        )
        return Actuator(remote, remote.keep_warm)

    def _relay(self, door: str, wiring: config_model.Relay, latch_ms: int) -> Actuator:
        from gatewayd.adapters.relay.line import Contact, RelaySettings  # noqa: PLC0415 - an extra
        from gatewayd.adapters.relay.relay import Relay  # noqa: PLC0415 - an extra

        contact = wiring.contact
        pulse_ms = min(latch_ms, wiring.pulse_ms or latch_ms)
        relay = Relay(
            RelaySettings(
                wiring.chip,
                wiring.line,
                active_low=wiring.active_low,
                limit_ms=pulse_ms,
                contact=None if contact is None else Contact(contact.line, low=contact.low),
            ),
            on_door=partial(self.conditions.contact, DoorId(door)),
            on_reached=partial(self.conditions.dialled, DoorId(door)),
        )
        return Actuator(relay, relay.keep)

    def _identity(self, door: str, address: str) -> LockIdentity:
        return lock_identity(door, address, self.secrets.lock_keys[DoorId(door)])


def lock_identity(door: str, address: str, key: ec.EllipticCurvePublicKey) -> LockIdentity:
    """Whom we expect at `address`; its credential is made of what we know, never sent."""
    return LockIdentity(address, key, edhoc.ccs(door, key, key_id(key)), key_id(key))
