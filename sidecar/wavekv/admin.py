"""The operator's requests to a member: `/v1/admin/` status, membership, drain, compaction, export.

Whoever calls has been checked before: the peer plane hands over requests of the operator's certificate only. Each PUT
and DELETE says what shall hold, not what to do, so a repeated one changes nothing and may be sent after any doubt.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from wavekv.errors import (
    BadMembership,
    DocumentTooLarge,
    IncompleteBody,
    MethodNotAllowed,
    UnknownRoute,
    UsageError,
)
from wavekv.runtime.compactor import Compactor
from wavekv.runtime.drain import DrainStatus
from wavekv.runtime.epoch_file import EpochDocument, parse_document
from wavekv.runtime.export import Exporter

DOCUMENT_BYTES_MAX = 1 << 20
"""Longest membership document; a thousand members with the longest names fit."""

_PREFIX = "/v1/admin/"


class Governed(Protocol):
    """What the admin routes need from a member."""

    def status(self) -> Mapping[str, Any]:
        """Return the member's status as JSON-ready values."""
        ...

    async def take_membership(self, document: EpochDocument) -> int:
        """Take a document; return its number once it is durable and in force."""
        ...

    async def drain(self) -> DrainStatus:
        """Begin to drain; return how far it is once the mark is durable."""
        ...

    async def cancel_drain(self) -> DrainStatus:
        """End the drain; return once the mark is durably gone."""
        ...

    def drain_status(self) -> DrainStatus:
        """Return how far the drain is."""
        ...

    @property
    def compactor(self) -> Compactor:
        """What folds the log into snapshots."""
        ...

    @property
    def exporter(self) -> Exporter:
        """What writes exports below the data directory."""
        ...


_Route = Callable[[web.BaseRequest], Awaitable[Mapping[str, Any]]]


class AdminApi:
    """Answers admin requests for one member."""

    def __init__(self, member: Governed) -> None:
        self._member = member
        self._routes: dict[str, dict[str, _Route]] = {
            "status": {"GET": self._status},
            "membership": {"PUT": self._put_membership},
            "drain": {"GET": self._get_drain, "PUT": self._put_drain, "DELETE": self._delete_drain},
            "compaction": {"GET": self._get_compaction, "PUT": self._put_compaction},
            "export": {"GET": self._get_export, "PUT": self._put_export, "DELETE": self._delete_export},
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request as JSON.

        Raises:
            WaveKVError: it is refused; nothing was changed but what a durable answer could not be given for.
        """
        methods = self._routes.get(request.path.removeprefix(_PREFIX))
        if methods is None:
            raise UnknownRoute(f"{request.path} is no admin route; there are {', '.join(sorted(self._routes))}")
        route = methods.get(request.method)
        if route is None:
            raise MethodNotAllowed(f"{request.path} takes {', '.join(methods)}")
        return web.json_response(await route(request))

    async def _status(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return self._member.status()

    async def _put_membership(self, request: web.BaseRequest) -> Mapping[str, Any]:
        document = parse_pushed(await _body(request))
        return {"epoch": await self._member.take_membership(document)}

    async def _get_drain(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return self._member.drain_status()._asdict()

    async def _put_drain(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return (await self._member.drain())._asdict()

    async def _delete_drain(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return (await self._member.cancel_drain())._asdict()

    async def _get_compaction(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return self._member.compactor.told()

    async def _put_compaction(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        self._member.compactor.begin()
        return self._member.compactor.told()

    async def _get_export(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return self._member.exporter.status._asdict()

    async def _put_export(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return self._member.exporter.begin()._asdict()

    async def _delete_export(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return (await self._member.exporter.remove())._asdict()


def parse_pushed(body: bytes) -> EpochDocument:
    """Return the membership document in a request's body.

    Raises:
        BadMembership: it is no JSON, or a field is not what it has to be; the message names it.
    """
    try:
        document = parse_document(json.loads(body), "the document")
    except (ValueError, RecursionError) as error:
        raise BadMembership(f"the document is no JSON: {error}") from error
    except UsageError as error:
        raise BadMembership(error.detail) from error
    if document.cluster_id is None:
        raise BadMembership("the document: cluster_id has to name the cluster it is of")
    return document


async def _body(request: web.BaseRequest) -> bytes:
    """Return the body, never holding more than its bound.

    Raises:
        DocumentTooLarge: more than DOCUMENT_BYTES_MAX.
        IncompleteBody: it was cut short.
    """
    body = b""
    try:
        if (request.content_length or 0) <= DOCUMENT_BYTES_MAX:
            while len(body) <= DOCUMENT_BYTES_MAX and (chunk := await request.content.readany()):
                body += chunk
            if len(body) <= DOCUMENT_BYTES_MAX:
                return body
    except (aiohttp.ClientError, web.RequestPayloadError, ConnectionError) as error:
        raise IncompleteBody(f"the document was cut short after {len(body)} bytes") from error
    raise DocumentTooLarge(f"the document has more than {DOCUMENT_BYTES_MAX} bytes")
