"""How a snapshot is read: at once into an image, as a stream of entries, or only looked over.

Whoever reads to the end has checked every hash and that the tail's counts hold. A load takes no step in Python for
each entry: blocks become lists, and lists the map, in C. A million entries load in a fraction of a second.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
from wavekv.snapshot.dots import from_little, read_columns


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
    with path.open("rb") as file:
        return decoded(path, next(read_blocks(file, path)), decode_head)


def check(path: Path, progress: Progress | None = None) -> Ends:
    """Check every hash, and that the file is whole, in memory of one block. Raises as `load`."""
    head, blocks = None, 0
    with path.open("rb") as file:
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
    with path.open("rb") as file:
        for block in read_blocks(file, path, progress):
            if block.kind == ENTRIES:
                columns = read_entries(path, block, last if count else None)
                last, count = columns.keys[-1], count + len(columns.keys)
                yield columns
            elif block.kind == TAIL:
                _require(path, block, decoded(path, block, decode_tail).entries == count, "entries are missing")


def load(path: Path, progress: Progress | None = None) -> tuple[Head, Image]:
    """Return a whole snapshot.

    Raises:
        SnapshotDamaged: a hash, a count or the order of keys does not hold, or the tail is missing.
        NewerVersion: a newer version wrote it.
        OSError: the file cannot be read.
    """
    head = None
    image = Image()
    dots = blocks = greatest = 0
    with path.open("rb") as file:
        for block in read_blocks(file, path, progress):
            blocks += 1
            if block.kind == ENTRIES:
                keys, packed = read_entries(path, block, image.keys[-1] if image.keys else None)
                image.packed.update(zip(keys, packed, strict=True))
                image.keys.extend(keys)
            elif block.kind == DOTS:
                parts = decoded(path, block, read_columns)
                dots += sum(len(part.seqs) for part in parts)
                greatest = max(greatest, *(max(part.places, default=0) for part in parts), 0)
                image.dots.extend(parts)
            elif block.kind == EXPIRING:
                image.expiring.extend(decoded(path, block, read_expiring))
            elif block.kind == HEAD:
                head = decoded(path, block, decode_head)
    assert head is not None, "a file that ends in a tail begins with a head"
    tail = decoded(path, block, decode_tail)
    counts = (len(image.packed), len(image.keys), dots, blocks)
    _require(path, block, counts == (tail.entries, tail.entries, tail.entries, tail.blocks), "its counts do not hold")
    _require(path, block, greatest < max(dots, 1), "a dot is of no entry")
    image.values, image.size_bytes, image.buckets = tail.values, tail.size_bytes, tail.buckets
    image.standing, image.position = tail.standing, head.position
    return head, image


def read_entries(path: Path, block: Block, last: str | None) -> Columns:
    """Return a block of entries; `last` is the greatest key before it.

    Raises:
        SnapshotDamaged: it is none, or its ends are out of order.
    """
    columns = decoded(path, block, _columns)
    keys = columns.keys
    _require(path, block, last is None or last < keys[0], "keys are out of order")
    return columns


def _columns(flat: list[Any]) -> Columns:
    keys, packed = flat[0::2], flat[1::2]
    if not keys or len(keys) != len(packed) or keys[0] > keys[-1] or type(packed[-1]) is not bytes:
        raise ValueError("keys and packed entries do not alternate")
    return Columns(keys, packed)


def read_expiring(columns: list[bytes]) -> list[tuple[int, int]]:
    """Return `(expires_at, place)` from a block of them. Raises ValueError or TypeError for any other shape."""
    times, places = columns
    return list(zip(from_little("q", times), from_little("I", places), strict=True))


def _require(path: Path, block: Block, holds: bool, what: str) -> None:
    if not holds:
        raise damaged(path, block.offset, what)
