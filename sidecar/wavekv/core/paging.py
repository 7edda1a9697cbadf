"""One page of a listing, gathered slice by slice, so that no page holds the loop up, whatever lies between its entries.

What it guarantees while keys come and go between two slices: a key that is there all the time is told exactly once, in
the page or behind it; one that comes or goes meanwhile may be told or not; each entry is what its key held when its
slice was taken.
"""

from wavekv.core.store import Store
from wavekv.core.types import Entry


class Paging:
    """A page of `limit` entries and `bytes_max` value bytes at most, whichever comes first; one entry always goes."""

    def __init__(
        self, store: Store, prefix: str, after: str | None, limit: int, *, keys_only: bool, bytes_max: int | None
    ) -> None:
        """Begin behind `after`. With `keys_only` values are empty, and none is copied; `bytes_max` None: no bound."""
        self._store = store
        self._prefix = prefix
        self._after = after
        self._limit = limit
        self._keys_only = keys_only
        self._bytes_left = bytes_max
        self.entries: list[Entry] = []
        self.more = False
        """Whether live entries follow; known once the page is complete."""

    def step(self, now_ms: int) -> bool:
        """Look at some hundred keys more, a millisecond at most; tell whether there is more to do."""
        room = self._limit - len(self.entries)
        found = self._store.slice(self._prefix, self._after, room or 1, now_ms, keys_only=self._keys_only or not room)
        if found.passed is not None:
            self._after = found.passed
        if found.entries and not self._take(found.entries, room):
            self.more = True
            return False
        return found.more

    def _take(self, entries: list[Entry], room: int) -> bool:
        """Take what there is room for; tell whether that was all."""
        if not room:
            return False
        if self._bytes_left is not None:
            for index, entry in enumerate(entries):
                self._bytes_left -= len(entry.value or b"")
                if self._bytes_left < 0 and (index or self.entries):
                    self.entries += entries[:index]
                    return False
        self.entries += entries
        return True
