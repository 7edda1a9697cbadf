"""A shorter way for the commonest requests: one whole `GET` or `PUT` of a key in one read, answered from the buffer.

Everything else, and every doubt, goes to aiohttp untouched, and both ways give the same answers: the tests of the HTTP
plane run over both. This file and `web_connections` touch aiohttp's private names; a test fails when they change.
What it gains is measured by `bench/http_path.py` (a durable PUT for two thirds of the processor time).

A request may go this way only while the connection is quiet: aiohttp's parser holds no bytes, nothing is queued, and no
handler runs. Otherwise a fast GET would overtake a slow request and the client would read another key's value. While a
PUT waits for the disk, what arrives is held back, and a stop waits for it.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from wavekv.config import Limits
from wavekv.core.session import dots_of, token_of
from wavekv.core.types import Entry
from wavekv.errors import InvalidKey, KeyNotFound, WaveKVError
from wavekv.http_api.expiry import expiry_headers
from wavekv.http_api.target import key_from
from wavekv.ports import Clock, KeyValues, Observer
from wavekv.web_connections import BoundedHandler, refused_bytes, response_bytes
from wavekv.web_guard import is_allowed

log = logging.getLogger(__name__)

_COPIES: Final = 2
"""Of an answer that is not read: what was written, and what of it could not be sent yet."""
_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")
_KEY_TARGET: Final = re.compile(rb"/v1/(ephemeral/)?kv/([A-Za-z0-9\-._~!$&'()*+,;=:@/%]+)")
_HEADER: Final = re.compile(rb"([A-Za-z0-9-]+): ?([ -~]*)")
_PLAIN: Final = frozenset({b"user-agent", b"accept", b"accept-encoding", b"content-type", b"connection"})
"""Headers that change nothing about a GET or PUT of a key; any other makes the request a slow one."""

SESSION: Final = "Wavekv-Session"
"""The header of a session: a token in the answer to a write, tokens to wait for in a request (R13)."""

_MEMO_MAX: Final = 1024
_MEMO_BYTES_MAX: Final = 1024
_HELD_BYTES_MAX: Final = 1 << 16
"""Bytes held back behind a PUT before the kernel is asked to hold the rest."""


class Framing(NamedTuple):
    """What a block of headers says: the length of the body, whether all are plain, whether Host is this machine."""

    length: int
    plain: bool
    local: bool


class FastPath:
    """What the connections of one server share: the member, its bounds, and a memory of header blocks.

    Clients repeat their headers to the letter, so most blocks are looked up and not parsed.
    """

    _allow_hosts: Collection[str] = ()

    def __init__(
        self,
        store: KeyValues,
        ephemeral: KeyValues | None,
        limits: Limits,
        observer: Observer,
        clock: Clock,
        *,
        allow_hosts: Collection[str] = (),
    ) -> None:
        self.store = store
        self.ephemeral = ephemeral
        self.limits = limits
        self.observer = observer
        self.clock = clock
        self._allow_hosts = allow_hosts
        self._memo: dict[bytes, Framing | None] = {}

    def framing(self, block: bytes) -> Framing | None:
        """Return what `block` (header lines, each with its line end) says; None where only a parser can tell."""
        try:
            return self._memo[block]
        except KeyError:
            found = _parse(block, self._allow_hosts)
        if len(self._memo) >= _MEMO_MAX:
            self._memo.clear()
        if len(block) <= _MEMO_BYTES_MAX:
            self._memo[block] = found
        return found


def _parse(block: bytes, allow_hosts: Collection[str]) -> Framing | None:
    length: int | None = None
    plain = True
    host: str | None = None
    for line in block.split(b"\r\n")[:-1]:
        matched = _HEADER.fullmatch(line)
        if matched is None:
            return None
        name, value = matched[1].lower(), matched[2].strip()
        if name in {b"transfer-encoding", b"upgrade", b"expect"}:
            return None
        if name == b"connection" and value.lower() != b"keep-alive":
            return None
        if name == b"content-length":
            if length is not None or not value.isdigit() or len(value) > 9:
                return None
            length = int(value)
        elif name == b"host":
            if host is not None:
                return None
            host = value.decode()
        elif name not in _PLAIN:
            plain = False
    # HTTP/1.1 without a Host is for the parser to refuse.
    return Framing(length or 0, plain and host is not None, is_allowed(host or "", allow_hosts))


class FastConnection(BoundedHandler):
    """A connection that answers fast what it can and gives the rest to aiohttp."""

    def __init__(self, fast: FastPath | None, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._fast_path = fast
        self._clean = fast is not None  # aiohttp's parser stands at the beginning of a request
        self._writing: asyncio.Task[None] | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._closing_after = False
        self.guarded = True
        """Whether a web page could have opened this connection (`guard`)."""
        self.waiting: asyncio.Future[Any] | None = None
        """What a request waits for beyond this member's disk; it ends with the connection."""

    # ---- what the loop and aiohttp call ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        found = transport.get_extra_info("socket")
        self.guarded = found is None or found.family != socket.AF_UNIX
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes: answer them here, hold them behind a write or an answer not taken, or hand them on."""
        if data and (self._writing is not None or (self._paused and self._clean and self._quiet())):
            self._hold_back(data)
        elif self._clean and data and self._take(data):
            if self._quiet_before:
                self._quiet_before = False
                self._connections.settle(self.slot, "first_byte")
        else:
            super().data_received(data)

    def resume_writing(self) -> None:
        """The client reads again: go on with what was held back."""
        super().resume_writing()
        if self._held and self._writing is None:
            self._loop.call_soon(self._go_on)

    def idle_since(self) -> float | None:
        """Return since when it waits for a request; None while a write is under way."""
        return None if self._writing is not None or self._held else super().idle_since()

    def _hold_back(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _HELD_BYTES_MAX and self.transport is not None:
            self.transport.pause_reading()
        if not self.may_hold(self._held_bytes):
            self._connections.closed["memory_budget"] += 1
            self._link.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what a request waits for."""
        self.end_wait()
        super().connection_lost(exc)

    def end_wait(self) -> None:
        """Wait for other members no longer."""
        if self.waiting is not None:
            self.waiting.cancel()

    def close(self) -> None:
        """Close once the write under way is answered."""
        if self._writing is not None:
            self._closing_after = True
        else:
            super().close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's signature
        """Answer the write under way, then do as aiohttp does."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=timeout)
        await super().shutdown(timeout)

    @property
    def _fast(self) -> FastPath:
        assert self._fast_path is not None, "a connection without one is never clean"
        return self._fast_path

    def _quiet(self) -> bool:
        waiter = self._waiter
        return (
            waiter is not None
            and not waiter.done()
            and not self._messages
            and not (self._close or self._force_close or self._upgraded)
            and self._payload_parser is None
            and self.transport is not None
            and not self.transport.is_closing()
        )

    # ---- one request -----------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> bool:
        """Answer `data` if it is exactly one request of the fast kind; tell whether it was.

        Also keeps `_clean`: anything but exactly one whole request leaves the parser in the middle, where only it knows
        the next request's beginning; such a connection stays slow.
        """
        line = _REQUEST_LINE.match(data)
        end = data.find(b"\r\n\r\n")
        framing = self._fast.framing(data[line.end() : end + 2]) if line is not None and end >= 0 else None
        body = end + 4
        if line is None or framing is None or len(data) != body + framing.length:
            self._clean = False
            return False
        method = line[1]
        target = _KEY_TARGET.fullmatch(line[2])
        if target is None or not framing.plain or method not in {b"GET", b"PUT"} or not self._quiet():
            return False
        store = self._fast.ephemeral if target[1] else self._fast.store
        if store is None or (self.guarded and not framing.local):
            return False
        if framing.length if method == b"GET" else framing.length > self._fast.limits.value_bytes_max:
            return False
        return self._begin(store, method, target[2], data, body)

    def _begin(self, store: KeyValues, method: bytes, escaped: bytes, data: bytes, body: int) -> bool:
        """Begin the operation on a key whose value, if it has one, is `data` from `body` on; tell whether it was."""
        try:
            key = key_from(escaped.decode(), self._fast.limits.key_bytes_max)
        except InvalidKey:  # told by the slow way
            return False
        if method == b"GET":
            return self._get(store, key)
        self._writing = self._loop.create_task(self._put(store, key, data[body:]))
        return True

    def _get(self, store: KeyValues, key: str) -> bool:
        """Answer a read; tell whether there was room to."""
        started = self._fast.clock.monotonic()
        try:
            entry = store.get(key)
            if entry is None or entry.value is None:
                raise KeyNotFound(f"there is no key {key!r}")
            if not self._connections.fits(_COPIES * len(entry.value)):
                return False  # it waits for room there
            content = f"Content-Type: application/octet-stream\r\n{_etag(entry)}"
            if entry.expires_at is not None:
                told = expiry_headers(entry, self._fast.clock.now_ms())
                content += "".join([f"{name}: {value}\r\n" for name, value in told.items()])
            result, response = "ok", response_bytes(200, content, entry.value)
        except Exception as error:  # noqa: BLE001 - stands where aiohttp catches what handlers raise
            result, response = _refusal_of(error)
        self._answer("get", result, started, response)
        return True

    async def _put(self, store: KeyValues, key: str, value: bytes) -> None:
        started = self._fast.clock.monotonic()
        try:
            written = await store.put(key, value)
            headers = f"{_etag(written.entry)}{SESSION}: {token_of(dots_of((written.entry,)))}\r\n"
            result, response = "ok", response_bytes(201 if written.created else 200, headers, b"")
        except Exception as error:  # noqa: BLE001 - stands where aiohttp catches what handlers raise
            result, response = _refusal_of(error)
        self._writing = None
        self._answer("put", result, started, response)
        self._go_on()

    def _answer(self, kind: str, result: str, started: float, response: bytes) -> None:
        """Write the response and account for it as aiohttp would."""
        self._fast.observer.operation("http", kind, result, self._fast.clock.monotonic() - started)
        if self._manager is not None:
            self._manager.requests_count += 1
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(response)
        if self._paused:
            self.note_unread(_COPIES * len(response))
        if result == WaveKVError.code:
            self.transport.close()
            return
        closes_at = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = closes_at
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closes_at, self._process_keepalive)

    def _go_on(self) -> None:
        """Take what was held back behind the write that just ended, or behind an answer that was taken now."""
        if self._closing_after:
            super().close()
        elif self._writing is None and not self._paused and self.transport is not None and self._held:
            held, self._held, self._held_bytes = b"".join(self._held), [], 0
            self.may_hold(0)
            if self.transport.is_closing():
                return
            if len(held) > _HELD_BYTES_MAX:
                self.transport.resume_reading()
            self.data_received(held)


def _etag(entry: Entry) -> str:
    return f'ETag: "{entry.etag}"\r\n'


def _refusal_of(error: Exception) -> tuple[str, bytes]:
    """Return code and response for an error; an unforeseen one is logged and ends the connection."""
    if not isinstance(error, WaveKVError):
        log.error("a request failed unexpectedly", exc_info=error)
        error = WaveKVError("an internal error; the member's log has its traceback")
    return error.code, refused_bytes(error)
