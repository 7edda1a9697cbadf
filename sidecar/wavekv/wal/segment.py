"""How one segment's bytes are read: record by record, up to the end or to the first damage, which gets a cause.

Invariants:
- What is handed out passed its checksum, in file order, without a gap (G1, G3: never wrong data).
- Damage is told apart by what lies behind it: a *group start* (a `SetNextSeq` record with a good checksum) proves that
  a later append was synced, so what is bad was durable once. Without one, it may be an append cut by a crash.
- All zeros behind the last record is the preallocated rest of a live segment, no damage.

Turned down: trusting sequence numbers to find the resumption point; no checksum covers them.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

from wavekv.core.codec.bincode import TAG_U16, TAG_U32, TAG_U64, DecodeError, InvalidError, TruncatedError
from wavekv.core.codec.records import (
    VERSION,
    ChecksumError,
    Header,
    Record,
    UnknownOpError,
    decode_header,
    decode_record,
)
from wavekv.core.ops import Op, Set, SetNextSeq
from wavekv.core.types import Entry
from wavekv.errors import BadHeader, NewerVersion

_NAME = re.compile(r"(\d{8})\.wal")
_GROUP_START = re.compile(
    rb"[\x04-\x18]\0\0\0(?:[\x00-\xfa]|\xfb..|\xfc.{4}|\xfd.{8})\x06",
    re.DOTALL,
)
"""Body length 4 … 24, a sequence of any width, operation 6: what every group start looks like."""

_u16_at = struct.Struct("<H").unpack_from
_u32_at = struct.Struct("<I").unpack_from
# The fixed stretches of a plain record: length, sequence, index, key size; origin and seq; timestamp and checksum.
_front_small = struct.Struct("<IBBB").unpack_from
_front_u16 = struct.Struct("<IBHBB").unpack_from
_front_u32 = struct.Struct("<IBIBB").unpack_from
_dot_u16 = struct.Struct("<BIxH").unpack_from
_dot_u32 = struct.Struct("<BIxI").unpack_from
_back = struct.Struct("<BQBI").unpack_from
_tuple = tuple.__new__


def segment_name(number: int) -> str:
    """Return the file name of segment `number`, counted from 1."""
    return f"{number:08}.wal"


def segment_number(name: str) -> int | None:
    """Return the number in a segment's file name, None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


class Cause(StrEnum):
    """Why reading stopped."""

    TORN_TAIL = "torn_tail"
    """An incomplete record or a zero length, and no group start behind it."""
    BAD_LENGTH = "bad_length"
    """The same with a group start behind it."""
    CRC_MISMATCH = "crc_mismatch"
    UNDECODABLE = "undecodable"
    UNKNOWN_OP = "unknown_op"
    """A whole record with a good checksum of an operation this version does not know."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong at `offset`; `group_start` is the offset of the first group start behind it, if there is one."""

    cause: Cause
    offset: int
    group_start: int | None


@dataclass(slots=True)
class Sequences:
    """Record sequences as met: they decide nothing, oddities are counted."""

    last: int | None = None
    gaps: int = 0
    duplicates: int = 0
    disorder: int = 0

    def add(self, sequence: int) -> None:
        """Take note of the next record's sequence."""
        last, self.last = self.last, sequence
        if last is None or sequence == last + 1:
            return
        if sequence > last:
            self.gaps += 1
        elif sequence == last:
            self.duplicates += 1
        else:
            self.disorder += 1


@dataclass(frozen=True, slots=True)
class Scan:
    """What `replay` saw of one segment. `last_group`: offset of the last group start, or of the file's start."""

    records: int
    groups: int
    valid_end: int
    last_group: int
    damage: Damage | None


class Located(NamedTuple):
    """A record, the offset of its length field, and the length of its body."""

    offset: int
    length: int
    record: Record


def read_header(data: bytes, name: str) -> Header | None:
    """Return the header of segment `name`; None if the file ends before its header does, so was never used.

    Raises:
        BadHeader: not a log file.
        NewerVersion: a log file of a later format.
    """
    try:
        header = decode_header(data)
    except TruncatedError:
        return None
    except InvalidError as error:
        raise BadHeader(f"{name} is not a log segment: {error}; move it away or restore it from a copy") from error
    if header.version > VERSION:
        raise NewerVersion(f"{name} has log format {header.version}, this version reads {VERSION}; start a newer one")
    if header.version != VERSION:
        raise BadHeader(f"{name} claims log format {header.version}, which never existed")
    if find_group_start(data[: header.end], header.fields_end) is not None:
        raise BadHeader(f"{name} has a damaged header: its length takes in records; restore the file from a copy")
    return header


