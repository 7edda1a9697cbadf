"""Held deletes in the order in which they can be forgotten: tombstones and expired entries, by origin and sequence.

A heap for each origin, so that collecting looks at the oldest of each and at what it takes, never at all of them. An
item whose entry was overwritten meanwhile is dead; it goes when it comes up, or all go once they are most of a heap.
"""

from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush

from wavekv.core.packed import HAS_EXPIRY, HAS_VALUE, KIND_AT, dot_of, expiry_of

_SLACK = 64
"""Dead items that are never worth sweeping."""


class Graves:
    """The deletes among the entries of `packed`, which its owner changes."""

    __slots__ = ("_expired", "_heaps", "_items", "_packed")

    def __init__(self, packed: Mapping[str, bytes]) -> None:
        self._packed = packed
        self._heaps: dict[int, list[tuple[int, str]]] = {}
        self._expired: list[tuple[int, str]] = []
        self._items = 0

    def add(self, key: str, packed: bytes) -> None:
        """Note a delete that is held under `key`."""
        origin, seq = dot_of(packed)
        heap = self._heaps.get(origin)
        if heap is None:
            heap = self._heaps[origin] = []
        heappush(heap, (seq, key))
        self._items += 1

    def expire(self, key: str) -> None:
        """Note that the entry of `key`, which expires, has passed its time by this member's clock."""
        heappush(self._expired, (expiry_of(self._packed[key]), key))

    def tidy(self, held: int) -> None:
        """Sweep dead items once they outnumber the `held` deletes."""
        if self._items + len(self._expired) <= 2 * held + _SLACK:
            return
        self._expired = [item for item in self._expired if self._expires(*item)]
        heapify(self._expired)
        for origin in list(self._heaps):
            heap = [item for item in self._heaps[origin] if self._lies(origin, *item)]
            if heap:
                heapify(heap)
                self._heaps[origin] = heap
            else:
                del self._heaps[origin]
        self._items = sum(map(len, self._heaps.values()))

    def _expires(self, expires_at: int, key: str) -> bool:
        held = self._packed.get(key)
        return held is not None and held[KIND_AT] == (HAS_VALUE | HAS_EXPIRY) and expiry_of(held) == expires_at

    def _lies(self, origin: int, seq: int, key: str) -> bool:
        """Tell whether `key` still holds that very delete.

        A dot names one write for ever (I2), but for crate nodes: a value may have come in the place of a tombstone
        under the same stamp.
        """
        held = self._packed.get(key)
        return held is not None and held[KIND_AT] != HAS_VALUE and dot_of(held) == (origin, seq)

    def take(self, covered: Callable[[int, int], bool], clock_ms: int, count_max: int) -> list[str]:
        """Take up to `count_max` keys whose delete is `covered` by everybody; expired ones if nobody's clock is behind.

        `clock_ms` is the least clock among all members.
        """
        while self._expired and self._expired[0][0] <= clock_ms:
            expires_at, key = heappop(self._expired)
            if self._expires(expires_at, key):
                self.add(key, self._packed[key])
        taken: list[str] = []
        for origin in list(self._heaps):
            heap = self._heaps[origin]
            while heap and len(taken) < count_max:
                seq, key = heap[0]
                if self._lies(origin, seq, key):
                    if self._waits_for_a_clock(key, clock_ms):
                        heappush(self._expired, (expiry_of(self._packed[key]), key))
                    elif covered(origin, seq):
                        taken.append(key)
                    else:
                        break
                heappop(heap)
                self._items -= 1
            if not heap:
                del self._heaps[origin]
        return taken

    def _waits_for_a_clock(self, key: str, clock_ms: int) -> bool:
        """Tell whether an expired value has to wait again: for a member that was not there when it was judged."""
        held = self._packed[key]
        return bool(held[KIND_AT] & HAS_VALUE) and expiry_of(held) > clock_ms

    def tombstones(self) -> list[str]:
        """Return the keys that hold one, in no order."""
        keys = {key: None for heap in self._heaps.values() for _, key in heap}
        return [key for key in keys if key in self._packed and not self._packed[key][KIND_AT] & HAS_VALUE]

    def oldest(self) -> Iterator[tuple[str, bytes]]:
        """Yield for each origin the held delete that waits in front, and the expired entry that does, with its key."""
        for origin, heap in self._heaps.items():
            while heap and not self._lies(origin, *heap[0]):
                heappop(heap)
                self._items -= 1
            if heap:
                yield heap[0][1], self._packed[heap[0][1]]
        while self._expired and not self._expires(*self._expired[0]):
            heappop(self._expired)
        if self._expired:
            yield self._expired[0][1], self._packed[self._expired[0][1]]
