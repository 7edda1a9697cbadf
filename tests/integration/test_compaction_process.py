"""The compacting process, killed while it works: what it leaves is as good as before, and the next one succeeds."""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import uvloop

from tests.fakes.segments import write_identity, write_segments
from wavekv.core.ops import Set
from wavekv.core.types import Entry
from wavekv.runtime.compactor import run_worker
from wavekv.snapshot.files import snapshots
from wavekv.snapshot.reading import load
from wavekv.wal.segment import segment_name

SIZE = 20_000


def start(directory: Path, base: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wavekv.compaction", "merge", "--data-dir", str(directory)]
    command += ["--base", str(base), "--last", str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_worker_killed_while_it_works_leaves_base_and_segments(tmp_path: Path) -> None:
    write_identity(tmp_path)
    groups = [[Set(Entry(f"{n:06}", bytes(50), 1, 1, n + 1)) for n in range(at, at + 50)] for at in range(0, SIZE, 50)]
    write_segments(tmp_path, [groups[:200], groups[200:]])
    assert start(tmp_path, 0, 1).communicate(timeout=60)[0].splitlines()[-1].startswith('{"number": 1')
    worker = start(tmp_path, 1, 2)
    assert worker.stdout is not None
    assert "done" in json.loads(worker.stdout.readline())
    worker.kill()
    worker.communicate(timeout=60)
    for found in snapshots(tmp_path):
        load(found.path)
    assert snapshots(tmp_path)[0].number == 1
    assert all((tmp_path / segment_name(number)).exists() for number in (1, 2))
    assert json.loads(start(tmp_path, 1, 2).communicate(timeout=60)[0].splitlines()[-1])["entries"] == SIZE
    assert not list(tmp_path.glob("*.tmp"))


def fields_of(arguments: list[str], read_max: int) -> list[Mapping[str, Any]]:
    """Return what the member reads from a worker, which it leaves after `read_max` lines."""

    async def read() -> list[Mapping[str, Any]]:
        found = []
        async with aclosing(run_worker(arguments)) as lines:
            async for line in lines:
                found.append(line)
                if len(found) == read_max:
                    break
        return found

    return uvloop.run(read())


def test_the_member_reads_a_workers_progress_and_result_and_ends_one_it_leaves(tmp_path: Path) -> None:
    write_identity(tmp_path)
    groups = [[Set(Entry(f"{n:06}", bytes(50), 1, 1, n + 1)) for n in range(at, at + 50)] for at in range(0, SIZE, 50)]
    write_segments(tmp_path, [groups[:200], groups[200:]])
    merge = ["merge", "--data-dir", str(tmp_path), "--base", "0", "--last", "1"]
    assert len(fields_of(merge, 1)) == 1
    found = fields_of(merge, 1000)  # the lock is free again: the first worker is gone
    assert "done" in found[0]
    assert found[-1]["entries"] == SIZE // 2


def test_a_worker_that_cannot_work_is_told_as_an_error(tmp_path: Path) -> None:
    found = fields_of(["merge", "--data-dir", str(tmp_path / "absent"), "--base", "0", "--last", "1"], 1000)
    assert [fields for fields in found if "error" in fields] == [found[-1]]
