"""Answers of other members as aiohttp's client reads them, with a bound on what may come before one.

A server may send any number of interim answers (1xx) before its own, and aiohttp's client passes over all of them in
one go: a peer that sent 17 bytes a hundred thousand times held the loop for seconds. Members send none.

What the kernel takes of an answer before it is read is bounded as well.

This file touches private names of aiohttp's client; `tests/unit/wavekv/test_peer_answers.py` fails when they change.
"""

import asyncio
import socket
from functools import partial
from typing import Any, Final, Self, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from wavekv.peers.identity import Certificate
from wavekv.plane_settings import RECEIVED_AT_ONCE_BYTES

INTERIM_MAX: Final = 16
"""Interim answers that may come before an answer; a proxy in between may send one or two."""
_HEAD_PIECE_BYTES: Final = 4 << 10
"""Bytes that are parsed before the interim answers among them are counted: 2 ms at worst."""
_BODY_PIECE_BYTES: Final = 16 << 10
"""The same while a body comes, which is cheap to take; what stands behind its end may be interim answers."""


class Answer(aiohttp.ClientResponse):
    """An answer with the certificate its server showed: the connection may be given back before it is read."""

    certificate: Certificate | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> Self:
        """Read status and headers."""
        transport = connection.transport
        self.certificate = transport.get_extra_info("peercert") if transport is not None else None
        return cast("Self", await super().start(connection))


class BoundedAnswers(ResponseHandler):
    """One connection to a peer."""

    _interim = 0
    _too_many = False

    def data_received(self, data: bytes) -> None:
        """Take bytes, and give the connection up where too many interim answers are among them."""
        place = 0
        while True:
            in_body = self._payload is not None and not self._payload.is_eof()
            size = _BODY_PIECE_BYTES if in_body else _HEAD_PIECE_BYTES
            super().data_received(data[place : place + size] if place or len(data) > size else data)
            place += size
            if self._too_many:
                self._give_up()
                return
            if place >= len(data):
                return

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Count interim answers."""
        message, _ = data
        self._interim = self._interim + 1 if 100 <= message.code < 200 else 0
        self._too_many = self._too_many or self._interim > INTERIM_MAX
        super().feed_data(data, size)

    def _give_up(self) -> None:
        self._buffer.clear()
        self.set_exception(HttpProcessingError(code=502, message=f"it sent more than {INTERIM_MAX} interim answers"))
        if self.transport is not None:
            self.transport.abort()


def bounded_connector(**settings: Any) -> aiohttp.TCPConnector:
    """Return a connector whose connections are `BoundedAnswers`; `settings` are aiohttp's."""
    connector = aiohttp.TCPConnector(socket_factory=_opened, **settings)
    connector._factory = cast("Any", partial(BoundedAnswers, loop=asyncio.get_running_loop()))
    return connector


def _opened(address: Any) -> socket.socket:
    """Return a socket that takes little before it is read: a turn of the loop decrypts and parses all of it."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_AT_ONCE_BYTES)
    return opened
