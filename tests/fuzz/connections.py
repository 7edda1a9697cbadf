"""Bytes to the real connection classes of the data planes, through a transport that is none.

An execution is a whole session: a server over a fake store, one connection, the bytes in a few parts, and its end. What
fails it is what a client could never be answered: an internal error, or an exception that reached the event loop.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from tests.fakes.key_values import FakeClock, FakeKeyValues, Operations
from wavekv.config import Limits
from wavekv.http_api import HttpApi
from wavekv.resp import RespServer

LIMITS: Final = Limits(value_bytes_max=4096, batch_bytes_max=8192, resp_command_bytes_max=16384, resp_arguments_max=256)
TURNS: Final = 30
"""Of the loop, for one part of the bytes."""
WRITTEN_BYTES_MAX: Final = 1 << 22
"""What a session is answered at most is far below; a transport that took everything would hide it."""


class FakeTransport(asyncio.Transport):
    """Keeps what is written; closes in the next turn, as a socket does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 7070)})
        self.written = bytearray()
        self._loop = loop
        self._protocol: Any = None
        self._closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Take who is told of the end."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is told of the end."""
        return cast("asyncio.BaseProtocol", self._protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        if not self._closing:
            self.written += data
            assert len(self.written) <= WRITTEN_BYTES_MAX, "an answer without an end"

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        return self._closing

    def close(self) -> None:
        """Close in the next turn."""
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """Close in the next turn."""
        self.close()

    def write_eof(self) -> None:
        """The client closes its side as well, in the next turn."""
        self._loop.call_soon(self._close_too)

    def _close_too(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def pause_reading(self) -> None:
        """Parts that come are taken all the same."""

    def resume_reading(self) -> None:
        """As above."""

    def is_reading(self) -> bool:
        """Tell that bytes come."""
        return not self._closing

    def get_write_buffer_size(self) -> int:
        """Everything was taken."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""


class Sessions:
    """Runs sessions on one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.unexpected: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.unexpected.append(str(context)))

    def run(self, make: Callable[[], tuple[Any, Callable[[], Any]]], parts: list[bytes]) -> bytes:
        """Serve one connection that sends `parts`; return what it was answered."""
        return self.loop.run_until_complete(self._session(make, parts))

    async def _session(self, make: Callable[[], tuple[Any, Callable[[], Any]]], parts: list[bytes]) -> bytes:
        server, connect = make()
        await server.start([])
        protocol = connect()
        transport = FakeTransport(self.loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for part in parts:
            if transport.is_closing():
                break
            protocol.data_received(part)
            await self._turns(transport)
        if not transport.is_closing():
            transport.close()
        for _ in range(3):
            await asyncio.sleep(0)
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await server.stop()
        assert not self.unexpected, self.unexpected.pop()
        return bytes(transport.written)

    async def _turns(self, transport: FakeTransport) -> None:
        """Let the session go on until nothing changes."""
        calm, before = 0, -1
        for _ in range(TURNS):
            await asyncio.sleep(0)
            calm = calm + 1 if len(transport.written) == before else 0
            before = len(transport.written)
            if calm > 4:
                return


def http_server(*, fast: bool) -> tuple[HttpApi, Callable[[], Any]]:
    """Return the HTTP plane over an empty store, and what makes its connections."""
    store, ephemeral = _stores()
    api = HttpApi(store, ephemeral, LIMITS, Operations(), FakeClock(), fast=fast)
    return api, lambda: _connection(api)


def _connection(api: Any) -> Any:
    """Return the protocol of a connection that the plane's book admitted."""
    slot = api._connections.admit("127.0.0.1", lambda: None)
    assert slot is not None, "the only connection there is"
    return api._server._make(slot)


def resp_server() -> tuple[RespServer, Callable[[], Any]]:
    """Return the Redis plane over an empty store, and what makes its connections."""
    store, _ = _stores()
    server = RespServer(store, LIMITS, Operations(), FakeClock())
    return server, lambda: cast("Any", server)._accept()


def _stores() -> tuple[FakeKeyValues, FakeKeyValues]:
    clock = FakeClock()
    return FakeKeyValues(clock, LIMITS), FakeKeyValues(clock, LIMITS)


def parts_of(data: bytes) -> list[bytes]:
    """Return the parts in which an input is received: its first byte says where it is cut."""
    if not data:
        return []
    cut, rest = data[0], data[1:]
    if cut < 128 or len(rest) < 2:
        return [rest]
    at = 1 + (cut - 128) * len(rest) // 128 % (len(rest) - 1)
    return [rest[:at], rest[at:]]
