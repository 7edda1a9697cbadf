"""The operations a log record can carry, as values. `codec.records` knows their bytes, `store` their meaning.

Indexes 0–8 are the original system's and never change. 9–15 are WaveKV's. Names follow the wire vectors:
`peer` in an acknowledgement is an origin. `StoreBlock` stands for many records, and is never read back as one.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from wavekv.core.block import Block
from wavekv.core.types import Entry


class Set(NamedTuple):
    """0: `entry` (without expiry) is now what its key holds; covers its own dot."""

    entry: Entry


class Clear(NamedTuple):
    """1: the key holds nothing any more."""

    key: str


class UpdatePeerAck(NamedTuple):
    """2: what the peer reported of our sequence; read from crate logs, never written."""

    peer: int
    ack: int
    monotonic: bool


class UpdateLocalAck(NamedTuple):
    """3: everything of origin `peer` up to `ack` is covered; written with monotonic = True."""

    peer: int
    ack: int
    monotonic: bool = True


class PushPeerLog(NamedTuple):
    """4: an entry of a 1.x peer log; read from crate logs, never written."""

    peer: int
    entry: Entry
    max_entries: int


class IncrementSeq(NamedTuple):
    """5: the next sequence moves by one; read from crate logs, never written."""


class SetNextSeq(NamedTuple):
    """6: the next own sequence is at least `seq`. The first record of every commit group."""

    seq: int


class AddPeer(NamedTuple):
    """7: membership of a crate node."""

    peer: int


class RemovePeer(NamedTuple):
    """8: membership of a crate node."""

    peer: int


class SetExpiring(NamedTuple):
    """9: like Set, for an entry whose `expires_at` is not None."""

    entry: Entry


class Batch(NamedTuple):
    """10: operations 0, 1 and 9 that are recovered all or not at all."""

    ops: tuple["Set | Clear | SetExpiring", ...]


class Cover(NamedTuple):
    """11: dots `first`…`last` of `origin` are covered though nothing is stored for them (losers)."""

    origin: int
    first: int
    last: int


class Floor(NamedTuple):
    """12: new stamps of absent keys lie above this timestamp (ms), rule R1."""

    timestamp: int


class Process(NamedTuple):
    """13: process number `inc` runs on this directory and writes under `origin` (0: it has not written yet), R7."""

    inc: int
    origin: int
    healing: bool


class Promise(NamedTuple):
    """14: what this directory will write from now on is stamped above `timestamp` (ms), rule R15."""

    timestamp: int


class DropOrigins(NamedTuple):
    """15: what is not covered and not stamped above `horizon` (ms) is dead; `origins` are covered no more (R15).

    `origins` holds each with the greatest of its sequences that was covered, for sessions. Such a record promises
    `horizon`, too.
    """

    horizon: int
    origins: tuple[tuple[int, int], ...] = ()


class StoreBlock(NamedTuple):
    """What another member sent of keys that held nothing here: a Set or SetExpiring record for each entry."""

    block: Block


_KEYED: Final = (Set, SetExpiring, Clear, Batch, StoreBlock)
"""Those that change what keys hold; the others say what is covered, and of the process."""
_COPIED_SHIFT: Final = 13

Agreed = Promise | DropOrigins
"""What R15 logs."""

Op = (
    Set
    | Clear
    | UpdatePeerAck
    | UpdateLocalAck
    | PushPeerLog
    | IncrementSeq
    | SetNextSeq
    | AddPeer
    | RemovePeer
    | SetExpiring
    | Batch
    | Cover
    | Floor
    | Process
    | Promise
    | DropOrigins
    | StoreBlock
)


def storing(entry: Entry) -> Set | SetExpiring:
    """Return the operation that stores `entry`."""
    return Set(entry) if entry.expires_at is None else SetExpiring(entry)


def parted(ops: Iterable[Op], most: int) -> Iterator[list[Op]]:
    """Yield `ops` in parts that take about as long to show as `most` small entries.

    None begins between two operations that say what is covered: a part of an adopted context would pass for a whole
    one in a report (R5).
    """
    part: list[Op] = []
    left = most
    for op in ops:
        if left <= 0 and isinstance(op, _KEYED):
            yield part
            part, left = [], most
        part.append(op)
        left -= _cost(op)
    yield part


def _cost(op: Op) -> int:
    """Return what showing `op` takes, in entries: a long value is copied, 8 KiB of it in the time of a short one."""
    if isinstance(op, Set | SetExpiring):
        return 1 + (len(op.entry.value or b"") >> _COPIED_SHIFT)
    if isinstance(op, Batch):
        return sum(map(_cost, op.ops))
    return 1


def as_records(ops: Iterable[Op]) -> Iterator[Op]:
    """Yield the operations as a log has them, one for each record."""
    for op in ops:
        if type(op) is StoreBlock:
            yield from map(storing, op.block.unpacked())
        else:
            yield op


def record_count(ops: Iterable[Op]) -> int:
    """Return how many records `ops` are in the log."""
    return sum(len(op.block) if type(op) is StoreBlock else 1 for op in ops)
