"""The admin routes over a member that is not there: which call each request makes, and how bodies are bounded."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from wavekv.admin import DOCUMENT_BYTES_MAX, AdminApi, parse_pushed
from wavekv.core.membership import MEMBERS_MAX, Epoch
from wavekv.errors import BadMembership, OwnCertificate, WaveKVError
from wavekv.runtime.compactor import Compactor
from wavekv.runtime.drain import DrainStatus
from wavekv.runtime.epoch_file import EpochDocument
from wavekv.runtime.export import Exporter

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
DOCUMENT = {"cluster_id": CLUSTER, "epoch": 3, "members": ["a", "b"], "admitted": {"a": 1, "b": 3}}


class Governed:
    """A member that remembers what it was told."""

    def __init__(self) -> None:
        self.taken: list[EpochDocument] = []
        self.draining = False
        self.overrides = 0
        self.signed: dict[str, Any] | None = None

    def status(self) -> Mapping[str, Any]:
        return {"name": "a", "phase": "serving"}

    async def take_membership(self, document: EpochDocument, *, override: bool = False) -> int:
        self.overrides += override
        self.taken.append(document)
        return document.epoch.number

    def signed_membership(self) -> bytes | None:
        return None if self.signed is None else json.dumps(self.signed).encode()

    async def drain(self) -> DrainStatus:
        self.draining = True
        return self.drain_status()

    async def cancel_drain(self) -> DrainStatus:
        self.draining = False
        return self.drain_status()

    def drain_status(self) -> DrainStatus:
        return DrainStatus(self.draining, False, 2, {"b": 7}, ["c"], False)

    @property
    def compactor(self) -> Compactor:
        raise AssertionError("its routes are tested on a real member")

    @property
    def exporter(self) -> Exporter:
        raise AssertionError("its routes are tested on a real member")


class Enrolment:
    """What keeps a certificate; remembers what it was given."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def told(self) -> Mapping[str, Any]:
        return {"name": "a", "token": "t"}

    def take(self, certificate: str) -> Mapping[str, Any]:
        self.taken.append(certificate)
        return {"not_after": None}


class Plane:
    """The routes on a free port, refusals as `status code`."""

    def __init__(self, member: Governed, enrolment: Enrolment, session: aiohttp.ClientSession, port: int) -> None:
        self.member = member
        self.enrolment = enrolment
        self.port = port
        self._session = session

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.port}/v1/admin/{path}"
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        async with self._session.request(method, url, data=data) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    member = Governed()
    enrolment = Enrolment()
    api = AdminApi(member, enrolment)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await api.handle(request)
        except WaveKVError as error:
            return web.json_response(error.code, status=error.status)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    async with aiohttp.ClientSession() as session:
        yield Plane(member, enrolment, session, listening.getsockname()[1])
    await runner.cleanup()


async def test_each_request_is_one_call_and_answers_what_holds_now(plane: Plane) -> None:
    status = {
        "draining": False,
        "healing": False,
        "waiting_writes": 2,
        "covered_by": {"b": 7},
        "waiting_for": ["c"],
        "complete": False,
    }
    assert await plane.ask("GET", "status") == (200, {"name": "a", "phase": "serving"})
    assert await plane.ask("GET", "drain") == (200, status)
    assert await plane.ask("PUT", "drain") == (200, status | {"draining": True})
    assert await plane.ask("DELETE", "drain") == (200, status)
    assert await plane.ask("PUT", "membership", json.dumps(DOCUMENT)) == (200, {"epoch": 3})
    assert plane.member.taken[0].epoch == Epoch(3, ("a", "b"), admitted={"a": 1, "b": 3})


@pytest.mark.parametrize(
    ("method", "path", "refusal"),
    [
        ("DELETE", "membership", (405, "method_not_allowed")),
        ("PUT", "status", (405, "method_not_allowed")),
        ("GET", "drain/", (404, "unknown_route")),
        ("GET", "status/v1/admin/status", (404, "unknown_route")),
    ],
)
async def test_another_method_or_path_is_refused(
    plane: Plane, method: str, path: str, refusal: tuple[int, str]
) -> None:
    assert await plane.ask(method, path) == refusal


