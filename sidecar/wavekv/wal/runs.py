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
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple
from zlib import crc32

from wavekv.core.codec.bincode import TAG_U16, TAG_U32, TAG_U64
from wavekv.core.loading import Run, consecutive
from wavekv.core.packed import FACTS_BYTES, HAS_VALUE
from wavekv.snapshot.dots import from_little
from wavekv.wal.plain import Read

RUN_RECORDS_MIN: Final = 32
"""Fewer are read one by one: making columns has a price of its own."""
_RUN_RECORDS_MAX: Final = 2048
_RUN_BYTES_MAX: Final = 256 << 10
"""Of one run; its columns are taken while it lies in the processor's cache."""
_AHEAD_RECORDS: Final = 64
"""Looked at together to see how far a shape goes."""

_CUT_AT_ONCE: Final = 64
"""Records that one call of `struct` takes apart."""

_SET: Final = b"\0"
_GROUP_START: Final = 6
_GROUP_START_BYTES_MAX: Final = 20
_GROUP_STARTS: Final = {
    (width, tag): struct.Struct(f"<IB{number}BB{seq}BI")
    for width, number in ((2, "H"), (4, "I"))
    for tag, seq in ((TAG_U16, "H"), (TAG_U32, "I"))
}
"""Width of the sequence and tag of what it holds → a whole group start."""
_HALVES: Final = tuple(bytes(byte >> 1 | carry for byte in range(256)) for carry in (0, 0x80))
_EVEN: Final = bytes(range(0, 256, 2))
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
    length: bytes
    """Its first byte."""
    before: int
    """Bytes to be laid in front of records, so that there is room for the facts before the first value."""


class _Gathered(NamedTuple):
    """Records of one shape, joined, and what lay between them."""

    shape: _Shape
    data: bytes
    numbers: bytes
    """Their sequences, u64le, as they follow from those before."""
    read: Read
    next_seq: int


def read_run(data: bytes, position: int, expected: int, fold: Fold) -> Read | None:
    """Hand on the run that begins at `position` with sequence `expected`; None: there is none to speak of."""
    if expected > _U32:
        return None
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
    view, last = memoryview(data), len(data) - _GROUP_START_BYTES_MAX
    parts: list[memoryview] = []
    spans: list[tuple[int, int]] = []  # of sequences from `first` on, in bytes of u64le
    first, groups, last_group, next_seq, room, ahead = expected, 0, 0, 0, 1, _AHEAD_RECORDS
    while room > 0 and position <= last:
        width = _WIDTHS.get(data[position + 4])
        if width is None:
            break
        if data[position + 5 + width] == _GROUP_START:
            start = _group_start(data, position, width, expected)
            if start is None:
                break
            groups, last_group = groups + 1, position
            seq, position = start
            next_seq = seq if seq > next_seq else next_seq
            expected += 1
            continue
        if shape is None:
            shape = _shape_at(data, position, width)
            if shape is None:
                return None
            room = min(_RUN_RECORDS_MAX, _RUN_BYTES_MAX // shape.size)
        count = _like(data, position, shape, ahead if ahead < room else room)
        if not count:
            break
        if count == ahead:
            ahead *= 4
        end, begin = position + count * shape.size, 8 * (expected - first)
        parts.append(view[position:end])
        spans.append((begin, begin + 8 * count))
        position, expected, room = end, expected + count, room - count
    if shape is None or sum(map(len, parts)) < RUN_RECORDS_MIN * shape.size:
        return None
    numbers = memoryview(consecutive(first, expected - first))
    read = Read(expected - first, groups, last_group, position, expected, True)
    return _Gathered(shape, b"".join(parts), b"".join([numbers[begin:end] for begin, end in spans]), read, next_seq)


def _group_start(data: bytes, position: int, width: int, expected: int) -> tuple[int, int] | None:
    """Return the sequence in a group start and where it ends; None: it is not plain."""
    at = position + 5 + width  # of the operation
    form = _GROUP_STARTS.get((width, data[at + 1]))
    if form is None:
        return None
    length, _, number, _, _, seq, tag, checksum = form.unpack_from(data, position)
    if length != form.size - 4 or number != expected or tag != TAG_U32:
        return None
    end = position + form.size
    return (seq, end) if crc32(data[at : end - 5]) == checksum else None


def _like(data: bytes, position: int, shape: _Shape, count_max: int) -> int:
    """Return how many records from `position` on seem to be of the shape, by length and operation."""
    size, operation_at = shape.size, position + 5 + shape.number_bytes
    end = position + count_max * size
    if end > len(data):
        end -= (end - len(data) + size - 1) // size * size
    lengths = data[position:end:size]
    count = len(lengths) - len(lengths.lstrip(shape.length))
    operations = data[operation_at : position + count * size : size]
    return len(operations) - len(operations.lstrip(_SET))


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
        (5 + width, _SET[0]),
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
        length=bytes((size - 4 & 0xFF,)),
        before=max(0, FACTS_BYTES - value_at),
    )


# ---- its columns ---------------------------------------------------------------------------------------------------


