"""What comes before the answer of a peer is bounded: interim answers without end cost a few, then the connection."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from wavekv.peers.answers import INTERIM_MAX, Answer, BoundedAnswers, bounded_connector
from wavekv.plane_settings import RECEIVED_AT_ONCE_BYTES

INTERIM = b"HTTP/1.1 103 \r\n\r\n"
FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


class Counting(BoundedAnswers):
    """Counts what was parsed."""

    parsed = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        Counting.parsed += 1
        super().feed_data(data, size)


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[Callable[[], Any]]:
    """Yield what asks a server that answers each connection with `data`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connector = bounded_connector(limit=1)
    connector._factory = lambda: Counting(asyncio.get_running_loop())  # type: ignore[assignment]
    session = aiohttp.ClientSession(connector=connector, response_class=Answer)
    Counting.parsed = 0

    async def ask() -> bytes:
        async with asyncio.timeout(10), session.get(f"http://127.0.0.1:{port}/") as response:
            return await response.read()

    try:
        yield ask
    finally:
        await session.close()
        server.close()


@pytest.mark.parametrize("before", [0, 1, INTERIM_MAX])
async def test_an_answer_behind_a_few_interim_ones_is_read(before: int) -> None:
    async with answering(INTERIM * before + FINAL) as ask:
        assert await ask() == b"body"


@pytest.mark.parametrize("behind", [b"", FINAL])
async def test_interim_answers_without_end_end_the_connection_after_a_few(behind: bytes) -> None:
    async with answering(INTERIM * 200_000 + behind) as ask:
        with pytest.raises(aiohttp.ClientError, match="more than 16 interim answers"):
            await ask()
    assert INTERIM_MAX < Counting.parsed <= 4096 // len(INTERIM) + 1


async def test_one_more_than_the_bound_is_too_many() -> None:
    async with answering(INTERIM * (INTERIM_MAX + 1) + FINAL) as ask:
        with pytest.raises(aiohttp.ClientError, match="interim"):
            await ask()


async def test_a_long_answer_is_read_whole() -> None:
    body = bytes(range(256)) * 20_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answering(INTERIM + head + body) as ask:
        assert await ask() == body


async def test_the_names_of_aiohttp_that_are_used_exist() -> None:
    connector = bounded_connector(limit=1)
    made = connector._factory()
    assert isinstance(made, BoundedAnswers)
    assert made._payload is None
    assert not made._buffer
    await connector.close()


async def test_the_kernel_takes_little_of_an_answer_before_it_is_read() -> None:
    """A turn of the loop decrypts and parses all that is there: with megabytes of it, 50 ms."""
    async with answering(FINAL) as ask:
        sizes: list[int] = []
        made = Counting.connection_made

        def noting(self: Counting, transport: Any) -> None:
            found = transport.get_extra_info("socket")
            sizes.append(found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
            made(self, transport)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Counting, "connection_made", noting)
            assert await ask() == b"body"
    assert sizes == [2 * RECEIVED_AT_ONCE_BYTES], "Linux keeps as much again for its own books"
