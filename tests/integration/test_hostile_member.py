"""One member's key in the wrong hands: what its holder can and cannot do to the others (G11).

The hostile one answers and asks as member m2 with m2's own certificate. It is a program of its own, so that it may say
what no member would.
"""

import asyncio
import contextlib
import http.client
import http.server
import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.integration.member_process import Answer, Cluster, MemberProcess, eventually
from tests.integration.test_peer_plane import client_context
from tests.integration.test_superseded import with_certificates
from tests.pki import Authority, Leaf
from wavekv.config import TlsFiles
from wavekv.core.codec.envelope import pack, unpack
from wavekv.core.messages import Envelope
from wavekv.peers.proofs import SignedClaims
from wavekv.peers.service import REQUESTS_MAX

Reply = Callable[[Envelope], tuple[int, bytes, str]]


class HostileMember:
    """A server at m2's address with m2's certificate; `reply` says what it answers to every message."""

    def __init__(self, member: MemberProcess, leaf: Leaf, authority: Authority) -> None:
        self.leaf = leaf
        self.authority = authority
        self.heard: list[Envelope] = []
        self.reply: Reply = lambda _: (503, b"", "text/plain")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", member.peer), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf.cert, leaf.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        hostile = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = unpack(body, 1 << 24, 1 << 27)
                hostile.heard.append(message)
                status, answer, kind = hostile.reply(message)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None: ...

        return Handler

    def say(self, target: MemberProcess, message: Envelope, verb: str = "sync2") -> Answer:
        """Send a message to a member, with m2's certificate."""
        context = client_context(self.authority, self.leaf)
        connection = http.client.HTTPSConnection("127.0.0.1", target.peer, timeout=10, context=context)
        with contextlib.closing(connection):
            connection.request("POST", f"/wavekv/{verb}/persistent", pack(message))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Cluster, HostileMember]]:
    """Members m0 and m1 that run, and the hostile one in the place of m2."""
    authority = Authority(tmp_path / "pki")
    with Cluster(3, tmp_path) as cluster:
        with_certificates(cluster, authority)
        leaf = authority.issue("m2", cluster[2].cluster_id)
        with HostileMember(cluster[2], leaf, authority) as hostile:
            for member in cluster.members[:2]:
                member.start()
            for member in cluster.members[:2]:
                member.wait_ready()
            yield cluster, hostile


def code(answer: Answer) -> str:
    told: str = answer.headers.get("Wavekv-Code") or answer.json()["code"]
    return told


def future(member: MemberProcess) -> int:
    inc: int = member.status()["process"]["inc"]
    return inc + 60_000


def test_it_cannot_end_another_member(held: tuple[Cluster, HostileMember]) -> None:
    cluster, hostile = held
    first = cluster[0]
    newest = future(first)
    signing = SignedClaims(TlsFiles(hostile.leaf.cert, hostile.leaf.key, hostile.leaf.ca), first.cluster_id, "m0")
    forged = b64encode(asyncio.run(signing.make(newest)) or b"").decode()
    for number, claim in ((newest, ""), (newest, "AAAA"), (newest, forged), (float("inf"), ""), ([], "")):
        refusal = {"code": "stale_process", "detail": "d", "member": "m0", "newest": number, "claim": claim}
        body = json.dumps(refusal).encode()
        hostile.reply = lambda _, body=body: (403, body, "application/problem+json")
        asked = len(hostile.heard)
        eventually(lambda asked=asked: len(hostile.heard) > asked + 1, 30, "the members ask the hostile one")
    message = Envelope(sender_id=7, sender_uuid=bytes(16), name="m0", inc=newest, cluster_id=first.cluster_id)
    for verb in ("sync2", "push"):
        assert code(hostile.say(first, message, verb)) == "wrong_name"
    eventually(lambda: "without proof" in first.log, 20, "the forged claims are judged, beside the loop")
    assert "ended unexpectedly" not in first.log
    for member in cluster.members[:2]:
        assert member.status()["process"]["superseded_by"] is None
        assert member.put("alive", b"yes").status in {200, 201}


def test_it_cannot_report_in_the_name_of_a_member_that_stands_still(held: tuple[Cluster, HostileMember]) -> None:
    cluster, hostile = held
    first, second = cluster[0], cluster[1]
    second.pause()
    try:
        answers: list[Answer] = []
        writing = threading.Thread(
            target=lambda: answers.append(first.request("PUT", "/v1/kv/x?durability=all&timeout=3", b"1"))
        )
        writing.start()
        origin = first.status()["node_id"]
        said = []
        for _ in range(20):
            report = Envelope(sender_id=7, name="m1", inc=2**40, acks={origin: 2**20}, cluster_id=first.cluster_id)
            said += [code(hostile.say(first, report, verb)) for verb in ("sync2", "push")]
        hostile.reply = lambda _: (200, pack(report), "application/x-msgpack-gz")
        writing.join(30)
        assert set(said) == {"wrong_name"}
        assert answers[0].status == 504, "nobody but m1 says what m1 has"
        assert "m1" not in answers[0].json()["durable_on"]
    finally:
        second.resume()


