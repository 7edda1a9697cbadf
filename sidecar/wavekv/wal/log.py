"""The write-ahead log as it is appended to: one commit group, one write, one sync (G1).

Invariants:
- Bytes behind `used` in the live segment are zeros that are on disk already, so a group's write allocates nothing:
  it halves the cost of its sync, and a full disk shows while making room, before anything of the group is written.
- A group lies in one segment. A new segment has its header and name on disk before it is used, and the one before
  it is cut to its last record.
- After any error that leaves open what is on disk, the log refuses everything: the process stops and recovers. A
  sync is never tried again, because the kernel may have dropped what it could not write.
- Where the volume is full, groups that store no value take from the reserve, all others are refused until the reserve
  stands again.

Turned down: fallocate, whose unwritten extents cost a metadata commit at each first write (×1.5 a sync).
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from wavekv.config import WalSettings
from wavekv.core.codec.records import encode_group, encode_header
from wavekv.core.ops import Op
from wavekv.disk import OS_DISK, Disk, advice, create, is_full, lacks_descriptors, out_of_descriptors, write_all
from wavekv.errors import DiskFailed, DiskFull
from wavekv.ports import Clock, LogSize, Observer
from wavekv.wal.directory import DataDirectory
from wavekv.wal.recovery import Recovery
from wavekv.wal.reserve import release, set_aside, vital
from wavekv.wal.segment import segment_name
from wavekv.wal.spares import take_spare

_ZEROS: Final = bytes(1 << 20)


class SegmentedLog:
    """The log of one directory, going on where `recovery` found its end; implements `ports.Log`.

    Nothing is written before the first append. Not thread-safe: one thread appends at a time, `size` may be asked
    from any.
    """

    def __init__(
        self,
        directory: DataDirectory,
        recovery: Recovery,
        settings: WalSettings,
        clock: Clock,
        observer: Observer,
        *,
        disk: Disk = OS_DISK,
    ) -> None:
        self._path = directory.path
        self._node_id = directory.identity.node_id
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._disk = disk
        self._sequence = recovery.next_sequence
        self._closed_segments = recovery.closed_segments
        self._closed_bytes = recovery.closed_bytes
        self._failure: str | None = None
        self._reserved = True
        """The reserve stands, or was not needed yet."""
        self._snapshot = recovery.snapshot
        self._snapshot_bytes = recovery.snapshot_bytes
        self._descriptor: int | None = None
        self._number = recovery.snapshot
        self._used = self._allocated = self._header_bytes = 0
        if recovery.tail is not None:
            self._number, self._used, self._allocated = recovery.tail
            try:
                self._descriptor = disk.open(self._path / segment_name(self._number), os.O_WRONLY)
            except OSError as error:
                self._refuse_for_descriptors("open", error)
                self._fail("open", error)

    def append(self, ops: Sequence[Op], next_seq: int) -> None:
        """Write `ops` as one commit group and sync it; return when it is durable. Blocks.

        Raises:
            DiskFull, OutOfDescriptors: nothing of the group is on disk; later appends may succeed.
            DiskFailed: the disk's content is unknown; the process must stop.
        """
        if self._failure is not None:
            raise DiskFailed(self._failure)
        data, records = encode_group(ops, self._sequence, next_seq)
        started = self._clock.monotonic()
        descriptor = self._make_room_for(ops, len(data))
        try:
            write_all(self._disk, descriptor, data, self._used)
            self._disk.sync(descriptor)
        except OSError as error:
            self._fail("append to", error)
        self._used += len(data)
        self._sequence += records
        self._observer.synced(self._clock.monotonic() - started, records - 1, len(data))

    def size(self) -> LogSize:
        """Return what the log occupies."""
        live = self._descriptor is not None
        return LogSize(
            segments=self._closed_segments + live,
            used_bytes=self._closed_bytes + self._used,
            allocated_bytes=self._closed_bytes + self._allocated,
            last_sequence=self._sequence - 1,
            snapshot=self._snapshot,
            snapshot_bytes=self._snapshot_bytes,
        )

    def close_segment(self) -> int:
        """Begin a new segment, so that all records so far lie in closed ones; return the last closed one's number.

        To be called where appends are. Without a record since the last call nothing is done.

        Raises:
            DiskFull, OutOfDescriptors: there is no new segment; the log is as before.
            DiskFailed: as `append`.
        """
        if self._failure is not None:
            raise DiskFailed(self._failure)
        if self._descriptor is None or self._used == self._header_bytes:
            return self._number - (self._descriptor is not None)
        self._rotate()
        return self._number - 1

    def folded(self, snapshot: int, snapshot_bytes: int) -> None:
        """Take note that all up to segment `snapshot` is in a snapshot of that number."""
        self._snapshot, self._snapshot_bytes = snapshot, snapshot_bytes
        self._closed_segments, self._closed_bytes = 0, 0
        for number in range(snapshot + 1, self._number):
            self._closed_segments += 1
            self._closed_bytes += (self._path / segment_name(number)).stat().st_size

    def reserve(self) -> bool:
        """Set the reserve aside before the first append; tell whether there was room for it.

        Raises:
            DiskFailed: the directory cannot be written.
        """
        try:
            self._reserved = set_aside(self._path, self._disk)
        except OSError as error:
            self._refuse_for_descriptors("set a reserve aside for", error)
            self._fail("set a reserve aside for", error)
        return self._reserved

    def find_room(self) -> None:
        """Set the reserve aside again, and write zeros ahead; to be called where appends are.

        Raises:
            DiskFull: there is still no room.
            DiskFailed: as `append`.
        """
        if self._failure is not None:
            raise DiskFailed(self._failure)
        if not self.reserve():
            raise DiskFull(f"no room for the log in {self._path}; free some, or give a larger volume")
        if self._descriptor is not None:
            self._make_room(self._settings.preallocate_bytes)

    def close(self) -> None:
        """Cut the preallocated rest, sync and release the files; after a failure only release them.

        Raises:
            DiskFailed: the cut could not be made durable; all groups are.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        refused, self._failure = self._failure, "the log is closed"
        try:
            if refused is None:
                self._cut(descriptor)
        finally:
            self._disk.close(descriptor)

    def _make_room_for(self, ops: Sequence[Op], size: int) -> int:
        """Return the live segment's descriptor with room for a group. Raises as `_make_room`."""
        needed = all(map(vital, ops))
        if not self._reserved and not needed:
            self.find_room()
        try:
            return self._make_room(size)
        except DiskFull:
            try:
                freed = needed and release(self._path, self._disk)
            except OSError as error:
                self._refuse_for_descriptors("free the reserve of", error)
                self._fail("free the reserve of", error)
            self._reserved = False
            if not freed:
                raise
        return self._make_room(size)

    def _make_room(self, size: int) -> int:
        """Return the live segment's descriptor, with `size` zeros on disk behind its last record.

        Raises:
            DiskFull: there is no room; the log is as before.
            DiskFailed: what is on disk is unknown.
        """
        if self._descriptor is None or (
            self._used + size > self._settings.segment_bytes_max and self._used > self._header_bytes
        ):
            self._rotate()
        assert self._descriptor is not None, "a rotation leaves a live segment"
        if self._used + size > self._allocated:
            self._allocate(self._descriptor, self._used + size)
        return self._descriptor

    def _allocate(self, descriptor: int, needed: int) -> None:
        """Write zeros up to `needed` at least, and ahead as far as settings and disk allow; sync them."""
        ahead = min(self._allocated + self._settings.preallocate_bytes, self._settings.segment_bytes_max)
        target, reached = max(needed, ahead), self._allocated
        try:
            while reached < target:
                taken = self._disk.write(descriptor, _ZEROS[: target - reached], reached)
                if taken <= 0:
                    self._fail("preallocate", None)
                reached += taken
        except OSError as error:
            if not is_full(error):
                self._fail("preallocate", error)
            if reached < needed:
                raise self._full(error) from error
        try:
            self._disk.sync(descriptor)
        except OSError as error:
            # Delayed allocation can find the disk full only now; the zeros are written again from where they began.
            if is_full(error):
                raise self._full(error) from error
            self._fail("sync", error)
        self._allocated = reached

    def _rotate(self) -> None:
        """Begin the next segment; cut and release the live one."""
        number = self._number + 1
        header = encode_header(self._node_id, self._clock.now_ms())
        descriptor, allocated = self._create(self._path / segment_name(number), header)
        if self._descriptor is not None:
            try:
                self._cut(self._descriptor)
            finally:
                self._disk.close(self._descriptor)
                self._descriptor = None
            self._closed_segments += 1
            self._closed_bytes += self._used
        self._descriptor, self._number = descriptor, number
        self._used = self._header_bytes = len(header)
        self._allocated = allocated

    def _create(self, path: Path, header: bytes) -> tuple[int, int]:
        """Make a segment that holds `header`, durable under its name; return its descriptor and its size.

        A spare, which is zeros already, spares the zeroing to come.
        """
        descriptor = None
        named = False
        try:
            spare = take_spare(self._path)
            draft = spare or path.with_name(f"{path.name}.tmp")
            descriptor = self._disk.open(draft, os.O_RDWR) if spare else create(self._disk, draft, os.O_RDWR)
            write_all(self._disk, descriptor, header, 0)
            self._disk.sync(descriptor)
            self._disk.rename(draft, path)
            named = True
            self._disk.sync_dir(self._path)
            allocated = max(os.fstat(descriptor).st_size, len(header))
        except OSError as error:
            if descriptor is not None:
                self._disk.close(descriptor)
            # With its successor named, the live segment is not the last one: a torn tail of it would be corruption.
            if not (named and self._descriptor is not None):
                if is_full(error):
                    raise self._full(error) from error
                self._refuse_for_descriptors("create", error)
            self._fail("create", error)
        return descriptor, allocated

    def _cut(self, descriptor: int) -> None:
        try:
            if self._allocated > self._used:
                self._disk.truncate(descriptor, self._used)
            self._disk.sync(descriptor)
        except OSError as error:
            self._fail("close", error)

    def _full(self, error: OSError) -> DiskFull:
        return DiskFull(f"no room for the log in {self._path} ({error.strerror}); free some, or give a larger volume")

    def _refuse_for_descriptors(self, action: str, error: OSError) -> None:
        """Refuse what could not be begun because no file can be opened: the log is as before, and may go on."""
        if lacks_descriptors(error):
            raise out_of_descriptors(f"cannot {action} the log in {self._path}: {error.strerror}") from error

    def _fail(self, action: str, error: OSError | None) -> NoReturn:
        error = error or OSError(errno.EIO, "the write took nothing")
        self._failure = f"cannot {action} the log in {self._path}: {error.strerror or error}; {advice(error)}"
        raise DiskFailed(self._failure) from error
