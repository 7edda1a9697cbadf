"""What of the log survives a stop, a crash or damage, and that it is durable before anyone relies on it (G1).

The newest snapshot that is whole is loaded; one that is broken is put aside, and since the segments behind the one
before it are still there, nothing is lost. Then the log is replayed, and what `reading` found is mended, in this order:
- Corruption: the log ends before it, the rest goes to quarantine.
- A torn tail: cut, its bytes kept in a file beside.
- A last segment without a whole header, such as zeros: the same. It had one before it was used, so what it held is
  gone, and that is told, also where nothing is left to be kept.
- What was replayed is synced before `recover` returns. The last group is written again first: after a failed sync of
  the process before, the kernel may hold that group in memory alone and take it for written, and a sync would do
  nothing.

Turned down: writing that group to a new segment. In its own place the bytes are the same as before, so a crash half-way
harms nothing, and the device remaps a bad sector when it is written.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar, get_args

from wavekv.config import VOLUME_LIMITS
from wavekv.core.image import Image
from wavekv.core.loading import Loader
from wavekv.disk import OS_DISK, Disk, disk_error, is_full, write_all, write_synced
from wavekv.errors import BadHeader, ForeignDirectory, NewerVersion, SnapshotDamaged, UnusableFile, VolumeTooLarge
from wavekv.snapshot.bounds import UNBOUNDED, HeldBounds, HeldCheck
from wavekv.snapshot.files import Numbered, snapshot_number, snapshots, sweep
from wavekv.snapshot.reading import load, read_head
from wavekv.volume import read_file
from wavekv.wal.directory import DataDirectory
from wavekv.wal.quarantine import Quarantined, quarantine, resume_quarantine, settle_quarantine
from wavekv.wal.reading import NOTHING, Folded, Replayed, Tail, inspect, read_log
from wavekv.wal.segment import following, segment_name, segment_number

TORN_FILES_KEPT_MAX: Final = 8
"""Files of cut bytes that are kept; the oldest goes first (G9)."""


Damage = Literal["torn_tail", "blank_segment", "snapshot", "corruption"]
"""From the least grave to the gravest."""
DAMAGES: Final[tuple[Damage, ...]] = get_args(Damage)

_Loader = TypeVar("_Loader", bound=Loader)
Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""


def _untold(_done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found and done. `damage` is None for a log that was whole."""

    records: int = 0
    groups: int = 0
    next_sequence: int = 1
    damage: Damage | None = None
    cause: str | None = None
    """Where the damage began and what it was, for people."""
    cut_bytes: int = 0
    quarantined: tuple[Path, ...] = ()
    tail: Tail | None = None
    snapshot: int = 0
    """Number of the snapshot that was loaded; 0: none."""
    snapshot_bytes: int = 0
    snapshot_entries: int = 0
    closed_segments: int = 0
    closed_bytes: int = 0
    gaps: int = 0
    duplicates: int = 0
    disorder: int = 0


def recover(
    directory: DataDirectory,
    loader_over: Callable[[Image | None], _Loader],
    disk: Disk = OS_DISK,
    progress: Progress = _untold,
    held: HeldBounds = UNBOUNDED,
) -> tuple[_Loader, Recovery]:
    """Load the newest whole snapshot and replay the log behind it, mend its end, and make what was replayed durable.

    Args:
        directory: The data directory, opened.
        loader_over: Makes what takes the records, over a snapshot's image or over nothing.
        disk: The system calls.
        progress: Told bytes read and bytes to read.
        held: What snapshot and log may come to.

    Raises:
        UnusableFile: a name in the directory is not that of a regular file, or the file is longer than its kind may be.
        VolumeTooLarge: snapshot or log come to more than they may.
        BadHeader: a segment is no log file.
        ForeignDirectory: a segment or snapshot belongs to another node.
        NewerVersion: a newer version wrote to the log or a snapshot. All these leave every file as it was.
        Corruption: the record of an unfinished quarantine cannot be read.
        DiskFull, DiskFailed, DirectoryUnusable: the end could not be mended or made durable.
    """
    try:
        return _Recovery(directory, loader_over, disk, progress, held).run()
    except (BadHeader, ForeignDirectory, NewerVersion, UnusableFile, VolumeTooLarge):
        directory.uncount(disk)
        raise
    except OSError as error:
        raise disk_error(error, f"recover the log in {directory.path}") from error


def settle(directory: DataDirectory, disk: Disk = OS_DISK) -> None:
    """Take note that `Recovery.damage` was kept where it matters; until then every start tells of corruption again.

    Raises:
        DiskFull, DiskFailed, DirectoryUnusable: it could not be noted.
    """
    try:
        settle_quarantine(directory.path, disk)
    except OSError as error:
        raise disk_error(error, f"settle the quarantine in {directory.path}") from error


