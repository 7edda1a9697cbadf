"""How a start folds a snapshot and the log behind it: the map at once, everything derived from it at the end.

Two loaders give the same store as applying record by record would (a property test compares all three). `FreshLoader`
starts from nothing: a record costs an update of the map and three appends. `MendingLoader` starts from a snapshot's
image and notes what the log changed in it. Both take runs of records by columns. A log from its beginning leaves digest
and order of keys to the running member, which takes them up in slices (`Store.settle`): they are half of the work, and
wanted once peers are talked to and keys are listed.
"""

from array import array
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from wavekv.core.context import Context
from wavekv.core.dot_order import DotOrder
from wavekv.core.image import Image
from wavekv.core.ops import Batch, Clear, DropOrigins, Op, Process, Set, SetExpiring, SetNextSeq
from wavekv.core.packed import (
    EXPIRING_FACTS_BYTES,
    FACTS_BYTES,
    HAS_EXPIRY,
    HAS_VALUE,
    KIND_AT,
    ascending,
    dot_of,
    expiry_of,
    pack,
    pack_parts,
)
from wavekv.core.standing import Standing
from wavekv.core.store import PROCESSES_REMEMBERED, Store
from wavekv.core.types import key_bytes

_MENDED_SHARE_MAX: Final = 0.2
"""Up to this share of changed keys an image is mended key by key, above it taken as a log of its own."""


_COMPARED_AT_ONCE: Final = 4096
"""Numbers that are looked at in the processor's cache."""
_BLOCK: Final = b"".join([number.to_bytes(8, "little") for number in range(256)])
"""0 … 255 as u64le."""


def consecutive(first: int, count: int) -> bytearray:
    """Return `count` numbers from `first` on as u64le, in a quarter of the time `array` takes; all are below 2^64."""
    blocks = range(first >> 8, (first + count + 0xFF) >> 8)
    numbers = bytearray(_BLOCK * len(blocks))
    high = b"".join([block.to_bytes(7, "little") for block in blocks])
    for byte in range(1, 8):
        column = high[byte - 1 :: 7]
        if any(column):
            numbers[byte::8] = b"".join([bytes((one,)) * 256 for one in column])
    begin = 8 * (first & 0xFF)
    return numbers[begin : begin + 8 * count]


class Run(NamedTuple):
    """Set records without expiry that followed each other, perhaps with group starts between them, by columns."""

    keys: list[str]
    packed: list[bytes]
    origins: list[tuple[int, int]]
    """`(origin, where in the columns its part begins)`."""
    seqs: "array[int]"
    """Of the dots, u64."""
    numbers: "array[int]"
    """Sequences of the records, u64; ascending from `first` with gaps where the group starts are."""
    first: int
    """Sequence of the first record, group starts included."""
    records: int
    """How many there are, group starts included."""
    next_seq: int
    """The greatest sequence in a group start, 0 without one."""
    values: int
    """How many are no tombstones."""
    size_bytes: int
    """Of keys and values."""


class Loader(Protocol):
    """Takes records in the order of the log."""

    entries: int
    """Entries there were before the first record."""
    standing: Standing
    """What the records came to beside entries."""

    @property
    def held(self) -> Mapping[str, bytes]:
        """Packed entries by key, as far as the records came to; empty for one that keeps none."""
        ...

    def stored(self, key: str, value: bytes | None, timestamp: int, origin: int, seq: int) -> None:
        """Fold a Set record."""
        ...

    def stored_run(self, run: Run) -> None:
        """Fold a run of records."""
        ...

    def apply(self, op: Op) -> None:
        """Fold any record."""
        ...


class StoreLoader(Loader, Protocol):
    """A loader that makes a store in the end."""

    def store(self) -> Store:
        """Return the store that all this makes; the loader is used up."""
        ...


def loader_over(changes_max: int, image: Image | None) -> StoreLoader:
    """Return the loader for a log behind `image`, or for a whole one."""
    return FreshLoader(changes_max) if image is None else MendingLoader(changes_max, image)


