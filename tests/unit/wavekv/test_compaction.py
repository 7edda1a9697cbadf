"""Compaction: what a stop, a failure or damage leaves, what becomes of segments, and that memory stays bounded."""

import fcntl
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.disk import BROKEN, FULL, FaultDisk, HastyDisk, PowerCut, fail_on
from tests.fakes.segments import IDENTITY_1, write_identity, write_segments
from tests.fakes.snapshots import TINY, head, write_snapshot
from wavekv.compaction.merge import Merger
from wavekv.compaction.worker import main
from wavekv.config import CompactionSettings, SnapshotSettings
from wavekv.core.ops import Batch, Clear, Op, Set
from wavekv.core.standing import Standing
from wavekv.core.types import Entry
from wavekv.errors import Corruption, ForeignDirectory, NewerVersion, SnapshotDamaged
from wavekv.snapshot.files import snapshot_name, snapshots
from wavekv.snapshot.reading import load
from wavekv.wal.segment import segment_name
from wavekv.wal.spares import retire, take_spare, zero_spares

SMALL = CompactionSettings(batch_keys_max=3, runs_max=2, open_segments_max=1)


def put(number: int, value: bytes = b"v") -> Set:
    return Set(Entry(f"key-{number:03}", value, number, 1, number))


SEGMENTS: list[list[list[Op]]] = [
    [[put(1), put(2)], [put(3)]],
    [[Batch((put(4), Clear("key-001")))], [put(5)]],
    [[put(6), Clear("key-005")], [put(7)]],
]
HELD = {1: ["key-001", "key-002", "key-003"], 2: ["key-002", "key-003", "key-004", "key-005"]}
HELD[3] = ["key-002", "key-003", "key-004", "key-006", "key-007"]


