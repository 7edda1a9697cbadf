"""The health and metrics plane: `/livez`, `/startupz`, `/readyz` for the kubelet and `/metrics` for Prometheus.

Plain HTTP on all addresses, so it never shows data, and it changes nothing. Any `Host` is answered, because Prometheus
and the kubelet ask under names and addresses that a member does not know; what a browser says comes from a page of
another host is refused. What the probes mean is decided elsewhere (`Phase`); liveness is only that the event loop came
round to answer, because restarting a member heals neither a full disk nor a lost peer (G10).
"""

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiohttp import hdrs, web

from wavekv.errors import MethodNotAllowed, UnknownRoute, WaveKVError
from wavekv.metrics.observer import Metrics
from wavekv.plane_settings import METRICS_HELD_BYTES_MAX, METRICS_PLANE
from wavekv.ports import Phase
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections
from wavekv.web_connections import BoundedServer, refusal
from wavekv.web_guard import refuse_foreign_page

_STOP_SECONDS = 1.0
"""Longest wait for scrapes in progress when the server stops."""
_HEAD_BYTES: Final = 8190
"""Longest request line, and longest header."""
_SHOWN_MAX: Final = 80


class HealthServer:
    """Serves probes and metrics on one listening socket."""

    def __init__(self, phase: Callable[[], Phase], metrics: Metrics, connections: Connections | None = None) -> None:
        """Answer by `phase` and `metrics`; `connections` is the book of the plane, by default one of its own."""
        self._phase = phase
        self._metrics = metrics
        self._routes: Mapping[str, Callable[[web.BaseRequest], web.Response]] = {
            "/livez": self._livez,
            "/startupz": self._startupz,
            "/readyz": self._readyz,
            "/metrics": self._scrape,
        }
        connections = connections or Connections("metrics", METRICS_PLANE, scrapes_budget(), time.monotonic)
        self._server = BoundedServer(self._handle, connections, max_line_size=_HEAD_BYTES, max_field_size=_HEAD_BYTES)

    async def start(self, listening: Sequence[socket.socket]) -> None:
        """Serve on bound, listening sockets, which the server closes when it stops."""
        self._server.start(listening)

    async def stop(self) -> None:
        """Stop accepting, let running scrapes end, close. Safe to call twice, or without a start."""
        await self._server.stop(_STOP_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        try:
            refuse_foreign_page(request.headers)
            path = request.path
            route = self._routes.get(path)
            if route is None:
                raise UnknownRoute(f"there is no route {path[:_SHOWN_MAX]!r}; there are {', '.join(self._routes)}")
            if request.method not in {hdrs.METH_GET, hdrs.METH_HEAD}:
                raise MethodNotAllowed(f"{path} takes GET and HEAD only")
            return route(request)
        except WaveKVError as error:
            return refusal(error)

    def _livez(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(text="alive\n")

    def _startupz(self, _request: web.BaseRequest) -> web.Response:
        phase = self._phase()
        return _probe(phase.started, phase.reason)

    def _readyz(self, _request: web.BaseRequest) -> web.Response:
        phase = self._phase()
        return _probe(phase.ready, phase.reason)

    def _scrape(self, request: web.BaseRequest) -> web.Response:
        body, content_type = self._metrics.exposition(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def scrapes_budget() -> ByteBudget:
    """Return a budget for scrapes that are not taken."""
    return ByteBudget("metrics", METRICS_HELD_BYTES_MAX)


def _probe(passed: bool, reason: str) -> web.Response:
    return web.Response(status=200 if passed else 503, text=" ".join(reason.split()) + "\n")
