"""Listens for Redis clients, bounds their number, and lets them go in order when the member stops."""

import asyncio
import itertools
import socket
from collections.abc import Sequence
from typing import ClassVar, cast

from wavekv.config import Limits
from wavekv.ports import Clock, KeyValues, Observer
from wavekv.resp import replies
from wavekv.resp.channels import Channels
from wavekv.resp.connection import Connection
from wavekv.resp.cursors import Cursors
from wavekv.resp.events import KeyEvents, Outbox
from wavekv.resp.patience import Patience
from wavekv.resp.session import Session, Shared
from wavekv.resp.tracking import Tracker
from wavekv.resp.turns import Turns
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.listening import BACKLOG, remove_unix
from wavekv.runtime.watchdog import Watchdog

_FULL = replies.error("ERR max number of clients reached")

_LOOKED_SECONDS = 1.0
"""Longest time that a search for an idle connection which found none is not repeated: it looks at all of them."""
_REFUSED_SECONDS = 1.0
"""Longest time that a connection above the bound is kept, so that its client reads why."""
_REFUSED_WAITED_FOR_MAX = 64
"""Such connections at a time; others are closed at once, and may miss it if they sent something already."""
_STOP_SECONDS = 5.0
"""Longest wait for replies in progress when the server stops."""


class RespServer:
    """The Redis plane of one member, on sockets that are bound and listening."""

    def __init__(
        self,
        store: KeyValues,
        limits: Limits,
        observer: Observer,
        clock: Clock,
        *,
        budget: ByteBudget | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Serve `store`; what clients hold is taken from `budget`, and long turns are told to `watchdog`."""
        budget = budget or ByteBudget("resp", limits.resp_held_bytes_max)
        outbox = Outbox()
        events = KeyEvents(store, outbox)
        channels = Channels(limits.resp_patterns_max)
        tracker = Tracker(budget, limits.resp_tracked_bytes_max, outbox)
        events.add(channels)
        events.add(tracker)
        self._shared = Shared(
            store,
            limits,
            clock,
            Cursors(limits.resp_cursors_max, clock.now_ms() // 1000),
            clock.monotonic(),
            budget,
            Turns(),
            Patience(limits, clock, budget),
            watchdog or Watchdog(clock, limits.turn_ms_max),
            events,
            channels,
            tracker,
        )
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._listening: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._full_until = float("-inf")

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
        self._shared.patience.stop()
        self._shared.events.stop()
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
        if len(self._connections) >= self._limits.resp_connections_max and not self._make_room():
            self._observer.operation("resp", "other", "too_many_connections", 0.0)
            return _Refused()
        session = Session(self._shared, next(self._numbers))
        connection = Connection(session, self._observer, self._clock, self._connections.discard)
        self._connections.add(connection)
        return connection

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest, if that is long; tell whether there is one."""
        now = self._clock.monotonic()
        if now < self._full_until:
            return False
        idle = min(self._connections, key=lambda connection: connection.active_at)
        since = now - idle.active_at
        if since * 1000 < self._limits.resp_idle_ms_min:
            self._full_until = now + min(_LOOKED_SECONDS, self._limits.resp_idle_ms_min / 1000 - since)
            return False
        idle.cut("idle, and another client needs its place")
        self._connections.discard(idle)
        return True


class _Refused(asyncio.Protocol):
    """A connection above the bound: it is told so and closed, as soon as it takes it or after a second."""

    _waited_for: ClassVar[set["_Refused"]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        refused = cast("asyncio.Transport", transport)
        refused.write(_FULL)
        if len(self._waited_for) >= _REFUSED_WAITED_FOR_MAX:
            refused.close()
            return
        self._waited_for.add(self)
        self._until = asyncio.get_running_loop().call_later(_REFUSED_SECONDS, refused.abort)
        refused.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for it no longer."""
        if self in self._waited_for:
            self._waited_for.discard(self)
            self._until.cancel()
