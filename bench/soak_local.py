"""The hostile local clients of the soak, and the hostile page: what they send, and what must not come of it.

    python -m bench.soak_local client|page     (started by bench.soak)

`client`: half requests and slow ones on every plane, answers that nobody reads, watches that nobody reads, long
pipelines, storms of KEYS, nested and long documents, floods of connections: each within what any process on the machine
may do. Answers are counted by their status or error; what is refused is as good as what is answered. `page`: requests
as a browser sends them for a page of another site; none of them may be taken, and its key must never exist.
"""

import contextlib
import json
import random
import sys
import threading
from collections.abc import Callable

from bench.soak_parts import Counts, Plan, Ports, answer_of, command, connected, lines, request, send, tell

VALUE = b"\0" * (1 << 20)
HELD_SECONDS = 8.0
"""How long half requests and unread answers are held."""
HELD_CONNECTIONS = 20
PIPELINED = 200
PAGE_KEY = "a-page-wrote-this"

Attack = Callable[["Hostile", Ports], None]


class Hostile(threading.Thread):
    """Repeats one attack against one member after the other."""

    def __init__(self, name: str, attack: Attack, plan: Plan, counts: Counts) -> None:
        super().__init__(name=name, daemon=True)
        self.over = threading.Event()
        self.rng = random.Random(f"{plan.seed} {name}")
        self._attack = attack
        self._plan = plan
        self._counts = counts

    def run(self) -> None:
        while not self.over.wait(self._plan.pace_seconds * self.rng.uniform(0.5, 1.5)):
            member = self.rng.choice(self._plan.members)
            try:
                self._attack(self, member)
            except OSError as error:
                self.count(type(error).__name__)

    def count(self, what: object) -> None:
        self._counts.add(f"{self.name}: {what}")

    def hold(self) -> None:
        """Keep what is open as it is for a while."""
        self.over.wait(HELD_SECONDS)

    def http(self, member: Ports, data: bytes) -> int:
        """Send one request to the data plane; return and count its status."""
        with connected(member.http) as connection:
            send(connection, data)
            status, _ = answer_of(connection)
        self.count(status)
        return status


# ---- clients ---------------------------------------------------------------------------------------------------------


def _half(port: Callable[[Ports], int], part: bytes) -> Attack:
    def attack(self: Hostile, member: Ports) -> None:
        with contextlib.ExitStack() as stack:
            held = []
            for _ in range(HELD_CONNECTIONS):
                held.append(stack.enter_context(connected(port(member))))
                send(held[-1], part)
            for _ in range(4):
                self.over.wait(HELD_SECONDS / 4)
                for connection in held:
                    with contextlib.suppress(OSError):
                        send(connection, b"x")
            self.count("held")

    return attack


def unread_answers(self: Hostile, member: Ports) -> None:
    """Ask for the longest value again and again, and read nothing."""
    with connected(member.http, 2) as connection:
        send(connection, request("PUT", "/v1/kv/hostile-long", VALUE))
        send(connection, request("GET", "/v1/kv/hostile-long") * PIPELINED)
        self.hold()
        self.count("held")


def unread_replies(self: Hostile, member: Ports) -> None:
    """The same over the Redis protocol."""
    with connected(member.resp, 2) as connection:
        send(connection, command("MGET", *["hostile-long"] * 7) * PIPELINED)
        self.hold()
        self.count("held")


