"""Whatever entries a snapshot is written from, a load brings back all that they come to."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.snapshots import TINY, facts, standing_of, sums, write_snapshot
from wavekv.config import SnapshotSettings
from wavekv.core.packed import pack
from wavekv.core.types import I64_MAX, I64_MIN, U32_MAX, U64_MAX, Entry
from wavekv.snapshot.reading import check, entries, load, read_head
from wavekv.snapshot.verification import verify

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ORIGINS = st.sampled_from((1, 2, U32_MAX)) | st.integers(0, U32_MAX)
SEQS = st.sampled_from((1, 2, 3, 2**32, U64_MAX)) | st.integers(1, U64_MAX)
TIMES = st.integers(I64_MIN, I64_MAX)
VALUES = st.none() | st.binary(max_size=40) | st.binary(min_size=300, max_size=300)
ENTRIES = st.lists(
    st.builds(Entry, KEYS, VALUES, TIMES, ORIGINS, SEQS, st.none() | TIMES),
    max_size=40,
    unique_by=lambda entry: entry.key,
)


@given(ENTRIES, st.sampled_from((TINY, SnapshotSettings())))
def test_a_load_brings_back_what_was_written(written: list[Entry], settings: SnapshotSettings) -> None:
    standing = standing_of(written)
    by_key = sorted(written, key=lambda entry: entry.key.encode())
    packed = {entry.key: pack(entry) for entry in by_key}
    with tempfile.TemporaryDirectory() as directory:
        path, tail = write_snapshot(Path(directory), written, standing, settings=settings)
        head, image = load(path)
        assert [file.name for file in Path(directory).iterdir()] == [path.name]
        assert (list(image.packed.items()), image.keys) == (list(packed.items()), list(packed))
        dots = [(origin, seq, at) for origin, seqs, places in image.dots for seq, at in zip(seqs, places, strict=True)]
        assert dots == sorted((entry.origin, entry.seq, at) for at, entry in enumerate(by_key))
        assert [part.origin for part in image.dots] == sorted(part.origin for part in image.dots)
        expiring = [(entry.expires_at, at) for at, entry in enumerate(by_key) if entry.expires_at is not None]
        assert image.expiring == expiring
        assert image.buckets == tail.buckets == sums(written)
        assert image.values == sum(entry.value is not None for entry in written)
        assert image.size_bytes == sum(len(entry.key.encode()) + len(entry.value or b"") for entry in written)
        assert facts(image.standing) == facts(standing)
        assert (image.position, head) == (head.position, read_head(path))
        assert list(entries(path)) == list(packed.items())
        assert facts(check(path).tail.standing) == facts(standing)
        assert verify(path).tail.entries == len(written)
