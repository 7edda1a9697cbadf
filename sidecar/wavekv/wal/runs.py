"""The fastest reading of a log: runs of plain Set records of one shape, read together column by column.

Records have one *shape* if they are equally long and each field lies at the same place in all. Then byte `i` of all of
them is the slice `data[i::size]`, so tags are counted, numbers gathered and packed entries put together in C, with no
step in Python for a record. Group starts in between are read one by one. What is not of the shape, or fails any check,
is left to `plain` and the codec, record by record; so nothing is accepted here that they would refuse.

Checksums of a run are checked together. CRC-32 without its two inversions is linear: a message followed by its own
checksum comes to 0, and so do any number of such pairs with zeros in between. The inversions add the same number to the
checksum of every message of one length. One pass over a run thus stands for a call for each record, which cost a fifth
of a replay; that damage gets by is as unlikely (2^-32) as in a record alone.
"""

import struct
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple
from zlib import crc32

from wavekv.core.codec.bincode import TAG_U16, TAG_U32, TAG_U64
from wavekv.core.loading import Run
from wavekv.core.packed import FACTS_BYTES, HAS_VALUE, KIND_AT
from wavekv.snapshot.dots import from_little
from wavekv.wal.plain import Read

RUN_RECORDS_MIN: Final = 32
"""Fewer are read one by one: making columns has a price of its own."""
_RUN_RECORDS_MAX: Final = 2048
_RUN_BYTES_MAX: Final = 256 << 10
"""Of one run; its columns are taken while it lies in the processor's cache."""
_AHEAD_RECORDS: Final = 64
"""Looked at together to see how far a shape goes."""

_SET: Final = 0
_GROUP_START: Final = 6
_GROUP_START_BYTES_MAX: Final = 20
_WIDTHS: Final = {TAG_U16: 2, TAG_U32: 4}
_U32: Final = 0xFFFF_FFFF
_u16_at = struct.Struct("<H").unpack_from
_u32_at = struct.Struct("<I").unpack_from

Fold = Callable[[Run], object]
"""Takes a run."""


class _Shape(NamedTuple):
    """Where the fields of a Set record lie, from its length field on."""

    size: int
    """Bytes of the whole record."""
    number_bytes: int
    """Of the record's sequence, at 5."""
    key_at: int
    key_bytes: int
    value_at: int
    value_bytes: int
    kind: int
    dot_at: int
    """Of the origin's tag; four bytes of origin follow."""
    seq_bytes: int
    """Of the dot's seq, at `dot_at` + 6."""
    stamp_at: int
    """Of the timestamp's tag; 8 bytes, tag and 4 bytes of checksum follow."""
    fixed: tuple[tuple[int, int], ...]
    """`(offset, byte)` of all that is the same in each record: length, tags, key and value length."""
    keys: struct.Struct
    """A record → its key."""
    entries: struct.Struct
    """Packed entry, and what is between it and the next."""


class _Gathered(NamedTuple):
    """Records of one shape, joined, and what lay between them."""

    shape: _Shape
    data: bytes
    numbers: "array[int]"
    """Their sequences, as they follow from those before."""
    read: Read
    next_seq: int


def read_run(data: bytes, position: int, expected: int, fold: Fold) -> Read | None:
    """Hand on the run that begins at `position` with sequence `expected`; None: there is none to speak of."""
    try:
        gathered = _gather(data, position, expected)
    except (IndexError, struct.error):
        return None
    if gathered is None:
        return None
    run = _run(gathered, expected)
    if run is None:
        return None
    fold(run)
    return gathered.read


# ---- where a run goes ----------------------------------------------------------------------------------------------


