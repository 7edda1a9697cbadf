"""What the replica's steps return: a commit group, staged writes, what became of merged entries."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from wavekv.core.ops import Batch, Clear, Op, Set, SetExpiring, as_records, record_count
from wavekv.core.types import Entry


class Group(NamedTuple):
    """Operations that become durable together; `ticket` is the last that they fulfil.

    `withdrawn` are the keys among those removed whose value readers could see until now: repair found it deleted.
    """

    ops: tuple[Op, ...]
    next_seq: int
    ticket: int
    withdrawn: frozenset[str] = frozenset()

    @property
    def record_count(self) -> int:
        """How many records of the log the operations are, less the one that begins the group."""
        return record_count(self.ops)

    def stored(self) -> Iterator[Entry]:
        """Yield the entries that become visible, in order."""
        return _entries(as_records(self.ops))

    def written(self) -> Iterator[Entry]:
        """Yield those that do not come in blocks, which hold nothing that this process wrote."""
        return _entries(self.ops)


def _entries(ops: Iterable[Op]) -> Iterator[Entry]:
    for op in ops:
        if isinstance(op, Set | SetExpiring):
            yield op.entry
        elif isinstance(op, Batch):
            yield from (one.entry for one in op.ops if not isinstance(one, Clear))


class Staged(NamedTuple):
    """A local write that waits for `ticket`: the entry, and what live one its key held before."""

    ticket: int
    entry: Entry
    previous: Entry | None

    @property
    def created(self) -> bool:
        """Tell whether the key held no live value before."""
        return self.previous is None


class StagedBatch(NamedTuple):
    """Local writes that wait for one ticket, in the order asked; None where a delete found nothing."""

    ticket: int
    writes: list[Staged | None]


class Refusal(NamedTuple):
    """An entry that was refused on merge: why, of which key and stamp (ms), by whom it was sent, and when (ms)."""

    code: str
    key: str
    timestamp: int
    sender: str
    seen_ms: int


T = TypeVar("T")
Slices = Generator[None, None, T]
"""Work for one request, cut in pieces that are short each; whoever runs it lets others have a turn in between."""


def whole(slices: Slices[T]) -> T:
    """Do all of it in one turn; return what it returns."""
    while True:
        try:
            next(slices)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]


@dataclass(slots=True)
class Merged:
    """What became of another member's entries; they are safe once `ticket` is durable."""

    ticket: int = 0
    stored: int = 0
    news: list[Entry] = field(default_factory=list)
    """Of a push, what won: worth telling others."""
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, more: "Merged") -> None:
        """Count what became of further entries, too."""
        self.ticket = more.ticket
        self.stored += more.stored
        self.news += more.news
        self.refused.update(more.refused)
