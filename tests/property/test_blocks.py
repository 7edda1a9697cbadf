"""Blocks say what their entries say one by one: merged, shown, logged, on the wire, and found for a page."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.cluster import LIMITS, MemoryMember, merge_block, wire
from wavekv.config import Limits
from wavekv.core.block import Block
from wavekv.core.codec.records import encode_group
from wavekv.core.context import Context
from wavekv.core.delta import delta_page
from wavekv.core.messages import Envelope
from wavekv.core.ops import Clear, Op, Process, Set, StoreBlock, as_records, storing
from wavekv.core.packed import pack
from wavekv.core.store import Store
from wavekv.core.types import Entry, entry_bytes
from wavekv.errors import DiskFull

NOW = 10_000
KEYS = [*"abcdef", "é", "k" * 300]
TIMES = st.integers(-3, 3) | st.just(NOW + LIMITS.future_ms_max + 1) | st.integers(2**32, 2**32 + 3)
ENTRIES = st.builds(
    Entry,
    st.sampled_from(KEYS),
    st.none() | st.binary(max_size=3) | st.just(b"v" * 300),
    TIMES,
    st.sampled_from([1, 7, 70_000]),
    st.integers(1, 6) | st.integers(65_533, 65_540) | st.integers(2**32 - 2, 2**32 + 2),
    st.none() | st.integers(0, 3) | st.integers(NOW, NOW + 3),
)


def distinct(entries: list[Entry]) -> list[Entry]:
    """Keep one entry for each key and for each dot, ascending by dot."""
    by_key = {entry.key: entry for entry in entries}
    return sorted({entry.dot: entry for entry in by_key.values()}.values(), key=lambda entry: entry.dot)


BLOCKS = st.lists(ENTRIES, min_size=1, max_size=8).map(distinct)


def block_of(entries: Sequence[Entry]) -> Block:
    return Block([entry.key for entry in entries], list(map(pack, entries)))


def shown(store: Store) -> dict[str, Any]:
    """Return all that can be asked of a store, but in what order its keys changed."""
    changed = store.keys_changed_since(0)
    return {
        "packed": dict(sorted(store.packed.items())),
        "keys": list(store._keys),
        "dots": [(origin, [(list(seqs), names) for seqs, names in store.of_origin(origin, 0)])
                 for origin in store.origins()],
        "counts": (store.values, store.size_bytes, store.position, store.live(), store.expiring(), store.deletes()),
        "digest": store.digest(),
        "standing": (store.context, store.next_seq, store.floor),
        "changed": changed if changed is None else sorted(changed),
        "changes from": store.changes_from,
        "graves": sorted(store.graves.tombstones()),
        "expired": sorted(store.take_expired(NOW + 1, 99)),
    }  # fmt: skip


@given(BLOCKS)
def test_a_block_knows_what_it_holds(entries: list[Entry]) -> None:
    block = block_of(entries)
    assert list(block.unpacked()) == entries
    assert len(block) == len(entries)
    assert block.values == sum(entry.value is not None for entry in entries)
    assert block.size_bytes == sum(map(entry_bytes, entries))
    assert [key for key, _ in block.special()] == [
        entry.key for entry in entries if entry.value is None or entry.expires_at is not None
    ]
    assert {block.key_of(*entry.dot) for entry in entries} == set(block.entries)
    assert block.key_of(7, 99) is None
    assert [
        (origin, seq) for origin, first, last in block.stretches() for seq in range(first, last + 1)
    ] == [entry.dot for entry in entries]  # fmt: skip


@given(st.lists(ENTRIES, max_size=5), BLOCKS, st.integers(1, 12), st.booleans())
def test_a_block_is_shown_as_its_records_are(
    before: list[Entry], entries: list[Entry], changes_max: int, last: bool
) -> None:
    held, taken = {entry.key for entry in before}, {entry.dot for entry in before}
    new = [entry for entry in entries if entry.key not in held and entry.dot not in taken]
    ops: list[Op] = [Process(1, 7, False), *map(storing, before)]
    ops += [StoreBlock(block_of(new))] if new else []
    ops += [] if last else [Set(Entry("z", b"", 1, 9, 1))]
    together, singly = Store(changes_max), Store(changes_max)
    for op in ops:
        together.apply(op)
    for op in as_records(ops):
        singly.apply(op)
    assert shown(together) == shown(singly)


@given(BLOCKS, st.booleans(), st.sampled_from([1, 200, 65_535, 65_536, 2**32 - 4, 2**32]))
def test_a_block_is_logged_as_its_records_are(entries: list[Entry], wide: bool, sequence: int) -> None:
    if wide:
        entries = distinct([entry._replace(origin=70_000, timestamp=2**40) for entry in entries])
    ops: list[Op] = [Clear("x"), StoreBlock(block_of(entries)), Clear("y")]
    assert encode_group(ops, sequence, 3) == encode_group(list(as_records(ops)), sequence, 3)


@given(BLOCKS)
def test_a_block_travels(entries: list[Entry]) -> None:
    block = wire(Envelope(sender_id=1, block=block_of(entries))).block
    assert block is not None
    assert list(block.unpacked()) == entries


MOST = [
    LIMITS,
    replace(LIMITS, entries_max=3),
    replace(LIMITS, bytes_max=8),
    replace(LIMITS, wire_key_bytes_max=299, wire_value_bytes_max=299),
]
WHERE = st.lists(
    st.tuples(ENTRIES, st.sampled_from(["durable", "staged", "in a block", "removed", "removing"])), max_size=6
)


def member_with(limits: Limits, held: list[tuple[Entry, str]]) -> MemoryMember:
    """Return a member that holds, will hold, or is about to forget these."""
    member = MemoryMember(0, ("m0",), limits)
    merge = member.replica.merge
    for wanted in ("durable", "removed", "removing"):
        merge([entry for entry, where in held if where == wanted], NOW)
    member.commit()
    member.replica.forget([entry.key for entry, where in held if where == "removed"])
    member.commit()
    member.replica.forget([entry.key for entry, where in held if where == "removing"])
    merge([entry for entry, where in held if where == "staged"], NOW)
    blocked = distinct([entry for entry, where in held if where == "in a block"])
    if blocked:
        merge_block(member.replica, block_of(blocked), NOW)
    return member


@settings(max_examples=300)
@given(st.sampled_from(MOST), WHERE, BLOCKS, st.booleans(), st.booleans())
def test_a_block_is_merged_as_its_entries_are(
    limits: Limits, held: list[tuple[Entry, str]], entries: list[Entry], full: bool, mine: bool
) -> None:
    together, singly = member_with(limits, held), member_with(limits, held)
    for member in (together, singly):
        member.replica.full = DiskFull("no room") if full else None
        if mine:
            member.replica._origin = 7
    of_block = merge_block(together.replica, block_of(entries), NOW, sender="m1")
    one_by_one = singly.replica.merge(entries, NOW, sender="m1")
    if sum(one_by_one.refused.values()) == one_by_one.refused["limit_reached"] > 0:
        return  # which of them still fit depends on their order
    assert (of_block.stored, of_block.refused) == (one_by_one.stored, one_by_one.refused)
    for entry in entries:
        assert together.replica._staging.held(entry.key) == singly.replica._staging.held(entry.key)
        assert together.replica.moves(entry.key) == singly.replica.moves(entry.key)
    assert sorted(together.replica.staged()) == sorted(singly.replica.staged())
    assert together.replica.covered == singly.replica.covered
    for member in (together, singly):
        member.commit()
        assert of_block.ticket <= together.replica.durable_ticket
    assert shown(together.store) == shown(singly.store)
    assert not list(together.replica.staged())
    logs = [sorted(map(repr, member.log)) for member in (together, singly)]
    assert logs[0] == logs[1]


def test_a_block_that_never_reached_the_disk_is_forgotten() -> None:
    member = MemoryMember(0, ("m0",))
    merge_block(member.replica, block_of([Entry("k", b"v", 1, 7, 1)]), NOW)
    assert member.replica.moves("k")
    assert member.replica.ready() is not None
    member.replica.abandon()
    assert not member.replica.moves("k")
    assert merge_block(member.replica, block_of([Entry("k", b"v", 1, 7, 1)]), NOW).stored == 1
    member.commit()
    assert member.value("k") == b"v"


def test_what_is_written_over_a_staged_block_stands() -> None:
    member = MemoryMember(0, ("m0",))
    merge_block(member.replica, block_of([Entry("k", b"v", 1, 7, 1)]), NOW)
    staged = member.replica.put("k", b"mine", NOW)
    assert staged.previous == Entry("k", b"v", 1, 7, 1)
    member.commit()
    assert member.value("k") == b"mine"
    assert list(member.store.packed) == ["k"]


# ---- pages ---------------------------------------------------------------------------------------------------------

RANGES = st.lists(st.tuples(st.sampled_from([1, 7]), st.integers(1, 8), st.integers(0, 4)), max_size=4)
AFTER = st.none() | st.tuples(st.sampled_from([1, 7]), st.integers(0, 8))
SHARED = st.lists(
    st.builds(Entry, st.sampled_from(KEYS), st.none() | st.binary(max_size=9), st.just(5), st.sampled_from([1, 7]),
              st.integers(1, 8), st.none() | st.just(99)),
    max_size=12,
)  # fmt: skip


@settings(max_examples=300)
@given(
    SHARED,
    RANGES,
    st.none() | st.tuples(st.sampled_from([1, 7]), st.integers(0, 8)),
    st.integers(1, 5),
    st.integers(1, 200),
)
def test_a_page_is_what_looking_at_each_entry_comes_to(
    entries: list[Entry], ranges: list[tuple[int, int, int]], after: tuple[int, int] | None, count: int, size: int
) -> None:
    store, theirs = Store(9), Context()
    for entry in entries:
        store.apply(storing(entry))
    for origin, first, length in ranges:
        theirs.add_range(origin, first, first + length)
    limits = replace(LIMITS, page_entries_max=count, page_bytes_max=size)
    page = delta_page(store, theirs, after, limits)
    lacking = sorted(
        (entry for entry in store.entries.values() if not theirs.covers(*entry.dot) and entry.dot > (after or (0, 0))),
        key=lambda entry: entry.dot,
    )
    expected: list[Entry] = []
    room, cursor = size, None
    for dot in dict.fromkeys(entry.dot for entry in lacking):
        together = [entry for entry in lacking if entry.dot == dot]
        weight = sum(len(pack(entry)) + len(entry.key.encode()) + 11 for entry in together)
        if expected and (len(expected) >= count or weight > room):
            cursor = expected[-1].dot
            break
        expected += together
        room -= weight
    assert sorted(page.entries()) == sorted(expected)
    assert [entry.dot for entry in page.entries()] == [entry.dot for entry in expected]
    assert page.cursor == cursor
    block = page.block()
    alone = len({entry.dot for entry in expected}) == len(expected)
    assert (block is not None) == bool(expected and alone)
    assert block is None or list(block.unpacked()) == list(page.entries())
