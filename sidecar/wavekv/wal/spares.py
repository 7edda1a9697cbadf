"""What becomes of segments that a snapshot holds: a few are zeroed to be used again, the rest is removed.

A live segment is zeros written ahead (`log`), which costs a write of all of it and its syncs beside those of the
commits. A segment that was folded into a snapshot is as good once it is zeroed, and its blocks are allocated already.

    00000007.wal -> 00000007.spare.tmp -> 00000007.spare -> a new segment
         retire                 zero_spares        the log, by take_spare

Invariants:
- A segment loses its name only when a snapshot that holds it is durable.
- Its new name is durable before its first byte is overwritten: a power loss never shows a segment half zeroed.
- What is called `.spare` is zeros, durably; but for a header that the log wrote before it could give it a segment's
  name, and writes again: the headers of one directory are all of one length.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wavekv.config import VOLUME_LIMITS
from wavekv.disk import Disk, write_all
from wavekv.snapshot.files import snapshot_name
from wavekv.wal.segment import segment_number

_SPARE = re.compile(r"\d{8}\.spare")
_UNREADY = re.compile(r"\d{8}\.spare\.tmp")
_ZEROS: Final = bytes(1 << 20)
_SYNC_BYTES: Final = 8 << 20
"""Zeros written between two syncs: few enough not to hold up those of the log."""


def retire(directory: Path, number: int, disk: Disk, spares_max: int) -> int:
    """Take the segments up to `number`, which its snapshot holds, out of the log; return how many there were.

    So many of them that there are `spares_max` spares wait for `zero_spares`, the others are removed, and so are those
    that wait already and are too many. A stop at any call leaves segments that the snapshot holds too; the next call
    takes them.

    Raises:
        OSError: as the system says; some may be left.
    """
    assert (directory / snapshot_name(number)).exists(), "segments go once their snapshot is there"
    paths = sorted(directory.iterdir())
    folded = [path for path in paths if (segment_number(path.name) or number + 1) <= number]
    spares = sum(_is_spare(path) for path in paths)
    for path in folded:
        if spares < spares_max:
            disk.rename(path, path.with_name(f"{path.stem}.spare.tmp"))
            spares += 1
        else:
            disk.unlink(path)
    surplus = [path for path in paths if _UNREADY.fullmatch(path.name)][: max(spares - spares_max, 0)]
    for path in surplus:
        disk.unlink(path)
    if folded or surplus:
        disk.sync_dir(directory)
    return len(folded)


def zero_spares(directory: Path, disk: Disk, proceed: Callable[[], None] = lambda: None) -> int:
    """Fill the segments that wait for it with zeros and offer them; return their number. `proceed` may stop it.

    Raises:
        OSError: as the system says; what is not zeroed goes on waiting.
    """
    waiting = sorted(path for path in directory.iterdir() if _UNREADY.fullmatch(path.name))
    if waiting:
        disk.sync_dir(directory)
    for path in waiting:
        if path.lstat().st_size > VOLUME_LIMITS.segment_bytes_max:  # no segment of ours: a hole that would be filled
            disk.unlink(path)
            continue
        _zero(path, disk, proceed)
        disk.rename(path, path.with_suffix(""))
        disk.sync_dir(directory)
    return len(waiting)


def _zero(path: Path, disk: Disk, proceed: Callable[[], None]) -> None:
    size, reached = path.stat().st_size, 0
    descriptor = disk.open(path, os.O_WRONLY)
    try:
        while reached < size:
            end = min(reached + _SYNC_BYTES, size)
            while reached < end:
                zeros = _ZEROS[: end - reached]
                write_all(disk, descriptor, zeros, reached)
                reached += len(zeros)
            disk.sync(descriptor)
            proceed()
    finally:
        disk.close(descriptor)


def take_spare(directory: Path) -> Path | None:
    """Return a spare, None if there is none. It is zeros on disk, as long as its file; renaming it takes it.

    Write the header, sync, rename it to the segment's name, sync the directory. Until the rename it stays a spare.
    """
    return min((path for path in directory.iterdir() if _SPARE.fullmatch(path.name)), default=None)


def _is_spare(path: Path) -> bool:
    return bool(_SPARE.fullmatch(path.name) or _UNREADY.fullmatch(path.name))
