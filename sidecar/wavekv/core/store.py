"""What a directory says: the fold of its log. Recovery and the running member apply operations here and nowhere else.

Holds the map, the key order for listings, the order by dot for deltas, the context, the floor and the digest. Applying
is unconditional: whoever writes the log has decided (`replica` compares, replay does not). Everything in here is
durable, so all that readers and peers are shown comes from here (G5, I4).
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from BTrees.OOBTree import OOTreeSet
from BTrees.QOBTree import QOBTree

from wavekv.core.context import Context
from wavekv.core.digest import Buckets, crate_digest
from wavekv.core.ops import (
    AddPeer,
    Batch,
    Clear,
    Cover,
    Floor,
    IncrementSeq,
    Op,
    Process,
    PushPeerLog,
    RemovePeer,
    Set,
    SetExpiring,
    SetNextSeq,
    UpdateLocalAck,
    UpdatePeerAck,
)
from wavekv.core.types import I64_MIN, Entry


class Page(NamedTuple):
    """Live entries in key order, and whether more follow."""

    entries: list[Entry]
    more: bool


class Store:
    """The durable state of one directory."""

    def __init__(self, changes_max: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.context = Context()
        self.floor = I64_MIN
        self.next_seq = 1
        self.process = Process(0, 0, False)
        self.buckets = Buckets()
        self.values = 0
        self.size_bytes = 0
        self.position = 0
        self._keys = OOTreeSet()
        self._by_origin: dict[int, Any] = {}
        self._changes: deque[tuple[int, str]] = deque(maxlen=changes_max)
        self._crate_digest: tuple[int, bytes] | None = None
        self._appliers: dict[type, Callable[[Any], None]] = {
            Set: lambda op: self._set(op.entry),
            SetExpiring: lambda op: self._set(op.entry),
            Clear: lambda op: self._clear(op.key),
            UpdateLocalAck: lambda op: self.context.add_range(op.peer, 1, op.ack),
            PushPeerLog: lambda op: self.context.add_range(op.peer, 1, op.entry.seq),
            SetNextSeq: self._raise_next_seq,
            IncrementSeq: self._increment_seq,
            Batch: self._batch,
            Cover: lambda op: self.context.add_range(op.origin, op.first, op.last),
            Floor: self._raise_floor,
            Process: self._begin_process,
            # A crate node's peers and what it heard of them: membership is not kept in the log.
            UpdatePeerAck: lambda _: None,
            AddPeer: lambda _: None,
            RemovePeer: lambda _: None,
        }

    # ---- the fold --------------------------------------------------------------------------------------------------

    def apply(self, op: Op) -> None:
        """Fold one durable operation into the state."""
        self.position += 1
        self._appliers[type(op)](op)

    def _set(self, entry: Entry) -> None:
        key = entry.key
        held = self.entries.get(key)
        if held is None:
            self._keys.insert(key)
            self.size_bytes += _key_bytes(key)
        else:
            self._forget_dot(held)
            self.size_bytes -= len(held.value or b"")
            self.values -= held.value is not None
        self.entries[key] = entry
        self.size_bytes += len(entry.value or b"")
        self.values += entry.value is not None
        self._remember_dot(entry)
        self.context.add(entry.origin, entry.seq)
        if entry.origin == self.process.origin:
            self.next_seq = max(self.next_seq, entry.seq + 1)
        self.buckets.replace(held, entry)
        self._changes.append((self.position, key))

    def _clear(self, key: str) -> None:
        held = self.entries.pop(key, None)
        if held is None:
            return
        self._keys.remove(key)
        self._forget_dot(held)
        self.size_bytes -= entry_bytes(held)
        self.values -= held.value is not None
        self.buckets.replace(held, None)

    def _batch(self, batch: Batch) -> None:
        for op in batch.ops:
            self._appliers[type(op)](op)

    def _raise_next_seq(self, op: SetNextSeq) -> None:
        self.next_seq = max(self.next_seq, op.seq)

    def _increment_seq(self, _: IncrementSeq) -> None:
        self.next_seq += 1

    def _raise_floor(self, op: Floor) -> None:
        self.floor = max(self.floor, op.timestamp)

    def _begin_process(self, op: Process) -> None:
        if op.origin != self.process.origin:
            self.next_seq = 1
        self.process = op

    # ---- the order by dot ------------------------------------------------------------------------------------------

    def _remember_dot(self, entry: Entry) -> None:
        tree = self._by_origin.get(entry.origin)
        if tree is None:
            tree = self._by_origin[entry.origin] = QOBTree()
        there = tree.get(entry.seq)
        if there is None:
            tree[entry.seq] = entry.key
        else:  # only crate nodes give two keys one dot; both have to travel
            tree[entry.seq] = (*_as_keys(there), entry.key)

    def _forget_dot(self, entry: Entry) -> None:
        tree = self._by_origin[entry.origin]
        left = tuple(key for key in _as_keys(tree[entry.seq]) if key != entry.key)
        if not left:
            del tree[entry.seq]
            if not tree:
                del self._by_origin[entry.origin]
        else:
            tree[entry.seq] = left[0] if len(left) == 1 else left

    def origins(self) -> list[int]:
        """Return the origins of held entries, ascending."""
        return sorted(self._by_origin)

    def keys_of(self, origin: int, seq: int) -> tuple[str, ...]:
        """Return the keys held under one dot: one, or none where it was superseded."""
        tree = self._by_origin.get(origin)
        keys = tree.get(seq) if tree is not None else None
        return () if keys is None else _as_keys(keys)

    def greatest_seq(self, origin: int) -> int:
        """Return the greatest sequence of `origin` among held entries; it must have one."""
        return int(self._by_origin[origin].maxKey())

    def of_origin(self, origin: int, after_seq: int) -> Iterator[tuple[int, list[Entry]]]:
        """Yield `(seq, entries)` of `origin` behind `after_seq`, ascending; nearly always one entry each."""
        for seq, keys in self._by_origin[origin].items(after_seq, None, True):
            yield seq, [self.entries[key] for key in _as_keys(keys)]

    def changed_since(self, position: int) -> list[Entry] | None:
        """Return the held entries set behind log position `position`; None where that was too long ago to know."""
        if len(self._changes) == self._changes.maxlen and self._changes[0][0] > position + 1:
            return None
        keys: dict[str, None] = {}
        for at, key in reversed(self._changes):
            if at <= position:
                break
            keys[key] = None
        return [self.entries[key] for key in keys if key in self.entries]

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str, now_ms: int) -> Entry | None:
        """Return the live entry of `key`."""
        entry = self.entries.get(key)
        return entry if entry is not None and entry.alive(now_ms) else None

    def list(self, prefix: str, after: str | None, limit: int, now_ms: int) -> Page:
        """Return up to `limit` live entries with `prefix` behind `after`, in key order."""
        start = max(prefix, after) if after is not None else prefix
        found: list[Entry] = []
        for key in self._keys.keys(start, None, after is not None and start == after):
            if not key.startswith(prefix):
                break
            entry = self.entries[key]
            if entry.alive(now_ms):
                if len(found) == limit:
                    return Page(found, True)
                found.append(entry)
        return Page(found, False)

    def crate_digest(self) -> bytes:
        """Return the digest over all held entries as crate nodes compute it; kept until the next change."""
        if self._crate_digest is None or self._crate_digest[0] != self.position:
            self._crate_digest = (self.position, crate_digest(self.entries[key] for key in self._keys))
        return self._crate_digest[1]


def entry_bytes(entry: Entry) -> int:
    """Return what an entry counts towards `bytes_max`: key and value bytes."""
    return _key_bytes(entry.key) + len(entry.value or b"")


def _key_bytes(key: str) -> int:
    return len(key) if key.isascii() else len(key.encode())


def _as_keys(stored: str | tuple[str, ...]) -> tuple[str, ...]:
    return stored if isinstance(stored, tuple) else (stored,)