def test_it_cannot_answer_or_ask_in_another_name_or_as_a_node_without_one(
    held: tuple[Cluster, HostileMember],
) -> None:
    cluster, hostile = held
    first = cluster[0]
    for name in ("m0", "m1", "m9", None):
        message = Envelope(sender_id=7, name=name, inc=1, cluster_id=first.cluster_id)
        hostile.reply = lambda _, message=message: (200, pack(message), "application/x-msgpack-gz")
        asked = len(hostile.heard)
        eventually(lambda asked=asked: len(hostile.heard) > asked + 1, 30, "its answer was taken")
        assert {code(hostile.say(first, message, verb)) for verb in ("sync2", "push")} == {"wrong_name"}
    status = first.status()
    m2 = next(peer for peer in status["peers"] if peer["name"] == "m2")
    assert m2["reachable"] is False
    assert "certificate" in m2["last_error"] or "name" in m2["last_error"]
    assert first.request("PUT", "/v1/kv/t?ttl=60", b"1").status == 201, "no node of the original system was let in"


def test_writes_between_the_others_go_on_while_it_talks_nonsense(held: tuple[Cluster, HostileMember]) -> None:
    cluster, hostile = held
    first, second = cluster[0], cluster[1]
    hostile.reply = lambda _: (200, b"nonsense", "application/x-msgpack-gz")
    began = time.monotonic()
    for index in range(50):
        first.put(f"k{index}", b"1")
    second.wait_value("k49", b"1")
    assert time.monotonic() - began < 20


def test_it_cannot_make_another_s_writes_pass_for_known(held: tuple[Cluster, HostileMember]) -> None:
    """It claims, in its own name, to cover what m0 is yet to write: in requests, in pushes, and in its answers."""
    cluster, hostile = held
    first, second = cluster[0], cluster[1]
    origin = first.status()["process"]["origin"] or first.status()["node_id"]
    ahead = {origin: 10_000}
    usual = {"sender_id": 7, "sender_uuid": bytes(16), "name": "m2", "inc": 2**40, "cluster_id": first.cluster_id}
    claims = Envelope(**usual, acks=ahead, since=0, floor=0, now_ms=int(time.time() * 1000))  # type: ignore[arg-type]
    pushes = Envelope(**usual, dots={origin: ((1, 10_000),)}, push_only=True)  # type: ignore[arg-type]
    hostile.reply = lambda _: (200, pack(claims), "application/x-msgpack-gz")
    assert [hostile.say(second, claims).status, hostile.say(second, pushes, "push").status] == [200, 200]
    hostile.say(first, claims)
    hostile.say(first, pushes, "push")
    etag = first.put("written", b"afterwards").headers["ETag"].strip('"')
    assert int(etag.split(".")[1]) == origin
    second.wait_value("written", b"afterwards")
    assert first.get("written") == b"afterwards"


def test_it_cannot_take_the_turns_of_others_with_half_messages(held: tuple[Cluster, HostileMember]) -> None:
    cluster, hostile = held
    first, second = cluster[0], cluster[1]
    context = client_context(hostile.authority, hostile.leaf)
    head = b"POST /wavekv/sync2/persistent HTTP/1.1\r\nHost: m0\r\nContent-Type: application/x-msgpack-gz\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(REQUESTS_MAX):
            plain = socket.create_connection(("127.0.0.1", first.peer), timeout=10)
            half = stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
            half.sendall(head + b"Content-Length: 1000\r\n\r\nx")
        message = Envelope(sender_id=7, sender_uuid=bytes(16), name="m2", inc=1, cluster_id=first.cluster_id)
        eventually(lambda: code(hostile.say(first, message)) == "too_many_waiting", 5, "it has no turn left")
        answer = second.request("PUT", "/v1/kv/honest?durability=2&timeout=5", b"yes")
        assert answer.status == 201
        assert first.get("honest") == b"yes"


def test_a_refusal_that_names_an_infinite_process_ends_no_task(held: tuple[Cluster, HostileMember]) -> None:
    cluster, hostile = held
    body = b'{"code": "stale_process", "detail": "d", "member": "m0", "newest": 1e999, "claim": ""}'
    hostile.reply = lambda _: (403, body, "application/problem+json")
    eventually(lambda: len(hostile.heard) > 5, 30, "the members ask the hostile one")
    assert "ended unexpectedly" not in cluster[0].log + cluster[1].log
