"""Logs on disk for tests: a directory with an identity, groups to append, and what a recovery hands out."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fakes.disk import HastyDisk, StillClock, SyncRecorder
from wavekv.config import WalSettings
from wavekv.core.image import Image
from wavekv.core.loading import Run, loader_over
from wavekv.core.ops import (
    AddPeer,
    Batch,
    Clear,
    Cover,
    Floor,
    IncrementSeq,
    Op,
    Process,
    PushPeerLog,
    RemovePeer,
    Set,
    SetExpiring,
    SetNextSeq,
    UpdateLocalAck,
    UpdatePeerAck,
)
from wavekv.core.packed import unpack
from wavekv.core.standing import Standing
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.disk import OS_DISK, Disk
from wavekv.wal.directory import DataDirectory, open_directory
from wavekv.wal.log import SegmentedLog
from wavekv.wal.recovery import Recovery, recover, settle

NODE_ID = 7
HASTY = HastyDisk()
TIGHT = WalSettings(segment_bytes_max=400, preallocate_bytes=64)
"""Settings under which a handful of groups fills several segments."""


def entry(seq: int, value: bytes | None = b"value", expires_at: int | None = None) -> Entry:
    return Entry(f"key/{seq}", value, 1_700_000_000_000 + seq, 0xC0FFEE01, seq, expires_at)


EVERY_OP: tuple[Op, ...] = (
    Set(entry(1)),
    Clear("gone"),
    UpdatePeerAck(2, 300, False),
    UpdateLocalAck(3, 70_000, True),
    PushPeerLog(4, entry(2, None), 1000),
    IncrementSeq(),
    AddPeer(5),
    RemovePeer(5),
    SetExpiring(entry(3, b"", 1_800_000_000_000)),
    Batch((Set(entry(4)), Clear("key/1"), SetExpiring(entry(5, b"x", -1)))),
    Cover(6, 7, 2**40),
    Floor(-1),
    Process(9, 0xFFFF_FFFF, True),
)
"""One of each, the group marker aside."""


@contextlib.contextmanager
def opened(path: Path, disk: Disk = OS_DISK) -> Iterator[DataDirectory]:
    directory = open_directory(
        path,
        node_id=NODE_ID,
        cluster_id=None,
        now_ms=0,
        new_node_id=lambda: NODE_ID,
        new_uuid=lambda: uuid.UUID(int=1),
        disk=disk,
    )
    try:
        yield directory
    finally:
        directory.close()


def append_all(
    path: Path,
    groups: Sequence[Sequence[Op]],
    settings: WalSettings = TIGHT,
    *,
    close: bool = True,
    disk: Disk = OS_DISK,
) -> SyncRecorder:
    """Recover the log in `path` and append `groups`; without `close` it is left as a crash leaves it."""
    observer = SyncRecorder()
    with opened(path, disk) as directory:
        _, found = recover(directory, Operations, disk)
        settle(directory, disk)
        log = SegmentedLog(directory, found, settings, StillClock(), observer, disk=disk)
        for number, group in enumerate(groups, start=1):
            log.append(group, number)
        if close:
            log.close()
    return observer


class Operations:
    """A loader that keeps the operations as they come, and the image they follow."""

    def __init__(self, image: Image | None) -> None:
        self.image = image
        self.entries = len(image.packed) if image else 0
        self.ops: list[Op] = []
        self.held: dict[str, bytes] = {}
        self.standing = Standing()

    def stored(self, key: str, value: bytes | None, timestamp: int, origin: int, seq: int) -> None:
        self.ops.append(Set(Entry(key, value, timestamp, origin, seq)))

    def stored_run(self, run: Run) -> None:
        """Keep a run as its last group start and its entries."""
        if run.next_seq:
            self.ops.append(SetNextSeq(run.next_seq))
        self.ops.extend(Set(unpack(key, packed)) for key, packed in zip(run.keys, run.packed, strict=True))

    def apply(self, op: Op) -> None:
        self.ops.append(op)

    def store(self) -> Store:
        loader = loader_over(1000, self.image)
        for op in self.ops:
            loader.apply(op)
        return loader.store()


def recovered(path: Path, disk: Disk = OS_DISK) -> tuple[Recovery, list[Op]]:
    with opened(path, HASTY if disk is HASTY else OS_DISK) as directory:
        loader, recovery = recover(directory, Operations, disk)
    return recovery, loader.ops


def settled(path: Path) -> None:
    """Note that the loss a recovery told of is kept, as a start does."""
    with opened(path) as directory:
        settle(directory)


def segments(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("*.wal"))
