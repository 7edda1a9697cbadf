"""What a member will hold once all that is staged is durable: the store, and over it what waits for the disk.

Everything is decided against this: whoever looked at the store alone would let two writes of one moment pass each
other. It is made anew from the store when a group never reached the disk.
"""

from collections.abc import Iterable

from wavekv.core.ops import Clear
from wavekv.core.steps import Group
from wavekv.core.store import Store, entry_bytes
from wavekv.core.types import Dot, Entry


class Staging:
    """Staged entries and removals over a store.

    Attributes:
        covered: the context to come.
        floor: the floor to come (ms).
        keys: how many keys will be held.
        size_bytes: their bytes, keys and values.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, Entry] = {}
        self._dots: dict[Dot, str] = {}
        self._gone: dict[str, None] = {}
        self.covered = store.context.copy()
        self.floor = store.floor
        self.keys = len(store.packed)
        self.size_bytes = store.size_bytes

    def held(self, key: str) -> Entry | None:
        """Return what `key` will hold."""
        entry = self._entries.get(key)
        if entry is None and key not in self._gone:
            return self._store.entries.get(key)
        return entry

    def moves(self, key: str) -> bool:
        """Tell whether what `key` holds is about to change."""
        return key in self._entries or key in self._gone

    def keys_of(self, dot: Dot) -> tuple[str, ...]:
        """Return the keys that hold, or will hold, the entry of one dot."""
        stored = self._store.keys_of(*dot)
        return stored or ((self._dots[dot],) if dot in self._dots else ())

    def note(self, entry: Entry, held: Entry | None) -> None:
        """Count with `entry` in the place of `held`."""
        self.keys += held is None
        self.size_bytes += entry_bytes(entry) - (entry_bytes(held) if held is not None else 0)
        self._entries[entry.key] = entry
        self._dots[entry.dot] = entry.key
        self.covered.add(entry.origin, entry.seq)

    def remove(self, held: Entry) -> None:
        """Count with nothing in the place of `held`, which is stored; new stamps of its key lie above its own (R1)."""
        self.keys -= 1
        self.size_bytes -= entry_bytes(held)
        self._gone[held.key] = None
        self.floor = max(self.floor, held.timestamp)

    def settle(self, group: Group) -> None:
        """Forget what `group` staged: the store has it now."""
        for entry in group.stored():
            self._dots.pop(entry.dot, None)
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
        for op in group.ops:
            if isinstance(op, Clear):
                self._gone.pop(op.key, None)

    def entries(self) -> Iterable[Entry]:
        """Return the staged entries, the last of each key."""
        return tuple(self._entries.values())

    def removals(self) -> Iterable[str]:
        """Return the keys that were to be removed."""
        return tuple(self._gone)
