"""The operator's probes and metrics over plain HTTP: `/healthz`, `/readyz`, `/metrics`. No data on it.

Liveness is progress: the loop turns, and no watch is deaf. Ready is: the first lists were read and passes are done.
"""

from collections.abc import Callable

from aiohttp import hdrs, web

from wavekv_operator.errors import UsageError
from wavekv_operator.metrics import Metrics


class HealthServer:
    """Serves probes and metrics."""

    def __init__(self, metrics: Metrics, deaf: Callable[[], set[str]], ready: Callable[[], bool]) -> None:
        self._metrics = metrics
        self._deaf = deaf
        self._ready = ready
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self, host: str | None, port: int) -> None:
        """Listen. Raises UsageError where that is not possible."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.stop()
            raise UsageError(f"cannot listen on {host or ''}:{port}: {error}; give another --listen") from error

    async def stop(self) -> None:
        """Close."""
        await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        deaf = sorted(self._deaf())
        if deaf:
            return web.Response(status=503, text=f"deaf: the watch of {', '.join(deaf)} misses changes\n")
        return web.Response(text="alive\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready = self._ready()
        return web.Response(status=200 if ready else 503, text="ready\n" if ready else "starting: reading lists\n")

    async def _scrape(self, _request: web.Request) -> web.Response:
        body, content_type = self._metrics.exposition()
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
