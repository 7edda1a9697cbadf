"""What a directory says: the fold of its log. The running member applies durable operations here and nowhere else.

Holds the map, the key order for listings, the order by dot for deltas, the context, the floor and the digest. Applying
is unconditional: whoever writes the log has decided (`replica` compares, replay does not). Everything in here is
durable, so all that readers and peers are shown comes from here (G5, I4). A start goes through `loading`, which folds
a snapshot and a log much faster and then makes a store of what came out.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import NamedTuple

from wavekv.core.block import Block
from wavekv.core.context import Context
from wavekv.core.digest import Buckets, crate_digest
from wavekv.core.dot_order import DotOrder
from wavekv.core.expiry import Calendar
from wavekv.core.graves import Graves
from wavekv.core.image import Image
from wavekv.core.ops import Batch, Clear, Op, Process, Set, SetExpiring, StoreBlock
from wavekv.core.ordered import KeyOrder
from wavekv.core.packed import (
    HAS_EXPIRY,
    HAS_VALUE,
    KIND_AT,
    add_all,
    ascending,
    dot_of,
    expiry_of,
    facts_alone,
    pack,
    unpack,
    value_bytes,
)
from wavekv.core.standing import Standing
from wavekv.core.types import Entry, key_bytes

PROCESSES_REMEMBERED: int = 256
"""Process starts whose place in the log is known; a watch's token of an older one has expired."""


_BURIED_PER_SETTLED: int = 10
"""Looking for a tombstone costs a tenth of what the digest of a value does."""


SLICE_KEYS_MAX: int = 512
"""Keys looked at in one slice of a walk, some hundred microseconds."""
SLICE_BYTES_MAX: int = 1 << 20
"""Value bytes copied in one slice, one value more at most."""


class Slice(NamedTuple):
    """What one step of a walk in key order found.

    Attributes:
        entries: live ones.
        passed: the last key that was looked at, live or not; None where none was.
        more: keys may follow.
    """

    entries: list[Entry]
    passed: str | None
    more: bool


