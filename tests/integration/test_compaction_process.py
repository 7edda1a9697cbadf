"""The compacting process, killed while it works: what it leaves is as good as before, and the next one succeeds."""

import json
import subprocess
import sys
from pathlib import Path

from tests.fakes.segments import write_identity, write_segments
from wavekv.core.ops import Set
from wavekv.core.types import Entry
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
