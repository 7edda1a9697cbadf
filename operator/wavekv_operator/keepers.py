"""One task per cluster that does a pass whenever something happened, and at the resync period when nothing did.

A supervisor: whatever a pass raises is logged, counted and answered with a growing pause, for this cluster alone.
Events that arrive during a pass lead to one more pass, however many they are. Passes of one namespace share a few of
the workers, so that clusters whose passes take long cost their own tenant time.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from wavekv_operator.reconcile import Outcome
from wavekv_operator.settings import Settings

log = logging.getLogger(__name__)

Key = tuple[str, str]


class PassCounter(Protocol):
    """Who is told of each pass."""

    def reconciled(self, key: Key, result: str, seconds: float, at: float) -> None:
        """Count one pass: `success`, `error` or `crash`; `at` is a unix time."""
        ...

    def clusters(self, count: int) -> None:
        """Say how many clusters there are."""
        ...

    def forget(self, key: Key) -> None:
        """Drop what is told of a cluster that is gone."""
        ...


class Keepers:
    """The tasks of all clusters."""

    def __init__(
        self, reconcile: Callable[[Key], Awaitable[Outcome]], settings: Settings, counter: PassCounter
    ) -> None:
        self._reconcile = reconcile
        self._settings = settings
        self._counter = counter
        self._working = asyncio.Semaphore(settings.workers_max)
        self._namespaces: dict[str, asyncio.Semaphore] = {}
        self._wakes: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._succeeded: set[Key] = set()
        self._rng = random.Random()  # noqa: S311 - spreads passes in time

    def wake(self, key: Key) -> None:
        """Have a pass done over a cluster soon; the first call begins to keep it."""
        if key not in self._tasks:
            self._wakes[key] = asyncio.Event()
            self._namespaces.setdefault(key[0], asyncio.Semaphore(self._settings.namespace_workers_max))
            self._tasks[key] = asyncio.get_running_loop().create_task(self._keep(key))
            self._counter.clusters(len(self._tasks))
        self._wakes[key].set()

    def forget(self, key: Key) -> None:
        """Stop keeping a cluster that is gone."""
        task = self._tasks.pop(key, None)
        if task is None:
            return
        task.cancel()
        del self._wakes[key]
        if all(namespace != key[0] for namespace, _ in self._wakes):
            del self._namespaces[key[0]]
        self._counter.clusters(len(self._tasks))
        if key in self._succeeded:
            self._succeeded.discard(key)
            self._counter.forget(key)

    async def stop(self) -> None:
        """Stop all tasks."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, key: Key) -> None:
        failures = 0
        wake = self._wakes[key]
        while True:
            wake.clear()
            outcome = await self._one_pass(key)
            failed = outcome is None or outcome.error is not None
            failures = failures + 1 if failed else 0
            pause = outcome.again_seconds if outcome is not None else self._settings.busy_seconds
            if failures:
                pause = min(self._settings.retry_seconds_max, pause * 2 ** min(failures - 1, 10))
            await self._wait(wake, pause * self._rng.uniform(0.9, 1.1), failed=failures > 1)

    async def _wait(self, wake: asyncio.Event, seconds: float, *, failed: bool) -> None:
        """Wait for an event, at most `seconds`; after failures in a row events do not shorten the pause."""
        if failed:
            await asyncio.sleep(seconds)
            return
        try:
            await asyncio.wait_for(wake.wait(), seconds)
        except TimeoutError:
            return
        await asyncio.sleep(min(0.2, seconds))  # what belongs together arrives together

    async def _one_pass(self, key: Key) -> Outcome | None:
        async with self._namespaces[key[0]], self._working:
            began, result, outcome = time.monotonic(), "crash", None
            try:
                async with asyncio.timeout(self._settings.reconcile_seconds_max):
                    outcome = await self._reconcile(key)
                result = "error" if outcome.error else "success"
            except TimeoutError:
                log.error("%s/%s: a pass took longer than %s s", *key, self._settings.reconcile_seconds_max)
            except Exception:  # the supervisor of passes: the other clusters go on
                log.exception("%s/%s: a pass failed in a way it should not", *key)
            if result == "success":
                self._succeeded.add(key)
            self._counter.reconciled(key, result, time.monotonic() - began, time.time())
            return outcome
