"""The losers of concurrent writes, remembered for `explain`: which stamp lost to which, never the value.

Last-writer-wins drops them without a word to their writers; here is the word. A loser is a write that this member saw
lose while the winner need not have known of it: one of another process that arrives behind a greater stamp, and one of
this process that is overwritten by an entry from a member that had not reported it. So one that travelled far may stand
here although its winner knew it, and one may be missing whose winner was first heard of from a third member. Losses
count once they are durable. The newest are kept; all are counted.
"""

from collections import deque
from typing import NamedTuple

from wavekv.core.types import Entry


class Loss(NamedTuple):
    """One loser: what it was, the stamp that it lost to (as an entity tag), and when (ms) this was seen."""

    key: str
    etag: str
    deleted: bool
    value_bytes: int
    lost_to: str
    seen_ms: int


class Journal:
    """The newest losses of one member."""

    def __init__(self, entries_max: int) -> None:
        self._losses: deque[Loss] = deque(maxlen=entries_max)
        self.count = 0
        """Losses seen since the process started."""

    def lost(self, loser: Entry, winner: Entry, now_ms: int) -> None:
        """Remember that `loser` lost to `winner`."""
        self.count += 1
        size = len(loser.value or b"")
        self._losses.append(Loss(loser.key, loser.etag, loser.value is None, size, winner.etag, now_ms))

    def of(self, key: str) -> list[Loss]:
        """Return the remembered losses of `key`, the newest first."""
        return [loss for loss in reversed(self._losses) if loss.key == key]
