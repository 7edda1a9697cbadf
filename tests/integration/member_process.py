"""Real members for tests and benchmarks: processes of `wavekv serve` on loopback ports and real directories.

Everything waits for a condition with a deadline and fails with what was waited for and the end of the member's log.
Ports come from below the range the kernel gives to outgoing connections, so that no client takes one in between.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).resolve().parents[2]
_LOG_TAIL_BYTES = 4000


class Answer(NamedTuple):
    """An HTTP answer, read completely."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Unmet(AssertionError):
    """A condition did not come true before its deadline, or no longer can."""


def eventually(condition: Callable[[], Any], deadline: float, what: str) -> Any:
    """Return the first true value of `condition`, asked every few milliseconds for `deadline` seconds.

    Connection errors count as not yet. Raises `Unmet` naming `what` and the last value or error.
    """
    ends = time.monotonic() + deadline
    while True:
        try:
            last = condition()
        except (OSError, http.client.HTTPException) as error:
            last = error
        else:
            if last:
                return last
        if time.monotonic() > ends:
            raise Unmet(f"not within {deadline} s: {what}; last seen: {last!r}")
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Return `count` different loopback ports that nothing listens on."""
    generator = random.SystemRandom()
    ports: set[int] = set()
    while len(ports) < count:
        port = generator.randrange(10_000, 32_000)
        if _is_free(port):
            ports.add(port)
    return sorted(ports)


def free_base_port(members: int) -> int:
    """Return a port from which `wavekv local` finds all the ports of so many members free."""
    while True:
        (base,) = free_ports(1)
        if all(_is_free(base + 10 * member + plane) for member in range(members) for plane in range(4)):
            return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def fetch(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Do one HTTP request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


@dataclass
class MemberProcess:
    """One member: its directory and ports outlive its processes, so it can be killed and started again."""

    data_dir: Path
    name: str
    http: int
    resp: int
    peer: int
    metrics: int
    peers: Mapping[str, str] = field(default_factory=dict)
    """URL of each peer's peer plane, by name."""
    cluster_id: str = "00000000-0000-4000-8000-000000000001"
    peer_flags: Sequence[str] = ("--insecure-peers",)
    """How the peer plane is secured: this, or the three --tls-* flags."""
    extra_args: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    module: str = "wavekv"
    """What Python runs."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def peer_url(self) -> str:
        scheme = "http" if "--insecure-peers" in self.peer_flags else "https"
        return f"{scheme}://127.0.0.1:{self.peer}"

    @property
    def socket(self) -> Path:
        """The data plane's unix socket; beside the directory, whose path may be too long for one."""
        return self.data_dir.with_suffix(".sock")

    @property
    def log_file(self) -> Path:
        return self.data_dir.with_suffix(".log")

    @property
    def log(self) -> str:
        """All that the member's processes wrote to stdout and stderr."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def command(self) -> list[str]:
        flags = {
            "--data-dir": self.data_dir,
            "--name": self.name,
            "--cluster-id": self.cluster_id,
            "--listen": f"127.0.0.1:{self.http}",
            "--socket": self.socket,
            "--resp-listen": f"127.0.0.1:{self.resp}",
            "--peer-listen": f"127.0.0.1:{self.peer}",
            "--metrics-listen": f"127.0.0.1:{self.metrics}",
        }
        arguments = [str(part) for pair in flags.items() for part in pair]
        for name, url in self.peers.items():
            arguments += ["--peer", f"{name}={url}"]
        return [sys.executable, "-m", self.module, "serve", *arguments, *self.peer_flags, *self.extra_args]

    def start(self) -> Self:
        """Start a process; it is not ready yet."""
        if self.running:
            raise RuntimeError(f"{self.name} already runs")
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WAVEKV_")}
        environment = {**inherited, "PYTHONPATH": str(ROOT / "sidecar"), **self.environment}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        return self

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait_started(self, deadline: float = 20) -> Self:
        """Wait for /startupz."""
        return self._wait_probe("/startupz", deadline)

    def wait_ready(self, deadline: float = 20) -> Self:
        """Wait for /readyz."""
        return self._wait_probe("/readyz", deadline)

    def wait_exit(self, deadline: float = 20) -> int:
        """Wait for the process to end by itself and return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise Unmet(f"{self.name} did not exit within {deadline} s; its log ends:\n{self._log_tail()}") from None

    def _wait_probe(self, path: str, deadline: float) -> Self:
        def passed() -> bool:
            if not self.running:
                code = self.process.returncode if self.process else None
                raise Unmet(f"{self.name} is not running (exit code {code}); its log ends:\n{self._log_tail()}")
            return fetch(self.metrics, "GET", path).status == 200

        try:
            eventually(passed, deadline, f"{self.name} answers 200 on {path}")
        except Unmet as unmet:
            raise Unmet(f"{unmet}\nits log ends:\n{self._log_tail()}") from None
        return self

    def _log_tail(self) -> str:
        return self.log[-_LOG_TAIL_BYTES:]

    def kill(self) -> None:
        """SIGKILL, and wait; nothing if it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self, deadline: float = 20) -> int:
        """SIGTERM, and return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.wait_exit(deadline)

    def pause(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    # ---- as a client of it -------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Do one request to the data plane."""
        return fetch(self.http, method, path, body, headers)

    def put(self, key: str, value: bytes) -> Answer:
        """Store `value` under a key that needs no percent-encoding; refusals fail."""
        answer = self.request("PUT", f"/v1/kv/{key}", value)
        assert answer.status in {200, 201}, answer
        return answer

    def get(self, key: str) -> bytes | None:
        """Return the value of a key that needs no percent-encoding, None if it has none; refusals fail."""
        answer = self.request("GET", f"/v1/kv/{key}")
        assert answer.status in {200, 404}, answer
        return answer.body if answer.status == 200 else None

    def delete(self, key: str) -> Answer:
        return self.request("DELETE", f"/v1/kv/{key}")

    def wait_value(self, key: str, value: bytes | None, deadline: float = 20) -> None:
        """Wait until the member reads `value` (None: nothing) under `key`."""
        eventually(lambda: self.get(key) == value, deadline, f"{self.name} reads {value!r} at {key!r}")

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.request("GET", "/v1/status").json()
        return status

    def scrape(self) -> str:
        """Return /metrics as text."""
        return fetch(self.metrics, "GET", "/metrics").body.decode()


class Cluster:
    """`count` members that are each other's peers, named m0, m1, …; use it in a `with` block, which kills them."""

    def __init__(self, count: int, folder: Path, extra_args: Sequence[str] = ()) -> None:
        ports = iter(free_ports(4 * count))
        cluster_id = str(uuid.uuid4())
        self.members = [
            MemberProcess(
                data_dir=folder / f"m{index}",
                name=f"m{index}",
                http=next(ports),
                resp=next(ports),
                peer=next(ports),
                metrics=next(ports),
                cluster_id=cluster_id,
                extra_args=extra_args,
            )
            for index in range(count)
        ]
        for member in self.members:
            member.peers = {other.name: other.peer_url for other in self.members if other is not member}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self.members:
            member.kill()

    def __getitem__(self, index: int) -> MemberProcess:
        return self.members[index]

    def start(self, deadline: float = 30) -> Self:
        """Start all members that do not run and wait until every one is ready."""
        for member in self.members:
            if not member.running:
                member.start()
        for member in self.members:
            member.wait_ready(deadline)
        return self

    def wait_everywhere(self, key: str, value: bytes | None, deadline: float = 20) -> None:
        """Wait until every running member reads `value` (None: nothing) under `key`."""
        for member in self.members:
            if member.running:
                member.wait_value(key, value, deadline)

    def wait_converged(self, deadline: float = 30) -> None:
        """Wait until every running member reports convergence, and they cover the same writes.

        A member reports convergence over what was issued five seconds ago; the equal contexts add what came since.
        """

        def converged() -> bool:
            statuses = [member.status() for member in self.members if member.running]
            first = statuses[0]
            return all(
                status["converged"]
                and status["context"] == first["context"]
                and status["store"]["live"] == first["store"]["live"]
                for status in statuses
            )

        eventually(converged, deadline, "all members are converged")