async def pieces(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 1 << 16):
        yield b" " * min(1 << 16, size - start)


async def test_a_document_is_bounded_whether_it_declares_its_length_or_not(plane: Plane) -> None:
    fits = json.dumps(DOCUMENT).encode().ljust(DOCUMENT_BYTES_MAX)
    assert await plane.ask("PUT", "membership", fits) == (200, {"epoch": 3})
    assert await plane.ask("PUT", "membership", fits + b" ") == (413, "document_too_large")
    assert await plane.ask("PUT", "membership", pieces(DOCUMENT_BYTES_MAX + 1)) == (413, "document_too_large")


@pytest.mark.parametrize(
    "begun",
    [
        b"Content-Length: 1099511627776\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (DOCUMENT_BYTES_MAX + 2) + b" " * (DOCUMENT_BYTES_MAX + 1),
    ],
    ids=["declared", "coming"],
)
async def test_a_document_over_the_bound_is_refused_before_it_has_ended(plane: Plane, begun: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    writer.write(b"PUT /v1/admin/membership HTTP/1.1\r\nHost: a\r\n" + begun)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_document_that_was_cut_short_is_not_taken(plane: Plane) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    body = json.dumps(DOCUMENT).encode()
    writer.write(b"PUT /v1/admin/membership HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1) + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await plane.ask("GET", "drain")
    assert plane.member.taken == []


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"[" * 100_000, b"null", b"[]", json.dumps(DOCUMENT | {"cluster_id": None}).encode()],
)
def test_a_body_that_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(BadMembership):
        parse_pushed(body)


def test_the_largest_membership_fits_the_bound() -> None:
    names = [f"{'n' * 240}-{index:04}" for index in range(MEMBERS_MAX)]
    largest = DOCUMENT | {"members": names, "admitted": dict.fromkeys(names, 3), "peer_url": "https://{name}:7072"}
    body = json.dumps(largest).encode()
    assert len(body) <= DOCUMENT_BYTES_MAX
    assert parse_pushed(body).epoch.members == tuple(names)


@pytest.mark.parametrize(
    ("query", "answer", "overrides"),
    [
        ("", (200, {"epoch": 3}), 0),
        ("?override=false", (200, {"epoch": 3}), 0),
        ("?override=true", (200, {"epoch": 3}), 1),
        ("?override=1", (400, "invalid_parameter"), 0),
        ("?override", (400, "invalid_parameter"), 0),
        ("?override=true&override=false", (400, "invalid_parameter"), 0),
    ],
)
async def test_an_override_is_asked_for_in_so_many_words(
    plane: Plane, query: str, answer: tuple[int, Any], overrides: int
) -> None:
    assert await plane.ask("PUT", f"membership{query}", json.dumps(DOCUMENT)) == answer
    assert plane.member.overrides == overrides


async def test_the_signed_document_in_force_is_told_whole_and_null_where_it_has_no_signature(plane: Plane) -> None:
    assert await plane.ask("GET", "membership") == (200, {"document": None})
    plane.member.signed = DOCUMENT | {"signature": "c2lnbmVk", "note": 1}
    assert await plane.ask("GET", "membership") == (200, {"document": plane.member.signed})


async def test_a_certificate_goes_through_and_what_is_none_is_refused(plane: Plane) -> None:
    assert await plane.ask("GET", "certificate") == (200, {"name": "a", "token": "t"})
    assert await plane.ask("PUT", "certificate", json.dumps({"certificate": "PEM"})) == (200, {"not_after": None})
    assert plane.enrolment.taken == ["PEM"]
    for body in (b"", b"\xff", b"[" * 100_000, b"null", b"{}", b'{"certificate": 1}', b'{"certificate": null}'):
        assert await plane.ask("PUT", "certificate", body) == (400, "bad_certificate")
    assert plane.enrolment.taken == ["PEM"]
    assert await plane.ask("DELETE", "certificate") == (405, "method_not_allowed")


async def test_who_has_a_certificate_by_its_flags_is_given_none() -> None:
    api = AdminApi(Governed())
    for request in (api._get_certificate, api._put_certificate):
        with pytest.raises(OwnCertificate, match="--tls-cert"):
            await request(cast("web.BaseRequest", None))
