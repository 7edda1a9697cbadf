"""Clients that ask a member of 200 000 keys for as much as they may, and what one who only reads notices of it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.member_process import Cluster, MemberProcess

KEYS = 200_000
WORST_SECONDS = 0.5
"""Of a probe's reads; one of these attacks alone held the loop for 22 s before work went by slices."""


def words(*given: bytes) -> bytes:
    return b"*%d\r\n" % len(given) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in given)


def key(number: int) -> bytes:
    return b"key/%07d" % number


def asked(port: int, data: bytes, until: bytes) -> bytes:
    """Send more than the member may read at once; return the end of what it says, up to `until` or its close."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        sending = threading.Thread(target=_send, args=(connection, data))
        sending.start()
        tail = b""
        with contextlib.suppress(ConnectionError):
            while until not in tail and (part := connection.recv(1 << 20)):
                tail = (tail + part)[-4000:]
        sending.join()
    return tail


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it was closed by a refusal
        connection.sendall(data)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcess]:
    with Cluster(1, tmp_path_factory.mktemp("turns")) as cluster:
        running = cluster[0]
        running.start()
        running.wait_ready()
        filling = b"".join(
            words(b"MSET", *[word for number in range(at, at + 500) for word in (key(number), b"v" * 100)])
            for at in range(0, KEYS, 500)
        )
        assert asked(running.resp, filling + words(b"ECHO", b"filled"), b"filled").endswith(b"filled\r\n")
        yield running


def longest_read(member: MemberProcess, while_running: threading.Thread) -> tuple[float, int]:
    """Read a key again and again as long as the thread runs; return the longest time, and how many reads there were."""
    longest, reads = 0.0, 0
    with socket.create_connection(("127.0.0.1", member.resp), 60) as connection:
        while while_running.is_alive():
            began = time.monotonic()
            connection.sendall(words(b"GET", key(7)))
            assert connection.recv(4096).startswith(b"$100\r\n")
            longest, reads = max(longest, time.monotonic() - began), reads + 1
            time.sleep(0.002)
    return longest, reads


def http_body(member: MemberProcess, path: str, body: bytes) -> Callable[[], bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return lambda: asked(member.http, request, b"the connection's end")


END = words(b"ECHO", b"the-end")
REDIS = {
    "KEYS of all, many times": words(b"KEYS", b"*") * 60,
    "KEYS of ten thousand, many times": words(b"KEYS", b"key/000*") * 20,
    "SCAN with a count of a million": words(b"SCAN", b"0", b"COUNT", b"1000000") * 500,
    "EXISTS of very many": words(b"EXISTS", *map(key, range(60_000))) * 3,
    "CONFIG GET of very many patterns": words(b"CONFIG", b"GET", *[b"*a*%d" % number for number in range(60_000)]),
    "a pipeline of reads": words(b"GET", key(1)) * 50_000,
    "DEL of very many": words(b"DEL", *map(key, range(100_000, 130_000))),
}
HTTP = {
    "a string that is not closed": b'"' + b'\\"' * 1_000_000 + b"," * 300_000,
    "a body of commas": b"," * (16 << 20),
    "a body of objects": b'{"operations":[' + b'{"a":1},' * 100_000 + b"1]}",
}


@pytest.mark.parametrize("name", [*REDIS, *HTTP])
def test_a_reader_hardly_notices(member: MemberProcess, name: str) -> None:
    said: list[bytes] = []
    attack = (
        (lambda: asked(member.resp, REDIS[name] + END, b"the-end"))
        if name in REDIS
        else http_body(member, "/v1/batch", HTTP[name])
    )
    attacking = threading.Thread(target=lambda: said.append(attack()))
    attacking.start()
    longest, reads = longest_read(member, attacking)
    attacking.join()
    assert reads > 0
    assert longest < WORST_SECONDS, f"a read took {longest:.3f} s; {member.log[-2000:]}"
    assert (b"the-end" if name in REDIS else b"HTTP/1.1 4") in said[0]


def test_arrays_in_arrays_end_their_connection_at_once(member: MemberProcess) -> None:
    assert b"Protocol error" in asked(member.resp, b"*65536\r\n$0\r\n\r\n" * 100_000, b"the-end")
