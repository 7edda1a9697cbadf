"""Lets so much work through in one turn of the loop: what many do at once is spread over turns, in the order they came.

Work that is cut in slices awaits `next_slice` between two of them: one slice runs in a turn of the loop, whoever's it
is. With `asyncio.sleep(0)` a turn would have a slice of everybody, and a small request would wait for all of them.
"""

import asyncio
from collections import deque
from weakref import WeakKeyDictionary


class Gate:
    """So many pass in one turn of a loop; the others in the next ones."""

    __slots__ = ("_left", "_per_turn", "_renewing", "_waiting")

    def __init__(self, per_turn: int) -> None:
        assert per_turn > 0, "a gate that nobody passes is a wall"
        self._per_turn = self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._renewing = False

    async def passed(self) -> None:
        """Go on in this turn if it has room, which takes about a microsecond; else in a later one."""
        if self._left > 0 and not self._waiting:
            self._left -= 1
            self._renew_soon()
        else:
            await self.next()

    async def next(self, *, ahead: bool = False) -> None:
        """Go on in a later turn, the next one if nobody else waits for it; `ahead` of all that wait."""
        waiting = asyncio.get_running_loop().create_future()
        if ahead:
            self._waiting.appendleft(waiting)
        else:
            self._waiting.append(waiting)
        self._renew_soon()
        await waiting

    def _renew_soon(self) -> None:
        if not self._renewing:
            self._renewing = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._renewing, self._left = False, self._per_turn
        while self._waiting and self._left > 0:
            waiting = self._waiting.popleft()
            if not waiting.done():  # else it was cancelled
                waiting.set_result(None)
                self._left -= 1
        if self._left < self._per_turn:
            self._renew_soon()


_GATES: WeakKeyDictionary[asyncio.AbstractEventLoop, Gate] = WeakKeyDictionary()
"""The gate of each loop, which is what all its work shares."""


async def next_slice(*, ahead: bool = False) -> None:
    """Wait for a turn of the loop in which no other slice is done.

    `ahead` of all that wait goes who holds much until it is done, for some hundred slices at most.
    """
    loop = asyncio.get_running_loop()
    gate = _GATES.get(loop)
    if gate is None:
        gate = _GATES[loop] = Gate(1)
    await gate.next(ahead=ahead)
