"""How an entry lies in memory and in a snapshot: one bytes object, its facts in front of its value.

    packed = i64le timestamp, u64le seq, u32le origin, u8 kind, [i64le expires_at], value

Kind has bit 0 for a value (without it: a tombstone) and bit 1 for an expiry. A million entries are a million bytes
objects that the garbage collector never looks at, and a snapshot's chunk becomes the map without a step in Python for
each entry. Turned down: an object with a field for each fact, at twice the memory (`bench/engine.py`).
"""

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import islice
from operator import lt
from typing import Final, NamedTuple, cast

from wavekv.core.types import Entry

HAS_VALUE: Final = 1
HAS_EXPIRY: Final = 2
KIND_AT: Final = 20
"""Offset of the kind."""
FACTS_BYTES: Final = 21
"""Bytes in front of the value where there is no expiry."""
EXPIRING_FACTS_BYTES: Final = 29

_FACTS: Final = struct.Struct("<qQIB")
_EXPIRING: Final = struct.Struct("<qQIBq")
pack_facts: Final = _FACTS.pack
"""`(timestamp, seq, origin, kind)` → the bytes in front of a value that does not expire."""
_pack_expiring = _EXPIRING.pack
unpack_facts: Final = _FACTS.unpack_from
"""packed → `(timestamp, seq, origin, kind)`."""
_unpack_expiring = _EXPIRING.unpack_from
_expiry_at = struct.Struct("<21xq").unpack_from
_seq_origin = struct.Struct("<8xQI").unpack_from


def empty_map() -> dict[str, bytes]:
    """Return an empty map that becomes large.

    CPython keeps no hashes in a dict that has only ever had strings for keys, and looks each of them up in its key, a
    cache miss, whenever the dict grows. One that had another key for a moment keeps them. A million entries are put in
    in two thirds of the time, for 11 bytes each (`bench/engine.py`).
    """
    entries: dict[object, bytes] = {None: b""}
    del entries[None]
    return cast("dict[str, bytes]", entries)


def add_all(entries: dict[str, bytes], more: dict[str, bytes]) -> None:
    """Put `more` into a map of `empty_map`; all at once while it is empty would make it a copy, one without hashes."""
    if not entries:
        for key, packed in more.items():
            entries[key] = packed
            break
    entries.update(more)


def pack(entry: Entry) -> bytes:
    """Return the packed form of `entry`, less its key."""
    _, value, timestamp, origin, seq, expires_at = entry
    if expires_at is None:
        if value is None:
            return pack_facts(timestamp, seq, origin, 0)
        return pack_facts(timestamp, seq, origin, HAS_VALUE) + value
    if value is None:
        return _pack_expiring(timestamp, seq, origin, HAS_EXPIRY, expires_at)
    return _pack_expiring(timestamp, seq, origin, HAS_EXPIRY | HAS_VALUE, expires_at) + value


def pack_parts(value: bytes | None, timestamp: int, origin: int, seq: int) -> bytes:
    """Return the packed form of an entry that does not expire."""
    if value is None:
        return pack_facts(timestamp, seq, origin, 0)
    return pack_facts(timestamp, seq, origin, HAS_VALUE) + value


def unpack(key: str, packed: bytes) -> Entry:
    """Return the entry that `key` and `packed` make.

    Raises:
        struct.error: fewer bytes than the facts take.
    """
    timestamp, seq, origin, kind = unpack_facts(packed)
    if kind == HAS_VALUE:
        return Entry(key, packed[FACTS_BYTES:], timestamp, origin, seq)
    if kind == 0:
        return Entry(key, None, timestamp, origin, seq)
    expires_at = _unpack_expiring(packed)[4]
    value = packed[EXPIRING_FACTS_BYTES:] if kind & HAS_VALUE else None
    return Entry(key, value, timestamp, origin, seq, expires_at)


def facts_alone(packed: bytes) -> bytes:
    """Return the packed form with an empty value instead of its value; a tombstone stays one."""
    return packed[: EXPIRING_FACTS_BYTES if packed[KIND_AT] & HAS_EXPIRY else FACTS_BYTES]


def well_formed(packed: bytes) -> bool:
    """Tell whether `packed` is what `pack` makes: a known kind, and no bytes where there is no value."""
    if len(packed) < FACTS_BYTES:
        return False
    kind = packed[KIND_AT]
    facts = EXPIRING_FACTS_BYTES if kind & HAS_EXPIRY else FACTS_BYTES
    return kind <= (HAS_VALUE | HAS_EXPIRY) and (len(packed) >= facts if kind & HAS_VALUE else len(packed) == facts)


def dot_of(packed: bytes) -> tuple[int, int]:
    """Return `(origin, seq)`."""
    seq, origin = _seq_origin(packed)
    return origin, seq


def expiry_of(packed: bytes) -> int:
    """Return `expires_at`; the kind must have an expiry."""
    expires_at: int = _expiry_at(packed)[0]
    return expires_at


def value_bytes(packed: bytes) -> int:
    """Return the length of the value, 0 for a tombstone."""
    return len(packed) - (EXPIRING_FACTS_BYTES if packed[KIND_AT] & HAS_EXPIRY else FACTS_BYTES)


def ascending(seqs: "array[int]") -> bool:
    """Tell whether every one is greater than the one before it."""
    return all(map(lt, seqs, islice(seqs, 1, None)))


class Facts(NamedTuple):
    """Packed entries by columns: i64, u64 and u32 numbers, and a byte each."""

    timestamps: "array[int]"
    seqs: "array[int]"
    origins: "array[int]"
    kinds: bytes


def facts_of(packed: Sequence[bytes]) -> Facts:
    """Return the columns of packed entries, each well-formed, by strides over their facts: no step for each."""
    facts = b"".join([one[:FACTS_BYTES] for one in packed])
    numbers = (_numbers("q", facts, 0), _numbers("Q", facts, 8), _numbers("I", facts, 16))
    return Facts(*numbers, facts[KIND_AT::FACTS_BYTES])


def _numbers(typecode: str, facts: bytes, at: int) -> "array[int]":
    numbers = array(typecode)
    column = bytearray(len(facts) // FACTS_BYTES * numbers.itemsize)
    for byte in range(numbers.itemsize):
        column[byte :: numbers.itemsize] = facts[at + byte :: FACTS_BYTES]
    numbers.frombytes(column)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
