"""Answers other members: `POST /wavekv/sync2/{store}` and `POST /wavekv/push/{store}`.

404 and 405 make a crate peer fall back to the 1.x protocol for five minutes, so only a store or route that does not
exist is answered with them. The admin routes of this plane are the operator's alone: what shows another certificate, or
none, never reaches their handler.
"""

import gzip
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import aiohttp
from aiohttp import web

from wavekv.config import PEER_PLANE, Limits
from wavekv.core.codec.envelope import pack, unpack
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
from wavekv.peers.tls import Role, check_role
from wavekv.peers.transport import CONTENT_TYPE
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections
from wavekv.runtime.spaced_log import SpacedLog
from wavekv.web_connections import BoundedServer, refusal, refuse_cut_body

log = logging.getLogger(__name__)

REQUESTS_MAX = 64
"""Messages merged at once (G9); the next is answered 503 and its sender comes back."""

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
        cluster_id: str | None,
        tls: ssl.SSLContext | None,
        limits: Limits,
        admin: Handler,
        *,
        connections: Connections | None = None,
    ) -> None:
        """Answer for `stores`; `connections` is the book of the plane, by default one of its own."""
        self._stores = stores
        self._admin_handler = admin
        self._cluster_id = cluster_id
        self._tls = tls
        self._limits = limits
        self._merging = 0
        if connections is None:
            connections = Connections(
                "peer", PEER_PLANE, ByteBudget("peer", limits.peer_held_bytes_max), time.monotonic
            )
        self._refusals = SpacedLog(log, time.monotonic)
        self._server = BoundedServer(self._handle, connections)

    async def start(self, listener: socket.socket) -> None:
        """Serve on a bound, listening socket."""
        self._server.start([listener], self._tls)

    async def stop(self) -> None:
        """Close the listener and end open requests."""
        await self._server.stop(_STOP_SECONDS)

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
        self._check_sender(request, "member")
        return await self._merge(request, _sync(store) if parts[2] == "sync2" else _push(store))

    async def _admin(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._tls is None:
            raise WrongRole("admin routes need mutual TLS; this member runs with --insecure-peers")
        self._check_sender(request, "operator")
        return await self._admin_handler(request)

    def _check_sender(self, request: web.BaseRequest, role: Role) -> None:
        if self._tls is not None:
            check_role(request.get_extra_info("peercert"), self._cluster_id, (role,))

    async def _merge(self, request: web.BaseRequest, receive: Callable[[Envelope], Awaitable[bytes]]) -> web.Response:
        if self._merging >= REQUESTS_MAX:
            raise TooManyWaiting(f"{self._merging} messages are being merged; try again")
        self._merging += 1
        try:
            message = unpack(await self._body(request), self._limits.wire_bytes_max, self._limits.inflated_bytes_max)
            return _packed(await receive(message))
        finally:
            self._merging -= 1

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


def _sync(store: Receiver) -> Callable[[Envelope], Awaitable[bytes]]:
    async def receive(message: Envelope) -> bytes:
        return pack(await store.receive_request(message))

    return receive


def _push(store: Receiver) -> Callable[[Envelope], Awaitable[bytes]]:
    async def receive(message: Envelope) -> bytes:
        report = await store.receive_push(message)
        return _EMPTY if report is None else pack(report)

    return receive


def _packed(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE, headers=headers)
