"""Answers other members: `POST /wavekv/sync2/{store}` and `POST /wavekv/push/{store}`.

With TLS every message has to be in the name that its sender's certificate has (`identity`), so that no member speaks
for another. Without, on loopback, nobody knows who sends: what a web page could send is refused, and no more.

404 and 405 make a crate peer fall back to the 1.x protocol for five minutes, so only a store or route that does not
exist is answered with them. The admin routes of this plane are the operator's alone: what shows another certificate, or
none, never reaches their handler.
"""

import asyncio
import gzip
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import aiohttp
from aiohttp import web

from wavekv.config import Limits
from wavekv.core.codec.envelope import pack
from wavekv.core.messages import Envelope
from wavekv.errors import (
    BadEnvelope,
    EnvelopeTooLarge,
    MethodNotAllowed,
    NotAMember,
    TooManyWaiting,
    UnknownRoute,
    UnknownStore,
    WaveKVError,
    WrongRole,
)
from wavekv.peers.identity import Names, Shown
from wavekv.peers.proofs import SignedEpochs
from wavekv.peers.transport import CONTENT_TYPE
from wavekv.peers.wrapping import Wrapping, held_bytes
from wavekv.plane_settings import PEER_PLANE
from wavekv.runtime.budget import ByteBudget, Holding
from wavekv.runtime.connections import Connections
from wavekv.runtime.spaced_log import SpacedLog
from wavekv.web_connections import BoundedServer, refusal, refuse_cut_body
from wavekv.web_guard import refuse_foreign, refuse_form

log = logging.getLogger(__name__)

REQUESTS_MAX = 64
"""Messages merged at once (G9); the next is answered 429 and its sender comes back."""

SENDER_REQUESTS_MAX = 16
"""Of those of one sender, so that nobody takes all: a member has 4 connections for each store. The next gets 429."""
LARGE_MESSAGES_MAX = 4
"""Large messages decoded and merged at a time; each is held inflated and built, 32 MiB. Others wait, not inflated."""

_STOP_SECONDS = 60.0
"""Longest wait for messages in progress when the server stops."""

_EMPTY = gzip.compress(b"")


