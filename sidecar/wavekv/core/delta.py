"""Which entries another member lacks, page by page (R3).

Order is by dot. A page ends before the entry that would exceed its bounds, and one entry always goes. Entries that
share a dot (only crate nodes make such) are never parted, because a cursor cannot point between them. A quiet round
looks at one number per origin, never at entries.
"""

from collections.abc import Iterator
from typing import NamedTuple

from wavekv.config import Limits
from wavekv.core.context import Context
from wavekv.core.store import Store, entry_bytes
from wavekv.core.types import Dot, Entry

_ENTRY_OVERHEAD_BYTES = 32


class DeltaPage(NamedTuple):
    """Entries of one page; `cursor` is the last dot sent if more follow, None on the last page."""

    entries: tuple[Entry, ...]
    cursor: Dot | None


def delta_page(store: Store, theirs: Context, after: Dot | None, limits: Limits) -> DeltaPage:
    """Return the first page of what `theirs` does not cover, starting strictly behind `after`."""
    found: list[Entry] = []
    size = 0
    last: Dot | None = None
    for dot, entries in _uncovered(store, theirs, after or (0, 0)):
        weight = sum(entry_bytes(entry) + _ENTRY_OVERHEAD_BYTES for entry in entries)
        if found and (len(found) >= limits.page_entries_max or size + weight > limits.page_bytes_max):
            return DeltaPage(tuple(found), last)
        found += entries
        size += weight
        last = dot
    return DeltaPage(tuple(found), None)


def lacks_any(store: Store, theirs: Context) -> bool:
    """Tell whether `theirs` lacks anything that is held here."""
    return next(_uncovered(store, theirs, (0, 0)), None) is not None


def _uncovered(store: Store, theirs: Context, after: Dot) -> Iterator[tuple[Dot, list[Entry]]]:
    for origin in store.origins():
        if origin < after[0]:
            continue
        behind = max(theirs.acks.get(origin, 0), after[1] if origin == after[0] else 0)
        if store.greatest_seq(origin) <= behind:
            continue
        for seq, entries in store.of_origin(origin, behind):
            if not theirs.covers(origin, seq):
                yield (origin, seq), entries


def changed_behind(store: Store, theirs: Context, cursor: Dot, position: int, limits: Limits) -> list[Entry] | None:
    """Return what changed since log position `position`, sorts up to `cursor`, and `theirs` lacks (R3c).

    None says that the changes are too many or too long ago: the receiver must adopt nothing.
    """
    changed = store.changed_since(position)
    if changed is None:
        return None
    late = [entry for entry in changed if entry.dot <= cursor and not theirs.covers(entry.origin, entry.seq)]
    weight = sum(entry_bytes(entry) + _ENTRY_OVERHEAD_BYTES for entry in late)
    return late if len(late) <= limits.page_entries_max and weight <= limits.page_bytes_max else None
