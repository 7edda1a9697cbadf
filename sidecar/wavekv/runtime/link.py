"""One configured peer: where it is, how it answers, and the keys waiting to be pushed to it.

The push queue holds keys, not entries: what goes out is what the key holds then, once. A full queue is
dropped and counted; the next exchange brings what it held (G9).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from wavekv.config import GossipSettings
from wavekv.core.adoption import CARRIED_SPAN_MAX
from wavekv.core.exchange import Round
from wavekv.core.messages import Envelope, Ranges
from wavekv.core.types import Entry, entry_bytes
from wavekv.errors import WrongName


class Taken(NamedTuple):
    """What a push carries: entries, the sequences they stand for without a gap, and when each became visible."""

    entries: tuple[Entry, ...]
    carried: dict[int, Ranges]
    visible_at: tuple[float, ...]


@dataclass(slots=True)
class PushQueue:
    """Keys of own writes and of relayed news since the last push, in the order they were last queued."""

    keys_max: int
    visible_at: dict[str, float] = field(default_factory=dict)
    dropped: int = 0
    _origin: int = 0
    _first_seq: int = 0
    _last_seq: int = 0
    _owns: bool = False
    """An own write was queued since the queue was empty."""

    def relay(self, key: str, at: float) -> None:
        """Queue a key whose news another member brought at monotonic second `at`; it stands for no sequence.

        The claims of own writes hold with it: a key goes out with what it holds then, which supersedes all before.
        """
        self._make_room()
        self.visible_at[key] = self.visible_at.pop(key, at)

    def _make_room(self) -> None:
        if len(self.visible_at) >= self.keys_max:
            self.dropped += len(self.visible_at)
            self.clear()

    def add(self, entry: Entry, at: float) -> None:
        """Queue a durable local write that became visible at monotonic second `at`."""
        self._make_room()
        if not self._owns:
            self._owns, self._origin, self._first_seq = True, entry.origin, entry.seq
        elif (entry.origin, entry.seq) != (self._origin, self._last_seq + 1):
            self._first_seq = 0  # writes in between went past this queue: it stands for no range any more
        self.visible_at[entry.key] = self.visible_at.pop(entry.key, at)
        self._last_seq = entry.seq

    def clear(self) -> None:
        """Forget everything queued."""
        self.visible_at = {}
        self._first_seq, self._owns = 0, False

    def take(self, entries: Mapping[str, Entry], bytes_max: int) -> Taken:
        """Take the queued keys' current entries up to `bytes_max`, one at least; the rest stays queued.

        Only a queue taken whole stands for all sequences since it was empty: the keys left over, or forgotten by the
        store, may be what superseded a sequence in between.
        """
        taken: dict[str, float] = {}
        found: list[Entry] = []
        size = 0
        for key, at in self.visible_at.items():
            entry = entries.get(key)
            if entry is not None:
                size += entry_bytes(entry)
                if found and size > bytes_max:
                    break
                found.append(entry)
            taken[key] = at
        span = self._last_seq - self._first_seq
        whole = self._first_seq and len(found) == len(self.visible_at) and span < CARRIED_SPAN_MAX
        carried: dict[int, Ranges] = {self._origin: ((self._first_seq, self._last_seq),)} if whole else {}
        self.visible_at = {key: at for key, at in self.visible_at.items() if key not in taken}
        self._first_seq, self._owns = 0, self._owns and bool(self.visible_at)
        return Taken(tuple(found), carried, tuple(taken.values()))


@dataclass(slots=True)
class Link:
    """A peer's address and state; `reported_as` is the name it gives itself, once known.

    A `contact` was discovered and goes by its address until it has told its name.
    `urgent` is set while a write that waits for the peer is queued.
    """

    name: str
    url: str
    queue: PushQueue
    reported_as: str
    busy: bool = False
    pushing: bool = False
    reachable: bool | None = None
    last_error: str | None = None
    last_heard: float | None = None
    pushed_at: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    contact: bool = False
    crate: bool = False
    """A node of the original system, which names nobody."""
    unfinished: Round | None = None
    """A round that was cut off in its last part."""
    leads_back: bool = False
    """The address is this process's own."""
    urgent: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def contact_name(self) -> str | None:
        """What stands for the name of a contact; None of other peers."""
        return self.name if self.contact else None

    def checked(self, answer: Envelope) -> Envelope:
        """Return an answer if it is the peer's own; one of the original system with the peer's name beside it.

        Raises:
            WrongName: another member answers at this address.
        """
        if answer.name is None and self.crate:
            return replace(answer, crate=self.name)
        if self.contact or (answer.name == self.name and not self.crate):
            return answer
        if answer.name is None:
            raise WrongName(
                f"a node of the original system answers at {self.url}; name it by --crate-peer {self.name}=URL"
            )
        if self.crate:
            raise WrongName(f"{answer.name!r} answers at {self.url}, no node of the original system; name it by --peer")
        raise WrongName(
            f"{answer.name!r} answers at {self.url}, where {self.name} was expected; name each by its own --name"
        )

    def answered(self, at: float, reported_as: str) -> None:
        """Note an answer at monotonic second `at`."""
        self.reachable, self.last_error, self.failures, self.retry_at = True, None, 0, 0.0
        self.last_heard, self.reported_as = at, reported_as

    def failed(self, at: float, detail: str, settings: GossipSettings, jitter: float) -> None:
        """Note a failure; the next try waits twice as long as the last, up to the bound, times `jitter` (0.5 … 1)."""
        self.reachable, self.last_error = False, detail
        self.failures = min(self.failures + 1, 16)
        pause_ms = min(settings.interval_ms * 2 ** (self.failures - 1), settings.backoff_ms_max)
        self.retry_at = at + pause_ms * jitter / 1000
