"""The order by dot of a snapshot's entries: sorted in bounded memory, and how it lies in its blocks.

A record is origin, seq and place in 16 big-endian bytes, so that bytes compare as the three numbers do. Sorted runs go
to a temporary file beside the snapshot and are merged from there; a small snapshot needs none.

Columns are made and read by slices of arrays, which is C all through; a step in Python for each dot would take longer
than all else in a load.
"""

import heapq
import os
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from wavekv.config import VOLUME_LIMITS
from wavekv.core.codec.pieces import flat_array
from wavekv.core.image import Dots
from wavekv.core.types import U32_MAX
from wavekv.disk import Disk, create, write_all

RECORD_BYTES: Final = 16
_RUN_READ_BYTES: Final = 4 << 20
"""Read ahead from all runs together while they are merged; a run gets 4 KiB at least."""

pack_record: Final = struct.Struct(">IQI").pack
"""`(origin, seq, place)` → a record."""


class DotSorter:
    """Takes records in any order and gives them back sorted; holds at most `records_max` and what one call adds."""

    def __init__(self, disk: Disk, path: Path, records_max: int) -> None:
        self._disk = disk
        self._path = path
        self._records_max = records_max
        self._held: list[bytes] = []
        self._runs: list[tuple[int, int]] = []
        self._size = 0
        self._descriptor: int | None = None

    def add(self, records: Iterable[bytes]) -> None:
        """Take some records.

        Raises:
            OSError: the temporary file cannot be written.
        """
        self._held.extend(records)
        if len(self._held) >= self._records_max:
            self._spill()

    def _spill(self) -> None:
        if self._descriptor is None:
            self._descriptor = create(self._disk, self._path, os.O_RDWR)
        self._held.sort()
        run = b"".join(self._held)
        self._held = []
        write_all(self._disk, self._descriptor, run, self._size)
        self._runs.append((self._size, self._size + len(run)))
        self._size += len(run)

    def chunks(self, records_max: int) -> Iterator[bytes]:
        """Yield all records in order, joined, at most `records_max` at a time.

        Raises:
            OSError: the temporary file cannot be written or read.
        """
        self._held.sort()
        records: Iterator[bytes] = iter(self._held)
        if self._runs:
            ahead = max(_RUN_READ_BYTES // len(self._runs), 4096) // RECORD_BYTES * RECORD_BYTES
            records = heapq.merge(records, *(self._run(start, end, ahead) for start, end in self._runs))
        while chunk := b"".join(islice(records, records_max)):
            yield chunk

    def _run(self, start: int, end: int, ahead: int) -> Iterator[bytes]:
        assert self._descriptor is not None, "a run was written"
        while start < end:
            data = os.pread(self._descriptor, min(ahead, end - start), start)
            if not data or len(data) % RECORD_BYTES:
                raise OSError(f"{self._path} was cut while it was read")
            yield from (data[at : at + RECORD_BYTES] for at in range(0, len(data), RECORD_BYTES))
            start += len(data)

    def close(self) -> None:
        """Remove the temporary file."""
        if self._descriptor is not None:
            self._disk.close(self._descriptor)
            self._descriptor = None
            self._disk.unlink(self._path)


def columns(records: bytes) -> list[Any]:
    """Return sorted records as a block's flat array: origin, seqs (u64le), places (u32le), and so on."""
    words = array("I")
    words.frombytes(records)
    if sys.byteorder == "little":
        words.byteswap()
    halves = array("I", bytes(len(records) // 2))
    halves[0::2], halves[1::2] = words[2::4], words[1::4]
    origins, seqs, places = words[0::4], to_little(halves), to_little(words[3::4])
    flat: list[Any] = []
    start = 0
    while start < len(origins):
        end = bisect_right(origins, origins[start], start)
        flat += (origins[start], seqs[8 * start : 8 * end], places[4 * start : 4 * end])
        start = end
    return flat


def read_columns(payload: bytes) -> list[Dots]:
    """Return the parts in a block of dots.

    Raises:
        ValueError, TypeError: it is not what `columns` makes.
    """
    flat = flat_array(payload, 3 * VOLUME_LIMITS.snapshot_block_entries_max)
    return [
        _part(origin, from_little("Q", seqs), from_little("I", places))
        for origin, seqs, places in zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
    ]


def _part(origin: int, seqs: "array[int]", places: "array[int]") -> Dots:
    if type(origin) is not int or not 0 <= origin <= U32_MAX or not seqs or len(seqs) != len(places):
        raise ValueError("no origin, or seqs and places that differ in number")
    return Dots(origin, seqs, places)


def to_little(numbers: "array[int]") -> bytes:
    """Return the numbers as little-endian bytes."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def from_little(typecode: str, data: bytes) -> "array[int]":
    """Return the numbers in little-endian bytes. Raises ValueError for a part of one."""
    numbers: array[int] = array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
