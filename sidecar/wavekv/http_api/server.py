"""The data plane's HTTP server: routes a request, calls the member, and turns every error into a problem document.

It stands on aiohttp's low-level server: a small table instead of a router, because keys need the raw path, and because
a faster way for the commonest requests can be added in `_Connection` without a second server. Reads answer from memory
(G5), writes when they are durable (G1).
"""

import asyncio
import json
import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

from aiohttp import hdrs, web

from wavekv.config import Limits
from wavekv.errors import (
    DurabilityTimeout,
    MethodNotAllowed,
    NotImplementedHere,
    PreconditionFailed,
    UnknownRoute,
    WaveKVError,
)
from wavekv.http_api import openapi, routes, target
from wavekv.http_api.body import UNREAD
from wavekv.http_api.calls import Call, Shared
from wavekv.http_api.conditions import with_etag
from wavekv.http_api.document import JSON
from wavekv.http_api.fast import SESSION, FastConnection, FastPath
from wavekv.http_api.options import refuse_lacking_headers, refuse_unknown
from wavekv.http_api.routes import Operation
from wavekv.http_api.streams import EventStream, Streams
from wavekv.http_api.waiting import await_session, seconds_from
from wavekv.plane_settings import HTTP_PLANE
from wavekv.ports import Clock, KeyValues, Observer
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections
from wavekv.runtime.listening import remove_unix
from wavekv.runtime.watchdog import Watchdog
from wavekv.web_connections import BoundedServer, refusal
from wavekv.web_guard import page_headers, preflight_headers, refuse_foreign

log = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
"""Longest wait for requests in progress when the server stops; a group of writes takes milliseconds to sync."""