class Held(Mapping[str, Entry]):
    """The packed map seen as entries."""

    __slots__ = ("_packed",)

    def __init__(self, packed: dict[str, bytes]) -> None:
        self._packed = packed

    def __getitem__(self, key: str) -> Entry:
        return unpack(key, self._packed[key])

    def get(self, key: str, default: Entry | None = None) -> Entry | None:  # type: ignore[override]
        """Return the entry of `key`, tombstones and the expired included."""
        packed = self._packed.get(key)
        return default if packed is None else unpack(key, packed)

    def __contains__(self, key: object) -> bool:
        return key in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Store:
    """The durable state of one directory, or of memory alone."""

    def __init__(self, changes_max: int, image: Image | None = None, dots: dict[int, DotOrder] | None = None) -> None:
        """Take what `image` holds; `dots` is its order by dot where it was made already."""
        image = Image() if image is None else image
        self.packed = image.packed
        self.entries = Held(self.packed)
        self.standing: Standing = image.standing
        self.buckets = Buckets(image.buckets) if image.buckets else Buckets()
        self.values = image.values
        self.size_bytes = image.size_bytes
        self.position = image.position
        self.clock_ms = 0
        """The expiry clock: the greatest time that expiry was judged by; it does not run backwards (R11)."""
        self._keys = KeyOrder(image.keys) if image.ordered else KeyOrder.later(image.keys)
        self._dots = _dot_orders(image) if dots is None else dots
        self._unfetched = list(self._dots.values())
        self._calendar = Calendar()
        for expires_at, place in image.expiring:
            key = image.keys[place]
            held = self.packed.get(key)  # a replay behind the image may have changed or cleared it
            if held is not None and held[KIND_AT] == (HAS_VALUE | HAS_EXPIRY) and expiry_of(held) == expires_at:
                self._calendar.add(key, expires_at)
        self._expired: dict[str, None] = {}
        self.graves = Graves(self.packed)
        self._unburied = list(self.packed) if self.values < len(self.packed) else []
        self._changes: deque[tuple[int, str]] = deque(maxlen=changes_max)
        self.changes_from = image.position
        """Position behind which every change is remembered."""
        self._processes: deque[tuple[int, int]] = deque(maxlen=PROCESSES_REMEMBERED)
        self._processes.append((image.position, image.standing.process.inc))
        self._crate_digest: tuple[int, bytes] | None = None
        self._unsettled: list[str] = []
        self._unsettled_was: dict[str, bytes | None] = {}

    @property
    def context(self) -> Context:
        """What is covered."""
        return self.standing.context

    @property
    def floor(self) -> int:
        """New stamps of absent keys lie above this (ms)."""
        return self.standing.floor

    @property
    def next_seq(self) -> int:
        """The next sequence of the process's origin."""
        return self.standing.next_seq

    @property
    def process(self) -> Process:
        """The newest process on this directory."""
        return self.standing.process

    # ---- the fold --------------------------------------------------------------------------------------------------

    def apply(self, op: Op) -> None:
        """Fold one durable operation, one record of the log, into the state."""
        if type(op) is StoreBlock:
            self._store_block(op.block)
            return
        self.position += 1
        if type(op) is Batch:
            for one in op.ops:
                self._change(one)
        elif type(op) is Set or type(op) is SetExpiring or type(op) is Clear:
            self._change(op)
        else:
            self.standing.apply(op)
            if type(op) is Process:
                self.began(self.position, op.inc)

    def _change(self, op: Set | SetExpiring | Clear) -> None:
        if isinstance(op, Clear):
            key, new = op.key, None
            old = self.packed.pop(key, None)
            if old is None:
                return
        else:
            entry = op.entry
            key, new = entry.key, pack(entry)
            old = self.packed.get(key)
            self.packed[key] = new
            self.standing.stored(entry.origin, entry.seq)
        self.account(key, old, new)
        self.changed(self.position, key)

    def _store_block(self, block: Block) -> None:
        """Fold entries of keys that hold nothing."""
        first, entries = self.position + 1, block.entries
        self.position += len(block)
        for origin, begin, end in block.parts:
            order = self._dots.get(origin)
            if order is None:
                order = self._dots[origin] = DotOrder()
            order.extend(block.facts.seqs[begin:end], block.keys[begin:end])
            if origin == self.process.origin:
                self.standing.used(block.facts.seqs[end - 1])
        for stretch in block.stretches():
            self.context.add_range(*stretch)
        add_all(self.packed, entries)
        self._keys.extend(sorted(entries))
        self.size_bytes += block.size_bytes
        self.values += block.values
        for key, packed in block.special():
            self._timed(key, packed)
        self.buckets.add(entries)
        dropped = len(self._changes) + len(entries) - (self._changes.maxlen or 0) - 1
        if dropped >= 0:
            held = len(self._changes)
            self.changes_from = self._changes[dropped][0] if dropped < held else first + dropped - held
        self._changes.extend(enumerate(entries, start=first))

    def account(self, key: str, old: bytes | None, new: bytes | None) -> None:
        """Keep orders, counts and digest in step: under `key` the map has `new` where it had `old`."""
        if old is None:
            self._keys.insert(key)
            self.size_bytes += key_bytes(key)
        else:
            self._forget(key, old)
            self.size_bytes -= value_bytes(old)
            self.values -= old[KIND_AT] & HAS_VALUE
        if new is None:
            self._keys.remove(key)
            self.size_bytes -= key_bytes(key)
        else:
            self._remember(key, new)
            self.size_bytes += value_bytes(new)
            self.values += new[KIND_AT] & HAS_VALUE
        if self._unsettled:
            self._unsettled_was.setdefault(key, old)
        self.buckets.replace(key, old, new)

    def postpone(self) -> None:
        """Leave the digest of all that is held, of which it has nothing yet, to `settle`."""
        self._unsettled = list(self.packed)

    def settle(self, count_max: int) -> bool:
        """Do a slice of what a start, or a catch-up since, left to do; tell whether more is left.

        It is a slice of putting keys in order, or else up to `count_max` postponed keys for the digest, taken as they
        were then, or so many among which tombstones are looked for, or one block of the order by dot whose keys are to
        be fetched.
        """
        if self._keys.prepare():
            return True
        if not self._unsettled and self._unburied:
            self._bury(_BURIED_PER_SETTLED * count_max)
            return True
        if not self._unsettled:
            while self._unfetched and not self._unfetched[-1].fetch():
                self._unfetched.pop()
            return bool(self._unfetched)
        for _ in range(min(count_max, len(self._unsettled))):
            key = self._unsettled.pop()
            was = self._unsettled_was
            self.buckets.replace(key, None, was[key] if key in was else self.packed[key])
        if not self._unsettled:
            self._unsettled_was = {}
        return bool(self._unsettled or self._unburied or self._unfetched)

    def _bury(self, count_max: int) -> None:
        """Note which of the next keys that a start found hold a tombstone; what changed since was noted then."""
        for key in self._unburied[-count_max:]:
            held = self.packed.get(key)
            if held is not None and not held[KIND_AT] & HAS_VALUE:
                self.graves.add(key, held)
        del self._unburied[-count_max:]

    def digest(self) -> tuple[int, ...] | None:
        """Return the digest's sums; None while it is not settled."""
        return None if self._unsettled else self.buckets.snapshot()

    def changed(self, position: int, key: str) -> None:
        """Remember that the record at `position` changed `key`."""
        if len(self._changes) == self._changes.maxlen:
            self.changes_from = self._changes[0][0]
        self._changes.append((position, key))

    def remember(
        self, changes: Iterable[tuple[int, str]], processes: Iterable[tuple[int, int]], changes_from: int
    ) -> None:
        """Know what a replay met: `(position, key)` behind `changes_from`, and `(position, inc)`."""
        self._changes = deque(changes, self._changes.maxlen)
        self._processes.clear()
        for position, inc in processes:
            if not self._processes or self._processes[-1][1] != inc:
                self._processes.append((position, inc))
        self.changes_from = changes_from

    def began(self, position: int, inc: int) -> None:
        """Remember that process `inc` began at `position`."""
        if self._processes[-1][1] != inc:
            self._processes.append((position, inc))

    # ---- the order by dot, the calendar ----------------------------------------------------------------------------

    def _remember(self, key: str, packed: bytes) -> None:
        origin, seq = dot_of(packed)
        order = self._dots.get(origin)
        if order is None:
            order = self._dots[origin] = DotOrder()
        there = order.get(seq) if order and seq <= order.last else None
        # Only crate nodes give two keys one dot; both have to travel.
        order.set(seq, key if there is None else (*as_keys(there), key))
        self._timed(key, packed)

    def _timed(self, key: str, packed: bytes) -> None:
        """Note when a held entry expires, or that it is a tombstone."""
        kind = packed[KIND_AT]
        if kind == (HAS_VALUE | HAS_EXPIRY):
            self._calendar.add(key, expiry_of(packed))
        elif not kind & HAS_VALUE:
            self.graves.add(key, packed)

    def _forget(self, key: str, packed: bytes) -> None:
        origin, seq = dot_of(packed)
        order = self._dots[origin]
        there = order.get(seq)
        assert there is not None, "every held entry is in the order by dot"
        left = tuple(other for other in as_keys(there) if other != key)
        if left:
            order.set(seq, left[0] if len(left) == 1 else left)
        else:
            order.remove(seq)
            if not order:
                del self._dots[origin]
        if packed[KIND_AT] == (HAS_VALUE | HAS_EXPIRY):
            self._calendar.remove(key, expiry_of(packed))
            self._expired.pop(key, None)

    def origins(self) -> list[int]:
        """Return the origins of held entries, ascending."""
        return sorted(self._dots)

    def keys_of(self, origin: int, seq: int) -> tuple[str, ...]:
        """Return the keys held under one dot: one, or none where it was superseded."""
        order = self._dots.get(origin)
        keys = order.get(seq) if order is not None else None
        return () if keys is None else as_keys(keys)

    def greatest_seq(self, origin: int) -> int:
        """Return the greatest sequence of `origin` among held entries; it must have one."""
        return self._dots[origin].last

    def of_origin(self, origin: int, after_seq: int) -> Iterator[tuple["array[int]", list[str | tuple[str, ...]]]]:
        """Yield sequences of `origin` behind `after_seq`, ascending, and their keys, some hundred at a time.

        Nothing may change meanwhile. Only crate nodes give two keys one dot; they come as a tuple.
        """
        return self._dots[origin].stretches(after_seq)

    def keys_changed_since(self, position: int) -> list[str] | None:
        """Return the keys changed behind log position `position`, the newest first; None: too long ago to know."""
        if position < self.changes_from:
            return None
        newer = takewhile(lambda change: change[0] > position, reversed(self._changes))
        return list(dict.fromkeys(key for _, key in newer))

    def changed_since(self, position: int) -> list[Entry] | None:
        """Return the held entries set behind log position `position`; None where that was too long ago to know."""
        changed = self.packed_changed_since(position)
        return None if changed is None else [unpack(key, packed) for key, packed in changed]

    def packed_changed_since(self, position: int) -> Iterator[tuple[str, bytes]] | None:
        """Return an iterator over the same, packed, each with its key; nothing may change meanwhile."""
        keys = self.keys_changed_since(position)
        return None if keys is None else ((key, self.packed[key]) for key in keys if key in self.packed)

    def process_at(self, position: int) -> int | None:
        """Return the number of the process that wrote at `position`; None where that was too long ago to know."""
        for began, inc in reversed(self._processes):
            if began <= position:
                return inc
        return None

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str, now_ms: int) -> Entry | None:
        """Return the live entry of `key`."""
        packed = self.packed.get(key)
        if packed is None:
            return None
        entry = unpack(key, packed)
        if entry.expires_at is not None:
            now_ms = self.expiry_now(now_ms)
        return entry if entry.alive(now_ms) else None

    def length_of(self, key: str, now_ms: int) -> int | None:
        """Return the length of the live value of `key`, None if there is none; nothing is copied."""
        packed = self.packed.get(key)
        if packed is None or not packed[KIND_AT] & HAS_VALUE:
            return None
        if packed[KIND_AT] & HAS_EXPIRY and expiry_of(packed) <= self.expiry_now(now_ms):
            return None
        return value_bytes(packed)

    def expiry_now(self, now_ms: int) -> int:
        """Move the expiry clock on to `now_ms`, and return it: what was judged expired once stays so."""
        self.clock_ms = max(self.clock_ms, now_ms)
        return self.clock_ms

    def expires(self, key: str, expires_at: int) -> None:
        """Note when a held key expires that `image` did not tell of."""
        self._calendar.add(key, expires_at)

    def live(self) -> int:
        """Return how many values are held that the expiry clock has not passed, within a tick of it."""
        return self.values - len(self._expired)

    def expiring(self) -> int:
        """Return how many of the `live` will expire."""
        return len(self._calendar)

    def take_expired(self, now_ms: int, count_max: int) -> list[str]:
        """Move the expiry clock on; return up to `count_max` keys that it passed, each once."""
        due = self._calendar.take_due(self.expiry_now(now_ms), count_max)
        self._expired.update(dict.fromkeys(due))
        for key in due:
            self.graves.expire(key)
        return due

    @property
    def surveyed(self) -> bool:
        """Tell whether key order, digest and graves speak of all that is held; a start leaves them to `settle`."""
        return self._keys.settled and not (self._unsettled or self._unburied)

    def passed(self, key: str) -> bool:
        """Tell whether `take_expired` has told of the entry that `key` holds."""
        return key in self._expired

    def bury(self, keys: Iterable[str]) -> None:
        """Note again that `keys`, taken from the graves to be forgotten, stay."""
        for key in keys:
            if key in self.packed:
                self.graves.add(key, self.packed[key])

    def deletes(self) -> int:
        """Return how many held entries are deletes: tombstones, and values that the expiry clock has passed."""
        return len(self.packed) - self.live()

    def behind(self, after: str | None) -> Iterator[tuple[str, bytes]]:
        """Yield the held keys behind `after` in their order, with their packed entries."""
        for key in self._keys.behind(after or "", inclusive=False):
            yield key, self.packed[key]

    def slice(self, prefix: str, after: str | None, limit: int, now_ms: int, *, keys_only: bool = False) -> Slice:
        """Return up to `limit` of the next live entries with `prefix` behind `after`, in key order.

        Looks at `SLICE_KEYS_MAX` keys and copies `SLICE_BYTES_MAX` at most, so there may be more when it found fewer,
        or none: go on behind `passed`. While the order is not prepared, a slice is a slice of that. With `keys_only`
        the values are empty and nothing of them is copied.
        """
        if self._keys.prepare():
            return Slice([], None, True)
        start = max(prefix, after) if after is not None else prefix
        now_ms = self.expiry_now(now_ms)
        keys = self._keys.some_behind(start, SLICE_KEYS_MAX, inclusive=after is None or start != after)
        found: list[Entry] = []
        passed, size = None, 0
        for key in keys:
            if not key.startswith(prefix):
                return Slice(found, passed, False)
            if len(found) == limit or size > SLICE_BYTES_MAX:
                return Slice(found, passed, True)
            packed = self.packed[key]
            entry = unpack(key, facts_alone(packed) if keys_only else packed)
            if entry.alive(now_ms):
                found.append(entry)
                size += 0 if keys_only else len(packed)
            passed = key
        return Slice(found, passed, len(keys) == SLICE_KEYS_MAX)

    def crate_digest(self) -> bytes:
        """Return the digest over all held entries as crate nodes compute it; kept until the next change."""
        if self._crate_digest is None or self._crate_digest[0] != self.position:
            self._crate_digest = (self.position, crate_digest(self.entries[key] for key in self._keys))
        return self._crate_digest[1]


def _dot_orders(image: Image) -> dict[int, DotOrder]:
    """Return the order by dot that `image` carries; keys under one dot are neighbours there."""
    parts: dict[int, tuple[array[int], array[int]]] = {}
    for origin, seqs, places in image.dots:
        known_seqs, known_places = parts.setdefault(origin, (array("Q"), array("I")))
        known_seqs.extend(seqs)
        known_places.extend(places)
    return {origin: _dot_order(seqs, places, image.keys) for origin, (seqs, places) in parts.items()}


def _dot_order(seqs: "array[int]", places: "array[int]", keys: list[str]) -> DotOrder:
    if ascending(seqs):
        return DotOrder.over(seqs, places, keys)
    found: dict[int, str | tuple[str, ...]] = {}
    for seq, place in zip(seqs, places, strict=True):
        found[seq] = (*as_keys(found[seq]), keys[place]) if seq in found else keys[place]
    return DotOrder(array("Q", found), list(found.values()))


def as_keys(stored: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of one dot."""
    return stored if isinstance(stored, tuple) else (stored,)
