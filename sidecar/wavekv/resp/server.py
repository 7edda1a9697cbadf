"""Listens for Redis clients, bounds their number, and lets them go in order when the member stops."""

import asyncio
import itertools
import socket
from collections.abc import Sequence
from typing import cast

from wavekv.config import Limits
from wavekv.ports import Clock, KeyValues, Observer
from wavekv.resp import replies
from wavekv.resp.connection import Connection
from wavekv.resp.session import Cursors, Session, Shared
from wavekv.runtime.listening import BACKLOG, remove_unix

_FULL = replies.error("ERR max number of clients reached")

_STOP_SECONDS = 5.0
"""Longest wait for replies in progress when the server stops."""


class RespServer:
    """The Redis plane of one member, on sockets that are bound and listening."""

    def __init__(self, store: KeyValues, limits: Limits, observer: Observer, clock: Clock) -> None:
        self._shared = Shared(store, limits, clock, Cursors(limits.resp_cursors_max), clock.monotonic())
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._listening: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on `sockets`, TCP or unix; the server owns them from now on."""
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        self._shared.port = next((sock.getsockname()[1] for sock in sockets if sock.family != socket.AF_UNIX), 0)
        for sock in sockets:
            create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
            self._listening.append(await create(self._accept, sock=sock, backlog=BACKLOG))

    async def stop(self) -> None:
        """Stop accepting, answer the commands in progress, close the connections. Safe to call twice."""
        remove_unix(self._sockets)
        for listening in self._listening:
            listening.close()
        self._listening, self._sockets = [], []
        open_now = list(self._connections)
        if not open_now:
            return
        for connection in open_now:
            connection.end()
            connection.end_wait()
        await asyncio.wait([connection.lost for connection in open_now], timeout=_STOP_SECONDS)
        for connection in list(self._connections):
            connection.abort()

    def _accept(self) -> asyncio.Protocol:
        if len(self._connections) >= self._limits.resp_connections_max:
            return _Refused()
        session = Session(self._shared, next(self._numbers))
        connection = Connection(session, self._observer, self._clock, self._connections.discard)
        self._connections.add(connection)
        return connection


class _Refused(asyncio.Protocol):
    """A connection above the bound: it is told so and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        refused = cast("asyncio.Transport", transport)
        refused.write(_FULL)
        refused.close()
