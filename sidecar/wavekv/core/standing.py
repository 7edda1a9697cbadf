"""What a log says beside its entries: coverage, floor, the next own sequence, the process. One fold for all readers.

The running member, recovery and compaction all fold operations with this class, so a snapshot carries the very context
that a replay of the same log would come to (R2).
"""

from itertools import islice
from typing import Final

from wavekv.core.context import Context
from wavekv.core.ops import (
    Cover,
    DropOrigins,
    Floor,
    IncrementSeq,
    Op,
    Process,
    Promise,
    PushPeerLog,
    SetNextSeq,
    UpdateLocalAck,
)
from wavekv.core.types import I64_MIN, U64_MAX

DROPPED_MAX: Final = 65_536
"""Dropped origins remembered, the newest: sessions that name them count as covered (R13), late reports are not waited
for. About 100 bytes each, and 12 in a snapshot."""
NO_PROCESS: Final = Process(0, 0, False)


class Standing:
    """Context, floor, next sequence and process of one directory; `apply` takes every operation but 0, 1, 9 and 10.

    Attributes:
        promised: what is written here from now on is stamped above (ms), R15.
        horizon: what is not covered and not stamped above (ms) is dead, R15.
        dropped: origin → greatest covered sequence of the origins dropped last.
    """

    __slots__ = ("context", "dropped", "floor", "horizon", "next_seq", "process", "promised")

    def __init__(self) -> None:
        self.context = Context()
        self.floor = self.promised = self.horizon = I64_MIN
        self.dropped: dict[int, int] = {}
        self.next_seq = 1
        self.process = NO_PROCESS

    def stored(self, origin: int, seq: int) -> None:
        """An entry with this dot was stored: it is covered, and an own sequence is used up."""
        self.context.add(origin, seq)
        if origin == self.process.origin:
            self.used(seq)

    def used(self, seq: int) -> None:
        """An own sequence is used up; one that no process reaches is damage, and not counted on from."""
        if self.process.origin and self.next_seq <= seq < U64_MAX:
            self.next_seq = seq + 1

    def apply(self, op: Op) -> None:
        """Fold one operation that stores or clears nothing; what a crate node knew of its peers is not kept."""
        if type(op) is UpdateLocalAck:  # these two first: an adopted context has thousands
            self.context.add_range(op.peer, 1, op.ack)
            return
        if type(op) is Cover:
            self.context.add_range(*op)
            return
        match op:
            case SetNextSeq(seq):
                self.next_seq = max(self.next_seq, seq)
            case Floor(timestamp):
                self.floor = max(self.floor, timestamp)
            case Process(_, origin, _):
                if origin != self.process.origin:
                    self.next_seq = 1
                self.process = op
            case Promise(timestamp):
                self.promised = max(self.promised, timestamp)
            case DropOrigins(horizon, origins):
                self._drop(horizon, origins)
            case PushPeerLog(origin, entry):
                self.context.add_range(origin, 1, entry.seq)
            case IncrementSeq():
                self.next_seq += 1

    def _drop(self, horizon: int, origins: tuple[tuple[int, int], ...]) -> None:
        self.horizon, self.promised = max(self.horizon, horizon), max(self.promised, horizon)
        self.context.drop(origin for origin, _ in origins)
        for origin, seq in origins:
            self.dropped.pop(origin, None)
            self.dropped[origin] = seq
        for origin in list(islice(self.dropped, max(len(self.dropped) - DROPPED_MAX, 0))):
            del self.dropped[origin]
