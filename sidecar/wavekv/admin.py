"""The operator's requests to a member: `/v1/admin/` status, membership, certificate, drain, compaction, export.

Whoever calls has been checked before: the peer plane hands over requests of the operator's certificate only. Each PUT
and DELETE says what shall hold, not what to do, so a repeated one changes nothing and may be sent after any doubt.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from wavekv.errors import (
    BadCertificate,
    BadMembership,
    DocumentTooLarge,
    IncompleteBody,
    InvalidParameter,
    MethodNotAllowed,
    OwnCertificate,
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

    async def take_membership(self, document: EpochDocument, *, override: bool = False) -> int:
        """Take a document, `override`: whatever its number; return that once it is durable and in force."""
        ...

    def signed_membership(self) -> bytes | None:
        """Return the document in force with the authority's signature, None where it has none."""
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


class Enrolling(Protocol):
    """What the admin routes need of a member that makes its own key; both methods block."""

    def told(self) -> Mapping[str, Any]:
        """Return what is needed to sign the key, and how the certificate in use stands."""
        ...

    def take(self, certificate: str) -> Mapping[str, Any]:
        """Keep a certificate and use it; return how it stands."""
        ...


_Route = Callable[[web.BaseRequest], Awaitable[Mapping[str, Any]]]


class AdminApi:
    """Answers admin requests for one member."""

    def __init__(self, member: Governed, enrolment: Enrolling | None = None) -> None:
        """Answer for `member`; `enrolment` keeps its certificate, None: its flags do."""
        self._member = member
        self._enrolment = enrolment
        self._taking = asyncio.Lock()
        self._routes: dict[str, dict[str, _Route]] = {
            "status": {"GET": self._status},
            "membership": {"GET": self._get_membership, "PUT": self._put_membership},
            "certificate": {"GET": self._get_certificate, "PUT": self._put_certificate},
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

    async def _get_membership(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        signed = self._member.signed_membership()
        return {"document": None if signed is None else json.loads(signed)}

    async def _put_membership(self, request: web.BaseRequest) -> Mapping[str, Any]:
        override = _flag(request.query.getall("override", []))
        document = parse_pushed(await _body(request))
        return {"epoch": await self._member.take_membership(document, override=override)}

    def _enrolling(self) -> Enrolling:
        if self._enrolment is None:
            raise OwnCertificate("this member's certificate is the file of its --tls-cert; replace that")
        return self._enrolment

    async def _get_certificate(self, _request: web.BaseRequest) -> Mapping[str, Any]:
        return await asyncio.to_thread(self._enrolling().told)

    async def _put_certificate(self, request: web.BaseRequest) -> Mapping[str, Any]:
        enrolment, certificate = self._enrolling(), parse_certificate(await _body(request))
        async with self._taking:  # one file is checked at a time
            return await asyncio.to_thread(enrolment.take, certificate)

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


def parse_certificate(body: bytes) -> str:
    """Return the certificate in a request's body.

    Raises:
        BadCertificate: it is no JSON object with that one text in it.
    """
    try:
        certificate = json.loads(body)["certificate"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadCertificate('the body has to be JSON: {"certificate": PEM}') from error
    if not isinstance(certificate, str):
        raise BadCertificate("certificate has to be a text, in PEM")
    return certificate


def _flag(given: Sequence[str]) -> bool:
    """Return whether `override` was given.

    Raises:
        InvalidParameter: with a value that is neither true nor false.
    """
    if any(text not in {"true", "false"} for text in given) or len(given) > 1:
        raise InvalidParameter("override has to be true or false")
    return list(given) == ["true"]


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
