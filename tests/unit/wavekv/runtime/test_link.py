"""The push queue: what goes out once, what it may claim to carry, and how a peer is left alone for a while."""

from dataclasses import replace

import pytest

from wavekv.config import GossipSettings
from wavekv.core.adoption import CARRIED_SPAN_MAX
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry
from wavekv.errors import WrongName
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


def test_a_relayed_key_goes_out_with_own_ones_and_takes_their_claim_away_from_none() -> None:
    queue, store = filled(entry("a", 1), entry("b", 2))
    store["r"] = Entry("r", b"v", 500, 9, 40)
    store["a"] = Entry("a", b"newer", 600, 9, 41)
    queue.relay("r", 3.0)
    queue.relay("a", 4.0)
    queue.add(entry("c", 3), 5.0)
    store["c"] = entry("c", 3)
    taken = queue.take(store, 1000)
    assert [item.key for item in taken.entries] == ["b", "r", "a", "c"]
    assert taken.carried == {7: ((1, 3),)}, "what superseded an own write stands for it"


def test_relayed_keys_alone_stand_for_no_sequences_and_own_ones_behind_them_for_theirs() -> None:
    queue, store = filled()
    store["r"] = Entry("r", b"v", 500, 9, 40)
    queue.relay("r", 0.0)
    assert queue.take(store, 1000).carried == {}
    queue.relay("r", 0.0)
    queue.add(entry("d", 8), 0.0)
    store["d"] = entry("d", 8)
    assert queue.take(store, 1000).carried == {7: ((8, 8),)}


def test_a_part_left_behind_claims_nothing_whatever_is_relayed_meanwhile() -> None:
    queue, store = filled(entry("a", 1, b"x" * 60), entry("b", 2, b"x" * 60))
    assert queue.take(store, 100).carried == {}
    store["r"] = Entry("r", b"v", 500, 9, 40)
    queue.relay("r", 0.0)
    queue.add(entry("c", 3), 0.0)
    store["c"] = entry("c", 3)
    assert queue.take(store, 1000).carried == {}
    queue.relay("r", 0.0)
    assert queue.visible_at == {"r": 0.0}


def test_relayed_keys_left_behind_keep_no_own_write_from_its_claim() -> None:
    queue, store = filled()
    for key in ("r", "s"):
        store[key] = Entry(key, b"x" * 60, 500, 9, 40)
        queue.relay(key, 0.0)
    assert [item.key for item in queue.take(store, 100).entries] == ["r"]
    queue.add(entry("d", 8), 0.0)
    store["d"] = entry("d", 8)
    assert queue.take(store, 1000).carried == {7: ((8, 8),)}


def test_relayed_keys_fill_a_queue_as_own_ones_do() -> None:
    queue, _ = filled(keys_max=3)
    for number in range(4):
        queue.relay(f"r{number}", 0.0)
    assert (queue.dropped, list(queue.visible_at)) == (3, ["r3"])


# ---- whose answer it is --------------------------------------------------------------------------------------------


def link(*, contact: bool = False, crate: bool = False) -> Link:
    return Link("m1", "https://m1:7072", PushQueue(9), "m1", contact=contact, crate=crate)


def test_an_answer_is_taken_from_the_member_that_was_asked() -> None:
    own = Envelope(sender_id=2, name="m1", inc=1)
    assert link().checked(own) is own
    assert link(contact=True).checked(replace(own, name="m7")).name == "m7", "who it is is only learnt by asking"
    assert link(crate=True).checked(replace(own, name=None, inc=None)).crate == "m1"


@pytest.mark.parametrize(
    ("asked", "name", "told"),
    [
        (link(), "m2", "m1 was expected"),
        (link(), "", "m1 was expected"),
        (link(), None, "--crate-peer"),
        (link(crate=True), "m1", "--peer"),
        (link(crate=True), "m2", "--peer"),
    ],
)
def test_another_s_answer_is_refused_and_what_to_do_is_said(asked: Link, name: str | None, told: str) -> None:
    with pytest.raises(WrongName, match=told):
        asked.checked(Envelope(sender_id=2, name=name, inc=1))
