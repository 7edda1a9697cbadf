"""What two members compare to see whether they hold the same values.

`Buckets` is an incremental multiset hash: one 64-bit sum per bucket of keys, so a change costs one hash and a quiet
round nothing. It is over held values, expired or not, never over tombstones, so collecting a delete does not change it.
`crate_digest` is the original system's SHA-256 over all entries in key order; it is computed only for crate peers,
because it costs a pass over everything.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence

from xxhash import xxh3_64_intdigest

from wavekv.core.packed import EXPIRING_FACTS_BYTES, FACTS_BYTES, HAS_EXPIRY, HAS_VALUE, unpack_facts
from wavekv.core.types import Entry

BUCKETS = 64
"""Buckets on the wire: 576 bytes a round, and a sixty-fourth of the keys to list where one differs."""

_MASK = 2**64 - 1
_META = struct.Struct("<IQqq")
_CRATE_META = struct.Struct("<IQq")
_LENGTH = struct.Struct("<I")
_HASHED = struct.Struct("<IQqqI")
_expires_at = struct.Struct("<q").unpack_from
_NO_EXPIRY = -(2**63)


class Buckets:
    """The digest of a multiset of entries, by bucket of their keys."""

    __slots__ = ("sums",)

    def __init__(self) -> None:
        self.sums = [0] * BUCKETS

    def replace(self, old: Entry | None, new: Entry | None) -> None:
        """Account for `new` standing where `old` stood (None or a tombstone: no value)."""
        if old is not None and old.value is not None:
            bucket, value = _hashes(old)
            self.sums[bucket] = (self.sums[bucket] - value) & _MASK
        if new is not None and new.value is not None:
            bucket, value = _hashes(new)
            self.sums[bucket] = (self.sums[bucket] + value) & _MASK

    def snapshot(self) -> tuple[int, ...]:
        """Return the sums as they travel."""
        return tuple(self.sums)


def _hashes(entry: Entry) -> tuple[int, int]:
    key = entry.key.encode()
    assert entry.value is not None
    expiry = _NO_EXPIRY if entry.expires_at is None else entry.expires_at
    meta = _META.pack(entry.origin, entry.seq, entry.timestamp, expiry)
    return xxh3_64_intdigest(key) % BUCKETS, xxh3_64_intdigest(meta + _LENGTH.pack(len(key)) + key + entry.value)


def tally(sums: list[int], keys: Sequence[str], packed: Sequence[bytes]) -> None:
    """Add packed entries to `sums`, as `Buckets.replace` would; the caller reduces them modulo 2^64 in the end."""
    for key, blob in zip(keys, packed, strict=True):
        timestamp, seq, origin, kind = unpack_facts(blob)
        if not kind & HAS_VALUE:
            continue
        raw = key.encode()
        if kind & HAS_EXPIRY:
            expiry, value = _expires_at(blob, FACTS_BYTES)[0], blob[EXPIRING_FACTS_BYTES:]
        else:
            expiry, value = _NO_EXPIRY, blob[FACTS_BYTES:]
        meta = _HASHED.pack(origin, seq, timestamp, expiry, len(raw))
        sums[xxh3_64_intdigest(raw) % BUCKETS] += xxh3_64_intdigest(meta + raw + value)


def crate_digest(entries: Iterable[Entry]) -> bytes:
    """Return the 32-byte digest of `entries`, given in key order, as crate nodes compute it."""
    digest = hashlib.sha256()
    for entry in entries:
        key = entry.key.encode()
        digest.update(_LENGTH.pack(len(key)) + key + _CRATE_META.pack(entry.origin, entry.seq, entry.timestamp))
        digest.update(b"\0" if entry.value is None else b"\1" + _LENGTH.pack(len(entry.value)) + entry.value)
    return digest.digest()
