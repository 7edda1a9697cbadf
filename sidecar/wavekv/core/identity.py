"""Who a process is, and where it gets its randomness from."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from wavekv.core.types import U32_MAX

SKIPPED_MAX: Final = 1 << 10
"""Process numbers, as milliseconds about a second, that a start may skip."""


class Rng(Protocol):
    """The randomness the core asks for."""

    def random_u32(self) -> int:
        """Return a uniform number in 0 … 2**32-1."""
        ...


class Identity(NamedTuple):
    """Who this process is: born with the directory, but for `inc`, which is one process start's."""

    name: str
    node_id: int
    uuid: bytes
    inc: int
    first_origin: int | None
    """The origin of a new directory's first process; None: draw one at the first write (R7)."""


def process_number(now_ms: int, last: int, rng: Rng) -> int:
    """Return the number of the process that starts at `now_ms` on a volume whose last one had `last`.

    It is the time, so that a volume that was rolled back gets a greater one than it had (R8). Where the clock is behind
    it only counts on; then a few are skipped at random: two processes that a rollback lets follow the same one would
    pass for one, and what the first reported would be believed of the second.
    """
    return now_ms if now_ms > last else last + 1 + rng.random_u32() % SKIPPED_MAX


def fresh_origin(identity: Identity, rng: Rng, taken: Callable[[int], bool]) -> int:
    """Return an origin for the writes of this process; `taken` tells of one that another process used (R7)."""
    origin = identity.first_origin
    while not origin or taken(origin):
        origin = rng.random_u32() & U32_MAX
        origin = None if origin == identity.node_id else origin
    return origin
