"""Where the last operation of each changed key lies: references into segments, sorted by key, on disk.

A reference is segment, offset, length and CRC-32 of one operation in 16 bytes; key and value stay in the segment and
are read from there again. Turned down: runs of keys and entries, which copy the log onto a disk that holds the
segments, the last snapshot and the next one already.

Runs are in the order of the log: where two have a key, the later one tells. All lie in one temporary file.
"""

import heapq
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from wavekv.config import CompactionSettings
from wavekv.core.codec.bincode import DecodeError
from wavekv.core.codec.records import decode_op
from wavekv.core.ops import Clear, Set, SetExpiring
from wavekv.core.packed import pack
from wavekv.disk import Disk, create, write_all
from wavekv.errors import Corruption
from wavekv.volume import open_regular
from wavekv.wal.segment import segment_name

REFERENCE: Final = struct.Struct("<IIII")
"""Segment, offset, length, CRC-32."""
_READ_AHEAD: Final = 512 * REFERENCE.size
_WRITTEN_AT_ONCE: Final = 65_536

EntryOp = Set | SetExpiring | Clear


class _Found(NamedTuple):
    """An operation met in a run; compares by key, the latest run first."""

    key: str
    earliness: int
    reference: bytes
    op: EntryOp


class References:
    """Sorted runs of references into the segments of `directory`, kept in `path`. `close` removes the file."""

    def __init__(self, directory: Path, path: Path, settings: CompactionSettings, disk: Disk) -> None:
        self._path = path
        self._settings = settings
        self._disk = disk
        self._segments = _Segments(directory, settings.open_segments_max)
        self._runs: list[tuple[int, int]] = []
        self._size = 0
        self._descriptor: int | None = None

    def add_run(self, references: list[bytes]) -> None:
        """Take the references of one run, in key order, later in the log than all before it.

        Raises:
            OSError: the temporary file cannot be written.
        """
        start = self._size
        self._append(b"".join(references))
        self._runs.append((start, self._size))

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            self._descriptor = create(self._disk, self._path, os.O_RDWR)
        write_all(self._disk, self._descriptor, data, self._size)
        self._size += len(data)

    def changes(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield `(key, packed)` of every changed key in key order, None where it holds nothing any more.

        Raises:
            Corruption: a segment is not what it was.
            OSError: a file cannot be read or written.
        """
        while len(self._runs) > self._settings.runs_max:
            self._pass()
        for found in self._latest(self._runs):
            yield found.key, None if isinstance(found.op, Clear) else pack(found.op.entry)

    def _pass(self) -> None:
        """Merge neighbouring runs, as many as may be merged at once."""
        runs, self._runs = self._runs, []
        width = self._settings.runs_max
        for group in (runs[at : at + width] for at in range(0, len(runs), width)):
            start, held = self._size, []
            for found in self._latest(group):
                held.append(found.reference)
                if len(held) == _WRITTEN_AT_ONCE:
                    self._append(b"".join(held))
                    held = []
            self._append(b"".join(held))
            self._runs.append((start, self._size))

    def _latest(self, runs: list[tuple[int, int]]) -> Iterator[_Found]:
        """Yield the latest operation of each key in `runs`."""
        last = None
        for found in heapq.merge(*(self._run(start, end, -at) for at, (start, end) in enumerate(runs))):
            if found.key != last:
                last = found.key
                yield found

    def _run(self, start: int, end: int, earliness: int) -> Iterator[_Found]:
        assert self._descriptor is not None or start == end, "a run was written"
        while start < end:
            data = os.pread(self._descriptor or 0, min(_READ_AHEAD, end - start), start)
            if not data or len(data) % REFERENCE.size:
                raise OSError(f"{self._path} was cut while it was read")
            for at in range(0, len(data), REFERENCE.size):
                reference = data[at : at + REFERENCE.size]
                op = self._segments.operation(reference)
                yield _Found(op.key if isinstance(op, Clear) else op.entry.key, earliness, reference, op)
            start += len(data)

    def close(self) -> None:
        """Remove the temporary file."""
        self._segments.close()
        if self._descriptor is not None:
            self._disk.close(self._descriptor)
            self._descriptor = None
            self._disk.unlink(self._path)


class _Segments:
    """Reads operations from segments, of which `open_max` are open at once."""

    def __init__(self, directory: Path, open_max: int) -> None:
        self._directory = directory
        self._open_max = open_max
        self._descriptors: dict[int, int] = {}

    def operation(self, reference: bytes) -> EntryOp:
        """Return the operation that lies there, checked again."""
        number, offset, length, checksum = REFERENCE.unpack(reference)
        data = os.pread(self._descriptor(number), length, offset)
        if len(data) == length and crc32(data) == checksum:
            try:
                op, _ = decode_op(data, 0)
            except DecodeError:
                op = None
            if isinstance(op, Set | SetExpiring | Clear):
                return op
        raise Corruption(
            f"{self._directory / segment_name(number)} has changed at {offset} since it was read; check the volume, "
            "then start the member again"
        )

    def _descriptor(self, number: int) -> int:
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            if len(self._descriptors) >= self._open_max:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            path = self._directory / segment_name(number)
            descriptor = self._descriptors[number] = open_regular(path)
        return descriptor

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
