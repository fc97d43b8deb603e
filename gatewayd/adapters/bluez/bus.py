"""One D-Bus connection: the only module that imports dbus-fast.

What comes in is plain Python; what goes out says its D-Bus types. Calls that
arrive are answered at once, in the reader of the socket: bluetoothd gives a
GATT write five seconds and the phone's whole ATT bearer waits meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from dbus_fast import BusType, DBusFastError, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

__all__ = ["Bus", "BusError", "Call", "Reply", "Signal", "Variant", "open_bus"]

BUS_NAME: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"
CALL_S: Final = 10.0
NO_REPLY: Final = "org.freedesktop.DBus.Error.NoReply"
DISCONNECTED: Final = "org.freedesktop.DBus.Error.Disconnected"
INVALID_SIGNATURE: Final = "org.freedesktop.DBus.Error.InvalidSignature"


class BusError(Exception):
    """An error reply, by its D-Bus name. `text` is what the other side said."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(f"{name}: {text}" if text else name)
        self.name = name
        self.text = text


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal that arrived. `body` is unpacked."""

    sender: str
    path: str
    interface: str
    member: str
    body: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One method call that arrived. `body` is unpacked."""

    sender: str
    path: str
    interface: str
    member: str
    body: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a method returns, with its D-Bus signature."""

    signature: str = ""
    body: Sequence[Any] = ()


class Bus:
    """A connection to the bus. `on_signal` and `on_call` are called by its reader: never block.

    `on_call` raises BusError to refuse; None means that there is no such method.
    """

    def __init__(self, bus: MessageBus) -> None:
        self.on_signal: Callable[[Signal], None] = lambda _: None
        self.on_call: Callable[[Call], Reply | None] = lambda _: None
        self._bus = bus
        bus.add_message_handler(self._arrived)

    async def call(  # noqa: PLR0913, PLR0917 - what a D-Bus method call consists of
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[Any] = (),
        *,
        timeout_s: float = CALL_S,
        returns: str | None = None,
    ) -> Sequence[Any]:
        """The unpacked body of the reply. BusError: refused, no answer in time, or no bus.

        returns: the signature without which a reply is as good as a refusal.
        """
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._bus.call(message)
        except TimeoutError:
            raise BusError(NO_REPLY, f"{member} at {path} took too long") from None
        except (OSError, EOFError, DBusFastError) as error:
            raise BusError(DISCONNECTED, str(error)) from error
        if reply is None:
            raise BusError(DISCONNECTED, "the connection closed")
        if reply.message_type is MessageType.ERROR:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise BusError(reply.error_name or "", text)
        if returns not in {None, reply.signature}:
            raise BusError(INVALID_SIGNATURE, f"{member} at {path} returned {reply.signature!r}")
        plain: Sequence[Any] = unpack_variants(reply.body)
        return plain

    def emit(
        self, path: str, interface: str, member: str, signature: str, body: Sequence[Any]
    ) -> None:
        """Send one signal; whether anybody listens is theirs. BusError without a bus."""
        message = Message.new_signal(path, interface, member, signature, list(body))
        try:
            if not self._bus.connected:
                raise ConnectionError("the connection is closed")
            self._bus.send(message).add_done_callback(_may_fail)
        except OSError as error:
            raise BusError(DISCONNECTED, str(error)) from error

    async def watch(self, rule: str) -> None:
        """Ask the bus for signals that match `rule`."""
        await self.call(BUS_NAME, BUS_PATH, BUS_NAME, "AddMatch", "s", [rule])

    async def owner_of(self, name: str) -> str:
        """The unique name behind a well-known one; empty when nobody owns it."""
        try:
            (owner,) = await self.call(
                BUS_NAME, BUS_PATH, BUS_NAME, "GetNameOwner", "s", [name], returns="s"
            )
        except BusError as error:
            if error.name == "org.freedesktop.DBus.Error.NameHasNoOwner":
                return ""
            raise
        return str(owner)

    async def wait_closed(self) -> None:
        """Returns when the connection to the bus is gone, for whatever reason."""
        try:
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast's
        except (OSError, EOFError, DBusFastError):
            return

    # --- what arrives ---------------------------------------------------------------------
    def _arrived(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            self.on_signal(Signal(*_facts(message)))
            return None
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        answer = self._answer(message)
        if answer is None:
            return None
        return True if message.flags & MessageFlag.NO_REPLY_EXPECTED else answer

    def _answer(self, message: Message) -> Message | None:
        try:
            reply = self.on_call(Call(*_facts(message)))
        except BusError as error:
            return Message.new_error(message, error.name, error.text)
        if reply is None:
            return None  # dbus-fast says that there is no such method
        return Message.new_method_return(message, reply.signature, list(reply.body))


def _may_fail(sent: asyncio.Future[None]) -> None:
    """A bus that broke is noticed by who reads from it, and is no news here."""
    if not sent.cancelled():
        sent.exception()


def _facts(message: Message) -> tuple[str, str, str, str, Sequence[Any]]:
    return (
        message.sender or "",
        message.path or "",
        message.interface or "",
        message.member or "",
        unpack_variants(message.body),
    )


@asynccontextmanager
async def open_bus(address: str | None = None) -> AsyncIterator[Bus]:
    """Connect to `address`, or to the system bus. BusError when that is impossible."""
    bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM)
    try:
        try:
            await bus.connect()
        except (OSError, EOFError, DBusFastError) as error:
            raise BusError(DISCONNECTED, f"no system bus: {error}") from error
        yield Bus(bus)
    finally:
        bus.disconnect()  # also when connect failed: the socket is open by then
