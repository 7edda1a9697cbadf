"""Watches of real members: where one resumes after a stop, a kill and a rollback, and thousands at once."""

import asyncio
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.member_process import MemberProcess, eventually
from tests.integration.sse import Watcher

WATCHERS = 2000


def test_a_watch_resumes_after_a_clean_stop_and_a_kill_and_not_on_a_volume_rolled_back(
    one: MemberProcess, tmp_path: Path
) -> None:
    one.put("a", b"1")
    with Watcher(one.http) as watcher:
        assert [event.kind for event in watcher.until_synced()] == ["put", "synced"]
        one.put("a", b"2")
        watcher.event()
        first = watcher.token
        assert one.terminate() == 0
        assert watcher.event().kind == "stopping"
    shutil.copytree(one.data_dir, tmp_path / "copy")

    one.start().wait_ready()
    one.put("b", b"1")
    with Watcher(one.http, f"?since={first}") as watcher:
        assert [(event.kind, event.data.get("key")) for event in watcher.until_synced()] == [
            ("put", "b"),
            ("synced", None),
        ]
        one.put("c", b"1")
        assert watcher.event().data["key"] == "c"
        second = watcher.token
    one.delete("c")
    one.kill()

    one.start().wait_ready()
    with Watcher(one.http, f"?since={second}") as watcher:
        assert [event.kind for event in watcher.until_synced()] == ["delete", "synced"]
    one.kill()

    shutil.rmtree(one.data_dir)
    shutil.copytree(tmp_path / "copy", one.data_dir)
    one.start().wait_ready()
    for number in range(20):
        one.put(f"other-{number}", b"")
    with Watcher(one.http, f"?since={second}") as refused:
        assert (refused.status, refused.problem()["code"]) == (410, "watch_expired")
    with Watcher(one.http, f"?since={first}") as watcher:
        assert len(watcher.until_synced()) == 21


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Allow this process as many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def watch(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a watch and return once it has said `synced`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/watch?prefix=shared/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"event: synced")
    await reader.readuntil(b"\n\n")
    return reader, writer


def test_two_thousand_watchers_of_one_member_each_get_one_event(one: MemberProcess) -> None:
    async def run() -> None:
        watchers = []
        for _ in range(WATCHERS // 100):
            watchers += await asyncio.gather(*(watch(one.http) for _ in range(100)))
        status = await asyncio.to_thread(one.status)
        assert status["watches"]["open"] == WATCHERS
        await asyncio.to_thread(one.put, "shared%2Fflag", b"on")
        events = await asyncio.gather(*(reader.readuntil(b"\n\n") for reader, _ in watchers))
        assert all(b"event: put" in event and b'"shared/flag"' in event for event in events)
        await asyncio.to_thread(one.put, "shared%2Fend", b"")
        last = await asyncio.gather(*(reader.readuntil(b"\n\n") for reader, _ in watchers))
        assert all(b'"shared/end"' in event for event in last), "one event each, not two"
        for _, writer in watchers:
            writer.close()

    with descriptors(WATCHERS + 100):
        started = time.monotonic()
        asyncio.run(run())
        assert time.monotonic() - started < 20
    eventually(lambda: one.status()["watches"]["open"] == 0, 10, "all watches are closed")
    assert one.status()["watches"]["cut"] == 0
