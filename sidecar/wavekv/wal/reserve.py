"""Room set aside on the volume: what a full disk still has for deletes, and for a member to start.

`RESERVE` is a file of written bytes. When a group that stores no value finds the volume full, the file is cut to what a
start needs and the group takes its room; it is made whole again as soon as the volume has room for it. Until then
values are refused, so that they cannot eat what was freed.

Invariants:
- What is called `RESERVE` was durable before it got its name: a power loss leaves no part of one.
- Deletes leave `START_BYTES` of it. A start takes these only to write its count, whose old copy gives as much back, and
  sets them aside again before anything else; so a full disk can be started on any number of times.

Turned down: keeping the room as zeros in the log, which a clean stop cuts and a start then lacks.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wavekv.core.ops import Batch, Op, Set, SetExpiring, StoreBlock
from wavekv.disk import Disk, is_full, replace_file

RESERVE: Final = "RESERVE"
RESERVE_BYTES: Final = 1 << 20
"""Room for some ten thousand deletes."""
START_BYTES: Final = 64 << 10
"""Of it, what deletes leave: one block, on any file system, for a file of a few hundred bytes."""


def vital(op: Op) -> bool:
    """Tell whether `op` may take from the reserve: all that stores no value."""
    if isinstance(op, Batch):
        return all(map(vital, op.ops))
    if isinstance(op, StoreBlock):
        return not op.block.values
    return not (isinstance(op, Set | SetExpiring) and op.entry.value is not None)


def set_aside(directory: Path, disk: Disk) -> bool:
    """Make the reserve if it is not there, durably, or what a start needs of it; tell whether it is whole now.

    Raises:
        OSError: anything but a full disk.
    """
    held = _held(directory)
    if held == RESERVE_BYTES or _make(directory, disk, RESERVE_BYTES):
        return True
    if held < START_BYTES:
        _make(directory, disk, START_BYTES)
    return False


def release(directory: Path, disk: Disk) -> bool:
    """Free the reserve's room but for what a start needs; tell whether there was any.

    Raises:
        OSError: it cannot be cut.
    """
    if _held(directory) <= START_BYTES:
        return False
    descriptor = disk.open(directory / RESERVE, os.O_WRONLY)
    try:
        disk.truncate(descriptor, START_BYTES)
    finally:
        disk.close(descriptor)
    return True


def start_with(directory: Path, disk: Disk, write: Callable[[], None]) -> None:
    """Do `write`, which replaces a small file; on a full volume in the room that is kept for starts.

    Raises:
        OSError: as `write`; the volume is full and nothing was set aside.
    """
    try:
        write()
    except OSError as error:
        kept = [path for path in (directory / RESERVE, _partial(directory)) if path.exists()]
        if not is_full(error) or not kept:
            raise
        for path in kept:
            disk.unlink(path)
        write()
        set_aside(directory, disk)


def _make(directory: Path, disk: Disk, size: int) -> bool:
    """Make a reserve of `size` bytes in the place of what is there; tell whether there was room for it."""
    try:
        replace_file(disk, directory / RESERVE, bytes(size))
    except OSError as error:
        if not is_full(error):
            raise
        disk.unlink(_partial(directory))
        release(directory, disk)  # it may have its name, but not durably
        return False
    return True


def _held(directory: Path) -> int:
    path = directory / RESERVE
    return path.stat().st_size if path.exists() else 0


def _partial(directory: Path) -> Path:
    return directory / f"{RESERVE}.tmp"
