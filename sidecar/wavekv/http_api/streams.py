"""The answers that do not end: one `EventStream` for each watch, and `Streams`, which keeps and ends them.

A watcher costs its handler and nothing else: one timer of the server looks after all of them. It sends a comment on the
quiet ones, so that proxies keep them and dead clients are noticed, and cuts those whose client has taken nothing for
long. What waits for a client is bounded by its `Watch`, and by what the transport holds before `write` waits (G9).
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import HttpVersion11, web

from wavekv.errors import Stopping, WaveKVError
from wavekv.http_api import events
from wavekv.ports import Change, Clock, Watch

QUIET_SECONDS: Final = 15.0
"""A stream that said nothing for so long says a comment."""

STUCK_SECONDS: Final = 60.0
"""A client that takes nothing for so long while there is something to send is cut."""

_LOOK_SECONDS: Final = 1.0
"""How often the streams are looked through."""

_PIECE_BYTES: Final = 1 << 16
"""Events collected before they are written."""

_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}


class Streams:
    """The open streams of one server."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.stopped = False
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
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Tell every watcher that the member stops, and take no further one."""
        self.stopped = True
        for stream in list(self._open):
            stream.end()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        self.look()

    def look(self) -> None:
        """Send what quiet streams need, and cut the stuck ones."""
        now = self.clock.monotonic()
        for stream in list(self._open):
            stream.look(now)


class EventStream:
    """The answer to one watch. `end` and `lost` may come at any time; `run` returns soon after."""

    def __init__(self, watch: Watch, streams: Streams) -> None:
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
        self._since = streams.clock.monotonic()

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
                await self._write(events.RETRY)
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
        if self._gone:
            raise ConnectionResetError("the watcher has gone")
        await self._write(events.farewell(last))
        return self._response

    def lost(self) -> None:
        """Stop: the client has gone."""
        self._gone = True
        self._wake()

    def end(self) -> None:
        """Stop: tell the client so; one that does not read is cut."""
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
        pieces: list[bytes] = []
        size = 0
        for change in changes:
            pieces.append(events.event(change))
            size += len(pieces[-1])
            if size >= _PIECE_BYTES:
                await self._write(b"".join(pieces))
                pieces, size = [], 0
        if pieces:
            await self._write(b"".join(pieces))

    async def _write(self, data: bytes) -> None:
        self._writing = True
        try:
            await self._response.write(data)
        finally:
            self._writing = False
            self._since = self._streams.clock.monotonic()
