"""Entries of other members that were refused on merge: counted by code, and the last one named, at a bounded rate."""

import logging
from collections.abc import Mapping
from typing import Final

from wavekv.core.replica import Replica
from wavekv.ports import Clock, Observer

log = logging.getLogger(__name__)

_LOGGED_SECONDS: Final = 30.0
"""Between two lines about one code."""
_KEY_SHOWN_MAX: Final = 80


class Refusals:
    """What is told of the refusals of one store."""

    def __init__(self, replica: Replica, observer: Observer, clock: Clock) -> None:
        self._replica = replica
        self._observer = observer
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, refused: Mapping[str, int]) -> None:
        """Count what a merge, just now, refused by code; log the last of each code now and then."""
        for code, count in refused.items():
            self._observer.refused(code, count)
            self._untold[code] = self._untold.get(code, 0) + count
            now = self._clock.monotonic()
            if now - self._logged_at.get(code, float("-inf")) >= _LOGGED_SECONDS:
                self._logged_at[code] = now
                self._log(code, self._untold.pop(code))

    def _log(self, code: str, count: int) -> None:
        last = self._replica.last_refusal
        if last is None or last.code != code:
            log.warning("refused %d entries of other members on merge [%s]", count, code)
            return
        if not last.key:
            log.warning("did not take what %s says it covers, %d times [%s]", last.sender, count, code)
            return
        log.warning(
            "refused %d entries of other members on merge; the last is of %s, key %r, stamped %.1f s ahead [%s]",
            count,
            last.sender or "an unknown sender",
            last.key[:_KEY_SHOWN_MAX],
            (last.timestamp - last.seen_ms) / 1000,
            code,
        )
