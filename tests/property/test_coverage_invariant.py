"""I1 and I2 in every state of random schedules: paged rounds cut into single messages, late pushes, crashes, rollbacks.

Whoever covers a write holds its key with a stamp at least as great, or nothing, and a delete at least as great was
collected; a dot names one write. Messages may be delivered late or twice, a round may be abandoned between any two of
its messages, a process may die with a group under way, and a volume may come back at any earlier group. In the end all
hold the same, and no delete.
"""

import random
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.cluster import LIMITS, MemoryMember, collect, contents, sync, wire
from wavekv.core import exchange
from wavekv.core.messages import Envelope
from wavekv.core.types import Dot, Entry, Stamp
from wavekv.errors import PeerError

NAMES = ("m0", "m1", "m2")
KEYS = "abcdef"
TINY = replace(LIMITS, page_entries_max=2, changes_max=6)


@dataclass
class World:
    """Three members, what was ever written, and the messages under way."""

    rng: random.Random
    members: list[MemoryMember] = field(default_factory=lambda: [MemoryMember(i, NAMES, TINY) for i in range(3)])
    written: dict[Dot, Entry] = field(default_factory=dict)
    collected: dict[str, Stamp] = field(default_factory=dict)
    blind: set[Dot] = field(default_factory=set)
    """Writes of a member that had not healed, below what its volume once knew: any outcome is fine (U5)."""
    rounds: list[tuple[int, int, exchange.Round, Envelope | None]] = field(default_factory=list)
    pushes: list[tuple[int, Envelope]] = field(default_factory=list)
    now: int = 1000

    def note(self, member: MemoryMember, entry: Entry) -> None:
        older = [known for known in self.written.values() if known.key == entry.key and known.stamp > entry.stamp]
        if member.replica.healing and (older or self.collected.get(entry.key, entry.stamp) > entry.stamp):
            self.blind.add(entry.dot)
        assert self.written.setdefault(entry.dot, entry) == entry, "I2: one dot, one write"

    def write(self) -> None:
        member, key = self.rng.choice(self.members), self.rng.choice(KEYS)
        if member.value(key) is not None and self.rng.random() < 0.3:
            self.note(member, member.delete(key, self.now))
        else:
            self.note(member, member.put(key, bytes([self.now % 256]), self.now))

    def collect(self) -> None:
        for entry in collect(self.rng.choice(self.members), self.now):
            self.collected[entry.key] = max(entry.stamp, self.collected.get(entry.key, entry.stamp))

    def lose_a_group(self) -> None:
        member = self.rng.choice(self.members)
        member.replica.put(self.rng.choice(KEYS), b"never durable", self.now)
        member.replica.ready()
        member.replica.put(self.rng.choice(KEYS), b"staged behind it", self.now)
        member.replica.abandon()
        member.commit()

    def push(self) -> None:
        sender = self.rng.choice(self.members)
        held = list(sender.store.entries.values())
        chosen = tuple(self.rng.sample(held, min(len(held), 2)))
        message = exchange.push_message(sender.replica, chosen, {}, self.now)
        self.pushes.append((self.rng.choice([i for i in range(3) if i != sender.index]), wire(message)))

    def deliver_push(self) -> None:
        if self.pushes:
            to, message = self.rng.choice(self.pushes)
            if self.rng.random() < 0.8:
                self.pushes.remove((to, message))
            self.attempt(lambda: exchange.receive_push(self.members[to].replica, message, self.now))
            self.members[to].commit()

    def attempt(self, step: object) -> bool:
        try:
            step()  # type: ignore[operator]
        except PeerError:  # a message of a process that is no more
            return False
        return True

    def begin_round(self) -> None:
        a, b = self.rng.sample(range(3), 2)
        self.rounds.append((a, b, exchange.Round(self.members[a].replica, NAMES[b], NAMES[b]), None))

    def go_on_with_a_round(self) -> None:
        if not self.rounds:
            return
        at = self.rng.randrange(len(self.rounds))
        a, b, current, answer = self.rounds.pop(at)
        if current._replica is not self.members[a].replica:
            return  # its process is gone
        if answer is not None:
            if self.attempt(lambda: current.receive(answer, self.now)) and not current.done:
                self.rounds.append((a, b, current, None))
            self.members[a].commit()
            return
        request, responder = wire(current.request(self.now)), self.members[b]
        if self.attempt(lambda: exchange.receive_request(responder.replica, request, self.now)):
            responder.commit()
            self.rounds.append((a, b, current, wire(exchange.answer(responder.replica, request, self.now))))

    def restart(self) -> None:
        member = self.rng.choice(self.members)
        kept = self.rng.randrange(1, len(member.log) + 1) if self.rng.random() < 0.4 else None
        member.restart(kept)

    def check(self) -> None:
        for member in self.members:
            for dot, entry in self.written.items():
                if member.store.context.covers(*dot):
                    held = member.store.entries.get(entry.key)
                    if held is None:
                        known = self.collected.get(entry.key)
                        assert known is not None, (member.index, entry)
                        assert known >= entry.stamp or dot in self.blind, (member.index, entry, known)
                    else:
                        assert held.stamp >= entry.stamp or held.dot in self.blind, (member.index, entry, held)


STEPS = [World.write] * 5 + [World.go_on_with_a_round] * 6 + [
    World.collect, World.collect, World.begin_round, World.push, World.deliver_push, World.restart, World.lose_a_group
]  # fmt: skip


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_whoever_covers_a_write_holds_it_or_something_newer(seed: int) -> None:
    world = World(random.Random(seed))
    for _ in range(120):
        world.now += world.rng.randrange(-3, 10)
        world.rng.choice(STEPS)(world)
        world.check()
    for _ in range(8):  # one other's word is not enough for what a third wrote
        for a in world.members:
            for b in world.members:
                if a is not b:
                    sync(a, b, world.now)
        for _ in range(6):
            world.collect()
        world.check()
    for member in world.members:
        collect(member, world.now)
        assert not member.store.deletes(), "deletes do not pile up"
    assert contents(world.members[0]) == contents(world.members[1]) == contents(world.members[2])
    assert world.members[0].store.buckets.snapshot() == world.members[1].store.buckets.snapshot()
