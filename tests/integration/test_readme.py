"""The README's commands, run as they stand there against the cluster they speak of."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.member_process import ROOT, eventually, fetch, free_base_port

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
DEFAULT_PORT = 7070


@pytest.fixture(scope="module")
def base_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The first port of a running `wavekv local`."""
    base = free_base_port(3)
    folder = tmp_path_factory.mktemp("readme")
    command = [sys.executable, "-m", "wavekv", "local", "--plain", "--base-port", str(base), "--data-dir", "data"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "sidecar")}
    with (folder / "log").open("wb") as log:
        local = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        for member in range(3):
            eventually(
                lambda m=member: fetch(base + 10 * m + 3, "GET", "/readyz").status == 200, 30, f"m{member} ready"
            )
        yield base
    finally:
        local.send_signal(signal.SIGINT)
        assert local.wait(30) == 0


def adapted(block: str, base: int) -> str:
    """Return a block for the cluster at `base`: other ports, this interpreter, no program that may be missing."""
    shell = re.sub(r"\b70[789]\d\b", lambda port: str(base + int(port[0]) - DEFAULT_PORT), block)
    programs = {"python": sys.executable, "wavekv": f"{sys.executable} -m wavekv"}
    shell = re.sub(r"\.venv/bin/(python|wavekv)", lambda program: programs[program[1]], shell)
    lines = [line for line in shell.splitlines() if not line.startswith("redis-cli")]
    return "\n".join(lines)


def run(block: str, base: int, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "sidecar"), "WAVEKV_URL": f"http://127.0.0.1:{base}"}
    shell = ["sh", "-e", "-c", adapted(block, base)]
    done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_steps_work_as_written(base_port: int, tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if "kv/greeting" in block]
    assert fetch(base_port, "PUT", "/v1/kv/greeting", b"earlier").status == 201
    eventually(lambda: fetch(base_port + 20, "GET", "/v1/kv/greeting").status == 200, 20, "the key is on member 2")
    out = run(block, base_port, tmp_path)
    assert "converged" in out
    eventually(lambda: fetch(base_port + 20, "GET", "/v1/kv/greeting").body == b"hello", 20, "the value is on member 2")


def test_a_value_that_expires_is_read_on_another_member(base_port: int, tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if "ttl=" in block]
    write, read = block.strip().splitlines()
    run(write, base_port, tmp_path)
    eventually(lambda: fetch(base_port + 20, "GET", "/v1/kv/flags/beta").status == 200, 20, "the key is on member 2")
    assert '"expires_at"' in run(read, base_port, tmp_path)


def test_a_write_on_two_members_is_read_with_its_session(base_port: int, tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if "durability=2" in block]
    assert run(block, base_port, tmp_path) == "off"


def test_the_demonstration_writes_the_list_on_one_member_and_reads_it_on_another(
    base_port: int, tmp_path: Path
) -> None:
    (block,) = [block for block in BLOCKS if "PSL=" in block]
    *_, count, value = run(block, base_port, tmp_path).split()
    assert int(count) > 9000
    assert value == "公司.cn"
