"""Which entries another member lacks, page by page (R3).

Order is by dot. A page ends before the entry that would exceed its bounds, and one entry always goes. Entries that
share a dot (only crate nodes make such) are never parted, because a cursor cannot point between them. A quiet round
looks at one number per origin, never at entries; a page is found a stretch of sequences at a time, not one by one.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress, repeat
from typing import NamedTuple

from wavekv.config import Limits
from wavekv.core.block import Block
from wavekv.core.context import Context
from wavekv.core.packed import dot_of, unpack
from wavekv.core.store import Store, as_keys
from wavekv.core.types import Dot, Entry, key_bytes

_OVERHEAD_BYTES = 11
"""Of an entry in a message, beside its key and its packed form."""


class DeltaPage(NamedTuple):
    """Keys of one page and their packed entries; `cursor` is the last dot sent if more follow, None on the last page.

    `plain`: no two of them share a dot.
    """

    keys: list[str]
    packed: list[bytes]
    cursor: Dot | None
    plain: bool

    def entries(self) -> tuple[Entry, ...]:
        """Return them one by one."""
        return tuple(map(unpack, self.keys, self.packed))

    def block(self) -> Block | None:
        """Return them as a block; None: they are none."""
        return Block(self.keys, self.packed) if self.plain and self.keys else None


class _Stretch(NamedTuple):
    """Dots of one origin, ascending, and for each its key, or keys."""

    origin: int
    seqs: Sequence[int]
    names: Sequence[str | tuple[str, ...]]


class _Filling:
    """A page while it is filled."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._held = store.packed
        self._limits = limits
        self._size = 0
        self.keys: list[str] = []
        self.packed: list[bytes] = []
        self.plain = True

    def take(self, names: Sequence[str | tuple[str, ...]]) -> int:
        """Take the keys of as many dots as fit; return how many dots these are."""
        keys = [name for name in names if isinstance(name, str)]
        if len(keys) == len(names):
            return self._take_keys(keys)
        taken = 0
        while taken < len(names) and self._take_together(as_keys(names[taken])):
            taken += 1
        return taken

    def _take_keys(self, keys: list[str]) -> int:
        packed = list(map(self._held.__getitem__, keys))
        sizes = map(len if "".join(keys).isascii() else key_bytes, keys)
        ends = list(accumulate(map(sum, zip(sizes, map(len, packed), repeat(_OVERHEAD_BYTES)))))
        fitting = bisect_right(ends, self._limits.page_bytes_max - self._size)
        count = min(fitting, self._limits.page_entries_max - len(self.keys))
        count = max(count, 0 if self.keys else 1)
        self.keys += keys[:count]
        self.packed += packed[:count]
        self._size += ends[count - 1] if count else 0
        return count

    def _take_together(self, keys: tuple[str, ...]) -> bool:
        packed = [self._held[key] for key in keys]
        size = sum(key_bytes(key) + len(one) + _OVERHEAD_BYTES for key, one in zip(keys, packed, strict=True))
        limits = self._limits
        full = len(self.keys) >= limits.page_entries_max or self._size + size > limits.page_bytes_max
        if self.keys and full:
            return False
        self.keys += keys
        self.packed += packed
        self._size += size
        self.plain &= len(keys) == 1
        return True


def delta_page(store: Store, theirs: Context, after: Dot | None, limits: Limits) -> DeltaPage:
    """Return the first page of what `theirs` does not cover, starting strictly behind `after`."""
    page = _Filling(store, limits)
    last: Dot | None = None
    for origin, seqs, names in _uncovered(store, theirs, after or (0, 0)):
        taken = page.take(names)
        last = (origin, seqs[taken - 1]) if taken else last
        if taken < len(seqs):
            return DeltaPage(page.keys, page.packed, last, page.plain)
    return DeltaPage(page.keys, page.packed, None, page.plain)


def lacks_any(store: Store, theirs: Context) -> bool:
    """Tell whether `theirs` lacks anything that is held here."""
    return next(_uncovered(store, theirs, (0, 0)), None) is not None


def _uncovered(store: Store, theirs: Context, after: Dot) -> Iterator[_Stretch]:
    for origin in store.origins():
        if origin < after[0]:
            continue
        behind = max(theirs.acks.get(origin, 0), after[1] if origin == after[0] else 0)
        if store.greatest_seq(origin) <= behind:
            continue
        for seqs, names in store.of_origin(origin, behind):
            if not theirs.touches(origin, seqs[0], seqs[-1]):
                yield _Stretch(origin, seqs, names)
                continue
            lacking = [not theirs.covers(origin, seq) for seq in seqs]
            if any(lacking):
                yield _Stretch(origin, list(compress(seqs, lacking)), list(compress(names, lacking)))


def changed_behind(store: Store, theirs: Context, cursor: Dot, position: int, limits: Limits) -> list[Entry] | None:
    """Return what changed since log position `position`, sorts up to `cursor`, and `theirs` lacks (R3c).

    None says that the changes are too many or too long ago: the receiver must adopt nothing.
    """
    changed = store.packed_changed_since(position)
    if changed is None:
        return None
    late: list[Entry] = []
    weight = 0
    for key, packed in changed:
        dot = dot_of(packed)
        if dot <= cursor and not theirs.covers(*dot):
            late.append(unpack(key, packed))
            weight += key_bytes(key) + len(packed) + _OVERHEAD_BYTES
            if len(late) > limits.page_entries_max or weight > limits.page_bytes_max:
                return None
    return late
