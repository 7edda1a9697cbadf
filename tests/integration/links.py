"""Directed links between members that can be stalled, reset, muted and slowed: a TCP proxy in each.

The link from A to B carries the requests of A and the answers of B to them, so one direction can be cut alone. What a
stalled link swallowed comes out late when it flows again, as on a real network: members have to bear old messages.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.integration.member_process import Cluster, MemberProcess

_CHUNK_BYTES = 65_536
_SLOW_SECONDS = (0.02, 0.15)
_LINGER_NOT = struct.pack("ii", 1, 0)
_T = TypeVar("_T")


class Mode(Enum):
    """What a link does with bytes."""

    OPEN = "open"
    SLOW = "slow"
    STALLED = "stalled"
    """Connections stand and nothing flows; it flows late once the link is open."""
    HELD = "held"
    """What was stalled stays so, all else flows: a message overtaken by later ones."""
    MUTE = "mute"
    """Requests arrive, answers stall."""
    RESET = "reset"
    """Connections are reset, those there are and those to come."""


class Link:
    """The way of one member's requests to one other member."""

    def __init__(self, name: str, target_port: int, rng: random.Random) -> None:
        self.name = name
        self.port = 0
        self.carried_bytes = 0
        """Both ways, since it listens."""
        self._target_port = target_port
        self._rng = rng
        self._mode = Mode.OPEN
        self._server: asyncio.Server | None = None
        self._turned = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        """Take connections on a port of its own, `port`."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no more connections and reset those there are."""
        if self._server is not None:
            self._server.close()
        self.turn(Mode.RESET)

    def turn(self, mode: Mode) -> None:
        """Treat bytes this way from now on."""
        self._mode = mode
        self._turned.set()
        self._turned = asyncio.Event()
        if mode is Mode.RESET:
            for writer in list(self._writers):
                _reset(writer)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.RESET:
            _reset(writer)
            return
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            answers, there = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(there)
            await asyncio.gather(self._carry(reader, there, answer=False), self._carry(answers, writer, answer=True))
        except OSError:
            pass  # one of the two is gone, and so is the other
        finally:
            for end in (writer, there):
                if end is not None:
                    self._writers.discard(end)
                    end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            stalled = False
            while self._stalls(answer=answer) or (stalled and self._mode is Mode.HELD):
                stalled = True
                await self._turned.wait()
            if self._mode is Mode.SLOW:
                await asyncio.sleep(self._rng.uniform(*_SLOW_SECONDS))
            self.carried_bytes += len(data)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    def _stalls(self, *, answer: bool) -> bool:
        return self._mode is Mode.STALLED or (answer and self._mode is Mode.MUTE)


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()


class Network:
    """All links of a cluster, run by a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` on the thread's loop and return what it does."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def call(self, function: Callable[[], None]) -> None:
        """Call `function` on the thread's loop and return when it has."""

        async def called() -> None:
            function()

        self.run(called())

    def close(self) -> None:
        """End what still goes on, and the thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _cancel_others() -> None:
    others: list[asyncio.Task[Any]] = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    waiting: list[Awaitable[Any]] = list(others)
    await asyncio.gather(*waiting, return_exceptions=True)


class LinkedCluster(Cluster):
    """Members whose every directed link can be disturbed."""

    def __init__(self, count: int, folder: Path, rng: random.Random, extra_args: Sequence[str] = ()) -> None:
        super().__init__(count, folder, extra_args)
        self.network = Network()
        self.links: dict[tuple[str, str], Link] = {}
        for member in self.members:
            for other in self.members:
                if other is not member:
                    link = Link(f"{member.name}→{other.name}", other.peer, rng)
                    self.network.run(link.listen())
                    self.links[member.name, other.name] = link
            member.peers = {
                other.name: f"http://127.0.0.1:{self.links[member.name, other.name].port}"
                for other in self.members
                if other is not member
            }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        for link in self.links.values():
            self.network.run(link.close())
        self.network.close()

    def close(self) -> None:
        """Kill the members and end the links, as leaving a `with` block does."""
        self.__exit__(None, None, None)

    def between(self, *members: MemberProcess) -> list[Link]:
        """Return the links among `members`, both directions."""
        names = {member.name for member in members}
        return [link for ends, link in self.links.items() if names.issuperset(ends)]

    def around(self, member: MemberProcess) -> list[Link]:
        """Return all links from and to `member`."""
        return [link for ends, link in self.links.items() if member.name in ends]

    def turn(self, links: Sequence[Link], mode: Mode) -> None:
        """Let `links` treat bytes this way."""
        for link in links:
            self.network.call(lambda link=link: link.turn(mode))  # type: ignore[misc]
