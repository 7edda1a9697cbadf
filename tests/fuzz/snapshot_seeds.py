"""Snapshots for the corpus, as the blocks they are made of."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from tests.fakes.snapshots import standing_of, write_snapshot
from wavekv.core.types import Entry
from wavekv.snapshot.blocks import Head, read_blocks
from wavekv.volume import open_file

ABOUT = Head(7, UUID(int=1), None, 1, 9, 1_700_000_000_000, 0)


def blocks_of_examples() -> Iterator[list[tuple[int, bytes]]]:
    """Yield a few snapshots: of nothing, of every kind of entry, and of many blocks."""
    few = [Entry("a", b"1", 100, 7, 1), Entry("k", None, -1, 2, 251), Entry("s", b"x", 200, 7, 2, 1_700_000_060_000)]
    many = [Entry(f"key-{n:02}", bytes([n]) * n, n, 1 + n % 3, 40 - n, 9 if n % 4 == 0 else None) for n in range(23)]
    for entries in ([], few, many):
        with tempfile.TemporaryDirectory() as folder:
            path, _ = write_snapshot(Path(folder), entries, standing_of(entries), about=ABOUT)
            with open_file(path) as file:
                yield [(block.kind, block.payload) for block in read_blocks(file, path)]
