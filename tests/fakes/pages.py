"""Pages of a listing gathered at once, for tests that are about what is in them."""

from typing import NamedTuple

from wavekv.core.paging import Paging
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.ports import Listing


class Page(NamedTuple):
    """Live entries in key order, and whether more follow."""

    entries: list[Entry]
    more: bool


def whole(listing: Listing) -> Page:
    """Gather a page of a data plane's store."""
    while listing.step():
        pass
    return Page(listing.entries, listing.more)


def page_of(store: Store, prefix: str, after: str | None, limit: int, now_ms: int) -> Page:
    """Gather a page of the core's store, values included."""
    paging = Paging(store, prefix, after, limit, keys_only=False, bytes_max=None)
    while paging.step(now_ms):
        pass
    return Page(paging.entries, paging.more)
