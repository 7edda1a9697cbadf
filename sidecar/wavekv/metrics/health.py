"""The health and metrics plane: `/livez`, `/startupz`, `/readyz` for the kubelet and `/metrics` for Prometheus.

Plain HTTP on all addresses, so it never shows data, and it changes nothing. What the probes mean is decided elsewhere
(`Phase`); liveness is only that the event loop came round to answer, because restarting a member heals neither a full
disk nor a lost peer (G10).
"""

import socket
from collections.abc import Callable

from aiohttp import hdrs, web

from wavekv.metrics.observer import Metrics
from wavekv.ports import Phase

_STOP_SECONDS = 1.0
"""Longest wait for scrapes in progress when the server stops."""


class HealthServer:
    """Serves probes and metrics on one listening socket."""

    def __init__(self, phase: Callable[[], Phase], metrics: Metrics) -> None:
        self._phase = phase
        self._metrics = metrics
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/startupz", self._startupz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS)

    async def start(self, listening: socket.socket) -> None:
        """Serve on a bound, listening socket, which the server closes when it stops."""
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Stop accepting, let running scrapes end, close. Safe to call twice, or without a start."""
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _startupz(self, _request: web.Request) -> web.Response:
        phase = self._phase()
        return _probe(phase.started, phase.reason)

    async def _readyz(self, _request: web.Request) -> web.Response:
        phase = self._phase()
        return _probe(phase.ready, phase.reason)

    async def _scrape(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.exposition(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def _probe(passed: bool, reason: str) -> web.Response:
    return web.Response(status=200 if passed else 503, text=" ".join(reason.split()) + "\n")
