"""One connection's state as commands see it, what its server's connections share, and what a command is."""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wavekv.config import Limits
from wavekv.core.session import DotRange
from wavekv.core.types import parse_key
from wavekv.errors import InvalidKey, ValueTooLarge
from wavekv.ports import Clock, KeyValues, Written
from wavekv.resp import replies
from wavekv.resp.channels import Channels
from wavekv.resp.cursors import Cursors
from wavekv.resp.events import KeyEvents, Receiver
from wavekv.resp.overlay import Overlay
from wavekv.resp.patience import Patience
from wavekv.resp.refusals import NOT_INTEGER, Refused
from wavekv.resp.tracking import Tracker, Tracking
from wavekv.resp.turns import Turns
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.watchdog import Watchdog

Sliced = Generator[int, None, bytes]
"""A reply that is made in slices, between which others have their turn; each slice yields the steps it took."""
Reply = bytes | Coroutine[Any, Any, bytes] | Sliced
"""A reply, the write that will give one, or the slices that make one."""

_SERIALIZER = (
    "keys are text here, so give the client a serializer that writes text (in Spring StringRedisSerializer, "
    "not the default of the JDK)"
)
SHOWN_MAX = 128
"""Characters of an unknown word that Redis repeats."""


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
    events: KeyEvents
    channels: Channels
    tracker: Tracker
    long_writes: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held for each slice of a write of very many keys, so that one slice runs at a time."""
    port: int = 0
    picked: str | None = None
    """The key that RANDOMKEY answered last."""
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
    store: KeyValues = field(init=False)
    """The store commands speak of; while a transaction is decided, what it comes to so far."""
    transaction: "Transaction | None" = None
    """What MULTI began."""
    watched: "dict[str, str | None]" = field(default_factory=dict)
    """The tag of what each key of a WATCH held."""
    tracking: Tracking | None = None
    """How a client with a cache is told of changes."""
    channels: dict[bytes, None] = field(default_factory=dict)
    patterns: dict[bytes, None] = field(default_factory=dict)
    """What it subscribed to."""
    alone: bool = False
    """The write in progress takes several turns, so what is behind it waits: it must not come before the rest of it."""
    told: bool = False
    """Whether the client is told of changes; kept by `note_told`, since every command asks."""
    receiver: Receiver = field(init=False)
    """The connection."""
    held_bytes: int = 0
    """Bytes that the connection's state takes: queued commands, watched keys, tracked prefixes, subscriptions."""

    def __post_init__(self) -> None:
        self.store = self.shared.store

    def note_told(self) -> None:
        """Take note of whether the client is told of changes, and let the watch begin or end for it."""
        self.told = self.tracking is not None or bool(self.channels or self.patterns)
        self.shared.events.attend()

    @property
    def subscriptions(self) -> int:
        """How many channels and patterns it subscribed to."""
        return len(self.channels) + len(self.patterns)

    @property
    def deciding(self) -> bool:
        """Tell whether commands run against what is not stored yet."""
        return self.store is not self.shared.store

    @property
    def limits(self) -> Limits:
        """The named bounds."""
        return self.shared.limits

    def wrote(self, written: Written | None) -> Written | None:
        """Take note of what a command wrote, and return it."""
        if written is not None and self.store is self.shared.store:
            origin, seq = written.entry.dot
            span = self.written.get(origin, DotRange(origin, seq, seq))
            if self.tracking is not None:
                self.shared.tracker.wrote(self.tracking, written)
            self.written[origin] = DotRange(origin, min(span.first, seq), max(span.last, seq))
        return written

    def writing_long(self) -> AbstractAsyncContextManager[None]:
        """Return what is held for each slice of a write of very many keys; nothing while a transaction is decided."""
        return nullcontext() if self.deciding else self.shared.long_writes

    def end_wait(self) -> None:
        """Let a WAIT answer what it knows by now, and those to come at once: nobody waits for more."""
        self.hurries = True
        if self.waiting is not None:
            self.waiting.cancel()

    def key(self, raw: bytes) -> str:
        """Return a key. Raises InvalidKey."""
        try:
            return parse_key(raw, self.shared.limits.key_bytes_max)
        except InvalidKey as error:
            if not isinstance(error.__cause__, UnicodeDecodeError):
                raise
            raise InvalidKey(f"{error.detail}; {_SERIALIZER}") from error

    def value(self, raw: bytes) -> bytes:
        """Return a value. Raises ValueTooLarge."""
        if len(raw) > self.limits.value_bytes_max:
            raise ValueTooLarge(f"the value has {len(raw)} bytes; at most {self.limits.value_bytes_max} are allowed")
        return raw


@dataclass(slots=True)
class Transaction:
    """Commands that wait for EXEC; `broken`: one was refused, and EXEC will be."""

    commands: "list[tuple[Command, list[bytes]]]" = field(default_factory=list)
    size_bytes: int = 0
    arguments: int = 0
    broken: bool = False


class Command(NamedTuple):
    """One line of the table. `reads` waits for this connection's earlier writes; counts include the name.

    `keys`: places of the first and the last key, and the step between, as COMMAND tells them. `queued`: whether it may
    be part of a transaction.
    """

    kind: str
    words_min: int
    words_max: int | None
    reads: bool
    run: Callable[[Session, list[bytes]], Reply]
    keys: tuple[int, int, int] = (0, 0, 0)
    queued: bool = True

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


Decide = Callable[[Session, Overlay, list[bytes]], bytes]


def decided(session: Session, words: list[bytes], decide: Decide) -> Reply:
    """Return the write of a command that looks before it writes: `decide` makes the reply, and its writes one batch."""
    return _decided(session, words, decide)


async def _decided(session: Session, words: list[bytes], decide: Decide) -> bytes:
    overlay = Overlay(session.store, session.shared.clock)
    reply = decide(session, overlay, words)
    for written in await overlay.store(conditional=False):
        session.wrote(written)
    return reply
