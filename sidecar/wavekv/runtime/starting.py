"""A start seen from outside: how far recovery is, told now and then; and the garbage collector kept out of its way."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from wavekv.ports import Clock

log = logging.getLogger(__name__)

GATHERED_MAX: Final = 32_768
"""Entries that a store may gain, or a tenth of what it has, before these are left out too: they cost a full collection
three milliseconds."""
_LOGGED_SECONDS: Final = 5.0
"""Between two lines of the log; a start that takes less has none."""


class RecoveryProgress:
    """Takes bytes done and bytes in all, from recovery's thread; tells the share, and logs it on a long start."""

    def __init__(self, tell: Callable[[float], None], clock: Clock) -> None:
        self._tell = tell
        self._clock = clock
        self._logged_at = clock.monotonic()

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Take note."""
        share = done_bytes / total_bytes if total_bytes else 1.0
        self._tell(share)
        now = self._clock.monotonic()
        if now - self._logged_at >= _LOGGED_SECONDS:
            self._logged_at = now
            log.info("recovery: %.0f %% of %d bytes read", 100 * share, total_bytes)


class LeftOut:
    """Leaves what a store gained since the start out of full collections too, a part at a time.

    What is left out is never freed if it ends in a cycle of references, so this is done seldom: the connections of that
    moment are a few megabytes at most.
    """

    def __init__(self, entries: int) -> None:
        """Begin with a store of `entries`, which were left out."""
        self._entries = entries

    def look(self, entries: int) -> bool:
        """Leave everything out if the store grew by enough; tell whether it did."""
        if entries < self._entries + max(GATHERED_MAX, self._entries // 10):
            return False
        gc.collect(1)
        gc.freeze()
        self._entries = entries
        return True


@contextmanager
def unpaused_by_collections() -> Iterator[None]:
    """Collect nothing inside the block, and leave what it made out of every later collection.

    A store of a million entries is no garbage, but a full collection walks it, at a cache miss for each key: a pause of
    hundreds of milliseconds. For the same reason nothing is collected before it is left out.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