class FreshLoader:
    """Folds a log from its beginning."""

    def __init__(self, changes_max: int, image: Image | None = None) -> None:
        """Begin with nothing; or with `image`, whose map and standing count while its orders are made anew."""
        self._changes_max = changes_max
        self._image = Image() if image is None else image
        self._packed = self.held = self._image.packed
        self.standing = self._image.standing
        self.entries = len(self._packed)
        self._begin = self._position = self._image.position
        self._processes = _processes(self._begin, self._image)
        self._names: list[str] = []
        self._seqs = array("Q")
        self._positions = array("Q")
        self._runs: list[tuple[int, int]] = []  # (origin, where in the lists its run begins)
        self._origin = 0
        self._dropped: dict[int, int] = {}  # origin → how many names there were when it was dropped last (R15)
        self._alone: list[str] = []  # keys that came in no run
        self._values = self._size_bytes = 0  # of the runs
        for key, packed in self._packed.items():
            self._note(key, *dot_of(packed))
        self._given = len(self._names)  # names from the image, whose standing says what they cover

    def stored(self, key: str, value: bytes | None, timestamp: int, origin: int, seq: int) -> None:
        """Fold a Set record."""
        self._packed[key] = pack_parts(value, timestamp, origin, seq)
        self._position += 1
        if origin != self._origin:
            self._origin = origin
            self._runs.append((origin, len(self._names)))
        self._names.append(key)
        self._alone.append(key)
        self._seqs.append(seq)
        self._positions.append(self._position)

    def stored_run(self, run: Run) -> None:
        """Fold a run of records."""
        self._packed.update(zip(run.keys, run.packed, strict=True))
        begin = len(self._names)
        for origin, at in run.origins:
            if origin != self._origin:
                self._origin = origin
                self._runs.append((origin, begin + at))
        self._names.extend(run.keys)
        self._seqs.extend(run.seqs)
        self._positions.extend(_positions(run, self._position))
        self._position += run.records
        self._values += run.values
        self._size_bytes += run.size_bytes
        if run.next_seq:
            self._image.standing.apply(SetNextSeq(run.next_seq))

    def _note(self, key: str, origin: int, seq: int) -> None:
        if origin != self._origin:
            self._origin = origin
            self._runs.append((origin, len(self._names)))
        self._names.append(key)
        self._alone.append(key)
        self._seqs.append(seq)
        self._positions.append(self._position)

    def apply(self, op: Op) -> None:
        """Fold any record."""
        if isinstance(op, Set):
            entry = op.entry
            self.stored(entry.key, entry.value, entry.timestamp, entry.origin, entry.seq)
            return
        self._position += 1
        if isinstance(op, Batch):
            for one in op.ops:
                self._change(one)
        elif isinstance(op, SetExpiring | Clear):
            self._change(op)
        else:
            self._image.standing.apply(op)
            if isinstance(op, Process):
                self._processes.append((self._position, op.inc))
            elif isinstance(op, DropOrigins):
                self._dropped.update((origin, len(self._names)) for origin, _ in op.origins)

    def _change(self, op: Set | SetExpiring | Clear) -> None:
        if isinstance(op, Clear):
            if self._packed.pop(op.key, None) is not None:
                self._note(op.key, 0, 0)  # a change without a dot
            return
        self._packed[op.entry.key] = pack(op.entry)
        self._note(op.entry.key, op.entry.origin, op.entry.seq)

    def store(self) -> Store:
        """Return the store that all this makes."""
        image, standing = self._image, self._image.standing
        dots: dict[int, DotOrder] = {}
        whole = len(self._names) == len(self._packed)  # nothing was overwritten or cleared
        passed = self._told_already() if self._given or self._dropped else {}
        for origin, seqs, names in self._by_origin():
            rising = _rising(seqs)
            covered = seqs[passed[origin] :] if origin in passed else seqs
            if covered:
                standing.context.join(*_covered(origin, covered, rising=rising))
            if origin == standing.process.origin:
                standing.used(seqs[-1] if rising else max(seqs))
            order = _order(self._packed, origin, seqs, names, whole=whole and rising)
            if order:
                dots[origin] = order
        image.keys, image.ordered = self._names if whole else list(self._packed), False
        image.position = self._position
        image.values = image.size_bytes = 0
        counted = self._packed
        if whole and len(self._alone) < len(counted) // 4:  # what came in runs is counted already
            image.values, image.size_bytes = self._values, self._size_bytes
            counted = {key: self._packed[key] for key in self._alone}
        expiring = _count(image, counted)
        store = Store(self._changes_max, image, dots)
        for key, expires_at in expiring:
            store.expires(key, expires_at)
        first = max(len(self._names) - self._changes_max, bisect_left(self._positions, self._begin + 1))
        recent = zip(self._positions[first:], self._names[first:], strict=True)
        store.remember(recent, self._processes, self._positions[first - 1] if first else self._begin)
        store.postpone()
        return store

    def _told_already(self) -> Counter[int]:
        """Return how many of each origin's sequences cover nothing any more: of the image, or from before its drop."""
        found: Counter[int] = Counter()
        for (origin, start), (_, end) in pairwise([*self._runs, (0, len(self._names))]):
            upto = max(self._dropped.get(origin, 0), self._given)
            found[origin] += max(min(end, upto) - start, 0)
        return found

    def _by_origin(self) -> Iterator[tuple[int, "array[int]", list[str]]]:
        if len(self._runs) == 1 and self._runs[0][1] == 0:  # all there is, not copied
            yield self._runs[0][0], self._seqs, self._names
            return
        parts: dict[int, tuple[array[int], list[str]]] = {}
        bounds = [*self._runs, (0, len(self._names))]
        for (origin, start), (_, end) in pairwise(bounds):
            if origin and origin not in parts:
                parts[origin] = (self._seqs[start:end], self._names[start:end])
            elif origin:
                parts[origin][0].extend(self._seqs[start:end])
                parts[origin][1].extend(self._names[start:end])
        for origin in sorted(parts):
            yield origin, *parts[origin]


