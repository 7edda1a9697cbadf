"""What one hostile client may cost a member: memory stays within the budgets of the planes, and others are served.

Each test holds as much as it can in one way, measures the member's resident memory, and asks beside it.
"""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.member_process import Cluster, MemberProcess, eventually, fetch

MIB = 1 << 20
SLACK_MIB = 96
"""Beyond a budget: what the allocator keeps, buffers of one turn, and the connections themselves."""
HTTP_MIB, WATCH_MIB, PEER_MIB = 128, 64, 128
"""The defaults of the budgets."""
DESCRIPTORS = 512


@pytest.fixture
def member(tmp_path: Path) -> Iterator[MemberProcess]:
    with Cluster(1, tmp_path) as cluster:
        cluster.start()
        yield cluster[0]


class Crowd:
    """Connections to one port, closed together."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.open: list[socket.socket] = []

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.open:
            one.close()

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """Open one more; `receive_bytes` is what its kernel takes before the client reads."""
        one = socket.socket()
        if receive_bytes is not None:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        one.settimeout(5)
        one.connect(("127.0.0.1", self._port))
        self.open.append(one)
        return one


def send_patiently(one: socket.socket, data: bytes) -> None:
    """Send what the member takes; stop when it takes no more or has cut the connection."""
    one.settimeout(0.2)
    with contextlib.suppress(OSError):
        one.sendall(data)


def memory_mib(member: MemberProcess) -> float:
    assert member.process is not None
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def most_memory_mib(member: MemberProcess, seconds: float) -> float:
    """Return the greatest resident memory in the next `seconds`."""
    most, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        most = max(most, memory_mib(member))
        time.sleep(0.05)
    return most


def assert_serves(member: MemberProcess) -> None:
    """Assert that others read and write while the attack goes on, and that probes pass."""
    assert member.put("honest", b"value").status in {200, 201}
    assert member.get("honest") == b"value"
    assert fetch(member.metrics, "GET", "/livez").status == 200


def closed(member: MemberProcess, plane: str) -> dict[str, float]:
    """Return how many connections the member refused or closed, by reason."""
    start = f'wavekv_connections_closed_total{{plane="{plane}",reason="'
    lines = [line for line in member.scrape().splitlines() if line.startswith(start)]
    return {line.removeprefix(start).partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


# ---- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [(), ("X-Slow-Way: 1",)])
def test_answers_that_one_connection_does_not_read_are_not_piled_up(
    member: MemberProcess, extra: Sequence[str]
) -> None:
    """1500 reads of 1 MiB on one connection held 1.5 GB."""
    member.put("large", bytes(MIB))
    before = memory_mib(member)
    with Crowd(member.http) as crowd:
        one = crowd.connect(receive_bytes=4096)
        for _ in range(150):
            send_patiently(one, head("GET", "/v1/kv/large", *extra) * 10)
        assert most_memory_mib(member, 1) - before < SLACK_MIB
        assert_serves(member)


def test_answers_that_many_connections_do_not_read_stay_within_the_budget(member: MemberProcess) -> None:
    """Memory is at most half as much again as the budget, also while some are cut and others take their place."""
    member.put("large", bytes(MIB))
    before = memory_mib(member)
    with Crowd(member.http) as crowd:
        for _ in range(400):
            send_patiently(crowd.connect(receive_bytes=4096), head("GET", "/v1/kv/large") * 4)
        assert most_memory_mib(member, 1) - before < 1.5 * HTTP_MIB
        eventually(lambda: memory_mib(member) - before < HTTP_MIB + SLACK_MIB, 10, "what was cut is given back")
        assert_serves(member)
        assert closed(member, "http")["memory_budget"] > 0


def test_half_bodies_stay_within_the_budget(member: MemberProcess) -> None:
    """60 bodies of 16 MiB, each short of its last byte, held 900 MB."""
    before = memory_mib(member)
    size = 16 * MIB
    begun = head("POST", "/v1/batch", "Content-Type: application/json", f"Content-Length: {size}") + bytes(size - 1)
    with Crowd(member.http) as crowd:
        for _ in range(40):
            send_patiently(crowd.connect(), begun)
        assert most_memory_mib(member, 1) - before < HTTP_MIB + SLACK_MIB
        assert_serves(member)
        assert closed(member, "http")["memory_budget"] > 0


def test_a_body_over_the_budget_is_told_so(tmp_path: Path) -> None:
    with Cluster(1, tmp_path) as cluster:
        member = cluster.start()[0]
        begun = head("PUT", "/v1/kv/k", f"Content-Length: {MIB}") + bytes(MIB - 1)
        with Crowd(member.http) as crowd:
            first = crowd.connect()
            send_patiently(first, begun)
            for _ in range(160):
                send_patiently(crowd.connect(), begun)
            first.settimeout(5)
            answer = first.recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in answer
        assert b'"memory_budget"' in answer


def test_half_messages_of_the_peer_plane_stay_within_the_budget(member: MemberProcess) -> None:
    before = memory_mib(member)
    size = 16 * MIB
    lines = ("Content-Type: application/x-msgpack-gz", f"Content-Length: {size}")
    begun = head("POST", "/wavekv/sync2/persistent", *lines) + bytes(size - 1)
    with Crowd(member.peer) as crowd:
        for _ in range(30):
            send_patiently(crowd.connect(), begun)
        assert most_memory_mib(member, 1) - before < PEER_MIB + SLACK_MIB
        assert_serves(member)


def test_heads_without_an_end_hold_little(member: MemberProcess) -> None:
    before = memory_mib(member)
    filler = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 8000) for number in range(120))
    with Crowd(member.http) as crowd:
        for _ in range(200):
            one = crowd.connect()
            send_patiently(one, b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n")
            send_patiently(one, filler)
        assert most_memory_mib(member, 1) - before < SLACK_MIB
        assert_serves(member)


def test_watches_that_nobody_reads_stay_within_the_budget(member: MemberProcess) -> None:
    """A watch of 100 values of 1 MiB held 102 MiB, 200 of them ended in MemoryError."""
    for number in range(100):
        member.put(f"large-{number:03}", bytes(MIB // 2))
    before = memory_mib(member)
    with Crowd(member.http) as crowd:
        for _ in range(150):
            send_patiently(crowd.connect(receive_bytes=4096), head("GET", "/v1/watch?prefix=large"))
        assert most_memory_mib(member, 2) - before < WATCH_MIB + SLACK_MIB
        assert_serves(member)


def test_events_that_nobody_reads_stay_within_the_budget(member: MemberProcess) -> None:
    before = memory_mib(member)
    with Crowd(member.http) as crowd:
        for _ in range(100):
            send_patiently(crowd.connect(receive_bytes=4096), head("GET", "/v1/watch?prefix=large"))
        for number in range(60):
            member.put(f"large-{number % 4}", bytes(MIB))
        assert most_memory_mib(member, 1) - before < WATCH_MIB + SLACK_MIB
        assert_serves(member)


# ---- connections and descriptors -------------------------------------------------------------------------------------


class Poor(MemberProcess):
    """A member that may open few files."""

    def command(self) -> list[str]:
        return ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh", *super().command()]


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[MemberProcess]:
    with Cluster(1, tmp_path) as cluster:
        cluster.members[0] = Poor(**{name: getattr(cluster[0], name) for name in MemberProcess.__dataclass_fields__})
        yield cluster.start()[0]


def test_idle_connections_take_no_descriptor_from_the_log(poor: MemberProcess) -> None:
    """400 idle connections under a limit of 512 ended the member with disk_failed when it began a segment."""
    with Crowd(poor.http) as data, Crowd(poor.peer) as peers, Crowd(poor.metrics) as metrics, Crowd(poor.resp) as resp:
        for crowd in (data, peers, metrics, resp):
            for _ in range(400):
                crowd.connect()
        assert fetch(poor.metrics, "GET", "/livez").status == 200
        for number in range(40):  # more than two segments
            path = f"/v1/kv/k{number}"
            eventually(lambda path=path: poor.request("PUT", path, bytes(MIB)).status in {200, 201}, 5, "a write")
    assert poor.running
    assert "disk_failed" not in poor.log
    assert "512 open files are allowed" in poor.log


def test_probes_and_scrapes_get_in_while_strangers_hold_the_plane(member: MemberProcess) -> None:
    with Crowd(member.metrics) as crowd:
        for number in range(300):
            send_patiently(crowd.connect(), (b"", b"GET /me", head("GET", "/livez"))[number % 3])
        for path in ("/livez", "/readyz", "/metrics"):
            assert fetch(member.metrics, "GET", path).status == 200
    assert closed(member, "metrics")["evicted"] > 0


@pytest.mark.parametrize("plane", ["http", "peer", "metrics"])
def test_a_connection_that_sends_half_a_head_is_told_and_closed(member: MemberProcess, plane: str) -> None:
    with Crowd(getattr(member, plane)) as crowd:
        one = crowd.connect()
        one.sendall(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n")
        one.settimeout(20)
        answer = b""
        while piece := one.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_too_slow"' in answer
    assert closed(member, plane)["head"] == 1


@pytest.mark.parametrize("plane", ["peer", "metrics"])
def test_a_connection_that_says_nothing_is_closed(member: MemberProcess, plane: str) -> None:
    with Crowd(getattr(member, plane)) as crowd:
        one = crowd.connect()
        one.settimeout(20)
        assert one.recv(1) == b""
    assert closed(member, plane)["first_byte"] == 1
