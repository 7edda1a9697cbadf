"""A member answers as redis-server does, but for a documented list of differences.

Needs redis-server; without it skipped, or failed where WAVEKV_CLIENTS_REQUIRED names it.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clients import needed
from tests.integration.member_process import MemberProcess, eventually, free_ports
from tests.integration.redis_differential import Client, differences


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    program = needed("redis-server", "WAVEKV_REDIS_SERVER")
    (port,) = free_ports(1)
    arguments = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: not Client(port, 2).close(), 20, "redis-server answers")
        yield port
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("proto", [2, 3])
def test_a_member_answers_as_redis_does(one: MemberProcess, redis_port: int, proto: int) -> None:
    one.wait_ready()
    assert differences(one.resp, redis_port, count=3000, seed=proto, proto=proto) == []
