"""Clients of Redis that are not ours, unmodified, against a real member; each does what an application does.

What a machine lacks is skipped, or failed where WAVEKV_CLIENTS_REQUIRED names it. Clients of Node, Go and Java are
installed from their registries into a folder of the test; without a registry that counts as lacking.
"""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import redis
from redis.cache import CacheConfig

from tests.integration.clients import install, needed, run
from tests.integration.member_process import Cluster, MemberProcess, eventually

PROGRAMS = Path(__file__).parents[1] / "clients"


def test_ioredis_and_node_redis_work_as_with_redis(one: MemberProcess, tmp_path: Path) -> None:
    node, npm = needed("node"), needed("npm")
    one.wait_ready()
    folder = Path(shutil.copytree(PROGRAMS / "node", tmp_path / "node"))
    install([npm, "install", "--no-audit", "--no-fund"], folder)
    ended = run([node, "clients.js", str(one.resp)], folder)
    assert ended.returncode == 0, ended.stderr


def test_go_redis_works_as_with_redis(one: MemberProcess, tmp_path: Path) -> None:
    go = needed("go")
    one.wait_ready()
    folder = Path(shutil.copytree(PROGRAMS / "go", tmp_path / "go"))
    install([go, "mod", "init", "clients"], folder)
    install([go, "get", "github.com/redis/go-redis/v9@v9.7.0"], folder)
    ended = run([go, "run", ".", str(one.resp)], folder, seconds=300)
    assert ended.returncode == 0, ended.stderr


def test_jedis_and_lettuce_work_as_with_redis(one: MemberProcess, tmp_path: Path) -> None:
    maven = needed("mvn")
    one.wait_ready()
    folder = Path(shutil.copytree(PROGRAMS / "java", tmp_path / "java"))
    install([maven, "-q", "-B", "compile"], folder)
    plugin = "org.codehaus.mojo:exec-maven-plugin:3.5.0:java"
    ended = run([maven, "-q", "-B", plugin, "-Dexec.mainClass=Clients", f"-Dexec.args={one.resp}"], folder, seconds=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_redis_cli_takes_a_file_of_lines_and_mass_insertion(one: MemberProcess) -> None:
    cli = needed("redis-cli")
    one.wait_ready()
    lines = "".join(f"SET key:{number} 'value {number}'\n" for number in range(5000))
    ended = subprocess.run(
        [cli, "-p", str(one.resp), "--pipe"], input=lines, capture_output=True, text=True, timeout=60, check=False
    )
    assert "errors: 0, replies: 5000" in ended.stdout, ended.stdout + ended.stderr
    with redis.Redis(port=one.resp) as client:
        assert client.get("key:4999") == b"value 4999"
        assert client.dbsize() == 5000


def test_a_health_check_by_a_line_is_answered(one: MemberProcess) -> None:
    one.wait_ready()
    with socket.create_connection(("127.0.0.1", one.resp), timeout=10) as checking:
        checking.sendall(b"PING\r\n")
        assert checking.recv(100) == b"+PONG\r\n"
        checking.sendall(b"info replication\r\n")
        assert b"role:master" in checking.recv(1000)
        checking.sendall(b"QUIT\r\n")
        assert checking.recv(100) == b"+OK\r\n"
        assert checking.recv(100) == b""


def test_redis_benchmark_runs_with_its_defaults_for_strings(one: MemberProcess) -> None:
    benchmark = needed("redis-benchmark")
    one.wait_ready()
    names = "ping_inline,ping_mbulk,set,get,mset"
    ended = run([benchmark, "-p", str(one.resp), "-t", names, "-n", "2000", "-q"], PROGRAMS)
    assert ended.returncode == 0
    assert ended.stdout.count("requests per second") == 5, ended.stdout
    assert "rror" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("write", ["peer", "expiry", "delete"])
def test_the_cache_of_redis_py_is_told_of_what_other_members_do(three: Cluster, write: str) -> None:
    first, second, _ = three
    with redis.Redis(port=second.resp) as other:
        other.set("k", "1", px=3000 if write == "expiry" else None)
        with redis.Redis(port=first.resp, protocol=3, cache_config=CacheConfig()) as cached:
            eventually(lambda: cached.get("k") == b"1", 10, "the value arrives")
            assert cached.get("k") == b"1"
            assert cached.get_cache().size == 1
            if write == "peer":
                other.set("k", "2")
            elif write == "delete":
                other.delete("k")
            expected = b"2" if write == "peer" else None
            eventually(lambda: cached.get("k") == expected, 10, "the cache is told")


def test_a_pipeline_that_is_longer_than_a_transaction_says_so_and_works_without_one(one: MemberProcess) -> None:
    one.wait_ready()

    def filled(*, transaction: bool) -> list[object]:
        with redis.Redis(port=one.resp) as client:
            pipe = client.pipeline(transaction=transaction)
            for number in range(5000):
                pipe.set(f"k{number}", "v")
            return pipe.execute()

    with pytest.raises(redis.ResponseError, match="transaction=False"):
        filled(transaction=True)
    assert filled(transaction=False) == [True] * 5000


def test_commands_of_thousands_of_keys_and_megabytes_work(one: MemberProcess) -> None:
    one.wait_ready()
    with redis.Redis(port=one.resp) as client:
        values = {f"k{number:05}": b"v" * 300 for number in range(20_000)}
        assert client.mset(values)
        assert client.mget(list(values)) == list(values.values())
        assert client.exists(*values) == 20_000
        assert client.delete(*values) == 20_000
        assert client.mset({f"large{number}": bytes(1 << 20) for number in range(12)})
        with pytest.raises(redis.ResponseError, match="batch_too_large"):
            client.mget([f"large{number}" for number in range(12)])


@pytest.mark.parametrize("size", [2 << 20, 50 << 20])
def test_a_value_that_is_too_large_is_told_before_the_connection_ends(one: MemberProcess, size: int) -> None:
    one.wait_ready()
    with redis.Redis(port=one.resp) as client:
        with pytest.raises(redis.ResponseError, match=r"value_too_large|command too long"):
            client.set("k", bytes(size))
        assert client.ping()