class MendingLoader:
    """Folds the short log behind a snapshot."""

    def __init__(self, changes_max: int, image: Image) -> None:
        self._image = image
        self._packed = self.held = image.packed
        self.standing = image.standing
        self.entries = len(self._packed)
        self._position = image.position
        self._before: dict[str, bytes | None] = {}
        self._changes: deque[tuple[int, str]] = deque(maxlen=changes_max)
        self._forgotten = image.position
        self._processes = _processes(image.position, image)

    def stored(self, key: str, value: bytes | None, timestamp: int, origin: int, seq: int) -> None:
        """Fold a Set record."""
        self._position += 1
        self._set(key, pack_parts(value, timestamp, origin, seq))
        self._image.standing.stored(origin, seq)

    def apply(self, op: Op) -> None:
        """Fold any record."""
        self._position += 1
        if isinstance(op, Batch):
            for one in op.ops:
                self._change(one)
        elif isinstance(op, Set | SetExpiring | Clear):
            self._change(op)
        else:
            self._image.standing.apply(op)
            if isinstance(op, Process):
                self._processes.append((self._position, op.inc))

    def _change(self, op: Set | SetExpiring | Clear) -> None:
        if isinstance(op, Clear):
            if op.key in self._packed:
                self._set(op.key, None)
            return
        self._set(op.entry.key, pack(op.entry))
        self._image.standing.stored(op.entry.origin, op.entry.seq)

    def _set(self, key: str, packed: bytes | None) -> None:
        if key not in self._before:
            self._before[key] = self._packed.get(key)
        if packed is None:
            del self._packed[key]
        else:
            self._packed[key] = packed
        if len(self._changes) == self._changes.maxlen:
            self._forgotten = self._changes[0][0]
        self._changes.append((self._position, key))

    def stored_run(self, run: Run) -> None:
        """Fold a run of records."""
        positions = _positions(run, self._position)
        for key, was in zip(run.keys, map(self._packed.get, run.keys), strict=True):
            self._before.setdefault(key, was)
        self._packed.update(zip(run.keys, run.packed, strict=True))
        for (origin, begin), (_, end) in pairwise([*run.origins, (0, len(run.keys))]):
            self._image.standing.context.join(
                *_covered(origin, run.seqs[begin:end], rising=ascending(run.seqs[begin:end]))
            )
            if origin == self._image.standing.process.origin:
                self._image.standing.used(max(run.seqs[begin:end]))
        dropped = len(self._changes) + len(run.keys) - (self._changes.maxlen or 0) - 1
        if dropped >= 0:
            held = len(self._changes)
            self._forgotten = self._changes[dropped][0] if dropped < held else positions[dropped - held]
        self._changes.extend(zip(positions, run.keys, strict=True))
        self._position += run.records
        if run.next_seq:
            self._image.standing.apply(SetNextSeq(run.next_seq))

    def store(self) -> Store:
        """Return the store that all this makes."""
        image, before = self._image, self._before
        if len(before) > len(image.keys) * _MENDED_SHARE_MAX:
            return self._anew()
        store = Store(self._changes.maxlen or 0, image)
        store.position = self._position
        for key, old in before.items():
            new = self._packed.get(key)
            if old is not None or new is not None:
                store.account(key, old, new)
        store.remember(self._changes, self._processes, self._forgotten)
        return store

    def _anew(self) -> Store:
        self._image.position = self._position
        store = FreshLoader(self._changes.maxlen or 0, self._image).store()
        store.remember(self._changes, self._processes, self._forgotten)
        return store


