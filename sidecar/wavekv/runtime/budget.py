"""Bytes in the hands of clients: one budget a plane, taken before memory is used and given back after (G9).

A bound on each part and none on the whole is none: a thousand connections may each stay below theirs. So what requests,
answers and streams of one plane hold at a time is counted in one `ByteBudget`, made in `cli/process.py` and passed to
the plane. `Holding` is the part of one connection, request or stream: it knows how much it took, so that giving back
cannot be forgotten in part or done twice. Everything runs on the loop's thread; nothing here waits.

Turned down: a semaphore that requests queue at. The queue would be one more thing to bound, and whoever holds the bytes
is often a client that waits for nothing but our patience.
"""

from types import TracebackType
from typing import NamedTuple, Self

from wavekv.config import Limits
from wavekv.errors import TooManyBytes


class ByteBudget:
    """At most `bytes_max` bytes held at a time by all clients of `plane`.

    `used` and `peak` are bytes, `refusals` counts what did not fit; metrics read them.
    """

    __slots__ = ("bytes_max", "peak", "plane", "refusals", "used")

    def __init__(self, plane: str, bytes_max: int) -> None:
        assert bytes_max > 0, "a budget of nothing serves nobody"
        self.plane = plane
        self.bytes_max = bytes_max
        self.used = 0
        self.peak = 0
        self.refusals = 0

    @property
    def left(self) -> int:
        """Bytes that still fit; never negative."""
        return max(self.bytes_max - self.used, 0)

    def try_take(self, size: int) -> bool:
        """Take `size` bytes and return True, or count a refusal and return False with nothing taken."""
        assert size >= 0, "bytes are given back by give_back"
        used = self.used + size
        if used > self.bytes_max:
            self.refusals += 1
            return False
        self.used = used
        self.peak = max(self.peak, used)
        return True

    def take(self, size: int) -> None:
        """Take `size` bytes.

        Raises:
            TooManyBytes: they do not fit; nothing is taken.
        """
        if not self.try_take(size):
            raise TooManyBytes(
                f"the clients of the {self.plane} plane hold {self.used} of {self.bytes_max} bytes, and this needs "
                f"{size} more; read answers as they come, send less at once, or try again"
            )

    def give_back(self, size: int) -> None:
        """Give back `size` bytes that were taken."""
        assert 0 <= size <= self.used, "more is given back than was taken"
        self.used -= size


class Holding:
    """What one connection, request or stream holds of a budget; empty at first. A context manager that gives back."""

    __slots__ = ("budget", "size")

    def __init__(self, budget: ByteBudget) -> None:
        self.budget = budget
        self.size = 0

    def try_resize(self, size: int) -> bool:
        """Hold `size` bytes from now on and return True; return False, and hold what it held, if they do not fit."""
        more = size - self.size
        if more > 0:
            if not self.budget.try_take(more):
                return False
        elif more:
            self.budget.give_back(-more)
        self.size = size
        return True

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on. Less always fits.

        Raises:
            TooManyBytes: they do not fit; it holds what it held.
        """
        if size > self.size:
            self.budget.take(size - self.size)
            self.size = size
        else:
            self.try_resize(size)

    def release(self) -> None:
        """Give everything back. Safe to call twice."""
        self.try_resize(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Budgets(NamedTuple):
    """The budgets of one member, each passed to its plane; their sum is in docs/memory.md."""

    http: ByteBudget
    resp: ByteBudget
    watch: ByteBudget
    peer: ByteBudget


def budgets_of(limits: Limits) -> Budgets:
    """Return empty budgets of the sizes that `limits` name."""
    return Budgets(
        ByteBudget("http", limits.http_held_bytes_max),
        ByteBudget("resp", limits.resp_held_bytes_max),
        ByteBudget("watch", limits.watch_held_bytes_max),
        ByteBudget("peer", limits.peer_held_bytes_max),
    )
