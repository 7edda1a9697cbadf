"""Whether many origins can be looked up fast: numbers that a stranger chooses can make a dict slow.

The hash of an int is the int, so whoever chooses the keys of a dict chooses where they lie: a row of them that each
look-up has to walk to its end. Strings and bytes have seeded hashes and need no such care. Origins are random numbers,
and node ids; up to `UNCHECKED` of them the worst there is costs some milliseconds. More are put into a picture of the
table that CPython's dict would have: drawn at random, none of 65 536 walks past 50 others.
"""

from collections.abc import Collection, Iterable
from itertools import islice
from typing import Final

from wavekv.core.steps import Slices, whole

UNCHECKED: Final = 8192
"""Origins that are not looked at: 10 ms for looking up all of them, arranged as badly as can be."""
WALK_MAX: Final = 128
"""Places that one look-up may walk past; by chance more come up once in 10^18 times."""
_PERTURB_SHIFT = 5
_SLICE = 16_384


def scattered(origins: Collection[int]) -> bool:
    """Tell whether no look-up among `origins`, of one of them or another, walks far."""
    return whole(scattered_in_slices(origins))


def scattered_in_slices(origins: Collection[int]) -> Slices[bool]:
    """Do `scattered` a slice at a time: 65 536 take some 20 ms."""
    if len(origins) <= UNCHECKED:
        return True
    mask = (1 << (len(origins) * 3 // 2).bit_length()) - 1
    taken = bytearray(mask + 1)
    for begin in range(0, len(origins), _SLICE):
        if not _place(islice(origins, begin, begin + _SLICE), taken, mask):
            return False
        yield
    at = walked = 0
    for step in range(mask + 1 + WALK_MAX):
        at = (at * 5 + 1) & mask
        walked = walked + 1 if taken[at] else 0
        if walked > WALK_MAX:
            return False
        if step % _SLICE == 0:
            yield
    return True


def _place(origins: Iterable[int], taken: bytearray, mask: int) -> bool:
    """Put all into the table as CPython does; tell whether each found its place soon."""
    for origin in origins:
        at, rest, walked = origin & mask, origin, 0
        while taken[at]:
            rest >>= _PERTURB_SHIFT
            at = (at * 5 + rest + 1) & mask
            walked += 1
            if walked > WALK_MAX:
                return False
        taken[at] = 1
    return True
