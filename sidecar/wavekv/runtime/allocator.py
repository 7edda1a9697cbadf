"""Makes the allocator give large blocks back to the system, so that what clients held once is not held for ever.

glibc raises its threshold for blocks of their own with each large one that is freed, up to 32 MiB; from then on bodies
and answers lie on the heap among small things, and a heap that was large once stays so: 150 watches that were cut at
once left 390 MiB behind, with a fixed threshold 120.
"""

import ctypes
from contextlib import suppress
from typing import Final

LARGE_BYTES: Final = 512 << 10
"""Blocks from this size are mapped on their own; reads and writes of sockets stay below it."""
_M_MMAP_THRESHOLD: Final = -3


def give_back_large_blocks() -> None:
    """Fix the threshold; another C library than glibc goes on as it does."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
