"""The process that compacts: its arguments, what it prints, how it ends.

It prints one JSON object a line: `{"done": bytes, "total": bytes}` now and then, `{"alone": base}` once the segments up
to the base are of no use any more, and last either the result or `{"error": code, "detail": …}`. It exits with
0, with 4 for corruption, else with 1.

It lowers its own priority, lets no second one work on the directory, and ends when the process that started it does:
a directory that is handed on must not be changed by who served it before. It imports no more than it needs, because
it starts beside a member that has little memory to spare.
"""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from wavekv.compaction.merge import Merger
from wavekv.config import CompactionSettings, SnapshotSettings
from wavekv.disk import OS_DISK, disk_error
from wavekv.errors import DirectoryInUse, Stopping, UsageError, WaveKVError
from wavekv.snapshot.files import snapshot_name
from wavekv.snapshot.reading import load
from wavekv.wal.directory import IDENTITY, read_identity_file
from wavekv.wal.spares import zero_spares

_DEFAULTS = CompactionSettings()


class _Parser(argparse.ArgumentParser):
    """Refuses arguments as our error, which is printed like any other."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `merge` or `spares`; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C at a desk stops the member, which needs no second complaint
    try:
        return _run(arguments)
    except BrokenPipeError:  # nobody listens any more: who started it is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        os.nice(options.nice)
        with _alone(options.data_dir):
            _tell(options.command(options))
    except WaveKVError as error:
        return _refused(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _refused(disk_error(error, "compact the data directory"))
    return 0


def _refused(error: WaveKVError) -> int:
    _tell({"error": error.named, "detail": error.detail})
    return 4 if error.exit_code == 4 else 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m wavekv.compaction", description=__doc__.partition("\n")[0] if __doc__ else None)
    shared = _Parser(add_help=False)
    shared.add_argument("--data-dir", type=Path, required=True)
    shared.add_argument("--nice", type=int, default=_DEFAULTS.nice, help="added to the priority")
    shared.add_argument("--parent", type=int, default=os.getppid(), help="ends when this is not its parent any more")
    commands = parser.add_subparsers(required=True)
    merge = commands.add_parser("merge", parents=[shared], help="make a snapshot from an older one and segments")
    merge.add_argument("--base", type=int, required=True, help="number of the older snapshot, 0: none")
    merge.add_argument("--last", type=int, required=True, help="the last segment to take in")
    merge.set_defaults(command=_merge)
    spares = commands.add_parser("spares", parents=[shared], help="zero segments that are to be used again")
    spares.set_defaults(command=_spares)
    crate = commands.add_parser("crate", parents=[shared], help="write a snapshot as the original system's files")
    crate.add_argument("--snapshot", type=int, required=True, help="its number")
    crate.add_argument("--out", type=Path, required=True, help="a new or empty directory")
    crate.set_defaults(command=_crate)
    return parser


def _merge(options: argparse.Namespace) -> dict[str, Any]:
    if not 0 <= options.base < options.last:
        raise UsageError(f"--last {options.last} must be above --base {options.base}, which is 0 at least")
    started = time.monotonic()
    identity = read_identity_file(options.data_dir / IDENTITY)
    progress = _progress(options.parent, _DEFAULTS.reports_max)
    merger = Merger(options.data_dir, identity, _DEFAULTS, SnapshotSettings(), OS_DISK, progress)
    merged = merger.merge(
        options.base, options.last, time.time_ns() // 1_000_000, lambda: _tell({"alone": options.base})
    )
    return {
        "number": merged.head.number,
        "position": merged.head.position,
        "records": merged.records,
        "entries": merged.tail.entries,
        "values": merged.tail.values,
        "size_bytes": merged.tail.size_bytes,
        "file_bytes": merged.path.stat().st_size,
        "seconds": round(time.monotonic() - started, 3),
    }


def _spares(options: argparse.Namespace) -> dict[str, Any]:
    return {"zeroed": zero_spares(options.data_dir, OS_DISK, lambda: _require_parent(options.parent))}


def _crate(options: argparse.Namespace) -> dict[str, Any]:
    from wavekv.wal.crate_export import crate_files, write_crate_directory  # noqa: PLC0415 - a merge needs none of it

    head, image = load(options.data_dir / snapshot_name(options.snapshot))
    progress = _progress(options.parent, _DEFAULTS.reports_max)
    now_ms = time.time_ns() // 1_000_000
    copy = crate_files(image.packed, image.standing, head.node_id, now_ms=now_ms, progress=progress)
    write_crate_directory(options.out, copy, OS_DISK)
    return {"entries": copy.entries, "made_plain": copy.made_plain, "left_out": copy.left_out}


def _progress(parent: int, reports_max: int) -> Callable[[int, int], None]:
    """Return what prints progress, `reports_max` lines at most, and stops when the parent is gone."""
    reported = 0

    def progress(done: int, total: int) -> None:
        nonlocal reported
        _require_parent(parent)
        share = done * reports_max // max(total, 1)
        if share > reported:
            reported = share
            _tell({"done": done, "total": total})

    return progress


def _require_parent(parent: int) -> None:
    if os.getppid() != parent:
        raise Stopping(f"process {parent}, which asked for this, is gone; the directory is as it was")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory itself locked against another worker; the member holds its file `LOCK`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryInUse(f"{directory} is being compacted by another process; try again later") from error
        yield
    finally:
        os.close(descriptor)


def _tell(fields: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
