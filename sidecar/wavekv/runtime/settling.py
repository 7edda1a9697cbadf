"""Does what a start or a catch-up left to do, a slice at a time, and keeps what came of it out of full collections."""

import asyncio
from typing import Final, NoReturn

from wavekv.core.ordered import SORTED_AT_ONCE
from wavekv.core.store import Store
from wavekv.runtime.starting import LeftOut
from wavekv.runtime.watchdog import Watchdog

_SETTLED_PER_TURN: Final = 500
"""Entries taken into the digest in one turn of the loop, about half a millisecond."""
_SETTLE_SECONDS: Final = 0.002
_LOOK_SECONDS: Final = 0.25
"""Until it is looked again whether anything is left to do."""


async def keep_settled(store: Store, watchdog: Watchdog) -> NoReturn:
    """Leave the loop to others between any two slices; until cancelled."""
    left_out = LeftOut(len(store.packed))
    arranged = 0
    while True:
        with watchdog.running("settle"):
            more = store.settle(_SETTLED_PER_TURN)
            arranged += SORTED_AT_ONCE if more else 0
            left_out.look(len(store.packed) + arranged)
        await asyncio.sleep(_SETTLE_SECONDS if more else _LOOK_SECONDS)
