"""The rules once more, as small as they can be: pure functions over dicts and sets, to compare the core with.

A context is the set of covered dots, without acks; a store is a dict. No pages, no logs, no processes: what the core
does about those must not show. Each function names its rule; none shares code with the core.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

Dot = tuple[int, int]
Stamp = tuple[int, int, int]


class Item(NamedTuple):
    """One write: its stamp `(timestamp, origin, seq)`, its value (None: a tombstone), when it expires (ms)."""

    stamp: Stamp
    value: bytes | None
    expires_at: int | None = None

    @property
    def dot(self) -> Dot:
        """Return the write's name."""
        return self.stamp[1:]

    def dead(self, now_ms: int) -> bool:
        """Tell whether it reads as absent."""
        return self.value is None or (self.expires_at is not None and self.expires_at <= now_ms)


@dataclass
class Known:
    """What a member last heard of another: a context it has covered whole, and the clock that came with it."""

    context: frozenset[Dot]
    clock_ms: int


@dataclass
class Member:
    """The state that the rules speak of; `origin` names its writes."""

    origin: int
    data: dict[str, Item] = field(default_factory=dict)
    covered: set[Dot] = field(default_factory=set)
    floor: int = -(2**63)
    healing: bool = False
    heard: dict[int, Known] = field(default_factory=dict)
    included: dict[int, Known] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    sure: dict[int, int] = field(default_factory=dict)
    words: dict[int, tuple[int, int]] = field(default_factory=dict)

    def ack(self, origin: int) -> int:
        """Return the sequence of `origin` up to which all is covered."""
        return next(seq for seq in count(1) if (origin, seq) not in self.covered) - 1


def write(member: Member, key: str, value: bytes | None, dot: Dot, now_ms: int, expires_at: int | None = None) -> None:
    """R1: stamp above what the key holds, or above the floor."""
    held = member.data.get(key)
    least = member.floor if held is None else held.stamp[0]
    member.data[key] = Item((max(now_ms, least + 1), *dot), value, expires_at)
    member.covered.add(dot)


def merge(member: Member, items: dict[str, Item]) -> None:
    """R4, R2: the greatest stamp wins; what is covered does not come back over nothing; every dot is remembered."""
    for key, item in items.items():
        held = member.data.get(key)
        known = item.dot in member.covered
        if not (known and held is None) and (held is None or item.stamp > held.stamp):
            member.data[key] = item
        member.covered.add(item.dot)


def delta(member: Member, context: set[Dot]) -> dict[str, Item]:
    """R3: all that a context does not cover."""
    return {key: item for key, item in member.data.items() if item.dot not in context}


class Told(NamedTuple):
    """What a member says of itself at one instant."""

    index: int
    origin: int
    covered: frozenset[Dot]
    acks: dict[int, int]
    floor: int


def told(member: Member, index: int) -> Told:
    """Return what the member at place `index` says now."""
    acks = {origin: member.ack(origin) for origin, _ in member.covered}
    return Told(index, member.origin, frozenset(member.covered), acks, member.floor)


def named(member: Member, index: int, other: Member) -> None:
    """R3: know whose an origin is; every message says so."""
    member.owners[other.origin] = index


def attest(member: Member, said: Told) -> None:
    """R3: after a complete delta, believe a member what it says of its own writes."""
    member.sure[said.origin] = max(member.sure.get(said.origin, 0), said.acks.get(said.origin, 0))


def hear(member: Member, index: int, other: Member, clock_ms: int) -> None:
    """R5: keep what another covers, as of now."""
    member.heard[index] = Known(frozenset(other.covered), clock_ms)
    named(member, index, other)


def include(member: Member) -> None:
    """R5 (2): the newest report counts if its context is covered here, else the last one of which that was seen."""
    for index, known in member.heard.items():
        if known.context <= member.covered:
            member.included[index] = known


def adopt(member: Member, said: Told) -> None:
    """R3: cover all that another covers, whose delta was merged; of a third one only what it, or two others, told."""
    for origin, ack in said.acks.items():
        if member.owners.get(origin, said.index) != said.index and ack > member.ack(origin):
            first, furthest = member.words.get(origin, (said.index, 0))
            sure = max(member.sure.get(origin, 0), 0 if first == said.index else min(furthest, ack))
            member.covered |= {(origin, seq) for seq in range(1, min(sure, ack) + 1)}
            member.words[origin] = (said.index, ack) if ack > furthest else (first, furthest)
    member.covered |= {dot for dot in said.covered if member.owners.get(dot[0], said.index) == said.index}
    member.floor = max(member.floor, said.floor)


def exchange(requester: Member, responder: Member, places: tuple[int, int], now_ms: int) -> None:
    """R3, R6: one whole round: ask, take, give, and compare lists where the requester heals.

    The question says all that the requester covers, and may be adopted, if by the last report the other lacks nothing.
    """
    asking, asked = places
    last = requester.heard.get(asked)
    gives = bool(delta(requester, set(last.context) if last is not None else set()))
    hear(responder, asking, requester, now_ms)
    if not gives:
        receive(responder, told(requester, asking))
    merge(requester, delta(responder, requester.covered))
    hear(requester, asked, responder, now_ms)
    said = told(responder, asked)
    attest(requester, said)
    if not requester.healing:
        adopt(requester, said)
    if gives:
        merge(responder, delta(requester, responder.covered))
        hear(responder, asking, requester, now_ms)
        receive(responder, told(requester, asking))
        hear(requester, asked, responder, now_ms)
    if requester.healing:
        repair(requester, responder)
        adopt(requester, said)
        requester.healing = False


def receive(member: Member, said: Told) -> None:
    """R3: take a context that may be adopted, unless this member heals."""
    attest(member, said)
    if not member.healing:
        adopt(member, said)


def repair(member: Member, other: Member) -> None:
    """R6: drop what the other does not hold and covers; take what it holds newer."""
    for key, item in other.data.items():
        if key in member.data and item.stamp > member.data[key].stamp:
            merge(member, {key: item})
    for key in [key for key, item in member.data.items() if key not in other.data and item.dot in other.covered]:
        member.floor = max(member.floor, member.data.pop(key).stamp[0])


def collect(member: Member, others: list[int], now_ms: int) -> None:
    """R5, R11: forget the deletes that every other member covers, by reports covered here."""
    include(member)
    if not all(index in member.included for index in others):
        return
    for key, item in list(member.data.items()):
        if not item.dead(now_ms) or not all(item.dot in member.included[index].context for index in others):
            continue
        if item.value is None or all(member.included[index].clock_ms >= (item.expires_at or 0) for index in others):
            member.floor = max(member.floor, item.stamp[0])
            del member.data[key]
