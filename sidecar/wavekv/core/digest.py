"""What two members compare to see whether they hold the same values.

`Buckets` is an incremental multiset hash: one 64-bit sum per bucket of keys, so a change costs one hash and a quiet
round nothing. It is over held values, expired or not, never over tombstones, so collecting a delete does not change it.
`crate_digest` is the original system's SHA-256 over all entries in key order; it is computed only for crate peers,
because it costs a pass over everything.
"""

import hashlib
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence

from xxhash import xxh3_64_intdigest

from wavekv.core.packed import HAS_VALUE, KIND_AT
from wavekv.core.types import Entry

BUCKETS = 64
"""Buckets on the wire: 576 bytes a round, and a sixty-fourth of the keys to list where one differs."""

_MASK = 2**64 - 1
_CRATE_META = struct.Struct("<IQq")
_LENGTH = struct.Struct("<I")


class Buckets:
    """The digest of a multiset of entries, by bucket of their keys."""

    __slots__ = ("sums",)

    def __init__(self, sums: Iterable[int] = (0,) * BUCKETS) -> None:
        self.sums = list(sums)

    def replace(self, key: str, old: bytes | None, new: bytes | None) -> None:
        """Account for the packed entry `new` standing under `key` where `old` stood (None or a tombstone: no value).

        An entry's share is the XXH3-64 of its packed form, seeded with that of its key, which also chooses the bucket.
        """
        seed = xxh3_64_intdigest(key.encode())
        bucket = seed % BUCKETS
        change = 0
        if old is not None and old[KIND_AT] & HAS_VALUE:
            change -= xxh3_64_intdigest(old, seed)
        if new is not None and new[KIND_AT] & HAS_VALUE:
            change += xxh3_64_intdigest(new, seed)
        self.sums[bucket] = (self.sums[bucket] + change) & _MASK

    def add(self, entries: Mapping[str, bytes]) -> None:
        """Account for packed entries where nothing stood."""
        tally(self.sums, entries.keys(), entries.values())
        self.sums = [total & _MASK for total in self.sums]

    def snapshot(self) -> tuple[int, ...]:
        """Return the sums as they travel."""
        return tuple(self.sums)


def bucket_of(key: str) -> int:
    """Return the bucket that `key` falls into."""
    return xxh3_64_intdigest(key.encode()) % BUCKETS


def differences(mine: Sequence[int], theirs: Sequence[int]) -> dict[int, int]:
    """Return by how much (modulo 2^64) each bucket that differs is ahead of its counterpart."""
    pairs = enumerate(zip(mine, theirs, strict=True))
    return {bucket: (ours - other) & _MASK for bucket, (ours, other) in pairs if ours != other}


def tally(sums: list[int], keys: Collection[str], packed: Collection[bytes]) -> None:
    """Add packed entries to `sums`, as `Buckets.replace` would; the caller reduces them modulo 2^64 in the end."""
    for key, blob in zip(keys, packed, strict=True):
        if blob[KIND_AT] & HAS_VALUE:
            seed = xxh3_64_intdigest(key.encode())
            sums[seed % BUCKETS] += xxh3_64_intdigest(blob, seed)


def crate_digest(entries: Iterable[Entry]) -> bytes:
    """Return the 32-byte digest of `entries`, given in key order, as crate nodes compute it."""
    digest = hashlib.sha256()
    for entry in entries:
        key = entry.key.encode()
        digest.update(_LENGTH.pack(len(key)) + key + _CRATE_META.pack(entry.origin, entry.seq, entry.timestamp))
        digest.update(b"\0" if entry.value is None else b"\1" + _LENGTH.pack(len(entry.value)) + entry.value)
    return digest.digest()
