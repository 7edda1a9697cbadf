"""When the log is folded into a snapshot, and what follows: the member's side of compaction.

A compaction is due when the log behind the newest snapshot has reached a share of that snapshot, or holds something
older than an age. The log's live segment is closed, and a process of low priority does the work (`wavekv.compaction`),
so nothing here forks, and the loop does no more than read its lines. Afterwards

    snapshot P, P+1 … N, snapshot N, N+1 …        becomes        snapshot N, N+1 … M, snapshot M, M+1 …

The last but one snapshot and the segments behind it stay until the next compaction has checked the newest: should that
turn out broken, they say all that it said. With a share of a quarter that takes two and a half times the data, at most.

Writers can outrun the process. Then it gets an ordinary priority, folded segments are not kept as spares, the older
generation goes at once, and commits are paced: what arrives during a compaction may fill the room that is left for the
log at its end as fast as it goes on, and no faster. It is the disk that is bounded, by the data that is held: one that
grows is given the room that it takes.
"""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from wavekv.config import CompactionSettings
from wavekv.disk import OS_DISK, Disk, disk_error
from wavekv.errors import DiskFailed, WaveKVError
from wavekv.ports import Clock, Log, Observer
from wavekv.runtime.committer import Syncing
from wavekv.snapshot.files import snapshot_name, snapshots
from wavekv.wal.spares import retire

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 1.0
_BACKOFF_SECONDS: Final = 10.0
_BACKOFF_SECONDS_MAX: Final = 600.0
_ON_THE_WAY: Final = frozenset({"done", "alone"})
"""What a line of the worker has that is not its last."""
_PACED_FROM: Final = 1.25
"""Times the size at which it is due that the log may reach before commits are paced, and the older generation kept."""
_PACE_SECONDS: Final = 0.02
"""A commit waits this long for each further such time."""
_PACE_SECONDS_MAX: Final = 0.25
_DISK_MAX: Final = 2.4
"""Times the keys and values held that two snapshots and the log may take; the room written ahead comes to that."""
_LOG_LEAST: Final = 2.0
"""Times the size at which it is due that the log, what is folded included, may have at a compaction's end anyway."""
_ROOM_LEAST: Final = 0.5
"""Such times that may arrive during a compaction however much it folds."""
_ROOM_AT_ONCE: Final = 0.1
"""Share of what may arrive that may do so before the process has told of any progress."""
_PACE_SECONDS_AHEAD: Final = 0.25
"""A commit waits this long for each such time that the log is ahead of the progress."""
_FAST_ROOM: Final = 0.5
"""Such times for which there is no room left at a compaction's end, where writers were fast."""
_LINE_BYTES_MAX: Final = 1 << 16
"""Of the worker's output; its lines are a hundred bytes."""


class Worker(Protocol):
    """Runs `python -m wavekv.compaction` with arguments."""

    def __call__(self, arguments: list[str]) -> AsyncIterator[Mapping[str, Any]]:
        """Yield each line that it prints, decoded; the last one is its result or names its error."""
        ...


async def run_worker(arguments: list[str]) -> AsyncIterator[Mapping[str, Any]]:
    """Run the real worker; it is killed when this is closed early."""
    process = await _spawned([*("-m", "wavekv.compaction"), *arguments, "--parent", str(os.getpid())])
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), process.stdout
    )
    line, other = b"", ""
    told = False
    try:
        while not reader.at_eof():
            try:
                line = await reader.readline()
                fields = json.loads(line)
            except ValueError:  # no JSON, or longer than any line of the worker's own
                other = line.decode(errors="replace").strip() or other
                continue
            told = not _ON_THE_WAY & fields.keys()
            yield fields
        code = await asyncio.to_thread(process.wait)
        if not told:
            yield {"error": "worker_failed", "detail": f"the compaction process ended with code {code}: {other}"}
    finally:
        transport.close()
        _end(process)


