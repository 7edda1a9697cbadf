"""Sorted sequences in blocks: the keys in their order, and one origin's sequences with their keys.

A block is a short sorted list, and a list of the blocks' first items finds it, so adding and removing move a few
hundred pointers at most. A million sorted items become such a sequence in milliseconds, at 8 bytes a key and 16 a
sequence; B-trees took ten times as long to fill and twice the memory (`bench/engine.py`).
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import chain, islice

BLOCK_MAX = 512
"""Items in a block; a full one is parted in halves, or left full where the order only grows at its end."""
_SORTED_IN_MIN = 12
"""So many keys go into a block one by one; sorting it looks at all it has, but in a row."""
GATHERED_MIN, GATHERED_MAX, GATHERED_PART = 1 << 14, 1 << 16, 4
"""Keys gathered before they go into blocks: a part of all, within bounds."""
SORTED_AT_ONCE = 4096
"""Keys sorted in one slice, about two milliseconds."""


class _Sorting:
    """Sorts keys by the slice: short runs first, then what all runs have between two bounds, bound by bound."""

    __slots__ = ("_at", "_bounds", "_keys", "_runs", "_starts", "blocks")

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys
        self._at = 0
        self._runs: list[list[str]] = []
        self._starts: list[int] = []
        self._bounds: Iterator[str | None] = iter(())
        self.blocks: list[list[str]] = []
        """Of the least keys; of all once there is no more to do."""

    def step(self) -> bool:
        """Do a slice, a few milliseconds; tell whether more is left."""
        if self._at < len(self._keys):
            self._runs.append(sorted(self._keys[self._at : self._at + SORTED_AT_ONCE]))
            self._at += SORTED_AT_ONCE
            if self._at >= len(self._keys):
                self._starts = [0] * len(self._runs)
                every = max(1, SORTED_AT_ONCE // 64)
                sample = sorted(key for run in self._runs for key in run[every // 2 :: every])
                self._bounds = iter((*sample[64::64], None))
            return True
        bound = next(self._bounds, None)
        parts: list[str] = []
        for number, run in enumerate(self._runs):
            start = self._starts[number]
            end = len(run) if bound is None else bisect_left(run, bound, start)
            parts += run[start:end]
            self._starts[number] = end
        parts.sort()
        self.blocks += _blocks(parts)
        return bound is not None


def _blocks(keys: Sequence[str]) -> list[list[str]]:
    return [list(keys[at : at + BLOCK_MAX]) for at in range(0, len(keys), BLOCK_MAX)]


class KeyOrder:
    """Distinct keys in ascending order."""

    __slots__ = ("_blocks", "_changed", "_heads", "_late", "_late_count", "_length", "_merged", "_merging", "_sorting")

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Take `keys`, which are ascending."""
        self._sorting: _Sorting | None = None
        self._changed: dict[str, bool] = {}
        self._late: list[Sequence[str]] = []
        self._late_count = 0
        self._merging: list[str] = []
        self._merged = 0
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

    @property
    def settled(self) -> bool:
        """Tell whether nothing was put off."""
        return self._sorting is None

    def settle(self) -> bool:
        """Do a slice of the sorting that was put off; tell whether more is left."""
        if self._sorting is None or self._sorting.step():
            return self._sorting is not None
        self._blocks, length = self._sorting.blocks, self._length
        self._heads = [block[0] for block in self._blocks]
        self._sorting, changed, self._changed = None, self._changed, {}
        for key, stays in changed.items():
            if stays != self._holds(key):
                (self.insert if stays else self.remove)(key)
        self._length = length
        return False

    def _holds(self, key: str) -> bool:
        return next(self.behind(key, inclusive=True), None) == key

    def _sorted(self) -> None:
        while self._sorting is not None:
            self.settle()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        self._sorted()
        self._flush()
        for block in self._blocks:
            yield from block

    def insert(self, key: str) -> None:
        """Add a key that is not there."""
        self._length += 1
        if self._sorting is not None:
            self._changed[key] = True
            return
        if not self._blocks:
            self._blocks, self._heads = [[key]], [key]
            return
        at = max(bisect_right(self._heads, key) - 1, 0)
        block = self._blocks[at]
        if len(block) >= BLOCK_MAX:
            self._part(at, key)
            at += key >= self._heads[at + 1]
            block = self._blocks[at]
        place = bisect_left(block, key)
        block.insert(place, key)
        if place == 0:
            self._heads[at] = key

    def extend(self, keys: Sequence[str]) -> None:
        """Add ascending keys that are not there.

        They are gathered, and put into blocks some at each further call, or at once by who asks for the order: a block
        takes many in the time that finding the place of one takes.
        """
        self._length += len(keys)
        if self._sorting is not None:
            self._changed.update(dict.fromkeys(keys, True))
        elif not self._blocks:
            self._blocks, self._heads = _blocks(keys), list(keys[::BLOCK_MAX])
        else:
            self._late.append(keys)
            self._late_count += len(keys)
            if self._merging:
                self._merge(2 * len(keys))
            elif self._late_count >= min(max(self._length // GATHERED_PART, GATHERED_MIN), GATHERED_MAX):
                self._gather()

    def _gather(self) -> None:
        self._merging, self._merged = sorted(chain.from_iterable(self._late)), 0
        self._late, self._late_count = [], 0

    def _merge(self, count: int) -> None:
        """Put about `count` of the least keys that are being merged into their blocks; there is a block."""
        keys, start = self._merging, self._merged
        stop = min(start + count, len(keys))
        while start < stop:
            at = max(bisect_right(self._heads, keys[start]) - 1, 0)
            end = len(keys) if at + 1 == len(self._heads) else bisect_left(keys, self._heads[at + 1], start)
            self._take(at, keys[start:end])
            start = end
        self._merged = start
        if start == len(keys):
            self._merging = []

    def _flush(self) -> None:
        """Put all that was gathered into blocks."""
        while self._merging or self._late:
            if not self._merging:
                self._gather()
            self._merge(len(self._merging))

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

    def _part(self, at: int, key: str) -> None:
        """Make two blocks of the full block `at`, which `key` is to join."""
        block = self._blocks[at]
        grows = at + 1 == len(self._blocks) and key > block[-1]  # then the lower block stays full
        half = len(block) - 1 if grows else len(block) // 2
        self._blocks.insert(at + 1, block[half:])
        self._heads.insert(at + 1, block[half])
        del block[half:]

    def remove(self, key: str) -> None:
        """Take out a key that is there."""
        if self._sorting is not None:
            self._length -= 1
            self._changed[key] = False
            return
        if self._late or self._merging:
            self._flush()  # it may be among those
        at = bisect_right(self._heads, key) - 1
        block = self._blocks[at]
        place = bisect_left(block, key)
        assert block[place] == key, "only a key that is there is taken out"
        self._length -= 1
        del block[place]
        if not block:
            del self._blocks[at], self._heads[at]
        elif place == 0:
            self._heads[at] = block[0]

    def behind(self, start: str, *, inclusive: bool) -> Iterator[str]:
        """Yield the keys from `start` on, ascending; the order must not change meanwhile."""
        self._sorted()
        self._flush()
        at = max(bisect_right(self._heads, start) - 1, 0)
        find = bisect_left if inclusive else bisect_right
        skip = find(self._blocks[at], start) if self._blocks else 0
        for block in islice(self._blocks, at, None):
            yield from islice(block, skip, None)
            skip = 0


class _Block:
    """Sequences and what they name; `names` are places in a list of keys until somebody changes them."""

    __slots__ = ("names", "seqs")

    def __init__(self, seqs: "array[int]", names: "list[str | tuple[str, ...]] | array[int]") -> None:
        self.seqs = seqs
        self.names = names


class DotOrder:
    """The sequences of one origin, ascending, each with what it names.

    Made from a snapshot it knows places in key order at first, and no key is touched before it is wanted: fetching a
    million of them in the order of their sequences took a quarter of a start (`bench/engine.py`).
    """

    __slots__ = ("_blocks", "_heads", "_keys", "_placed")

    def __init__(self, seqs: "array[int] | None" = None, names: Sequence[str | tuple[str, ...]] = ()) -> None:
        """Take `seqs`, which are ascending and distinct, and what each of them names."""
        seqs = array("Q") if seqs is None else seqs
        starts = range(0, len(seqs), BLOCK_MAX)
        self._blocks = [_Block(seqs[at : at + BLOCK_MAX], list(names[at : at + BLOCK_MAX])) for at in starts]
        self._heads = [seqs[at] for at in starts]
        self._keys: Sequence[str] = ()
        self._placed: list[_Block] = []

    @classmethod
    def over(cls, seqs: "array[int]", places: "array[int]", keys: Sequence[str]) -> "DotOrder":
        """Take `seqs`, ascending and distinct, and the place in `keys` of the key of each; `keys` does not change."""
        order = cls()
        starts = range(0, len(seqs), BLOCK_MAX)
        order._blocks = [_Block(seqs[at : at + BLOCK_MAX], places[at : at + BLOCK_MAX]) for at in starts]
        order._heads = [seqs[at] for at in starts]
        order._keys = keys
        order._placed = list(order._blocks)
        return order

    def fetch(self) -> bool:
        """Put keys for places in one block more; tell whether there is another. Afterwards `keys` is let go."""
        if self._placed:
            self._named(self._placed.pop())
        if not self._placed:
            self._keys = ()
        return bool(self._placed)

    def _named(self, block: _Block) -> list[str | tuple[str, ...]]:
        """Return the names in a block, to be changed."""
        if isinstance(block.names, list):
            return block.names
        names: list[str | tuple[str, ...]] = list(map(self._keys.__getitem__, block.names))
        block.names = names
        return names

    def __bool__(self) -> bool:
        return bool(self._blocks)

    @property
    def last(self) -> int:
        """The greatest sequence; there must be one."""
        return self._blocks[-1].seqs[-1]

    def get(self, seq: int) -> str | tuple[str, ...] | None:
        """Return what `seq` names, None if it is not there."""
        at = bisect_right(self._heads, seq) - 1
        if at < 0:
            return None
        block = self._blocks[at]
        place = bisect_left(block.seqs, seq)
        if place == len(block.seqs) or block.seqs[place] != seq:
            return None
        name = block.names[place]
        return self._keys[name] if isinstance(name, int) else name

    def set(self, seq: int, name: str | tuple[str, ...]) -> None:
        """Let `seq` name `name`."""
        if not self._blocks or seq > self.last:
            self._append(seq, name)
            return
        at = max(bisect_right(self._heads, seq) - 1, 0)
        block = self._blocks[at]
        seqs, names = block.seqs, self._named(block)
        place = bisect_left(seqs, seq)
        if place < len(seqs) and seqs[place] == seq:
            names[place] = name
            return
        seqs.insert(place, seq)
        names.insert(place, name)
        self._heads[at] = seqs[0]
        if len(seqs) > BLOCK_MAX:
            half = len(seqs) // 2
            self._blocks.insert(at + 1, _Block(seqs[half:], names[half:]))
            self._heads.insert(at + 1, seqs[half])
            del seqs[half:], names[half:]

    def extend(self, seqs: "array[int]", names: Sequence[str]) -> None:
        """Let each of `seqs`, which are ascending and not there, name its counterpart."""
        if self._blocks and seqs[0] < self.last:
            for seq, name in zip(seqs, names, strict=True):
                self.set(seq, name)
            return
        room = BLOCK_MAX - len(self._blocks[-1].seqs) if self._blocks else 0
        if room > 0:
            self._blocks[-1].seqs.extend(seqs[:room])
            self._named(self._blocks[-1]).extend(names[:room])
        for at in range(max(room, 0), len(seqs), BLOCK_MAX):
            self._blocks.append(_Block(seqs[at : at + BLOCK_MAX], list(names[at : at + BLOCK_MAX])))
            self._heads.append(seqs[at])

    def _append(self, seq: int, name: str | tuple[str, ...]) -> None:
        if not self._blocks or len(self._blocks[-1].seqs) >= BLOCK_MAX:
            self._blocks.append(_Block(array("Q", (seq,)), [name]))
            self._heads.append(seq)
            return
        block = self._blocks[-1]
        block.seqs.append(seq)
        self._named(block).append(name)

    def remove(self, seq: int) -> None:
        """Take out a sequence that is there."""
        at = bisect_right(self._heads, seq) - 1
        seqs, names = self._blocks[at].seqs, self._blocks[at].names
        place = bisect_left(seqs, seq)
        assert seqs[place] == seq, "only a sequence that is there is taken out"
        del seqs[place], names[place]
        if not seqs:
            del self._blocks[at], self._heads[at]
            return
        self._heads[at] = seqs[0]
        if len(seqs) <= BLOCK_MAX // 8:
            self._join(at)

    def _join(self, at: int) -> None:
        """Put a block that ran low together with the one before it, if both fit: thin ones must not pile up."""
        if at == 0 or len(self._blocks[at - 1].seqs) > BLOCK_MAX // 2:
            return
        before, block = self._blocks[at - 1], self._blocks[at]
        before.seqs.extend(block.seqs)
        self._named(before).extend(self._named(block))
        del self._blocks[at], self._heads[at]

    def stretches(self, seq: int) -> Iterator[tuple["array[int]", list[str | tuple[str, ...]]]]:
        """Yield what is above `seq`, ascending, in blocks of sequences and names; nothing may change meanwhile."""
        at = max(bisect_right(self._heads, seq) - 1, 0)
        skip = bisect_right(self._blocks[at].seqs, seq) if self._blocks else 0
        for block in islice(self._blocks, at, None):
            if skip < len(block.seqs):
                yield block.seqs[skip:], self._named(block)[skip:]
            skip = 0
