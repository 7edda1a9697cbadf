"""How long the Redis plane waits for a client that holds its memory: half a command, or replies that are not taken.

Without an end to it, a thousand connections that never go on would fill the plane's budget for ever. An idle connection
holds nothing and may stay, as with Redis; only where all connections are taken does one that has been idle for long
give way to a new one.
"""

import asyncio
import logging
from typing import Final, Protocol

from wavekv.config import Limits
from wavekv.ports import Clock
from wavekv.runtime.budget import ByteBudget

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.25
_PRESSED_PART: Final = 8
"""The plane is pressed when less than an eighth of its budget is left."""
_LOG_SECONDS: Final = 5.0
"""Between two lines of the log about clients that were cut."""


class Stuck(Protocol):
    """A connection that may have to be cut."""

    def stuck_for(self, now: float) -> tuple[float, str]:
        """Return for how many seconds it has not gone on, and with what."""
        ...

    def cut(self, why: str) -> None:
        """Close at once."""
        ...


class Patience:
    """The connections that hold something and are waited for."""

    def __init__(self, limits: Limits, clock: Clock, budget: ByteBudget) -> None:
        self._limits = limits
        self._clock = clock
        self._budget = budget
        self._stuck: dict[Stuck, None] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._logged_at = float("-inf")
        self._unlogged = 0

    def watch(self, connection: Stuck) -> None:
        """Wait for `connection` no longer than the limits allow."""
        self._stuck[connection] = None
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def forget(self, connection: Stuck) -> None:
        """It went on, or has gone."""
        self._stuck.pop(connection, None)

    def stop(self) -> None:
        """Wait for nobody."""
        if self._looking is not None:
            self._looking.cancel()
        self._stuck.clear()

    def _look(self) -> None:
        pressed = self._budget.left < self._budget.bytes_max // _PRESSED_PART
        most_ms = self._limits.resp_pressed_ms_max if pressed else self._limits.resp_stuck_ms_max
        now = self._clock.monotonic()
        for connection in list(self._stuck):
            seconds, why = connection.stuck_for(now)
            if seconds * 1000 >= most_ms:
                del self._stuck[connection]
                connection.cut(why)
        self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look) if self._stuck else None

    def tell(self, address: str, why: str) -> None:
        """Log that a client was cut, but for a flood of them."""
        now = self._clock.monotonic()
        if now - self._logged_at < _LOG_SECONDS:
            self._unlogged += 1
            return
        more = f"; {self._unlogged} more since the last line" if self._unlogged else ""
        log.warning("a Redis client at %s was cut: %s%s", address, why, more)
        self._logged_at, self._unlogged = now, 0