def _run(gathered: _Gathered, first: int) -> Run | None:
    """Check all of a run; return it by columns, None if any of it is not as it should be."""
    shape, data = gathered.shape, gathered.data
    size = shape.size
    count = len(data) // size
    if any(data[at::size] != bytes((byte,)) * count for at, byte in shape.fixed):
        return None
    if _u64le(_columns(data, size, 5, shape.number_bytes), count) != gathered.numbers:
        return None
    stamps = _columns(data, size, shape.stamp_at + 1, 8)
    if stamps[0].translate(None, _EVEN):
        return None  # a time before 1970
    records = bytearray().join((bytes(shape.before), data, bytes(max(0, shape.value_at - FACTS_BYTES))))
    if not _checksums_hold(shape, data, count, records):
        return None
    try:
        keys = list(map(bytes.decode, _cut(data, size, shape.key_at, shape.key_bytes)))
    except UnicodeDecodeError:
        return None
    seqs = _columns(data, size, shape.dot_at + 6, shape.seq_bytes)
    origins = _columns(data, size, shape.dot_at + 1, 4)
    high = [bytes(count)] * (8 - shape.seq_bytes)
    facts = (*_halves(stamps, count), *seqs, *high, *origins, bytes((shape.kind,)) * count)
    return Run(
        keys=keys,
        packed=_packed(shape, records, count, facts),
        origins=_origins(origins, count),
        seqs=from_little("Q", _u64le(seqs, count)),
        numbers=from_little("Q", gathered.numbers),
        first=first,
        records=gathered.read.records,
        next_seq=gathered.next_seq,
        values=count if shape.kind else 0,
        size_bytes=count * (shape.key_bytes + shape.value_bytes),
    )


def _cut(records: bytes | memoryview, size: int, at: int, width: int) -> list[bytes]:
    """Return the `width` bytes at `at` of every record."""
    one, many = _cutting(size, at, width)
    view = memoryview(records)
    whole = len(view) // many.size * many.size
    cut: list[bytes] = []
    for those in many.iter_unpack(view[:whole]):
        cut += those
    for that in one.iter_unpack(view[whole:]):
        cut += that
    return cut


@lru_cache(maxsize=256)
def _cutting(size: int, at: int, width: int) -> tuple[struct.Struct, struct.Struct]:
    """Return what cuts one record, and many at a call."""
    form = f"{at}x{width}s{size - at - width}x"
    return struct.Struct(form), struct.Struct(form * _CUT_AT_ONCE)


def _columns(data: bytes, size: int, at: int, width: int) -> list[bytes]:
    """Return the bytes at `at` of every record, those behind them, and so on for `width` columns."""
    return [data[at + byte :: size] for byte in range(width)]


def _u64le(columns: Sequence[bytes], count: int) -> bytes:
    """Return little-endian numbers, whose bytes are in `columns`, as u64le."""
    numbers = bytearray(8 * count)
    for byte, column in enumerate(columns):
        numbers[byte::8] = column
    return bytes(numbers)


def _halves(columns: Sequence[bytes], count: int) -> list[bytes]:
    """Return the columns of half of each number, which is even and little-endian: zigzag undone."""
    halves = []
    for low, high in pairwise((*columns, bytes(count))):
        if _constant(high, count):
            halves.append(low.translate(_HALVES[high[0] & 1]))
        else:
            ones = int.from_bytes(b"\1" * count)
            half = int.from_bytes(low) >> 1 & 0x7F * ones | (int.from_bytes(high) & ones) << 7
            halves.append(half.to_bytes(count))
    return halves


def _constant(column: bytes, count: int) -> bool:
    return column == column[:1] * count


def _checksums_hold(shape: _Shape, data: bytes, count: int, records: bytearray) -> bool:
    """Tell whether the checksum of every record is that of its operation; see above for why one pass tells.

    `records` holds the same from `shape.before` on; only keys and values are left of them.
    """
    size, operation_at, end = shape.size, 5 + shape.number_bytes, shape.stamp_at + 9
    start, stop = shape.before, shape.before + len(data)
    for byte, linear in enumerate(_linear(end - operation_at)):
        records[start + end + byte : stop : size] = data[end + 1 + byte :: size].translate(linear)
    records[start + size - 1 : stop : size] = bytes(count)
    # The next operation begins 4 bytes behind what is the same in front of each: its checksum there makes a pair of it.
    front = crc32(data[: operation_at - 4], _U32) ^ _U32
    for at, byte in enumerate(front.to_bytes(4, "little"), start + operation_at - 4):
        records[at:stop:size] = bytes((byte,)) * count
    return crc32(memoryview(records)[start:stop], _U32) == _U32


@lru_cache(maxsize=256)
def _linear(operation_bytes: int) -> list[bytes]:
    """Return tables for each byte of a checksum: to that byte of the checksum without inversions."""
    inversions = crc32(bytes(operation_bytes)).to_bytes(4, "little")
    return [bytes([byte ^ inversion for byte in range(256)]) for inversion in inversions]


def _packed(shape: _Shape, records: bytearray, count: int, facts: Sequence[bytes]) -> list[bytes]:
    """Return the packed entries: facts are written over what lies in front of each value, and both cut out as one.

    What lies there may be the end of the record before, behind its value.
    """
    begin = shape.before + shape.value_at - FACTS_BYTES
    end = begin + count * shape.size
    for at, column in enumerate(facts, begin):
        records[at : end : shape.size] = column
    return _cut(memoryview(records)[begin:end], shape.size, 0, FACTS_BYTES + shape.value_bytes)


def _origins(columns: Sequence[bytes], count: int) -> list[tuple[int, int]]:
    if all(_constant(column, count) for column in columns):
        return [(int.from_bytes(bytes(column[0] for column in columns), "little"), 0)]
    parts, before = [], None
    for at, origin in enumerate(from_little("Q", _u64le(columns, count))):
        if origin != before:
            parts.append((origin, at))
            before = origin
    return parts
