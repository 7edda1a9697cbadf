"""Room set aside on the volume: what a full disk still has for deletes, and for a member to start.

`RESERVE` is a file of written bytes. When a vital write finds the volume full the file is removed and the write takes
its room; it is made again as soon as the volume has room for it. Until then values are refused, so that they cannot
eat what was freed. Turned down: keeping the room as zeros in the log, which a clean stop cuts and a start then lacks.
"""

import os
from pathlib import Path
from typing import Final

from wavekv.core.ops import Batch, Op, Set, SetExpiring, StoreBlock
from wavekv.disk import Disk, is_full, write_all

RESERVE: Final = "RESERVE"
RESERVE_BYTES: Final = 1 << 20
"""Room for some ten thousand deletes."""


def vital(op: Op) -> bool:
    """Tell whether `op` may take from the reserve: all that stores no value."""
    if isinstance(op, Batch):
        return all(map(vital, op.ops))
    if isinstance(op, StoreBlock):
        return not op.block.values
    return not (isinstance(op, Set | SetExpiring) and op.entry.value is not None)


def set_aside(directory: Path, disk: Disk) -> bool:
    """Make the reserve if it is not there, durably; tell whether it is there now.

    Raises:
        OSError: anything but a full disk.
    """
    path = directory / RESERVE
    if path.exists() and path.stat().st_size == RESERVE_BYTES:
        return True
    try:
        descriptor = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(disk, descriptor, bytes(RESERVE_BYTES), 0)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        disk.sync_dir(directory)
    except OSError as error:
        if not is_full(error):
            raise
        disk.unlink(path)
        return False
    return True


def release(directory: Path, disk: Disk) -> bool:
    """Free the reserve's room; tell whether there was any.

    Raises:
        OSError: it cannot be removed.
    """
    path = directory / RESERVE
    if not path.exists():
        return False
    disk.unlink(path)
    return True
