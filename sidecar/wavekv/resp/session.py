"""One connection's state as commands see it, what its server's connections share, and what a command is."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wavekv.config import Limits
from wavekv.core.session import DotRange
from wavekv.core.types import parse_key
from wavekv.errors import ValueTooLarge
from wavekv.ports import Clock, KeyValues, Written
from wavekv.resp import replies
from wavekv.resp.patience import Patience
from wavekv.resp.turns import Turns
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.watchdog import Watchdog

Sliced = Generator[int, None, bytes]
"""A reply that is made in slices, between which others have their turn; each slice yields the steps it took."""
Reply = bytes | Coroutine[Any, Any, bytes] | Sliced
"""A reply, the write that will give one, or the slices that make one."""

SYNTAX = "ERR syntax error"
NOT_INTEGER = "ERR value is not an integer or out of range"
SHOWN_MAX = 128
"""Characters of an unknown word that Redis repeats."""

_CURSOR_BITS = 63  # clients read a cursor as an unsigned, some as a signed 64-bit number


class Refused(Exception):
    """A command that is answered by an error in Redis' own words."""


class Cursors:
    """Where SCANs stand: a number for the last key told. Of the server, since clients scan over several connections.

    The numbers are random, so that one of an earlier process is unknown here and refused, not taken for another place.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._keys: OrderedDict[int, str] = OrderedDict()

    def remember(self, key: str) -> int:
        """Return the cursor behind `key`; the oldest is forgotten above the bound."""
        cursor = secrets.randbits(_CURSOR_BITS) or 1
        self._keys[cursor] = key
        if len(self._keys) > self._count_max:
            self._keys.popitem(last=False)
        return cursor

    def behind(self, cursor: int) -> str:
        """Return the key that `cursor` stands behind. Raises Refused."""
        key = self._keys.get(cursor)
        if key is None:
            raise Refused("ERR invalid cursor: this member does not remember it; begin anew with 0")
        return key


@dataclass(slots=True)
class Shared:
    """What the connections of one server share."""

    store: KeyValues
    limits: Limits
    clock: Clock
    cursors: Cursors
    started: float
    budget: ByteBudget
    turns: Turns
    patience: Patience
    watchdog: Watchdog
    long_writes: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held for each slice of a write of very many keys, so that one slice runs at a time."""
    port: int = 0
    sessions: "dict[int, Session]" = field(default_factory=dict)


@dataclass(slots=True)
class Session:
    """One connection's state; `proto` is the version of RESP its replies have."""

    shared: Shared
    number: int
    address: str = ""
    proto: int = 2
    name: bytes = b""
    library: dict[bytes, bytes] = field(default_factory=dict)
    ends: bool = False
    waiting: "asyncio.Future[Any] | None" = None
    """What a WAIT of this connection waits for."""
    hurries: bool = False
    """No WAIT waits any more."""
    written: dict[int, DotRange] = field(default_factory=dict)
    """What the connection wrote, by origin, as a span: what others wrote in between is in it, and travels with it."""
    refusing: bool = False
    """A transaction was asked for and refused: what would be in it is not run either."""

    @property
    def store(self) -> KeyValues:
        """The store commands speak of."""
        return self.shared.store

    @property
    def limits(self) -> Limits:
        """The named bounds."""
        return self.shared.limits

    def wrote(self, written: Written | None) -> Written | None:
        """Take note of what a command wrote, and return it."""
        if written is not None:
            origin, seq = written.entry.dot
            span = self.written.get(origin, DotRange(origin, seq, seq))
            self.written[origin] = DotRange(origin, min(span.first, seq), max(span.last, seq))
        return written

    def end_wait(self) -> None:
        """Let a WAIT answer what it knows by now, and those to come at once: nobody waits for more."""
        self.hurries = True
        if self.waiting is not None:
            self.waiting.cancel()

    def key(self, raw: bytes) -> str:
        """Return a key. Raises InvalidKey."""
        return parse_key(raw, self.limits.key_bytes_max)

    def value(self, raw: bytes) -> bytes:
        """Return a value. Raises ValueTooLarge."""
        if len(raw) > self.limits.value_bytes_max:
            raise ValueTooLarge(f"the value has {len(raw)} bytes; at most {self.limits.value_bytes_max} are allowed")
        return raw


class Command(NamedTuple):
    """One line of the table. `reads` waits for this connection's earlier writes; counts include the name.

    `keys`: places of the first and the last key, and the step between, as COMMAND tells them.
    """

    kind: str
    words_min: int
    words_max: int | None
    reads: bool
    run: Callable[[Session, list[bytes]], Reply]
    keys: tuple[int, int, int] = (0, 0, 0)

    def takes(self, words: int) -> bool:
        """Tell whether a command of so many words is complete."""
        return self.words_min <= words and (self.words_max is None or words <= self.words_max)


def whole(raw: bytes) -> int:
    """Return a signed 64-bit integer as Redis reads it. Raises Refused."""
    digits = raw.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19 or (digits[0] == 0x30 and raw != b"0"):
        raise Refused(NOT_INTEGER)
    number = int(raw)
    if not -(2**63) <= number < 2**63:
        raise Refused(NOT_INTEGER)
    return number


def shown(word: bytes) -> str:
    """Return the beginning of a word for an error."""
    return word[:SHOWN_MAX].decode("utf-8", "surrogateescape")


def bulk_or_null(session: Session, value: bytes | None) -> bytes:
    """Return a value, or its absence."""
    return replies.null(session.proto) if value is None else replies.bulk(value)
