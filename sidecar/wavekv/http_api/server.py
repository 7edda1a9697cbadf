"""The data plane's HTTP server: routes a request, calls the member, and turns every error into a problem document.

It stands on aiohttp's low-level server: a small table instead of a router, because keys need the raw path, and because
a faster way for the commonest requests can be added in `_Connection` without a second server. Reads answer from memory
(G5), writes when they are durable (G1).
"""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from aiohttp import web

from wavekv.config import Limits
from wavekv.core.types import Entry
from wavekv.errors import (
    KeyNotFound,
    MalformedHttp,
    MethodNotAllowed,
    PreconditionFailed,
    TooManyConnections,
    UnknownRoute,
    ValueTooLarge,
    WaveKVError,
)
from wavekv.http_api import listing, target
from wavekv.http_api.body import read_value
from wavekv.http_api.conditions import condition_from, unmodified, with_etag
from wavekv.http_api.fast import FastConnection, FastPath, refused_bytes
from wavekv.http_api.options import refuse_lacking_headers, refuse_lacking_path, refuse_unknown
from wavekv.ports import Clock, KeyValues, Observer
from wavekv.runtime.listening import BACKLOG, remove_unix

log = logging.getLogger(__name__)

_KEY_PREFIX = "/v1/kv/"
_BYTES = "application/octet-stream"
_PROBLEM = "application/problem+json"

_STOP_SECONDS = 5.0
"""Longest wait for requests in progress when the server stops; a group of writes takes milliseconds to sync."""

_LINGER_SECONDS = 2.0
"""After a refusal the rest of a body is read and dropped this long, so that the client gets to see the answer."""

_Serve = Callable[[web.BaseRequest, target.Target], Awaitable[web.Response]]


