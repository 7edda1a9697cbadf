"""Losers of concurrent writes: who counts as one, once durable, how many are remembered, and which are told."""

from dataclasses import replace

from tests.fakes.cluster import LIMITS, MemoryMember, cluster, push, sync
from wavekv.core.journal import Journal
from wavekv.core.types import Entry


def losses(member: MemoryMember, key: str) -> list[tuple[str, str]]:
    return [(loss.etag, loss.lost_to) for loss in member.replica.journal.of(key)]


def apart(first: MemoryMember, second: MemoryMember) -> tuple[Entry, Entry]:
    """Return what both wrote under one key, the second later, without hearing of each other."""
    return first.put("k", b"loser", 100), second.put("k", b"winner", 200)


def test_the_loser_s_own_member_remembers_it_when_the_winner_comes() -> None:
    first, second = cluster(2)
    lost, won = apart(first, second)
    sync(first, second)
    (loss,) = first.replica.journal.of("k")
    assert (loss.etag, loss.lost_to, loss.deleted, loss.value_bytes) == (lost.etag, won.etag, False, 5)
    assert loss.seen_ms == 10_000
    sync(second, first)
    assert second.replica.journal.count == 0, "its dot came with a context: the loser itself was gone"


def test_the_winner_s_member_remembers_a_loser_that_reaches_it() -> None:
    first, second = cluster(2)
    lost, won = apart(first, second)
    push(first, second, (lost,))
    assert losses(second, "k") == [(lost.etag, won.etag)]
    push(first, second, (lost,))
    assert second.replica.journal.count == 1, "a duplicate is no second loss"


def test_a_write_that_the_overwriting_member_had_reported_is_no_loser() -> None:
    first, second = cluster(2)
    first.put("k", b"1", 100)
    sync(second, first)
    sync(first, second)
    won = second.put("k", b"2", 200)
    push(second, first, (won,))
    assert first.value("k") == b"2"
    assert first.replica.journal.count == second.replica.journal.count == 0


def test_that_a_third_member_had_it_does_not_mean_that_the_winner_knew() -> None:
    first, second, third = cluster(3)
    lost = first.put("k", b"loser", 100)
    sync(third, first)
    sync(first, third)
    won = second.put("k", b"winner", 200)
    push(second, first, (won,))
    assert losses(first, "k") == [(lost.etag, won.etag)]


def test_what_a_process_overwrote_itself_is_no_loser_when_it_comes_late() -> None:
    first, second = cluster(2)
    old = first.put("k", b"1", 100)
    new = first.put("k", b"2", 200)
    push(first, second, (new,))
    push(first, second, (old,))
    assert second.value("k") == b"2"
    assert second.replica.journal.count == 0


def test_a_delete_may_lose_and_a_value_may_lose_to_one() -> None:
    first, second = cluster(2)
    first.put("k", b"1", 50)
    sync(second, first)
    first.replica.delete("k", 100)
    first.commit()
    deleted = first.store.entries["k"]
    won = second.put("k", b"2", 200)
    push(first, second, (deleted,))
    (loss,) = second.replica.journal.of("k")
    assert (loss.etag, loss.deleted, loss.value_bytes, loss.lost_to) == (deleted.etag, True, 0, won.etag)


def test_losses_count_once_durable_and_an_abandoned_one_not_at_all() -> None:
    first, second = cluster(2)
    lost, won = apart(first, second)
    first.replica.merge([won], 1000)
    assert first.replica.journal.count == 0
    assert first.replica.ready() is not None
    first.replica.merge([Entry("k", b"older", 1, 9, 1)], 1000)
    first.replica.abandon()
    first.commit()
    assert first.replica.journal.count == 0
    first.replica.merge([won], 1000)
    first.commit()
    assert losses(first, "k") == [(lost.etag, won.etag)]


def test_a_staged_loss_waits_for_its_own_group() -> None:
    first, second = cluster(2)
    _, won = apart(first, second)
    first.replica.put("other", b"", 100)
    group = first.replica.ready()
    assert group is not None
    first.replica.merge([won], 1000)
    first.replica.advance(group)
    assert first.replica.journal.count == 0
    first.commit()
    assert first.replica.journal.count == 1


def test_the_newest_losses_are_remembered_and_all_are_counted() -> None:
    member = MemoryMember(0, ("m0",), replace(LIMITS, journal_entries_max=2))
    winner = member.put("k", b"", 500)
    losers = [Entry("k", b"", number, 9, number) for number in (1, 2, 3)]
    member.replica.merge(losers, 1000)
    member.commit()
    assert losses(member, "k") == [(losers[2].etag, winner.etag), (losers[1].etag, winner.etag)]
    assert member.replica.journal.count == 3


def test_a_key_s_losses_are_told_the_newest_first_and_no_other_key_s() -> None:
    journal = Journal(10)
    winner = Entry("a", b"", 9, 1, 9)
    for number, key in enumerate(("a", "b", "a")):
        journal.lost(Entry(key, b"x", number, 1, number), winner, number)
    assert [loss.seen_ms for loss in journal.of("a")] == [2, 0]
    assert journal.of("c") == []
