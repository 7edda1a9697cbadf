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


class Block:
    """Entries of distinct keys and distinct dots, ascending by dot; at least one.

    Attributes:
        entries: key → packed entry, in that order.
        facts: the same by columns.
        parts: its origins, ascending.
    """

    def __init__(self, keys: Sequence[str], packed: Sequence[bytes]) -> None:
        """Take the packed entry of each key.

        Raises:
            ValueError: they are no block; the text says why.
        """
        self.entries = dict(zip(keys, packed, strict=True))
        if not keys or len(self.entries) != len(keys):
            raise ValueError("a key is given twice" if keys else "there is no entry")
        if min(map(len, packed)) < FACTS_BYTES:
            raise ValueError("a packed entry is cut short")
        self.facts: Facts = facts_of(packed)
        if self.facts.kinds.count(HAS_VALUE) != len(packed) and not all(map(well_formed, packed)):
            raise ValueError("a packed entry is not well-formed")
        self.parts = _parts(self.facts)

    @cached_property
    def keys(self) -> list[str]:
        """The keys, as places count them."""
        return list(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

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
        return key_bytes("".join(self.entries)) + sum(map(len, self.entries.values())) - facts

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
        for part in self.parts:
            if part.origin == origin:
                at = bisect_left(self.facts.seqs, seq, part.begin, part.end)
                found = at < part.end and self.facts.seqs[at] == seq
                return self.keys[at] if found else None
        return None

    def unpacked(self) -> Iterator[Entry]:
        """Yield the entries one by one."""
        return map(unpack, self.entries, self.entries.values())

    def parted(self, chosen: Sequence[bool]) -> tuple["Block | None", list[Entry]]:
        """Return the chosen ones as a block, None without any, and the others one by one."""
        keys = list(compress(self.entries, chosen))
        others = [unpack(*one) for one in compress(self.entries.items(), (not taken for taken in chosen))]
        return (Block(keys, [self.entries[key] for key in keys]) if keys else None), others


def _parts(facts: Facts) -> list[Part]:
    origins, seqs, begin = facts.origins, facts.seqs, 0
    parts: list[Part] = []
    while begin < len(origins):
        origin = origins[begin]
        end = len(origins) if origins[-1] == origin else _end_of(origins, begin)
        if parts and origin <= parts[-1].origin:
            raise ValueError("the entries do not ascend by dot")
        if origins[begin:end].count(origin) != end - begin or not ascending(seqs[begin:end]):
            raise ValueError("the entries do not ascend by dot")
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
