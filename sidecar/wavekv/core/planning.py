"""What one write of a client comes to against what its key holds; `replica` stages it.

Deciding is apart from staging so that a batch can be decided whole before anything of it is staged.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from wavekv.core.types import Entry
from wavekv.core.writes import KEEP_EXPIRY, Check, Delete, Write
from wavekv.errors import PreconditionFailed


class Planned(NamedTuple):
    """A write that may happen: what its key will hold, what it holds now, and that again if it is live."""

    key: str
    value: bytes | None
    expires_at: int | None
    held: Entry | None
    live: Entry | None

    @property
    def growth_bytes(self) -> int:
        """What the write adds to the bytes held; negative where it frees some."""
        before = len(self.held.value or b"") if self.held is not None else -len(self.key.encode())
        return len(self.value or b"") - before


def decide(write: Write, held: Entry | None, now_ms: int) -> Planned | None:
    """Return what `write` comes to over `held`; None: nothing, as a check or a delete of no live value does.

    Raises:
        PreconditionFailed: its condition does not hold.
    """
    live = held if held is not None and held.alive(now_ms) else None
    write.condition.check(live)
    if isinstance(write, Check):
        return None
    if isinstance(write, Delete):
        return None if live is None else Planned(write.key, None, None, held, live)
    expires_at = write.expires_at
    if expires_at == KEEP_EXPIRY:
        expires_at = live.expires_at if live is not None else None
    return Planned(write.key, write.value, expires_at, held, live)


def decide_all(
    writes: Sequence[Write],
    held: Callable[[str], Entry | None],
    now_ms: int,
    check: Callable[[Planned, int, int], None],
) -> list[Planned | None]:
    """Decide every write over those before it; a placeholder of theirs stands in for the entry to come.

    `check` raises where a write is refused for what it is, with the keys and bytes that those before it add.

    Raises:
        PreconditionFailed: a condition does not hold; `operation` is the place of its write.
    """
    ahead: dict[str, Entry] = {}
    planned: list[Planned | None] = []
    keys = growth = 0
    for place, write in enumerate(writes):
        try:
            one = decide(write, ahead.get(write.key) or held(write.key), now_ms)
        except PreconditionFailed as refusal:
            behind = write.key in ahead
            raise _refused(refusal, place, held(write.key) if behind else None, now_ms, behind=behind) from refusal
        planned.append(one)
        if one is not None:
            check(one, keys, growth)
            keys += one.held is None
            growth += one.growth_bytes
            ahead[one.key] = Entry(one.key, one.value, now_ms, 0, 0, one.expires_at)
    return planned


def _refused(
    refusal: PreconditionFailed, place: int, held: Entry | None, now_ms: int, *, behind: bool
) -> PreconditionFailed:
    """Say which operation failed; a placeholder's tag is nobody's: what is there stays as the batch found it."""
    if not behind:
        return PreconditionFailed(f"operation {place}: {refusal.detail}", refusal.etag, place)
    etag = held.etag if held is not None and held.alive(now_ms) else None
    detail = f"operation {place}: its condition does not hold behind the earlier operations on its key"
    return PreconditionFailed(detail, etag, place)
