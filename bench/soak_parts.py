"""What the processes of the soak share: the plan of the cluster, one line in and one JSON object out, raw requests.

The soak starts each part as a process of its own, so that a part that is busy does not slow the clock of another one.
A part is told the plan as its first line of input, works until the next line, and answers with one JSON object.
"""

import json
import select
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.member_process import ROOT, MemberProcess

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Where one member listens."""

    name: str
    http: int
    resp: int
    peer: int
    metrics: int


@dataclass(frozen=True)
class Plan:
    """What a part is told: the members, which part it plays, and how hard."""

    members: tuple[Ports, ...]
    cluster_id: str
    pace_seconds: float = 0.05
    """Between two attacks of one kind."""
    skipped: tuple[str, ...] = ()
    """Attacks left out, by name."""
    seed: int = 1
    files: Mapping[str, str] = field(default_factory=dict)
    """TLS files of the hostile peer: cert, key, ca; none where the peer plane is plain."""
    hostile_name: str = "m3"
    hostile_port: int = 0
    """Where the hostile peer answers as a member."""
    floor_port: int = 0
    """Where the server that does nothing listens (`soak_honest`, `floor`)."""
    busy_port: int = 0
    """The same for one that is as busy as a member; 0: there is none."""
    busy_share: float = 0.0
    """Of a processor, which that one uses up."""

    def line(self) -> bytes:
        """Return the plan as a part's first line of input."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def read(line: str) -> "Plan":
        """Return the plan that a line says."""
        fields = json.loads(line)
        members = tuple(Ports(**member) for member in fields.pop("members"))
        return Plan(members, skipped=tuple(fields.pop("skipped")), **fields)

    def processes(self) -> list[MemberProcess]:
        """Return the members as the tests know them, to be asked and not to be started."""
        return [MemberProcess(Path(port.name), **asdict(port)) for port in self.members]


class Part:
    """A part that runs."""

    def __init__(self, module: str, plan: Plan, *arguments: str, nice: int = 0) -> None:
        """Start `module`; `nice` is added to its priority: that attackers use up the processor is not what is tried."""
        self.module = module
        command = ["nice", "-n", str(nice), sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self._send(plan.line())

    def _send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def ask(self, line: str, seconds: float = 120) -> dict[str, Any]:
        """Send `line` and return the answer."""
        assert self.process.stdout is not None
        self._send(line.encode() + b"\n")
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"{self.module} does not answer {line!r} within {seconds} s")
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.module} ended with code {self.process.wait()}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()


def lines() -> Iterator[str]:
    """Yield the lines that the soak sends to this part."""
    for line in sys.stdin:
        yield line.strip()


def tell(answer: Mapping[str, Any]) -> None:
    """Answer the soak."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class Counts:
    """What happened, counted by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counted[name] += number

    def all(self) -> dict[str, int]:
        """Return what was counted, by name."""
        with self._lock:
            return dict(sorted(self._counted.items()))


def connected(port: int, seconds: float = 5) -> socket.socket:
    """Return a connection to a port of this machine."""
    connection = socket.create_connection((HOST, port), timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def send(connection: socket.socket, data: bytes) -> None:
    """Send what the other side takes before the timeout; an unread half is not waited for."""
    view = memoryview(data)
    try:
        while view:
            view = view[connection.send(view[: 1 << 16]) :]
    except TimeoutError:
        return


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """Read one HTTP answer with a length; return its status and body.

    Raises:
        OSError: it does not come, or not whole.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionError("closed before an answer")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head[9:12])
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise ConnectionError("closed inside an answer")
        body += chunk
    return status, body


def request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, host: str = "localhost"
) -> bytes:
    """Return the bytes of an HTTP request."""
    lines_ = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines_ += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method in {"PUT", "POST"}:
        lines_.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines_, "", ""]).encode() + body


def command(*words: bytes | str) -> bytes:
    """Return a Redis command."""
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)