def _processes(position: int, image: Image) -> deque[tuple[int, int]]:
    """Return where the newest processes began, those of the log to be added; a log may name more than anybody had."""
    return deque([(position, image.standing.process.inc)], 4 * PROCESSES_REMEMBERED)


def _positions(run: Run, before: int) -> "array[int]":
    """Return the positions of a run's records, the first of which follows `before`."""
    shift = before + 1 - run.first
    return array("Q", map(shift.__add__, run.numbers)) if shift else run.numbers


def _rising(seqs: "array[int]") -> bool:
    """Tell whether every one is greater than the one before it; seqs without a gap are the quickest."""
    if seqs[-1] - seqs[0] + 1 != len(seqs):
        return ascending(seqs)
    for at in range(0, len(seqs), _COMPARED_AT_ONCE):
        block = seqs[at : at + _COMPARED_AT_ONCE]
        if block.tobytes() != consecutive(seqs[0] + at, len(block)):
            return ascending(seqs)
    return True


def _covered(
    origin: int, seqs: "array[int]", *, rising: bool
) -> tuple[dict[int, int], dict[int, tuple[tuple[int, int], ...]]]:
    """Return acks and ranges of the dots of one origin; `rising`: they are ascending."""
    context = Context()
    if rising and seqs[-1] - seqs[0] + 1 == len(seqs):
        context.add_range(origin, seqs[0], seqs[-1])
    else:
        first = last = 0
        for seq in sorted(seqs):
            if seq > last + 1 or not last:
                if last:
                    context.add_range(origin, first, last)
                first = seq
            last = seq
        context.add_range(origin, first, last)
    return context.acks, context.dots()


def _order(packed: dict[str, bytes], origin: int, seqs: "array[int]", names: list[str], *, whole: bool) -> DotOrder:
    """Return the order of one origin's dots that are still held; `whole`: all are, and in order."""
    if whole:
        return DotOrder(seqs, names)
    held: dict[int, str | tuple[str, ...]] = {}
    for seq, name in sorted(zip(seqs, names, strict=True)):
        there = packed.get(name)
        if there is None or dot_of(there) != (origin, seq):
            continue
        known = held.get(seq)
        if known is None:
            held[seq] = name
        elif name not in (known if isinstance(known, tuple) else (known,)):  # only crate nodes give two keys one dot
            held[seq] = (*(known if isinstance(known, tuple) else (known,)), name)
    return DotOrder(array("Q", held), list(held.values()))


def _count(image: Image, packed: dict[str, bytes]) -> list[tuple[str, int]]:
    """Count `packed` into `image`; return what in it expires, and when."""
    kinds = bytes([value[KIND_AT] for value in packed.values()])
    expiring = sum(map(kinds.count, range(HAS_EXPIRY, 4)))
    image.values += kinds.count(HAS_VALUE) + kinds.count(HAS_VALUE | HAS_EXPIRY)
    facts = len(kinds) * FACTS_BYTES + expiring * (EXPIRING_FACTS_BYTES - FACTS_BYTES)
    image.size_bytes += sum(map(len, packed.values())) - facts + key_bytes("".join(packed))
    image.buckets, image.expiring = (), []
    if not expiring:
        return []
    return [(key, expiry_of(value)) for key, value in packed.items() if value[KIND_AT] == HAS_VALUE | HAS_EXPIRY]
