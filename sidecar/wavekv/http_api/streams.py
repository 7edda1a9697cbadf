"""The answers that do not end: one `EventStream` for each watch, and `Streams`, which keeps and ends them.

A watcher costs its handler and nothing else: one timer of the server looks after all of them. It sends a comment on the
quiet ones, so that proxies keep them and dead clients are noticed, and cuts those whose client has taken nothing for
long. What waits for a client is bounded by its `Watch`, and by what the transport holds before `write` waits (G9).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from wavekv.core.types import entry_bytes
from wavekv.errors import Stopping, WaveKVError
from wavekv.http_api import events
from wavekv.ports import Change, Clock, Watch
from wavekv.runtime.budget import ByteBudget, Holding
from wavekv.runtime.gate import next_slice
from wavekv.web_guard import SAFE_HEADERS

log = logging.getLogger(__name__)

QUIET_SECONDS: Final = 15.0
"""A stream that said nothing for so long says a comment."""

STUCK_SECONDS: Final = 60.0
"""A client that takes nothing for so long while there is something to send is cut."""

_LOOK_SECONDS: Final = 1.0
"""How often the streams are looked through."""

_TOLD_SECONDS: Final = 30.0
"""Between two lines of the log about watchers that were cut."""

_PIECE_BYTES: Final = 1 << 16
"""Events collected before they are written."""

_COPIES: Final = 2
"""Of what is written, while the transport has some of it: as it was made, and as aiohttp frames it."""

_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", **SAFE_HEADERS}


class Streams:
    """The open streams of one server."""

    def __init__(self, clock: Clock, budget: ByteBudget) -> None:
        """Count what clients do not take in `budget`, which the watches of the stores share."""
        self.clock = clock
        self.stopped = False
        self.cut = 0
        """Watchers cut because what all of them did not take reached its bound."""
        self.budget = budget
        self._stuck: dict[EventStream, None] = {}
        """Who holds bytes of the budget, the longest first."""
        self._cut_told = 0
        self._cut_told_at = float("-inf")
        self._open: dict[EventStream, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: "EventStream") -> None:
        """Look after `stream`."""
        self._open[stream] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def remove(self, stream: "EventStream") -> None:
        """Forget `stream`."""
        self._open.pop(stream, None)
        self.hold(stream, 0)
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Tell every watcher that the member stops, and take no further one."""
        self.stopped = True
        for stream in list(self._open):
            stream.end()

    def hold(self, stream: "EventStream", size: int) -> None:
        """Count `size` bytes that the client of `stream` has not taken; where they do not fit, the slowest is cut."""
        while not stream.held.try_resize(size):
            slowest = next(iter(self._stuck), stream)
            self.cut += 1
            slowest.abort()
            slowest.held.release()
            self._stuck.pop(slowest, None)
            if slowest is stream:
                return
        if size:
            self._stuck[stream] = None
        else:
            self._stuck.pop(stream, None)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        self.look()

    def look(self) -> None:
        """Send what quiet streams need, and cut the stuck ones."""
        now = self.clock.monotonic()
        for stream in list(self._open):
            stream.look(now)
        if self.cut > self._cut_told and now - self._cut_told_at >= _TOLD_SECONDS:
            log.warning(
                "%d slow watchers cut: clients that do not read would hold more than %d bytes",
                self.cut - self._cut_told,
                self.budget.bytes_max,
            )
            self._cut_told, self._cut_told_at = self.cut, now


