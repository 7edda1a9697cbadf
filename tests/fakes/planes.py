"""A data plane over a fake store, on a free port of loopback, inside the test's own event loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from wavekv.config import Address, Limits
from wavekv.http_api import HttpApi
from wavekv.ports import Clock, KeyValues, Observer
from wavekv.resp import RespServer
from wavekv.runtime.listening import open_loopback

Kind = Callable[[KeyValues, KeyValues, Limits, Observer, Clock], HttpApi | RespServer]


@dataclass
class Plane:
    """What a test of a data plane holds."""

    store: FakeKeyValues
    ephemeral: FakeKeyValues
    operations: Operations
    clock: FakeClock
    server: HttpApi | RespServer
    port: int
    limits: Limits = field(default_factory=Limits)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def fast_http(store: KeyValues, ephemeral: KeyValues, limits: Limits, observer: Observer, clock: Clock) -> HttpApi:
    """The HTTP plane with its shorter way."""
    return HttpApi(store, ephemeral, limits, observer, clock)


def plain_http(store: KeyValues, ephemeral: KeyValues, limits: Limits, observer: Observer, clock: Clock) -> HttpApi:
    """The HTTP plane on aiohttp alone."""
    return HttpApi(store, ephemeral, limits, observer, clock, fast=False)


def resp_plane(store: KeyValues, ephemeral: KeyValues, limits: Limits, observer: Observer, clock: Clock) -> RespServer:
    """The Redis plane, which speaks of the first store only."""
    return RespServer(store, limits, observer, clock)


@asynccontextmanager
async def plane(kind: Kind, limits: Limits | None = None) -> AsyncIterator[Plane]:
    """Serve until the block ends."""
    limits = limits or Limits()
    clock, operations = FakeClock(), Operations()
    store, ephemeral = FakeKeyValues(clock, limits), FakeKeyValues(clock, limits)
    server = kind(store, ephemeral, limits, operations, clock)
    sockets = open_loopback([Address("127.0.0.1", 0)])
    port = sockets[0].getsockname()[1]
    await server.start(sockets)
    try:
        yield Plane(store, ephemeral, operations, clock, server, port, limits)
    finally:
        await server.stop()
