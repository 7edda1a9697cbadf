"""A start comes to the very store that applying every record would: from nothing, or from an image and what follows."""

from array import array
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wavekv.core.dot_order import DotOrder
from wavekv.core.image import Dots, Image
from wavekv.core.loading import FreshLoader, Loader, MendingLoader
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
    SetNextSeq,
    UpdateLocalAck,
    storing,
)
from wavekv.core.packed import dot_of, expiry_of
from wavekv.core.store import Store
from wavekv.core.types import Entry

KEYS = st.sampled_from(("a", "b", "c", "d", "\u00e9", "zz"))
ENTRIES = st.builds(
    Entry,
    KEYS,
    st.none() | st.binary(max_size=3),
    st.integers(-5, 5),
    st.sampled_from((1, 2, 7)),
    st.integers(1, 9),
    st.none() | st.integers(0, 900),
)
STORING = ENTRIES.map(storing)
DROPPED = st.lists(st.tuples(st.sampled_from((1, 2, 7)), st.integers(1, 9)), max_size=3).map(tuple)
OPS: st.SearchStrategy[Op] = st.one_of(
    STORING,
    STORING,
    st.builds(Clear, KEYS),
    st.builds(lambda ops: Batch(tuple(ops)), st.lists(st.one_of(STORING, st.builds(Clear, KEYS)), max_size=3)),
    st.builds(SetNextSeq, st.integers(1, 9)),
    st.builds(UpdateLocalAck, st.sampled_from((1, 2, 7)), st.integers(1, 12)),
    st.builds(Cover, st.sampled_from((1, 2)), st.integers(1, 4), st.integers(5, 9)),
    st.builds(Floor, st.integers(-3, 3)),
    st.builds(
        DropOrigins,
        st.integers(-3, 3),
        st.lists(st.tuples(st.sampled_from((1, 2, 7)), st.integers(1, 9)), max_size=3).map(tuple),
    ),
    st.builds(Promise, st.integers(-3, 3)),
    st.builds(Process, st.integers(1, 3), st.sampled_from((0, 1, 7)), st.booleans()),
)
CHANGES_MAX = 5


def applied(ops: list[Op]) -> Store:
    store = Store(CHANGES_MAX)
    for op in ops:
        store.apply(op)
    return store


def loaded(loader: Loader, ops: list[Op]) -> Store:
    for op in ops:
        if isinstance(op, Set):
            loader.stored(op.entry.key, op.entry.value, op.entry.timestamp, op.entry.origin, op.entry.seq)
        else:
            loader.apply(op)
    store = loader.store()
    while store.settle(2):
        pass
    return store


def image_of(store: Store) -> Image:
    """Return what a snapshot of `store` would load as."""
    keys = sorted(store.packed)
    packed = {key: store.packed[key] for key in keys}
    dots = sorted((*dot_of(packed[key]), place) for place, key in enumerate(keys))
    parts = [Dots(origin, array("Q", [seq]), array("I", [place])) for origin, seq, place in dots]
    expiring = [(expiry_of(packed[key]), at) for at, key in enumerate(keys) if packed[key][20] & 2]
    return Image(
        packed, keys, parts, expiring, store.values, store.size_bytes, store.buckets.snapshot(), store.standing,
        store.position,
    )  # fmt: skip


def pairs(order: DotOrder, after: int) -> list[tuple[int, str | tuple[str, ...]]]:
    return [pair for seqs, names in order.stretches(after) for pair in zip(seqs, names, strict=True)]


def dots_of(store: Store, origin: int, after: int = 0) -> list[tuple[int, tuple[str, ...]]]:
    found = store.of_origin(origin, after)
    names = [pair for seqs, names in found for pair in zip(seqs, names, strict=True)]
    return [(seq, name if isinstance(name, tuple) else (name,)) for seq, name in names]


