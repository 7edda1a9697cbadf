"""Runs work that the core cut in slices, with a turn of the loop between two of them: everybody else has theirs."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from wavekv.core.steps import Slices

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
        await asyncio.sleep(0)
