"""Accepting: a lack of descriptors pauses it and ends nothing, and a half TLS handshake has a deadline and a bound."""

import asyncio
import errno
import os
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.pki import Authority
from wavekv.plane_settings import PlaneSettings
from wavekv.runtime.accepting import Acceptor
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections, Owed, Reason, Slot


class Poor(socket.socket):
    """A listener that meets EMFILE at its first accepts."""

    tries = 0
    failing = 3
    code = errno.EMFILE

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.tries <= self.failing:
            raise OSError(self.code, os.strerror(self.code))
        return super().accept()


class Greeter(asyncio.Protocol):
    """Says hello, and keeps its place in the book."""

    def __init__(self, book: Connections, slot: Slot) -> None:
        self._book = book
        self._slot = slot

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._book.serve(self._slot, self)
        transport.write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self._book.leave(self._slot)

    def idle_since(self) -> float | None:
        return 0.0

    def progress(self, owed: Owed) -> int:
        return 0

    def cut(self, reason: Reason) -> None:
        self._transport.abort()


class Guests:
    """A listening plane of greeters, and the connections of its guests; all of it is closed in the end."""

    def __init__(self, settings: PlaneSettings, tls: ssl.SSLContext | None = None, kind: type = socket.socket) -> None:
        self.book = Connections("peer", settings, ByteBudget("peer", 1 << 20), time.monotonic)
        self.listening = kind(socket.AF_INET, socket.SOCK_STREAM)
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen()
        self.greeters: list[Greeter] = []
        self._acceptor = Acceptor(self.book, self._greet, tls=tls, refusal=b"full")
        self._writers: list[asyncio.StreamWriter] = []

    def _greet(self, slot: Slot) -> Greeter:
        self.greeters.append(Greeter(self.book, slot))
        return self.greeters[-1]

    async def __aenter__(self) -> "Guests":
        self.address = self.listening.getsockname()
        self._acceptor.start([self.listening])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._acceptor.stop()
        self._acceptor.stop()
        for writer in self._writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        while self.book.count:
            await asyncio.sleep(0)

    async def come(self, tls: ssl.SSLContext | None = None) -> asyncio.StreamReader:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*self.address, ssl=tls), 20)
        self._writers.append(writer)
        return reader


async def test_without_a_descriptor_accepting_rests_and_goes_on_by_itself() -> None:
    async with Guests(PlaneSettings(10, 10), kind=Poor) as guests:
        reader = await guests.come()
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"hello"
        assert guests.book.closed["files"] == Poor.failing
        assert guests.listening.tries <= Poor.failing + 2, "one try a rest, no spinning"


class Odd(Poor):
    """Its first accepts fail for another reason than a lack of descriptors."""

    code = errno.EPROTO


async def test_a_listener_that_fails_again_and_again_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Guests(PlaneSettings(10, 10), kind=Odd) as guests:
        reader = await guests.come()
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"hello"
    told = [record.getMessage() for record in caplog.records if "cannot accept" in record.getMessage()]
    assert told == [f"cannot accept on the peer plane: {os.strerror(errno.EPROTO)}"]


async def test_whoever_comes_above_the_bound_is_told_and_closed() -> None:
    async with Guests(PlaneSettings(1, 1, evicted_ms_idle=10**9)) as guests:
        first, second = await guests.come(), await guests.come()
        assert await asyncio.wait_for(first.readexactly(5), 20) == b"hello"
        assert await asyncio.wait_for(second.read(), 20) == b"full"
        assert (guests.book.count, guests.book.closed["address_full"]) == (1, 1)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    leaf = Authority(tmp_path).issue("m0", None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.cert, leaf.key)
    return context


async def test_half_handshakes_are_bounded_and_the_next_one_gets_in(tls: ssl.SSLContext) -> None:
    settings = PlaneSettings(100, 100, handshakes_max=4, handshake_ms_least=1, handshake_ms_max=60_000)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with Guests(settings, tls) as guests:
        for _ in range(12):
            await guests.come()
        reader = await guests.come(trusting)
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"hello"
        assert guests.book.count <= 5
        assert guests.book.closed["handshake"] >= 8


async def test_a_handshake_that_does_not_end_is_closed(tls: ssl.SSLContext) -> None:
    async with Guests(PlaneSettings(10, 10, handshake_ms_max=50), tls) as guests:
        reader = await guests.come()
        assert await asyncio.wait_for(reader.read(), 20) == b""
        assert (guests.book.count, guests.book.closed["handshake"]) == (0, 1)


async def test_the_kernel_takes_little_of_a_connection_before_it_is_read() -> None:
    """A turn of the loop has to decrypt and parse all that is there."""
    settings = PlaneSettings(8, 8, received_at_once_bytes=64 << 10)
    book = Connections("peer", settings, ByteBudget("peer", 1 << 20), time.monotonic)
    made: list[asyncio.BaseTransport] = []

    class Noting(Greeter):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)
            super().connection_made(transport)

    acceptor = Acceptor(book, lambda slot: Noting(book, slot))
    listener = socket.create_server(("127.0.0.1", 0))
    acceptor.start([listener])
    try:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await reader.readexactly(5) == b"hello"
        found = made[0].get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * (64 << 10)
        writer.close()
    finally:
        acceptor.stop()
