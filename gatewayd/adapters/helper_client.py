"""The daemon's side of `gatewayd.radio_helper`: one connection, made anew when it breaks."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from gatewayd.ports import RadioError
from gatewayd.radio_helper.wire import (
    MAX_ANSWER_BYTES,
    AddressType,
    Answer,
    Request,
    Restart,
    Status,
    Strength,
    WireError,
    decode_answer,
    encode_request,
)

SOCKET: Final = Path("/run/gatewayd-radio-helper.socket")
STRENGTH_S: Final = 10.0
RESTART_S: Final = 30.0


class HelperClient:
    """`ports.radio.RadioHelper` over the helper's socket. Questions wait for each other."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._talk: socket.socket | None = None

    async def strength_dbm(self, adapter: str, peer: str, *, public: bool) -> int | None:
        """See `ports.radio.RadioHelper`."""
        kind = AddressType.PUBLIC if public else AddressType.RANDOM
        answer = await self._ask(Strength(_bytes(adapter), _bytes(peer), kind), STRENGTH_S)
        if answer.status is Status.NOT_CONNECTED:
            return None
        _check(answer)
        return answer.rssi_dbm

    async def restart(self, adapter: str) -> None:
        """See `ports.radio.RadioHelper`."""
        _check(await self._ask(Restart(_bytes(adapter)), RESTART_S))

    async def close(self) -> None:
        """Let the connection go."""
        async with self._turn:
            self._drop()

    async def _ask(self, request: Request, within_s: float) -> Answer:
        async with self._turn:
            try:
                async with asyncio.timeout(within_s):
                    return decode_answer(await self._exchange(encode_request(request)), request)
            except (OSError, WireError) as error:  # TimeoutError is an OSError
                self._drop()
                raise RadioError(f"the radio helper: {str(error) or 'no answer'}") from error
            except asyncio.CancelledError:
                self._drop()  # else the next question would get this one's answer
                raise

    async def _exchange(self, packet: bytes) -> bytes:
        """Ask, and once more on a new connection when the old one turns out to be dead."""
        loop = asyncio.get_running_loop()
        while True:
            kept = self._talk
            talk = self._talk = kept or await self._connect()
            try:
                await loop.sock_sendall(talk, packet)
                answer = await loop.sock_recv(talk, MAX_ANSWER_BYTES + 1)
            except OSError:
                if kept is None:
                    raise
                answer = b""
            if answer or kept is None:
                return answer
            self._drop()

    async def _connect(self) -> socket.socket:
        talk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        talk.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(talk, str(self._path))
        except BaseException:
            talk.close()
            raise
        return talk

    def _drop(self) -> None:
        if self._talk is not None:
            with suppress(OSError):
                self._talk.close()
            self._talk = None


def where_there_is_one(path: Path = SOCKET) -> HelperClient | None:
    """The helper, if this machine has its socket: systemd makes that before the daemon starts."""
    return HelperClient(path) if path.is_socket() else None


def _check(answer: Answer) -> None:
    if answer.status is not Status.OK:
        raise RadioError(f"the radio helper: {answer.status.name.lower().replace('_', ' ')}")


def _bytes(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))