class EventStream:
    """The answer to one watch. `end` and `lost` may come at any time; `run` returns soon after."""

    def __init__(self, watch: Watch, streams: Streams, *, reset: bool = False) -> None:
        """Tell what `watch` gives, behind an event `reset` where that is wanted."""
        self._lead = events.RESET_LEAD if reset else events.RETRY
        self._watch = watch
        self._streams = streams
        self._response = web.StreamResponse(headers=_HEADERS)
        self._response.force_close()  # nothing can follow on this connection
        self._transport: asyncio.Transport | None = None
        self._comment = events.COMMENT
        self._waiting: asyncio.Timeout | None = None
        self._over = False
        self._gone = False
        self._writing = False
        self._midway = False
        """Whether a part of an event was sent and its end was not."""
        self._since = streams.clock.monotonic()
        self.held = Holding(streams.budget)
        """What its client has not taken, while the transport waits for it."""
        self._piece_bytes = 0
        self._behind: deque[Change] = deque()
        """What is told once the client takes more; a cut drops it at once."""

    @property
    def headers(self) -> CIMultiDict[str]:
        """The headers of the answer, which may be added to until it runs."""
        return self._response.headers

    def pause(self) -> None:
        """The client takes nothing: count what is written and what stands behind it."""
        behind = sum(entry_bytes(change.entry) for change in self._behind if change.entry)
        unsent = self._transport.get_write_buffer_size() if self._transport is not None else 0
        self._streams.hold(self, _COPIES * max(self._piece_bytes, unsent) + behind)

    def resume(self) -> None:
        """The client reads again."""
        self._streams.hold(self, 0)

    def abort(self) -> None:
        """Cut the client off, which does not read."""
        self._behind.clear()
        if self._transport is not None:
            self._transport.abort()

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send events until there are no more to send.

        Raises:
            ConnectionError: the client has gone.
        """
        self._transport = request.transport
        if request.version >= HttpVersion11:  # the answer comes in chunks
            self._comment = b"%x\r\n%b\r\n" % (len(events.COMMENT), events.COMMENT)
        last: WaveKVError = Stopping("the member stops; watch again behind the last token")
        self._streams.add(self)
        try:
            # No deadline, but a way to wake what waits here, without a task or a future for each event.
            async with asyncio.timeout(None) as self._waiting:
                await self._response.prepare(request)
                while not self._over:
                    await self._tell(await self._watch.next())
        except TimeoutError:
            pass
        except WaveKVError as error:
            last = error
        finally:
            self._waiting = None
            self._watch.close()
            self._streams.remove(self)
        if self._midway:  # a farewell would end the event it stands in, and with it a token be taken for told
            self.abort()
        if self._gone or self._midway:
            raise ConnectionResetError("the watcher has gone")
        await self._write(events.farewell(last))
        return self._response

    def lost(self) -> None:
        """Stop: the client has gone."""
        self._gone = True
        self._wake()

    def end(self) -> None:
        """Stop: tell the client so; one that does not read, or that has half an event, is cut."""
        if self._writing and self._transport is not None:
            self._transport.abort()
            self._gone = True
        self._wake()

    def look(self, now: float) -> None:
        """Say a comment if the stream has long been quiet; cut it if its client has long taken nothing."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        # What the transport holds, however little, is what the client has not taken.
        if self._writing or transport.get_write_buffer_size():
            if now - self._since >= STUCK_SECONDS:
                transport.abort()
        elif now - self._since >= QUIET_SECONDS and self._response.prepared:
            transport.write(self._comment)
            self._since = now

    def _wake(self) -> None:
        if not self._over and self._waiting is not None:
            self._waiting.reschedule(0)
        self._over = True

    async def _tell(self, changes: Sequence[Change]) -> None:
        parts: list[bytes] = []
        size = 0
        self._behind.extend(changes)
        del changes
        while self._behind:
            change = self._behind[0]  # counted as long as parts of it are to be told
            if events.is_long(change):
                await next_slice(ahead=True)  # else everybody would hold a page of values and wait
            for part in events.parts(change):
                parts.append(part)
                size += len(part)
                if size >= _PIECE_BYTES:
                    self._midway = True
                    await self._write(b"".join(parts))
                    parts, size = [], 0
                    await next_slice(ahead=True)
            self._midway = self._midway and bool(parts)
            if self._behind:  # else it was cut meanwhile
                self._behind.popleft()
        if parts:
            await self._write(b"".join(parts))
            self._midway = False

    async def _write(self, data: bytes) -> None:
        data, self._lead = self._lead + data, b""
        self._writing, self._piece_bytes = True, len(data)
        try:
            await self._response.write(data)
        finally:
            self._writing, self._piece_bytes = False, 0
            self._since = self._streams.clock.monotonic()
