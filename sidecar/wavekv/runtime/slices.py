"""Runs work that the core cut in slices, one in a turn of the loop: everybody else has theirs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from wavekv.core.steps import Slices
from wavekv.runtime.gate import next_slice

T = TypeVar("T")


async def in_turns(slices: Slices[T], measured: Callable[[], AbstractContextManager[None]] = nullcontext) -> T:
    """Do a slice a turn; return what the work returns, in the turn of its last slice. Raises what the work raises.

    Each slice runs inside a context that `measured` makes.
    """
    while True:
        try:
            with measured():
                next(slices)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        await next_slice()
