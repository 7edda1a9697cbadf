"""Who may do what on the peer plane: every kind of identity against every verb, on a real member (docs/api.md)."""

import http.client
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from tests.integration.member_process import Answer, Cluster, MemberProcess, fetch, free_ports
from tests.integration.test_peer_plane import client_context
from tests.pki import Authority, Leaf
from wavekv.core.codec.envelope import pack
from wavekv.core.messages import Envelope

ANOTHER = "00000000-0000-4000-8000-00000000dead"
MESSAGES = ("/wavekv/sync2/persistent", "/wavekv/push/persistent", "/wavekv/sync2/ephemeral", "/wavekv/push/ephemeral")
ADMIN = (
    ("GET", "/v1/admin/status"),
    ("GET", "/v1/admin/membership"),
    ("PUT", "/v1/admin/membership"),
    ("PUT", "/v1/admin/membership?override=true"),
    ("GET", "/v1/admin/certificate"),
    ("PUT", "/v1/admin/certificate"),
    ("GET", "/v1/admin/drain"),
    ("PUT", "/v1/admin/drain"),
    ("DELETE", "/v1/admin/drain"),
    ("GET", "/v1/admin/compaction"),
    ("GET", "/v1/admin/export"),
    ("DELETE", "/v1/admin/export"),
)
ELSEWHERE = (
    ("GET", "/v1/kv/x"),
    ("PUT", "/v1/kv/x"),
    ("GET", "/v1/kv"),
    ("GET", "/v1/watch"),
    ("POST", "/v1/batch"),
    ("GET", "/v1/status"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("POST", "/wavekv/sync/persistent"),
)
NO_TLS = "refused by TLS"


@dataclass(frozen=True)
class Site:
    """The member asked, its cluster's authority, and a foreign one."""

    member: MemberProcess
    authority: Authority
    foreign: Authority

    def leaf(self, name: str, **more: object) -> Leaf:
        return self.authority.issue(name, self.member.cluster_id, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Member m0 with the configured peer m1 and the configured node c0 of the original system; none of them runs."""
    folder = tmp_path_factory.mktemp("identities")
    authority = Authority(folder / "pki")
    with Cluster(1, folder) as cluster:
        member = cluster[0]
        member.peer_flags = authority.issue("m0", member.cluster_id).flags()
        ports = free_ports(2)
        member.peers = {"m1": f"https://127.0.0.1:{ports[0]}"}
        member.extra_args = ("--crate-peer", f"c0=https://127.0.0.1:{ports[1]}")
        cluster.start()
        yield Site(member, authority, Authority(folder / "foreign"))


@dataclass(frozen=True)
class Row:
    """An identity: what it shows, the name in its messages, and the answers to messages and to admin requests."""

    who: str
    leaf: Callable[[Site], Leaf | None]
    name: str | None
    message: str
    admin: str


def plain(name: str, **more: object) -> Callable[[Site], Leaf]:
    """Return what makes a certificate of a team's own: without an identity, for the host `name`."""
    return lambda site: site.authority.issue(f"own-{name}", None, dns=(name,), **more)  # type: ignore[arg-type]


ROWS = (
    Row("nobody", lambda _: None, "m1", NO_TLS, NO_TLS),
    Row("of a foreign authority", lambda s: s.foreign.issue("m1", s.member.cluster_id), "m1", NO_TLS, NO_TLS),
    Row("a foreign operator", lambda s: s.foreign.issue("o", s.member.cluster_id, role="operator"), "m1",
        NO_TLS, NO_TLS),
    Row("expired", lambda s: s.leaf("m1", lifetime=timedelta(hours=-1)), "m1", NO_TLS, NO_TLS),
    Row("of a foreign cluster", lambda s: s.authority.issue("m1", ANOTHER), "m1", "foreign_cluster", "foreign_cluster"),
    Row("a foreign cluster's operator", lambda s: s.authority.issue("o", ANOTHER, role="operator"), "m1",
        "foreign_cluster", "foreign_cluster"),
    Row("the certificate all members shared", lambda s: s.leaf("m", uri="member"), "m1", "wrong_role", "wrong_role"),
    Row("the member itself", lambda s: s.leaf("m1"), "m1", "ok", "wrong_role"),
    Row("a member in another's name", lambda s: s.leaf("m2"), "m1", "wrong_name", "wrong_role"),
    Row("a member without a name", lambda s: s.leaf("m1"), None, "wrong_name", "wrong_role"),
    Row("a member that is not configured", lambda s: s.leaf("m2"), "m2", "not_a_member", "wrong_role"),
    Row("a member called operator", lambda s: s.leaf("operator"), "m1", "wrong_name", "wrong_role"),
    Row("an older process of the asked one", lambda s: s.leaf("m0"), "m0", "stale_process", "wrong_role"),
    Row("the operator", lambda s: s.leaf("operator", role="operator"), "m1", "wrong_role", "ok"),
    Row("a team's own certificate", plain("m1.example.org"), "m1", "ok", "wrong_role"),
    Row("a team's own in another's name", plain("m2.example.org"), "m1", "wrong_name", "wrong_role"),
    Row("a team's own wildcard", plain("*.example.org"), "m1", "wrong_name", "wrong_role"),
    Row("a team's own called operator", plain("operator"), "m1", "wrong_name", "wrong_role"),
    Row("a configured node of the original system", plain("c0"), None, "ok", "wrong_role"),
    Row("one that is not configured", plain("c1"), None, "wrong_name", "wrong_role"),
    Row("one that gives itself a name", plain("c0"), "c0", "not_a_member", "wrong_role"),
)  # fmt: skip


def ask(site: Site, leaf: Leaf | None, method: str, path: str, body: bytes = b"") -> str:
    """Return what a request to the peer plane comes to: `ok`, the code of its refusal, or that TLS refused it."""
    context = client_context(site.authority, leaf)
    connection = http.client.HTTPSConnection("127.0.0.1", site.member.peer, timeout=10, context=context)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return NO_TLS
    finally:
        connection.close()
    if answer.status == 200:
        return "ok"
    code: str = answer.headers.get("Wavekv-Code") or answer.json()["code"]
    return code


@pytest.mark.parametrize("row", ROWS, ids=[row.who for row in ROWS])
def test_an_identity_may_do_what_its_row_says_and_nothing_else(site: Site, row: Row) -> None:
    leaf = row.leaf(site)
    inc = None if row.name is None else 1
    message = pack(Envelope(sender_id=7, name=row.name, inc=inc, cluster_id=row.name and site.member.cluster_id))
    assert {ask(site, leaf, "POST", path, message) for path in MESSAGES} == {row.message}
    told = {(method, path): ask(site, leaf, method, path, b"{}") for method, path in ADMIN}
    if row.admin == "ok":
        passed = {"ok", "static_peers", "bad_membership", "own_certificate"}
        assert set(told.values()) <= passed, told
        assert told["GET", "/v1/admin/status"] == "ok"
    else:
        assert set(told.values()) == {row.admin}, told
    elsewhere = NO_TLS if row.message == NO_TLS else "unknown_route"
    assert {ask(site, leaf, method, path, b"{}") for method, path in ELSEWHERE} == {elsewhere}
    assert site.member.status()["process"]["superseded_by"] is None


def test_nothing_but_tls_gets_an_answer_on_the_peer_plane(site: Site) -> None:
    for path in (*MESSAGES, "/v1/admin/status", "/v1/kv/x", "/"):
        with pytest.raises((OSError, http.client.HTTPException)):
            fetch(site.member.peer, "POST", path, b"")


def test_the_metrics_plane_has_neither_messages_nor_admin_routes_nor_data(site: Site) -> None:
    for method, path in (*(("POST", path) for path in MESSAGES), *ADMIN, ("GET", "/v1/kv/x"), ("PUT", "/v1/kv/x")):
        assert fetch(site.member.metrics, method, path, b"").status in {404, 405}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/x-msgpack-gz"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({}, 415),
        ({"Content-Type": "application/x-msgpack-gz", "Origin": "https://example.org"}, 403),
        ({"Content-Type": "application/x-msgpack-gz", "Host": "example.org"}, 403),
    ],
)
def test_without_tls_what_a_web_page_could_send_is_refused(
    tmp_path_factory: pytest.TempPathFactory, headers: dict[str, str], status: int
) -> None:
    with Cluster(1, tmp_path_factory.mktemp("plain")) as cluster:
        member = cluster.start()[0]
        message = pack(Envelope(sender_id=7, name="m1", inc=1))
        answer = fetch(member.peer, "POST", MESSAGES[0], message, headers)
        assert answer.status == status
        foreign = "Origin" in headers or "Host" in headers
        code = answer.headers.get("Wavekv-Code") or answer.json()["code"]
        assert code == ("foreign_origin" if foreign else "not_a_member" if status == 403 else "unsupported_media_type")
