"""The operator asking members over mutual TLS with certificates it issued itself: who is believed, who is not."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.member_process import free_ports
from wavekv.config import TlsFiles
from wavekv.peers import tls as member_tls
from wavekv_operator import names, sidecar_client, tls
from wavekv_operator.errors import MemberRefused, MemberUnreachable
from wavekv_operator.sidecar_client import Address, MemberClient

CLUSTER_ID = names.cluster_id("shop", "demo")
HOST = names.peer_host("demo-0", "demo", "shop")
STATUS: dict[str, Any] = {
    "name": "demo-0",
    "node_id": 7,
    "uuid": "0b1b7a9e-5a36-4f4c-9f0e-7d1c5f0b8f0a",
    "cluster_id": CLUSTER_ID,
    "phase": "serving",
    "ready": True,
    "healing": False,
    "draining": False,
    "converged": True,
    "process": {"inc": 5, "origin": None},
    "membership": {
        "epoch": 2,
        "included": True,
        "members": ["demo-0", "demo-1"],
        "admitted_epoch": 1,
        "healed_epoch": 1,
    },
}
DRAIN = {"draining": True, "complete": False, "healing": False, "covered_by": {"demo-1": 9}, "waiting_for": ["demo-2"]}


def issue(cluster: str = CLUSTER_ID, name: str = "demo") -> tls.Certificates:
    host = names.peer_host("*", name, "shop")
    lives = tls.Lives(timedelta(days=1), timedelta(days=9))
    return tls.certificates(cluster, (host,), tls.Certificates({}, {}, {}), datetime.now(UTC), lives)


class Told:
    def __init__(self) -> None:
        self.results: list[str] = []

    def member_request(self, result: str) -> None:
        self.results.append(result)


class FakePlane:
    """A member's admin plane, with the member's own TLS settings."""

    def __init__(self, folder: Path, certificates: tls.Certificates) -> None:
        for key, value in certificates.member.items():
            (folder / key).write_bytes(value)
        files = TlsFiles(folder / names.CERT_KEY, folder / names.PRIVATE_KEY_KEY, folder / names.CA_KEY)
        self.context = member_tls.server_context(files)
        self.answers: dict[str, tuple[int, Any]] = {"GET /v1/admin/status": (200, STATUS)}
        self.bodies: list[tuple[str, Any]] = []
        self.runner = web.ServerRunner(web.Server(self.handle))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        member_tls.check_role(request.get_extra_info("peercert"), CLUSTER_ID, ("operator",))
        route = f"{request.method} {request.path}"
        self.bodies.append((route, json.loads(await request.read() or b"null")))
        status, body = self.answers.get(route, (404, {"code": "unknown_route", "detail": "no such route"}))
        return web.json_response(body, status=status)


@pytest.fixture
def issued() -> tls.Certificates:
    return issue()


@pytest.fixture
async def plane(tmp_path: Path, issued: tls.Certificates, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakePlane]:
    (port,) = free_ports(1)
    monkeypatch.setattr(sidecar_client.names, "PEER_PORT", port)
    made = FakePlane(tmp_path, issued)
    await made.runner.setup()
    await web.TCPSite(made.runner, "127.0.0.1", port, ssl_context=made.context).start()
    yield made
    await made.runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[MemberClient]:
    made = MemberClient(Told(), timeout_seconds=5, requests_max=8)
    yield made
    await made.close()


def address(member: str = "demo-0", ip: str = "127.0.0.1") -> Address:
    return Address(member, ip, names.peer_host(member, "demo", "shop"))


async def test_a_member_says_what_it_is(plane: FakePlane, client: MemberClient, issued: tls.Certificates) -> None:
    views = await client.views(CLUSTER_ID, issued.operator, [address()])
    view = views["demo-0"]
    assert (view.node_id, view.inc, view.epoch, view.admitted_epoch, view.ready) == (7, 5, 2, 1, True)
    assert view.members == ("demo-0", "demo-1")
    assert view.drain is None


async def test_a_draining_member_says_who_covers_it(
    plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    plane.answers["GET /v1/admin/status"] = (200, {**STATUS, "draining": True})
    plane.answers["GET /v1/admin/drain"] = (200, DRAIN)
    view = (await client.views(CLUSTER_ID, issued.operator, [address()]))["demo-0"]
    assert view.drain is not None
    assert (view.drain.covered_by, view.drain.waiting_for, view.drain.complete) == ({"demo-1": 9}, ("demo-2",), False)


async def test_a_removed_member_is_in_no_list_of_its_own(
    plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    removed = {**STATUS["membership"], "included": False}
    plane.answers["GET /v1/admin/status"] = (200, {**STATUS, "membership": removed})
    assert (await client.views(CLUSTER_ID, issued.operator, [address()]))["demo-0"].members == ("demo-1",)


async def test_the_membership_is_given_as_it_is(
    plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    plane.answers["PUT /v1/admin/membership"] = (200, {"epoch": 3})
    await client.publish(CLUSTER_ID, issued.operator, address(), {"epoch": 3})
    assert plane.bodies == [("PUT /v1/admin/membership", {"epoch": 3})]


async def test_a_refusal_carries_the_members_words(
    plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    plane.answers["PUT /v1/admin/drain"] = (409, {"code": "stale_epoch", "detail": "epoch 7 is in force"})
    with pytest.raises(MemberRefused, match="epoch 7 is in force") as refused:
        await client.start_drain(CLUSTER_ID, issued.operator, address())
    assert refused.value.member_code == "stale_epoch"


@pytest.mark.parametrize(
    "status",
    [
        {**STATUS, "cluster_id": "another"},
        {**STATUS, "name": "demo-1"},
        {key: value for key, value in STATUS.items() if key != "membership"},
        {**STATUS, "node_id": None},
        [],
        "status",
    ],
)
async def test_an_answer_of_another_member_or_none_at_all_is_no_view(
    status: Any, plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    plane.answers["GET /v1/admin/status"] = (200, status)
    assert await client.views(CLUSTER_ID, issued.operator, [address()]) == {}


async def test_a_member_with_another_authority_or_another_name_is_not_believed(
    plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    with pytest.raises(MemberUnreachable):
        await client.start_drain(CLUSTER_ID, issue().operator, address())
    other_name = Address("demo-0", "127.0.0.1", names.peer_host("demo-0", "other", "shop"))
    with pytest.raises(MemberUnreachable):
        await client.start_drain(CLUSTER_ID, issued.operator, other_name)
    assert plane.bodies == []


async def test_new_certificates_are_used_at_once(
    plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    foreign = issue()
    assert await client.views(CLUSTER_ID, foreign.operator, [address()]) == {}
    assert set(await client.views(CLUSTER_ID, issued.operator, [address()])) == {"demo-0"}


async def test_silent_members_cost_the_others_nothing(
    plane: FakePlane, client: MemberClient, issued: tls.Certificates
) -> None:
    listed = [address("demo-1", "127.0.0.2"), address(), address("demo-2", "::1")]
    assert set(await client.views(CLUSTER_ID, issued.operator, listed)) == {"demo-0"}


async def test_a_damaged_identity_is_said(client: MemberClient) -> None:
    with pytest.raises(MemberUnreachable, match="certificate"):
        await client.start_drain(CLUSTER_ID, {"ca.crt": b"x", "tls.crt": b"y", "tls.key": b"z"}, address())


async def test_no_key_is_left_on_a_disk(client: MemberClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(MemberUnreachable):
        await client.start_drain(CLUSTER_ID, issue().operator, address(ip="127.0.0.3"))
    assert list(tmp_path.iterdir()) == []
