"""`wavekv local`: its supervisor with stand-ins for members, and the real command with real ones."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.member_process import free_base_port
from wavekv.__main__ import run
from wavekv.cli import supervisor as supervising
from wavekv.cli.errors import MemberFailed
from wavekv.cli.local_plan import MemberPlan, plan_members
from wavekv.cli.supervisor import Supervised, Supervisor

# Answers /v1/status with its process id at the port it is told.
STAND_IN = """
import http.server, json, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"pid": os.getpid(), "phase": "ready"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STAND_IN
BROKEN = "import sys; print('the disk is on fire'); sys.exit(2)"

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def stand_ins(tmp_path: Path, *programs: str) -> list[Supervised]:
    (tmp_path / "logs").mkdir()
    plans: tuple[MemberPlan, ...] = plan_members(len(programs), free_base_port(len(programs)), tmp_path)
    return [
        Supervised(plan, [sys.executable, "-c", program, str(plan.port)])
        for plan, program in zip(plans, programs, strict=True)
    ]


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(supervising, "PAUSE_SECONDS_FIRST", 0.1)
    monkeypatch.setattr(supervising, "STOP_SECONDS", 1.0)


async def until(members: list[Supervised], told: list[str], condition: Callable[[], bool]) -> None:
    """Run the supervisor until `condition`, then stop it."""
    met = asyncio.Event()

    def look() -> None:
        if condition():
            met.set()

    work = asyncio.create_task(Supervisor(members, told.append).run(look))
    waiting = asyncio.create_task(met.wait())
    await asyncio.wait([work, waiting], timeout=30, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    assert met.is_set()


def pids(members: list[Supervised]) -> list[int]:
    return [member.process.pid for member in members if member.process is not None]


async def test_all_members_answer_and_all_are_gone_afterwards(tmp_path: Path) -> None:
    members = stand_ins(tmp_path, STAND_IN, STUBBORN)
    await until(members, [], lambda: all(member.answered for member in members))
    assert len(pids(members)) == 2
    assert not any(alive(pid) for pid in pids(members))


async def test_a_member_that_dies_is_named_and_started_again(tmp_path: Path) -> None:
    members, told = stand_ins(tmp_path, STAND_IN, STAND_IN), list[str]()
    first: list[int] = []

    def killed_once_and_back() -> bool:
        if not first and all(member.answered for member in members):
            first.extend(pids(members))
            os.kill(first[1], signal.SIGKILL)
        return bool(first) and members[1].restarts == 1 and members[1].status is not None

    await until(members, told, killed_once_and_back)
    assert len(told) == 1
    assert told[0].startswith("member m1 ended (signal 9)")
    assert members[0].restarts == 0


async def test_a_member_that_cannot_start_stops_all_and_shows_its_log(tmp_path: Path) -> None:
    members = stand_ins(tmp_path, STAND_IN, BROKEN)
    with pytest.raises(MemberFailed, match=r"m1 ended \(exit code 2\)[\s\S]*the disk is on fire"):
        await Supervisor(members, lambda text: None).run(lambda: None)
    assert not any(alive(pid) for pid in pids(members))


def test_a_tethered_process_dies_with_its_parent(tmp_path: Path) -> None:
    program = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "wavekv.cli.tether", str(os.getpid()), "import", "-",
                          "--format", "lines"], stdin=subprocess.PIPE)
child.stdin.write(b"// begun\\n")
child.stdin.flush()
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT) as parent:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        child = int((tmp_path / "pid").read_text())
        wait_until(lambda: b"import" in Path(f"/proc/{child}/cmdline").read_bytes())
        # The tether is on when the command runs; its reading thread, which begins with the input, is the sign.
        wait_until(lambda: len(list(Path(f"/proc/{child}/task").iterdir())) > 1)
        parent.kill()
    wait_until(lambda: not alive(child))


def test_a_tethered_process_whose_parent_is_gone_already_does_nothing() -> None:
    command = [sys.executable, "-m", "wavekv.cli.tether", "1", "--version"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_taken_port_is_named_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = free_base_port(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 12))
        taken.listen()
        assert run(["local", "--members", "2", "--base-port", str(base), "--data-dir", str(tmp_path / "d")]) == 1
    assert f"port {base + 12} (member m1)" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


@contextlib.contextmanager
def local(base: int, data_dir: Path, members: int = 3) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "wavekv", "local", "--plain", "--base-port", str(base)]
    command += ["--data-dir", str(data_dir), "--members", str(members)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(port: int, path: str, method: str = "GET", data: bytes | None = None) -> bytes | None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=data)
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError):
        return None


def test_a_value_put_on_one_member_is_read_on_another_and_after_a_restart(tmp_path: Path) -> None:
    base = free_base_port(3)
    with local(base, tmp_path / "d") as process:
        wait_until(lambda: ask(base, "/v1/kv/greeting", "PUT", b"hello") is not None)
        wait_until(lambda: ask(base + 20, "/v1/kv/greeting") == b"hello")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert f"data stays in {tmp_path / 'd'}" in process.stdout.read().decode().splitlines()[-1]
    assert ask(base, "/v1/status") is None
    with local(base, tmp_path / "d") as process:
        wait_until(lambda: ask(base + 10, "/v1/kv/greeting") == b"hello")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_no_member_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    base = free_base_port(2)
    with local(base, tmp_path / "d", members=2) as process:
        wait_until(lambda: ask(base, "/v1/status") and ask(base + 10, "/v1/status"))
        assert json.loads(ask(base, "/v1/status") or b"")["name"] == "m0"
        process.kill()
    wait_until(lambda: ask(base, "/v1/status") is None and ask(base + 10, "/v1/status") is None)
