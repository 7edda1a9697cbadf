"""One origin's sequences in their order, each with its key: a sorted sequence in blocks, as `ordered` has the keys.

At 16 bytes a sequence; B-trees took ten times as long to fill and twice the memory (`bench/engine.py`).
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

BLOCK_MAX = 512
"""Sequences in a block; a full one is parted in halves."""


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
