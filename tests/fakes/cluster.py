"""Replicas without a process: commits in memory, messages by hand. Every message is serialised, as on the wire."""

import random
import uuid
from dataclasses import replace

from tests.fakes.documents import FakeVerifier
from wavekv.config import Limits
from wavekv.core import collection, exchange
from wavekv.core.block import Block
from wavekv.core.codec.envelope import decode_envelope, encode_envelope
from wavekv.core.identity import Identity
from wavekv.core.membership import Epoch, Membership
from wavekv.core.messages import Envelope
from wavekv.core.ops import Op, as_records
from wavekv.core.replica import Replica
from wavekv.core.steps import Merged
from wavekv.core.store import Store
from wavekv.core.types import Entry

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
LIMITS = Limits()


class SeededRng:
    """The core's randomness from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def random_u32(self) -> int:
        return self._random.getrandbits(32)


class MemoryMember:
    """A replica and its log, which is a list; `restart` replays it into a new process."""

    def __init__(self, index: int, names: tuple[str, ...], limits: Limits = LIMITS, epoch: Epoch | None = None) -> None:
        self.index = index
        self.names = names
        self.limits = limits
        self.epoch = epoch
        self.crates: tuple[str, ...] = ()
        self.log: list[Op] = []
        self.inc = 0
        self.restart()

    def restart(self, keep: int | None = None) -> None:
        """Begin a new process on the log, cut to its first `keep` operations if given (a volume rolled back)."""
        if keep is not None:
            del self.log[keep:]
        store = Store(self.limits.changes_max)
        for op in self.log:
            store.apply(op)
        name, node_id = self.names[self.index], self.index + 1
        self.inc = max(self.inc, store.process.inc) + 1
        first = node_id if self.inc == 1 else None
        identity = Identity(name, node_id, uuid.UUID(int=node_id).bytes, self.inc, first)
        membership = self._membership()
        self.replica = Replica(identity, store, membership, self.limits, SeededRng(self.inc * 1000 + node_id))
        self.replica.writable = None
        self.commit()

    def _membership(self) -> Membership:
        names = (*self.names, *self.crates)
        return Membership(
            self.names[self.index], CLUSTER, self.epoch, names, crates=self.crates, verifier=FakeVerifier()
        )

    def configure_crates(self, *names: str) -> None:
        """Let nodes of the original system be served from now on, as `--crate-peer` does."""
        self.crates = names
        self.replica.membership = self._membership()

    @property
    def store(self) -> Store:
        return self.replica.store

    def commit(self) -> None:
        """Make everything staged durable."""
        while (group := self.replica.ready()) is not None:
            self.log.extend(as_records(group.ops))
            self.replica.advance(group)

    def put(self, key: str, value: bytes, now_ms: int) -> Entry:
        staged = self.replica.put(key, value, now_ms)
        self.commit()
        return staged.entry

    def delete(self, key: str, now_ms: int) -> Entry:
        staged = self.replica.delete(key, now_ms)
        self.commit()
        return staged.entry

    def value(self, key: str, now_ms: int = 0) -> bytes | None:
        entry = self.store.get(key, now_ms)
        return entry.value if entry else None


def cluster(size: int, limits: Limits = LIMITS, *, healing: bool = True) -> list[MemoryMember]:
    """Return members that start, or that have healed since they started."""
    names = tuple(f"m{index}" for index in range(size))
    members = [MemoryMember(index, names, limits) for index in range(size)]
    for member in members if not healing else ():
        member.replica.end_healing()
        member.commit()
    return members


def collect(member: MemoryMember, now_ms: int) -> list[Entry]:
    """Let `member` collect what it may; return what it forgot."""
    before = contents(member)
    collection.collect(member.replica, now_ms, 1000)
    member.commit()
    return [before[key] for key in before if key not in member.store.entries]


def merge_block(replica: Replica, block: Block, now_ms: int, sender: str = "") -> Merged:
    """Merge what a message has that carries nothing but a block."""
    stored, others = replica.take_block(block, now_ms)
    merged = replica.merge(others, now_ms, sender=sender)
    merged.stored += stored
    return merged


def wire(message: Envelope) -> Envelope:
    """Return `message` as its receiver decodes it."""
    return decode_envelope(encode_envelope(message))


def answer_to(responder: MemoryMember, request: Envelope, now_ms: int) -> Envelope:
    exchange.receive_request(responder.replica, wire(request), now_ms)
    responder.commit()
    return wire(exchange.answer(responder.replica, wire(request), now_ms))


def sync(requester: MemoryMember, responder: MemoryMember, now_ms: int = 10_000) -> int:
    """Run one round to its end; return how many requests it took."""
    name = responder.replica.identity.name
    current = exchange.Round(requester.replica, name, name)
    requests = 0
    while not current.done:
        requests += 1
        assert requests < 10_000, "the round does not end"
        current.receive(answer_to(responder, current.request(now_ms), now_ms), now_ms)
        requester.commit()
    return requests


def push(sender: MemoryMember, receiver: MemoryMember, entries: tuple[Entry, ...], now_ms: int = 10_000) -> None:
    message = exchange.push_message(sender.replica, entries, {}, now_ms)
    exchange.receive_push(receiver.replica, wire(message), now_ms)
    receiver.commit()


def contents(member: MemoryMember) -> dict[str, Entry]:
    return dict(sorted(member.store.entries.items()))


def as_crate(message: Envelope) -> Envelope:
    """Return `message` as a crate node would send it: without any of WaveKV's fields."""
    return replace(
        message, name=None, inc=None, since=None, dots={}, healing=False, floor=None, now_ms=None, epoch=None,
        members=None, buckets=None, page_pos=None, cluster_id=None,
    )  # fmt: skip