def _gather(data: bytes, position: int, expected: int) -> _Gathered | None:
    shape: _Shape | None = None
    parts: list[bytes] = []
    numbers = array("Q")
    first, groups, last_group, next_seq, room = expected, 0, 0, 0, 1
    while room > 0 and len(data) - position >= _GROUP_START_BYTES_MAX:
        width = _WIDTHS.get(data[position + 4])
        if width is None:
            break
        if data[position + 5 + width] == _GROUP_START:
            start = _group_start(data, position, width, expected)
            if start is None:
                break
            groups, last_group = groups + 1, position
            next_seq, position = max(next_seq, start[0]), start[1]
            expected += 1
            continue
        if shape is None:
            shape = _shape_at(data, position, width)
            if shape is None:
                return None
            room = min(_RUN_RECORDS_MAX, _RUN_BYTES_MAX // shape.size)
        count = _like(data, position, shape, min(room, _AHEAD_RECORDS))
        if not count:
            break
        end = position + count * shape.size
        parts.append(data[position:end])
        numbers.extend(range(expected, expected + count))
        position, expected, room = end, expected + count, room - count
    if shape is None or len(numbers) < RUN_RECORDS_MIN:
        return None
    read = Read(expected - first, groups, last_group, position, expected, True)
    return _Gathered(shape, b"".join(parts), numbers, read, next_seq)


def _group_start(data: bytes, position: int, width: int, expected: int) -> tuple[int, int] | None:
    """Return the sequence in a group start and where it ends; None: it is not plain."""
    at = position + 5 + width  # of the operation
    tag = data[at + 1]
    stop = at + 2 + _WIDTHS.get(tag, 0)
    if tag not in _WIDTHS or data[stop] != TAG_U32 or _u32_at(data, position)[0] != stop + 1 - position:
        return None
    number_at = _u32_at if width == 4 else _u16_at
    if number_at(data, position + 5)[0] != expected or crc32(data[at:stop]) != _u32_at(data, stop + 1)[0]:
        return None
    seq_at = _u32_at if tag == TAG_U32 else _u16_at
    return seq_at(data, at + 2)[0], stop + 5


def _like(data: bytes, position: int, shape: _Shape, count_max: int) -> int:
    """Return how many records from `position` on seem to be of the shape, by length and operation."""
    size = shape.size
    count = min(count_max, (len(data) - position) // size)
    for at, byte in (shape.fixed[0], (5 + shape.number_bytes, _SET)):
        column = data[position + at : position + count * size : size]
        count = len(column) - len(column.lstrip(bytes((byte,))))
    return count


def _shape_at(data: bytes, position: int, width: int) -> _Shape | None:
    """Return the shape of the Set record at `position`; None: it is not plain."""
    size = 4 + _u32_at(data, position)[0]
    key_at = 7 + width
    key_bytes = data[position + key_at - 1]
    mark_at = key_at + key_bytes
    if data[position + mark_at] == 0:
        lead, value_bytes = 1, 0
    elif data[position + mark_at + 1] < TAG_U16:
        lead, value_bytes = 2, data[position + mark_at + 1]
    else:
        lead, value_bytes = 4, _u16_at(data, position + mark_at + 2)[0]
    seq_bytes = size - (mark_at + lead + value_bytes + 6 + 14)
    if key_bytes >= TAG_U16 or seq_bytes not in (2, 4) or position + size > len(data):
        return None
    return _shape(size=size, width=width, key_bytes=key_bytes, lead=lead, value_bytes=value_bytes, seq_bytes=seq_bytes)


@lru_cache(maxsize=256)
def _shape(*, size: int, width: int, key_bytes: int, lead: int, value_bytes: int, seq_bytes: int) -> _Shape:
    key_at = 7 + width
    mark_at = key_at + key_bytes
    value_at = mark_at + lead
    dot_at = value_at + value_bytes
    stamp_at = dot_at + 6 + seq_bytes
    tag_of = {2: TAG_U16, 4: TAG_U32}
    fixed = [
        *enumerate((size - 4).to_bytes(4, "little")),
        (4, tag_of[width]),
        (5 + width, _SET),
        (6 + width, key_bytes),
    ]
    fixed += enumerate(
        ((), (0,), (1, value_bytes), (), (1, TAG_U16, *value_bytes.to_bytes(2, "little")))[lead], mark_at
    )
    fixed += [(dot_at, TAG_U32), (dot_at + 5, tag_of[seq_bytes]), (stamp_at, TAG_U64), (stamp_at + 9, TAG_U32)]
    return _Shape(
        size=size,
        number_bytes=width,
        key_at=key_at,
        key_bytes=key_bytes,
        value_at=value_at,
        value_bytes=value_bytes,
        kind=HAS_VALUE if lead > 1 else 0,
        dot_at=dot_at,
        seq_bytes=seq_bytes,
        stamp_at=stamp_at,
        fixed=tuple(fixed),
        keys=struct.Struct(f"{key_at}x{key_bytes}s{size - mark_at}x"),
        entries=struct.Struct(f"{FACTS_BYTES + value_bytes}s{size - FACTS_BYTES - value_bytes}x"),
    )


# ---- its columns ---------------------------------------------------------------------------------------------------


def _run(gathered: _Gathered, first: int) -> Run | None:
    """Check all of a run; return it by columns, None if any of it is not as it should be."""
    shape, data, count = gathered.shape, gathered.data, len(gathered.numbers)
    size = shape.size
    if any(data[at::size].count(byte) != count for at, byte in shape.fixed):
        return None
    if from_little("Q", _column(data, size, 5, shape.number_bytes)) != gathered.numbers:
        return None
    stamps = int.from_bytes(_column(data, size, shape.stamp_at + 1, 8), "little")
    if stamps & int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little"):
        return None  # a time before 1970
    if not _checksums_hold(shape, data, count):
        return None
    try:
        keys = [key.decode() for (key,) in shape.keys.iter_unpack(data)]
    except UnicodeDecodeError:
        return None
    seqs = _column(data, size, shape.dot_at + 6, shape.seq_bytes)
    times = (stamps >> 1).to_bytes(8 * count, "little")  # zigzag: no bit crosses into a neighbour
    return Run(
        keys=keys,
        packed=_packed(shape, data, count, times, seqs),
        origins=_origins(_column(data, size, shape.dot_at + 1, 4), count),
        seqs=from_little("Q", seqs),
        numbers=gathered.numbers,
        first=first,
        records=gathered.read.records,
        next_seq=gathered.next_seq,
        values=count if shape.kind else 0,
        size_bytes=count * (shape.key_bytes + shape.value_bytes),
    )


def _column(data: bytes, size: int, at: int, width: int) -> bytes:
    """Return the little-endian numbers of `width` bytes at `at` of every record, as u64le."""
    numbers = bytearray(8 * (len(data) // size))
    for byte in range(width):
        numbers[byte::8] = data[at + byte :: size]
    return bytes(numbers)


def _checksums_hold(shape: _Shape, data: bytes, count: int) -> bool:
    """Tell whether the checksum of every record is that of its operation; see above for why one pass tells."""
    size, operation_at, end = shape.size, 5 + shape.number_bytes, shape.stamp_at + 9
    inversions = crc32(bytes(end - operation_at)).to_bytes(4, "little")
    stored = bytearray(4 * count)
    for byte in range(4):
        stored[byte::4] = data[end + 1 + byte :: size]
    linear = (int.from_bytes(stored) ^ int.from_bytes(inversions * count)).to_bytes(4 * count)
    pairs, zeros = bytearray(data), bytes(count)
    for at in (*range(operation_at), size - 1):
        pairs[at::size] = zeros
    for byte in range(4):
        pairs[end + byte :: size] = linear[byte::4]
    return crc32(pairs, _U32) == _U32


def _packed(shape: _Shape, data: bytes, count: int, times: bytes, seqs: bytes) -> list[bytes]:
    """Return the packed entries: facts are written over what lies in front of each value, and both cut out as one."""
    size = shape.size
    before = max(0, FACTS_BYTES - shape.value_at)  # facts may begin in the record before, behind its value
    begin = shape.value_at - FACTS_BYTES + before
    end = begin + count * size
    records = bytearray(before) + data + bytes(begin)
    for byte in range(8):
        records[begin + byte : end : size] = times[byte::8]
        records[begin + 8 + byte : end : size] = seqs[byte::8]
    for byte in range(4):
        records[begin + 16 + byte : end : size] = data[shape.dot_at + 1 + byte :: size]
    records[begin + KIND_AT : end : size] = bytes((shape.kind,)) * count
    return [packed for (packed,) in shape.entries.iter_unpack(memoryview(records)[begin:end])]


def _origins(column: bytes, count: int) -> list[tuple[int, int]]:
    if column == column[:8] * count:
        return [(int.from_bytes(column[:8], "little"), 0)]
    parts, before = [], None
    for at, origin in enumerate(from_little("Q", column)):
        if origin != before:
            parts.append((origin, at))
            before = origin
    return parts
