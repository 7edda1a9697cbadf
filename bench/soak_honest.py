"""The honest clients of the soak: writers whose every acknowledged write is looked for in the end, readers, watchers.

    python -m bench.soak_honest write|read|floor|busy-floor     (started by bench.soak)

`write`: writers over HTTP with puts, deletes, expiries and batches through any member (`tests.integration.load`);
writers over the Redis protocol, each through one member; watchers that build a map from events, through restarts, and
have to end with what the member holds. `read`: one request at a time to each member in turn, timed.
"""

import asyncio
import http.client
import random
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import uvloop

from bench.soak_parts import HOST, Counts, Plan, Ports, answer_of, command, connected, lines, request, tell
from tests.integration.load import Writer, listing
from tests.integration.sse import Watcher

WRITERS = 2
KEYS = 200
REDIS_KEYS = 50
REDIS_SPACING_SECONDS = 0.02
READ_SPACING_SECONDS = 0.004
READ_KEYS = 100
SETTLED_SECONDS = 60.0
BURST_SECONDS = 0.0003
FLOOR_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100


class RedisWriter(threading.Thread):
    """SETs and DELs its own keys through one member; `held` is what was acknowledged last, `doubtful` what was not."""

    def __init__(self, member: Ports, seed: int) -> None:
        super().__init__(daemon=True)
        self.member = member
        self.held: dict[str, str | None] = {}
        self.doubtful: dict[str, set[str | None]] = {}
        self.acknowledged = self.refused = self.unanswered = 0
        self.over = threading.Event()
        self._rng = random.Random(seed)
        self._count = 0

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with connected(self.member.resp, 10) as connection:
                    while not self.over.wait(REDIS_SPACING_SECONDS):
                        self._write(connection)
            except OSError:
                self.over.wait(0.2)

    def _write(self, connection: Any) -> None:
        key = f"redis-{self.member.name}-{self._rng.randrange(REDIS_KEYS)}"
        self._count += 1
        value = None if self._rng.random() < 0.2 else f"{key}-{self._count}"
        doubt = self.doubtful.setdefault(key, set())
        doubt.add(value)
        try:
            connection.sendall(command("DEL", key) if value is None else command("SET", key, value))
            reply = connection.recv(4096)
            if not reply:
                raise ConnectionError("closed")
        except OSError:
            self.unanswered += 1
            raise
        if reply.startswith(b"-"):
            self.refused += 1
            doubt.discard(value)
        else:
            self.acknowledged += 1
            self.held[key] = value
            self.doubtful[key] = set()

    def complaints(self, found: dict[str, str]) -> list[str]:
        """Return which acknowledged writes are not in `found`."""
        wrong = []
        for key, value in self.held.items():
            if found.get(key) not in {value, *self.doubtful[key]}:
                wrong.append(f"{key}: {found.get(key)!r} in place of {value!r}")
        return wrong


class Follower(threading.Thread):
    """Watches a prefix of one member and keeps what the events came to."""

    def __init__(self, member: Ports, prefix: str) -> None:
        super().__init__(daemon=True)
        self.member = member
        self.prefix = prefix
        self.seen: dict[str, str] = {}
        self.events = self.resumed = self.begun = 0
        self.over = threading.Event()
        self._token: str | None = None

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._follow()
            except (OSError, http.client.HTTPException, AssertionError):
                self.over.wait(0.2)  # the member was killed, or cut us as slow: go on from the token

    def _follow(self) -> None:
        query = f"?prefix={self.prefix}" + (f"&since={self._token}" if self._token else "")
        with Watcher(self.member.http, query, timeout=20) as watcher:
            if watcher.status != 200:
                if watcher.problem().get("code") == "watch_expired":
                    self._token = None
                self.over.wait(0.2)
                return
            if self._token is None:
                self.seen, self.begun = {}, self.begun + 1
            else:
                self.resumed += 1
            while not self.over.is_set():
                event = watcher.event()
                self.events += 1
                self._token = event.id or self._token
                if event.kind == "put":
                    self.seen[event.data["key"]] = event.data["etag"]
                elif event.kind in {"delete", "expire"}:
                    self.seen.pop(event.data["key"], None)


