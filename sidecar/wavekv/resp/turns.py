"""How the connections of the Redis plane share the loop: so many steps of work in one turn of it, whoever takes them.

A step is about ten microseconds: a GET. A connection that used its share of a turn, or finds the turn's steps used up,
stands in line behind the others, so pipelines and walks over a million keys make nobody wait for longer than a turn.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

STEPS_PER_TURN: Final = 96
"""Steps of all connections in one turn of the loop, about a millisecond."""
STEPS_PER_SHARE: Final = 48
"""Steps of one connection before the next one has its turn."""
BYTES_PER_STEP_SHIFT: Final = 14
"""Moving 16 KiB, as a value is on its way out, counts as a step."""
WRITE_STEPS: Final = 4
"""Steps that a write costs before it waits for the disk."""
KEYS_PER_SLICE: Final = 512
"""Keys looked up or written in one slice of a command of very many."""
SLICE_STEPS: Final = 48
"""Steps that a slice takes: half a millisecond."""


class Turns:
    """The steps that are left in this turn of the loop, and who stands in line for the next one."""

    def __init__(self, steps_per_turn: int = STEPS_PER_TURN) -> None:
        self._steps_per_turn = steps_per_turn
        self._waiting: deque[Callable[[], None]] = deque()
        self._renewing = False
        self.left = steps_per_turn

    def share(self) -> int:
        """Return how many steps the connection whose turn it is may take."""
        return min(self.left, STEPS_PER_SHARE)

    def take(self, steps: int) -> None:
        """Take note of steps done. Renewed in the next turn of the loop, once half of them are used."""
        self.left -= steps
        if self.left < self._steps_per_turn // 2 and not self._renewing:
            self._renew_soon()

    def wait(self, go_on: Callable[[], None]) -> None:
        """Stand in line: `go_on` is called when steps are there again, never in this turn."""
        self._waiting.append(go_on)
        if not self._renewing:
            self._renew_soon()

    def _renew_soon(self) -> None:
        self._renewing = True
        asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._renewing = False
        self.left = self._steps_per_turn
        for _ in range(len(self._waiting)):
            if self.left <= 0:
                break
            self._waiting.popleft()()
        if self._waiting and not self._renewing:
            self._renew_soon()
