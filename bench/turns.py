"""The longest turn of the loop that each kind of request causes, over a million keys.

One process runs a store of `--keys` entries with the HTTP and Redis planes, and measures between any two turns how long
the loop's thread was on a processor; a child process attacks. Prints a table; exits 1 if a turn exceeds `--most-ms`.

    python -m bench.turns --keys 1000000
"""

import argparse
import asyncio
import base64
import json
import os
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import uvloop

from tests.fakes.peers import DeadTransport
from wavekv.cli.process import SystemRng
from wavekv.config import Address, GossipSettings, Limits
from wavekv.core.identity import Identity
from wavekv.core.image import Image
from wavekv.core.membership import Membership
from wavekv.core.ops import Set, SetExpiring
from wavekv.core.packed import pack
from wavekv.core.replica import Replica
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.http_api import HttpApi
from wavekv.metrics import Metrics
from wavekv.resp import RespServer
from wavekv.runtime.engine import Engine, MemorySyncing
from wavekv.runtime.listening import open_loopback
from wavekv.runtime.settling import keep_settled
from wavekv.runtime.starting import unpaused_by_collections
from wavekv.runtime.watchdog import Watchdog

LIMITS = replace(Limits(), entries_max=4_000_000, bytes_max=8 << 30)
_EXPIRING_SECONDS = 1_000_000
_PATIENCE_SECONDS = 60.0

Attack = Callable[["Ports"], None]


class Ports(NamedTuple):
    """Where the planes listen."""

    http: int
    resp: int


class Clock:
    """The machine's clocks, with the wall clock moved on by hand."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def monotonic(self) -> float:
        return time.monotonic()


class Turns:
    """Measures the processor time of the loop's thread from turn to turn."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._at = 0.0
        self._running = False

    def begin(self) -> None:
        self.longest, self._at, self._running = 0.0, time.thread_time(), True
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest, self._at = max(self.longest, now - self._at), now
        if self._running:
            asyncio.get_running_loop().call_soon(self._turn)

    def end(self) -> float:
        self._running = False
        return self.longest


# ---- the store ---------------------------------------------------------------------------------------------------


def key_of(number: int) -> str:
    """Return the key of a number: in the order of numbers."""
    return f"key/{number:08}"


def filled(count: int, *, expiring: bool = False) -> Store:
    """Return a store of `count` live entries of 16 bytes."""
    now_ms = time.time_ns() // 1_000_000
    store = Store(LIMITS.changes_max)
    for number in range(count):
        stamp = (now_ms - 1000, 7, number + 1)
        if expiring:
            store.apply(SetExpiring(Entry(key_of(number), bytes(16), *stamp, now_ms + _EXPIRING_SECONDS * 1000)))
        else:
            store.apply(Set(Entry(key_of(number), bytes(16), *stamp)))
    return store


def unordered(count: int) -> Store:
    """Return a store as a long replay leaves it: its keys are not in order, nor is its digest made."""
    image = Image(ordered=False)
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        image.packed[key_of(number)] = pack(Entry(key_of(number), b"v", 1, 7, number + 1))
    image.keys, image.values = list(image.packed), count
    return Store(LIMITS.changes_max, image)


async def nothing() -> None:
    """Keep no epoch."""


def serving(store: Store, clock: Clock) -> Engine:
    """Return an engine over `store` whose log is memory."""
    identity = Identity("m0", 9, uuid.UUID(int=9).bytes, store.process.inc + 1, None)
    membership = Membership("m0", None, None, ("m0",))
    replica = Replica(identity, store, membership, LIMITS, SystemRng())
    replica.writable = None
    return Engine(
        replica,
        MemorySyncing(),
        DeadTransport(),
        clock=clock,
        observer=Metrics(),
        limits=LIMITS,
        settings=GossipSettings(),
        rng=random.Random(1),
        on_round=lambda _: None,
        keep_epoch=nothing,
        on_superseded=lambda: None,
        status=dict,
    )


# ---- the attacks -------------------------------------------------------------------------------------------------


