"""Volumes: what of a member outlives its process. The usual one is a list of commit groups in memory.

A group reaches the list when its sync is done. A crash before that leaves a prefix of the records of the group under
way (a batch is one record). `MEMBERSHIP`, which production replaces atomically beside the log, is an item of the same
list, so that a restored backup brings back both as they were at one moment.
"""

import random
import uuid
from typing import NamedTuple

from wavekv.core.codec.records import decode_op, encode_op
from wavekv.core.context import Context
from wavekv.core.loading import loader_over
from wavekv.core.ops import Batch as BatchOp
from wavekv.core.ops import DropOrigins, Op, Set, SetExpiring, SetNextSeq, as_records
from wavekv.core.standing import Standing
from wavekv.core.steps import Group
from wavekv.core.store import Store
from wavekv.errors import DiskFull
from wavekv.runtime.epoch_file import Kept


class Identity(NamedTuple):
    """What a new directory is given for life."""

    node_id: int
    uuid: bytes


class Recovered(NamedTuple):
    """What a start finds."""

    store: Store
    damaged: bool
    first_process: bool


def records_of(group: Group) -> tuple[Op, ...]:
    """Return the records of a group as the log has them."""
    return (SetNextSeq(group.next_seq), *as_records(group.ops))


def holds_value(op: Op) -> bool:
    """Tell whether a record needs room for a value; the reserve takes the others on a full volume."""
    if isinstance(op, BatchOp):
        return any(holds_value(one) for one in op.ops)
    return isinstance(op, Set | SetExpiring) and op.entry.value is not None


class MemoryVolume:
    """A log in memory that loses what was not synced."""

    def __init__(self, rng: random.Random, changes_max: int) -> None:
        self._rng = rng
        self._changes_max = changes_max
        self.identity = Identity(rng.getrandbits(32) or 1, uuid.UUID(int=rng.getrandbits(128)).bytes)
        self.items: list[Op | Kept] = []
        self.boots = 0
        self.full = False
        self.damaged = False
        self._group: Group | None = None
        self._standing: Standing | None = None
        self._folded = 0
        self._horizons: set[int] = set()

    # ---- what a process does with it --------------------------------------------------------------------------------

    def boot(self) -> Recovered:
        """Begin a process on what is durable."""
        self.boots += 1
        damaged, self.damaged = self.damaged, False
        ops = [item for item in self.items if not isinstance(item, Kept)]
        if self._rng.random() < 0.2:  # the codec is part of what survives
            ops = [decode_op(encode_op(op), 0)[0] for op in ops]
        loader = loader_over(self._changes_max, None)
        for op in ops:
            loader.apply(op)
        store = loader.store()
        while store.settle(10_000):
            pass
        return Recovered(store, damaged, self.boots == 1 and not damaged)

    def begin(self, group: Group) -> None:
        """Write `group`, not yet synced."""
        self._group = group

    def sync(self) -> None:
        """Make the group under way durable.

        Raises:
            DiskFull: nothing of it is on disk, nor will be.
        """
        group, self._group = self._group, None
        assert group is not None, "a sync follows a write"
        if self.full and any(holds_value(op) for op in as_records(group.ops)):
            raise DiskFull("the volume is full")
        self.items.extend(records_of(group))

    def find_room(self) -> bool:
        """Tell whether values are taken again."""
        return not self.full

    def close(self) -> None:
        """Leave nothing behind; nothing is."""

    def load(self) -> Kept | None:
        """Return the newest kept membership; the shape of `EpochFile`."""
        return next((item for item in reversed(self.items) if isinstance(item, Kept)), None)

    def save(self, kept: Kept) -> None:
        """Keep `kept` durably; the shape of `EpochFile`."""
        self.items.append(kept)

    def end(self) -> tuple[Op, ...]:
        """Lose what was not synced, but for a prefix; return the records that survive of it."""
        group, self._group = self._group, None
        if group is None:
            return ()
        records = records_of(group)
        if self.full and any(holds_value(op) for op in records):
            return ()
        survivors = records[: self._rng.choice((0, len(records), self._rng.randrange(len(records) + 1)))]
        self.items.extend(survivors)
        return survivors

    # ---- what happens to it -----------------------------------------------------------------------------------------

    def context(self) -> Context:
        """Return what the durable log covers."""
        return self.standing().context

    def standing(self) -> Standing:
        """Return what the durable log comes to."""
        if self._standing is None:
            self._standing, self._folded, self._horizons = Standing(), 0, set()
        for item in self.items[self._folded :]:
            for op in item.ops if isinstance(item, BatchOp) else (item,):
                if isinstance(op, Set | SetExpiring):
                    self._standing.stored(op.entry.origin, op.entry.seq)
                elif not isinstance(op, Kept):
                    self._standing.apply(op)
                if isinstance(op, DropOrigins):
                    self._horizons.add(op.horizon)
        self._folded = len(self.items)
        return self._standing

    @property
    def horizons(self) -> set[int]:
        """Return the horizons in the durable log (R15)."""
        self.standing()
        return self._horizons

    def roll_back(self, keep: int) -> bool:
        """Be as it was after its first `keep` items; tell whether that is a change."""
        if keep >= len(self.items):
            return False
        del self.items[keep:]
        self._standing = None
        return True

    def corrupt(self, share: float) -> bool:
        """Lose what lies behind `share` to damage that recovery finds; tell whether that is a change."""
        kept = self.load()
        if not self.roll_back(int(len(self.items) * share)):
            return False
        if kept is not None and kept != self.load():
            self.items.append(kept)  # MEMBERSHIP is a file of its own: it is not what was damaged
        self.damaged = True
        return True

    def copy(self) -> "MemoryVolume":
        """Return a clone: same identity, same records."""
        twin = MemoryVolume(self._rng, self._changes_max)
        twin.identity, twin.items, twin.boots = self.identity, list(self.items), self.boots
        twin.damaged = self.damaged
        return twin
