"""`wavekv export --format crate`: a stopped member's state as a directory that the original system opens.

The member's directory is locked meanwhile and otherwise left as it is.
"""

import os
import time
from collections.abc import Collection
from pathlib import Path

import click

from wavekv.cli.progress import bar
from wavekv.disk import OS_DISK, disk_error
from wavekv.errors import DirectoryInUse, DirectoryUnusable
from wavekv.wal.contents import Contents, read_directory, read_identity
from wavekv.wal.crate_export import CrateCopy, crate_files, write_crate_directory
from wavekv.wal.directory import lock_directory


def export_crate(data_dir: Path, out: Path, members: Collection[int]) -> None:
    """Write the files of the member in `data_dir` to `out`, and say what has no counterpart there.

    Raises:
        DirectoryInUse: the member runs.
        DirectoryUnusable: `out` holds something, or cannot be written.
        StorageError: `data_dir` cannot be read as it is; as `read_directory`.
        DiskFull, DiskFailed: `out` could not be written; it holds nothing then.
    """
    if out.exists() and not out.is_dir():
        raise DirectoryUnusable(f"{out} is a file; an export goes into a new or an empty directory")
    contents = _read(data_dir)
    held, node_id, now_ms = contents.packed, contents.identity.node_id, time.time_ns() // 1_000_000
    try:
        with bar("exporting") as progress:
            copy = crate_files(held, contents.standing, node_id, now_ms=now_ms, members=members, progress=progress)
            write_crate_directory(out, copy, OS_DISK)
    except OSError as error:
        raise disk_error(error, f"write the export to {out}") from error
    click.echo(f"{copy.entries} entries of node {node_id} written to {out}", err=True)
    _warn(copy)


def _read(data_dir: Path) -> Contents:
    read_identity(data_dir)  # before the lock, which makes a file where there is none
    try:
        lock = lock_directory(data_dir)
    except DirectoryInUse as error:
        raise DirectoryInUse(
            f"{error.detail}. A member that has to go on is told to export through its admin plane"
        ) from error
    except OSError as error:
        raise disk_error(error, f"lock {data_dir}") from error
    try:
        with bar("reading"):
            return read_directory(data_dir)
    except OSError as error:
        raise disk_error(error, f"read {data_dir}") from error
    finally:
        os.close(lock)


def _warn(copy: CrateCopy) -> None:
    if copy.made_plain:
        click.echo(f"warning: {copy.made_plain} entries lost their expiry: over there they stay for ever", err=True)
    if copy.left_out:
        click.echo(f"warning: {copy.left_out} entries that have expired were left out", err=True)
