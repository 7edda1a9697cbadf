"""How a damaged log is cut back to its valid prefix, in steps that a crash between any two cannot spoil.

Each event is a folder `quarantine/0001` holding the files as they were found and the record of what was decided:
`plan.json` until all is done, then `untold.json` until the member has noted that it lost something, then `done.json`: a
stop in between must not make a volume pass for whole. The plan is durable before the first file moves, and the next
start carries it out again, so that the end is the same whatever the interruption. What it says:

1. the valid prefix of the damaged segment is written beside it and synced;
2. all later segments move to the folder, then the damaged one;
3. the prefix takes the damaged segment's name.

Turned down: deciding anew from what is left after a crash. With its later segments already gone, a damaged segment
is the last one, and its damage would pass for a torn tail.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

from wavekv.config import VOLUME_LIMITS
from wavekv.disk import Disk, replace_file, write_synced
from wavekv.errors import Corruption
from wavekv.volume import is_folder, parse_json, read_file
from wavekv.wal.segment import segment_name, segment_number

QUARANTINE: Final = "quarantine"
EVENTS_KEPT_MAX: Final = 4
"""Events whose files are kept; the oldest goes first (G9)."""
_PLAN: Final = "plan.json"
_UNTOLD: Final = "untold.json"
_DONE: Final = "done.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """The log ends in `segment` at `valid_end`; that file and all later ones go. 0: nothing of the segment is valid."""

    segment: int
    valid_end: int
    cause: str


class Quarantined(NamedTuple):
    """Where the files as found are kept, and what was wrong with the first of them."""

    files: tuple[Path, ...]
    cause: str


def quarantine(path: Path, plan: Plan, disk: Disk) -> Quarantined:
    """Cut the log in `path` back as `plan` says. It counts as untold until `settle_quarantine`.

    Raises:
        OSError: as the system says; the next start carries on.
    """
    parent = path / QUARANTINE
    events = [event for event in _events(path) if (event / _DONE).exists() or (event / _UNTOLD).exists()]
    event = parent / f"{int(events[-1].name) + 1 if events else 1:04}"
    for outdated in events[: max(0, len(events) + 1 - EVENTS_KEPT_MAX)]:
        shutil.rmtree(outdated)
    disk.mkdir(parent)
    disk.sync_dir(path)
    disk.mkdir(event)
    disk.sync_dir(parent)
    replace_file(disk, event / _PLAN, json.dumps(asdict(plan)).encode())
    _carry_out(path, event, plan, disk)
    return Quarantined(_kept(event), plan.cause)


def resume_quarantine(path: Path, disk: Disk) -> Quarantined | None:
    """Carry out a plan that an earlier process left unfinished; return it, or one that was not told; None: neither.

    Raises:
        Corruption: the plan cannot be read.
        OSError: as the system says.
    """
    found = []
    for event in _events(path):
        if (event / _PLAN).exists():
            plan = _read(event / _PLAN)
            _carry_out(path, event, plan, disk)
        elif (event / _UNTOLD).exists():
            plan = _read(event / _UNTOLD)
        else:
            continue
        found.append(Quarantined(_kept(event), plan.cause))
    if not found:
        return None
    return Quarantined(tuple(file for each in found for file in each.files), found[0].cause)


def settle_quarantine(path: Path, disk: Disk) -> None:
    """Take note that the loss is known to who has to know: the next start does not tell of it again.

    Raises:
        OSError: as the system says.
    """
    for event in _events(path):
        if (event / _UNTOLD).exists():
            disk.rename(event / _UNTOLD, event / _DONE)
            disk.sync_dir(event)


def _read(file: Path) -> Plan:
    try:
        fields = parse_json(read_file(file, VOLUME_LIMITS.document_bytes_max))
        segment, valid_end, cause = fields["segment"], fields["valid_end"], fields["cause"]
        if not (_place(segment) and _place(valid_end) and isinstance(cause, str)):
            raise ValueError("a field is not what it has to be")
        return Plan(segment, valid_end, cause)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise Corruption(f"{file} is damaged ({error}); restore the directory from a copy") from error


def _place(number: object) -> bool:
    """Tell whether `number` can be that of a segment, or a place in one."""
    return type(number) is int and 0 <= number <= VOLUME_LIMITS.segment_bytes_max


def _carry_out(path: Path, event: Path, plan: Plan, disk: Disk) -> None:
    damaged = path / segment_name(plan.segment)
    kept = event / damaged.name
    prefix = path / f"{damaged.name}.tmp"
    if plan.valid_end and not kept.exists():
        write_synced(disk, prefix, read_file(damaged, VOLUME_LIMITS.segment_bytes_max)[: plan.valid_end])
        disk.sync_dir(path)
    for file in sorted(path.iterdir()):
        number = segment_number(file.name)
        if number is not None and number > plan.segment:
            disk.rename(file, event / file.name)
    if damaged.exists() and not kept.exists():
        disk.rename(damaged, kept)
    disk.sync_dir(event)
    disk.sync_dir(path)
    if plan.valid_end and prefix.exists():
        disk.rename(prefix, damaged)
        disk.sync_dir(path)
    disk.rename(event / _PLAN, event / _UNTOLD)
    disk.sync_dir(event)


def _kept(event: Path) -> tuple[Path, ...]:
    return tuple(sorted(file for file in event.iterdir() if segment_number(file.name) is not None))


def _events(path: Path) -> list[Path]:
    parent = path / QUARANTINE
    if not is_folder(parent):
        return []
    return sorted(entry for entry in parent.iterdir() if entry.name.isdecimal() and is_folder(entry))