async def _spawned(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start Python with `arguments` from a thread, which the standard library does without copying page tables.

    The loop's own way forks: with a million keys it stood still for 50 to 200 ms (`bench/engine.py`, longest stall).
    """
    spawning = asyncio.get_running_loop().run_in_executor(None, _spawn, arguments)
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        spawning.add_done_callback(lambda spawned: _abandon(spawned.result()))
        raise


def _spawn(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _abandon(process: subprocess.Popen[bytes]) -> None:
    _end(process)
    assert process.stdout is not None, "it was asked for"
    process.stdout.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that still runs, and take its exit code."""
    if process.poll() is None:
        process.kill()
        process.wait()


@dataclass(slots=True)
class CompactionStatus:
    """How compaction stands, for people.

    Attributes:
        running: a worker is at it.
        progress: its share done, 0 … 1.
        completed: compactions since the process started.
        seconds: what the last one took.
        error: why the last try failed; None: it did not.
    """

    running: bool = False
    progress: float = 0.0
    completed: int = 0
    seconds: float | None = None
    error: str | None = None
    failures: int = field(default=0, repr=False)


class _Folding(NamedTuple):
    """What goes into the snapshot that is being made: of the log, and keys and values held when it was begun."""

    log_bytes: int
    held_bytes: int


class Compactor:
    """Compacts one directory whenever that is due."""

    def __init__(
        self,
        path: Path,
        log_: Log,
        syncing: Syncing,
        settings: CompactionSettings,
        *,
        clock: Clock,
        observer: Observer,
        before_first: Callable[[], None],
        held_bytes: Callable[[], int] = lambda: 0,
        worker: Worker = run_worker,
        disk: Disk = OS_DISK,
    ) -> None:
        """Compact the directory `path`.

        `before_first` makes it one that may hold snapshots; `held_bytes` tells how much the keys and values held are.
        """
        self._path = path
        self._log = log_
        self._syncing = syncing
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._before_first = before_first
        self._held_bytes = held_bytes
        self._worker = worker
        self._disk = disk
        self._compacted_at = clock.monotonic()
        self._compacted_sequence = 0
        self._retry_at = 0.0
        self._folding: _Folding | None = None
        self._fast = False
        """The last compaction left little room."""
        self._lock = asyncio.Lock()
        self._asked = asyncio.Event()
        self.status = CompactionStatus()
        self.on_disk_failed: Callable[[DiskFailed], None] | None = None
        """Told when the log cannot go on; trying again does not help then."""

    async def run(self) -> None:
        """Compact whenever it is due or asked for, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _POLL_SECONDS)
            if self._asked.is_set() or (self.due() and self._clock.monotonic() >= self._retry_at):
                self._asked.clear()
                await self.compact()

    def begin(self) -> None:
        """Ask for a compaction soon, due or not."""
        self._asked.set()

    def told(self) -> dict[str, Any]:
        """Return how compaction stands, as JSON-ready values."""
        status = self.status
        return {
            "running": status.running or self._asked.is_set(),
            "progress": status.progress,
            "completed": status.completed,
            "seconds": status.seconds,
            "error": status.error,
        }

    def due(self) -> bool:
        """Tell whether the log has grown, or aged, enough."""
        size, settings = self._log.size(), self._settings
        if size.used_bytes >= self._due_bytes(size.snapshot_bytes):
            return True
        aged = self._clock.monotonic() - self._compacted_at >= settings.age_ms_max / 1000
        return aged and size.last_sequence > self._compacted_sequence and size.used_bytes > 0

    def _due_bytes(self, snapshot_bytes: int) -> int:
        return max(self._settings.log_bytes_min, int(snapshot_bytes * self._settings.log_share))

    def pace(self) -> float:
        """Return how many seconds a commit has to wait, so that the log cannot outgrow the disk."""
        size = self._log.size()
        due = self._due_bytes(size.snapshot_bytes)
        behind = size.used_bytes / due
        pause = max(behind - _PACED_FROM, 0.0) * _PACE_SECONDS
        if self._folding is not None:
            ahead = (size.used_bytes - self._planned(self._folding, size.snapshot_bytes, due)) / due
            pause = max(pause, ahead * _PACE_SECONDS_AHEAD)
        return min(pause, _PACE_SECONDS_MAX)

    def _planned(self, folding: "_Folding", snapshot_bytes: int, due: int) -> float:
        """Return the bytes that the log may have by now, when a compaction is under way."""
        # The snapshot in the making is as large as what was held at its beginning, or as the one before.
        at_end = self._log_bytes_max(snapshot_bytes + max(folding.held_bytes, snapshot_bytes), due)
        room = max(at_end - folding.log_bytes, _ROOM_LEAST * due)
        return folding.log_bytes + room * (_ROOM_AT_ONCE + (1 - _ROOM_AT_ONCE) * self.status.progress)

    def _log_bytes_max(self, snapshots_bytes: int, due: int) -> float:
        """Return what the log may have beside two snapshots of that size."""
        return max(_DISK_MAX * self._held_bytes() - snapshots_bytes, _LOG_LEAST * due)

    async def compact(self) -> bool:
        """Fold all that is in the log now; tell whether that went well. A failure is logged, counted and retried."""
        async with self._lock:
            started = self._clock.monotonic()
            self.status.running, self.status.progress = True, 0.0
            result = "ok"
            try:
                await self._compact()
            except (WaveKVError, OSError) as error:
                result = (disk_error(error, "compact") if isinstance(error, OSError) else error).named
                self._failed(error)
            else:
                self.status.error, self.status.failures = None, 0
                self.status.completed += 1
                self.status.seconds = round(self._clock.monotonic() - started, 3)
            finally:
                self.status.running, self._folding = False, None
            self._observer.compacted(result, self._clock.monotonic() - started)
            return result == "ok"

    def _failed(self, error: WaveKVError | OSError) -> None:
        detail = error.detail if isinstance(error, WaveKVError) else str(error)
        if detail != self.status.error:
            log.error("compaction failed and is tried again later: %s", detail)
        self.status.error = detail
        pause = min(_BACKOFF_SECONDS * 2.0**self.status.failures, _BACKOFF_SECONDS_MAX)
        self.status.failures = min(self.status.failures + 1, 16)
        self._retry_at = self._clock.monotonic() + pause

    async def _compact(self) -> None:
        await asyncio.to_thread(self._before_first)
        sequence = self._log.size().last_sequence
        last = await self._with_the_log(self._log.close_segment)
        size = self._log.size()
        base = size.snapshot
        if last <= base:
            return
        self._folding = folding = _Folding(size.used_bytes, self._held_bytes())
        try:
            made = await self._merge(base, last)
        except _WorkerRefusal as refusal:
            if refusal.code != "snapshot_damaged" or not base:
                raise
            base = await self._fall_back(base)
            made = await self._merge(base, last)
        await self._with_the_log(lambda: self._log.folded(last, int(made["file_bytes"])))
        self._compacted_at, self._compacted_sequence = self._clock.monotonic(), sequence
        log.info("snapshot %d: %d entries in %d bytes", last, made["entries"], made["file_bytes"])
        self._folding = None
        made_bytes = int(made["file_bytes"])
        due = self._due_bytes(made_bytes)
        log_bytes = folding.log_bytes + self._log.size().used_bytes + _FAST_ROOM * due
        self._fast = log_bytes > self._log_bytes_max(size.snapshot_bytes + made_bytes, due)
        kept = base
        if self._fast or folding.log_bytes > _PACED_FROM * due:
            kept = last
            await asyncio.to_thread(self._forget, base)
        if kept:
            await self._retire(kept)
            if not self._fast:
                await self._work(["spares"])

    async def _retire(self, number: int) -> None:
        spares_max = 0 if self._fast or self.pace() else self._settings.spares_max
        await asyncio.to_thread(retire, self._path, number, self._disk, spares_max)

    def _forget(self, base: int) -> None:
        """Remove the older generation's snapshot: with its log it would take more than its share of the disk."""
        if base:
            self._disk.unlink(self._path / snapshot_name(base))
            self._disk.sync_dir(self._path)

    async def _merge(self, base: int, last: int) -> Mapping[str, Any]:
        return await self._work(["merge", "--base", str(base), "--last", str(last)])

    async def _fall_back(self, broken: int) -> int:
        """Put a snapshot that does not hold aside; return the number of the one before it, 0: the log's beginning."""
        log.error("snapshot %d is damaged on disk; it is made anew from the one before it", broken)
        path = self._path / snapshot_name(broken)
        await asyncio.to_thread(self._disk.rename, path, path.with_name(f"{path.name}.damaged"))
        older = snapshots(self._path)
        number, size = (older[-1].number, older[-1].path.stat().st_size) if older else (0, 0)
        await self._with_the_log(lambda: self._log.folded(number, size))
        return number

    async def _work(self, command: list[str]) -> Mapping[str, Any]:
        """Run the worker to its end; return its result.

        Raises:
            _WorkerRefusal: it failed.
        """
        nice = 0 if self._fast or self.pace() else self._settings.nice
        arguments = [*command, "--data-dir", str(self._path), "--nice", str(nice)]
        last: Mapping[str, Any] = {"error": "worker_failed", "detail": "the compaction process told nothing"}
        async for fields in self._worker(arguments):
            last = fields
            if "done" in fields:
                self.status.progress = round(fields["done"] / max(fields["total"], 1), 3)
            elif fields.get("alone"):
                await self._retire(fields["alone"])
        if "error" in last or _ON_THE_WAY & last.keys():
            raise _WorkerRefusal(str(last.get("error", "worker_failed")), str(last.get("detail", "it ended early")))
        return last

    async def export_crate(self, out: Path) -> Mapping[str, Any]:
        """Write all that is held now as a directory of the original system; return what the worker counted.

        Raises:
            WaveKVError: the compaction before it, or the export itself, failed; `out` holds nothing then.
        """
        await self.compact()
        async with self._lock:
            size = self._log.size()
            if self.status.error is not None or not size.snapshot:
                raise _WorkerRefusal("worker_failed", self.status.error or "nothing was ever written here")
            await asyncio.to_thread(self._disk.mkdir, out.parent)
            return await self._work(["crate", "--snapshot", str(size.snapshot), "--out", str(out)])

    async def _with_the_log(self, work: Callable[[], Any]) -> Any:
        """Do `work` where appends run; return what it returns.

        Raises:
            WaveKVError: as `work` does.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        results: list[Any] = []

        def done(error: WaveKVError | None) -> None:
            loop.call_soon_threadsafe(_settle, ended, error)

        self._syncing.run(lambda: results.append(work()), done)
        try:
            await ended
        except DiskFailed as failed:
            if self.on_disk_failed is not None:
                self.on_disk_failed(failed)
            raise
        return results[0]


class _WorkerRefusal(WaveKVError):
    """The worker's error, under its code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]

    @property
    def named(self) -> str:
        """The worker's code."""
        return self.code


def _settle(ended: "asyncio.Future[None]", error: WaveKVError | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(None)
    else:
        ended.set_exception(error)
