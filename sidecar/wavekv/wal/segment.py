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
from typing import Final, NamedTuple

from wavekv.core.codec.bincode import DecodeError, InvalidError, TruncatedError
from wavekv.core.codec.records import (
    VERSION,
    ChecksumError,
    Header,
    Record,
    UnknownOpError,
    decode_header,
    decode_record,
)
from wavekv.core.ops import Op, SetNextSeq
from wavekv.errors import BadHeader, NewerVersion
from wavekv.wal.plain import Stored, as_sets, replay_plain
from wavekv.wal.runs import Fold, read_run

_NAME = re.compile(r"(\d{8})\.wal")
_GROUP_START = re.compile(
    rb"[\x04-\x18]\0\0\0(?:[\x00-\xfa]|\xfb..|\xfc.{4}|\xfd.{8})\x06",
    re.DOTALL,
)
"""Body length 4 … 24, a sequence of any width, operation 6: what every group start looks like."""

_u32_at = struct.Struct("<I").unpack_from


MEND: Final = "; move it away or restore it from a copy"
"""What to do about a file of a data directory that is no log."""

SEQUENCE_TRUSTED_MAX: Final = 2**63
"""No log comes near it; a record beyond it has a flipped bit."""


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
    """The same with a group start behind it, or a record whose length takes in the next one."""
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


def read_header(data: bytes, name: str, mend: str = MEND) -> Header | None:
    """Return the header of segment `name`; None if the file ends before its header does, or is zeros.

    `mend` ends the text about a file that is no log.

    Raises:
        BadHeader: not a log file.
        NewerVersion: a log file of a later format.
    """
    try:
        header = decode_header(data)
    except TruncatedError:
        return None
    except InvalidError as error:
        raise BadHeader(f"{name} is not a log segment: {error}{mend}") from error
    if header.version > VERSION:
        raise NewerVersion(f"{name} has log format {header.version}, this version reads {VERSION}; start a newer one")
    if header.version != VERSION:
        raise BadHeader(f"{name} claims log format {header.version}, which never existed")
    if find_group_start(data[: header.end], header.fields_end) is not None:
        raise BadHeader(f"{name} has a damaged header: its length takes in records; restore the file from a copy")
    return header


def first_sequence(data: bytes, header: Header) -> int | None:
    """Return the sequence of a segment's first record, None where it cannot be read."""
    found = _record_at(data, header.end)
    return None if isinstance(found, Cause) else found[0].sequence


def following(sequence: int | None) -> int:
    """Return the sequence an append goes on with; one that no log reaches is damage and not carried on."""
    return 1 if sequence is None or sequence >= SEQUENCE_TRUSTED_MAX else sequence + 1


def replay(
    data: bytes,
    header: Header,
    apply: Callable[[Op], object],
    sequences: Sequences,
    *,
    stored: Stored | None = None,
    fold: Fold | None = None,
    heed: Callable[[], object] = lambda: None,
) -> Scan:
    """Hand every operation of a segment on, in order, up to the end or the first damage.

    Args:
        data: The whole segment.
        header: Its header.
        apply: Takes an operation.
        sequences: Takes note of the records' sequences.
        stored: Takes most Set records, by their parts; None: they go to `apply` too.
        fold: Takes runs of records of one shape, their group starts included; None: they go where the others go.
        heed: Called every few thousand records at least; what it raises ends the reading.
    """
    stored = as_sets(apply) if stored is None else stored
    position, records, groups, last_group = header.end, 0, 0, 0
    read_end = position
    while True:
        heed()
        expected = None if sequences.last is None else sequences.last + 1
        read = None if fold is None or expected is None else read_run(data, position, expected, fold)
        read = read or replay_plain(data, position, apply, stored, expected)
        if read.records:
            records += read.records
            groups += read.groups
            last_group = read.last_group if read.groups else last_group
            position = read_end = read.position
            sequences.last = read.expected - 1
            if read.more:
                continue
        found = _record_at(data, position)
        if isinstance(found, Cause):
            return Scan(records, groups, position, last_group, _damage(data, position, read_end, found))
        record, end = found
        if type(record.op) is SetNextSeq:
            groups += 1
            last_group = position
        sequences.add(record.sequence)
        apply(record.op)
        records += 1
        position, read_end = end, end - record.unread


@dataclass(slots=True)
class Reader:
    """Reads a segment's records one by one, with their places; `valid_end` and `damage` hold once it is exhausted."""

    data: bytes
    header: Header
    valid_end: int = field(init=False)
    damage: Damage | None = field(init=False, default=None)

    def __iter__(self) -> Iterator[Located]:
        data, position = self.data, self.header.end
        read_end = position
        while not isinstance(found := _record_at(data, position), Cause):
            record, end = found
            yield Located(position, end - position - 4, record)
            position, read_end = end, end - record.unread
        self.valid_end = position
        self.damage = _damage(data, position, read_end, found)


def _record_at(data: bytes, position: int) -> tuple[Record, int] | Cause:
    """Return the record at `position` and where it ends, or why there is none."""
    start = position + 4
    if start > len(data):
        return Cause.TORN_TAIL
    end = start + _u32_at(data, position)[0]
    if end > len(data) or end == start:
        return Cause.TORN_TAIL
    try:
        record = decode_record(data[start:end])
    except DecodeError as error:
        return _cause_of(error)
    # Unread bytes are tolerated, but a whole record among them was skipped by a wrong length.
    if record.unread and _holds_record(data, end - record.unread, end):
        return Cause.BAD_LENGTH
    return record, end


def _holds_record(data: bytes, start: int, end: int) -> bool:
    if start + 4 > end:
        return False
    body_end = start + 4 + _u32_at(data, start)[0]
    try:
        return body_end <= end and decode_record(data[start + 4 : body_end]).unread >= 0
    except DecodeError:
        return False


def _cause_of(error: DecodeError) -> Cause:
    if isinstance(error, UnknownOpError):
        return Cause.UNKNOWN_OP
    return Cause.CRC_MISMATCH if isinstance(error, ChecksumError) else Cause.UNDECODABLE


def _damage(data: bytes, offset: int, read_end: int, cause: Cause) -> Damage | None:
    """Describe what stops reading at `offset`; unread bytes before it, from `read_end`, may hide a group start."""
    if not data[offset:].strip(b"\0"):
        return None
    group_start = find_group_start(data, read_end)
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
