"""The push queue: what goes out once, what it may claim to carry, and how a peer is left alone for a while."""

from wavekv.config import GossipSettings
from wavekv.core.replica import CARRIED_SPAN_MAX
from wavekv.core.types import Entry
from wavekv.runtime.link import Link, PushQueue


def entry(key: str, seq: int, value: bytes = b"v") -> Entry:
    return Entry(key, value, 100 + seq, 7, seq)


def filled(*entries: Entry, keys_max: int = 10) -> tuple[PushQueue, dict[str, Entry]]:
    queue, store = PushQueue(keys_max), {}
    for number, written in enumerate(entries):
        queue.add(written, float(number))
        store[written.key] = written
    return queue, store


def test_a_key_written_twice_goes_out_once_and_stands_for_both_sequences() -> None:
    queue, store = filled(entry("a", 1), entry("b", 2), entry("a", 3))
    taken = queue.take(store, 1000)
    assert [item.seq for item in taken.entries] == [2, 3]
    assert taken.carried == {7: ((1, 3),)}
    assert taken.visible_at == (1.0, 0.0)
    assert queue.visible_at == {}


def test_a_part_of_the_queue_claims_no_sequences_and_neither_does_the_rest() -> None:
    queue, store = filled(entry("a", 1, b"x" * 60), entry("b", 2, b"x" * 60), entry("c", 3))
    first = queue.take(store, 100)
    assert [item.key for item in first.entries] == ["a"]
    assert first.carried == {}
    second = queue.take(store, 100)
    assert [item.key for item in second.entries] == ["b", "c"]
    assert second.carried == {}
    queue.add(entry("d", 4), 0.0)
    assert queue.take({"d": entry("d", 4)}, 100).carried == {7: ((4, 4),)}


def test_a_key_that_the_store_forgot_keeps_the_push_from_claiming_its_sequence() -> None:
    queue, store = filled(entry("a", 1), entry("b", 2))
    del store["a"]
    taken = queue.take(store, 1000)
    assert [item.key for item in taken.entries] == ["b"]
    assert taken.carried == {}


def test_an_entry_larger_than_the_bound_goes_alone() -> None:
    queue, store = filled(entry("a", 1, b"x" * 500), entry("b", 2))
    assert [item.key for item in queue.take(store, 100).entries] == ["a"]


def test_a_full_queue_is_dropped_and_counted() -> None:
    queue, store = filled(*(entry(f"k{seq}", seq) for seq in range(1, 12)), keys_max=10)
    assert queue.dropped == 10
    taken = queue.take(store, 1000)
    assert [item.key for item in taken.entries] == ["k11"]
    assert taken.carried == {7: ((11, 11),)}


def test_failures_double_the_pause_up_to_its_bound_and_an_answer_ends_it() -> None:
    link, settings = Link("p", "http://p", PushQueue(1), "p"), GossipSettings()
    pauses = []
    for _ in range(8):
        link.failed(100.0, "gone", settings, 1.0)
        pauses.append(link.retry_at - 100.0)
    assert pauses == [1, 2, 4, 8, 10, 10, 10, 10]
    assert (link.reachable, link.last_error) == (False, "gone")
    link.answered(200.0, "pod-1")
    assert (link.reachable, link.last_error, link.failures, link.retry_at) == (True, None, 0, 0.0)
    assert link.reported_as == "pod-1"


def test_writes_that_went_past_a_waiting_queue_keep_its_push_from_claiming_them() -> None:
    queue, store = filled(entry("a", 1), entry("b", 2))
    queue.add(entry("e", 5), 0.0)
    store["e"] = entry("e", 5)
    taken = queue.take(store, 1000)
    assert [item.seq for item in taken.entries] == [1, 2, 5]
    assert taken.carried == {}


def test_a_push_claims_no_more_sequences_than_its_receiver_takes() -> None:
    for last, claims in ((CARRIED_SPAN_MAX, True), (CARRIED_SPAN_MAX + 1, False)):
        queue = PushQueue(10)
        for seq in range(1, last + 1):
            queue.add(entry("a", seq), 0.0)
        assert bool(queue.take({"a": entry("a", last)}, 1000).carried) is claims
