"""The import's own HTTP/1.1 client: GET and PUT of keys over one kept-open connection, one request at a time.

Ugly where it pays: heads are joined from constants and an answer is cut at its Content-Length, nothing else is
understood. aiohttp's client was turned down here alone: it takes several times the processor time of a request, and
an import is bound by exactly that.
"""

import asyncio
from typing import NamedTuple, Self, cast

from wavekv.cli.client import ANSWER_SECONDS_MAX, unreachable
from wavekv.cli.errors import MemberUnreachable
from wavekv.cli.target import Target, key_path

HEAD_BYTES_MAX = 16 << 10
"""Longest head of an answer; over it, what answers is no member."""

BODY_BYTES_MAX = 16 << 20
"""Longest body of an answer; a value has at most 1 MiB."""


class Answer(NamedTuple):
    """A status, a whole body, and when the value in it expires (ms since 1970), None: never."""

    status: int
    body: bytes
    expires_at: int | None = None


class _Head(NamedTuple):
    """What is kept of an answer's head: `start` and `end` are where its body lies in what was received."""

    status: int
    start: int
    end: int
    expires_at: int | None


class WireCut(Exception):
    """The connection ended before an answer: whether the request was carried out is not known."""


class Wire(asyncio.Protocol):
    """One connection. After WireCut it is dead; `closed` says so beforehand where the member announced it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._host = f" HTTP/1.1\r\nHost: {target.authority}\r\n".encode()
        self._received = bytearray()
        self._answer: asyncio.Future[Answer] | None = None
        self._head: _Head | None = None
        self.closed = False

    @classmethod
    async def connect(cls, target: Target) -> Self:
        """Open a connection.

        Raises:
            MemberUnreachable: nobody listens, or not in time.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                if target.socket is not None:
                    _, wire = await loop.create_unix_connection(lambda: cls(target), str(target.socket))
                else:
                    _, wire = await loop.create_connection(lambda: cls(target), target.host, target.port)
        except OSError as error:
            raise unreachable(target, error) from error
        return wire

    async def get(self, key: str) -> Answer:
        """Ask for the value of `key`. Raises as `put`."""
        return await self._request(b"GET " + key_path(key).encode() + self._host + b"\r\n")

    async def put(self, key: str, value: bytes, ttl: str | None = None) -> Answer:
        """Store `value`; `ttl` is the parameter, in characters that a query may hold as they are.

        Raises:
            WireCut: the connection ended first.
            MemberUnreachable: no answer in time, or one that cannot be understood.
        """
        path = key_path(key) if ttl is None else f"{key_path(key)}?ttl={ttl}"
        length = b"Content-Length: %d\r\n\r\n" % len(value)
        return await self._request(b"PUT " + path.encode() + self._host + length + value)

    async def _request(self, message: bytes) -> Answer:
        if self.closed:
            raise WireCut
        assert self._answer is None, "one request at a time"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await self._answer
        except TimeoutError as error:
            raise unreachable(self._target, error) from error
        finally:
            if self._answer.cancelled():
                # An answer that comes after all must not be taken for the next request's.
                self.close()
            self._answer = None

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio calls this)."""
        # uvloop's transports have the methods, not the base class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way (asyncio calls this)."""
        self.closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(WireCut())

    def data_received(self, data: bytes) -> None:
        """Collect the answer (asyncio calls this)."""
        self._received += data
        if self._head is None:
            self._head = self._parse_head()
            if self._head is None:
                return
        status, start, end, expires_at = self._head
        if len(self._received) < end:
            return
        body = bytes(self._received[start:end])
        del self._received[:end]
        self._head = None
        if status >= 200 and self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(status, body, expires_at))

    def _parse_head(self) -> _Head | None:
        """Return the head; None until it is there."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > HEAD_BYTES_MAX:
                self._stranger()
            return None
        first, *lines = bytes(self._received[:end]).split(b"\r\n")
        parts = first.split(b" ", 2)
        length, expires_at = 0, None
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
            self._stranger()
            return None
        for line in lines:
            name, _, text = line.partition(b":")
            name, text = name.lower(), text.strip()
            if name == b"content-length" and text.isdigit() and int(text) <= BODY_BYTES_MAX:
                length = int(text)
            elif name in (b"content-length", b"transfer-encoding"):
                self._stranger()
                return None
            elif name == b"wavekv-expires-at" and text.isdigit():
                expires_at = int(text)
            elif name == b"connection" and text.lower() == b"close":
                self.closed = True
        return _Head(int(parts[1]), end + 4, end + 4 + length, expires_at)

    def _stranger(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(MemberUnreachable(f"what answers at {self._target} is not a WaveKV member"))
        self._received.clear()
        self.close()
