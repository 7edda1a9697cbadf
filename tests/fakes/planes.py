"""A data plane over a fake store, on a free port of loopback, inside the test's own event loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from wavekv.config import Address, Limits
from wavekv.http_api import HttpApi
from wavekv.ports import Clock, KeyValues, Observer
from wavekv.resp import RespServer
from wavekv.runtime.listening import open_loopback

Kind = Callable[[KeyValues, Limits, Observer, Clock], HttpApi | RespServer]


@dataclass
class Plane:
    """What a test of a data plane holds."""

    store: FakeKeyValues
    operations: Operations
    server: HttpApi | RespServer
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def fast_http(store: KeyValues, limits: Limits, observer: Observer, clock: Clock) -> HttpApi:
    """The HTTP plane with its shorter way."""
    return HttpApi(store, limits, observer, clock)


def plain_http(store: KeyValues, limits: Limits, observer: Observer, clock: Clock) -> HttpApi:
    """The HTTP plane on aiohttp alone."""
    return HttpApi(store, limits, observer, clock, fast=False)


@asynccontextmanager
async def plane(kind: Kind, limits: Limits | None = None) -> AsyncIterator[Plane]:
    """Serve until the block ends."""
    store, operations = FakeKeyValues(), Operations()
    server = kind(store, limits or Limits(), operations, FakeClock())
    sockets = open_loopback([Address("127.0.0.1", 0)])
    port = sockets[0].getsockname()[1]
    await server.start(sockets)
    try:
        yield Plane(store, operations, server, port)
    finally:
        await server.stop()
