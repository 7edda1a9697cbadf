"""The data directories of `bench.engine`: the same keys and values for a member and for redis-server.

Keys have 16 bytes and values 100 random ones, from a seed. A member's directory is a snapshot and a short log behind
it, written with the engine's own writers; a log alone holds plain Set records, 50 to a commit group, which the original
system reads too. Redis gets the same as an append-only file of SETs.
"""

import os
import random
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wavekv.config import WalSettings
from wavekv.core.codec.records import encode_group, encode_header
from wavekv.core.ops import Process, Set
from wavekv.core.packed import pack
from wavekv.core.standing import Standing
from wavekv.core.types import Entry
from wavekv.disk import OS_DISK
from wavekv.snapshot.blocks import Head
from wavekv.snapshot.files import snapshot_name
from wavekv.snapshot.writing import Writer
from wavekv.wal.directory import DataDirectory, allow_snapshots, open_directory
from wavekv.wal.segment import segment_name

VALUE_BYTES = 100
GROUP_OPS = 50
NODE_ID = 0xB0A710AD
CLUSTER_ID = "00000000-0000-4000-8000-000000000001"
_NOW_MS = 1_760_000_000_000

Pair = tuple[str, bytes]


class Directories(NamedTuple):
    """What is made once and started from in every round."""

    snapshot: Path
    """Of a member: a snapshot and a short log."""
    ordered_log: Path
    """Of a member: a log of ascending keys."""
    random_log: Path
    """Of a member: a log of keys in random order."""
    aof: Path
    """Of redis-server: an append-only file of the keys in random order."""
    rdb: Path
    """Of redis-server: where it saves its RDB."""


def pairs(count: int, *, ordered: bool = False) -> list[Pair]:
    """Return `count` different keys with values; random keys unless `ordered`."""
    generator = random.Random(7)
    names = range(count) if ordered else generator.sample(range(1 << 62), count)
    return [(f"{name:016x}", generator.randbytes(VALUE_BYTES)) for name in names]


def entries_of(items: Sequence[Pair], first_seq: int) -> list[Entry]:
    """Return entries as one process would stamp them."""
    return [
        Entry(key, value, _NOW_MS + seq // 20, NODE_ID, seq) for seq, (key, value) in enumerate(items, start=first_seq)
    ]


def write_snapshot_directory(path: Path, items: Sequence[Pair], log_records: int, node_id: int = NODE_ID) -> None:
    """Write a snapshot of `items`, and a log behind it that overwrites `log_records` of them.

    `node_id` is who the directory belongs to; its entries have the origin NODE_ID all the same.
    """
    directory = _open(path, node_id)
    allow_snapshots(path)
    standing = Standing()
    standing.apply(Process(1, NODE_ID, False))
    entries = entries_of(items, 1)
    for entry in entries:
        standing.stored(entry.origin, entry.seq)
    head = Head(node_id, directory.identity.uuid, CLUSTER_ID, 1, len(items), _NOW_MS, 0)
    with Writer(OS_DISK, path / snapshot_name(1), head) as writer:
        writer.extend(sorted((entry.key, pack(entry)) for entry in entries))
        writer.finish(standing)
    later = entries_of(items[:log_records], len(items) + 1)
    _write_segments(path, later, number=2, sequence=len(items) + 1, node_id=node_id)
    directory.close()


def write_log_directory(path: Path, items: Sequence[Pair]) -> None:
    """Write a log of plain Set records."""
    directory = _open(path)
    _write_segments(path, entries_of(items, 1), number=1, sequence=1)
    directory.close()


def open_again(path: Path) -> DataDirectory:
    """Open a directory written before, as a start does."""
    return _open(path)


def _open(path: Path, node_id: int = NODE_ID) -> DataDirectory:
    return open_directory(
        path,
        node_id=node_id,
        cluster_id=CLUSTER_ID,
        now_ms=_NOW_MS,
        new_node_id=lambda: node_id,
        new_uuid=lambda: uuid.UUID(int=node_id),
    )


def _write_segments(
    path: Path, entries: Sequence[Entry], *, number: int, sequence: int, node_id: int = NODE_ID
) -> None:
    header = encode_header(node_id, _NOW_MS)
    parts, size = [header], 0
    for at in range(0, len(entries), GROUP_OPS):
        ops = [Set(entry) for entry in entries[at : at + GROUP_OPS]]
        data, records = encode_group(ops, sequence, ops[-1].entry.seq + 1)
        sequence += records
        parts.append(data)
        size += len(data)
        if size >= WalSettings().segment_bytes_max:
            (path / segment_name(number)).write_bytes(b"".join(parts))
            parts, size, number = [header], 0, number + 1
    (path / segment_name(number)).write_bytes(b"".join(parts))


def write_aof_directory(path: Path, items: Sequence[Pair]) -> None:
    """Write an append-only file without a preamble, as redis-server 7 lays it out."""
    folder = path / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    with (folder / "appendonly.aof.1.incr.aof").open("wb") as file:
        file.write(command(b"SELECT", b"0"))
        file.writelines(command(b"SET", key.encode(), value) for key, value in items)


def command(*words: bytes) -> bytes:
    """Return a Redis command."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def cached(path: Path) -> None:
    """Read all files below `path`, so that every round finds them in memory."""
    for folder, _, names in os.walk(path):
        for name in names:
            if not name.endswith(".sock"):
                (Path(folder) / name).read_bytes()
