"""A member's state as a directory of the original system, which both of its versions open.

- The snapshot holds the entries, the log what is acknowledged: the crate makes a member of every origin that a
  snapshot names, and of none that its log's operation 3 does. Whom the node is to exchange with, the caller says.
- The snapshot gets its name first. Without the log a node offers and asks for more than it has to, nothing worse.
- What expires becomes plain, or is left out once it has expired: there is no expiry over there.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wavekv.core.codec.crate_snapshot import CratePeer, encode_crate_snapshot
from wavekv.core.codec.records import encode_header, encode_record
from wavekv.core.ops import Op, SetNextSeq, UpdateLocalAck
from wavekv.core.packed import HAS_EXPIRY, KIND_AT, unpack
from wavekv.core.standing import Standing
from wavekv.core.types import U64_MAX, Entry
from wavekv.disk import Disk, create, write_all
from wavekv.errors import DirectoryUnusable

Progress = Callable[[int, int], None]
"""Told entries done and entries in all."""


@dataclass(frozen=True, slots=True)
class CrateCopy:
    """The two files' content; `snapshot` is made while it is read, once.

    Attributes:
        entries: in the snapshot, tombstones included.
        made_plain: of these, how many had an expiry and are kept for ever over there.
        left_out: entries that had expired.
    """

    node_id: int
    snapshot: Iterable[bytes]
    log: bytes
    entries: int
    made_plain: int
    left_out: int


def crate_files(
    packed: Mapping[str, bytes],
    standing: Standing,
    node_id: int,
    *,
    now_ms: int,
    members: Collection[int] = (),
    progress: Progress | None = None,
) -> CrateCopy:
    """Return what a node `node_id` of the original system has to find to go on from this state.

    Args:
        packed: Packed entries by key, tombstones included; not changed until the snapshot is read.
        standing: Of the same moment.
        node_id: The member's, under which the node writes on.
        now_ms: Decides what has expired.
        members: Node ids that the node exchanges with; it takes no others from its configuration.
        progress: Told how far the snapshot is.
    """
    expiring = [unpack(key, blob) for key, blob in packed.items() if blob[KIND_AT] & HAS_EXPIRY]
    gone = {entry.key for entry in expiring if entry.value is not None and not entry.alive(now_ms)}
    kept = sorted(key for key in packed if key not in gone)
    next_seq = _next_seq(standing, node_id)
    acks = standing.context.acks
    peers = {member: CratePeer(acks.get(member, 0), 0) for member in sorted({*members, node_id})}
    snapshot = encode_crate_snapshot(node_id, len(kept), _plain(kept, packed, progress), peers, next_seq)
    ops: list[Op] = [SetNextSeq(next_seq)]
    ops += [UpdateLocalAck(origin, ack) for origin, ack in sorted(acks.items()) if ack]
    log = encode_header(node_id, now_ms) + b"".join(map(encode_record, range(1, len(ops) + 1), ops))
    return CrateCopy(node_id, snapshot, log, len(kept), len(expiring) - len(gone), len(gone))


def _plain(keys: list[str], packed: Mapping[str, bytes], progress: Progress | None) -> Iterator[Entry]:
    for done, key in enumerate(keys, start=1):
        yield unpack(key, packed[key])._replace(expires_at=None)
        if progress is not None and not done % 1000:
            progress(done, len(keys))


def _next_seq(standing: Standing, node_id: int) -> int:
    """Return a sequence above every one that was ever issued under `node_id`."""
    context = standing.context
    used = [context.acks.get(node_id, 0), *(last for _, last in context.ranges_of(node_id))]
    if standing.process.origin == node_id:
        used.append(standing.next_seq - 1)
    return min(max(used) + 1, U64_MAX)


def write_crate_directory(out: Path, copy: CrateCopy, disk: Disk) -> None:
    """Make `out`, a new or empty directory, hold the files, durably; after an error it holds none of them.

    Raises:
        DirectoryUnusable: it holds something.
        OSError: as the system says.
    """
    if out.exists() and any(out.iterdir()):
        raise DirectoryUnusable(f"{out} is not empty; an export goes into a new or an empty directory")
    if not out.exists():
        disk.mkdir(out)
        disk.sync_dir(out.parent)
    files = [(f"node_{copy.node_id}.snapshot", copy.snapshot), (f"node_{copy.node_id}.wal", (copy.log,))]
    try:
        for name, chunks in files:
            _write_synced(disk, out / f"{name}.tmp", chunks)
        for name, _ in files:
            disk.rename(out / f"{name}.tmp", out / name)
            disk.sync_dir(out)
    except (OSError, KeyboardInterrupt):
        for name, _ in files:
            (out / name).unlink(missing_ok=True)
            (out / f"{name}.tmp").unlink(missing_ok=True)
        raise


def _write_synced(disk: Disk, path: Path, chunks: Iterable[bytes]) -> None:
    descriptor = create(disk, path)
    try:
        offset = 0
        for chunk in chunks:
            write_all(disk, descriptor, chunk, offset)
            offset += len(chunk)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
