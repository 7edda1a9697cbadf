"""All that was ever written and what became of it: the record that the checks judge by."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from wavekv.core.context import Context
from wavekv.core.ops import Batch, Clear, DropOrigins, Op, Set, SetExpiring
from wavekv.core.store import Store
from wavekv.core.types import I64_MIN, Dot, Entry, Stamp


class Known(Protocol):
    """What a volume knows of writes: its durable context, and the horizons in its log (R15)."""

    @property
    def horizons(self) -> set[int]:
        """Return the horizons in its log."""
        ...

    def context(self) -> Context:
        """Return what is covered."""
        ...


@dataclass(eq=False)
class Write:
    """One write of a client, by the process that took it.

    Attributes:
        durable: it was on its member's disk once.
        acked: the client was told so.
        lost_once: it was lost after some fault, though a volume that was admitted again may have brought it back.
        lost: no member's volume covered it after a fault that may cost writes.
        orphan: it was taken at a removed member, beside another process of the name, or only removed volumes cover it.
        bare: a collected delete; after a fault no member's volume covers it and all that it superseded (U3).
        post: it was stamped below a collected delete, or taken by a healing member below a greater stamp (U5).
        early: it was taken by a healing member behind some member's horizon: its volume has forgotten a promise (U10).
        forgone: an orphan or an early one that a repair dropped behind a horizon (U10), or superseded by it there.
        dropped: horizons of members that covered it, and have dropped its origin (R15).
    """

    entry: Entry
    name: str
    at_ms: int
    durable: bool = False
    acked: bool = False
    lost: bool = False
    lost_once: bool = False
    orphan: bool = False
    bare: bool = False
    post: bool = False
    early: bool = False
    forgone: bool = False
    dropped: set[int] = field(default_factory=set)

    @property
    def gone(self) -> bool:
        """Tell whether the key reads as absent in the end, when everything has expired that can."""
        return self.entry.value is None or self.entry.expires_at is not None


@dataclass
class History:
    """Writes by dot, by key and by origin; collected deletes; counts of what happened."""

    writes: dict[Dot, Write] = field(default_factory=dict)
    by_key: dict[str, list[Write]] = field(default_factory=dict)
    by_origin: dict[int, list[Write]] = field(default_factory=dict)
    collected: dict[str, Stamp] = field(default_factory=dict)
    """The greatest stamp of each key that was collected as a delete."""
    clocks: dict[str, int] = field(default_factory=dict)
    """The greatest time that each member's clock ever showed."""
    horizons: set[int] = field(default_factory=set)
    horizon: int = I64_MIN
    """The greatest horizon of any member (R15)."""
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, write: Write) -> None:
        """Record a write that was just staged."""
        self.writes[write.entry.dot] = write
        self.by_origin.setdefault(write.entry.origin, []).append(write)
        insort(self.by_key.setdefault(write.entry.key, []), write, key=lambda one: one.entry.stamp)

    def void(self, dots: Iterable[Dot]) -> None:
        """Forget staged writes whose group never reached the disk; their sequences are used again."""
        for dot in sorted(dots, reverse=True):
            write = self.writes.pop(dot)
            self.by_key[write.entry.key].remove(write)
            assert self.by_origin[dot[0]].pop() is write, "sequences are given back in order"

    def made_durable(
        self, records: Iterable[Op], collected: dict[str, Stamp], before: Store, horizons: set[int]
    ) -> None:
        """Note what is in a log now.

        `collected` names the deletes that were forgotten on purpose; `before` and `horizons` are what the log came to.
        """
        for record in records:
            for op in record.ops if isinstance(record, Batch) else (record,):
                if isinstance(op, Set | SetExpiring):
                    write = self.writes.get(op.entry.dot)
                    if write is not None:
                        write.durable = True
                elif isinstance(op, Clear) and op.key in collected:
                    self.counts["deletes collected"] += 1
                    self.collected[op.key] = max(self.collected.get(op.key, collected[op.key]), collected[op.key])
                elif isinstance(op, Clear):
                    self.counts["entries dropped by repair"] += 1
                    self._note_forgone(before, before.entries.get(op.key))
                elif isinstance(op, DropOrigins):
                    self.horizon = max(self.horizon, op.horizon)
                    self._note_dropped(op, before.context, horizons)

    def _note_dropped(self, op: DropOrigins, before: Context, horizons: set[int]) -> None:
        if op.horizon not in self.horizons:  # whoever adopts it learns of all that its maker has dropped
            self.horizons.add(op.horizon)
            for write in self.writes.values():
                if write.dropped & horizons:
                    write.dropped.add(op.horizon)
        for origin, _ in op.origins:
            for write in self.by_origin.get(origin, ()):
                if before.covers(*write.entry.dot):
                    write.dropped.add(op.horizon)

    @staticmethod
    def knows(volume: "Known", write: Write) -> bool:
        """Tell whether a volume covers `write`, or did before its origin was dropped, or adopted that (R15)."""
        return volume.context().covers(*write.entry.dot) or bool(write.dropped & volume.horizons)

    def _note_forgone(self, before: Store, gone: Entry | None) -> None:
        """U10: a repair drops what only removed members held, or an earlier process wrote before it healed."""
        write = self.writes.get(gone.dot) if gone is not None else None
        early = write is not None and write.early and write.entry.origin != before.process.origin
        if write is not None and (write.orphan or early) and write.entry.timestamp <= self.horizon:
            self.counts["writes forgone behind a horizon"] += not write.forgone
            for one in self.by_key[write.entry.key]:  # and what it superseded there
                below = one.entry.stamp < write.entry.stamp and before.context.covers(*one.entry.dot)
                one.forgone |= one is write or below
