"""Entries that go the whole way together: found, sent, merged, logged and shown as columns, not one by one.

A member that joins a million entries takes them a page at a time; a step in Python for each entry and station made that
five times as long (`bench/replication.py`). A block is such a page, or the part of it that nothing here stands in the
way of. In the log it is one Set or SetExpiring record an entry: whoever replays cannot tell.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import compress
from operator import attrgetter
from typing import NamedTuple

from wavekv.core.packed import (
    EXPIRING_FACTS_BYTES,
    FACTS_BYTES,
    HAS_EXPIRY,
    HAS_VALUE,
    Facts,
    ascending,
    facts_of,
    unpack,
    well_formed,
)
from wavekv.core.types import Entry, key_bytes


class Part(NamedTuple):
    """Where a block has the entries of one origin: from `begin` to before `end`."""

    origin: int
    begin: int
    end: int


_origin_of = attrgetter("origin")


class Block:
    """Entries of distinct keys and distinct dots, ascending by dot; at least one.

    Attributes:
        keys: their keys.
        packed: the packed entry of each.
    """

    def __init__(self, keys: Sequence[str], packed: Sequence[bytes]) -> None:
        """Take what is known to be a block; what others sent is to be checked."""
        self.keys = keys
        self.packed = packed

    def check(self) -> None:
        """Look at all of it.

        Raises:
            ValueError: it is no block; the text says why.
        """
        packed = self.packed
        if not packed or len(self.entries) != len(packed):
            raise ValueError("a key is given twice" if packed else "there is no entry")
        if min(map(len, packed)) < FACTS_BYTES:
            raise ValueError("a packed entry is cut short")
        if self.facts.kinds.count(HAS_VALUE) != len(packed) and not all(map(well_formed, packed)):
            raise ValueError("a packed entry is not well-formed")
        if not self.parts:
            raise ValueError("the entries do not ascend by dot")

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def entries(self) -> dict[str, bytes]:
        """Key → packed entry."""
        return dict(zip(self.keys, self.packed, strict=True))

    @cached_property
    def facts(self) -> Facts:
        """The entries by columns."""
        return facts_of(self.packed)

    @cached_property
    def parts(self) -> list[Part]:
        """The origins, ascending; none where dots do not ascend."""
        return _parts(self.facts)

    @cached_property
    def values(self) -> int:
        """How many are no tombstones."""
        kinds = self.facts.kinds
        return kinds.count(HAS_VALUE) + kinds.count(HAS_VALUE | HAS_EXPIRY)

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of keys and values."""
        kinds = self.facts.kinds
        expiring = kinds.count(HAS_EXPIRY) + kinds.count(HAS_EXPIRY | HAS_VALUE)
        facts = FACTS_BYTES * len(kinds) + (EXPIRING_FACTS_BYTES - FACTS_BYTES) * expiring
        return key_bytes("".join(self.keys)) + sum(map(len, self.packed)) - facts

    def special(self) -> Iterator[tuple[str, bytes]]:
        """Yield the entries that expire or are tombstones, with their keys."""
        kinds = self.facts.kinds
        if kinds.count(HAS_VALUE) == len(kinds):
            return iter(())
        return compress(self.entries.items(), (kind != HAS_VALUE for kind in kinds))

    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """Yield `(origin, first, last)` for sequences without a gap between them."""
        for origin, begin, end in self.parts:
            yield from ((origin, first, last) for first, last in _runs(self.facts.seqs[begin:end]))

    def key_of(self, origin: int, seq: int) -> str | None:
        """Return the key of one dot, None if it is not in the block."""
        place = bisect_left(self.parts, origin, key=_origin_of)
        if place == len(self.parts) or self.parts[place].origin != origin:
            return None
        _, begin, end = self.parts[place]
        at = bisect_left(self.facts.seqs, seq, begin, end)
        return self.keys[at] if at < end and self.facts.seqs[at] == seq else None

    def unpacked(self) -> Iterator[Entry]:
        """Yield the entries one by one."""
        return map(unpack, self.keys, self.packed)

    def parted(self, chosen: Sequence[bool]) -> tuple["Block | None", list[Entry]]:
        """Return the chosen ones as a block, None without any, and the others one by one."""
        keys, packed = list(compress(self.keys, chosen)), list(compress(self.packed, chosen))
        others = [one for one, taken in zip(self.unpacked(), chosen, strict=True) if not taken]
        return (Block(keys, packed) if keys else None), others


def _parts(facts: Facts) -> list[Part]:
    origins, seqs, begin = facts.origins, facts.seqs, 0
    parts: list[Part] = []
    while begin < len(origins):
        origin = origins[begin]
        end = len(origins) if origins[-1] == origin else _end_of(origins, begin)
        rises = not parts or origin > parts[-1].origin
        if not rises or origins[begin:end].count(origin) != end - begin or not ascending(seqs[begin:end]):
            return []
        parts.append(Part(origin, begin, end))
        begin = end
    return parts


def _end_of(origins: "array[int]", begin: int) -> int:
    """Return where others begin behind `begin`."""
    origin = origins[begin]
    return next((at for at in range(begin, len(origins)) if origins[at] != origin), len(origins))


def _runs(seqs: "array[int]") -> Iterator[tuple[int, int]]:
    first = last = seqs[0]
    if seqs[-1] - first + 1 == len(seqs):
        yield first, seqs[-1]
        return
    for seq in seqs[1:]:
        if seq != last + 1:
            yield first, last
            first = seq
        last = seq
    yield first, last