def replay(data: bytes, header: Header, apply: Callable[[Op], object], sequences: Sequences) -> Scan:
    """Hand every operation of a segment to `apply`, in order, up to the end or the first damage."""
    size, position, records, groups, last_group = len(data), header.end, 0, 0, 0
    cause = Cause.TORN_TAIL
    while True:
        plain, position = _replay_plain_sets(data, position, apply, sequences)
        records += plain
        start = position + 4
        if start > size:
            break
        end = start + _u32_at(data, position)[0]
        if end > size or end == start:
            break
        try:
            record = decode_record(data[start:end])
        except DecodeError as error:
            cause = _cause_of(error)
            break
        if type(record.op) is SetNextSeq:
            groups += 1
            last_group = position
        sequences.add(record.sequence)
        apply(record.op)
        records += 1
        position = end
    return Scan(records, groups, position, last_group, _damage(data, position, cause))


def _replay_plain_sets(  # noqa: PLR0912, PLR0915 (one branch a form)
    data: bytes, position: int, apply: Callable[[Op], object], sequences: Sequences
) -> tuple[int, int]:
    """Apply Set records as long as they are plain; return their number and the position of the first other record.

    Ugly inside for speed, three times the codec's (bench/replay): a log is almost nothing but canonical Set records
    with keys up to 250 bytes, values up to 64 KiB, a drawn origin, a time of our days and a checksum above 2^16. One
    unpack reads the front of such a record, one its fixed-width end, and a form not expected leaves it to the codec.
    """
    expected = first = -1 if sequences.last is None else sequences.last + 1
    try:
        while True:
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
            apply(_tuple(Set, (_tuple(Entry, (key, value, timestamp, origin, seq, None)),)))
            position = stamp + 14
            expected += 1
    except (IndexError, struct.error, UnicodeDecodeError):
        pass  # whatever it was, the codec meets it again at the same position and names it
    if expected != first:
        sequences.last = expected - 1
    return expected - first, position


@dataclass(slots=True)
class Reader:
    """Reads a segment's records one by one, with their places; `valid_end` and `damage` hold once it is exhausted."""

    data: bytes
    header: Header
    valid_end: int = field(init=False)
    damage: Damage | None = field(init=False, default=None)

    def __iter__(self) -> Iterator[Located]:
        data, position, cause = self.data, self.header.end, Cause.TORN_TAIL
        while position + 4 <= len(data):
            end = position + 4 + _u32_at(data, position)[0]
            if end > len(data) or end == position + 4:
                break
            try:
                record = decode_record(data[position + 4 : end])
            except DecodeError as error:
                cause = _cause_of(error)
                break
            yield Located(position, end - position - 4, record)
            position = end
        self.valid_end = position
        self.damage = _damage(data, position, cause)


def _cause_of(error: DecodeError) -> Cause:
    if isinstance(error, UnknownOpError):
        return Cause.UNKNOWN_OP
    return Cause.CRC_MISMATCH if isinstance(error, ChecksumError) else Cause.UNDECODABLE


def _damage(data: bytes, offset: int, cause: Cause) -> Damage | None:
    if not data[offset:].strip(b"\0"):
        return None
    group_start = find_group_start(data, offset + 1)
    if cause is Cause.TORN_TAIL and group_start is not None:
        cause = Cause.BAD_LENGTH
    return Damage(cause, offset, group_start)


def find_group_start(data: bytes, offset: int) -> int | None:
    """Return the offset of the first `SetNextSeq` record with a good checksum at or behind `offset`."""
    while match := _GROUP_START.search(data, offset):
        offset = match.start()
        body_end = offset + 4 + data[offset]
        try:
            if body_end <= len(data) and isinstance(decode_record(data[offset + 4 : body_end]).op, SetNextSeq):
                return offset
        except DecodeError:
            pass
        offset += 1
    return None
