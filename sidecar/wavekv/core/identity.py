"""Who a process is, and where it gets its randomness from."""

from typing import NamedTuple, Protocol


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