def write(plan: Plan) -> None:
    """Write and watch until told to stop; then compare."""
    members = plan.processes()
    writers = [Writer(f"w{number}", members, KEYS, random.Random(plan.seed + number)) for number in range(WRITERS)]
    redis = [RedisWriter(member, plan.seed + number) for number, member in enumerate(plan.members)]
    followers = [Follower(member, prefix) for member in plan.members for prefix in ("w", "redis")]
    for thread in (*writers, *redis, *followers):
        thread.start()
    commands = lines()
    assert next(commands) == "stop"
    wrong: list[str] = []
    for writer in writers:
        try:
            writer.stop()
        except AssertionError as failure:
            wrong.append(f"{writer.name}: {failure}")
    for one in redis:
        one.over.set()
        one.join(15)
    tell({"stopped": True})
    assert next(commands) == "check"
    for member in members:
        asked_ms = time.time() * 1000
        found = listing(member)
        answered_ms = time.time() * 1000
        for writer in writers:
            for name, key in writer.keys.items():
                complaint = key.complaint(found.get(name), asked_ms, answered_ms)
                if complaint:
                    wrong.append(f"{member.name}: {name}: {complaint}")
        values = {name: value for name, (_, value) in found.items()}
        for one in redis:
            wrong += [f"{member.name}: {complaint}" for complaint in one.complaints(values)]
    wrong += _behind(followers)
    tallies = [writer.tally for writer in writers]
    tell(
        {
            "acknowledged": sum(t.puts + t.deletes + t.batches for t in tallies) + sum(r.acknowledged for r in redis),
            "refused": sum(t.refused for t in tallies) + sum(one.refused for one in redis),
            "unanswered": sum(t.unanswered for t in tallies) + sum(one.unanswered for one in redis),
            "events": sum(one.events for one in followers),
            "watches_resumed": sum(one.resumed for one in followers),
            "wrong": wrong[:50],
            "lost": len(wrong),
        }
    )


def _behind(followers: Sequence[Follower]) -> list[str]:
    """Return which followers do not come to what their member holds, waiting for the last events."""
    wrong = []
    for one in followers:
        ends = time.monotonic() + SETTLED_SECONDS
        member = Plan((one.member,), "").processes()[0]
        while True:
            held = {key: etag.strip('"') for key, (etag, _) in listing(member).items() if key.startswith(one.prefix)}
            seen = {key: etag.strip('"') for key, etag in one.seen.items()}
            if held == seen:
                break
            if time.monotonic() > ends:
                differing = sorted(key for key in held.keys() | seen.keys() if held.get(key) != seen.get(key))
                wrong.append(f"the watch of {one.prefix} at {one.member.name} differs at {differing[:5]}")
                break
            time.sleep(0.2)
        one.over.set()
    return wrong


class Reader(threading.Thread):
    """Reads small values of one member, one at a time, and times each."""

    def __init__(self, member: Ports) -> None:
        super().__init__(daemon=True)
        self.member = member
        self.seconds: list[float] = []
        self.counts = Counts()
        self.over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            try:
                with connected(self.member.http) as connection:
                    while not self.over.wait(READ_SPACING_SECONDS):
                        number += 1
                        self._read(connection, number % READ_KEYS)
            except OSError:
                self.counts.add("unanswered")
                self.over.wait(0.1)

    def _read(self, connection: Any, number: int) -> None:
        asked = request("GET", f"/v1/kv/read-{number}")
        begun = time.perf_counter()
        connection.sendall(asked)
        status, _ = answer_of(connection)
        spent = time.perf_counter() - begun
        self.counts.add(f"{status}")
        if status in {200, 404}:
            self.seconds.append(spent)


def read(plan: Plan) -> None:
    """Read until told to stop."""
    floors = [Ports("floor", plan.floor_port, 0, 0, 0)]
    floors += [Ports("busy floor", plan.busy_port, 0, 0, 0)] if plan.busy_port else []
    readers = [Reader(member) for member in (*plan.members, *floors)]
    for reader in readers:
        reader.start()
    assert next(lines()) == "stop"
    for reader in readers:
        reader.over.set()
        reader.join(10)
    answer: dict[str, Any] = {}
    for reader in readers:
        answer[reader.member.name] = {**quantiles(reader.seconds), "answers": reader.counts.all()}
    answer["all"] = quantiles([spent for reader in readers[: len(plan.members)] for spent in reader.seconds])
    tell(answer)


class Nothing(asyncio.Protocol):
    """Answers each request with the same bytes, as a member answers a read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(FLOOR_ANSWER * data.count(b"\r\n\r\n"))


def floor(plan: Plan, *, busy: bool = False) -> None:
    """Serve nothing until the process is ended: what a read takes here, it takes of the machine.

    With `busy` it also uses up as much of a processor as a member does, a third of a millisecond at a time: what a read
    takes there, it takes of a machine that such processes share, however short their turns are.
    """

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Nothing, HOST, plan.busy_port if busy else plan.floor_port)
        if busy:
            burn(loop, plan.busy_share)
        await server.serve_forever()

    uvloop.run(serve())


def burn(loop: asyncio.AbstractEventLoop, share: float) -> None:
    """Use up this share of a processor, for good."""
    ends = time.thread_time() + BURST_SECONDS
    while time.thread_time() < ends:
        pass
    loop.call_later(BURST_SECONDS * (1 - share) / share, burn, loop, share)


def busy_floor(plan: Plan) -> None:
    """Serve nothing, and be busy."""
    floor(plan, busy=True)


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return how long reads took, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {"reads": 0}

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return {"reads": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1)}


if __name__ == "__main__":
    {"write": write, "read": read, "floor": floor, "busy-floor": busy_floor}[sys.argv[1]](Plan.read(next(lines())))
