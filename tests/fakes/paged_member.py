"""One process of a member over a `PagedDisk`: start, group commits, compaction by the real compactor, without a socket.

It does what `cli.process`, `runtime.committer` and `compaction.worker` do around the same classes, in one thread.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tests.fakes.disk import PowerCut, StillClock, SyncRecorder
from tests.fakes.paged_disk import PagedDisk
from tests.fakes.snapshots import TINY
from wavekv.compaction.merge import Merger
from wavekv.config import CompactionSettings, Limits, WalSettings
from wavekv.core.identity import Identity
from wavekv.core.loading import loader_over
from wavekv.core.membership import Membership
from wavekv.core.replica import Group, Replica
from wavekv.disk import disk_error
from wavekv.errors import DiskFull, WaveKVError
from wavekv.runtime.compactor import Compactor
from wavekv.wal.directory import allow_snapshots, decode_identity, open_directory
from wavekv.wal.log import SegmentedLog
from wavekv.wal.recovery import recover, settle
from wavekv.wal.spares import zero_spares

SMALL = CompactionSettings(batch_keys_max=3, batch_key_bytes_max=300, runs_max=2, open_segments_max=2, spares_max=2)
TIGHT = WalSettings(segment_bytes_max=3000, preallocate_bytes=1000)


class InlineSyncing:
    """Implements `committer.Syncing` for what the compactor asks of it: everything in the caller."""

    def submit(self, ops: Sequence[Any], next_seq: int, done: Callable[[WaveKVError | None], None]) -> None:
        raise NotImplementedError

    def run(self, work: Callable[[], None], done: Callable[[WaveKVError | None], None]) -> None:
        try:
            work()
        except WaveKVError as error:
            done(error)
        else:
            done(None)


class _Recorder(SyncRecorder):
    def compacted(self, result: str, seconds: float) -> None: ...


class PagedMember:
    """A process of the member in `disk.root`, recovered; every method may raise `PowerCut`.

    Raises:
        WaveKVError: it refuses to start.
    """

    def __init__(self, disk: PagedDisk, rng: random.Random, settings: WalSettings = TIGHT) -> None:
        self.disk = disk
        self.group: Group | None = None
        """The one last handed to the log."""
        self.directory = open_directory(
            disk.root,
            node_id=None,
            cluster_id=None,
            now_ms=0,
            new_node_id=lambda: rng.getrandbits(32) or 1,
            new_uuid=lambda: uuid.UUID(int=rng.getrandbits(128)),
            disk=disk,
        )
        try:
            loader, self.recovery = recover(self.directory, partial(loader_over, 1000), disk)
            self.store = loader.store()
            self.log = SegmentedLog(self.directory, self.recovery, settings, StillClock(), _Recorder(), disk=disk)
            self.log.reserve()
            settle(self.directory, disk)
        except BaseException:
            self.directory.close()
            raise
        identity = self.directory.identity
        first = self.directory.first_process and self.store.process.inc == 0
        about = Identity(
            "m0",
            identity.node_id,
            uuid.UUID(str(identity.uuid)).bytes,
            self.store.process.inc + 1,
            identity.node_id if first else None,
        )
        membership = Membership("m0", None, None, ())
        self.replica = Replica(about, self.store, membership, Limits(), _Drawn(rng))
        self.replica.writable = None

    def commit(self) -> Group | None:
        """Persist and show what is staged, as one group; return it.

        Raises:
            DiskFull: it is not on disk and will not be.
            DiskFailed: it may be on disk; this process has to end.
        """
        self.group = group = self.replica.ready()
        if group is None:
            return None
        try:
            self.log.append(group.ops, group.next_seq)
        except DiskFull as full:
            self.replica.abandon()
            self.replica.full = full
            raise
        self.replica.advance(group)
        return group

    @property
    def failed(self) -> bool:
        """Tell whether the log refuses everything, so that the process has to end."""
        return self.log._failure is not None

    def find_room(self) -> bool:
        """Look for room as the committer does now and then; tell whether values are taken again."""
        try:
            self.log.find_room()
        except DiskFull:
            return False
        self.replica.full = None
        return True

    def compact(self, calls: int | None = None) -> bool:
        """Compact; tell whether that went well. `calls`: the worker is killed in place of its so many'th call.

        Raises:
            DiskFailed: the log failed while it closed its segment.
        """

        async def worker(arguments: list[str]) -> AsyncIterator[Mapping[str, Any]]:
            others, planned = self.disk.descriptors, self.disk.cut_in
            if calls is not None:
                self.disk.cut_in = calls
            try:
                yield self._work(arguments)
            except PowerCut:
                if calls is None:
                    raise
                self.disk.kill(spared=others)
                yield {"error": "worker_failed", "detail": "killed"}
            if calls is not None:
                self.disk.cut_in = planned

        compactor = Compactor(
            self.disk.root,
            self.log,
            InlineSyncing(),
            SMALL,
            clock=StillClock(),
            observer=_Recorder(),
            before_first=partial(allow_snapshots, self.disk.root, self.disk),
            worker=worker,
            disk=self.disk,
        )
        return asyncio.run(compactor.compact())

    def _work(self, arguments: list[str]) -> Mapping[str, Any]:
        """Do in this process what the worker does in its own."""
        path = self.disk.root
        try:
            if arguments[0] == "spares":
                return {"zeroed": zero_spares(path, self.disk)}
            base, last = (int(arguments[arguments.index(flag) + 1]) for flag in ("--base", "--last"))
            file = path / "IDENTITY"
            identity = decode_identity(file.read_bytes(), str(file))
            merged = Merger(path, identity, SMALL, TINY, self.disk, lambda _done, _total: None).merge(base, last, 0)
        except WaveKVError as error:
            return {"error": error.named, "detail": error.detail}
        except OSError as error:
            told = disk_error(error, "compact the data directory")
            return {"error": told.named, "detail": told.detail}
        return {"entries": merged.tail.entries, "file_bytes": merged.path.stat().st_size}

    def stop(self) -> None:
        """Stop cleanly.

        Raises:
            DiskFailed: what was preallocated could not be cut off.
        """
        try:
            self.log.close()
        finally:
            self.directory.close()

    def end(self) -> None:
        """Be gone without a word: killed, or stopped by a failed disk. The disk's cache stays."""
        self.disk.kill()
        self.directory.close()


class _Drawn:
    """Implements `replica.Rng`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def random_u32(self) -> int:
        return self._rng.getrandbits(32)
