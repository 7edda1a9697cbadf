"""The core and the small reference go the same way: same stores, contexts and floors after every step."""

import random

import pytest

from tests.fakes.cluster import MemoryMember, push, sync
from tests.simulation import reference
from tests.simulation.reference import Item
from wavekv.core.collection import collect
from wavekv.core.expiry import TICK_MS
from wavekv.errors import KeyNotFound

NAMES = ("m0", "m1", "m2")
KEYS = "abcde"


class Pair:
    """Three members of each kind, and the same steps for both."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.core = [MemoryMember(index, NAMES) for index in range(3)]
        self.small = [reference.Member(member.replica.identity.node_id, healing=True) for member in self.core]
        self.now = 10_000
        for one in range(3):
            for other in range(3):
                if one != other:
                    self.exchange(one, other)

    def write(self) -> None:
        at, key = self.rng.randrange(3), self.rng.choice(KEYS)
        kind = self.rng.random()
        replica = self.core[at].replica
        replica.store.take_expired(self.now, 100)
        try:
            if kind < 0.35:
                entry, value, expires_at = replica.delete(key, self.now).entry, None, None
            else:
                value = b"%d" % self.rng.randrange(1000)
                expires_at = None
                if kind < 0.5:  # at the end of a tick: within one, the core may tell of it later (core.expiry)
                    expires_at = (self.now + self.rng.choice((50, 500))) // TICK_MS * TICK_MS + TICK_MS - 1
                entry = replica.put(key, value, self.now, expires_at=expires_at).entry
        except KeyNotFound:
            return
        self.core[at].commit()
        reference.write(self.small[at], key, value, entry.dot, self.now, expires_at)

    def push(self) -> None:
        one, other = self.rng.sample(range(3), 2)
        chosen = self.rng.sample(sorted(self.small[one].data), min(2, len(self.small[one].data)))
        push(self.core[one], self.core[other], tuple(self.core[one].store.entries[key] for key in chosen), self.now)
        reference.merge(self.small[other], {key: self.small[one].data[key] for key in chosen})
        reference.named(self.small[other], one, self.small[one])

    def exchange(self, one: int | None = None, other: int | None = None) -> None:
        if one is None or other is None:
            one, other = self.rng.sample(range(3), 2)
        sync(self.core[one], self.core[other], self.now)
        reference.exchange(self.small[one], self.small[other], (one, other), self.now)

    def collect(self) -> None:
        at = self.rng.randrange(3)
        self.core[at].replica.store.take_expired(self.now, 100)
        collect(self.core[at].replica, self.now, 1000)
        self.core[at].commit()
        reference.collect(self.small[at], [index for index in range(3) if index != at], self.now)

    def compare(self) -> None:
        for core, small in zip(self.core, self.small, strict=True):
            held = {key: Item(e.stamp, e.value, e.expires_at) for key, e in core.store.entries.items()}
            assert held == small.data
            assert all(core.store.context.covers(*dot) for dot in small.covered)
            count = sum(core.store.context.acks.values())
            count += sum(last - first + 1 for _, first, last in core.store.context.ranges())
            assert count == len(small.covered)
            assert core.store.floor == small.floor


STEPS = [Pair.write] * 6 + [Pair.push] * 2 + [Pair.exchange] * 5 + [Pair.collect] * 4


@pytest.mark.parametrize("seed", range(40))
def test_core_and_reference_agree_after_every_step(seed: int) -> None:
    pair = Pair(seed)
    for _ in range(120):
        pair.now += pair.rng.randrange(30)
        pair.rng.choice(STEPS)(pair)
        pair.compare()


def test_the_comparison_sees_deletes_collected() -> None:
    pair = Pair(1)
    for _ in range(400):
        pair.now += 10
        pair.rng.choice(STEPS)(pair)
        pair.compare()
    assert sum(member.replica.collected for member in pair.core) > 10
