"""Connections of aiohttp's server, admitted and bounded by the book of their plane: for all planes of HTTP.

A `BoundedHandler` tells its book what it holds and what its client owes: the first byte, the end of a head, more of a
body, the taking of an answer. aiohttp has a queue of requests, a buffer of bodies and one of answers for each
connection, none of which knows of the others'; so bytes are counted where they come in and go out. A small request
that comes whole costs two comparisons.

This file and `http_api/fast.py` are the places that touch aiohttp's private names; a test fails when they change.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from wavekv.errors import (
    MalformedHttp,
    RequestTooSlow,
    TooManyBytes,
    TooManyConnections,
    TooManyWaiting,
    TooManyWatchers,
    WaveKVError,
)
from wavekv.runtime.accepting import Acceptor
from wavekv.runtime.connections import Connections, Owed, Reason, Slot
from wavekv.web_guard import SAFE_HEADERS

log = logging.getLogger(__name__)

PROBLEM: Final = "application/problem+json"

_LINGER_SECONDS: Final = 10.0
"""After a refusal the rest of a body is read and dropped this long, so that the client gets to see the answer."""
_RETRY_SECONDS: Final = 1
"""What a refusal for want of room tells the client to wait: answers leave within milliseconds, so room returns soon."""
_COPIES: Final = 3
"""Of an answer that aiohttp writes: its body, the head and body it joined, and what of it could not be sent yet."""
_TURNS_MAX: Final = 1000
"""Turns of the loop that an answer waits for room; who reads makes some within a few."""
_NO_ROOM: Final = (TooManyBytes, TooManyConnections, TooManyWaiting, TooManyWatchers)
_SAFE: Final = "".join(f"{name}: {value}\r\n" for name, value in SAFE_HEADERS.items())
_REASONS: Final = {200: "OK", 201: "Created"}

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def problem_bytes(error: WaveKVError) -> bytes:
    """Return the problem document of `error` as JSON."""
    return json.dumps(error.problem(), ensure_ascii=False).encode("utf-8", "backslashreplace")


def retry_headers(error: WaveKVError) -> dict[str, str]:
    """Return what tells a client to come back, where that helps."""
    return {"Retry-After": str(_RETRY_SECONDS)} if isinstance(error, _NO_ROOM) else {}


def refusal(error: WaveKVError) -> web.Response:
    """Return the answer that refuses with `error`."""
    return web.Response(
        status=error.status, body=problem_bytes(error), headers={"Content-Type": PROBLEM, **retry_headers(error)}
    )


def response_bytes(status: int, headers: str, body: bytes) -> bytes:
    """Return a whole answer; `headers` are lines, each with its line end."""
    reason = _REASONS.get(status) or web.Response(status=status).reason
    head = (
        f"HTTP/1.1 {status} {reason}\r\n{headers}Content-Length: {len(body)}\r\n"
        f"Date: {rfc822_formatted_time()}\r\n{_SAFE}Server: {SERVER_SOFTWARE}\r\n\r\n"
    )
    return head.encode() + body


def refused_bytes(error: WaveKVError) -> bytes:
    """Return the whole answer that refuses with `error`."""
    told = "".join(f"{name}: {value}\r\n" for name, value in retry_headers(error).items())
    return response_bytes(error.status, f"Content-Type: {PROBLEM}\r\n{told}", problem_bytes(error))


def refuse_cut_body(request: web.BaseRequest) -> None:
    """Raise what ended a body before its time; to be called once it has been read.

    Raises:
        RequestTooSlow: it came too slowly.
        TooManyBytes: the plane holds as many bytes as it may.
    """
    handler = cast("BoundedHandler", request.protocol)
    if getattr(handler, "body_refusal", None) is not None:
        raise cast("WaveKVError", handler.take_refusal())


class BoundedHandler(web.RequestHandler):
    """One connection of a plane, in the slot that its book gave it."""

    def __init__(self, connections: Connections, slot: Slot, *arguments: Any, **settings: Any) -> None:
        idle_seconds = connections.settings.idle_ms_max / 1000
        super().__init__(*arguments, keepalive_timeout=idle_seconds, lingering_time=_LINGER_SECONDS, **settings)
        self.slot = slot
        self.body_refusal: WaveKVError | None = None
        """Why the body of the request in progress was cut short."""
        self._connections = connections
        self._quiet_before = True
        """Nothing was received yet."""
        self._last_body: Any = None
        """The body of the newest request, None: there was none yet."""
        self._unparsed = self._last_unparsed = 0
        """Bytes received that no body took: heads, framing, and what the parser has yet to look at; never too few. The
        same of the last piece alone."""
        self._bodies = 0
        """Bytes of bodies of requests that are not answered yet."""
        self._in_head = False
        self._body_total = 0
        """Bytes of the body that is owed now, and what was owed of answers when the client stopped reading."""
        self._unsent_first = 0
        self._answering: Any = None
        """What the newest answer is written by."""
        self.streaming = False
        """An answer without an end is being written; whoever writes it looks after the client's reading."""
        self._ignoring = False

    # ---- what the loop and aiohttp call ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the place in the book."""
        self._link = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        self._connections.serve(self.slot, self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._connections.leave(self.slot)
        self._answering = self._last_body = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count bytes, and hand them on."""
        if self._quiet_before and data:
            self._quiet_before = False
            self._connections.settle(self.slot, "first_byte")
        if self._ignoring:
            return
        if data and not self.may_hold(self._unparsed + self._bodies + len(data)):
            self._refuse_bytes()
            return
        known, body = len(self._messages), self._last_body
        before = body.total_bytes if body is not None else 0
        super().data_received(data)
        taken = body.total_bytes - before if body is not None else 0
        if len(self._messages) > known:
            for _message, payload in islice(self._messages, known, None):
                taken += payload.total_bytes
                self._last_body = payload
        self._unparsed = max(self._unparsed + len(data) - taken, 0)
        self._bodies += taken
        if data:
            self._last_unparsed = max(len(data) - taken, 0)
            self._note_owed(taken)

    def pause_writing(self) -> None:
        """The client takes nothing more; where that lasts beyond this turn, what was written is counted."""
        super().pause_writing()
        if not self.streaming:
            self._loop.call_soon(self._note_paused)

    def _note_paused(self) -> None:
        if self._paused and not self._link.is_closing():
            self.note_unread(_COPIES * self._answering.output_size if self._answering is not None else 0)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._connections.settle(self.slot, "unread")
        self._connections.hold(self.slot, self.slot.received, 0)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; the next request waits until the client has taken most of it."""
        if not resp.prepared:
            resp.headers.update(SAFE_HEADERS)
            if self._ignoring:
                resp.force_close()
        self._answering = request.writer
        answer, reset = await super().finish_response(request, resp, start_time)
        if isinstance(answer, web.Response):
            answer.body = None  # it is written, and aiohttp keeps the answer until the next one is made
        if reset:
            return answer, reset
        self._answered(request)
        if self._paused and not self.streaming:
            try:
                await self._drain_helper()
            except ConnectionError:
                return answer, True
        elif not answer.keep_alive and self._unsent():
            self.note_unread(_COPIES * request.writer.output_size)  # the rest is sent before it closes
        return answer, False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.Response:
        """Return the answer to a request that could not be parsed, or whose handler raised; closes the connection."""
        if request.writer.output_size > 0:  # a stream; another answer cannot begin in its middle
            if not isinstance(exc, ConnectionError):  # a client that leaves is nothing unexpected
                log.error("a stream failed unexpectedly", exc_info=exc)
            raise ConnectionResetError("the answer has begun")
        if status >= 500:
            if not isinstance(exc, ConnectionError):
                log.error("a request failed unexpectedly", exc_info=exc)
            error: WaveKVError = WaveKVError("an internal error; the member's log has its traceback")
        else:  # the parser's words hold bytes of the request, perhaps of a value: they are for the client alone
            reason = " ".join((message or "").split())[:200]
            error = MalformedHttp(f"the request is not HTTP or exceeds a bound: {reason}")
            self._connections.closed["head"] += 1
        response = refusal(error)
        response.force_close()
        return response

    # ---- what the book asks ----------------------------------------------------------------------------------------

    def idle_since(self) -> float | None:
        """Return since when it waits for a request, or for the rest of one's head."""
        waiter = self._waiter
        if waiter is None or waiter.done() or self._messages or self._paused:
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def progress(self, owed: Owed) -> int:
        """Return the bytes of the body that came, or of the answers that were taken."""
        if owed == "body":
            return self._body_total
        return max(self._unsent_first - self._unsent(), 0) if self._unsent() else 1 << 62

    def cut(self, reason: Reason) -> None:
        """End: with 408 or 503 where the client waits for an answer to what it sends, else without a word."""
        error: WaveKVError | None = None
        if reason in {"head", "body"}:
            error = RequestTooSlow(f"the {reason} of the request did not come in time; send it again, and faster")
        elif reason == "memory_budget":
            error = self._no_room()
        if error is None or self._paused or not self._refuse(error):
            self._link.abort()
        else:
            self._loop.call_later(_LINGER_SECONDS, self._link.abort)

    # ---- what it holds ---------------------------------------------------------------------------------------------

    def may_hold(self, received: int) -> bool:
        """Count what it holds of requests now; tell whether it may hold so much."""
        slot = self.slot
        if received <= self._connections.settings.free_bytes and not slot.held.size:
            return True
        return self._connections.hold(slot, received, slot.unsent)

    async def room_for(self, size: int) -> None:
        """Wait until an answer of `size` bytes, with its copies, may be made; it is given back when it has gone.

        One turn of the loop makes no more than the budget: what is cut to make room is free only in the next one.

        Raises:
            TooManyBytes: there is no room for it.
        """
        connections, slot = self._connections, self.slot
        for _ in range(_TURNS_MAX):
            if connections.try_hold(slot, slot.received, _COPIES * size):
                return
            connections.make_room(slot, _COPIES * size)
            await asyncio.sleep(0)
        connections.closed["memory_budget"] += 1
        raise self._no_room()

    def note_unread(self, answer_bytes: int) -> None:
        """The client has not taken all of an answer: count it, and give it time.

        The whole answer counts: its memory is one piece, and is given back when the last byte of it has gone.
        """
        self._unsent_first = self._unsent()
        grace = self._connections.settings.body_ms_grace / 1000
        self._connections.owe(self.slot, "unread", grace)
        if not self._connections.hold(self.slot, self.slot.received, max(self._unsent_first, answer_bytes)):
            self._connections.closed["memory_budget"] += 1
            self._link.abort()

    def _unsent(self) -> int:
        return self._link.get_write_buffer_size()

    def _answered(self, request: web.BaseRequest) -> None:
        """Give back what the request held that was just answered."""
        self._connections.settle(self.slot, "body")
        self._bodies = max(self._bodies - request.content.total_bytes, 0)
        if not self._messages:
            body = self._last_body
            if body is None or body.is_eof():
                self._bodies = 0
            free = self._last_unparsed <= self._connections.settings.free_bytes
            self._unparsed = 0 if free else self._last_unparsed
        if self.slot.held.size:
            unsent = self.slot.unsent if self._paused else 0
            self._connections.hold(self.slot, self._unparsed + self._bodies, unsent)

    def begin(self) -> None:
        """A request is worked on: its head is whole."""
        self._in_head = False
        self._connections.settle(self.slot, "head")

    def take_refusal(self) -> WaveKVError | None:
        """Return why the body was cut short, once: an error that is kept would keep what its traceback holds."""
        error, self.body_refusal = self.body_refusal, None
        return error

    def _note_owed(self, taken: int) -> None:
        """Set the deadlines of what is half here."""
        connections, slot = self._connections, self.slot
        body = self._last_body
        if body is not None and not body.is_eof():
            self._body_total += taken
            connections.owe(slot, "body", connections.settings.body_ms_grace / 1000)
            return
        if self._body_total:
            self._body_total = 0
            connections.settle(slot, "body")
        waiter = self._waiter
        in_head = not (self._messages or self._request_in_progress or (waiter is not None and waiter.done()))
        if in_head:
            connections.owe(slot, "head", connections.settings.head_ms_max / 1000)
            most = connections.settings.head_bytes_max
            if self._unparsed > most:
                self._refuse(MalformedHttp(f"request line and headers exceed {most} bytes"))
        elif self._in_head:
            connections.settle(slot, "head")
        self._in_head = in_head

    def _refuse_bytes(self) -> None:
        self._connections.closed["memory_budget"] += 1
        if not self._refuse(self._no_room()):
            self._link.abort()

    def _no_room(self) -> TooManyBytes:
        budget = self._connections.budget
        return TooManyBytes(
            f"requests and answers of the {budget.plane} plane hold {budget.used} of {budget.bytes_max} bytes; read "
            "answers as they come, send less at once, or try again"
        )

    def _refuse(self, error: WaveKVError) -> bool:
        """Refuse the request that is half here, and read nothing more; tell whether there is one to refuse."""
        body = self._last_body
        if body is not None and not body.is_eof():
            if len(self._messages) > 1 or (self._messages and self._current_request is not None):
                return False  # it stands behind others
            self._ignoring, self.body_refusal = True, error
            body.feed_eof()
            return True
        if self._current_request is not None or self._messages or self.transport is None:
            return False
        self._ignoring = True
        self.transport.write(refused_bytes(error))
        self.force_close()
        return True


class BoundedServer:
    """aiohttp's low-level server behind the book of a plane."""

    def __init__(
        self,
        handle: Handle,
        connections: Connections,
        *,
        protocol: Callable[..., BoundedHandler] = BoundedHandler,
        **settings: Any,
    ) -> None:
        """Serve with `handle`; `protocol` makes a connection of (book, slot, server), `settings` are aiohttp's."""
        self.connections = connections
        self._protocol = protocol
        self._settings = settings
        self._handle = handle
        self._web = web.Server(self._serve)
        self._acceptor: Acceptor | None = None

    @property
    def open_connections(self) -> Sequence[web.RequestHandler]:
        """The protocols of all connections."""
        return self._web.connections

    def start(self, sockets: Sequence[socket.socket], tls: Any = None) -> None:
        """Accept on bound, listening sockets; the server owns them from now on."""
        refused = refused_bytes(TooManyConnections("too many connections are open; reuse them, or try again"))
        self._acceptor = Acceptor(self.connections, self._make, tls=tls, refusal=refused)
        self._acceptor.start(sockets)

    def stop_accepting(self) -> None:
        """Close the listening sockets. Safe to call twice."""
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None

    async def stop(self, seconds: float) -> None:
        """Let the requests in progress end, for so long at most, and close the connections. Safe to call twice."""
        self.stop_accepting()
        self._web.pre_shutdown()
        await self._web.shutdown(seconds)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        cast("BoundedHandler", request.protocol).begin()
        return await self._handle(request)

    def _make(self, slot: Slot) -> BoundedHandler:
        return self._protocol(
            self.connections,
            slot,
            self._web,
            loop=asyncio.get_running_loop(),
            access_log=None,  # None switches it off
            auto_decompress=False,  # a body is taken as it is sent
            **self._settings,
        )
