"""Canaries: how long it takes until a peer has what this member writes, measured by the writer alone.

Each member overwrites one key of its own in the ephemeral store now and then, and takes the time until each peer's
report covers it. Comparing a time in the entry with the receiver's clock was turned down: it measures the clocks as
well. A canary that a peer does not report stays the one that is timed, so a slow peer shows as slow and not as lucky.

The keys begin with HIDDEN, which clients of that store can neither use nor see; they expire, so that those of members
that are gone go too.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, NamedTuple

from wavekv.config import GossipSettings
from wavekv.core.paging import Paging
from wavekv.core.replica import Replica
from wavekv.core.store import Store
from wavekv.core.types import Dot
from wavekv.errors import DiskFailed, WaveKVError
from wavekv.ports import Clock, Observer
from wavekv.runtime.committer import Committer
from wavekv.runtime.link import Link

HIDDEN: Final = "\0"
"""What the members' own keys of the ephemeral store begin with; the least character, so they are first in key order."""
_KEY: Final = HIDDEN + "wavekv/canary/"

_FIRST_SECONDS: Final = 1.0
_KEPT_INTERVALS: Final = 10
"""A canary expires after so many intervals."""
_KEYS_MAX: Final = 4096
_KEY_CHARACTERS_MAX: Final = 1024


@cache
def behind_all(hidden: str) -> str:
    """Return a key that sorts behind all that begin with `hidden`, and before any other."""
    return hidden + "\U0010ffff" * _KEY_CHARACTERS_MAX


def hidden_entries(store: Store, hidden: str | None, now_ms: int) -> int:
    """Return how many live entries of `store` have a key that begins with `hidden`."""
    if hidden is None:
        return 0
    paging = Paging(store, hidden, None, _KEYS_MAX, keys_only=True, bytes_max=None)
    while paging.step(now_ms):
        pass
    return len(paging.entries)


class _Flying(NamedTuple):
    """A canary that a peer has not reported yet, and the monotonic second it was written at."""

    dot: Dot
    at: float


class Canary:
    """Writes this member's canary, and times its peers' reports of it."""

    def __init__(
        self,
        replica: Replica,
        committer: Committer,
        links: Callable[[], Mapping[str, Link]],
        *,
        clock: Clock,
        observer: Observer,
        settings: GossipSettings,
        rng: random.Random,
    ) -> None:
        self._replica = replica
        self._committer = committer
        self._links_now = links
        self._clock = clock
        self._observer = observer
        self._settings = settings
        self._rng = rng
        self._flying: dict[str, _Flying] = {}
        self._seconds: dict[str, float] = {}

    @property
    def _links(self) -> Mapping[str, Link]:
        return self._links_now()

    def _interval_ms(self) -> int:
        return max(self._settings.canary_ms, self._settings.canary_ms_per_peer * len(self._links))

    async def run(self) -> None:
        """Write a canary now and then, until cancelled."""
        pause = min(_FIRST_SECONDS, self._interval_ms() / 1000)
        while True:
            await asyncio.sleep(pause)
            await self.write()
            pause = self._interval_ms() / 1000 * self._rng.uniform(0.75, 1.25)

    async def write(self) -> None:
        """Write one, unless this member takes no writes now, or a crate node is a member, which would keep it."""
        for name in [name for name in (*self._flying, *self._seconds) if name not in self._links]:
            self._flying.pop(name, None)
            self._seconds.pop(name, None)
        if not self._links:
            return
        now_ms = self._clock.now_ms()
        key, expires_at = _KEY + self._replica.identity.name, now_ms + _KEPT_INTERVALS * self._interval_ms()
        try:
            staged = self._replica.put(key, b"", now_ms, expires_at=expires_at)
            at = self._clock.monotonic()
            for name in self._links:
                self._flying.setdefault(name, _Flying(staged.entry.dot, at))
            await self._committer.durable(staged.ticket)
        except DiskFailed:
            raise
        except WaveKVError:  # starting, draining, no room, crate peers: the next one will do
            return

    def heard(self, sender: str) -> None:
        """A report of `sender` was heard."""
        if not self._flying:
            return
        report = self._replica.reports.of(sender)
        for name, link in self._links.items():
            flying = self._flying.get(name) if link.reported_as == sender else None
            if report is not None and flying is not None and report.context.covers(*flying.dot):
                del self._flying[name]
                self._seconds[name] = self._clock.monotonic() - flying.at
                self._observer.canary(name, self._seconds[name])

    def seconds(self, name: str) -> float | None:
        """Return how long the peer took last, or takes by now if that is longer; None before anything is known."""
        last, flying = self._seconds.get(name), self._flying.get(name)
        if flying is None:
            return last
        age = self._clock.monotonic() - flying.at
        return age if last is None else max(last, age)
