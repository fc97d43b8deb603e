"""Whom this gateway believes now: the chain of trust bundles, kept durable and asked by everybody.

A bundle that is taken in counts from the next question on, also for phones
that are connected.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from firmware_proto.cose import VerifyingKey
from gatewayd.core.trust import Trust
from gatewayd.core.trust_chain import Chain, DamagedChainError, installed
from gatewayd.messages import Message, about
from gatewayd.ports import StorageError
from gatewayd.ports.storage import Memory

MEMORY_NAME: Final = "trust chain"

_log: Final = logging.getLogger(__name__)


class Trusted:
    """The newest bundle of a chain; `memory` None: it is what it is, and grows no longer."""

    def __init__(
        self, now: Trust, chain: Chain | None = None, memory: Memory | None = None
    ) -> None:
        self.now = now
        self._chain = chain
        self._memory = memory

    @classmethod
    async def load(cls, memory: Memory, bundle: bytes, root: VerifyingKey) -> Trusted:
        """The bundle that was installed, or the chain held, where that goes on from it.

        StorageError when what is stored is damaged; RemoteProtocolError when
        `root` did not sign the bundle.
        """
        stored = await memory.load(MEMORY_NAME)
        try:
            held = None if stored is None else Chain.decode(stored)
        except DamagedChainError as error:
            raise StorageError(f"the stored trust is damaged: {error}") from error
        chain = installed(held, bundle, root)
        if held is not None and chain.links[0] != held.links[0]:
            _log.warning(
                "the installed trust bundle does not lead to the one held; it counts",
                extra=about(Message.TRUST_REPLACED),
            )
        if chain is not held:
            try:
                await memory.store(MEMORY_NAME, chain.encode())
            except StorageError as error:  # the next start has the same bundle
                _log.error("the installed trust bundle was not kept: %s", error)
        return cls(chain.trust, chain, memory)

    def introduced(self, command_key: bytes) -> int:
        """The bundle serial since which a command key of now, by its id, is named."""
        if self._chain is None:
            return self.now.serial
        return self._chain.newest.introduced[command_key]

    async def extend(self, bundles: Sequence[bytes]) -> bool:
        """Follow a chain; durable when it returns. False when it holds nothing new.

        RemoteProtocolError when it does not follow from what is held.
        """
        if self._chain is None or self._memory is None:
            return False
        chain = self._chain.extended(bundles)
        if chain is self._chain:
            return False
        await self._memory.store(MEMORY_NAME, chain.encode())
        self._chain, self.now = chain, chain.trust
        _log.info("trust bundle %d counts now", self.now.serial)
        return True
