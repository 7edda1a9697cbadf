"""What closed segments change: the standing behind them, and for each key where its last operation lies.

Entries are only referred to (`references`); all else is folded at once by `core.standing`, in the order of the log, so
the next snapshot has the very context that a replay comes to (R2).

A closed segment is whole or the log is corrupt: its end was synced before the next one began.
"""

import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final
from zlib import crc32

from wavekv.compaction.references import REFERENCE, References
from wavekv.config import VOLUME_LIMITS, CompactionSettings
from wavekv.core.codec.bincode import TAG_U16, TAG_U32, TAG_U64, read_u32, read_u64
from wavekv.core.codec.records import decode_op
from wavekv.core.ops import Batch, Clear, Op, Set, SetExpiring
from wavekv.core.standing import Standing
from wavekv.errors import Corruption, ForeignDirectory, NewerVersion
from wavekv.volume import read_file
from wavekv.wal.segment import Cause, Sequences, first_sequence, following, read_header, replay, segment_name

_u32_at = struct.Struct("<I").unpack_from
_WIDTHS: Final = {TAG_U16: 3, TAG_U32: 5, TAG_U64: 9}
"""Bytes of a varint by its first; any other first byte is all of it."""


class Folding:
    """Folds segments, in order, onto `standing` (which it changes) and into `references`."""

    def __init__(
        self, standing: Standing, position: int | None, references: References, settings: CompactionSettings
    ) -> None:
        self.standing = standing
        self.records = 0
        self._sequences = Sequences(position)
        self._references = references
        self._settings = settings

    def fold(self, path: Path, number: int, node_id: int) -> int:
        """Fold the whole segment `number` at `path`; return its size.

        Raises:
            Corruption: it is missing, damaged, or does not go on where the one before it ends.
            ForeignDirectory, BadHeader: it is not of this node, or no segment.
            NewerVersion: a newer version wrote to it.
            OSError: a file cannot be read or written.
        """
        try:
            data = read_file(path, VOLUME_LIMITS.segment_bytes_max)
        except FileNotFoundError as error:
            raise _corruption(path, "is missing") from error
        header = read_header(data, str(path))
        if header is None:
            raise _corruption(path, "has no header")
        if header.node_id != node_id:
            raise ForeignDirectory(f"{path} is of node {header.node_id}, not of node {node_id}")
        expected, begins = following(self._sequences.last), first_sequence(data, header)
        if self._sequences.last is not None and begins not in (None, expected):
            raise _corruption(path, f"begins at record {begins}, not at {expected}")
        segment = _Segment(
            number,
            data,
            header.end,
            standing=self.standing,
            references=self._references,
            settings=self._settings,
        )
        scan = replay(data, header, segment.take, self._sequences)
        if scan.damage is not None and scan.damage.cause is Cause.UNKNOWN_OP:
            raise NewerVersion(f"{path} holds, at {scan.damage.offset}, an operation this version does not know")
        if scan.damage is not None:
            raise _corruption(path, f"is damaged at {scan.damage.offset} ({scan.damage.cause})")
        segment.flush()
        self.records += scan.records
        return len(data)


class _Segment:
    """The segment being folded. `take` is told its operations, one a record, and follows where they lie."""

    def __init__(
        self,
        number: int,
        data: bytes,
        at: int,
        *,
        standing: Standing,
        references: References,
        settings: CompactionSettings,
    ) -> None:
        self._number = number
        self._data = data
        self._at = at
        self._standing = standing
        self._references = references
        self._settings = settings
        self._places: dict[str, tuple[int, int]] = {}
        self._key_bytes = 0

    def take(self, op: Op) -> None:
        """Fold the operation of the next record."""
        start = self._at + 4
        self._at = end = start + _u32_at(self._data, self._at)[0]
        start += _WIDTHS.get(self._data[start], 1)  # behind the sequence; checksum and unread bytes do no harm
        if isinstance(op, Set | SetExpiring | Clear):
            self._note(op, start, end)
        elif isinstance(op, Batch):
            _, start = read_u32(self._data, start)
            count, start = read_u64(self._data, start)
            assert count == len(op.ops), "the batch lies where its record does"
            for part in op.ops:
                _, end = decode_op(self._data, start)
                self._note(part, start, end)
                start = end
        else:
            self._standing.apply(op)

    def _note(self, op: Set | SetExpiring | Clear, start: int, end: int) -> None:
        if isinstance(op, Clear):
            key = op.key
        else:
            entry = op.entry
            key = entry.key
            self._standing.stored(entry.origin, entry.seq)
        self._places[key] = (start, end)
        self._key_bytes += len(key)
        if len(self._places) >= self._settings.batch_keys_max or self._key_bytes >= self._settings.batch_key_bytes_max:
            self.flush()

    def flush(self) -> None:
        """Sort what is held and make it a run."""
        if self._places:
            self._references.add_run([self._reference(*self._places[key]) for key in sorted(self._places)])
        self._places, self._key_bytes = {}, 0

    def _reference(self, start: int, end: int) -> bytes:
        return REFERENCE.pack(self._number, start, end - start, crc32(self._data[start:end]))


def fold_all(
    folding: Folding, directory: Path, numbers: Iterable[int], node_id: int, told: Callable[[int], None]
) -> None:
    """Fold the segments `numbers` of `directory`; `told` learns the size of each. Raises as `Folding.fold`."""
    for number in numbers:
        told(folding.fold(directory / segment_name(number), number, node_id))


def _corruption(path: Path, what: str) -> Corruption:
    return Corruption(f"{path} {what}; it is left as it is, and a start of the member will quarantine it")
