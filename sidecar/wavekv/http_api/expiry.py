"""How a time to live is asked for, and how an entry's expiry is told: in seconds with three decimals at most."""

import re
from decimal import Decimal
from typing import Any, Final

from wavekv.core.types import Entry
from wavekv.core.writes import KEEP_EXPIRY
from wavekv.errors import InvalidParameter

KEEP: Final = "keep"
"""As a time to live: what the live value there has."""

_SECONDS: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,3})?")
_HOW: Final = "is neither keep nor a number of seconds above 0 with up to 3 decimals, at most"


def expiry_of(asked: str | None, now_ms: int, ttl_ms_max: int) -> int | None:
    """Return `expires_at` for a parameter `ttl`, None where it was not given.

    Raises:
        InvalidParameter: not a time to live, or above the bound.
    """
    if asked is None:
        return None
    if asked == KEEP:
        return KEEP_EXPIRY
    milliseconds = int(Decimal(asked) * 1000) if _SECONDS.fullmatch(asked) else 0
    if not 0 < milliseconds <= ttl_ms_max:
        raise InvalidParameter(f"ttl={asked[:80]!r} {_HOW} {ttl_ms_max // 1000}")
    return now_ms + milliseconds


def expiry_of_number(asked: Any, now_ms: int, ttl_ms_max: int) -> int | None:
    """Return `expires_at` for the number or the word in a document. Raises as `expiry_of`."""
    if isinstance(asked, str) and asked != KEEP:
        raise InvalidParameter(f"ttl={asked[:80]!r} {_HOW} {ttl_ms_max // 1000}; write it as a number")
    if isinstance(asked, bool) or not isinstance(asked, (int, float, str)):
        raise InvalidParameter(f"ttl {_HOW} {ttl_ms_max // 1000}")
    # The shortest text that reads as this float: 0.001 is one millisecond, whatever its bits say.
    return expiry_of(asked if isinstance(asked, str) else format(Decimal(str(asked)), "f"), now_ms, ttl_ms_max)


def expiry_headers(entry: Entry, now_ms: int) -> dict[str, str]:
    """Return the headers that tell when `entry` expires, none if it never does."""
    if entry.expires_at is None:
        return {}
    left = max(entry.expires_at - now_ms, 0)
    return {"Wavekv-Expires-At": str(entry.expires_at), "Wavekv-Ttl": f"{left // 1000}.{left % 1000:03}"}
