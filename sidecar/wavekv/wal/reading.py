"""How the log reads as a whole, and the verdict on its damage: torn tail, corruption, or a refusal. Changes nothing.

- A segment of another node, a later format or no format at all refuses the log; so does, anywhere in it, a whole
  record of an unknown operation. All segments are looked at for these before anyone mends anything.
- The last segment, damage without a group start behind it: a *torn tail*, an append that was never acknowledged.
- Any other damage, a missing segment, and one that does not go on where the one before it ends: *corruption*. What
  lies behind it was durable once. Within a segment sequences decide nothing, as in the original system; at its border
  they are the only trace of an end that was lost on a record's boundary, and every append counts on by one.
- A last segment without a whole header was never used.

Turned down: cutting at the first bad record whatever lies behind it, as the original system does; acknowledged
writes behind one bad sector would be lost in silence.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from wavekv.config import VOLUME_LIMITS
from wavekv.core.codec.records import Header
from wavekv.core.ops import Op
from wavekv.errors import ForeignDirectory, NewerVersion
from wavekv.volume import open_file, read_file, unusable
from wavekv.wal.plain import Stored
from wavekv.wal.quarantine import Plan
from wavekv.wal.runs import Fold
from wavekv.wal.segment import (
    Cause,
    Damage,
    Sequences,
    first_sequence,
    following,
    read_header,
    replay,
    segment_name,
    segment_number,
)

_HEADER_READ_BYTES: Final = 64 << 10
"""Of each segment, before any is replayed; a longer header block is refused as none of ours."""


class Tail(NamedTuple):
    """The segment that appends go on in: used up to `valid_end`, holding zeros up to `allocated`."""

    number: int
    valid_end: int
    allocated: int


class Folded(NamedTuple):
    """What a snapshot holds of the log: all up to a segment, and the sequence of its last record."""

    segment: int
    sequence: int


NOTHING: Final = Folded(0, 0)


class _Segment(NamedTuple):
    number: int
    path: Path
    header: Header | None
    """None: the file ends inside its header."""


@dataclass(slots=True)
class Replayed:
    """What reading the whole log came to, before anything is mended."""

    sequences: Sequences = field(default_factory=Sequences)
    records: int = 0
    groups: int = 0
    closed_segments: int = 0
    closed_bytes: int = 0
    tail: Tail | None = None
    data: bytes = b""
    """Content of the tail's segment."""
    last_group: int = 0
    """Offset of the last group in `data`, the only bytes an earlier process may have failed to sync."""
    torn: Damage | None = None
    """A torn tail in the tail's segment."""
    corrupt: Plan | None = None
    """Corruption, as the cut it asks for."""
    unused: Path | None = None
    """A last segment without a whole header."""

    @property
    def cause(self) -> str | None:
        """Say where the damage is and what it looks like, None for a log that is whole."""
        if self.corrupt is not None:
            return self.corrupt.cause
        if self.torn is not None and self.tail is not None:
            return f"{self.torn.cause} in {segment_name(self.tail.number)} at {self.torn.offset}"
        if self.unused is not None:
            return f"{self.unused.name} has no header"
        return None


def read_log(
    directory: Path,
    node_id: int | None,
    apply: Callable[[Op], object],
    *,
    stored: Stored | None = None,
    fold: Fold | None = None,
    behind: Folded = NOTHING,
    progress: Callable[[int], object] = lambda _: None,
    heed: Callable[[], object] = lambda: None,
) -> Replayed:
    """Apply the valid prefix of the log in `directory`; say where and how it ends. Changes nothing.

    Args:
        directory: The data directory.
        node_id: Whose log it has to be; None: anybody's.
        apply: Takes each operation.
        stored: Takes most Set records, by their parts; None: they go to `apply` too.
        fold: Takes runs of records of one shape; None: they go where the others go.
        behind: What is known already: only later segments are read.
        progress: Told the size of each segment that was read, in bytes.
        heed: Called every few thousand records at least; what it raises ends the reading.

    Raises:
        BadHeader, ForeignDirectory (unless `node_id` is None), NewerVersion, UnusableFile: as `recover`.
        OSError: a file cannot be read.
    """
    segments = [segment for segment in inspect(directory, node_id) if segment.number > behind.segment]
    log = Replayed(sequences=Sequences(last=behind.sequence or None))
    for expected, segment in enumerate(segments, start=behind.segment + 1):
        last = segment is segments[-1]
        if segment.number != expected:
            log.corrupt = Plan(expected, 0, f"{segment_name(expected)} is missing")
        elif segment.header is None and last:
            log.unused = segment.path
            break
        elif segment.header is None:
            log.corrupt = Plan(expected, 0, f"{segment.path.name} has no header")
        else:
            part = partial(replay_segment, log, expected, segment.path, segment.header, last=last)
            part(apply=apply, stored=stored, fold=fold, heed=heed)
            progress(segment.path.stat().st_size)
        if log.corrupt is not None:
            for later in segments[expected - behind.segment - 1 :]:
                _refuse_newer(later)
            break
    return log


