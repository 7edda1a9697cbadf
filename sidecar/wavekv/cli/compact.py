"""`wavekv compact`: fold a stopped member's log into a snapshot, so that its next start is quick and the rest is freed.

What a start would mend by healing is refused here: only a running member can heal.
"""

import os
import time
from pathlib import Path
from typing import Final

import click

from wavekv.cli.progress import bar
from wavekv.compaction.merge import Merged, Merger
from wavekv.config import CompactionSettings, SnapshotSettings
from wavekv.core.image import Image
from wavekv.core.loading import Run
from wavekv.core.ops import Op
from wavekv.core.standing import Standing
from wavekv.disk import OS_DISK, disk_error
from wavekv.errors import Corruption
from wavekv.snapshot.files import newest
from wavekv.snapshot.reading import check
from wavekv.wal.contents import HEAL_FIRST, read_identity
from wavekv.wal.directory import DataDirectory, allow_snapshots, lock_directory
from wavekv.wal.reading import NOTHING, Folded, read_log
from wavekv.wal.recovery import recover
from wavekv.wal.segment import segment_number
from wavekv.wal.spares import retire

_SETTINGS: Final = CompactionSettings()


@click.command()
@click.argument("data_dir", type=click.Path(path_type=Path))
def compact(data_dir: Path) -> None:
    """Fold the log of the stopped member in DATA_DIR into a snapshot; exit code 4 if it is damaged."""
    identity = read_identity(data_dir)
    try:
        lock = lock_directory(data_dir)
        try:
            directory = DataDirectory(data_dir, identity, is_new=False, lock=lock)
            merged = _compact(directory)
        finally:
            os.close(lock)
    except OSError as error:
        raise disk_error(error, f"compact {data_dir}") from error
    if merged is None:
        click.echo(f"{data_dir}: nothing was written since the last snapshot")
        return
    size = merged.path.stat().st_size
    click.echo(f"{merged.path}: {merged.tail.entries} entries in {size} bytes; {merged.records} records folded in")


def _compact(directory: DataDirectory) -> Merged | None:
    path = directory.path
    base = newest(path)
    behind = NOTHING
    if base is not None:
        with bar("checking") as progress:
            behind = Folded(base.number, check(base.path, progress).head.position)
    log = read_log(path, directory.identity.node_id, lambda _: None, behind=behind)
    if log.corrupt is not None:
        raise Corruption(f"{path} is damaged ({log.cause}); {HEAL_FIRST}")
    _, recovery = recover(directory, _Nothing)  # a torn tail is cut as a start would cut it
    segments = [number for file in path.iterdir() if (number := segment_number(file.name)) is not None]
    last = max(segments, default=0)
    if last <= behind.segment or recovery.records == 0:
        return None
    allow_snapshots(path)
    with bar("compacting") as progress:
        merger = Merger(path, directory.identity, _SETTINGS, SnapshotSettings(), OS_DISK, progress)
        merged = merger.merge(behind.segment, last, time.time_ns() // 1_000_000)
    if behind.segment:
        retire(path, behind.segment, OS_DISK, 0)
    return merged


class _Nothing:
    """A loader that keeps nothing: the log is only mended."""

    entries = 0

    def __init__(self, _: Image | None) -> None:
        self.held: dict[str, bytes] = {}
        self.standing = Standing()

    def stored(self, key: str, value: bytes | None, timestamp: int, origin: int, seq: int) -> None:
        """Pass over a record."""

    def stored_run(self, run: Run) -> None:
        """Pass over records."""

    def apply(self, op: Op) -> None:
        """Pass over a record."""
