"""When entries expire: a calendar of keys by the tick in which they do, so that nothing is ever scanned.

A reader compares an entry's own `expires_at` and is exact; the calendar only says when to tell watchers and counters,
within a tick. Turned down: a heap of (time, key), where every overwrite of an expiring key leaves a dead item behind.
"""

from heapq import heapify, heappop, heappush

TICK_MS = 100


class Calendar:
    """Keys by the tick of their expiry."""

    __slots__ = ("_count", "_keys", "_ticks")

    def __init__(self) -> None:
        self._keys: dict[int, dict[str, None]] = {}
        self._ticks: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: str, expires_at: int) -> None:
        """Note that `key` expires at `expires_at` (ms)."""
        tick = expires_at // TICK_MS
        keys = self._keys.get(tick)
        if keys is None:
            keys = self._keys[tick] = {}
            heappush(self._ticks, tick)
        self._count += key not in keys
        keys[key] = None

    def remove(self, key: str, expires_at: int) -> None:
        """Forget what `add` noted, if it did not come yet."""
        keys = self._keys.get(expires_at // TICK_MS)
        if keys is not None:
            self._count -= key in keys
            keys.pop(key, None)
            if not keys:
                del self._keys[expires_at // TICK_MS]
                self._tidy()

    def _tidy(self) -> None:
        """Drop ticks without keys once they are most of the heap."""
        if len(self._ticks) > 2 * len(self._keys) + 64:
            self._ticks = list(self._keys)
            heapify(self._ticks)

    def take_due(self, now_ms: int, count_max: int) -> list[str]:
        """Return up to `count_max` keys that have expired by `now_ms`, the earliest first, and forget them."""
        due: list[str] = []
        while self._ticks and len(due) < count_max:
            tick = self._ticks[0]
            if (tick + 1) * TICK_MS > now_ms + 1:
                break
            keys = self._keys.get(tick, {})
            while keys and len(due) < count_max:
                due.append(keys.popitem()[0])
                self._count -= 1
            if not keys:
                self._keys.pop(tick, None)
                heappop(self._ticks)
        return due
