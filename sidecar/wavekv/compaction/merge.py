"""The next snapshot from the last one and the segments since, by streaming: memory does not grow with the data.

In this order, so that a stop anywhere leaves a snapshot and all segments behind it:
1. The base is checked, every hash of it, and the segments are read. What is damaged ends it here, nothing changed.
2. Snapshots older than the base go. The base stays as the one to fall back to until the next compaction.
3. The new snapshot is written beside, synced, and gets its name.
Segments are never removed here: the running member does that (`wal.spares`), once it was told that all went well.

Base and segments are two streams in key order; where both have a key, the segments tell. An operation costs a few
microseconds twice, an untouched entry of the base about one.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from wavekv.compaction.folding import Folding, fold_all
from wavekv.compaction.references import References
from wavekv.config import CompactionSettings, SnapshotSettings
from wavekv.core.standing import Standing
from wavekv.disk import Disk
from wavekv.errors import ForeignDirectory
from wavekv.snapshot.blocks import Head, Tail
from wavekv.snapshot.files import runs_path, snapshot_name, snapshots, sweep
from wavekv.snapshot.reading import Ends, check, entry_blocks
from wavekv.snapshot.writing import Writer
from wavekv.wal.directory import Identity
from wavekv.wal.segment import segment_name

_CHANGES_TOLD: Final = 4096


class Merged(NamedTuple):
    """A snapshot that was made: its file, its ends, and the records it took in."""

    path: Path
    head: Head
    tail: Tail
    records: int


@dataclass(frozen=True, slots=True)
class Merger:
    """What a merge needs beside its numbers.

    Attributes:
        directory: the data directory.
        identity: whose it is.
        compaction: bounds of the merge.
        snapshot: how the snapshot is written.
        disk: the system calls.
        progress: told bytes done and bytes in all, now and then; what it raises stops the merge.
    """

    directory: Path
    identity: Identity
    compaction: CompactionSettings
    snapshot: SnapshotSettings
    disk: Disk
    progress: Callable[[int, int], None]

    def merge(self, base: int, last: int, now_ms: int, alone: Callable[[], None] = lambda: None) -> Merged:
        """Make the snapshot `last` from the snapshot `base` (0: from none) and the segments base + 1 … last.

        No other merge may run on the directory. `alone` is told once the base held and is the oldest snapshot there is:
        the segments up to it are of no use any more.

        Raises:
            SnapshotDamaged: the base is damaged.
            Corruption, BadHeader: a segment is damaged or missing.
            NewerVersion: a newer version wrote to base or segments.
            ForeignDirectory: base or a segment are not of this directory.
            OSError: as the system says. After any of these the directory is as good as before.
        """
        assert 0 <= base < last, "a merge takes in one segment at least"
        path = self.directory / snapshot_name(last)
        meter = _Meter(self.progress, self._sizes(base, last))
        sweep(self.directory, self.disk)
        ends = self._check_base(base, meter) if base else None
        standing, position = (ends.tail.standing, ends.head.position) if ends else (Standing(), 0)
        with closing(References(self.directory, runs_path(path), self.compaction, self.disk)) as references:
            folding = Folding(standing, position if ends else None, references, self.compaction)
            fold_all(folding, self.directory, range(base + 1, last + 1), self.identity.node_id, meter.add)
            self._remove_older(base)
            alone()
            about = self.identity
            head = Head(about.node_id, about.uuid, about.cluster_id, last, position + folding.records, now_ms, base)
            with Writer(self.disk, path, head, self.snapshot) as writer:
                writer.extend(_overlaid(self._base_entries(base, meter), references.changes(), meter))
                tail = writer.finish(standing)
        meter.end()
        return Merged(path, head, tail, folding.records)

    def _sizes(self, base: int, last: int) -> int:
        """Return the bytes that are read: the base twice, each segment once; what is missing is told later."""
        names = [segment_name(number) for number in range(base + 1, last + 1)]
        names += [snapshot_name(base)] * 2 if base else []
        paths = [self.directory / name for name in names]
        return sum(path.stat().st_size for path in paths if path.exists())

    def _check_base(self, base: int, meter: "_Meter") -> Ends:
        path = self.directory / snapshot_name(base)
        ends = check(path, meter.within())
        if (ends.head.node_id, ends.head.uuid) != (self.identity.node_id, self.identity.uuid):
            raise ForeignDirectory(f"{path} is of node {ends.head.node_id} with uuid {ends.head.uuid}, not of this one")
        if ends.head.number != base:
            raise ForeignDirectory(f"{path} is the snapshot {ends.head.number}; give it back its name")
        return ends

    def _remove_older(self, base: int) -> None:
        older = [found.path for found in snapshots(self.directory) if found.number < base]
        for path in older:
            self.disk.unlink(path)
        if older:
            self.disk.sync_dir(self.directory)

    def _base_entries(self, base: int, meter: "_Meter") -> Iterator[tuple[str, bytes]]:
        if base:
            for columns in entry_blocks(self.directory / snapshot_name(base), meter.within()):
                yield from zip(columns.keys, columns.packed, strict=True)


def _overlaid(
    base: Iterator[tuple[str, bytes]], changes: Iterator[tuple[str, bytes | None]], meter: "_Meter"
) -> Iterator[tuple[str, bytes]]:
    """Yield what the base holds after the changes; both come in key order."""
    change = next(changes, None)
    for held in base:
        while change is not None and change[0] < held[0]:
            if change[1] is not None:
                yield change[0], change[1]
            change = next(changes, None)
        if change is None or change[0] != held[0]:
            yield held
            continue
        if change[1] is not None:
            yield change[0], change[1]
        change = next(changes, None)
    count = 0
    while change is not None:
        if change[1] is not None:
            yield change[0], change[1]
        change = next(changes, None)
        count += 1
        if count % _CHANGES_TOLD == 0:
            meter.add(0)


class _Meter:
    """Adds up what was read."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, size: int) -> None:
        """Tell that `size` more bytes were read."""
        self._done += size
        self._progress(self._done, self._total)

    def within(self) -> Callable[[int, int], None]:
        """Return what a reader of one file tells how far it got."""
        before = self._done
        return lambda done, _: self.add(before + done - self._done)

    def end(self) -> None:
        """Tell that all is done."""
        self._progress(self._total, self._total)
