"""A turn of the loop that takes long is counted by what ran, once, and logged now and then."""

import asyncio
import gc
import logging

import pytest

from tests.fakes.key_values import FakeClock
from wavekv.core.image import Image
from wavekv.core.packed import pack
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.runtime.settling import keep_settled
from wavekv.runtime.starting import GATHERED_MAX, LeftOut
from wavekv.runtime.watchdog import KINDS, Watchdog


class Bench:
    """A watchdog on clocks that the test moves; a turn of 20 ms is fine."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.busy = 0.0
        self.told: list[tuple[str, float]] = []
        self.watchdog = Watchdog(self.clock, 20, lambda kind, seconds: self.told.append((kind, seconds)), self.used)

    def used(self) -> float:
        return self.busy

    def passes(self, seconds: float, busy: float = 1.0) -> None:
        self.clock.seconds += seconds
        self.busy += seconds * busy

    def tick(self, *stretches: float, busy: float = 1.0) -> None:
        at = self.clock.seconds, self.busy
        for seconds in (0.01, *stretches):
            self.passes(seconds, busy)
        self.watchdog.tick(*at)

    @property
    def kinds(self) -> dict[str, int]:
        return {kind: count for kind, count in self.watchdog.long_turns.items() if count}


def test_a_stretch_is_reported_above_the_bound_and_not_at_it() -> None:
    bench = Bench()
    bench.watchdog.ran("resp", 0.020)
    assert bench.kinds == {}
    bench.watchdog.ran("resp", 0.021)
    assert (bench.kinds, bench.told) == ({"resp": 1}, [("resp", 0.021)])


def test_a_late_timer_shows_what_nobody_told_of_by_what_was_begun_last() -> None:
    bench = Bench()
    bench.tick(0.020)
    assert bench.kinds == {}
    bench.tick(0.021)
    bench.watchdog.begun = ("http", "batch")
    bench.tick(0.030)
    bench.tick(0.030)
    assert bench.kinds == {"other": 2, "http": 1}


def test_what_was_told_is_not_reported_by_the_timer_again() -> None:
    bench = Bench()
    at = bench.clock.seconds, bench.busy
    bench.passes(0.05)
    bench.watchdog.ran("merge", 0.05)
    bench.watchdog.tick(*at)
    assert bench.kinds == {"merge": 1}


def test_a_process_that_was_not_run_is_the_machine_s() -> None:
    bench = Bench()
    bench.tick(0.5, busy=0.1)
    assert bench.kinds == {"machine": 1}


def test_a_block_is_measured_and_what_a_part_of_it_told_of_is_not_told_twice() -> None:
    bench = Bench()
    with bench.watchdog.running("merge"):
        bench.passes(0.005)
        with bench.watchdog.running("commit"):
            bench.passes(0.030)
    assert bench.kinds == {"commit": 1}


def test_the_log_has_one_line_for_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            bench.watchdog.ran("resp", 0.1, "list")
        assert [record.getMessage() for record in caplog.records] == ["resp held the loop for 100 ms (list)"]
        bench.passes(5.0)
        bench.watchdog.ran("http", 0.1)
    assert caplog.records[-1].getMessage() == "http held the loop for 100 ms; 9 more since the last line"


def test_kinds_are_few_and_an_unknown_one_is_an_error_of_ours() -> None:
    assert len(KINDS) < 20
    with pytest.raises(AssertionError):
        Bench().watchdog.ran("k/12345", 1.0)


def test_what_a_store_gained_is_left_out_of_collections_once_it_is_much() -> None:
    left_out = LeftOut(1000)
    assert not left_out.look(1000 + GATHERED_MAX - 1)
    before = gc.get_freeze_count()
    assert left_out.look(1000 + GATHERED_MAX)
    assert gc.get_freeze_count() > before
    assert not left_out.look(1000 + GATHERED_MAX)
    gc.unfreeze()


async def test_what_a_start_left_to_do_is_done_a_slice_at_a_time() -> None:
    keys = [f"{number * 7919 % 20_000:06}" for number in range(20_000)]
    image = Image({key: pack(Entry(key, b"v", 1, 7, 1)) for key in keys}, list(keys), values=len(keys), ordered=False)
    store = Store(16, image)
    task = asyncio.create_task(keep_settled(store, Watchdog(FakeClock(), 20)))
    turns = 0
    while not store.surveyed:
        await asyncio.sleep(0)
        turns += 1
    task.cancel()
    assert turns > 5
    gc.unfreeze()