def merger(directory: Path, disk: HastyDisk | FaultDisk | None = None, settings: CompactionSettings = SMALL) -> Merger:
    return Merger(directory, IDENTITY_1, settings, TINY, disk or HastyDisk(), lambda _done, _total: None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return made(tmp_path / "data")


def made(directory: Path) -> Path:
    """Make a directory with three segments and the snapshots 1 and 2."""
    directory.mkdir()
    write_identity(directory)
    write_segments(directory, SEGMENTS)
    merger(directory).merge(0, 1, 0)
    merger(directory).merge(1, 2, 0)
    return directory


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def cut_from(index: int) -> Callable[[str, int], int | None]:
    """Cut the power in place of call `index`; nothing happens behind it."""

    def before(call: str, seen: int) -> int | None:
        if seen >= index:
            raise PowerCut(call)
        return None

    return before


# ---- the merge -----------------------------------------------------------------------------------------------------


def test_the_base_is_kept_and_what_is_older_goes(directory: Path) -> None:
    merged = merger(directory).merge(2, 3, 7)
    assert [found.number for found in snapshots(directory)] == [2, 3]
    assert (merged.head.base, merged.head.created_at, merged.head.number) == (2, 7, 3)
    assert load(merged.path)[1].keys == HELD[3]
    assert (directory / segment_name(1)).exists()


def test_a_stop_at_any_call_leaves_a_snapshot_and_the_segments_behind_it(tmp_path: Path) -> None:
    whole = FaultDisk()
    merger(made(tmp_path / "whole"), whole).merge(2, 3, 0)
    for stop in range(len(whole.calls)):
        directory = made(tmp_path / str(stop))
        with pytest.raises(PowerCut):
            merger(directory, FaultDisk(cut_from(stop))).merge(2, 3, 0)
        for number, path in snapshots(directory):
            assert load(path)[1].keys == HELD[number]
        assert {2, 3} & {number for number, _ in snapshots(directory)}
        assert all((directory / segment_name(number)).exists() for number in (1, 2, 3))
        assert load(merger(directory).merge(2, 3, 0).path)[1].keys == HELD[3]
        assert not list(directory.glob("*.tmp"))


@pytest.mark.parametrize("call", ["open", "write", "sync", "rename"])
@pytest.mark.parametrize("code", [FULL, BROKEN])
def test_a_failure_leaves_the_base_and_no_temporaries(directory: Path, call: str, code: int) -> None:
    before = content(directory)
    with pytest.raises(OSError, match=os.strerror(code)):
        merger(directory, FaultDisk(fail_on(call, code))).merge(2, 3, 0)
    del before[snapshot_name(1)]
    after = content(directory)
    after.pop(snapshot_name(1), None)
    assert after == before


def test_a_damaged_base_ends_it_before_anything_changes(directory: Path) -> None:
    path = directory / snapshot_name(2)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    before = content(directory)
    with pytest.raises(SnapshotDamaged):
        merger(directory).merge(2, 3, 0)
    assert content(directory) == before


def test_one_flipped_bit_in_a_segments_records_ends_it_before_anything_changes(directory: Path) -> None:
    path = directory / segment_name(3)
    whole = path.read_bytes()
    for at in (30, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        before = content(directory)
        with pytest.raises(Corruption, match=path.name):
            merger(directory).merge(2, 3, 0)
        assert content(directory) == before


@pytest.mark.parametrize("wrong", ["missing", "empty", "cut at a border", "another segment"])
def test_a_segment_that_does_not_go_on_is_corruption(directory: Path, wrong: str) -> None:
    path = directory / segment_name(3)
    if wrong == "missing":
        path.unlink()
    elif wrong == "empty":
        path.write_bytes(b"")
    elif wrong == "cut at a border":
        write_segments(directory, SEGMENTS[2:], first=3, sequence=99)
    else:
        path.write_bytes((directory / segment_name(2)).read_bytes())
    with pytest.raises(Corruption, match=path.name):
        merger(directory).merge(2, 3, 0)


def test_a_base_of_another_directory_or_number_is_refused(directory: Path) -> None:
    path = directory / snapshot_name(2)
    path.write_bytes((directory / snapshot_name(1)).read_bytes())
    with pytest.raises(ForeignDirectory, match="snapshot 1"):
        merger(directory).merge(2, 3, 0)
    write_snapshot(directory, [], Standing(), about=head(2))
    path.write_bytes(b"WKVS\2\0\0\0" + path.read_bytes()[8:])
    with pytest.raises(NewerVersion):
        merger(directory).merge(2, 3, 0)


def test_zeros_behind_the_last_record_are_no_damage(directory: Path) -> None:
    path = directory / segment_name(3)
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert load(merger(directory).merge(2, 3, 0).path)[1].keys == HELD[3]


def test_memory_does_not_grow_with_the_entries(tmp_path: Path) -> None:
    bounds = CompactionSettings(batch_keys_max=100)
    writes = SnapshotSettings(block_entries_max=100, sort_dots_max=200, dots_block_max=100)
    peaks = []
    for size in (1500, 6000):
        directory = tmp_path / str(size)
        directory.mkdir()
        write_identity(directory)
        groups = [[[put(at, bytes(100)) for at in range(start, start + 50)]] for start in range(1, size, 50)]
        write_segments(directory, [[*groups[at], *groups[at + 1]] for at in range(0, len(groups), 2)])
        merge = Merger(directory, IDENTITY_1, bounds, writes, HastyDisk(), lambda _done, _total: None)
        merge.merge(0, len(groups) // 4, 0)
        tracemalloc.start()
        merge.merge(len(groups) // 4, len(groups) // 2, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


# ---- segments that are folded in -----------------------------------------------------------------------------------


def test_spares_that_wait_to_be_zeroed_go_when_fewer_are_wanted(directory: Path) -> None:
    (directory / snapshot_name(3)).touch()
    for name in ("00000001.spare", "00000002.spare.tmp", "00000003.spare.tmp"):
        (directory / name).touch()
    retire(directory, 3, HastyDisk(), spares_max=2)
    assert sorted(path.name for path in directory.glob("*spare*")) == ["00000001.spare", "00000003.spare.tmp"]
    retire(directory, 3, HastyDisk(), spares_max=0)
    assert [path.name for path in directory.glob("*spare*")] == ["00000001.spare"], "the log may be taking that one"


def test_folded_segments_become_zeroed_spares_and_the_rest_goes(directory: Path) -> None:
    merger(directory).merge(2, 3, 0)
    size = (directory / segment_name(1)).stat().st_size
    assert retire(directory, 3, HastyDisk(), spares_max=2) == 3
    assert take_spare(directory) is None, "not before it is zeroed"
    assert zero_spares(directory, HastyDisk()) == 2
    spare = take_spare(directory)
    assert spare == directory / "00000001.spare"
    assert spare.read_bytes() == bytes(size)
    assert not list(directory.glob("*.wal"))
    assert retire(directory, 3, HastyDisk(), spares_max=2) == 0


def test_segments_behind_the_snapshot_stay(directory: Path) -> None:
    assert retire(directory, 2, HastyDisk(), spares_max=0) == 2
    assert [path.name for path in directory.glob("*.wal")] == [segment_name(3)]
    with pytest.raises(AssertionError):
        retire(directory, 3, HastyDisk(), spares_max=0)


def test_a_stop_while_segments_are_retired_never_offers_an_unzeroed_spare(tmp_path: Path) -> None:
    def both(directory: Path, disk: FaultDisk) -> None:
        retire(directory, 2, disk, spares_max=1)
        zero_spares(directory, disk)

    whole = FaultDisk()
    both(made(tmp_path / "whole"), whole)
    assert whole.calls.index("sync_dir whole") < whole.calls.index("zeros")
    for stop in range(len(whole.calls)):
        directory = made(tmp_path / str(stop))
        with pytest.raises(PowerCut):
            both(directory, FaultDisk(cut_from(stop)))
        spare = take_spare(directory)
        assert spare is None or not spare.read_bytes().strip(b"\0")
        assert (directory / segment_name(3)).exists()
        both(directory, FaultDisk())
        assert len(list(directory.glob("*.spare"))) == 1
        assert [path.name for path in directory.glob("*.wal")] == [segment_name(3)]


def test_a_spares_new_name_is_durable_before_it_is_zeroed_even_if_retiring_it_was_cut(directory: Path) -> None:
    with pytest.raises(PowerCut):
        retire(directory, 2, FaultDisk(cut_from(1)), spares_max=1)
    disk = FaultDisk()
    assert zero_spares(directory, disk) == 1
    assert disk.calls[0] == "sync_dir data"


# ---- the process ---------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, object]]]:
    code = main([*arguments, "--nice", "0"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_worker_tells_progress_and_then_its_result(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run(capsys, "merge", "--data-dir", str(directory), "--base", "2", "--last", "3")
    assert code == 0
    assert [line for line in lines if "alone" in line] == [{"alone": 2}]
    done = [line["done"] for line in lines if "done" in line]
    assert done == sorted(done)  # type: ignore[type-var]
    assert lines[-2]["done"] == lines[-2]["total"]
    assert (lines[-1]["number"], lines[-1]["entries"], lines[-1]["records"]) == (3, 5, 5)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("--base", "2", "--last", "4"), 4, "corruption"),
        (("--base", "3", "--last", "3"), 1, "usage"),
        (("--base", "2"), 1, "usage"),
        (("--base", "2", "--last", "3", "--parent", "1000000000"), 1, "stopping"),
    ],
)
def test_the_worker_ends_with_an_error_and_changes_nothing(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, error: str
) -> None:
    before = content(directory)
    ended, lines = run(capsys, "merge", "--data-dir", str(directory), *arguments)
    assert (ended, lines[-1]["error"]) == (code, error)
    assert content(directory) == before


def test_two_workers_never_work_on_one_directory(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    code, lines = run(capsys, "spares", "--data-dir", str(directory))
    os.close(descriptor)
    assert (code, lines[-1]["error"]) == (1, "directory_in_use")


def test_the_worker_imports_neither_http_nor_terminals() -> None:
    script = "import sys, wavekv.compaction.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert "wavekv.compaction.merge" in loaded
    assert not {"aiohttp", "asyncio", "rich", "click", "uvloop", "prometheus_client"} & set(loaded)