class HttpApi:
    """The HTTP data plane of one member, on sockets that are bound and listening.

    `ephemeral` is the second store, None where the member has none. `fast` chooses the shorter way for plain requests;
    the answers are the same without it.
    """

    def __init__(
        self,
        store: KeyValues,
        ephemeral: KeyValues | None,
        limits: Limits,
        observer: Observer,
        clock: Clock,
        *,
        fast: bool = True,
        connections: Connections | None = None,
        watch_budget: ByteBudget | None = None,
        watchdog: Watchdog | None = None,
        allow_hosts: Collection[str] = (),
    ) -> None:
        """Serve `store`; `connections` is the book of this plane, `watch_budget` is shared with the stores' watches."""
        self._stores = {routes.STORE: store, routes.EPHEMERAL: ephemeral}
        self._fast = fast
        self._allow_hosts = frozenset(allow_hosts)
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._connections = connections or _unshared(limits, clock)
        self._server: BoundedServer | None = None
        self._sockets: list[socket.socket] = []
        self._watchdog = watchdog or Watchdog(clock, limits.turn_ms_max)
        budget = watch_budget or ByteBudget("watch", limits.watch_held_bytes_max)
        self._shared = Shared(limits, clock, Streams(clock, budget))
        self._of_member: Mapping[str, Mapping[str, Operation]] = {
            "/v1/status": {"GET": Operation("status", "What the member knows of itself.", _status, (200,))},
            "/openapi.json": {"GET": Operation("other", "This document.", self._describe, (200,))},
        }

    @property
    def table(self) -> dict[str, Mapping[str, Operation]]:
        """Every path template with its methods."""
        of_stores = {f"{prefix}{path}": ops for prefix in self._stores for path, ops in routes.OF_STORE.items()}
        return of_stores | dict(self._of_member)

    @property
    def watchers(self) -> int:
        """Streams that are open."""
        return len(self._shared.streams)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on `sockets`, TCP or unix; the server owns them from now on."""
        store, ephemeral = self._stores.values()
        assert store is not None, "the first store is always there"
        given = (store, ephemeral, self._limits, self._observer, self._clock)
        fast = FastPath(*given, allow_hosts=self._allow_hosts) if self._fast else None
        self._server = BoundedServer(
            self._handle,
            self._connections,
            protocol=partial(_Connection, fast),
            max_line_size=self._limits.header_bytes_max,
            max_field_size=self._limits.header_bytes_max,
        )
        self._sockets = list(sockets)
        self._server.start(sockets)

    async def stop(self) -> None:
        """Stop accepting, end the watches, answer the requests in progress, close the connections.

        Safe to call twice.
        """
        remove_unix(self._sockets)
        self._sockets = []
        if self._server is not None:
            self._server.stop_accepting()
            await asyncio.sleep(0)  # connections accepted in this turn get to their handler
            self._shared.streams.stop()
            for connection in self._server.open_connections:
                cast("_Connection", connection).end_wait()
            await self._server.stop(_STOP_SECONDS)
            self._server = None

    # ---- one request -----------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = await self._answer(request)
        if hdrs.ORIGIN in request.headers:
            answer.headers.extend(page_headers(request.headers, self._allow_hosts))
        return await self._stream(answer, request) if isinstance(answer, EventStream) else answer

    async def _answer(self, request: web.BaseRequest) -> web.Response | EventStream:
        started = self._clock.monotonic()
        kind, result = "other", "internal"
        answer: web.Response | EventStream
        try:
            if cast("_Connection", request.protocol).guarded:
                refuse_foreign(request.headers, request.raw_path, self._allow_hosts)
                if request.method == hdrs.METH_OPTIONS and (
                    granted := preflight_headers(request.headers, self._allow_hosts)
                ):
                    result = "ok"
                    return web.Response(status=204, headers=granted)  # `_handle` adds what every answer to it has
            wanted = target.split_target(request.raw_path)
            found = self._route(wanted.path)
            operation = found.methods.get(request.method)
            if operation is None:
                kind = next(iter(found.methods.values())).kind if len(found.methods) == 1 else kind
                result = MethodNotAllowed.code
                return _not_allowed(request.method, wanted.path, found.methods)
            kind = operation.kind
            self._watchdog.begun = ("http", kind)
            refuse_lacking_headers(request.headers, request.method, known=operation.headers)
            call = self._call(request, wanted, found, operation)
            await await_session(call)
            answer = await operation.serve(call)
            result = "ok"
        except ConnectionError:
            result = "client_gone"
            raise
        except WaveKVError as error:
            result = error.code
            answer = _refusal(error)
            if not request.content.is_eof() and (isinstance(error, UNREAD) or "Expect" in request.headers):
                answer.force_close()  # what follows on this connection may be the body or not
        finally:
            self._observer.operation("http", kind, result, self._clock.monotonic() - started)
        return answer

    def _route(self, path: str) -> routes.Found:
        """Return what serves `path`."""
        methods = self._of_member.get(path)
        found = routes.of_store(path) if methods is None else routes.Found(methods, routes.STORE, "")
        if found is None:
            raise UnknownRoute(f"there is no route {path[:80]}; keys are at {routes.STORE}/kv/KEY")
        return found

    def _call(self, request: web.BaseRequest, wanted: target.Target, found: routes.Found, operation: Operation) -> Call:
        store = self._stores[found.prefix]
        if store is None:
            raise NotImplementedHere("this member has no ephemeral store")
        given = target.parameters(wanted.query) if wanted.query else {}
        refuse_unknown(given, operation.parameters)
        ends_at = self._clock.monotonic() + seconds_from(given, self._limits)
        return Call(request, store, found.escaped_key, given, self._shared, ends_at)

    async def _stream(self, stream: EventStream, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("_Connection", request.protocol)
        connection.stream, connection.streaming = stream, True
        try:
            return await stream.run(request)
        finally:
            connection.stream = None

    async def _describe(self, call: Call) -> web.Response:
        return web.Response(body=openapi.describe(self.table, self._limits), content_type=JSON)


async def _status(call: Call) -> web.Response:
    return web.Response(body=json.dumps(call.store.status()).encode(), content_type=JSON)


def _unshared(limits: Limits, clock: Clock) -> Connections:
    """Return a book of its own, for a server that stands alone."""
    settings = replace(HTTP_PLANE, connections_max=limits.http_connections_max)
    return Connections("http", settings, ByteBudget("http", limits.http_held_bytes_max), clock.monotonic)


def _refusal(error: WaveKVError) -> web.Response:
    response = refusal(error)
    if isinstance(error, DurabilityTimeout):  # the write is there: its tag and token are good
        response.headers[SESSION] = error.session
    return with_etag(response, error) if isinstance(error, PreconditionFailed | DurabilityTimeout) else response


def _not_allowed(method: str, path: str, methods: Mapping[str, Operation]) -> web.Response:
    allowed = ", ".join(methods)
    response = _refusal(MethodNotAllowed(f"{path[:80]} does not take {method[:80]}; it takes {allowed}"))
    response.headers["Allow"] = allowed
    return response


# ---- the library's side --------------------------------------------------------------------------------------------


class _Connection(FastConnection):
    """One client's connection."""

    stream: EventStream | None = None
    """The watch that this connection serves now, and to its end."""

    def data_received(self, data: bytes) -> None:
        """Take bytes; what comes behind a watch is nobody's, and must not pile up."""
        if self.stream is None:
            super().data_received(data)

    def pause_writing(self) -> None:
        """The client takes nothing more."""
        super().pause_writing()
        if self.stream is not None:
            self.stream.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self.stream is not None:
            self.stream.resume()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the watch."""
        if self.stream is not None:
            self.stream.lost()
        super().connection_lost(exc)
