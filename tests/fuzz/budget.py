"""What one input may cost: processor time and memory, over which an execution fails.

Time is the process's own, so that a busy machine changes nothing, and what was slow is tried again: a collection of
garbage that happened to fall into it does not count. Memory is the greatest that the process had, which the kernel is
asked to forget now and then: one execution that raises it by the bound is told from many that leave a little.
"""

import gc
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

CPU_SECONDS_MAX: Final = 0.05
BYTES_MAX: Final = 64 << 20
TRIES: Final = 3
_MAXRSS_BYTES: Final = 1 if sys.platform == "darwin" else 1024


class OverBudget(AssertionError):
    """An input that costs more than any may."""


_FORGET_EVERY: Final = 64
_calls = count(1)


def forget_peak() -> None:
    """Let the memory that the process has now be the most it ever had, where the kernel can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Return the most memory that the process had since the last `forget_peak`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


def check_within(run: Callable[[bytes], None], data: bytes, *, slower: float = 1.0) -> None:
    """Run one input, and check what it cost.

    Args:
        run: Takes it.
        data: The input.
        slower: How many times instrumented code is slower than what the bound is for.

    Raises:
        OverBudget: it took too long each time, or too much memory.
    """
    if next(_calls) % _FORGET_EVERY == 0:
        forget_peak()
    before = peak_bytes()
    begun = time.process_time()
    run(data)
    spent = time.process_time() - begun
    grown = peak_bytes() - before
    if grown > BYTES_MAX:
        raise OverBudget(f"{grown >> 20} MiB of memory for an input of {len(data)} bytes")
    tries = 1
    while spent > CPU_SECONDS_MAX * slower and tries < TRIES:
        gc.collect()
        begun = time.process_time()
        run(data)
        spent = min(spent, time.process_time() - begun)
        tries += 1
    if spent > CPU_SECONDS_MAX * slower:
        raise OverBudget(f"{spent * 1000:.0f} ms of processor time for an input of {len(data)} bytes")
