"""What one write of a client comes to against what its key holds; `replica` stages it.

Deciding is apart from staging so that a batch can be decided whole before anything of it is staged.
"""

from typing import NamedTuple

from wavekv.core.types import Entry
from wavekv.core.writes import KEEP_EXPIRY, Delete, Put


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


def decide(write: Put | Delete, held: Entry | None, now_ms: int) -> Planned | None:
    """Return what `write` comes to over `held`; None: a delete, and there is no live value.

    Raises:
        PreconditionFailed: its condition does not hold.
    """
    live = held if held is not None and held.alive(now_ms) else None
    write.condition.check(live)
    if isinstance(write, Delete):
        return None if live is None else Planned(write.key, None, None, held, live)
    expires_at = write.expires_at
    if expires_at == KEEP_EXPIRY:
        expires_at = live.expires_at if live is not None else None
    return Planned(write.key, write.value, expires_at, held, live)
