"""A member's HTTP data API over a dict, on a thread of its own, with faults on demand and every put counted."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

from wavekv.http_api.values import value_fields


class Problem(NamedTuple):
    """An answer instead of the work."""

    status: int
    code: str


CUT_BEFORE = "cut the connection instead of storing"
CUT_AFTER = "store, then cut the connection instead of answering"

Fault = Problem | str | None


class HttpMember:
    """A fake member; a context manager. `fault(method, key, number)` is asked before each request on a key."""

    def __init__(self, fault: Callable[[str, str, int], Fault] | None = None, socket: str | None = None) -> None:
        self.entries: dict[str, bytes] = {}
        self.expiring: dict[str, int] = {}
        self.ttls: list[tuple[str, str | None]] = []
        self.puts: Counter[str] = Counter()
        self.written: list[tuple[str, bytes]] = []
        self.gets: Counter[str] = Counter()
        self.overlaps = 0
        self.connections: set[Any] = set()
        self.status: dict[str, Any] = {"name": "m0"}
        self.fault = fault or (lambda method, key, number: None)
        self.port = 0
        self._requests = 0
        self._under_way: set[str] = set()
        self._socket = socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,))
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self, started: threading.Event) -> None:
        app = web.Application(client_max_size=4 << 20)
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/kv", self._list)
        app.router.add_route("*", "/v1/kv/{key:(?s:.+)}", self._key)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        loop = self._loop
        loop.run_until_complete(runner.setup())
        if self._socket:
            loop.run_until_complete(web.UnixSite(runner, self._socket).start())
        else:
            loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
            self.port = runner.addresses[0][1]
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self.status)

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        keys = sorted(k for k in self.entries if k.startswith(query.get("prefix", "")) and k > query.get("after", ""))
        limit = int(query.get("limit", "100"))
        page = [self._item(key, query.get("keys_only") == "true") for key in keys[:limit]]
        return web.json_response({"entries": page, "next": keys[limit - 1] if len(keys) > limit else None})

    def _item(self, key: str, bare: bool) -> dict[str, Any]:
        item: dict[str, Any] = {"key": key, "etag": self._etag(key)}
        item |= {"expires_at": self.expiring[key]} if key in self.expiring else {}
        return item if bare else item | value_fields(self.entries[key])

    def _etag(self, key: str) -> str:
        return f"1000.1.{self.puts[key]}"

    async def _key(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        self.connections.add(request.transport)
        value = await request.read()
        self.overlaps += key in self._under_way
        self._under_way.add(key)
        try:
            await asyncio.sleep(0)
            return self._answer(request, key, value)
        finally:
            self._under_way.discard(key)

    def _answer(self, request: web.Request, key: str, value: bytes) -> web.Response:
        self._requests += 1
        fault = self.fault(request.method, key, self._requests)
        if isinstance(fault, Problem):
            return _problem(fault)
        if fault == CUT_BEFORE:
            return _cut(request)
        if request.method == "PUT":
            return self._put(request, key, value, fault)
        self.gets[key] += 1
        if key not in self.entries:
            return _problem(Problem(404, "not_found"))
        headers = {"ETag": f'"{self._etag(key)}"'}
        if request.method == "DELETE":
            del self.entries[key]
            return web.Response(headers=headers)
        headers |= {"Wavekv-Expires-At": str(self.expiring[key])} if key in self.expiring else {}
        return web.Response(body=self.entries[key], headers=headers)

    def _put(self, request: web.Request, key: str, value: bytes, fault: Fault) -> web.Response:
        found = key in self.entries
        self.entries[key] = value
        self.ttls.append((key, request.query.get("ttl")))
        self.expiring.pop(key, None)
        self.puts[key] += 1
        self.written.append((key, value))
        if fault == CUT_AFTER:
            return _cut(request)
        return web.Response(status=200 if found else 201, headers={"ETag": f'"{self._etag(key)}"'})


def _problem(problem: Problem) -> web.Response:
    body = {"status": problem.status, "code": problem.code, "title": "no", "detail": f"the member says {problem.code}"}
    return web.json_response(body, status=problem.status, content_type="application/problem+json")


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()
