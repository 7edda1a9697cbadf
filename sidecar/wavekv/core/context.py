"""What a member covers: one sequence per origin up to which it covers all, and single dots above it (R2).

Covering a dot means holding its entry, or something newer of its key, or a delete that was collected (I1). Dots close
up: one next to its ack joins it. Dots are kept as ranges, so a context costs about 12 bytes an origin in the steady
state and never one object per write; a plain set of dots was turned down for that reason.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter

from wavekv.core.messages import Ranges

_FIRST, _LAST = itemgetter(0), itemgetter(1)
_FEW = 16
"""Ranges up to which each is looked up; more are compared in one pass."""


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return sorted ranges with those that touch or overlap as one."""
    found = [ranges[0]]
    for first, last in ranges:
        before, end = found[-1]
        if first > end + 1:
            found.append((first, last))
        elif last > end:
            found[-1] = (before, last)
    return found


class Context:
    """A mutable set of covered dots; it never shrinks (R2), but for origins that all members drop (R15)."""

    __slots__ = ("_dots", "acks", "range_count")

    def __init__(self, acks: Mapping[int, int] | None = None, dots: Mapping[int, Ranges] | None = None) -> None:
        self.acks: dict[int, int] = {}
        self._dots: dict[int, list[tuple[int, int]]] = {}
        self.range_count = 0
        self.join(acks or {}, dots or {})

    @classmethod
    def told(cls, acks: Mapping[int, int], dots: Mapping[int, Ranges]) -> "Context":
        """Return the context that a message tells; its ranges ascend and do not touch, as its reader has checked."""
        told = cls()
        told.acks = dict(acks)
        if 0 in acks.values():
            told.acks = {origin: ack for origin, ack in acks.items() if ack}
        for origin, ranges in dots.items():
            if ranges and ranges[0][0] > told.acks.get(origin, 0) + 1:
                told._dots[origin] = list(ranges)
                told.range_count += len(ranges)
            else:
                told.join({}, {origin: ranges})
        return told

    def copy(self) -> "Context":
        """Return an independent copy."""
        twin = Context()
        twin.acks = dict(self.acks)
        twin._dots = {origin: list(ranges) for origin, ranges in self._dots.items()}
        twin.range_count = self.range_count
        return twin

    def covers(self, origin: int, seq: int) -> bool:
        """Tell whether the dot `(origin, seq)` is covered."""
        if seq <= self.acks.get(origin, 0):
            return True
        return self._within(origin, seq, seq)

    def _within(self, origin: int, first: int, last: int) -> bool:
        ranges = self._dots.get(origin)
        if not ranges:
            return False
        at = bisect_right(ranges, first, key=_FIRST) - 1
        return at >= 0 and ranges[at][1] >= last

    def covers_range(self, origin: int, first: int, last: int) -> bool:
        """Tell whether every dot `first`…`last` of `origin` is covered."""
        first = max(first, self.acks.get(origin, 0) + 1)
        return first > last or self._within(origin, first, last)

    def touches(self, origin: int, first: int, last: int) -> bool:
        """Tell whether any of the dots `first`…`last` of `origin` is covered; 0 always is."""
        if first <= self.acks.get(origin, 0):
            return True
        ranges = self._dots.get(origin)
        if not ranges:
            return False
        at = bisect_left(ranges, first, key=_LAST)
        return at < len(ranges) and ranges[at][0] <= last

    def includes(self, other: "Context") -> bool:
        """Tell whether this context covers all that `other` covers (⊇)."""
        for origin, ack in other.acks.items():
            if ack > self.acks.get(origin, 0) and not self.covers_range(origin, 1, ack):
                return False
        return all(self._includes_ranges(origin, ranges) for origin, ranges in other._dots.items())

    def _includes_ranges(self, origin: int, ranges: Sequence[tuple[int, int]]) -> bool:
        if len(ranges) < _FEW:
            return all(self.covers_range(origin, first, last) for first, last in ranges)
        mine, ack = self._dots.get(origin, []), self.acks.get(origin, 0)
        if mine == ranges:
            return True
        at = 0
        for first, last in ranges:
            while at < len(mine) and mine[at][1] < last:
                at += 1
            if last > ack and (at == len(mine) or mine[at][0] > max(first, ack + 1)):
                return False
        return True

    def origin_count(self) -> int:
        """Return how many origins have anything covered, those with ranges above their ack twice.

        They are so in a message, too; and each of a page of entries asks, which may not look at all of them (G11).
        """
        return len(self.acks) + len(self._dots)

    def origins(self) -> Collection[int]:
        """Return the origins that have anything covered."""
        return self.acks.keys() | self._dots.keys() if self._dots else self.acks.keys()

    def ranged(self) -> Collection[int]:
        """Return the origins that have ranges above their ack."""
        return self._dots.keys()

    def knows(self, origin: int) -> bool:
        """Tell whether anything of `origin` is covered."""
        return origin in self.acks or origin in self._dots

    def joined(self, other: "Context") -> "Context":
        """Return what both cover together."""
        both = self.copy()
        both.join(other.acks, other._dots)
        return both

    def without(self, origins: Collection[int]) -> "Context":
        """Return what is covered of other origins than these."""
        if not origins:
            return self
        acks = {origin: ack for origin, ack in self.acks.items() if origin not in origins}
        return Context.told(acks, {origin: ranges for origin, ranges in self.dots().items() if origin not in origins})

    def missing(self, other: "Context") -> int:
        """Return how many sequences of `other`'s acks lie above ours, summed over origins; dots do not count."""
        mine = self.acks
        return sum(ack - mine.get(origin, 0) for origin, ack in other.acks.items() if ack > mine.get(origin, 0))

    def add(self, origin: int, seq: int) -> None:
        """Cover one dot."""
        if origin not in self._dots and seq == self.acks.get(origin, 0) + 1:
            self.acks[origin] = seq
        else:
            self.add_range(origin, seq, seq)

    def add_range(self, origin: int, first: int, last: int) -> None:
        """Cover the dots `first`…`last` of `origin`."""
        ack = self.acks.get(origin, 0)
        if last <= ack:
            return
        if first <= ack + 1 and origin not in self._dots:
            self.acks[origin] = last
            return
        first = max(first, ack + 1)
        ranges = self._dots.setdefault(origin, [])
        before = len(ranges)
        low = bisect_left(ranges, first - 1, key=_LAST)
        high = bisect_right(ranges, last + 1, key=_FIRST)
        if low < high:
            first, last = min(first, ranges[low][0]), max(last, ranges[high - 1][1])
        ranges[low:high] = [(first, last)]
        if ranges[0][0] == ack + 1:
            self.acks[origin] = ranges.pop(0)[1]
        self.range_count += len(ranges) - before
        if not ranges:
            del self._dots[origin]

    def join(self, acks: Mapping[int, int], dots: Mapping[int, Sequence[tuple[int, int]]]) -> None:
        """Cover also all that the given acks and dots cover."""
        for origin, ack in acks.items():
            if ack > self.acks.get(origin, 0):
                self.add_range(origin, 1, ack)
        for origin, ranges in dots.items():
            self.add_ranges(origin, ranges)

    def add_ranges(self, origin: int, ranges: Sequence[tuple[int, int]]) -> None:
        """Cover ascending ranges of `origin`; many of them in one pass over theirs and ours."""
        mine = self._dots.get(origin, [])
        if mine == [*ranges]:
            return
        if len(ranges) < _FEW:
            for first, last in ranges:
                self.add_range(origin, first, last)
        else:
            ack = self.acks.get(origin, 0)
            merged = _merged(sorted([(0, ack), *mine, *ranges]))
            self.range_count += len(merged) - 1 - len(mine)
            ack = merged.pop(0)[1]
            if ack:
                self.acks[origin] = ack
            self._dots[origin] = merged
            if not merged:
                del self._dots[origin]

    def drop(self, origins: Iterable[int]) -> None:
        """Cover nothing of `origins` any more (R15)."""
        for origin in origins:
            self.acks.pop(origin, None)
            self.range_count -= len(self._dots.pop(origin, ()))

    def greatest(self, origin: int) -> int:
        """Return the greatest covered sequence of `origin`; 0: there is none."""
        ranges = self._dots.get(origin)
        return ranges[-1][1] if ranges else self.acks.get(origin, 0)

    def same_of(self, origin: int, other: "Context") -> bool:
        """Tell whether both cover the same of `origin`."""
        mine, theirs = self.acks.get(origin, 0), other.acks.get(origin, 0)
        return mine == theirs and self._dots.get(origin) == other._dots.get(origin)

    def opens_range(self, origin: int, seq: int) -> bool:
        """Tell whether covering the dot would add a range rather than extend one or an ack (the bound of G9)."""
        if seq <= self.acks.get(origin, 0) + 1:
            return False
        ranges = self._dots.get(origin, [])
        low = bisect_left(ranges, seq - 1, key=_LAST)
        return low == bisect_right(ranges, seq + 1, key=_FIRST)

    def ranges(self) -> Iterator[tuple[int, int, int]]:
        """Yield `(origin, first, last)` of every range above an ack, in order."""
        for origin in sorted(self._dots):
            for first, last in self._dots[origin]:
                yield origin, first, last

    def ranges_of(self, origin: int) -> Ranges:
        """Return the ranges of one origin above its ack."""
        return tuple(self._dots.get(origin, ()))

    def ranges_in(self, origin: int) -> int:
        """Return how many these are."""
        return len(self._dots.get(origin, ()))

    def dots(self) -> dict[int, Ranges]:
        """Return the dots above the acks, as they travel."""
        return {origin: tuple(ranges) for origin, ranges in sorted(self._dots.items())}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        return self.acks == other.acks and self._dots == other._dots

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Context(acks={self.acks}, dots={self._dots})"
