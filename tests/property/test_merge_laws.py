"""Merging is commutative, associative and idempotent, and random schedules converge (G3)."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.cluster import MemoryMember, cluster, contents, push, sync
from wavekv.core.types import Entry, beats

VALUES = st.none() | st.binary(max_size=2)
EXPIRIES = st.none() | st.integers(0, 3)
ENTRIES = st.builds(
    Entry, st.sampled_from("ab"), VALUES, st.integers(0, 3), st.integers(1, 2), st.integers(1, 4), EXPIRIES
)


def held_after(entries: list[Entry]) -> dict[str, Entry]:
    member = MemoryMember(0, ("m0",))
    member.replica.merge(entries, 10_000)
    member.commit()
    return contents(member)


def dots_are_unique(entries: list[Entry]) -> list[Entry]:
    """Keep one entry a dot: a dot names one write (I2)."""
    return list({entry.dot: entry for entry in entries}.values())


@given(st.lists(ENTRIES, max_size=8).map(dots_are_unique), st.randoms(use_true_random=False))
def test_the_order_and_repetition_of_messages_decide_nothing(entries: list[Entry], rng: random.Random) -> None:
    expected = held_after(entries)
    shuffled = entries + entries
    rng.shuffle(shuffled)
    assert held_after(shuffled) == expected
    for key, entry in expected.items():
        assert not any(beats(other, entry) for other in entries if other.key == key)


@given(ENTRIES, ENTRIES)
def test_exactly_one_of_two_different_entries_of_a_key_wins(left: Entry, right: Entry) -> None:
    assert beats(left, right) + beats(right, left) == (left[1:] != right[1:])


def everybody_speaks(members: list[MemoryMember]) -> None:
    for member in members:
        for other in members:
            if other is not member:
                sync(member, other)


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_random_schedules_with_restarts_converge_once_everybody_has_spoken(seed: int) -> None:
    rng = random.Random(seed)
    members = cluster(3)
    acknowledged: dict[str, Entry] = {}
    now = 1000
    for step in range(60):
        now += rng.randrange(-5, 20)
        member = rng.choice(members)
        act = rng.random()
        key = rng.choice("abcde")
        if act < 0.5:
            entry = member.put(key, str(step).encode(), now)
            acknowledged[key] = max(acknowledged.get(key, entry), entry, key=lambda e: e.stamp)
        elif act < 0.6 and member.value(key) is not None:
            entry = member.delete(key, now)
            acknowledged[key] = max(acknowledged.get(key, entry), entry, key=lambda e: e.stamp)
        elif act < 0.75:
            other = rng.choice([m for m in members if m is not member])
            push(
                member, other, tuple(rng.sample(list(member.store.entries.values()), min(2, len(member.store.entries))))
            )
        elif act < 0.95:
            sync(member, rng.choice([m for m in members if m is not member]))
        else:
            member.restart()
    for _ in range(2):
        everybody_speaks(members)
    assert contents(members[0]) == contents(members[1]) == contents(members[2]) == dict(sorted(acknowledged.items()))
    for _ in range(6):  # the word of two on an ended process takes rounds of its own (decision 38)
        everybody_speaks(members)
    assert members[0].store.context == members[1].store.context == members[2].store.context
    assert members[0].store.buckets.snapshot() == members[2].store.buckets.snapshot()