def inspect(directory: Path, node_id: int | None) -> list[_Segment]:
    """Return the segments in order, each with its header; refuse the log if one is not ours. Raises as `read_log`."""
    found = []
    for path in sorted(directory.iterdir()):
        number = segment_number(path.name)
        if number is None:
            continue
        with open_file(path) as file:
            _refuse_long(file, path)
            header = read_header(file.read(_HEADER_READ_BYTES), str(path))
            if header is None:  # zeros as far as read: all of the file has to be
                file.seek(0)
                header = read_header(file.read(), str(path))
        if header is not None and node_id not in (None, header.node_id):
            raise ForeignDirectory(f"{path} is of node {header.node_id}, not of node {node_id}")
        found.append(_Segment(number, path, header))
    return found


def replay_segment(
    log: Replayed,
    number: int,
    path: Path,
    header: Header,
    *,
    last: bool,
    apply: Callable[[Op], object],
    stored: Stored | None = None,
    fold: Fold | None = None,
    heed: Callable[[], object] = lambda: None,
) -> None:
    """Apply one segment's records and add to `log` what it came to; `last` decides what damage means.

    Raises:
        NewerVersion: damage that is an operation of a newer version.
        OSError: the file cannot be read.
    """
    data = read_file(path, VOLUME_LIMITS.segment_bytes_max)
    last_sequence, next_sequence = log.sequences.last, first_sequence(data, header)
    if None not in (last_sequence, next_sequence) and next_sequence != following(last_sequence):
        log.corrupt = Plan(number, 0, f"{path.name} begins at record {next_sequence}, not behind {last_sequence}")
        return
    if log.tail is not None:
        log.closed_segments += 1
        log.closed_bytes += log.tail.valid_end
    log.data = data
    scan = replay(data, header, apply, log.sequences, stored=stored, fold=fold, heed=heed)
    log.records += scan.records
    log.groups += scan.groups
    log.last_group = scan.last_group
    damage = scan.damage
    log.tail = Tail(number, scan.valid_end, scan.valid_end if damage else len(data))
    if damage is None:
        return
    if damage.cause is Cause.UNKNOWN_OP:
        raise _newer(path, damage)
    if last and damage.group_start is None:
        log.torn = damage
    else:
        log.corrupt = Plan(number, scan.valid_end, f"{damage.cause} in {path.name} at {damage.offset}")


def _refuse_long(file: BinaryIO, path: Path) -> None:
    """Refuse a segment that is longer than any, before it is read whole."""
    size = os.fstat(file.fileno()).st_size
    if size > VOLUME_LIMITS.segment_bytes_max:
        raise unusable(path, f"it has {size} bytes, and no segment has more than {VOLUME_LIMITS.segment_bytes_max}")


def _refuse_newer(segment: _Segment) -> None:
    """Look for operations of a newer version in what is about to be moved: its log is left alone.

    Only records in their order count. What a search behind damage finds may be the bytes of a value, and a value must
    not be able to keep a member from starting.

    Raises:
        NewerVersion: there is one.
    """
    if segment.header is None:
        return
    damage = replay(
        read_file(segment.path, VOLUME_LIMITS.segment_bytes_max), segment.header, lambda _: None, Sequences()
    ).damage
    if damage is not None and damage.cause is Cause.UNKNOWN_OP:
        raise _newer(segment.path, damage)


def _newer(path: Path, damage: Damage) -> NewerVersion:
    return NewerVersion(
        f"{path} holds, at {damage.offset}, an operation this version does not know; "
        "start the version that wrote it, or restore a copy made before the upgrade"
    )
