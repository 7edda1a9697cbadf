"""The operator asking members over mutual TLS with certificates it issued itself: who is believed, who is not.

The plane under test is the member's protocol with certificates in files; the real member's is in the tests of both.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.fakes.enrolled import request_pem
from tests.integration.member_process import free_ports
from wavekv_operator import enrolment, names, sidecar_client, tls
from wavekv_operator.enrolment import Application
from wavekv_operator.errors import MemberRefused, MemberUnreachable, MemberUnverified
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


ANSWER_BYTES_MAX = 1 << 16


def issue(cluster: str = CLUSTER_ID) -> tls.Secrets:
    lives = tls.Lives(timedelta(days=1), timedelta(days=9))
    return tls.secrets(cluster, tls.Secrets({}, {}), datetime.now(UTC), lives)


class Told:
    def __init__(self) -> None:
        self.results: list[str] = []

    def member_request(self, result: str) -> None:
        self.results.append(result)


class FakePlane:
    """A member's admin plane: it demands the operator's certificate, and shows what it was told to."""

    def __init__(self, folder: Path, issued: tls.Secrets) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.request = request_pem(self.key, "demo-0")
        self._folder = folder
        self._issued = issued
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.context.load_verify_locations(cadata=issued.bundle.decode())
        self.answers: dict[str, tuple[int, Any]] = {"GET /v1/admin/status": (200, STATUS)}
        self.bodies: list[tuple[str, Any]] = []
        self.clients: list[tuple[str, ...]] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        """What is waited for before a request is answered."""
        self.runner = web.ServerRunner(web.Server(self.handle))

    def show(self, chain: str) -> None:
        """Show a certificate in every handshake from now on."""
        cert, key = self._folder / "shown.pem", self._folder / "key.pem"
        cert.write_text(chain)
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.context.load_cert_chain(cert, key)

    def issue(self, name: str = "demo-0", cluster: str = CLUSTER_ID, issued: tls.Secrets | None = None) -> str:
        """Return a certificate of `name` for this plane's key."""
        pod = {"metadata": {"name": name, "namespace": "shop", "uid": "u"}}
        who = enrolment.applicant(cluster, "demo", pod, "cluster.local")
        signer = tls.authority(issued or self._issued)
        asked = Application(name, cluster, request_pem(self.key, name), "t")
        return enrolment.certificate(who, asked, signer, now=datetime.now(UTC), life=timedelta(days=1))

    def shared(self) -> str:
        """Return the certificate that all members of earlier versions shared."""
        uri = x509.UniformResourceIdentifier(f"wavekv://{CLUSTER_ID}/member")
        sans = x509.SubjectAlternativeName([uri, x509.DNSName("*.demo-peers.shop.svc")])
        signer = tls.authority(self._issued)
        made = tls.leaf(signer, self.key.public_key(), "WaveKV", sans, now=datetime.now(UTC), life=timedelta(days=1))
        return made.decode()

    def self_signed(self) -> str:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo-0")])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.before is not None:
            await self.before()
        shown = request.get_extra_info("peercert")
        self.clients.append(tuple(value for _, value in shown["subjectAltName"]))
        route = f"{request.method} {request.path_qs}"
        self.bodies.append((route, json.loads(await request.read() or b"null")))
        status, body = self.answers.get(route, (404, {"code": "unknown_route", "detail": "no such route"}))
        if isinstance(body, bytes):
            return web.Response(body=body, status=status)
        return web.json_response(body, status=status)


@pytest.fixture
def issued() -> tls.Secrets:
    return issue()


@pytest.fixture
async def plane(tmp_path: Path, issued: tls.Secrets, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakePlane]:
    (port,) = free_ports(1)
    monkeypatch.setattr(sidecar_client.names, "PEER_PORT", port)
    made = FakePlane(tmp_path, issued)
    made.show(made.issue())
    await made.runner.setup()
    await web.TCPSite(made.runner, "127.0.0.1", port, ssl_context=made.context).start()
    yield made
    await made.runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[MemberClient]:
    made = MemberClient(
        Told(), timeout_seconds=5, requests_max=8, cluster_requests_max=4, answer_bytes_max=ANSWER_BYTES_MAX
    )
    yield made
    await made.close()