class HttpApi:
    """The HTTP data plane of one member, on sockets that are bound and listening.

    `fast` chooses the shorter way for plain requests; the answers are the same without it.
    """

    def __init__(
        self, store: KeyValues, limits: Limits, observer: Observer, clock: Clock, *, fast: bool = True
    ) -> None:
        self._store = store
        self._fast = fast
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._server: web.Server | None = None
        self._listening: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._of_key: Mapping[str, _Serve] = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "DELETE": self._delete,
        }
        self._by_path: Mapping[str, tuple[str, Mapping[str, _Serve]]] = {
            "/v1/kv": ("list", {"GET": self._list}),
            "/v1/status": ("status", {"GET": self._status}),
        }

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on `sockets`, TCP or unix; the server owns them from now on."""
        fast = FastPath(self._store, self._limits, self._observer, self._clock) if self._fast else None
        self._server = _Server(self._handle, fast, self._limits)
        loop = asyncio.get_running_loop()
        self._sockets = list(sockets)
        for sock in sockets:
            create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
            self._listening.append(await create(self._server, sock=sock, backlog=BACKLOG))

    async def stop(self) -> None:
        """Stop accepting, answer the requests in progress, close the connections. Safe to call twice."""
        remove_unix(self._sockets)
        for listening in self._listening:
            listening.close()
        self._listening, self._sockets = [], []
        if self._server is not None:
            await asyncio.sleep(0)  # connections accepted in this turn get to their handler
            self._server.pre_shutdown()
            await self._server.shutdown(_STOP_SECONDS)
            self._server = None

    # ---- one request -----------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        started = self._clock.monotonic()
        kind, result = "other", "internal"
        try:
            wanted = target.split_target(request.raw_path)
            kind, methods = self._route(wanted.path, request.method)
            serve = methods.get(request.method)
            if serve is None:
                result = MethodNotAllowed.code
                return _not_allowed(request.method, wanted.path, methods)
            refuse_lacking_headers(request.headers, request.method, keyed=methods is self._of_key)
            response = await serve(request, wanted)
            result = "ok"
        except WaveKVError as error:
            result = error.code
            response = _refusal(error)
            if not request.content.is_eof() and (isinstance(error, ValueTooLarge) or "Expect" in request.headers):
                response.force_close()  # what follows on this connection may be the body or not
        finally:
            self._observer.operation("http", kind, result, self._clock.monotonic() - started)
        return response

    def _route(self, path: str, method: str) -> tuple[str, Mapping[str, _Serve]]:
        """Return the kind of operation, as metrics name it, and what serves each method of `path`."""
        if path.startswith(_KEY_PREFIX):
            return method.lower() if method in self._of_key else "other", self._of_key
        found = self._by_path.get(path)
        if found is None:
            refuse_lacking_path(path)
            raise UnknownRoute(f"there is no route {path[:80]}; keys are at {_KEY_PREFIX}KEY")
        return found

    def _key(self, wanted: target.Target) -> str:
        if wanted.query:
            refuse_unknown(target.parameters(wanted.query), ())
        return target.key_from(wanted.path[len(_KEY_PREFIX) :], self._limits.key_bytes_max)

    async def _get(self, request: web.BaseRequest, wanted: target.Target) -> web.Response:
        key = self._key(wanted)
        entry = self._store.get(key)
        if entry is None:
            raise KeyNotFound(f"there is no key {key!r}")
        if unmodified(condition_from(request), entry):
            return web.Response(status=304, headers={"ETag": _etag(entry)})
        return web.Response(body=entry.value, headers={"Content-Type": _BYTES, "ETag": _etag(entry)})

    async def _put(self, request: web.BaseRequest, wanted: target.Target) -> web.Response:
        key = self._key(wanted)
        condition = condition_from(request)
        value = await read_value(request, self._limits.value_bytes_max)
        written = await self._store.put(key, value, condition)
        return web.Response(status=201 if written.created else 200, headers={"ETag": _etag(written.entry)})

    async def _delete(self, request: web.BaseRequest, wanted: target.Target) -> web.Response:
        written = await self._store.delete(self._key(wanted), condition_from(request))
        return web.Response(headers={"ETag": _etag(written.entry)})

    async def _list(self, request: web.BaseRequest, wanted: target.Target) -> web.Response:
        query = listing.query_from(target.parameters(wanted.query), self._limits)
        entries, following = listing.page(self._store, query, self._limits.list_bytes_max)
        media_type = listing.media_type_for(request.headers.get("Accept", ""))
        body = listing.encode(entries, following, keys_only=query.keys_only, media_type=media_type)
        return web.Response(body=body, headers={"Content-Type": media_type, "Vary": "Accept"})

    async def _status(self, request: web.BaseRequest, wanted: target.Target) -> web.Response:
        refuse_unknown(target.parameters(wanted.query), ())
        return web.Response(body=json.dumps(self._store.status()).encode(), content_type=listing.JSON)


def _etag(entry: Entry) -> str:
    return f'"{entry.etag}"'


def _refusal(error: WaveKVError) -> web.Response:
    body = json.dumps(error.problem(), ensure_ascii=False).encode("utf-8", "backslashreplace")
    response = web.Response(status=error.status, body=body, headers={"Content-Type": _PROBLEM})
    return with_etag(response, error) if isinstance(error, PreconditionFailed) else response


def _not_allowed(method: str, path: str, methods: Mapping[str, _Serve]) -> web.Response:
    allowed = ", ".join(methods)
    response = _refusal(MethodNotAllowed(f"{path[:80]} does not take {method[:80]}; it takes {allowed}"))
    response.headers["Allow"] = allowed
    return response


# ---- the library's side --------------------------------------------------------------------------------------------


class _Server(web.Server):
    """Makes connections with our bounds and our words for errors."""

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.Response]],
        fast: FastPath | None,
        limits: Limits,
    ) -> None:
        super().__init__(handle)
        self._fast = fast
        self._limits = limits

    def __call__(self) -> "_Connection | _Refused":  # type: ignore[override]
        if len(self.connections) >= self._limits.http_connections_max:
            return _Refused()
        return _Connection(
            self._fast,
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # None switches it off
            max_line_size=self._limits.header_bytes_max,
            max_field_size=self._limits.header_bytes_max,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,  # a value is stored as it is sent
        )


class _Connection(FastConnection):
    """One client's connection; answers in our words where HTTP itself is broken or a handler failed."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.Response:
        """Return the answer to a request that could not be parsed, or whose handler raised; closes the connection."""
        if status >= 500:
            log.error("a request failed unexpectedly", exc_info=exc)
            error: WaveKVError = WaveKVError("an internal error; the member's log has its traceback")
        else:
            reason = " ".join((message or "").split())[:200]
            error = MalformedHttp(f"the request is not HTTP or exceeds a bound: {reason}")
            log.info("refused a malformed request: %s", error.detail)
        response = _refusal(error)
        response.force_close()
        return response


class _Refused(asyncio.Protocol):
    """A connection above the bound (G9): it is told so and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        refused = cast("asyncio.Transport", transport)
        refused.write(refused_bytes(TooManyConnections("too many connections are open; reuse them, or try again")))
        refused.close()
