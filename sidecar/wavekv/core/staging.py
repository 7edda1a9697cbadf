"""What a member will hold once all that is staged is durable: the store, and over it what waits for the disk.

Everything is decided against this: whoever looked at the store alone would let two writes of one moment pass each
other. It is made anew from the store when a group never reached the disk.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from struct import Struct

from wavekv.core.block import Block
from wavekv.core.ops import Clear, DropOrigins, Promise, StoreBlock
from wavekv.core.packed import seen
from wavekv.core.steps import Group
from wavekv.core.store import Store
from wavekv.core.types import Dot, Entry, entry_bytes

_name = Struct("<IQ").pack
"""A dot as bytes, whose hash is seeded: others choose the dots of what they send, and could make numbers collide."""


class Staging:
    """Staged entries and removals over a store.

    Attributes:
        covered: the context to come.
        floor: the floor to come (ms).
        promised: what new stamps will have to lie above (ms), R15.
        keys: how many keys will be held.
        size_bytes: their bytes, keys and values.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, Entry] = {}
        self._dots: dict[bytes, str] = {}
        self._gone: dict[str, None] = {}
        self._blocks: deque[Block] = deque()
        self.covered = store.context.copy()
        self.floor = store.floor
        self.promised = store.standing.promised
        self.keys = len(store.packed)
        self.size_bytes = store.size_bytes

    def held(self, key: str) -> Entry | None:
        """Return what `key` will hold, to be looked at (`packed.seen`)."""
        entry = self._entries.get(key)
        if entry is None and key not in self._gone:
            packed = self._in_blocks(key) if self._blocks else None
            if packed is None:
                packed = self._store.packed.get(key)
            return None if packed is None else seen(key, packed)
        return entry

    def _in_blocks(self, key: str) -> bytes | None:
        for block in self._blocks:
            packed = block.entries.get(key)
            if packed is not None:
                return packed
        return None

    def moves(self, key: str) -> bool:
        """Tell whether what `key` holds is about to change."""
        return key in self._entries or key in self._gone or self._in_blocks(key) is not None

    def fresh(self, block: Block) -> tuple[Block | None, list[Entry]]:
        """Return the part of `block` whose keys hold nothing and will hold nothing, and the other entries.

        There is none while any of its dots is covered, now or soon: some may be losers, or held under other keys (I1).
        """
        seqs = block.facts.seqs
        if any(self.covered.touches(origin, seqs[begin], seqs[end - 1]) for origin, begin, end in block.parts):
            return None, list(block.unpacked())
        books: list[Mapping[str, object]] = [self._store.packed, self._entries]
        books += [staged.entries for staged in self._blocks]
        known: set[str] = set()
        for book in filter(None, books):
            known.update(filter(book.__contains__, block.entries))
        return block.parted([key not in known for key in block.entries]) if known else (block, [])

    def keys_of(self, dot: Dot) -> tuple[str, ...]:
        """Return the keys that hold, or will hold, the entry of one dot."""
        stored = self._store.keys_of(*dot)
        staged = self._dots.get(_name(*dot)) or next(filter(None, (block.key_of(*dot) for block in self._blocks)), None)
        return stored or (() if staged is None else (staged,))

    def holds_elsewhere(self, entry: Entry) -> bool:
        """Tell whether the dot of `entry` is, or will be, held under other keys alone.

        Only crate nodes give two keys one dot; that one key covers it says nothing of the other.
        """
        keys = self.keys_of(entry.dot)
        return bool(keys) and entry.key not in keys

    def note(self, entry: Entry, held: Entry | None) -> None:
        """Count with `entry` in the place of `held`."""
        self.keys += held is None
        self.size_bytes += entry_bytes(entry) - (entry_bytes(held) if held is not None else 0)
        self._entries[entry.key] = entry
        self._dots[_name(entry.origin, entry.seq)] = entry.key
        self.covered.add(entry.origin, entry.seq)

    def note_block(self, block: Block) -> None:
        """Count with what `fresh` returned."""
        self.keys += len(block)
        self.size_bytes += block.size_bytes
        self._blocks.append(block)
        for stretch in block.stretches():
            self.covered.add_range(*stretch)

    def remove(self, held: Entry) -> None:
        """Count with nothing in the place of `held`, which is stored; new stamps of its key lie above its own (R1)."""
        self.keys -= 1
        self.size_bytes -= entry_bytes(held)
        self._gone[held.key] = None
        self.floor = max(self.floor, held.timestamp)

    def heed(self, op: Promise | DropOrigins) -> None:
        """Count with what R15 has come to."""
        if isinstance(op, Promise):
            self.promised = max(self.promised, op.timestamp)
        else:
            self.promised = max(self.promised, op.horizon)
            self.covered.drop(origin for origin, _ in op.origins)

    def promised_time(self, now_ms: int) -> int:
        """Return the clock's time, or what lies above all that this member has promised (R15)."""
        return max(now_ms, self.promised + 1)

    def settle(self, group: Group) -> None:
        """Forget what `group` staged: the store has it now."""
        for entry in group.written():
            self._dots.pop(_name(entry.origin, entry.seq), None)
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
        for op in group.ops:
            if isinstance(op, Clear):
                self._gone.pop(op.key, None)
            elif isinstance(op, StoreBlock):
                settled = self._blocks.popleft()
                assert settled is op.block, "blocks become durable in the order they were staged"

    def entries(self) -> Iterator[Entry]:
        """Yield the staged entries, the last of each key."""
        yield from self._entries.values()
        for block in self._blocks:
            yield from (entry for entry in block.unpacked() if entry.key not in self._entries)

    def removals(self) -> tuple[str, ...]:
        """Return the keys that were to be removed."""
        return tuple(self._gone)
