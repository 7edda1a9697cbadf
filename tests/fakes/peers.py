"""Peers that are not there: a transport that answers nothing and remembers who was asked."""

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
