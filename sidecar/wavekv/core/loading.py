"""How a start folds a snapshot and the log behind it: the map at once, everything derived from it at the end.

Each record costs a dictionary's update and no more; orders, counts and digest follow from the map. Where the log
changed a small part of the snapshot, they are mended key by key, else made anew. The result is the same as applying
record by record to a `Store` (a property test compares the two), three to five times sooner (`bench/engine.py`).
"""

from array import array
from collections import deque
from itertools import groupby
from typing import Final

from wavekv.core.digest import Buckets
from wavekv.core.image import Dots, Image
from wavekv.core.ops import Batch, Clear, Op, Process, Set, SetExpiring, SetNextSeq
from wavekv.core.packed import (
    EXPIRING_FACTS_BYTES,
    FACTS_BYTES,
    HAS_EXPIRY,
    HAS_VALUE,
    KIND_AT,
    dot_of,
    expiry_of,
    pack,
    pack_facts,
)
from wavekv.core.store import Store, key_bytes

_MENDED_SHARE_MAX: Final = 0.2
"""Up to this share of changed keys mending is faster than making anew."""


class Loader:
    """Folds operations over an image; `store` ends it."""

    __slots__ = ("_before", "_changes", "_image", "_origin", "_processes", "_seq", "_since", "packed", "position")

    def __init__(self, changes_max: int, image: Image | None = None) -> None:
        self._image = Image() if image is None else image
        self.packed = self._image.packed
        self.position = self._image.position
        self._before: dict[str, bytes | None] = {}
        self._changes: deque[tuple[int, str]] = deque(maxlen=changes_max)
        self._processes: list[tuple[int, int]] = []
        self._origin = self._since = self._seq = 0  # the run of dots that standing does not know yet

    def stored(self, key: str, value: bytes | None, timestamp: int, origin: int, seq: int) -> None:
        """Fold a Set record."""
        packed = self.packed
        if key not in self._before:
            self._before[key] = packed.get(key)
        packed[key] = (
            pack_facts(timestamp, seq, origin, 0) if value is None else pack_facts(timestamp, seq, origin, 1) + value
        )
        self.position = position = self.position + 1
        self._changes.append((position, key))
        if seq == self._seq + 1 and origin == self._origin:
            self._seq = seq
        else:
            self._end_run()
            self._origin, self._since, self._seq = origin, seq, seq

    def apply(self, op: Op) -> None:
        """Fold any record."""
        kind = type(op)
        if kind is Set:
            entry = op.entry  # type: ignore[union-attr]
            self.stored(entry.key, entry.value, entry.timestamp, entry.origin, entry.seq)
            return
        self.position += 1
        self._end_run()
        if kind is SetNextSeq:
            self._image.standing.apply(op)
        elif isinstance(op, Batch):
            for one in op.ops:
                self._change(one)
        elif isinstance(op, SetExpiring | Clear):
            self._change(op)
        else:
            self._image.standing.apply(op)
            if isinstance(op, Process):
                self._processes.append((self.position, op.inc))

    def _change(self, op: Set | SetExpiring | Clear) -> None:
        packed = self.packed
        if isinstance(op, Clear):
            key = op.key
            if key not in packed:
                return
            self._before.setdefault(key, packed[key])
            del packed[key]
        else:
            key = op.entry.key
            if key not in self._before:
                self._before[key] = packed.get(key)
            packed[key] = pack(op.entry)
            self._image.standing.stored(op.entry.origin, op.entry.seq)
        self._changes.append((self.position, key))

    def _end_run(self) -> None:
        if self._origin:
            self._image.standing.stored_run(self._origin, self._since, self._seq)
            self._origin = 0

    def store(self) -> Store:
        """Return the store that all this makes; the loader is used up."""
        self._end_run()
        image, before = self._image, self._before
        mends = len(before) <= len(image.keys) * _MENDED_SHARE_MAX
        if not mends:
            complete(image)
        store = Store(self._changes.maxlen or 0, image)
        store.position = self.position
        if mends:
            for key, old in before.items():
                new = self.packed.get(key)
                if old is not None or new is not None:
                    store.account(key, old, new)
        for position, key in self._changes:
            store.changed(position, key)
        for position, inc in self._processes:
            store.began(position, inc)
        if len(self._changes) == self._changes.maxlen:
            store.changes_from = self._changes[0][0]
        return store


def complete(image: Image) -> None:
    """Make keys, dots, expiry, counts and digest of `image` anew from its map."""
    packed = image.packed
    image.keys = sorted(packed)
    values = list(map(packed.__getitem__, image.keys))
    kinds = [value[KIND_AT] for value in values]
    image.dots = _dots(values)
    image.expiring = [
        (expiry_of(values[place]), place) for place, kind in enumerate(kinds) if kind == HAS_VALUE | HAS_EXPIRY
    ]
    image.values = sum(kind & HAS_VALUE for kind in kinds)
    expiring = sum(kind >= HAS_EXPIRY for kind in kinds)
    facts = len(kinds) * FACTS_BYTES + expiring * (EXPIRING_FACTS_BYTES - FACTS_BYTES)
    image.size_bytes = sum(map(len, values)) - facts + sum(map(key_bytes, image.keys))
    buckets = Buckets()
    for key, value in zip(image.keys, values, strict=True):
        buckets.replace(key, None, value)
    image.buckets = buckets.snapshot()


def _dots(values: list[bytes]) -> list[Dots]:
    dots = list(map(dot_of, values))
    places = sorted(range(len(dots)), key=dots.__getitem__)
    found = []
    for origin, group in groupby(places, key=lambda place: dots[place][0]):
        of_origin = array("I", group)
        found.append(Dots(origin, array("Q", [dots[place][1] for place in of_origin]), of_origin))
    return found
