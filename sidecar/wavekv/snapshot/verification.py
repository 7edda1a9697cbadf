"""Whether a snapshot is right beyond its hashes: every key, entry, sum, dot and expiry is looked at.

For people, not for starts. A load trusts a block whose hash held to be what its writer wrote; this does not trust the
writer either. It takes about 13 bytes of memory an entry, for the dots, and a few microseconds.
"""

import struct
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Final

from wavekv.core.digest import BUCKETS, tally
from wavekv.core.packed import FACTS_BYTES, HAS_EXPIRY, HAS_VALUE, KIND_AT, dot_of, value_bytes, well_formed
from wavekv.snapshot.blocks import (
    DOTS,
    ENTRIES,
    EXPIRING,
    HEAD,
    Block,
    Progress,
    Tail,
    damaged,
    decode_head,
    decode_tail,
    decoded,
    read_blocks,
)
from wavekv.snapshot.dots import read_columns
from wavekv.snapshot.reading import Ends, read_entries, read_expiring
from wavekv.volume import open_file

_expires_at = struct.Struct("<q").unpack_from
_MASK: Final = 2**64 - 1


def verify(path: Path, progress: Progress | None = None) -> Ends:
    """Check all of a snapshot; return its head and tail.

    Raises:
        SnapshotDamaged: something does not hold.
        NewerVersion: a newer version wrote it.
        OSError: the file cannot be read.
    """
    head, blocks = None, 0
    audit = _Audit(path)
    with open_file(path) as file:
        for block in read_blocks(file, path, progress):
            blocks += 1
            if block.kind == HEAD:
                head = decoded(path, block, decode_head)
            elif block.kind == ENTRIES:
                audit.entries(block)
            elif block.kind == EXPIRING:
                audit.expiring(block)
            elif block.kind == DOTS:
                audit.dots(block)
    assert head is not None, "a file that ends in a tail begins with a head"
    tail = decoded(path, block, decode_tail)
    audit.end(block, tail, blocks)
    return Ends(head, tail)


class _Audit:
    """What was seen so far of one snapshot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: str | None = None
        self._values = self._size_bytes = 0
        self._sums = [0] * BUCKETS
        self._origins, self._seqs, self._named = array("I"), array("Q"), bytearray()
        self._expiring: list[tuple[int, int]] = []
        self._dot = (-1, -1, -1)

    def entries(self, block: Block) -> None:
        """Take a block of entries."""
        keys, packed = read_entries(self._path, block, self._last)
        whole = all(type(key) is str for key in keys) and all(type(blob) is bytes for blob in packed)
        self._require(block, whole, "keys and packed entries do not alternate")
        self._require(block, all(first < second for first, second in pairwise(keys)), "keys are out of order")
        self._require(block, all(map(well_formed, packed)), "an entry is malformed")
        self._last = keys[-1]
        for place, blob in enumerate(packed, len(self._seqs)):
            origin, seq = dot_of(blob)
            self._origins.append(origin)
            self._seqs.append(seq)
            if blob[KIND_AT] & HAS_EXPIRY:
                self._expiring.append((_expires_at(blob, FACTS_BYTES)[0], place))
        self._named.extend(bytes(len(keys)))
        self._values += sum(blob[KIND_AT] & HAS_VALUE for blob in packed)
        self._size_bytes += len("".join(keys).encode()) + sum(map(value_bytes, packed))
        tally(self._sums, keys, packed)

    def expiring(self, block: Block) -> None:
        """Take a block of expiries: those of the entries before it, in order."""
        found = decoded(self._path, block, read_expiring)
        expected, self._expiring = self._expiring[: len(found)], self._expiring[len(found) :]
        self._require(block, found == expected, "the expiries are not those of the entries")

    def dots(self, block: Block) -> None:
        """Take a block of dots: each entry's once, in order."""
        for origin, seqs, places in decoded(self._path, block, read_columns):
            for seq, place in zip(seqs, places, strict=True):
                dot = (origin, seq, place)
                self._require(block, self._dot < dot, "dots are out of order")
                self._dot = dot
                known = place < len(self._seqs) and (self._origins[place], self._seqs[place]) == (origin, seq)
                self._require(block, known and not self._named[place], f"place {place} is not that of its dot")
                self._named[place] = 1

    def end(self, block: Block, tail: Tail, blocks: int) -> None:
        """Compare with the tail."""
        self._require(block, not self._expiring, "expiries are missing")
        self._require(block, all(self._named), "dots are missing")
        counts = (len(self._seqs), self._values, self._size_bytes, blocks)
        told = (tail.entries, tail.values, tail.size_bytes, tail.blocks)
        self._require(block, counts == told, f"its counts are {told}, its blocks hold {counts}")
        self._require(block, tuple(total & _MASK for total in self._sums) == tail.buckets, "its digest does not hold")

    def _require(self, block: Block, holds: bool, what: str) -> None:
        if not holds:
            raise damaged(self._path, block.offset, what)