class Receiver(Protocol):
    """What the peer plane needs from one store of a member."""

    async def receive_request(self, request: Envelope) -> Envelope:
        """Merge and answer one request of an exchange."""
        ...

    async def receive_push(self, message: Envelope) -> Envelope | None:
        """Merge pushed entries and return a report, None for a crate node."""
        ...

    def proof(self) -> Envelope:
        """Return what a refused sender is shown."""
        ...


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class PeerService:
    """The HTTP server of the peer plane."""

    def __init__(
        self,
        stores: Mapping[str, Receiver],
        *,
        names: Names,
        tls: ssl.SSLContext | None,
        limits: Limits,
        admin: Handler,
        epochs: SignedEpochs | None = None,
        connections: Connections | None = None,
    ) -> None:
        """Serve `stores`; who speaks is checked by `names` where there is `tls`; without it, web pages are kept out.

        `epochs` reads signed epochs in messages; None: nobody does. `connections` is the book of the plane, by default
        one of its own.
        """
        self._stores = stores
        self._admin_handler = admin
        self._names = names
        self._epochs = epochs
        self._tls = tls
        self._limits = limits
        self._merging = 0
        self._senders: Counter[Shown] = Counter()
        self._large = asyncio.Semaphore(LARGE_MESSAGES_MAX)
        self._wrapping = Wrapping(limits)
        if connections is None:
            connections = Connections(
                "peer", PEER_PLANE, ByteBudget("peer", limits.peer_held_bytes_max), time.monotonic
            )
        self._budget = connections.budget
        self._refusals = SpacedLog(log, time.monotonic)
        self._server = BoundedServer(self._handle, connections)

    async def start(self, listening: Sequence[socket.socket]) -> None:
        """Serve on bound, listening sockets."""
        self._server.start(listening, self._tls)

    async def stop(self) -> None:
        """Close the listener and end open requests."""
        await self._server.stop(_STOP_SECONDS)
        self._wrapping.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._dispatch(request)
        except WaveKVError as error:
            return self._refuse(error)

    def _refuse(self, error: WaveKVError) -> web.Response:
        told = (error.detail, error.code)
        self._refusals.tell(logging.INFO, error.code, "refused a request on the peer plane: %s [%s]", *told)
        if isinstance(error, NotAMember):  # the epoch as proof (R9), the reason in a header
            return _packed(pack(self._stores["persistent"].proof()), error.status, {"Wavekv-Code": error.code})
        return refusal(error)

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        parts = request.path.split("/")
        if request.path.startswith("/v1/admin/"):
            return await self._admin(request)
        if len(parts) != 4 or parts[1] != "wavekv" or parts[2] not in {"sync2", "push"}:
            raise UnknownRoute(f"{request.path} is no route of the peer plane")
        store = self._stores.get(parts[3])
        if store is None:
            raise UnknownStore(f"there is no store {parts[3]!r}; stores are {' and '.join(self._stores)}")
        if request.method != "POST":
            raise MethodNotAllowed(f"{request.path} takes POST only")
        shown = self._sender(request)
        receive = store.receive_request if parts[2] == "sync2" else store.receive_push
        return await self._merge(request, shown, receive)

    def _sender(self, request: web.BaseRequest) -> Shown | None:
        """Return which member sent the request; None without TLS, where nobody knows and no web page may."""
        if self._tls is not None:
            return self._names.shown(request.get_extra_info("peercert"), "member")
        refuse_foreign(request.headers, request.raw_path)
        refuse_form(request.headers, CONTENT_TYPE)
        return None

    async def _admin(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._tls is None:
            raise WrongRole("admin routes need mutual TLS; this member runs with --insecure-peers")
        self._names.shown(request.get_extra_info("peercert"), "operator")
        return await self._admin_handler(request)

    async def _merge(
        self, request: web.BaseRequest, shown: Shown | None, receive: Callable[[Envelope], Awaitable[Envelope | None]]
    ) -> web.Response:
        if self._merging >= REQUESTS_MAX:
            raise TooManyWaiting(f"{self._merging} messages are being merged; try again")
        if shown is not None and self._senders[shown] >= SENDER_REQUESTS_MAX:
            raise TooManyWaiting(f"{SENDER_REQUESTS_MAX} messages of {shown} are being merged; try again")
        self._merging += 1
        if shown is not None:
            self._senders[shown] += 1
        try:
            body = await self._body(request)
            message = self._wrapping.unwrapped_small(body)
            if message is not None:
                return await self._received(message, shown, receive)
            async with self._large:
                return await self._received(await self._wrapping.unwrapped(body), shown, receive)
        finally:
            self._merging -= 1
            if shown is not None:
                self._senders[shown] -= 1
                self._senders += Counter()  # forgets those that have none left

    async def _received(
        self, message: Envelope, shown: Shown | None, receive: Callable[[Envelope], Awaitable[Envelope | None]]
    ) -> web.Response:
        """Return the answer to a message that was read."""
        if shown is not None:
            message = self._names.check(shown, message)
        if self._epochs is not None:
            await self._epochs.look(message)
        with Holding(self._budget) as held:  # beside the body: it may have been packed a thousandfold
            held.resize(held_bytes(message))
            answer = await receive(message)
        return _packed(_EMPTY if answer is None else await self._wrapping.wrapped(answer))

    async def _body(self, request: web.BaseRequest) -> bytes:
        """Return the body, never holding more than its bound.

        Raises:
            EnvelopeTooLarge: more than `wire_bytes_max`.
            BadEnvelope: the body was cut short.
        """
        bytes_max = self._limits.wire_bytes_max
        if (request.content_length or 0) > bytes_max:
            raise EnvelopeTooLarge(f"the message has {request.content_length} bytes; at most {bytes_max} are taken")
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > bytes_max:
                    raise EnvelopeTooLarge(f"the message has more than {bytes_max} bytes")
                chunks.append(chunk)
        except (aiohttp.ClientError, web.RequestPayloadError, ConnectionError) as error:
            raise BadEnvelope(f"the message was cut short after {size} bytes") from error
        refuse_cut_body(request)
        return b"".join(chunks)


def _packed(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE, headers=headers)
