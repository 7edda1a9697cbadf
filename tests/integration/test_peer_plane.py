"""The peer plane refuses what it must, by a stable code, and merges nothing of it."""

import gzip
import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from tests.integration.member_process import Answer, Cluster, MemberProcess, fetch, free_ports
from tests.pki import Authority, Leaf
from wavekv.core.codec.envelope import encode_envelope, pack, unpack
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry

ENTRY = Entry("smuggled", b"value", 1_700_000_000_000, 77, 1)
MESSAGE = Envelope(sender_id=77, sender_uuid=bytes(16), entries=(ENTRY,), acks={77: 1})


def post(member: MemberProcess, path: str, body: bytes) -> Answer:
    return fetch(member.peer, "POST", path, body, {"Content-Type": "application/x-msgpack-gz"})


@pytest.mark.parametrize(
    ("code", "status", "path", "body"),
    [
        ("bad_envelope", 400, "sync2/persistent", b"this is not gzip"),
        ("bad_envelope", 400, "push/persistent", b""),
        ("bad_envelope", 400, "sync2/persistent", gzip.compress(b"\xc1 is no msgpack", mtime=0)),
        ("bad_envelope", 400, "sync2/persistent", pack(MESSAGE)[:-9]),
        ("bad_envelope", 400, "sync2/persistent", pack(MESSAGE) + b"x"),
        ("bad_envelope", 400, "push/persistent", gzip.compress(encode_envelope(MESSAGE) + b"\0", mtime=0)),
        ("bad_envelope", 400, "sync2/persistent", pack(Envelope(sender_id=0, entries=(ENTRY,)))),
        ("envelope_too_large", 400, "sync2/persistent", gzip.compress(bytes(200 << 20), 9, mtime=0)),
        ("envelope_too_large", 400, "sync2/persistent", bytes((16 << 20) + 1)),
        ("foreign_cluster", 403, "sync2/persistent", pack(Envelope(sender_id=77, entries=(ENTRY,), cluster_id="x"))),
        ("unknown_store", 404, "sync2/nonsense", pack(MESSAGE)),
        ("bad_envelope", 400, "sync2/ephemeral", b"this is not gzip"),
        ("unknown_route", 404, "sync/persistent", pack(MESSAGE)),
        ("wrong_role", 403, "../v1/admin/membership", b"{}"),
    ],
)
def test_a_bad_message_is_refused_by_code_and_nothing_is_merged(
    one: MemberProcess, code: str, status: int, path: str, body: bytes
) -> None:
    answer = post(one, "/v1/admin/membership" if ".." in path else f"/wavekv/{path}", body)
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)
    assert one.get("smuggled") is None
    assert one.put("alive", b"yes").status == 201


def test_another_method_is_refused(one: MemberProcess) -> None:
    answer = fetch(one.peer, "GET", "/wavekv/sync2/persistent")
    assert (answer.status, answer.json()["code"]) == (405, "method_not_allowed")


def test_a_crate_node_s_request_and_push_are_answered_as_it_expects(one: MemberProcess) -> None:
    refused = post(one, "/wavekv/sync2/persistent", pack(MESSAGE))
    assert (refused.status, refused.headers["Wavekv-Code"]) == (403, "not_a_member"), "it is not configured"
    one.terminate()
    one.extra_args = ("--crate-peer", f"c0=http://127.0.0.1:{free_ports(1)[0]}")
    one.start().wait_ready()
    one.put("mine", b"1")
    answer = post(one, "/wavekv/sync2/persistent", pack(MESSAGE))
    told = unpack(answer.body, 1 << 24, 1 << 27)
    assert {entry.key for entry in told.entries} == {"mine"}
    assert told.digest is not None
    assert len(told.digest) == 32
    assert one.get("smuggled") == b"value"
    another = post(one, "/wavekv/sync2/persistent", pack(replace(MESSAGE, sender_id=78)))
    assert another.status == 403, "one node was configured"
    pushed = post(one, "/wavekv/push/persistent", pack(Envelope(sender_id=77, entries=(ENTRY,), push_only=True)))
    assert (pushed.status, gzip.decompress(pushed.body)) == (200, b"")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def secured(tmp_path: Path, authority: Authority) -> Iterator[Cluster]:
    """Two members with certificates of one authority."""
    with Cluster(2, tmp_path) as cluster:
        for member in cluster.members:
            member.peer_flags = authority.issue(member.name, member.cluster_id).flags()
        for member in cluster.members:
            member.peers = {other.name: other.peer_url for other in cluster.members if other is not member}
        yield cluster.start()


def client_context(authority: Authority, leaf: Leaf | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if leaf is not None:
        context.load_cert_chain(leaf.cert, leaf.key)
    return context


def ask(member: MemberProcess, context: ssl.SSLContext, path: str) -> Answer:
    connection = http.client.HTTPSConnection("127.0.0.1", member.peer, timeout=10, context=context)
    try:
        connection.request("POST", path, pack(MESSAGE))
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def test_members_with_certificates_converge_and_strangers_are_kept_out(
    secured: Cluster, authority: Authority, tmp_path: Path
) -> None:
    secured[0].put("x", b"1")
    secured.wait_everywhere("x", b"1")
    stranger = Authority(tmp_path / "other-pki").issue("stranger", secured[0].cluster_id)
    expired = authority.issue("expired", secured[0].cluster_id, lifetime=timedelta(hours=-1))
    for leaf in (None, stranger, expired):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            ask(secured[0], client_context(authority, leaf), "/wavekv/sync2/persistent")
    with pytest.raises((OSError, http.client.HTTPException)):
        fetch(secured[0].peer, "POST", "/wavekv/sync2/persistent", pack(MESSAGE))
    assert secured[0].get("smuggled") is None


@pytest.mark.parametrize(
    ("role", "cluster", "path", "code"),
    [
        ("operator", "own", "/wavekv/sync2/persistent", "wrong_role"),
        ("member", "own", "/v1/admin/status", "wrong_role"),
        ("member", "other", "/wavekv/sync2/persistent", "foreign_cluster"),
    ],
)
def test_a_certificate_opens_only_the_plane_of_its_role_and_cluster(
    secured: Cluster, authority: Authority, role: Literal["member", "operator"], cluster: str, path: str, code: str
) -> None:
    cluster_id = secured[0].cluster_id if cluster == "own" else "00000000-0000-4000-8000-00000000dead"
    leaf = authority.issue("somebody", cluster_id, role=role)
    answer = ask(secured[0], client_context(authority, leaf), path)
    assert (answer.status, answer.json()["code"]) == (403, code)
