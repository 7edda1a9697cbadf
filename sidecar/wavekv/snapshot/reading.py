"""How a snapshot is read: at once into an image, as a stream of entries, or only looked over.

Whoever reads to the end has checked every hash and that the tail's counts hold. A hash says only that the bytes are
those that somebody wrote: so what a member relies on afterwards is looked at too, by columns (`proof`), and what is
built is bounded before (`bounds`). A load takes no step in Python for each entry: blocks become lists, and lists the
map, in C. A million entries load in about a second.
"""

from collections.abc import Iterator
from itertools import islice
from operator import lt
from pathlib import Path
from typing import NamedTuple

from wavekv.config import VOLUME_LIMITS
from wavekv.core.codec.pieces import flat_array
from wavekv.core.image import Image
from wavekv.snapshot.blocks import (
    DOTS,
    ENTRIES,
    EXPIRING,
    HEAD,
    TAIL,
    Block,
    Head,
    Progress,
    Tail,
    damaged,
    decode_head,
    decode_tail,
    decoded,
    read_blocks,
)
from wavekv.snapshot.bounds import UNBOUNDED, HeldBounds
from wavekv.snapshot.dots import from_little, read_columns
from wavekv.snapshot.proof import Proof
from wavekv.volume import open_file


class Ends(NamedTuple):
    """First and last block of a snapshot that was looked over."""

    head: Head
    tail: Tail


class Columns(NamedTuple):
    """Keys and packed entries of one block, in key order."""

    keys: list[str]
    packed: list[bytes]


def read_head(path: Path) -> Head:
    """Return what the snapshot says of itself; no more than its first block is checked.

    Raises:
        SnapshotDamaged: no snapshot, or its first block is damaged.
        NewerVersion: a newer version wrote it.
        OSError: the file cannot be read.
    """
    with open_file(path) as file:
        return decoded(path, next(read_blocks(file, path)), decode_head)


def check(path: Path, progress: Progress | None = None) -> Ends:
    """Check every hash, and that the file is whole, in memory of one block. Raises as `load`."""
    head, blocks = None, 0
    with open_file(path) as file:
        for block in read_blocks(file, path, progress):
            blocks += 1
            if block.kind == HEAD:
                head = decoded(path, block, decode_head)
    assert head is not None, "a file that ends in a tail begins with a head"
    tail = decoded(path, block, decode_tail)
    _require(path, block, tail.blocks == blocks, "blocks are missing")
    return Ends(head, tail)


def entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield `(key, packed)` of every entry in key order, in memory of one block.

    Raises:
        SnapshotDamaged, NewerVersion, OSError: as `load`; what only the end shows, at the end.
    """
    for columns in entry_blocks(path):
        yield from zip(columns.keys, columns.packed, strict=True)


def entry_blocks(path: Path, progress: Progress | None = None) -> Iterator[Columns]:
    """Yield the blocks of entries; raises as `entries`."""
    last, count = "", 0
    with open_file(path) as file:
        for block in read_blocks(file, path, progress):
            if block.kind == ENTRIES:
                columns = read_entries(path, block, last if count else None)
                last, count = columns.keys[-1], count + len(columns.keys)
                yield columns
            elif block.kind == TAIL:
                _require(path, block, decoded(path, block, decode_tail).entries == count, "entries are missing")


def load(path: Path, progress: Progress | None = None, held: HeldBounds = UNBOUNDED) -> tuple[Head, Image]:
    """Return a whole snapshot; `held` is what it may come to.

    Raises:
        SnapshotDamaged: a hash, a count or an order does not hold, an entry is malformed, or the tail is missing.
        NewerVersion: a newer version wrote it.
        VolumeTooLarge: it holds more than it may.
        UnusableFile: it is no regular file.
        OSError: the file cannot be read.
    """
    head = None
    image = Image()
    held_bytes = blocks = 0
    proof = Proof()
    with open_file(path) as file:
        for block in read_blocks(file, path, progress):
            blocks += 1
            if block.kind == ENTRIES:
                columns = read_entries(path, block, image.keys[-1] if image.keys else None)
                held_bytes += len(block.payload)
                held.check(path, len(image.keys) + len(columns.keys), held_bytes)
                _require(path, block, proof.entries(*columns), "an entry is malformed")
                image.packed.update(zip(columns.keys, columns.packed, strict=True))
                image.keys.extend(columns.keys)
            elif block.kind == DOTS:
                parts = decoded(path, block, read_columns)
                _require(path, block, all(map(proof.dots, parts)), "a dot is not that of its entry, or out of order")
                image.dots.extend(parts)
            elif block.kind == EXPIRING:
                found = decoded(path, block, read_expiring)
                _require(path, block, all(place < len(image.keys) for _, place in found), "an expiry is of no entry")
                image.expiring.extend(found)
            elif block.kind == HEAD:
                head = decoded(path, block, decode_head)
    assert head is not None, "a file that ends in a tail begins with a head"
    tail = decoded(path, block, decode_tail)
    counts = (len(image.packed), len(image.keys), proof.dots_seen, proof.values, proof.size_bytes, blocks)
    told = (tail.entries, tail.entries, tail.entries, tail.values, tail.size_bytes, tail.blocks)
    _require(path, block, counts == told, "its counts do not hold")
    image.values, image.size_bytes, image.buckets = tail.values, tail.size_bytes, tail.buckets
    image.standing, image.position = tail.standing, head.position
    return head, image


def read_entries(path: Path, block: Block, last: str | None) -> Columns:
    """Return a block of entries; `last` is the greatest key before it.

    Raises:
        SnapshotDamaged: it is none, or its keys are out of order.
    """
    columns = decoded(path, block, _columns)
    keys = columns.keys
    ordered = (last is None or last < keys[0]) and all(map(lt, keys, islice(keys, 1, None)))
    _require(path, block, ordered, "keys are out of order")
    return columns


def _columns(payload: bytes) -> Columns:
    flat = flat_array(payload, 2 * VOLUME_LIMITS.snapshot_block_entries_max)
    keys, packed = flat[0::2], flat[1::2]
    if not keys or len(keys) != len(packed) or {*map(type, keys)} != {str} or {*map(type, packed)} != {bytes}:
        raise ValueError("keys and packed entries do not alternate")
    return Columns(keys, packed)


def read_expiring(payload: bytes) -> list[tuple[int, int]]:
    """Return `(expires_at, place)` from a block of them. Raises ValueError or TypeError for any other shape."""
    times, places = flat_array(payload, 2)
    return list(zip(from_little("q", times), from_little("I", places), strict=True))


def _require(path: Path, block: Block, holds: bool, what: str) -> None:
    if not holds:
        raise damaged(path, block.offset, what)
