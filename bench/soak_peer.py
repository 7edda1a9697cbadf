"""The hostile peer of the soak: it has the key of one member of the cluster, or none is asked for, and means ill.

    python -m bench.soak_peer      (started by bench.soak)

It sends messages that are malformed, too long, or valid and untrue: in its own name and in those of others. It answers
what honest members ask it, as that member, with the same. It stores and deletes keys of its own alone: that a member
may write is no attack. Each attack is counted by how it was answered.
"""

import gzip
import http.server
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack

from bench.soak_parts import Counts, Plan, Ports, answer_of, connected, lines, request, send, tell
from wavekv.core.codec.envelope import pack
from wavekv.core.messages import Envelope, Listed, Page
from wavekv.core.types import Entry

CONTENT = {"Content-Type": "application/x-msgpack-gz"}
NODE_ID = 0x0BAD_BEEF
OWN_KEYS = 4000
"""Keys of the peer's own, written again and again."""
U64_MAX = 2**64 - 1
STARTED_MS = time.time_ns() // 1_000_000
"""Its process number: one process sends and answers."""
ENDLESS_BYTES = 64 << 20
"""What an answer without an end sends at most."""


class Message:
    """Makes the peer's messages; all honest facts of them come from here."""

    def __init__(self, plan: Plan, rng: random.Random) -> None:
        self.plan = plan
        self.rng = rng
        self.inc = STARTED_MS
        self._seq = 0

    def own(self, **fields: Any) -> Envelope:
        """Return a message in the peer's own name."""
        about = Envelope(
            sender_id=NODE_ID,
            sender_uuid=b"h" * 16,
            name=self.plan.hostile_name,
            inc=self.inc,
            cluster_id=self.plan.cluster_id,
            now_ms=time.time_ns() // 1_000_000,
        )
        return replace(about, **fields)

    def entry(self, **fields: Any) -> Entry:
        """Return an entry of the peer's own."""
        self._seq += 1
        key = f"hostile-{self.rng.randrange(OWN_KEYS)}"
        return Entry(key, b"v", time.time_ns() // 1_000_000, NODE_ID, self._seq)._replace(**fields)

    def victim(self) -> str:
        """Return the name of an honest member."""
        return self.rng.choice(self.plan.members).name


Body = Callable[[Message], tuple[str, bytes]]
"""An attack: the store's route and the body."""


def _sync(body: bytes | Envelope) -> tuple[str, bytes]:
    return "sync2", body if isinstance(body, bytes) else pack(body)


def _push(message: Envelope) -> tuple[str, bytes]:
    return "push", pack(message)


def _raw(fields: dict[Any, Any]) -> tuple[str, bytes]:
    return "sync2", gzip.compress(msgpack.packb(fields), 1)


def bomb(_: Message) -> tuple[str, bytes]:
    return _sync(gzip.compress(bytes(120 << 20), 9))


def nested(_: Message) -> tuple[str, bytes]:
    return _sync(gzip.compress(b"\x91" * 500_000, 1))


def empty_maps(_: Message) -> tuple[str, bytes]:
    return _sync(gzip.compress(b"\x81\xa7entries\xdd\x00\x40\x00\x00" + b"\x80" * (1 << 22), 1))


def hashed_alike(_: Message) -> tuple[str, bytes]:
    """Keys of a map that are arrays, whose hashes anybody can make collide."""
    return _sync(gzip.compress(b"\x81\xa7unknown\xdf\x00\x00\x4e\x20" + b"\x91\x00\xc0" * 20_000, 1))


def unknown_wide(message: Message) -> tuple[str, bytes]:
    return _raw({"version": 1, "sender_id": NODE_ID, "later": [[0] * 10] * 50_000, "name": message.plan.hostile_name})


def far_epoch(message: Message) -> tuple[str, bytes]:
    names = (message.plan.hostile_name,)
    return _sync(message.own(epoch=2**53 - message.rng.randrange(1000), members=names))


def other_name(message: Message) -> tuple[str, bytes]:
    """The name of another member, with a process newer than its own."""
    return _sync(message.own(name=message.victim(), inc=message.inc + 10_000, since=0))


def no_name(message: Message) -> tuple[str, bytes]:
    """As a node of the original system, while which is a member nobody may write what expires."""
    return _push(Envelope(sender_id=NODE_ID, sender_uuid=b"c" * 16, entries=(message.entry(),), push_only=True))


def million_ranges(message: Message) -> tuple[str, bytes]:
    ranges = tuple((2 * number, 2 * number) for number in range(1, 200_000))
    return _sync(message.own(since=0, floor=0, dots={NODE_ID: ranges}))


def many_origins(message: Message) -> tuple[str, bytes]:
    return _sync(message.own(since=0, floor=0, acks=dict.fromkeys(range(1000, 200000), 1)))


def others_sequences(message: Message) -> tuple[str, bytes]:
    """Cover what honest members have not written yet, so that it would never be sent to anybody."""
    origins = [stamp_origin(port) for port in message.plan.members]
    claims = {origin: 2**60 for origin in origins if origin}
    return _push(message.own(dots=dict.fromkeys(claims, ((1, 2**60),)), push_only=True))


def stamp_origin(member: Ports) -> int | None:
    """Return the origin under which a member writes, as any client sees it."""
    try:
        with connected(member.http) as connection:
            send(connection, request("PUT", "/v1/kv/hostile-probe", b"x"))
            data = connection.recv(4096)
        etag = data.split(b'"')[1]
        return int(etag.split(b".")[1])
    except (OSError, IndexError, ValueError):
        return None


def one_stamp(message: Message) -> tuple[str, bytes]:
    """A delete and a value under one stamp."""
    entry = message.entry()
    contents = (entry._replace(value=None), entry, entry._replace(value=b"other"))
    return _push(message.own(entries=contents, push_only=True))


def future(message: Message) -> tuple[str, bytes]:
    ahead = time.time_ns() // 1_000_000 + 10**12
    return _push(message.own(entries=(message.entry(timestamp=ahead),), now_ms=ahead, push_only=True))


def full_page(message: Message) -> tuple[str, bytes]:
    entries = tuple(message.entry() for _ in range(4096))
    return _push(message.own(entries=entries, push_only=True))


def lists(message: Message) -> tuple[str, bytes]:
    """A list of what this peer does not hold, over everything."""
    listed = tuple(Listed(f"w0-{number}", 1, 5, number + 1) for number in range(2000))
    buckets = tuple(message.rng.randrange(U64_MAX) for _ in range(64))
    return _sync(message.own(since=0, floor=0, buckets=buckets, listed=listed, listed_of=U64_MAX))


def invented_peers(message: Message) -> tuple[str, bytes]:
    name = f"peer-{message.rng.randrange(10**9)}"
    return _sync(message.own(name=name, since=0, floor=0, acks=dict.fromkeys(range(1, 5000), 1)))


def odd_keys(message: Message) -> tuple[str, bytes]:
    entries = tuple(message.entry(key=key) for key in ("\0", "\n\r", "k" * 1025, "é" * 600))
    return _push(message.own(entries=entries, push_only=True))


def empty_page(message: Message) -> tuple[str, bytes]:
    return _sync(message.own(since=0, page=Page((1, 1), last=False), page_pos=U64_MAX, resume_from=(1, U64_MAX)))


ATTACKS: dict[str, Body] = {
    "bomb": bomb,
    "nested": nested,
    "empty-maps": empty_maps,
    "hashed-alike": hashed_alike,
    "unknown-wide": unknown_wide,
    "far-epoch": far_epoch,
    "other-name": other_name,
    "no-name": no_name,
    "million-ranges": million_ranges,
    "many-origins": many_origins,
    "others-sequences": others_sequences,
    "one-stamp": one_stamp,
    "future": future,
    "full-page": full_page,
    "lists": lists,
    "invented-peers": invented_peers,
    "odd-keys": odd_keys,
    "empty-page": empty_page,
}
HEAVY_SHARE = 0.02
"""Of the turns, those in which the costliest messages are sent; they take the sender longer than the receiver."""
HEAVY = frozenset(("bomb", "full-page", "million-ranges", "many-origins", "unknown-wide", "empty-maps", "lists"))


class Sender(threading.Thread):
    """Sends one message after the other, to one member after the other."""

    def __init__(self, plan: Plan, counts: Counts, context: ssl.SSLContext | None) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._plan = plan
        self._counts = counts
        self._context = context
        self._rng = random.Random(plan.seed)
        self._message = Message(plan, self._rng)

    def run(self) -> None:
        names = [name for name in ATTACKS if name not in self._plan.skipped]
        while names and not self.over.wait(self._plan.pace_seconds):
            name = self._rng.choice(names)
            if name in HEAVY and self._rng.random() > HEAVY_SHARE * len(names):
                continue
            try:
                self._send(name)
            except OSError as error:
                self._counts.add(f"{name}: {type(error).__name__}")

    def _send(self, name: str) -> None:
        route, body = ATTACKS[name](self._message)
        member = self._rng.choice(self._plan.members)
        with connected(member.peer, 20) as plain:
            connection: socket.socket = plain
            if self._context is not None:
                connection = self._context.wrap_socket(plain, server_hostname="127.0.0.1")
            send(connection, request("POST", f"/wavekv/{route}/persistent", body, CONTENT))
            status, answer = answer_of(connection)
        code = ""
        if status != 200:
            try:
                code = f" {json.loads(answer)['code']}"
            except (ValueError, KeyError, TypeError):
                code = " other"
        self._counts.add(f"{name}: {status}{code}")


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers honest members as the member it has the name of, badly."""

    plan: Plan
    counts: Counts
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one exchange or push."""
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(min(length, 16 << 20))
        rng = random.Random(time.time_ns())
        kind = rng.choice(("message", "bomb", "endless", "slow", "garbage", "refusal"))
        self.counts.add(f"answered: {kind}")
        getattr(self, f"_{kind}")(rng)

    def _body(self, body: bytes, status: int = 200, content_type: str = CONTENT["Content-Type"]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _message(self, rng: random.Random) -> None:
        names = [name for name in ATTACKS if name not in {*self.plan.skipped, *HEAVY}] or ["empty-page"]
        self._body(ATTACKS[rng.choice(names)](Message(self.plan, rng))[1])

    def _bomb(self, _: random.Random) -> None:
        self._body(gzip.compress(bytes(20 << 20), 9))

    def _endless(self, _: random.Random) -> None:
        self.send_response(200)
        self.send_header("Content-Type", CONTENT["Content-Type"])
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _number in range(ENDLESS_BYTES >> 16):
            self.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    def _slow(self, _: random.Random) -> None:
        for _number in range(100):
            self.wfile.write(b"H")
            time.sleep(0.1)

    def _garbage(self, rng: random.Random) -> None:
        self._body(rng.randbytes(5000))

    def _refusal(self, rng: random.Random) -> None:
        """Say that the asker has been superseded."""
        name = rng.choice(self.plan.members).name
        problem = {"code": "stale_process", "detail": "x", "member": name, "newest": 2**53}
        self._body(json.dumps(problem).encode(), 403, "application/problem+json")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Serves `Answers`; what a client does to a connection is no fault."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


def serve(plan: Plan, counts: Counts, context: ssl.SSLContext | None) -> Server | None:
    """Answer as the hostile member, where it has a port."""
    if not plan.hostile_port or "answers" in plan.skipped:
        return None
    handler = type("Bound", (Answers,), {"plan": plan, "counts": counts})
    server = Server(("127.0.0.1", plan.hostile_port), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def contexts(plan: Plan) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Return how it connects and how it serves: with the key it holds, verifying nobody."""
    if not plan.files:
        return None, None
    found = []
    for purpose in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(purpose)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(plan.files["cert"], plan.files["key"])
        found.append(context)
    return found[0], found[1]


def main() -> None:
    """Attack until told to stop; answer with what came of it."""
    commands = lines()
    plan = Plan.read(next(commands))
    counts = Counts()
    client, server_side = contexts(plan)
    serve(plan, counts, server_side)
    sender = Sender(plan, counts, client)
    sender.start()
    assert next(commands) == "stop"
    sender.over.set()
    sender.join(30)
    tell({"counts": counts.all()})


if __name__ == "__main__":
    main()
