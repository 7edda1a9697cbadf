"""A start that takes records in runs comes to the very store that applying every record would."""

from array import array
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st

from tests.property.test_loading import CHANGES_MAX, OPS, applied, assert_remembers_as, facts, image_of
from tests.property.test_loading import loaded as by_record
from wavekv.core import ordered
from wavekv.core.loading import FreshLoader, MendingLoader, Run, StoreLoader
from wavekv.core.ops import Clear, Floor, Op, Set, SetNextSeq
from wavekv.core.packed import pack
from wavekv.core.store import Store
from wavekv.core.types import Entry

SETS = st.builds(
    Set,
    st.builds(
        Entry,
        st.sampled_from(("a", "b", "c", "d", "\u00e9", "zz")),
        st.none() | st.binary(max_size=3),
        st.integers(-5, 5),
        st.sampled_from((1, 2, 7)),
        st.integers(1, 9),
        st.none(),
    ),
)
BASE: list[Op] = [Set(Entry(f"base{seq}", b"v", 1, 3, seq)) for seq in range(1, 61)]
"""Makes a snapshot large enough to be mended key by key."""
LOGS = st.lists(OPS | SETS | SETS, max_size=30)


def run_of(ops: list[Op], first: int) -> Run:
    """Return sets and group starts as a run whose first record has sequence `first`."""
    sets = [(number, op.entry) for number, op in enumerate(ops, first) if isinstance(op, Set)]
    origins: list[tuple[int, int]] = []
    for at, (_, entry) in enumerate(sets):
        if not origins or origins[-1][0] != entry.origin:
            origins.append((entry.origin, at))
    return Run(
        [entry.key for _, entry in sets],
        [pack(entry) for _, entry in sets],
        origins,
        array("Q", [entry.seq for _, entry in sets]),
        array("Q", [number for number, _ in sets]),
        first,
        len(ops),
        max((op.seq for op in ops if isinstance(op, SetNextSeq)), default=0),
        sum(entry.value is not None for _, entry in sets),
        sum(len(entry.key.encode()) + len(entry.value or b"") for _, entry in sets),
    )


def loaded(loader: StoreLoader, ops: list[Op], sequence: int) -> Store:
    """Fold `ops`, what can be in runs in runs; their records are numbered from `sequence`."""
    held: list[Op] = []
    for op in [*ops, None]:
        if isinstance(op, SetNextSeq) or (isinstance(op, Set) and op.entry.expires_at is None):
            held.append(op)
            continue
        if any(isinstance(one, Set) for one in held):
            loader.stored_run(run_of(held, sequence))
        else:
            for one in held:
                loader.apply(one)
        sequence, held = sequence + len(held) + 1, []
        if op is not None:
            loader.apply(op)
    with patch.object(ordered, "SORTED_AT_ONCE", 2):
        store = loader.store()
        while store.settle(2):
            pass
    return store


def remembered(store: Store) -> list[object]:
    """Return what a store tells of changes since every position, and of its sequences."""
    since = [store.keys_changed_since(position) for position in range(store.position + 1)]
    return [since, store.changes_from, store.next_seq]


@example([*BASE], 1)
@example([*BASE, Set(Entry("base1", b"longer", 2, 3, 61))], 1)
@example([*BASE, Clear("base2"), *BASE[1:2]], 1)
@example([BASE[0], BASE[2], BASE[1], BASE[3]], 1)
@given(LOGS, st.sampled_from((1, 100)))
def test_a_log_from_its_beginning(ops: list[Op], first_sequence: int) -> None:
    direct, fast = applied(ops), loaded(FreshLoader(CHANGES_MAX), ops, first_sequence)
    assert facts(fast) == facts(direct)
    assert_remembers_as(fast, direct, 0)
    assert remembered(fast) == remembered(by_record(FreshLoader(CHANGES_MAX), ops))


TWICE: list[Op] = [Set(Entry("a", b"x", 1, 1, 1)), Floor(1), Set(Entry("a", b"y", 2, 1, 2))]


@example(TWICE, 0, 0)
@given(LOGS, st.integers(0, 30), st.sampled_from((0, 100)))
def test_a_log_behind_a_snapshot(ops: list[Op], cut: int, shift: int) -> None:
    cut = len(BASE) + min(cut, len(ops))
    ops = [*BASE, *ops]
    direct = applied(ops)
    loader = MendingLoader(CHANGES_MAX, image_of(applied(ops[:cut])))
    fast = loaded(loader, ops[cut:], cut + 1 + shift)
    assert facts(fast) == facts(direct)
    assert_remembers_as(fast, direct, cut)
    without = MendingLoader(CHANGES_MAX, image_of(applied(ops[:cut])))
    assert remembered(fast) == remembered(by_record(without, ops[cut:]))