def _words(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def redis(data: bytes, until: bytes | None = None) -> Attack:
    """Send commands and a last PING that nothing else answers, and read until it is answered."""

    def attack(ports: Ports) -> None:
        with socket.create_connection(("127.0.0.1", ports.resp), _PATIENCE_SECONDS) as connection:
            sender = data + _words(b"ECHO", b"the-end-of-it")
            child = os.fork()
            if not child:
                connection.sendall(sender)
                os._exit(0)
            tail = b""
            while (until or b"the-end-of-it") not in tail:
                part = connection.recv(1 << 20)
                if not part:
                    break
                tail = tail[-64:] + part
            os.waitpid(child, 0)

    return attack


def http(method: str, target: str, body: bytes = b"", *headers: str, times: int = 1) -> Attack:
    """Send one request, some times, and read each answer."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    request = "\r\n".join([*lines, "", ""]).encode() + body

    def attack(ports: Ports) -> None:
        for _ in range(times):
            with socket.create_connection(("127.0.0.1", ports.http), _PATIENCE_SECONDS) as connection:
                connection.sendall(request)
                answer = connection.makefile("rb")
                length = 0
                while (line := answer.readline().strip()) != b"":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                answer.read(length)

    return attack


def _keys(count: int) -> list[bytes]:
    return [key_of(number).encode() for number in range(count)]


JSON = "Content-Type: application/json"


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _batch(count: int, value: bytes) -> bytes:
    encoded = base64.b64encode(value).decode()
    return _json({"operations": [{"op": "put", "key": f"b/{n}", "value_base64": encoded} for n in range(count)]})


def attacks() -> dict[str, Attack]:
    """Return every attack over a million settled keys, by name."""
    some, many = _keys(1000), _keys(60_000)
    return {
        "resp: GET x 20000 in one pipeline": redis(_words(b"GET", some[0]) * 20_000),
        "resp: SET x 20000 in one pipeline": redis(_words(b"SET", b"p", b"v") * 20_000),
        "resp: SET of 1 MiB x 60": redis(_words(b"SET", b"large", bytes(1 << 20)) * 60),
        "resp: GET of 1 MiB x 1000": redis(_words(b"GET", b"large") * 1000),
        "resp: KEYS * x 200": redis(_words(b"KEYS", b"*") * 200),
        "resp: KEYS of 10000 x 100": redis(_words(b"KEYS", b"key/0000*") * 100),
        "resp: SCAN COUNT 1000000 x 500": redis(_words(b"SCAN", b"0", b"COUNT", b"1000000") * 500),
        "resp: EXISTS of 60000": redis(_words(b"EXISTS", *many)),
        "resp: MGET of 1000 x 200": redis(_words(b"MGET", *some) * 200),
        "resp: MGET of 8 x 1 MiB x 30": redis(_words(b"MGET", *[b"large"] * 8) * 30),
        "resp: MSET of 1000": redis(_words(b"MSET", *[word for key in some for word in (key, b"v")]) * 20),
        "resp: MSET of 30000": redis(_words(b"MSET", *[word for key in many[:30_000] for word in (key, b"v")])),
        "resp: MGET of 60000": redis(_words(b"MGET", *many)),
        "resp: EXEC of 1000 SETs x 20": redis(
            (_words(b"MULTI") + b"".join(_words(b"SET", key, b"v") for key in some) + _words(b"EXEC")) * 20
        ),
        "resp: EXEC of 1000 APPENDs to one key": redis(
            _words(b"MULTI") + _words(b"APPEND", b"appended", b"v") * 1000 + _words(b"EXEC")
        ),
        "resp: KEYS of stars x 3": redis(_words(b"KEYS", b"*[ab]?" * 170 + b"x") * 3),
        "resp: KEYS of a long class x 3": redis(_words(b"KEYS", b"*" + b"[a-z0-9/]" * 110 + b"*") * 3),
        "resp: RANDOMKEY x 1000": redis(_words(b"RANDOMKEY") * 1000),
        "resp: inline lines of quotes x 100": redis((b"ECHO" + b' "a"' * 16_000 + b"\r\n") * 100),
        "resp: DEL of 60000": redis(_words(b"DEL", *many)),
        "resp: EXPIRE x 20000": redis(b"".join(_words(b"EXPIRE", key, b"1000") for key in _keys(70_000)[60_000:])),
        "resp: CONFIG GET of 60000 patterns": redis(_words(b"CONFIG", b"GET", *[b"*a*b%d" % n for n in range(60_000)])),
        "resp: CONFIG GET of stars x 1000": redis(_words(b"CONFIG", b"GET", *[b"*a" * 15] * 16) * 1000),
        "resp: COMMAND INFO x 1000": redis(_words(b"COMMAND", b"INFO", *[b"get"] * 510) * 100),
        "resp: INFO x 2000": redis(_words(b"INFO") * 2000),
        "resp: nested arrays": redis(b"*60000\r\n" * 100_000, until=b"-ERR"),
        "resp: a value full of headers": redis(_words(b"SET", b"h", b"\r\n*1\r\n" * 150_000) * 5),
        "http: listing of 1000": http("GET", "/v1/kv?limit=1000", times=20),
        "http: listing of 8 x 1 MiB": http("GET", "/v1/kv?limit=1000&prefix=l/", times=3),
        "http: listing, keys only, of large values": http("GET", "/v1/kv?limit=1000&prefix=l/&keys_only=true", times=3),
        "http: multi-get of 1000": http("POST", "/v1/multi-get", _json({"keys": [k.decode() for k in some]}), JSON),
        "http: multi-get of 8 MiB": http(
            "POST", "/v1/multi-get", _json({"keys": [f"m/{n}" for n in range(1000)]}), JSON
        ),
        "http: batch of 1000": http("POST", "/v1/batch", _batch(1000, b"v"), JSON, times=3),
        "http: batch of 1000 of 8 KiB": http("POST", "/v1/batch", _batch(1000, bytes(8000)), JSON, times=3),
        "http: unclosed string": http("POST", "/v1/batch", b'"' + b'\\"' * 40_000 + b"," * 220_000, JSON),
        "http: a body of commas": http("POST", "/v1/batch", b"," * (16 << 20), JSON),
        "http: a body of objects": http("POST", "/v1/batch", b'{"operations":[' + b'{"a":1},' * 100_000 + b"1]}", JSON),
        "http: a body of numbers": http("POST", "/v1/batch", b'{"operations":[' + b"1.5e10," * 210_000 + b"1]}", JSON),
        "http: a body of one string": http(
            "POST", "/v1/batch", b'{"operations":["' + b"\\n" * (8 << 20) + b'"]}', JSON
        ),
        "http: conditions": http("GET", "/v1/kv/large", b"", "If-None-Match: " + ", ".join(['"a"'] * 3000), times=20),
        "http: session of 1000 ranges": http(
            "GET", "/v1/kv/b?timeout=1", b"", "Wavekv-Session: " + ",".join(f"{n}.9" for n in range(1, 1000)), times=3
        ),
        "http: openapi": http("GET", "/openapi.json", times=5),
        "http: explain": http("GET", "/v1/explain/large", times=20),
    }


# ---- running -----------------------------------------------------------------------------------------------------


async def attacked(attack: Attack, ports: Ports, turns: Turns) -> float:
    """Run one attack in a child process; return the longest turn in milliseconds."""
    child = os.fork()
    if not child:
        signal.alarm(int(_PATIENCE_SECONDS))
        try:
            attack(ports)
        finally:
            os._exit(0)
    turns.begin()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    return turns.end() * 1000


async def under(work: Any, turns: Turns) -> float:
    """Run a periodic task; return the longest turn in milliseconds."""
    turns.begin()
    await work
    return turns.end() * 1000


async def large_values(engine: Engine) -> None:
    """Store what the attacks on large values ask for."""
    await engine.values.put("large", bytes(1 << 20))
    for number in range(300):
        await engine.values.put(f"l/{number:03}", bytes(1 << 20))
    for number in range(1000):
        await engine.values.put(f"m/{number}", bytes(8200))


async def expired_at_once(store: Store, turns: Turns) -> float:
    """All keys of a store expire in one instant; tell of them."""
    clock = Clock()
    engine = serving(store, clock)
    await engine.start()
    clock.ahead_ms = 2 * _EXPIRING_SECONDS * 1000
    task = asyncio.create_task(engine.expire())
    turns.begin()
    while store.live():
        await asyncio.sleep(0.005)
    task.cancel()
    return turns.end() * 1000


async def first_listing(store: Store, turns: Turns) -> float:
    """List a store whose keys are not in order yet."""
    clock = Clock()
    found = serving(store, clock).values.list("", None, 1000)
    task = asyncio.create_task(keep_settled(store, Watchdog(clock, LIMITS.turn_ms_max)))
    turns.begin()
    more = True
    while more:
        await asyncio.sleep(0)
        more = found.step()
    task.cancel()
    assert len(found.entries) == min(1000, len(store.packed))
    return turns.end() * 1000


async def settled(store: Store, turns: Turns) -> float:
    """Do what a start left to do."""
    turns.begin()
    task = asyncio.create_task(keep_settled(store, Watchdog(Clock(), LIMITS.turn_ms_max)))
    while store.settle(0):
        await asyncio.sleep(0.002)
    task.cancel()
    return turns.end() * 1000


async def run(count: int, chosen: Sequence[str]) -> dict[str, float]:
    """Return the longest turn of each kind in milliseconds."""
    turns, clock = Turns(), Clock()
    with unpaused_by_collections():
        engine = serving(filled(count), clock)
        await engine.start()
        await large_values(engine)
    sockets = [open_loopback([Address("127.0.0.1", 0)]) for _ in range(2)]
    ports = Ports(*(bound[0].getsockname()[1] for bound in sockets))
    plane = HttpApi(engine.values, None, LIMITS, Metrics(), clock)
    resp = RespServer(engine.values, LIMITS, Metrics(), clock)
    await plane.start(sockets[0])
    await resp.start(sockets[1])
    found = {}
    for name, attack in attacks().items():
        if not chosen or any(part in name for part in chosen):
            found[name] = await attacked(attack, ports, turns)
            print(f"{found[name]:9.1f} ms  {name}", flush=True)
    await plane.stop()
    await resp.stop()
    if not chosen or "task" in chosen:
        with unpaused_by_collections():
            expiring, first, left = filled(count // 4, expiring=True), unordered(count), unordered(count)
        found["task: all keys expire at once"] = await expired_at_once(expiring, turns)
        found["task: the first listing after a replay"] = await first_listing(first, turns)
        found["task: what a start left to do"] = await settled(left, turns)
        for name in list(found)[-3:]:
            print(f"{found[name]:9.1f} ms  {name}")
    return found


def main(arguments: Sequence[str]) -> int:
    """Print the table; return 1 if a turn took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--most-ms", type=float, default=float(Limits().turn_ms_max))
    parser.add_argument("only", nargs="*", help="attacks whose name holds one of these")
    given = parser.parse_args(arguments)
    found = uvloop.run(run(given.keys, given.only))
    return int(max(found.values()) > given.most_ms)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
