"""What snapshot files are called, and which of them a directory holds.

Snapshot `number` is the state after the segments 1 … number. It is complete once it has its name: what is being
written is called otherwise, and a stop in between leaves only names that `sweep` removes.
"""

import re
from pathlib import Path
from typing import NamedTuple

from wavekv.disk import Disk

_NAME = re.compile(r"(\d{8})\.snapshot")
_LEFT = re.compile(r"\d{8}\.snapshot(\.\w+)*\.tmp")


class Numbered(NamedTuple):
    """A snapshot in a directory."""

    number: int
    path: Path


def snapshot_name(number: int) -> str:
    """Return the file name of the snapshot of segments 1 … `number`."""
    return f"{number:08}.snapshot"


def snapshot_number(name: str) -> int | None:
    """Return the number in a snapshot's file name, None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def partial_path(path: Path) -> Path:
    """Return where the snapshot `path` is written before it has its name."""
    return path.with_name(f"{path.name}.tmp")


def dots_path(path: Path) -> Path:
    """Return where the dots of the snapshot `path` are sorted."""
    return path.with_name(f"{path.name}.dots.tmp")


def runs_path(path: Path) -> Path:
    """Return where the changes that go into the snapshot `path` are sorted."""
    return path.with_name(f"{path.name}.runs.tmp")


def snapshots(directory: Path) -> list[Numbered]:
    """Return the snapshots in `directory`, by ascending number."""
    numbered = ((snapshot_number(path.name), path) for path in directory.iterdir())
    return sorted(Numbered(number, path) for number, path in numbered if number is not None)


def newest(directory: Path) -> Numbered | None:
    """Return the snapshot with the greatest number, None where there is none; its content is not looked at."""
    found = snapshots(directory)
    return found[-1] if found else None


def sweep(directory: Path, disk: Disk) -> None:
    """Remove what unfinished snapshots left behind.

    Raises:
        OSError: as the system says.
    """
    for path in sorted(directory.iterdir()):
        if _LEFT.fullmatch(path.name):
            disk.unlink(path)
