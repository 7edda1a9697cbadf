"""Compaction comes to what a fold of the whole log comes to, however it is cut into segments, batches and runs."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.disk import HastyDisk
from tests.fakes.segments import IDENTITY_1, write_identity, write_segments
from tests.fakes.snapshots import TINY, sums
from wavekv.compaction.merge import Merger
from wavekv.config import CompactionSettings
from wavekv.core.ops import (
    Batch,
    Clear,
    Cover,
    DropOrigins,
    Floor,
    Op,
    Process,
    Promise,
    Set,
    SetExpiring,
    SetNextSeq,
    UpdateLocalAck,
)
from wavekv.core.packed import pack, unpack
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.snapshot.reading import load
from wavekv.snapshot.verification import verify

KEYS = st.sampled_from(("", "a", "b", "ä", "key", "z" * 300))
VALUES = st.none() | st.binary(max_size=20)
NUMBERS = st.integers(1, 9)
SETS = st.builds(lambda *fields: Set(Entry(*fields)), KEYS, VALUES, NUMBERS, st.integers(1, 3), st.integers(1, 300))
EXPIRING = st.builds(lambda op, until: SetExpiring(op.entry._replace(expires_at=until)), SETS, NUMBERS)
CLEARS = st.builds(Clear, KEYS)
BATCHES = st.builds(lambda ops: Batch(tuple(ops)), st.lists(SETS | EXPIRING | CLEARS, max_size=4))
OTHERS = st.one_of(
    st.builds(lambda origin, first, more: Cover(origin, first, first + more), st.integers(1, 3), NUMBERS, NUMBERS),
    st.builds(UpdateLocalAck, st.integers(1, 3), NUMBERS),
    st.builds(Floor, NUMBERS),
    st.builds(DropOrigins, NUMBERS, st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), max_size=3).map(tuple)),
    st.builds(Promise, NUMBERS),
    st.builds(Process, NUMBERS, st.integers(0, 3), st.booleans()),
)
OPS: st.SearchStrategy[Op] = st.one_of(SETS, EXPIRING, CLEARS, BATCHES, OTHERS)
SEGMENTS = st.lists(st.lists(st.lists(OPS, max_size=4), min_size=1, max_size=4), min_size=1, max_size=6)
SMALL = CompactionSettings(batch_keys_max=2, batch_key_bytes_max=300, runs_max=2, open_segments_max=1)


@settings(max_examples=80, deadline=None)
@given(SEGMENTS, st.data(), st.sampled_from((SMALL, CompactionSettings())))
def test_merging_step_by_step_equals_folding_the_log(
    segments: list[list[list[Op]]], data: st.DataObject, bounds: CompactionSettings
) -> None:
    store = Store(10)
    for groups in segments:
        for ops in groups:
            for op in (SetNextSeq(1), *ops):
                store.apply(op)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_identity(directory)
        sequence = write_segments(directory, segments)
        merger = Merger(directory, IDENTITY_1, bounds, TINY, HastyDisk(), lambda _done, _total: None)
        base, last = 0, 0
        while last < len(segments):
            last = data.draw(st.integers(last + 1, len(segments)))
            merged = merger.merge(base, last, 5)
            base = last
        verify(merged.path)
        _, image = load(merged.path)
        assert not list(directory.glob("*.tmp"))
    held = {entry.key: entry for entry in map(_unpacked(store), store.entries)}
    assert image.packed == {key: pack(entry) for key, entry in sorted(held.items())}
    assert image.keys == sorted(held)
    assert (image.standing.context, image.standing.floor) == (store.context, store.floor)
    assert image.standing.dropped == store.standing.dropped
    assert (image.standing.promised, image.standing.horizon) == (store.standing.promised, store.standing.horizon)
    assert (image.standing.next_seq, image.standing.process) == (store.next_seq, store.process)
    assert image.buckets == sums(held.values())
    assert image.position == store.position == sequence - 1


def _unpacked(store: Store):
    """Return what gives the store's entry of a key, whether it holds entries or their packed form."""

    def entry(key: str) -> Entry:
        held = store.entries[key]
        return unpack(key, held) if isinstance(held, bytes) else held

    return entry
