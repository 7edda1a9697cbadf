"""Where appends run: in a thread of their own, in the caller, or in whichever is cheaper at the moment.

- `thread`: reads never wait for the disk (G5); each group pays two switches, 70–100 µs.
- `inline`: the caller blocks for the sync; no switches, but on a slow disk reads wait as long as writes.
- `adaptive`: inline while the moving average of what an append takes is below `INLINE_SECONDS_MAX`, else thread.

One group is in work at a time: what arrives meanwhile is the next group, which is how commits are grouped. Turned
down: an executor, whose future and wake-up cost as much as the sync itself.
"""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

from wavekv.config import FsyncMode
from wavekv.core.ops import Op
from wavekv.errors import DiskFailed, WaveKVError
from wavekv.ports import Clock, Log

INLINE_SECONDS_MAX: Final = 0.0005
"""Above this average an append costs readers more than the two switches cost writers."""
_WEIGHT: Final = 0.1
"""Of the newest append in the average: some ten appends decide, a single slow one does not."""

Done = Callable[[WaveKVError | None], None]
"""Told once an append ended: None when it is durable, else why it was refused. Runs where the append ran."""


class Syncer:
    """Runs the appends of one log in `mode`."""

    def __init__(self, log: Log, mode: FsyncMode, clock: Clock) -> None:
        self._log = log
        self._mode = mode
        self._clock = clock
        self._average_seconds = 0.0
        self._busy = False
        self._jobs = 0
        """Of `run`, not yet done: while there are any, nothing runs in the caller."""
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        if mode != "inline":
            self._thread = threading.Thread(target=self._work, name="wavekv-log", daemon=True)
            self._thread.start()

    @property
    def inline(self) -> bool:
        """Tell whether the next append runs in the caller."""
        return self._mode == "inline" or (self._mode == "adaptive" and self._average_seconds < INLINE_SECONDS_MAX)

    def submit(self, ops: Sequence[Op], next_seq: int, done: Done) -> None:
        """Append one commit group; `done` is called once, in the log's thread or before this returns."""
        assert not self._busy, "one append at a time"
        self._busy = True
        if self.inline and not self._jobs:
            self._append(ops, next_seq, done)
        else:
            self._queue.put(lambda: self._append(ops, next_seq, done))

    def run(self, work: Callable[[], None], done: Done) -> None:
        """Do something else with the log between two appends; `done` is called as by `submit`."""
        self._jobs += 1
        if self._thread is None:
            self._settle(work, done, self._job_done)
        else:
            self._queue.put(lambda: self._settle(work, done, self._job_done))

    def close(self) -> None:
        """Wait for the append in work and end the thread. The log stays open."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()

    def _append(self, ops: Sequence[Op], next_seq: int, done: Done) -> None:
        started = self._clock.monotonic()
        try:
            self._settle(lambda: self._log.append(ops, next_seq), done, self._idle)
        finally:
            self._average_seconds += _WEIGHT * (self._clock.monotonic() - started - self._average_seconds)

    def _idle(self) -> None:
        self._busy = False

    def _job_done(self) -> None:
        self._jobs -= 1

    def _settle(self, work: Callable[[], None], done: Done, before: Callable[[], None]) -> None:
        # Stands if something unforeseen ends the thread: then nobody knows what is on disk.
        outcome: WaveKVError | None = DiskFailed("the append ended without a result; start again to recover")
        try:
            work()
            outcome = None
        except WaveKVError as error:
            outcome = error
        finally:
            before()
            done(outcome)