def address(member: str = "demo-0", ip: str = "127.0.0.1") -> Address:
    return Address(member, ip, names.peer_host(member, "demo", "shop"))


async def test_a_member_says_what_it_is(plane: FakePlane, client: MemberClient, issued: tls.Secrets) -> None:
    view = (await client.views(CLUSTER_ID, issued.operator, [address()])).views["demo-0"]
    assert (view.node_id, view.inc, view.epoch, view.admitted_epoch, view.ready) == (7, 5, 2, 1, True)
    assert view.members == ("demo-0", "demo-1")
    assert view.drain is None


async def test_a_draining_member_says_who_covers_it(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    plane.answers["GET /v1/admin/status"] = (200, {**STATUS, "draining": True})
    plane.answers["GET /v1/admin/drain"] = (200, DRAIN)
    view = (await client.views(CLUSTER_ID, issued.operator, [address()])).views["demo-0"]
    assert view.drain is not None
    assert (view.drain.covered_by, view.drain.waiting_for, view.drain.complete) == ({"demo-1": 9}, ("demo-2",), False)


async def test_a_removed_member_is_in_no_list_of_its_own(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    removed = {**STATUS["membership"], "included": False}
    plane.answers["GET /v1/admin/status"] = (200, {**STATUS, "membership": removed})
    assert (await client.views(CLUSTER_ID, issued.operator, [address()])).views["demo-0"].members == ("demo-1",)


async def test_the_membership_is_given_as_it_is(plane: FakePlane, client: MemberClient, issued: tls.Secrets) -> None:
    plane.answers["PUT /v1/admin/membership"] = (200, {"epoch": 3})
    await client.publish(CLUSTER_ID, issued.operator, address(), {"epoch": 3})
    assert plane.bodies == [("PUT /v1/admin/membership", {"epoch": 3})]


async def test_a_refusal_carries_the_members_words(plane: FakePlane, client: MemberClient, issued: tls.Secrets) -> None:
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
        {**STATUS, "phase": "serving\nforged line"},
        [],
        "status",
        b"[" * 60_000,
        b"{",
    ],
)
async def test_an_answer_of_another_member_or_none_at_all_is_no_view(
    status: Any, plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    plane.answers["GET /v1/admin/status"] = (200, status)
    assert (await client.views(CLUSTER_ID, issued.operator, [address()])).views == {}


async def test_a_member_with_another_authority_or_another_name_is_not_believed(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    with pytest.raises(MemberUnverified):
        await client.start_drain(CLUSTER_ID, issue().operator, address())
    other_name = Address("demo-0", "127.0.0.1", names.peer_host("demo-0", "other", "shop"))
    with pytest.raises(MemberUnverified):
        await client.start_drain(CLUSTER_ID, issued.operator, other_name)
    assert plane.bodies == []


async def test_a_certificate_of_another_member_or_of_all_of_them_is_not_believed(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    for shown in (plane.issue("demo-1"), plane.shared(), plane.self_signed(), plane.issue(issued=issue())):
        plane.show(shown)
        seen = await client.views(CLUSTER_ID, issued.operator, [address()])
        assert (seen.views, seen.unverified) == ({}, {"demo-0"})
    assert plane.bodies == [], "nothing was said to any of them"


async def test_a_member_without_a_certificate_is_asked_for_its_request_and_nothing_else(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    plane.show(plane.self_signed())
    answer = {"name": "demo-0", "cluster_id": CLUSTER_ID, "request": plane.request, "token": "t"}
    plane.answers["GET /v1/admin/certificate"] = (200, answer)
    plane.answers["PUT /v1/admin/certificate"] = (200, {"not_after": "2026-12-01T00:00:00Z", "fingerprint": "f"})
    assert await client.application(CLUSTER_ID, issued.operator, address()) == answer
    made = plane.issue()
    await client.give_certificate(CLUSTER_ID, issued.operator, address(), made)
    assert plane.bodies[-1] == ("PUT /v1/admin/certificate", {"certificate": made})
    assert set(plane.clients) == {(f"wavekv://{CLUSTER_ID}/operator",)}
    with pytest.raises(MemberUnverified):
        await client.publish(CLUSTER_ID, issued.operator, address(), {"epoch": 3})


async def test_the_certificate_that_a_member_shows_is_known_with_what_it_says(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    first = plane.issue()
    plane.show(first)
    view = (await client.views(CLUSTER_ID, issued.operator, [address()])).views["demo-0"]
    assert view.certificate == ssl.PEM_cert_to_DER_cert(first)

    second = plane.issue()
    plane.answers["PUT /v1/admin/certificate"] = (200, {})
    await client.give_certificate(CLUSTER_ID, issued.operator, address(), second)
    view = (await client.views(CLUSTER_ID, issued.operator, [address()])).views["demo-0"]
    assert view.certificate == ssl.PEM_cert_to_DER_cert(second), (
        "a connection that was open is no reason to give another"
    )


async def test_an_override_is_said_in_the_request(plane: FakePlane, client: MemberClient, issued: tls.Secrets) -> None:
    plane.answers["PUT /v1/admin/membership?override=true"] = (200, {"epoch": 3})
    await client.publish(CLUSTER_ID, issued.operator, address(), {"epoch": 3}, override=True)
    assert plane.bodies == [("PUT /v1/admin/membership?override=true", {"epoch": 3})]


@pytest.mark.parametrize(("document", "read"), [({"epoch": 4}, {"epoch": 4}), (None, None), ("text", None)])
async def test_the_document_that_a_member_holds_is_read(
    document: Any, read: Any, plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    plane.answers["GET /v1/admin/membership"] = (200, {"document": document})
    assert await client.membership(CLUSTER_ID, issued.operator, address()) == read


@pytest.mark.parametrize(("length", "taken"), [(ANSWER_BYTES_MAX, True), (ANSWER_BYTES_MAX + 1, False)])
async def test_an_answer_is_read_up_to_its_bound(
    length: int, taken: bool, plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    body = json.dumps(STATUS).encode()
    plane.answers["GET /v1/admin/status"] = (200, body + b" " * (length - len(body)))
    seen = await client.views(CLUSTER_ID, issued.operator, [address()])
    assert bool(seen.views) is taken


async def test_a_members_words_are_one_line_of_bounded_length(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    plane.answers["PUT /v1/admin/drain"] = (409, {"code": "c\nforged", "detail": "first\r\nforged line" + "x" * 9000})
    with pytest.raises(MemberRefused) as refused:
        await client.start_drain(CLUSTER_ID, issued.operator, address())
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 400
    assert refused.value.member_code == "c?forged"


async def test_new_certificates_are_used_at_once(plane: FakePlane, client: MemberClient, issued: tls.Secrets) -> None:
    foreign = issue()
    assert (await client.views(CLUSTER_ID, foreign.operator, [address()])).views == {}
    assert set((await client.views(CLUSTER_ID, issued.operator, [address()])).views) == {"demo-0"}


async def test_silent_members_cost_the_others_nothing(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    listed = [address("demo-1", "127.0.0.2"), address(), address("demo-2", "::1")]
    seen = await client.views(CLUSTER_ID, issued.operator, listed)
    assert set(seen.views) == {"demo-0"}
    assert seen.unverified == frozenset()


async def test_members_of_one_cluster_that_let_requests_hang_take_a_share_of_the_requests(
    plane: FakePlane, client: MemberClient, issued: tls.Secrets
) -> None:
    asked, go_on, waiting = asyncio.Semaphore(0), asyncio.Event(), [0, 0]

    async def hang() -> None:
        waiting[0] += 1
        waiting[1] = max(waiting)
        asked.release()
        await go_on.wait()
        waiting[0] -= 1

    plane.before = hang
    views = asyncio.create_task(client.views(CLUSTER_ID, issued.operator, [address()] * 7))
    for _ in range(4):
        await asked.acquire()
    go_on.set()
    assert (await views).views
    assert waiting == [0, 4], "no more than its share at any time"


async def test_a_damaged_identity_is_said(client: MemberClient) -> None:
    with pytest.raises(MemberUnreachable, match="certificate"):
        await client.start_drain(CLUSTER_ID, {"ca.crt": b"x", "tls.crt": b"y", "tls.key": b"z"}, address())


async def test_no_key_is_left_on_a_disk(client: MemberClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(MemberUnreachable):
        await client.start_drain(CLUSTER_ID, issue().operator, address(ip="127.0.0.3"))
    assert list(tmp_path.iterdir()) == []
