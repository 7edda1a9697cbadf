"""What a log says beside its entries: coverage, floor, the next own sequence, the process. One fold for all readers.

The running member, recovery and compaction all fold operations with this class, so a snapshot carries the very context
that a replay of the same log would come to (R2).
"""

from typing import Final

from wavekv.core.context import Context
from wavekv.core.ops import (
    Cover,
    Floor,
    IncrementSeq,
    Op,
    Process,
    PushPeerLog,
    SetNextSeq,
    UpdateLocalAck,
)
from wavekv.core.types import I64_MIN

NO_PROCESS: Final = Process(0, 0, False)


class Standing:
    """Context, floor, next sequence and process of one directory; `apply` takes every operation but 0, 1, 9 and 10."""

    __slots__ = ("context", "floor", "next_seq", "process")

    def __init__(self) -> None:
        self.context = Context()
        self.floor = I64_MIN
        self.next_seq = 1
        self.process = NO_PROCESS

    def stored(self, origin: int, seq: int) -> None:
        """An entry with this dot was stored: it is covered, and an own sequence is used up."""
        self.context.add(origin, seq)
        if origin == self.process.origin and seq >= self.next_seq:
            self.next_seq = seq + 1

    def stored_run(self, origin: int, first: int, last: int) -> None:
        """Entries with the sequences `first`…`last` were stored, all of them."""
        self.context.add_range(origin, first, last)
        if origin == self.process.origin and last >= self.next_seq:
            self.next_seq = last + 1

    def apply(self, op: Op) -> None:
        """Fold one operation that stores or clears nothing; what a crate node knew of its peers is not kept."""
        match op:
            case SetNextSeq(seq):
                self.next_seq = max(self.next_seq, seq)
            case UpdateLocalAck(origin, ack):
                self.context.add_range(origin, 1, ack)
            case Cover(origin, first, last):
                self.context.add_range(origin, first, last)
            case Floor(timestamp):
                self.floor = max(self.floor, timestamp)
            case Process(_, origin, _):
                if origin != self.process.origin:
                    self.next_seq = 1
                self.process = op
            case PushPeerLog(origin, entry):
                self.context.add_range(origin, 1, entry.seq)
            case IncrementSeq():
                self.next_seq += 1