def unread_watches(self: Hostile, member: Ports) -> None:
    """Watch everything on many connections, and read nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(HELD_CONNECTIONS):
            send(stack.enter_context(connected(member.http)), request("GET", "/v1/watch"))
        self.hold()
        self.count("held")


def keys_storm(self: Hostile, member: Ports) -> None:
    """Pipelines of commands that look at all keys."""
    storm = command("KEYS", "*a*b*c*d*") * 50 + command("KEYS", "*") * 5 + command("SCAN", "0", "COUNT", "100000") * 20
    with connected(member.resp, 20) as connection:
        send(connection, storm)
        self.count(_first(connection.recv(4096)))


def config_patterns(self: Hostile, member: Ports) -> None:
    """Very many patterns in one command."""
    with connected(member.resp, 20) as connection:
        send(connection, command("CONFIG", "GET", *["*a*a*a*a*b"] * 5000))
        self.count(_first(connection.recv(4096)))


def nested_replies(self: Hostile, member: Ports) -> None:
    """Arrays in arrays, announced and never sent."""
    with connected(member.resp) as connection:
        send(connection, b"*1048576\r\n" * 200)
        self.count(_first(connection.recv(4096)))


def malformed_commands(self: Hostile, member: Ports) -> None:
    """Random bytes where a command belongs."""
    with connected(member.resp) as connection:
        send(connection, self.rng.randbytes(2000) + b"\r\n")
        self.count(_first(connection.recv(4096)))


def _first(reply: bytes) -> str:
    return reply.split(b"\r\n")[0].split(b" ")[0].decode("ascii", "replace")[:20] or "closed"


def documents(self: Hostile, member: Ports) -> None:
    """Documents that are deep, wide, or quadratic to look at."""
    body = self.rng.choice(
        (
            b"[" * 100_000,
            b'{"operations": [' + b"{}," * 50_000 + b"{}]}",
            b'{"operations": "' + b'\\"' * 40_000,
            b'{"keys": [' + b",".join([b'"k"'] * 50_000) + b"]}",
            json.dumps({"operations": [{"op": "put", "key": "k", "value": 10**300}]}).encode(),
        )
    )
    path = self.rng.choice(("/v1/batch", "/v1/multi-get"))
    self.http(member, request("POST", path, body, {"Content-Type": "application/json"}))


def headers(self: Hostile, member: Ports) -> None:
    """Long headers, forged lines, odd targets."""
    data = self.rng.choice(
        (
            request("GET", "/v1/kv/x", headers={"If-None-Match": '"' + ",".join(["a"] * 8000)}),
            request("GET", "/v1/kv/x", headers={"Wavekv-Session": "A" * 9000}),
            request("GET", "/v1/kv/%0aERROR%20forged%0d"),
            request("GET", "/v1/kv/" + "a" * 20_000),
            request("GET", "/v1/kv?limit=1000&prefix=" + "%00" * 300),
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
            b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fffffffffffff\r\n",
        )
    )
    self.http(member, data)


def listings(self: Hostile, member: Ports) -> None:
    """Pages of everything, pipelined and dropped."""
    with connected(member.http) as connection:
        send(connection, request("GET", "/v1/kv?limit=1000&keys_only=true") * 20)
        self.count(answer_of(connection)[0])


def flood(self: Hostile, member: Ports) -> None:
    """Many connections at once to each plane, closed without a byte."""
    for port in (member.http, member.resp, member.peer, member.metrics):
        with contextlib.ExitStack() as stack:
            for _ in range(HELD_CONNECTIONS):
                stack.enter_context(connected(port, 1))
    self.count("closed")


HEADER = b"GET /v1/kv/x HTTP/1.1\r\nHost: localhost\r\nX: "
MESSAGE = b"POST /wavekv/sync2/persistent HTTP/1.1\r\nHost: localhost\r\nX: "
BODY = b"PUT /v1/kv/hostile-half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n" + b"\0" * 500_000
CLIENT: dict[str, Attack] = {
    "half-header": _half(lambda member: member.http, HEADER),
    "half-body": _half(lambda member: member.http, BODY),
    "half-command": _half(lambda member: member.resp, b"*2\r\n$3\r\nGET\r\n$1000000\r\n" + b"x" * 100_000),
    "half-message": _half(
        lambda member: member.peer, b"POST /wavekv/sync2/persistent HTTP/1.1\r\nHost: localhost\r\nX: "
    ),
    "half-handshake": _half(lambda member: member.peer, b"\x16\x03\x01\x02\x00"),
    "half-probe": _half(lambda member: member.metrics, b"GET /metrics HTTP/1.1\r\nHost: "),
    "unread-answers": unread_answers,
    "unread-replies": unread_replies,
    "unread-watches": unread_watches,
    "keys-storm": keys_storm,
    "config-patterns": config_patterns,
    "nested-replies": nested_replies,
    "malformed-commands": malformed_commands,
    "documents": documents,
    "headers": headers,
    "listings": listings,
    "flood": flood,
}


# ---- a page ----------------------------------------------------------------------------------------------------------

FOREIGN = (
    {"Origin": "https://attacker.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.attacker.example"},
)
REBOUND = "attacker.example"
FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")


def page_request(self: Hostile, member: Ports) -> None:
    """Send one request to the data plane as a foreign page would; any answer but a refusal is a hole."""
    method, path, body = self.rng.choice(
        (
            ("PUT", f"/v1/kv/{PAGE_KEY}", b"x"),
            ("GET", "/v1/kv/read-1", b""),
            ("DELETE", "/v1/kv/read-1", b""),
            ("POST", "/v1/batch", json.dumps({"operations": [{"op": "put", "key": PAGE_KEY, "value": "x"}]}).encode()),
            ("GET", "/v1/watch", b""),
        )
    )
    if self.rng.random() < 0.3:
        data = request(method, path, body, host=REBOUND)
    else:
        told = {**self.rng.choice(FOREIGN), "Content-Type": self.rng.choice(FORMS), "Sec-Fetch-Site": "cross-site"}
        data = request(method, path, body, told)
    with connected(member.http) as connection:
        send(connection, data)
        status, _ = answer_of(connection)
    self.count(f"{method} {status}" if status >= 400 else f"HOLE {method} {path} {status}")


def page_message(self: Hostile, member: Ports) -> None:
    """Send a message of a member to the peer plane, as a form of a foreign page would."""
    told = {**self.rng.choice(FOREIGN), "Content-Type": self.rng.choice(FORMS), "Sec-Fetch-Site": "cross-site"}
    with connected(member.peer) as connection:
        send(connection, request("POST", "/wavekv/push/persistent", page_push(), told))
        status, _ = answer_of(connection)
    self.count(status if status >= 400 else f"HOLE push {status}")


def page_push() -> bytes:
    """Return a push that stores the page's key."""
    from wavekv.core.codec.envelope import pack  # noqa: PLC0415 - the other parts do without
    from wavekv.core.messages import Envelope  # noqa: PLC0415
    from wavekv.core.types import Entry  # noqa: PLC0415

    entry = Entry(PAGE_KEY, b"x", 1, 0x0BADF00D, 1)
    return pack(Envelope(sender_id=77, entries=(entry,), push_only=True))


PAGE: dict[str, Attack] = {"page": page_request, "page-message": page_message}


def main(attacks: dict[str, Attack]) -> None:
    """Attack until told to stop; answer with what came of it."""
    commands = lines()
    plan = Plan.read(next(commands))
    counts = Counts()
    threads = [Hostile(name, attack, plan, counts) for name, attack in attacks.items() if name not in plan.skipped]
    for thread in threads:
        thread.start()
    assert next(commands) == "stop"
    for thread in threads:
        thread.over.set()
    for thread in threads:
        thread.join(25)
    held = [name for name in (PAGE_KEY,) if _is_there(plan, name)]
    tell({"counts": counts.all(), "holes": [*(name for name in counts.all() if "HOLE" in name), *held]})


def _is_there(plan: Plan, key: str) -> bool:
    for member in plan.members:
        with contextlib.suppress(OSError), connected(member.http) as connection:
            send(connection, request("GET", f"/v1/kv/{key}"))
            if answer_of(connection)[0] == 200:
                return True
    return False


if __name__ == "__main__":
    main({"client": CLIENT, "page": PAGE}[sys.argv[1]])
