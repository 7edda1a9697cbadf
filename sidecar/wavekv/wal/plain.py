"""The fast reading of the records a log is full of: group starts and plain Set records.

A record is *plain* if it is in canonical form and has the next sequence, a key of up to 250 bytes, a value of up to 64
KiB, an origin and a checksum above 2^16, and a timestamp above 2^31 ms, as nearly all have. Any other record is left to
`segment`, which reads whatever there is and names what it cannot read. So nothing is accepted here that the codec would
refuse; tests compare the two under every flipped bit.

Records of one size that follow each other are read by `runs` instead, which is faster by far.

It gives up beauty for speed: a few unpacks read all fixed-width fields of a record at once, two to three times the
codec's records a second. Turned down: views instead of slices, slower at these sizes.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple
from zlib import crc32

from wavekv.core.codec.bincode import TAG_U16, TAG_U32, TAG_U64
from wavekv.core.ops import Op, Set, SetNextSeq
from wavekv.core.types import Entry

_u16_at = struct.Struct("<H").unpack_from
_u32_at = struct.Struct("<I").unpack_from
# The fixed stretches of a record: length, sequence, index, next byte; origin and seq; timestamp and checksum.
_front_small = struct.Struct("<IBBB").unpack_from
_front_u16 = struct.Struct("<IBHBB").unpack_from
_front_u32 = struct.Struct("<IBIBB").unpack_from
_dot_u16 = struct.Struct("<BIxH").unpack_from
_dot_u32 = struct.Struct("<BIxI").unpack_from
_back = struct.Struct("<BQBI").unpack_from
_tuple = tuple.__new__

Stored = Callable[[str, bytes | None, int, int, int], object]
"""Takes a Set record by its parts: key, value, timestamp, origin, seq. Saves making an entry of them first."""


def as_sets(apply: Callable[[Op], object]) -> Stored:
    """Return what hands Set records to `apply` as operations."""

    def stored(key: str, value: bytes | None, timestamp: int, origin: int, seq: int) -> None:
        apply(_tuple(Set, (_tuple(Entry, (key, value, timestamp, origin, seq, None)),)))

    return stored


RECORDS_MAX: Final = 256
"""Read in one call; then it may be time for a run (`runs`) again."""


class Read(NamedTuple):
    """What was read: counts, the offset of the last group start, where reading stopped, the next sequence."""

    records: int
    groups: int
    last_group: int
    position: int
    expected: int
    more: bool
    """Nothing there stopped it."""


def replay_plain(  # noqa: PLR0912, PLR0915 (one branch a form)
    data: bytes, position: int, apply: Callable[[Op], object], stored: Stored, expected: int | None
) -> Read:
    """Hand on some records from `position`, as long as they are plain and their sequences follow `expected`."""
    groups = last_group = 0
    first = -1 if expected is None else expected
    expected, stop = first, first + RECORDS_MAX
    try:
        while expected < stop:
            tag = data[position + 4]
            if tag == TAG_U32:
                length, _, sequence, index, size = _front_u32(data, position)
                at = position + 11
            elif tag == TAG_U16:
                length, _, sequence, index, size = _front_u16(data, position)
                at = position + 9
            else:
                length, sequence, index, size = _front_small(data, position)
                at = position + 7
            if index == 6 and sequence == expected:
                end = position + 4 + length
                next_seq = _marked(data, at, size, end)
                if next_seq is None:
                    break
                apply(_tuple(SetNextSeq, (next_seq,)))
                groups += 1
                last_group, position = position, end
                expected += 1
                continue
            stamp = position + length - 10
            stamp_tag, raw, crc_tag, checksum = _back(data, stamp)
            if index or sequence != expected or size >= TAG_U16 or stamp_tag != TAG_U64 or crc_tag != TAG_U32:
                break
            if crc32(data[at - 2 : stamp + 9]) != checksum:
                break
            end = at + size
            key = data[at:end].decode()
            value = None
            if data[end] == 1:
                size, at = data[end + 1], end + 2
                if size == TAG_U16:
                    size, at = _u16_at(data, at)[0], at + 2
                elif size > TAG_U16:
                    break
                end = at + size
                value = data[at:end]
            elif data[end]:
                break
            else:
                end += 1
            if end + 10 == stamp and data[end + 5] == TAG_U32:
                origin_tag, origin, seq = _dot_u32(data, end)
            elif end + 8 == stamp and data[end + 5] == TAG_U16:
                origin_tag, origin, seq = _dot_u16(data, end)
            else:
                break
            if origin_tag != TAG_U32:
                break
            timestamp = ~(raw >> 1) if raw & 1 else raw >> 1
            stored(key, value, timestamp, origin, seq)
            position = stamp + 14
            expected += 1
    except (IndexError, struct.error, UnicodeDecodeError):
        pass  # whatever it was, the codec meets it again at the same position and names it
    return Read(expected - first, groups, last_group, position, expected, expected == stop)


def _marked(data: bytes, at: int, tag: int, end: int) -> int | None:
    """Return the sequence in a group start whose integer has `tag` before `at`; None sends it to the codec."""
    if tag == TAG_U32:
        seq, stop = _u32_at(data, at)[0], at + 4
    elif tag == TAG_U16:
        seq, stop = _u16_at(data, at)[0], at + 2
    else:
        return None
    good = stop + 5 == end and data[stop] == TAG_U32 and crc32(data[at - 2 : stop]) == _u32_at(data, stop + 1)[0]
    return seq if good else None
