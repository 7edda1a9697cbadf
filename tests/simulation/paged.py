"""The other kind of volume: the production log and its recovery, over a disk that loses pages at a power loss.

Slower by far than the list of groups, so few seeds use it. What survives of a group under way is known only at the next
start. `MEMBERSHIP` is written past the disk's faults, at once.
"""

import random
import shutil
import tempfile
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.fakes.disk import PowerCut, StillClock
from tests.fakes.paged_disk import PagedDisk, any_of
from tests.fakes.paged_member import TIGHT, _Recorder
from tests.simulation.volumes import Identity, Recovered
from wavekv.core.context import Context
from wavekv.core.loading import loader_over
from wavekv.core.ops import Batch, DropOrigins, Op, Set, SetExpiring, as_records
from wavekv.core.standing import Standing
from wavekv.core.steps import Group
from wavekv.errors import DiskFull
from wavekv.runtime.epoch_file import EpochFile, Kept
from wavekv.wal.directory import DataDirectory, open_directory
from wavekv.wal.log import SegmentedLog
from wavekv.wal.recovery import recover

MEMORY = Path("/dev/shm")


class PagedVolume:
    """A directory in memory with a real log in it."""

    damaged = False

    def __init__(self, rng: random.Random, changes_max: int) -> None:
        self._rng = rng
        self._changes_max = changes_max
        self._root = Path(tempfile.mkdtemp(prefix="wavekv-", dir=MEMORY if MEMORY.is_dir() else None))
        self._disk = PagedDisk(self._root / "volume", rng, page_bytes=rng.choice((64, 512, 4096)))
        self._disk.root.mkdir()
        self._file = EpochFile(self._disk.root)
        self._directory: DataDirectory | None = None
        self._log: SegmentedLog | None = None
        self._group: Group | None = None
        self._standing = Standing()
        self.horizons: set[int] = set()
        """Horizons that are known to be in the log (R15)."""
        self.identity = Identity(0, b"")

    @property
    def full(self) -> bool:
        """Tell whether there is no room."""
        return self._disk.room is not None

    @full.setter
    def full(self, full: bool) -> None:
        self._disk.room = 0 if full else None

    def boot(self) -> Recovered:
        """Open and recover the directory."""
        rng, disk = self._rng, self._disk
        room, disk.room = disk.room, None  # a start on a full volume is the log's own test
        self._directory = directory = open_directory(
            disk.root,
            node_id=None,
            cluster_id=None,
            now_ms=0,
            new_node_id=lambda: rng.getrandbits(32) or 1,
            new_uuid=lambda: uuid.UUID(int=rng.getrandbits(128)),
            disk=disk,
        )
        loader, recovery = recover(directory, partial(loader_over, self._changes_max), disk)
        store = loader.store()
        while store.settle(10_000):
            pass
        self._log = SegmentedLog(directory, recovery, TIGHT, StillClock(), _Recorder(), disk=disk)
        self._log.reserve()
        disk.room = room
        self.identity = Identity(directory.identity.node_id, uuid.UUID(str(directory.identity.uuid)).bytes)
        self._standing = Standing()
        self._standing.context = store.context.copy()
        self._standing.dropped = dict(store.standing.dropped)
        damaged = recovery.damage == "corruption" or directory.lost_something
        return Recovered(store, damaged, directory.first_process)

    def begin(self, group: Group) -> None:
        """Take `group`; the log writes and syncs it in one."""
        self._group = group

    def sync(self) -> None:
        """Write and sync the group under way.

        Raises:
            DiskFull: nothing of it is on disk, nor will be.
        """
        group, self._group = self._group, None
        assert group is not None, "a sync follows a write"
        assert self._log is not None
        self._log.append(group.ops, group.next_seq)
        self._fold(group.ops)

    def _fold(self, ops: tuple[Op, ...]) -> None:
        for op in as_records(ops):
            for one in op.ops if isinstance(op, Batch) else (op,):
                if isinstance(one, Set | SetExpiring):
                    self._standing.stored(one.entry.origin, one.entry.seq)
                else:
                    self._standing.apply(one)
                if isinstance(one, DropOrigins):
                    self.horizons.add(one.horizon)

    def find_room(self) -> bool:
        """Tell whether values are taken again."""
        assert self._log is not None
        try:
            self._log.find_room()
        except DiskFull:
            return False
        return True

    def end(self) -> tuple[Op, ...] | None:
        """Be killed, perhaps in the midst of an append, perhaps with the power gone; what survives is not known yet."""
        disk, group = self._disk, self._group
        self._group = None
        if group is not None and self._log is not None and self._rng.random() < 0.7:
            disk.cut_in = self._rng.randint(1, 3)
            with suppress(PowerCut, DiskFull):
                self._log.append(group.ops, group.next_seq)
        disk.kill()
        if self._directory is not None:
            self._directory.close()
        self._directory = self._log = None
        if self._rng.random() < 0.6:
            disk.power_loss(any_of(self._rng))
        return None

    def load(self) -> Kept | None:
        """Return what `MEMBERSHIP` says."""
        return self._file.load()

    def save(self, kept: Kept) -> None:
        """Write `MEMBERSHIP`."""
        self._file.save(kept)

    def context(self) -> Context:
        """Return what is known to be durable."""
        return self._standing.context

    def standing(self) -> Standing:
        """Return what that log comes to."""
        return self._standing

    def corrupt(self, share: float) -> bool:
        """Do nothing: damage to real logs has tests of its own."""
        del share
        return False

    def close(self) -> None:
        """Remove the directory."""
        self._disk.kill()
        if self._directory is not None:
            self._directory.close()
        shutil.rmtree(self._root)