class _Recovery(Generic[_Loader]):
    """One run of `recover`."""

    def __init__(
        self,
        directory: DataDirectory,
        loader_over: Callable[[Image | None], _Loader],
        disk: Disk,
        progress: Progress,
        held: HeldBounds,
    ) -> None:
        self._path = directory.path
        self._identity = directory.identity
        self._loader_over = loader_over
        self._disk = disk
        self._progress = progress
        self._held = held
        self._done_bytes = self._total_bytes = 0
        self._broken: list[SnapshotDamaged] = []

    def run(self) -> tuple[_Loader, Recovery]:
        """Recover."""
        path, disk = self._path, self._disk
        inspect(path, self._identity.node_id)
        found = snapshots(path)
        for snapshot in found:
            self._refuse_foreign(snapshot.path)
        resumed = resume_quarantine(path, disk)
        files = [file for file in path.iterdir() if segment_number(file.name) or snapshot_number(file.name)]
        self._total_bytes = sum(file.stat().st_size for file in files)
        folded, snapshot_bytes, loader = self._load(found)
        check = HeldCheck(path, self._held, loader)

        def read(size: int) -> None:
            self._advance(size)
            check.read(size)

        log = read_log(
            path,
            self._identity.node_id,
            loader.apply,
            stored=loader.stored,
            fold=loader.stored_run,
            behind=folded,
            progress=read,
            heed=check.look,
        )
        quarantined = () if resumed is None else resumed.files
        corrupt = resumed is not None or log.corrupt is not None
        cut_bytes = 0
        if log.corrupt is not None:
            quarantined += quarantine(path, log.corrupt, disk).files
        elif log.torn is not None and log.tail is not None:
            cut_bytes = _keep_aside(path / segment_name(log.tail.number), log.torn.offset, log.data, disk)
        elif log.unused is not None:
            cut_bytes = _keep_aside(log.unused, 0, read_file(log.unused, VOLUME_LIMITS.segment_bytes_max), disk)
            disk.unlink(log.unused)
        _make_durable(path, log, disk)
        for leftover in path.glob("*.wal.tmp"):
            disk.unlink(leftover)
        sweep(path, disk)
        sequences = log.sequences
        return loader, Recovery(
            records=log.records,
            groups=log.groups,
            next_sequence=following(sequences.last),
            damage=self._damage(log, corrupt=corrupt, cut_bytes=cut_bytes),
            cause=self._cause(log, resumed),
            cut_bytes=cut_bytes,
            quarantined=quarantined,
            tail=log.tail,
            snapshot=folded.segment,
            snapshot_bytes=snapshot_bytes,
            snapshot_entries=loader.entries,
            closed_segments=log.closed_segments,
            closed_bytes=log.closed_bytes,
            gaps=sequences.gaps,
            duplicates=sequences.duplicates,
            disorder=sequences.disorder,
        )

    def _damage(self, log: Replayed, *, corrupt: bool, cut_bytes: int) -> Damage | None:
        """Return the gravest kind of damage."""
        if corrupt:
            return "corruption"
        if self._broken:
            return "snapshot"
        if log.unused is not None:
            return "blank_segment"
        return "torn_tail" if cut_bytes else None

    def _cause(self, log: Replayed, resumed: Quarantined | None) -> str | None:
        """Return the cause of the gravest damage."""
        if resumed is not None and log.corrupt is None:
            return resumed.cause
        return log.cause or (self._broken[0].detail if self._broken else None)

    def _refuse_foreign(self, snapshot: Path) -> None:
        try:
            head = read_head(snapshot)
        except SnapshotDamaged:
            return  # loading it will say so again, and an older one is looked for
        if head.node_id != self._identity.node_id:
            raise ForeignDirectory(f"{snapshot} is of node {head.node_id}, not of node {self._identity.node_id}")

    def _load(self, found: list[Numbered]) -> tuple[Folded, int, _Loader]:
        """Load the newest snapshot that is whole; broken ones are put aside once an older state is at hand."""
        for number, path in reversed(found):
            try:
                head, image = load(path, self._progress_within, self._held)
            except SnapshotDamaged as broken:
                self._broken.append(broken)
                continue
            size = path.stat().st_size
            self._advance(size)
            self._put_aside(found, number)
            return Folded(number, head.position), size, self._loader_over(image)
        self._put_aside(found, 0)
        return NOTHING, 0, self._loader_over(None)

    def _put_aside(self, found: list[Numbered], number: int) -> None:
        for broken, path in found:
            if broken > number:
                self._disk.rename(path, path.with_name(f"{path.name}.damaged"))
        if self._broken:
            self._disk.sync_dir(self._path)

    def _progress_within(self, done: int, _: int) -> None:
        self._progress(self._done_bytes + done, max(self._total_bytes, self._done_bytes + done))

    def _advance(self, size: int) -> None:
        self._done_bytes += size
        self._progress(self._done_bytes, max(self._total_bytes, self._done_bytes))


def _keep_aside(segment: Path, offset: int, data: bytes, disk: Disk) -> int:
    """Keep what is cut from `segment` at `offset` in a file beside it; return its length without trailing zeros.

    None of it was ever acknowledged, so a full disk drops the copy instead of stopping the start.
    """
    cut = data[offset:].rstrip(b"\0")
    if not cut:
        return 0
    torn = segment.with_name(f"{segment.name}.torn-{offset}")
    kept = sorted(segment.parent.glob("*.wal.torn-*"), key=lambda file: file.stat().st_mtime_ns)
    for outdated in [file for file in kept if file != torn][: max(0, len(kept) + 1 - TORN_FILES_KEPT_MAX)]:
        disk.unlink(outdated)
    try:
        write_synced(disk, torn, cut)
        disk.sync_dir(segment.parent)
    except OSError as error:
        if not is_full(error):
            raise
        disk.unlink(torn)
    return len(cut)


def _make_durable(path: Path, log: Replayed, disk: Disk) -> None:
    if log.tail is not None:
        number, valid_end, allocated = log.tail
        descriptor = disk.open(path / segment_name(number), os.O_WRONLY)
        try:
            if allocated < len(log.data):
                disk.truncate(descriptor, allocated)
            write_all(disk, descriptor, log.data[log.last_group : valid_end], log.last_group)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
    disk.sync_dir(path)
