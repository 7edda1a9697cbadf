"""The keys in their order: a sorted sequence in blocks.

A block is a short sorted list, and a list of the blocks' first items finds it, so adding and removing move a few
hundred pointers at most. A million sorted keys become such a sequence in milliseconds, at 8 bytes a key; B-trees took
ten times as long to fill and twice the memory (`bench/engine.py`). Nothing in here takes longer than a few
milliseconds but what says so.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import islice

BLOCK_MAX = 512
"""Items in a block; a full one is parted in halves, or left full where the order only grows at its end."""
_SORTED_IN_MIN = 12
"""So many keys go into a block one by one; sorting it looks at all it has, but in a row."""
GATHERED_MIN, GATHERED_MAX, GATHERED_PART = 1 << 14, 1 << 16, 4
"""Keys gathered before they go into blocks: a part of all, within bounds."""
SORTED_AT_ONCE = 4096
"""Keys sorted in one slice, about two milliseconds."""
PLACED_AT_ONCE = 2048
"""Keys put into blocks in one slice, about three milliseconds."""


class _Merging:
    """Puts ascending runs together part by part: what all of them have between two bounds, bound by bound."""

    __slots__ = ("_bounds", "_runs", "_starts")

    def __init__(self, runs: list[list[str]]) -> None:
        """Take `runs` of about `SORTED_AT_ONCE` keys each; parts come to about as many."""
        self._runs = runs
        self._starts = [0] * len(runs)
        every = max(1, SORTED_AT_ONCE // 64)
        sample = sorted(key for run in runs for key in run[every // 2 :: every])
        self._bounds: Iterator[str | None] = iter((*sample[64::64], None))

    def next(self) -> list[str] | None:
        """Return the least keys that are left, ascending; None once there are none. A few milliseconds."""
        bound = next(self._bounds, "")
        if bound == "":
            return None
        part: list[str] = []
        for number, run in enumerate(self._runs):
            start = self._starts[number]
            end = len(run) if bound is None else bisect_left(run, bound, start)
            part += run[start:end]
            self._starts[number] = end
        part.sort()
        return part


class _Sorting:
    """Sorts keys by the slice: short runs first, then these are put together."""

    __slots__ = ("_at", "_keys", "_merging", "_runs", "blocks")

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys
        self._at = 0
        self._runs: list[list[str]] = []
        self._merging: _Merging | None = None
        self.blocks: list[list[str]] = []
        """Of the least keys; of all once there is no more to do."""

    def step(self) -> bool:
        """Do a slice, a few milliseconds; tell whether more is left."""
        if self._at < len(self._keys):
            self._runs.append(sorted(self._keys[self._at : self._at + SORTED_AT_ONCE]))
            self._at += SORTED_AT_ONCE
            return True
        if self._merging is None:
            self._merging = _Merging(self._runs)
            return True
        part = self._merging.next()
        self.blocks += _blocks(part or ())
        return part is not None


def _blocks(keys: Sequence[str]) -> list[list[str]]:
    return [list(keys[at : at + BLOCK_MAX]) for at in range(0, len(keys), BLOCK_MAX)]


class KeyOrder:
    """Distinct keys in ascending order.

    Two things are put off: sorting what a start found (`later`), and placing what pages of a catch-up bring
    (`extend`). `prepare` does either by the slice. Who asks for the order before that has it done at once, which
    takes a second for a million keys.
    """

    __slots__ = (
        "_blocks",
        "_changed",
        "_gone",
        "_heads",
        "_late",
        "_late_count",
        "_length",
        "_merging",
        "_part",
        "_part_at",
        "_recent",
        "_sorting",
    )

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Take `keys`, which are ascending."""
        self._sorting: _Sorting | None = None
        self._changed: dict[str, bool] = {}
        self._recent: list[str] = []
        self._late: list[list[str]] = []
        self._late_count = 0
        self._merging: _Merging | None = None
        self._part: list[str] = []
        self._part_at = 0
        self._gone: dict[str, int] = {}
        """Keys taken out that are still among those gathered, and how often."""
        self._blocks = _blocks(keys)
        self._heads = list(keys[::BLOCK_MAX])
        self._length = len(keys)

    @classmethod
    def later(cls, keys: list[str]) -> "KeyOrder":
        """Take distinct `keys` in any order, to be put in order by `settle`, or at once by the first who asks for it.

        Sorting a million took a fourth of a replay (`bench/engine.py`).
        """
        if len(keys) <= SORTED_AT_ONCE:
            return cls(sorted(keys))
        order = cls()
        order._sorting, order._length = _Sorting(keys), len(keys)
        return order

    # ---- what was put off ------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Tell whether nothing of what a start found was put off."""
        return self._sorting is None

    def settle(self) -> bool:
        """Do a slice of the sorting that was put off; tell whether more is left."""
        if self._sorting is None:
            return False
        if self._sorting.step():
            return True
        if self._blocks is not self._sorting.blocks:
            self._blocks = self._sorting.blocks
            self._heads = [block[0] for block in self._blocks]
        for _ in range(min(PLACED_AT_ONCE, len(self._changed))):
            key, stays = self._changed.popitem()
            if not stays:
                self._drop(key)
            elif not self._holds(key):
                self._put(key)
        if not self._changed:
            self._sorting = None
        return self._sorting is not None

    def prepare(self) -> bool:
        """Do a slice of what has to be done before the order can be asked for; tell whether more is left."""
        if self._sorting is not None:
            return self.settle() or self._gathered
        if self._gathered:
            self._place(PLACED_AT_ONCE)
        return self._gathered

    @property
    def _gathered(self) -> bool:
        return bool(self._recent or self._late or self._part) or self._merging is not None

    def _prepared(self) -> None:
        while self.prepare():
            pass

    def _holds(self, key: str) -> bool:
        at = bisect_right(self._heads, key) - 1
        if at < 0:
            return False
        place = bisect_left(self._blocks[at], key)
        return place < len(self._blocks[at]) and self._blocks[at][place] == key

    # ---- changing --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._length

    def insert(self, key: str) -> None:
        """Add a key that is not there."""
        self._length += 1
        if self._sorting is not None:
            self._changed[key] = True
        else:
            self._put(key)

    def _put(self, key: str) -> None:
        if not self._blocks:
            self._blocks, self._heads = [[key]], [key]
            return
        at = max(bisect_right(self._heads, key) - 1, 0)
        block = self._blocks[at]
        if len(block) >= BLOCK_MAX:
            self._split(at, key)
            at += key >= self._heads[at + 1]
            block = self._blocks[at]
        place = bisect_left(block, key)
        block.insert(place, key)
        if place == 0:
            self._heads[at] = key

    def extend(self, keys: Sequence[str]) -> None:
        """Add ascending keys that are not there.

        They are gathered, and put into blocks some at each further call, or by `prepare`: a block takes many in the
        time that finding the place of one takes.
        """
        self._length += len(keys)
        if self._sorting is not None:
            self._changed.update(dict.fromkeys(keys, True))
        elif not self._blocks and not self._gathered:
            self._blocks, self._heads = _blocks(keys), list(keys[::BLOCK_MAX])
        else:
            self._recent += keys
            self._late_count += len(keys)
            if len(self._recent) >= SORTED_AT_ONCE:
                self._close_run()
            enough = min(max(self._length // GATHERED_PART, GATHERED_MIN), GATHERED_MAX)
            if self._part or self._merging is not None:
                self._place(2 * len(keys))
            elif self._late_count >= enough:
                self._begin_placing()

    def _close_run(self) -> None:
        self._recent.sort()
        self._late.append(self._recent)
        self._recent = []

    def _begin_placing(self) -> None:
        if self._recent:
            self._close_run()
        self._merging, self._late, self._late_count = _Merging(self._late), [], 0

    def _place(self, count: int) -> None:
        """Put about `count` of the least keys that were gathered into their blocks."""
        if self._part_at == len(self._part):
            if self._merging is None:
                self._begin_placing()
            assert self._merging is not None
            part = self._merging.next()
            self._part, self._part_at = self._without_gone(part or []), 0
            if part is None:
                self._merging = None
                return
        keys, start = self._part, self._part_at
        stop = min(start + count, len(keys))
        if start < stop and not self._blocks:  # all that was there was taken out meanwhile
            self._blocks, self._heads = [[keys[start]]], [keys[start]]
            start += 1
        while start < stop:
            at = max(bisect_right(self._heads, keys[start]) - 1, 0)
            end = len(keys) if at + 1 == len(self._heads) else bisect_left(keys, self._heads[at + 1], start)
            end = min(end, start + PLACED_AT_ONCE)
            self._take(at, keys[start:end])
            start = end
        self._part_at = start
        if start == len(keys):
            self._part, self._part_at = [], 0

    def _without_gone(self, keys: list[str]) -> list[str]:
        if not self._gone:
            return keys
        left = []
        for key in keys:
            times = self._gone.pop(key, 0)
            if not times:
                left.append(key)
            elif times > 1:
                self._gone[key] = times - 1
        return left

    def _take(self, at: int, keys: Sequence[str]) -> None:
        """Put ascending keys into block `at`; parts of an overfull one leave room, but behind the greatest key."""
        block = self._blocks[at]
        size = len(block) + len(keys)
        if size > BLOCK_MAX:
            grows = at + 1 == len(self._blocks) and keys[0] > block[-1]
            parts = -(-size // (BLOCK_MAX if grows else BLOCK_MAX // 4 * 3))
            items, step = sorted((*block, *keys)), BLOCK_MAX if grows else -(-size // parts)
            self._blocks[at : at + 1] = [items[begin : begin + step] for begin in range(0, size, step)]
            self._heads[at : at + 1] = items[::step]
        elif len(keys) > _SORTED_IN_MIN:
            block += keys
            block.sort()
        else:
            for key in keys:
                insort(block, key)
        self._heads[at] = self._blocks[at][0]

    def _split(self, at: int, key: str) -> None:
        """Make two blocks of the full block `at`, which `key` is to join."""
        block = self._blocks[at]
        grows = at + 1 == len(self._blocks) and key > block[-1]  # then the lower block stays full
        half = len(block) - 1 if grows else len(block) // 2
        self._blocks.insert(at + 1, block[half:])
        self._heads.insert(at + 1, block[half])
        del block[half:]

    def remove(self, key: str) -> None:
        """Take out a key that is there."""
        self._length -= 1
        if self._sorting is not None:
            self._changed[key] = False
        elif not self._drop(key):
            assert self._gathered, "only a key that is there is taken out"
            place = bisect_left(self._part, key, self._part_at)
            if place < len(self._part) and self._part[place] == key:
                del self._part[place]
            else:
                self._gone[key] = self._gone.get(key, 0) + 1

    def _drop(self, key: str) -> bool:
        """Take `key` out of its block; tell whether it was in one."""
        at = bisect_right(self._heads, key) - 1
        if at < 0:
            return False
        block = self._blocks[at]
        place = bisect_left(block, key)
        if place == len(block) or block[place] != key:
            return False
        del block[place]
        if not block:
            del self._blocks[at], self._heads[at]
        elif place == 0:
            self._heads[at] = block[0]
        return True

    # ---- reading ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        self._prepared()
        for block in self._blocks:
            yield from block

    def behind(self, start: str, *, inclusive: bool) -> Iterator[str]:
        """Yield the keys from `start` on, ascending; the order must not change meanwhile."""
        self._prepared()
        at, skip = self._find(start, inclusive=inclusive)
        for index in range(at, len(self._blocks)):
            yield from islice(self._blocks[index], skip, None)
            skip = 0

    def some_behind(self, start: str, count: int, *, inclusive: bool) -> list[str]:
        """Return up to `count` keys from `start` on, ascending."""
        self._prepared()
        at, skip = self._find(start, inclusive=inclusive)
        found: list[str] = []
        while at < len(self._blocks) and len(found) < count:
            found += self._blocks[at][skip : skip + count - len(found)]
            at, skip = at + 1, 0
        return found

    def _find(self, start: str, *, inclusive: bool) -> tuple[int, int]:
        """Return the block and the place in it where the keys from `start` on begin."""
        if not self._blocks:
            return 0, 0
        at = max(bisect_right(self._heads, start) - 1, 0)
        find = bisect_left if inclusive else bisect_right
        return at, find(self._blocks[at], start)
