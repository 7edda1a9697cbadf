"""The tasks that keep clusters: one pass at a time each, none lost, failures slow one cluster down alone."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from wavekv_operator.errors import ApiError
from wavekv_operator.keepers import Keepers, Key
from wavekv_operator.reconcile import Outcome
from wavekv_operator.settings import Settings

SETTINGS = replace(Settings(member_image="m"), busy_seconds=0.001, retry_seconds_max=0.01)
ONE, TWO = ("ns", "one"), ("ns", "two")
QUIET = Outcome(again_seconds=3600)


class Counted:
    def __init__(self) -> None:
        self.results: list[tuple[Key, str]] = []
        self.known = 0
        self.forgotten: list[Key] = []

    def reconciled(self, key: Key, result: str, seconds: float, at: float) -> None:
        self.results.append((key, result))

    def clusters(self, count: int) -> None:
        self.known = count

    def forget(self, key: Key) -> None:
        self.forgotten.append(key)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_a_cluster_that_wakes_is_gone_over_and_then_left_in_peace() -> None:
    counted = Counted()

    async def reconcile(key: Key) -> Outcome:
        return QUIET

    keepers = Keepers(reconcile, SETTINGS, counted)
    keepers.wake(ONE)
    await until(lambda: len(counted.results) == 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert counted.results == [(ONE, "success")]
    await keepers.stop()


async def test_what_happens_during_a_pass_leads_to_one_more() -> None:
    counted, began, go_on = Counted(), asyncio.Event(), asyncio.Event()

    async def reconcile(key: Key) -> Outcome:
        began.set()
        await go_on.wait()
        return Outcome(again_seconds=0.001) if not counted.results else QUIET

    keepers = Keepers(reconcile, SETTINGS, counted)
    keepers.wake(ONE)
    await began.wait()
    for _ in range(5):
        keepers.wake(ONE)
    go_on.set()
    await until(lambda: len(counted.results) == 2)
    await keepers.stop()


async def test_a_failing_cluster_is_tried_again_and_the_others_go_on() -> None:
    counted = Counted()

    async def reconcile(key: Key) -> Outcome:
        if key == ONE:
            return Outcome(0.001, ApiError("no answer"))
        return QUIET

    keepers = Keepers(reconcile, SETTINGS, counted)
    keepers.wake(ONE)
    keepers.wake(TWO)
    await until(lambda: counted.results.count((ONE, "error")) >= 3 and (TWO, "success") in counted.results)
    assert counted.known == 2
    await keepers.stop()


async def test_a_pass_that_crashes_is_counted_and_tried_again() -> None:
    counted = Counted()

    async def reconcile(key: Key) -> Outcome:
        if len(counted.results) < 2:
            raise RuntimeError("a defect")
        return QUIET

    keepers = Keepers(reconcile, SETTINGS, counted)
    keepers.wake(ONE)
    await until(lambda: (ONE, "success") in counted.results)
    assert counted.results[:2] == [(ONE, "crash"), (ONE, "crash")]
    await keepers.stop()


async def test_a_pass_that_hangs_is_given_up() -> None:
    counted = Counted()

    async def reconcile(key: Key) -> Outcome:
        if not counted.results:
            await asyncio.Event().wait()
        return QUIET

    keepers = Keepers(reconcile, replace(SETTINGS, reconcile_seconds_max=0.01), counted)
    keepers.wake(ONE)
    await until(lambda: (ONE, "success") in counted.results)
    assert counted.results[0] == (ONE, "crash")
    await keepers.stop()


async def test_clusters_of_one_namespace_that_hang_leave_workers_to_the_others() -> None:
    counted, hanging = Counted(), set[Key]()

    async def reconcile(key: Key) -> Outcome:
        if key[0] == "ns":
            hanging.add(key)
            await asyncio.Event().wait()
        return QUIET

    keepers = Keepers(reconcile, replace(SETTINGS, workers_max=3, namespace_workers_max=2), counted)
    for number in range(10):
        keepers.wake(("ns", str(number)))
    await until(lambda: len(hanging) == 2)
    keepers.wake(("other", "one"))
    await until(lambda: (("other", "one"), "success") in counted.results)
    assert len(hanging) == 2
    for number in range(10):
        keepers.forget(("ns", str(number)))
    keepers.wake(TWO)
    await until(lambda: TWO in hanging)
    await keepers.stop()


async def test_a_forgotten_cluster_is_gone_over_no_more() -> None:
    counted = Counted()

    async def reconcile(key: Key) -> Outcome:
        return Outcome(again_seconds=0.0001)

    keepers = Keepers(reconcile, SETTINGS, counted)
    keepers.wake(ONE)
    await until(lambda: bool(counted.results))
    keepers.forget(ONE)
    passes = len(counted.results)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(counted.results) == passes
    assert (counted.known, counted.forgotten) == (0, [ONE])
    keepers.forget(ONE)
    await keepers.stop()