def facts(store: Store) -> dict[str, Any]:
    """Return all that can be asked of a store."""
    return {
        "packed": dict(sorted(store.packed.items())),
        "keys": list(store._keys),
        "dots": {origin: [(seq, sorted(names)) for seq, names in dots_of(store, origin)] for origin in store.origins()},
        "counts": (store.values, store.size_bytes, store.position),
        "digest": store.digest(),
        "standing": (store.context, store.floor, store.process),
        "dead origins": (store.standing.promised, store.standing.horizon, store.standing.dropped),
        "expired": sorted(store.take_expired(450, 99)),
        "live": store.live(),
    }


@given(st.lists(OPS, max_size=25))
def test_a_log_from_its_beginning(ops: list[Op]) -> None:
    direct, fast = applied(ops), loaded(FreshLoader(CHANGES_MAX), ops)
    assert facts(fast) == facts(direct)
    assert_remembers_as(fast, direct, 0)


@given(st.lists(OPS, max_size=25), st.integers(0, 25))
def test_a_log_behind_a_snapshot(ops: list[Op], cut: int) -> None:
    cut = min(cut, len(ops))
    direct = applied(ops)
    fast = loaded(MendingLoader(CHANGES_MAX, image_of(applied(ops[:cut]))), ops[cut:])
    assert facts(fast) == facts(direct)
    assert_remembers_as(fast, direct, cut)


def assert_remembers_as(fast: Store, direct: Store, beginning: int) -> None:
    """Where the loaded store knows what changed and who wrote, it says the same; it knows all since the snapshot.

    Its next sequence may be higher: it counts an own sequence also where the log has it before the process.
    """
    assert fast.next_seq >= direct.next_seq
    for position in range(direct.position + 1):
        told = fast.keys_changed_since(position)
        known = direct.keys_changed_since(position)
        if told is not None and known is not None:
            assert sorted(told) == sorted(known)
        elif position >= beginning:
            assert (told is None) <= (known is None or position <= fast.changes_from)
        if position >= beginning:
            assert fast.process_at(position) == direct.process_at(position)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=200))
def test_an_order_by_dot_is_a_sorted_map(steps: list[tuple[int, bool]]) -> None:
    order, model = DotOrder(), dict[int, str]()
    for seq, adds in steps:
        if adds:
            order.set(seq, f"k{seq}")
            model[seq] = f"k{seq}"
        elif seq in model:
            order.remove(seq)
            del model[seq]
        assert order.get(seq) == model.get(seq)
    assert pairs(order, 0) == sorted(model.items())
    for seq in range(0, 41, 5):
        assert pairs(order, seq) == [(s, k) for s, k in sorted(model.items()) if s > seq]
    if model:
        assert order.last == max(model)


@given(st.integers(0, 1500), st.lists(st.tuples(st.integers(1, 1600), st.booleans()), max_size=60), st.integers(0, 4))
def test_an_order_that_knows_places_says_what_one_with_names_says(
    count: int, steps: list[tuple[int, bool]], fetched: int
) -> None:
    keys, seqs = [f"k{place:04}" for place in range(count)], array("Q", range(1, count + 1))
    places = array("I", reversed(range(count)))
    order, model = DotOrder.over(seqs, places, keys), DotOrder(seqs, keys[::-1])
    for _ in range(fetched):
        order.fetch()
    for seq, adds in steps:
        assert order.get(seq) == model.get(seq)
        if adds:
            order.set(seq, f"new{seq}")
            model.set(seq, f"new{seq}")
        elif model.get(seq) is not None:
            order.remove(seq)
            model.remove(seq)
    assert [order.get(seq) for seq in range(1602)] == [model.get(seq) for seq in range(1602)]
    while order.fetch():
        pass
    assert pairs(order, 0) == pairs(model, 0)


def test_what_a_start_postponed_is_done_slice_by_slice_and_then_over() -> None:
    ops: list[Op] = [Set(Entry(f"k{seq}", b"v", 1, 1, seq)) for seq in range(1, 2001)]
    store = Store(CHANGES_MAX, image_of(applied(ops)))
    slices = 1
    while store.settle(100):
        slices += 1
    assert slices == 4
    assert dots_of(store, 1, 1998) == [(1999, ("k1999",)), (2000, ("k2000",))]
