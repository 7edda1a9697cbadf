"""Lines of the log that a stranger can cause: one of a kind now and then, with how many were left out (G9, G11)."""

import logging
from collections.abc import Callable
from typing import Final

KINDS_MAX: Final = 64
"""Kinds told apart; later ones share one."""
_OTHERS: Final = "other"


class SpacedLog:
    """Writes to `log`, at most one line of a kind in `seconds`."""

    def __init__(self, log: logging.Logger, clock_seconds: Callable[[], float], seconds: float = 10.0) -> None:
        self._log = log
        self._now = clock_seconds
        self._seconds = seconds
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, level: int, kind: str, message: str, *arguments: object) -> None:
        """Log `message` if none of its kind was lately, else count it for the next one."""
        if kind not in self._told_at and len(self._told_at) >= KINDS_MAX:
            kind = _OTHERS
        now = self._now()
        if now - self._told_at.get(kind, float("-inf")) < self._seconds:
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return
        self._told_at[kind] = now
        untold = self._untold.pop(kind, 0)
        if untold:
            message, arguments = f"{message} (and %d more like it)", (*arguments, untold)
        self._log.log(level, message, *arguments)
