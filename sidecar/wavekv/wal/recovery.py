"""What of the log survives a stop, a crash or damage, and that it is durable before anyone relies on it (G1).

What `reading` found is mended, in this order:
- Corruption: the log ends before it, the rest goes to quarantine.
- A torn tail: cut, its bytes kept in a file beside. So is a last segment without a whole header.
- What was replayed is synced before `recover` returns. A failed sync of the process before may have left the last
  group in memory only, marked clean; so that group is written again first, which makes the sync mean it.

Turned down: writing that group to a new segment. Its bytes are the same, so in its place a crash half-way harms
nothing, and the device remaps a bad sector when it is written.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from wavekv.core.ops import Op
from wavekv.disk import OS_DISK, Disk, disk_error, is_full, write_all, write_synced
from wavekv.wal.directory import DataDirectory
from wavekv.wal.quarantine import quarantine, resume_quarantine
from wavekv.wal.reading import Replayed, Tail, read_log
from wavekv.wal.segment import following, segment_name

TORN_FILES_KEPT_MAX: Final = 8
"""Files of cut bytes that are kept; the oldest goes first (G9)."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found and done. `damage` is None for a log that was whole."""

    records: int = 0
    groups: int = 0
    next_sequence: int = 1
    damage: Literal["torn_tail", "corruption"] | None = None
    cause: str | None = None
    """Where the damage began and what it was, for people."""
    cut_bytes: int = 0
    quarantined: tuple[Path, ...] = ()
    tail: Tail | None = None
    closed_segments: int = 0
    closed_bytes: int = 0
    gaps: int = 0
    duplicates: int = 0
    disorder: int = 0


def recover(directory: DataDirectory, apply: Callable[[Op], object], disk: Disk = OS_DISK) -> Recovery:
    """Replay the log of `directory` into `apply`, mend its end, and make what was replayed durable.

    Raises:
        BadHeader: a segment is no log file.
        ForeignDirectory: a segment belongs to another node.
        NewerVersion: a newer version wrote to the log. These three leave every file as it was.
        Corruption: the record of an unfinished quarantine cannot be read.
        DiskFull, DiskFailed, DirectoryUnusable: the end could not be mended or made durable.
    """
    try:
        return _recover(directory, apply, disk)
    except OSError as error:
        raise disk_error(error, f"recover the log in {directory.path}") from error


def _recover(directory: DataDirectory, apply: Callable[[Op], object], disk: Disk) -> Recovery:
    path = directory.path
    quarantined = resume_quarantine(path, disk)
    log = read_log(path, directory.identity.node_id, apply)
    corrupt = quarantined is not None or log.corrupt is not None
    cut_bytes = 0
    if log.corrupt is not None:
        quarantined = (quarantined or ()) + quarantine(path, log.corrupt, disk)
    elif log.torn is not None and log.tail is not None:
        cut_bytes = _keep_aside(path / segment_name(log.tail.number), log.torn.offset, log.data, disk)
    elif log.unused is not None:
        cut_bytes = _keep_aside(log.unused, 0, log.unused.read_bytes(), disk)
        disk.unlink(log.unused)
    _make_durable(path, log, disk)
    for leftover in path.glob("*.wal.tmp"):
        disk.unlink(leftover)
    sequences = log.sequences
    return Recovery(
        records=log.records,
        groups=log.groups,
        next_sequence=following(sequences.last),
        damage="corruption" if corrupt else "torn_tail" if cut_bytes else None,
        cause=log.cause,
        cut_bytes=cut_bytes,
        quarantined=quarantined or (),
        tail=log.tail,
        closed_segments=log.closed_segments,
        closed_bytes=log.closed_bytes,
        gaps=sequences.gaps,
        duplicates=sequences.duplicates,
        disorder=sequences.disorder,
    )


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
