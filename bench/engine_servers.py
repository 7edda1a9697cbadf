"""The servers that `bench.engine` starts: a lone member and redis-server, with their processor time and memory.

Both are asked in the same way and equally often whether they serve, over raw sockets, by a client that does next to
nothing. Processor seconds are the kernel's own account of the whole process.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from bench.engine_data import CLUSTER_ID, Pair, command
from tests.integration.member_process import MemberProcess, free_ports

REDIS = "redis-server"
TOOLS = (REDIS, "redis-benchmark")
ROOMY = {
    "WAVEKV_LIMIT_ENTRIES": "4000000",
    "WAVEKV_LIMIT_BYTES": "4Gi",
    "WAVEKV_COMPACT_LOG_BYTES": "16Gi",
    "WAVEKV_COMPACT_AGE": "86400",
}
"""Of a member that is to hold a million keys, and not to compact them by itself."""
_ASKED_SECONDS = 0.005
_STARTED_SECONDS_MAX = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
MSET_PAIRS = 500


class Cost(NamedTuple):
    """What something took, in wall-clock and in processor seconds."""

    wall: float
    processor: float


def missing_tools() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in TOOLS if shutil.which(name) is None]


def processor_seconds(pid: int) -> float:
    """Return what a process has run, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None, "a running process has resident memory"
    return int(found[1]) * 1024


def children(pid: int) -> list[int]:
    """Return the processes that a process started, those of its threads included."""
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


class Connection:
    """A socket that speaks Redis commands or HTTP requests, one answer at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """Send a request; return what comes back first."""
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        if not answer:
            raise ConnectionResetError("the server closed the connection")
        return answer

    def close(self) -> None:
        self._socket.close()

    def fill(self, items: Sequence[Pair]) -> None:
        """Store `items` by MSETs."""
        for at in range(0, len(items), MSET_PAIRS):
            words = [word for key, value in items[at : at + MSET_PAIRS] for word in (key.encode(), value)]
            answer = self.ask(command(b"MSET", *words))
            if answer != b"+OK\r\n":
                raise RuntimeError(f"MSET was answered {answer!r}")


def started(pid: int, port: int, request: bytes, expected: bytes) -> Cost:
    """Wait until `request` is answered with what begins with `expected`; the process was started just now."""
    begun = time.perf_counter()
    while time.perf_counter() - begun < _STARTED_SECONDS_MAX:
        try:
            connection = Connection(port)
            try:
                if connection.ask(request).startswith(expected):
                    return Cost(time.perf_counter() - begun, processor_seconds(pid))
            finally:
                connection.close()
        except ConnectionError:
            pass
        time.sleep(_ASKED_SECONDS)
    raise TimeoutError(f"nothing serves on port {port} after {_STARTED_SECONDS_MAX} s")


def get_request(key: str) -> bytes:
    return f"GET /v1/kv/{key} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@contextmanager
def member_on(data_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[MemberProcess]:
    """Start a lone member; it is not waited for."""
    http, resp, peer, metrics = free_ports(4)
    member = MemberProcess(data_dir, "m0", http=http, resp=resp, peer=peer, metrics=metrics, cluster_id=CLUSTER_ID)
    member.environment = {**ROOMY, **(environment or {})}
    try:
        yield member.start()
    finally:
        member.kill()


def pid_of(member: MemberProcess) -> int:
    assert member.process is not None, "it was started"
    return member.process.pid


@dataclass
class RedisProcess:
    """One redis-server on a directory."""

    folder: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--port", str(self.port), "--dir", str(self.folder), "--bind", "127.0.0.1", "--save", ""]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen([REDIS, *arguments, *self.options], stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None, "it was started"
        self.process.kill()
        self.process.wait()

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        assert self.process is not None, "it was started"
        return self.process.pid

    def started(self) -> Cost:
        """Wait until it has loaded its data."""
        return started(self.pid, self.port, command(b"PING"), b"+PONG")

    def require_keys(self, count: int) -> None:
        """Fail unless it holds so many keys."""
        connection = Connection(self.port)
        held = connection.ask(command(b"DBSIZE"))
        connection.close()
        if held != b":%d\r\n" % count:
            raise RuntimeError(f"{REDIS} holds {held!r} keys, not {count}")

    def aof_seconds(self) -> float:
        """Return how long it says that loading its append-only file took."""
        found = re.search(r"DB loaded from incr file \S+: ([\d.]+) seconds", self.log_file.read_text())
        if found is None:
            raise RuntimeError(f"{REDIS} did not say how long it loaded: {self.log_file.read_text()[-500:]}")
        return float(found[1])

    def used_memory_rss(self) -> int:
        """Return what it says is resident; it looks ten times a second."""
        time.sleep(0.3)
        connection = Connection(self.port)
        try:
            found = re.search(rb"used_memory_rss:(\d+)", connection.ask(command(b"INFO", b"memory")))
        finally:
            connection.close()
        assert found is not None, "INFO names it"
        return int(found[1])


AOF_OPTIONS = ("--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--auto-aof-rewrite-percentage", "0")
