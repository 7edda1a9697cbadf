"""Notices a turn of the loop that took too long, and says what ran: every member's promises on latency rest on turns.

Entry points and periodic tasks tell how long what they did at one go took, where they measure it anyway, or put it into
`running`. A timer sees, by how late it is called, what none of them told of. If the thread had hardly any processor
time meanwhile, the machine was busy and not the member: that is a kind of its own. Turned down: a thread that samples
the loop's stack, which takes the interpreter's lock a hundred times a second; and asyncio's debug mode, at a multiple
of a read's cost. This costs a read one comparison, and the timer a hundredth of a per cent.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from wavekv.ports import Clock

log = logging.getLogger(__name__)

KINDS: Final = (
    "http",
    "resp",
    "merge",
    "gossip",
    "commit",
    "expire",
    "collect",
    "settle",
    "watch",
    "status",
    "metrics",
    "other",
    "machine",
)
"""What may have held the loop: a plane's request, a task, something nobody told of, or the machine."""

_TICK_SECONDS: Final = 0.01
_BUSY_SHARE: Final = 0.5
"""With less of the time than this on a processor, the machine had others to run."""
_LOG_SECONDS: Final = 5.0
_NOTHING: Final = ("other", "")


class Watchdog:
    """Watches the turns of one loop. `long_turns` counts the long ones by kind."""

    def __init__(
        self,
        clock: Clock,
        turn_ms_max: int,
        on_long: Callable[[str, float], None] = lambda kind, seconds: None,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        """Report turns longer than `turn_ms_max` to `on_long`; `processor`: seconds that the loop's thread ran."""
        self._clock = clock
        self._processor = processor
        self.seconds_max = turn_ms_max / 1000
        """Longest turn that is not reported; who measured more calls `ran`."""
        self.long_turns: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.begun: tuple[str, str] = _NOTHING
        """Kind and name of what was begun last: named where a turn was long and nobody told of it."""
        self._on_long = on_long
        self._told_seconds = 0.0  # of long stretches since the last tick
        self._logged_at = float("-inf")
        self._unlogged = 0

    def ran(self, kind: str, seconds: float, what: str = "") -> None:
        """Take note of a stretch of work without a turn of others in between; `what` says more, in the log alone."""
        if seconds <= self.seconds_max:
            return
        self._told_seconds += seconds
        self._report(kind, seconds, what)

    @contextmanager
    def running(self, kind: str, what: str = "") -> Iterator[None]:
        """Measure the block, in which nothing is awaited, and take note of it. About a microsecond."""
        started = self._clock.monotonic()
        told = self._told_seconds
        try:
            yield
        finally:
            seconds = self._clock.monotonic() - started
            if seconds > self.seconds_max:  # what a part of it told of is not told twice
                self.ran(kind, seconds - (self._told_seconds - told), what)

    async def run(self) -> NoReturn:
        """Look at how late the timer is, until cancelled."""
        at, busy = self._clock.monotonic(), self._processor()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            at, busy = self.tick(at, busy)

    def tick(self, since: float, busy_since: float) -> tuple[float, float]:
        """Judge the time since the last tick, when the clocks stood at these; return how they stand now."""
        now, busy = self._clock.monotonic(), self._processor()
        late = now - since - _TICK_SECONDS
        untold, self._told_seconds = late - self._told_seconds, 0.0
        if untold > self.seconds_max:
            share = (busy - busy_since) / (now - since)
            kind, what = self.begun if share >= _BUSY_SHARE else ("machine", "")
            self._report(kind, untold, what)
        self.begun = _NOTHING
        return now, busy

    def _report(self, kind: str, seconds: float, what: str) -> None:
        assert kind in self.long_turns, "kinds are few and known: they are a metric's labels"
        self.long_turns[kind] += 1
        self._on_long(kind, seconds)
        now = self._clock.monotonic()
        if kind == "machine" or now - self._logged_at < _LOG_SECONDS:
            self._unlogged += 1
            return
        more = f"; {self._unlogged} more since the last line" if self._unlogged else ""
        log.warning("%s held the loop for %.0f ms%s%s", kind, seconds * 1000, f" ({what})" if what else "", more)
        self._logged_at, self._unlogged = now, 0
