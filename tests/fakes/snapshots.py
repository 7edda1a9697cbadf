"""Snapshots for tests: written from entries, and compared with what the same entries come to one by one."""

from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from tests.fakes.disk import HastyDisk
from wavekv.config import SnapshotSettings
from wavekv.core.digest import Buckets
from wavekv.core.packed import pack
from wavekv.core.standing import Standing
from wavekv.core.types import Entry
from wavekv.disk import Disk
from wavekv.snapshot.blocks import Head, Tail
from wavekv.snapshot.files import snapshot_name
from wavekv.snapshot.writing import Writer

UUID_AA01 = UUID(int=0xAA01)
TINY = SnapshotSettings(block_entries_max=3, block_bytes_max=256, sort_dots_max=4, dots_block_max=5, sync_bytes=512)
"""Every bound is met by a handful of entries."""


def head(number: int = 3, position: int = 9, base: int = 0) -> Head:
    return Head(1, UUID_AA01, None, number, position, 1_700_000_000_000, base)


def write_snapshot(
    directory: Path,
    entries: Iterable[Entry],
    standing: Standing,
    *,
    about: Head | None = None,
    settings: SnapshotSettings = TINY,
    disk: Disk | None = None,
) -> tuple[Path, Tail]:
    """Write `entries`, in any order of distinct keys; return the file and its tail."""
    about = about or head()
    path = directory / snapshot_name(about.number)
    with Writer(disk or HastyDisk(), path, about, settings) as writer:
        for entry in sorted(entries, key=lambda entry: entry.key):
            writer.add(entry.key, pack(entry))
        return path, writer.finish(standing)


def standing_of(entries: Iterable[Entry]) -> Standing:
    """Return what storing `entries` in their order comes to."""
    standing = Standing()
    for entry in entries:
        standing.stored(entry.origin, entry.seq)
    return standing


def facts(standing: Standing) -> tuple[object, ...]:
    """Return a standing as a value that compares."""
    return standing.context, standing.floor, standing.next_seq, standing.process


def sums(entries: Iterable[Entry]) -> tuple[int, ...]:
    """Return the digest as the running member keeps it."""
    buckets = Buckets()
    for entry in entries:
        buckets.replace(None, entry)
    return buckets.snapshot()
