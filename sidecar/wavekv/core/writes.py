"""What a client asks to be written: the parts of a batch, and how an expiry is named."""

from typing import Final, NamedTuple

from wavekv.core.condition import ALWAYS, Condition

KEEP_EXPIRY: Final = 0
"""As `expires_at`: what the live value there has. Nobody can want the first millisecond of 1970."""


class Put(NamedTuple):
    """Store `value`; `expires_at` in ms since 1970, None: never, KEEP_EXPIRY: as it is."""

    key: str
    value: bytes
    expires_at: int | None = None
    condition: Condition = ALWAYS


class Check(NamedTuple):
    """Write nothing: a batch with it is refused where `condition` does not hold."""

    key: str
    condition: Condition


class Delete(NamedTuple):
    """Store a tombstone; in a batch a key without a live value is passed over, unless `condition` says otherwise."""

    key: str
    condition: Condition = ALWAYS


Write = Put | Delete | Check
"""One operation of a batch."""
