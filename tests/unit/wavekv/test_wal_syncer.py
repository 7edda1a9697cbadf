"""Where appends run."""

import threading
from collections.abc import Sequence
from queue import SimpleQueue

import pytest

from tests.fakes.disk import StillClock
from wavekv.config import FsyncMode
from wavekv.core.ops import Clear, Op
from wavekv.errors import DiskFailed, DiskFull, WaveKVError
from wavekv.ports import LogSize
from wavekv.wal.syncer import INLINE_SECONDS_MAX, Syncer


class SlowLog:
    """A log whose appends take `seconds` on the clock and end as told."""

    def __init__(self, clock: StillClock) -> None:
        self.clock = clock
        self.seconds = 0.0
        self.outcome: Exception | None = None
        self.entered: threading.Event | None = None
        self.leave: threading.Event | None = None
        self.appended: list[tuple[Sequence[Op], int, int]] = []

    def append(self, ops: Sequence[Op], next_seq: int) -> None:
        self.clock.seconds += self.seconds
        if self.entered is not None and self.leave is not None:
            self.entered.set()
            self.leave.wait(10)
        self.appended.append((ops, next_seq, threading.get_ident()))
        if self.outcome is not None:
            raise self.outcome

    def close(self) -> None: ...

    def size(self) -> LogSize:
        return LogSize(0, 0, 0, 0)

    def close_segment(self) -> int:
        return 0

    def folded(self, snapshot: int, snapshot_bytes: int) -> None: ...

    def find_room(self) -> None: ...


class Bench:
    def __init__(self, mode: FsyncMode) -> None:
        clock = StillClock()
        self.log = SlowLog(clock)
        self.syncer = Syncer(self.log, mode, clock)
        self.ended: SimpleQueue[WaveKVError | None] = SimpleQueue()

    def append(self) -> WaveKVError | None:
        self.syncer.submit([Clear("a")], 2, self.ended.put)
        return self.ended.get(timeout=10)

    def ran_here(self) -> bool:
        return self.log.appended[-1][2] == threading.get_ident()


def test_the_thread_mode_appends_elsewhere_and_inline_here() -> None:
    for mode, here in (("thread", False), ("inline", True)):
        bench = Bench(mode)  # type: ignore[arg-type]
        assert bench.append() is None
        assert bench.log.appended[0][:2] == ([Clear("a")], 2)
        assert bench.ran_here() is here
        bench.syncer.close()


@pytest.mark.parametrize("mode", ["thread", "inline"])
def test_a_refusal_is_handed_back_and_the_next_append_is_served(mode: FsyncMode) -> None:
    bench = Bench(mode)
    bench.log.outcome = DiskFull("full")
    assert isinstance(bench.append(), DiskFull)
    bench.log.outcome = None
    assert bench.append() is None
    bench.syncer.close()


def test_adaptive_leaves_the_caller_when_appends_are_slow_and_returns_when_they_are_fast() -> None:
    bench = Bench("adaptive")
    bench.append()
    assert bench.ran_here()
    bench.log.seconds = 2 * INLINE_SECONDS_MAX
    for _ in range(20):
        bench.append()
    assert not bench.ran_here()
    bench.log.seconds = 0.0
    for _ in range(40):
        bench.append()
    assert bench.ran_here()
    bench.syncer.close()


def test_one_slow_append_does_not_move_adaptive_off_the_caller() -> None:
    bench = Bench("adaptive")
    bench.log.seconds = 9 * INLINE_SECONDS_MAX
    inline = []
    for _ in range(2):
        bench.append()
        inline.append(bench.syncer.inline)
    assert inline == [True, False]
    bench.syncer.close()


def test_a_second_append_while_one_is_in_work_is_a_bug_of_ours() -> None:
    bench = Bench("inline")

    def again(_: WaveKVError | None) -> None:
        bench.syncer.submit([], 1, bench.ended.put)

    bench.syncer.submit([], 1, again)
    assert len(bench.log.appended) == 2, "allowed once the first has ended"
    entered, leave = threading.Event(), threading.Event()
    waiting = Bench("thread")

    waiting.log.entered, waiting.log.leave = entered, leave
    waiting.syncer.submit([], 1, waiting.ended.put)
    entered.wait(10)
    with pytest.raises(AssertionError):
        waiting.syncer.submit([], 1, waiting.ended.put)
    leave.set()
    waiting.syncer.close()
    assert waiting.ended.get_nowait() is None, "close waits for the append in work"


def test_an_append_that_ends_in_a_bug_still_ends_and_as_a_failed_disk() -> None:
    bench = Bench("inline")
    bench.log.outcome = RuntimeError("bug")
    with pytest.raises(RuntimeError):
        bench.syncer.submit([], 1, bench.ended.put)
    assert isinstance(bench.ended.get(timeout=10), DiskFailed)
