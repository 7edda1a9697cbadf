"""Conditional writes on a real member: what races for one key, and what the command line makes of it."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.member_process import Cluster, MemberProcess

CLIENTS = 8
STEPS = 20


@pytest.fixture
def member(tmp_path: Path) -> Iterator[MemberProcess]:
    with Cluster(1, tmp_path) as cluster:
        yield cluster.start()[0]


def together(count: int, run: object) -> None:
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_many_clients_that_create_one_key_at_once_one_does(member: MemberProcess) -> None:
    statuses: Counter[int] = Counter()

    def create(number: int) -> None:
        for step in range(STEPS):
            answer = member.request("PUT", f"/v1/kv/k{step}", str(number).encode(), {"If-None-Match": "*"})
            statuses[answer.status] += 1

    together(CLIENTS, create)
    assert statuses == {201: STEPS, 412: STEPS * (CLIENTS - 1)}


def test_counting_by_compare_and_set_loses_no_step(member: MemberProcess) -> None:
    member.put("n", b"0")

    def count(_number: int) -> None:
        done = 0
        while done < STEPS:
            held = member.request("GET", "/v1/kv/n")
            more = str(int(held.body) + 1).encode()
            done += member.request("PUT", "/v1/kv/n", more, {"If-Match": held.headers["ETag"]}).status == 200

    together(CLIENTS, count)
    assert member.get("n") == str(CLIENTS * STEPS).encode()
    member.kill()
    member.start().wait_ready()
    assert member.get("n") == str(CLIENTS * STEPS).encode()


def test_the_command_line_puts_on_condition(member: MemberProcess) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "wavekv", *arguments, "--url", member.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert run("put", "k", "1", "--if-absent")[0] == 0
    code, said = run("put", "k", "2", "--if-absent")
    assert (code, "precondition_failed" in said) == (1, True)
    etag = json.loads(run("get", "k", "--json")[1])["etag"]
    assert run("put", "k", "3", "--if-match", etag)[0] == 0
    assert run("put", "k", "4", "--if-match", etag)[0] == 1
    assert member.get("k") == b"3"
