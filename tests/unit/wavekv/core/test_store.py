"""The fold of the log: indexes, counts, listings, and the digests."""

import json
from pathlib import Path

import pytest

from tests.fakes.pages import page_of
from wavekv.config import Limits
from wavekv.core.context import Context
from wavekv.core.delta import delta_page
from wavekv.core.digest import crate_digest
from wavekv.core.ops import (
    Batch,
    Clear,
    Cover,
    Floor,
    Op,
    Process,
    PushPeerLog,
    Set,
    SetExpiring,
    SetNextSeq,
    UpdateLocalAck,
)
from wavekv.core.store import Store
from wavekv.core.types import Entry

VECTORS = Path(__file__).parents[3] / "vectors"


def entry(key: str, value: bytes | None, seq: int, origin: int = 1, timestamp: int = 100) -> Entry:
    return Entry(key, value, timestamp, origin, seq)


def folded(*ops: Op) -> Store:
    store = Store(1000)
    for op in ops:
        store.apply(op)
    return store


def test_counts_follow_what_is_held() -> None:
    store = folded(Set(entry("a", b"12", 1)), Set(entry("ключ", b"123", 2)), Set(entry("a", None, 3)))
    assert (len(store.entries), store.values, store.size_bytes) == (2, 1, 1 + 8 + 3)
    store.apply(Clear("ключ"))
    assert (len(store.entries), store.values, store.size_bytes) == (1, 0, 1)
    store.apply(Clear("nothing"))
    assert len(store.entries) == 1


def test_a_cleared_key_stays_covered() -> None:
    store = folded(Set(entry("a", b"1", 1)), Clear("a"))
    assert store.context.covers(1, 1)
    assert store.origins() == []


def test_listing_is_in_key_order_by_prefix_and_skips_tombstones_and_the_expired() -> None:
    store = folded(
        Set(entry("b/2", b"", 1)),
        Set(entry("b/1", b"", 2)),
        Set(entry("a", b"", 3)),
        Set(entry("b/3", None, 4)),
        SetExpiring(Entry("b/4", b"", 100, 1, 5, expires_at=200)),
        Set(entry("b/é", b"", 6)),
        Set(entry("c", b"", 7)),
    )
    assert [item.key for item in page_of(store, "b/", None, 10, 199).entries] == ["b/1", "b/2", "b/4", "b/é"]
    assert [item.key for item in page_of(store, "b/", None, 10, 200).entries] == ["b/1", "b/2", "b/é"]
    assert [item.key for item in page_of(store, "", "b/2", 10, 200).entries] == ["b/é", "c"]
    first = page_of(store, "b/", None, 2, 200)
    assert ([item.key for item in first.entries], first.more) == (["b/1", "b/2"], True)
    assert page_of(store, "b/", "b/2", 1, 200) == ([store.entries["b/é"]], False)
    assert page_of(store, "b/", "c", 5, 200) == ([], False)
    assert page_of(store, "b/", "a", 1, 200).entries == [store.entries["b/1"]]


def test_two_keys_under_one_dot_are_both_offered_and_both_forgotten() -> None:
    store = folded(Set(entry("a", b"1", 5)), Set(entry("b", b"2", 5)))
    page = delta_page(store, Context(), None, Limits(page_entries_max=1))
    assert page.keys == ["a", "b"], "a page never parts them"
    assert page.cursor is None
    store.apply(Clear("a"))
    assert delta_page(store, Context(), None, Limits()).keys == ["b"]
    store.apply(Clear("b"))
    assert store.origins() == []


def test_a_batch_applies_all_its_operations() -> None:
    store = folded(Set(entry("a", b"", 1)), Batch((Set(entry("b", b"", 2)), Clear("a"))))
    assert list(store.entries) == ["b"]


def test_context_floor_and_process_are_folded() -> None:
    store = folded(Process(5, 9, True), SetNextSeq(4), UpdateLocalAck(3, 7), Cover(3, 9, 11), Floor(50), Floor(40))
    assert store.context == Context({3: 7}, {3: ((9, 11),)})
    assert (store.floor, store.process, store.next_seq) == (50, Process(5, 9, True), 4)
    store.apply(Process(6, 9, False))
    assert store.next_seq == 4, "the same origin goes on"
    store.apply(Process(7, 0, False))
    assert store.next_seq == 1


def test_a_peer_log_entry_of_a_crate_moves_its_ack_and_stores_nothing() -> None:
    store = folded(PushPeerLog(4, entry("a", b"", 6, origin=4), 1000))
    assert store.context.acks == {4: 6}
    assert store.entries == {}


def test_the_same_values_give_the_same_buckets_whatever_the_way_there() -> None:
    direct = folded(Set(entry("a", b"1", 1)), Set(entry("b", b"2", 2)))
    detour = folded(
        Set(entry("b", b"0", 9)),
        Set(entry("x", b"", 8)),
        Set(entry("b", b"2", 2)),
        Clear("x"),
        Set(entry("a", b"1", 1)),
    )
    tombstones = folded(Set(entry("a", b"1", 1)), Set(entry("b", b"2", 2)), Set(entry("gone", None, 3)))
    assert direct.buckets.snapshot() == detour.buckets.snapshot() == tombstones.buckets.snapshot()
    assert direct.buckets.snapshot() != folded(Set(entry("a", b"1", 1)), Set(entry("b", b"3", 2))).buckets.snapshot()


CASES = json.loads((VECTORS / "digests.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[str(index) for index in range(len(CASES))])
def test_the_crate_s_digest_is_reproduced(case: dict[str, object]) -> None:
    raw = case["entries"]
    assert isinstance(raw, list)
    held = [
        Entry(
            item["key"],
            None if item["value"] is None else bytes.fromhex(item["value"]),
            item["ts"],
            item["node"],
            item["seq"],
        )
        for item in raw
    ]
    assert crate_digest(sorted(held, key=lambda item: item.key)).hex() == case["digest"]
    store = Store(1000)
    for item in held:
        store.apply(Set(item))
    assert store.crate_digest().hex() == case["digest"]


def test_changes_are_known_as_far_back_as_the_bound_reaches() -> None:
    store = Store(changes_max=3)
    for seq in range(1, 6):
        store.apply(Set(entry(f"k{seq}", b"", seq)))
    assert store.changed_since(1) is None
    assert [item.key for item in store.changed_since(2) or []] == ["k5", "k4", "k3"]
    assert store.changed_since(5) == []
