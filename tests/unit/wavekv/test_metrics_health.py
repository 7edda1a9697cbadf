"""What the kubelet and Prometheus are answered. One loop holds server and client; nothing here sleeps."""

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from wavekv.metrics import HealthServer, Metrics
from wavekv.ports import Phase

STARTING = Phase(started=False, ready=False, reason="starting: replaying the log")
HEALING = Phase(started=True, ready=False, reason="healing: two\npeers to hear")
READY = Phase(started=True, ready=True, reason="ready")


class Plane:
    """A served health plane whose phase the test chooses."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.phase = READY
        self._session = session
        self._base = base

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Return status, body and content type."""
        async with self._session.request(method, self._base + path, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers["Content-Type"]


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    listening = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with aiohttp.ClientSession() as session:
        served = Plane(session, base)
        server = HealthServer(lambda: served.phase, Metrics())
        await server.start([listening])
        yield served
        await server.stop()


@pytest.mark.parametrize(
    ("phase", "startupz", "readyz"), [(STARTING, 503, 503), (HEALING, 200, 503), (READY, 200, 200)]
)
async def test_probes_answer_by_the_phase(plane: Plane, phase: Phase, startupz: int, readyz: int) -> None:
    plane.phase = phase
    assert (await plane.ask("/startupz"))[0] == startupz
    assert (await plane.ask("/readyz"))[0] == readyz


@pytest.mark.parametrize("phase", [STARTING, HEALING, READY])
async def test_livez_asks_only_that_the_loop_turns(plane: Plane, phase: Phase) -> None:
    plane.phase = phase
    assert (await plane.ask("/livez"))[:2] == (200, "alive\n")


async def test_a_probe_says_its_reason_in_one_line(plane: Plane) -> None:
    plane.phase = HEALING
    assert (await plane.ask("/readyz"))[1] == "healing: two peers to hear\n"


async def test_metrics_are_negotiated_by_accept(plane: Plane) -> None:
    code, body, content_type = await plane.ask("/metrics")
    assert (code, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "wavekv_build_info" in body
    code, body, content_type = await plane.ask("/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/livez", "/startupz", "/readyz", "/metrics"])
async def test_head_is_answered_like_get_and_other_methods_are_not_allowed(plane: Plane, path: str) -> None:
    assert (await plane.ask(path, "HEAD"))[:2] == (200, "")
    for method in ("POST", "PUT", "DELETE"):
        assert (await plane.ask(path, method))[0] == 405


@pytest.mark.parametrize("path", ["/", "/v1/status", "/v1/kv/a", "/livez/", "/metrics/x"])
async def test_the_plane_has_no_other_route(plane: Plane, path: str) -> None:
    assert (await plane.ask(path))[0] == 404


async def test_a_stopped_server_has_closed_its_socket_and_stops_again() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    server = HealthServer(lambda: READY, Metrics())
    await server.start([listening])
    await server.stop()
    await server.stop()
    assert listening.fileno() == -1
