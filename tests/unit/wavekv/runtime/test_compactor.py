"""When a compaction is due, in which order its steps come, and what follows a failure."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.disk import HastyDisk, StillClock, SyncRecorder
from wavekv.config import CompactionSettings
from wavekv.core.ops import Op
from wavekv.errors import DiskFailed, DiskFull, WaveKVError
from wavekv.ports import LogSize
from wavekv.runtime.compactor import Compactor
from wavekv.snapshot.files import snapshot_name

SETTINGS = CompactionSettings(log_bytes_min=1000, log_share=0.25, age_ms_max=60_000)


class Log:
    """A log of a size that the test sets."""

    def __init__(self) -> None:
        self.now = LogSize(1, 500, 4096, 20)
        self.last = 3
        self.arrived = 0
        """Bytes that are written while a compaction is under way."""
        self.steps: list[str] = []
        self.refusal: WaveKVError | None = None

    def append(self, ops: Sequence[Op], next_seq: int) -> None: ...

    def close(self) -> None: ...

    def find_room(self) -> None: ...

    def size(self) -> LogSize:
        return self.now

    def close_segment(self) -> int:
        self.steps.append("close_segment")
        if self.refusal is not None:
            raise self.refusal
        return self.last

    def folded(self, snapshot: int, snapshot_bytes: int) -> None:
        self.steps.append(f"folded {snapshot} {snapshot_bytes}")
        self.now = self.now._replace(snapshot=snapshot, snapshot_bytes=snapshot_bytes, used_bytes=self.arrived)


class Here:
    """Runs what is to run where appends are, at once."""

    def submit(self, ops: Sequence[Op], next_seq: int, done: Callable[[WaveKVError | None], None]) -> None:
        raise AssertionError("nothing is appended")

    def run(self, work: Callable[[], None], done: Callable[[WaveKVError | None], None]) -> None:
        try:
            work()
        except WaveKVError as error:
            done(error)
        else:
            done(None)


class Compacted(SyncRecorder):
    def __init__(self) -> None:
        super().__init__()
        self.results: list[str] = []

    def compacted(self, result: str, seconds: float) -> None:
        self.results.append(result)


class Bench:
    """A compactor over a directory of names, with a worker that answers from `answers`."""

    def __init__(self, path: Path) -> None:
        self.path, self.held = path, 0
        self.log, self.clock, self.observer = Log(), StillClock(), Compacted()
        self.answers: list[list[Mapping[str, Any]]] = []
        self.compactor = Compactor(
            path, self.log, Here(), SETTINGS, clock=self.clock, observer=self.observer,
            before_first=lambda: self.log.steps.append("mark"), held_bytes=lambda: self.held,
            worker=self.work, disk=HastyDisk(),
        )  # fmt: skip

    async def work(self, arguments: list[str]) -> AsyncIterator[Mapping[str, Any]]:
        self.log.steps.append(" ".join(arguments[: arguments.index("--data-dir")]))
        if arguments[0] == "spares":
            yield {"zeroed": 0}
            return
        for line in self.answers.pop(0):
            if "number" in line:
                (self.path / snapshot_name(line["number"])).touch()
            yield line


MADE = {"number": 3, "entries": 7, "file_bytes": 800}
BROKEN = {"error": "snapshot_damaged", "detail": "it is broken"}


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("used", "snapshot_bytes", "due"),
    [(999, 0, False), (1000, 0, True), (1000, 4001, True), (1000, 4004, False), (1001, 4004, True)],
)
async def test_it_is_due_at_a_share_of_the_snapshot_but_not_below_a_least_size(
    bench: Bench, used: int, snapshot_bytes: int, due: bool
) -> None:
    bench.log.now = LogSize(1, used, 4096, 20, 1, snapshot_bytes)
    assert bench.compactor.due() is due


async def test_it_is_due_after_its_age_if_anything_was_written_since(bench: Bench) -> None:
    bench.clock.seconds = 59.9
    assert not bench.compactor.due()
    bench.clock.seconds = 60
    assert bench.compactor.due()
    bench.answers = [[MADE]]
    assert await bench.compactor.compact()
    bench.log.now = bench.log.now._replace(used_bytes=30)
    bench.clock.seconds = 500
    assert not bench.compactor.due(), "the record since is as old as the snapshot"
    bench.log.now = bench.log.now._replace(last_sequence=21)
    assert bench.compactor.due()


async def test_a_log_that_cannot_go_on_is_told_at_once_and_a_full_disk_is_not(bench: Bench) -> None:
    told: list[DiskFailed] = []
    bench.compactor.on_disk_failed = told.append
    bench.log.refusal = DiskFull("no room")
    assert not await bench.compactor.compact()
    assert not told
    bench.log.refusal = DiskFailed("cannot create the log")
    assert not await bench.compactor.compact()
    assert told == [bench.log.refusal]
    assert bench.observer.results == ["disk_full", "disk_failed"]


async def test_the_first_compaction_marks_the_directory_and_keeps_every_segment(bench: Bench) -> None:
    for number in (1, 2, 3, 4):
        (bench.path / f"{number:08}.wal").touch()
    bench.answers = [[{"done": 1, "total": 4}, {"done": 4, "total": 4}, MADE]]
    assert await bench.compactor.compact()
    assert bench.log.steps == ["mark", "close_segment", "merge --base 0 --last 3", "folded 3 800"]
    assert len(list(bench.path.glob("*.wal"))) == 4
    assert bench.observer.results == ["ok"]
    assert bench.compactor.told() | {"seconds": 0} == {
        "running": False, "progress": 1.0, "completed": 1, "seconds": 0, "error": None,
    }  # fmt: skip


async def test_a_later_one_lets_the_segments_go_that_its_base_holds(bench: Bench) -> None:
    for number in (1, 2, 3, 4):
        (bench.path / f"{number:08}.wal").touch()
    (bench.path / snapshot_name(1)).touch()
    bench.log.now = LogSize(3, 1250, 4096, 20, 1, 900)
    bench.answers = [[{"alone": 1}, {"done": 1, "total": 1}, MADE]]
    assert await bench.compactor.compact()
    assert bench.log.steps[2:] == ["merge --base 1 --last 3", "folded 3 800", "spares"]
    assert sorted(file.name for file in bench.path.glob("*.wal")) == ["00000002.wal", "00000003.wal", "00000004.wal"]


@pytest.mark.parametrize(
    ("used", "seconds"), [(1250, 0.0), (1750, 0.01), (2250, 0.02), (11_250, 0.2), (13_750, 0.25), (99_000, 0.25)]
)
async def test_commits_are_paced_the_more_the_further_the_log_is_behind(
    bench: Bench, used: int, seconds: float
) -> None:
    bench.log.now = LogSize(1, used, 4096, 20)
    assert bench.compactor.pace() == pytest.approx(seconds)


async def test_an_older_generation_whose_log_outgrew_its_share_goes_at_once(bench: Bench) -> None:
    for number in (1, 2, 3, 4):
        (bench.path / f"{number:08}.wal").touch()
    (bench.path / snapshot_name(1)).touch()
    bench.log.now = LogSize(3, 1251, 4096, 20, 1, 900)
    bench.answers = [[MADE]]
    assert await bench.compactor.compact()
    assert [file.name for file in bench.path.glob("*.snapshot")] == ["00000003.snapshot"]
    assert [file.name for file in bench.path.glob("*.wal")] == ["00000004.wal"]


@pytest.mark.parametrize(
    ("folded", "done", "used", "seconds"),
    [
        (1000, 0, 1100, 0.0),  # a tenth of what is left, 1000, may come before any progress
        (1000, 0, 1300, 0.05),
        (1000, 2, 1250, 0.0),
        (1000, 2, 1750, 0.05),
        (1000, 4, 2000, 0.015),  # by then only what paces without a compaction
        (600, 4, 2000, 0.015),
        (600, 2, 1370, 0.0024),
        (600, 2, 1570, 0.05),
        (3000, 4, 3500, 0.045),  # half of the size may come whatever is folded
        (3000, 4, 3700, 0.05),
        (1000, 2, 9000, 0.25),
    ],
)
async def test_during_a_compaction_the_log_may_grow_as_far_as_that_is_done(
    bench: Bench, folded: int, done: int, used: int, seconds: float
) -> None:
    (bench.path / snapshot_name(1)).touch()
    bench.log.now = LogSize(1, folded, 4096, 20, 1, 900)
    bench.answers = [[{"done": done, "total": 4}, MADE]]
    paced: list[float] = []

    async def work(arguments: list[str]) -> AsyncIterator[Mapping[str, Any]]:
        async for line in bench.work(arguments):
            yield line
            if "done" in line:
                bench.log.now = bench.log.now._replace(used_bytes=used)
                paced.append(bench.compactor.pace())

    bench.compactor._worker = work
    assert await bench.compactor.compact()
    assert paced == [pytest.approx(seconds)]


async def test_after_fast_writers_neither_the_older_generation_nor_spares_are_kept(bench: Bench) -> None:
    for number in (1, 2, 3, 4):
        (bench.path / f"{number:08}.wal").touch()
    (bench.path / snapshot_name(1)).touch()
    bench.log.now, bench.log.arrived = LogSize(3, 1000, 4096, 20, 1, 900), 501
    bench.answers = [[MADE]]
    assert await bench.compactor.compact()
    assert [file.name for file in bench.path.iterdir() if file.suffix != ".wal"] == ["00000003.snapshot"]
    assert [file.name for file in bench.path.glob("*.wal")] == ["00000004.wal"]
    assert bench.log.steps[-1] == "folded 3 800", "no spares are made"


@pytest.mark.parametrize(
    ("held", "made", "held_then", "seconds", "kept"), [(4000, 4000, 4000, 0.0125, 1), (5000, 5000, 5600, 0.007, 2)]
)
async def test_data_that_grows_is_given_the_room_that_it_takes(
    bench: Bench, held: int, made: int, held_then: int, seconds: float, kept: int
) -> None:
    (bench.path / snapshot_name(1)).touch()
    bench.log.now, bench.log.arrived, bench.held = LogSize(3, 1000, 4096, 20, 1, 4000), 900, held
    bench.answers = [[{"done": 2, "total": 4}, MADE | {"file_bytes": made}]]
    paced: list[float] = []

    async def work(arguments: list[str]) -> AsyncIterator[Mapping[str, Any]]:
        async for line in bench.work(arguments):
            yield line
            if "done" in line:
                bench.held = held_then
                bench.log.now = bench.log.now._replace(used_bytes=1600)
                paced.append(bench.compactor.pace())

    bench.compactor._worker = work
    assert await bench.compactor.compact()
    assert paced == [pytest.approx(seconds)]
    assert len(list(bench.path.glob("*.snapshot"))) == kept


async def test_after_slow_writers_the_older_generation_stays(bench: Bench) -> None:
    (bench.path / snapshot_name(1)).touch()
    bench.log.now, bench.log.arrived = LogSize(3, 1000, 4096, 20, 1, 900), 500
    bench.answers = [[MADE]]
    assert await bench.compactor.compact()
    assert len(list(bench.path.glob("*.snapshot"))) == 2


async def test_segments_up_to_the_base_go_once_it_is_the_oldest_that_counts(bench: Bench) -> None:
    for number in (1, 2, 3):
        (bench.path / f"{number:08}.wal").touch()
    (bench.path / snapshot_name(2)).touch()
    bench.log.now = LogSize(1, 1000, 4096, 20, 2, 900)
    bench.answers = [[{"alone": 2}, {"error": "disk_full", "detail": "for now"}]]
    assert not await bench.compactor.compact()
    assert [file.name for file in bench.path.glob("*.wal")] == ["00000003.wal"]


async def test_a_broken_base_is_put_aside_and_the_one_before_it_taken(bench: Bench) -> None:
    for number in (1, 2):
        (bench.path / snapshot_name(number)).touch()
    bench.log.now = LogSize(1, 1500, 4096, 20, 2, 900)
    bench.answers = [[BROKEN], [MADE]]
    assert await bench.compactor.compact()
    assert bench.log.steps[2:6] == ["merge --base 2 --last 3", "folded 1 0", "merge --base 1 --last 3", "folded 3 800"]
    assert (bench.path / "00000002.snapshot.damaged").exists()


async def test_a_failure_is_told_and_the_next_try_waits_longer_each_time(bench: Bench) -> None:
    for code in ("disk_full", "worker_failed"):
        bench.answers = [[{"error": code, "detail": f"for {code}"}]]
        assert not await bench.compactor.compact()
        assert bench.compactor.told()["error"] == f"for {code}"
    assert bench.observer.results == ["disk_full", "worker_failed"]
    assert bench.compactor._retry_at == 20.0
    assert "folded" not in " ".join(bench.log.steps), "the log is as it was"


async def test_a_worker_that_ends_without_a_result_has_failed(bench: Bench) -> None:
    bench.answers = [[{"done": 1, "total": 2}]]
    assert not await bench.compactor.compact()
    assert bench.observer.results == ["worker_failed"]


async def test_a_full_disk_when_the_segment_is_closed_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close_segment() -> int:
        raise DiskFull("no room")

    monkeypatch.setattr(bench.log, "close_segment", close_segment)
    assert not await bench.compactor.compact()
    assert (bench.observer.results, bench.log.steps) == (["disk_full"], ["mark"])


async def test_nothing_new_is_no_work(bench: Bench) -> None:
    bench.log.now = LogSize(0, 0, 0, 20, 3, 900)
    assert await bench.compactor.compact()
    assert bench.log.steps == ["mark", "close_segment"]
