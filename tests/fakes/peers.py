"""Peers: a transport that answers nothing, and one that leads to members in memory. Both remember who was asked."""

import asyncio
from collections.abc import Mapping

from tests.fakes.cluster import MemoryMember, answer_to, wire
from wavekv.core import exchange
from wavekv.core.messages import Envelope
from wavekv.errors import PeerUnreachable


class DeadTransport:
    """Implements `ports.Transport`; every request fails at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        self.asked.append(url)
        raise PeerUnreachable(f"{url} does not answer")

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        raise PeerUnreachable(f"{url} does not answer")

    async def close(self) -> None: ...


class MemoryTransport:
    """Implements `ports.Transport` over members in memory, by URL; pushes wait while `held` is set.

    `receipts`: the members relay, and answer pushes by receipts.
    """

    def __init__(self, members: Mapping[str, MemoryMember], *, receipts: bool = False) -> None:
        self._receipts = receipts
        self._members = members
        self.asked: list[str] = []
        self.pushed: list[tuple[str, list[str]]] = []
        self.held: asyncio.Event | None = None

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        self.asked.append(url)
        await asyncio.sleep(0)
        return answer_to(self._members[url], request, 10_000)

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        self.pushed.append((url, [entry.key for entry in message.entries]))
        if self.held is not None:
            await self.held.wait()
        member = self._members[url]
        exchange.receive_push(member.replica, wire(message), 10_000)
        member.commit()
        return wire((exchange.receipt if self._receipts else exchange.report)(member.replica, 10_000))

    async def close(self) -> None: ...
