"""One store of a member as the data planes see it: implements `ports.KeyValues`.

Owns no rule: it stages through `Replica`, waits through `Committer`, and never shows what is not durable (G1, G5).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.paging import Paging
from wavekv.core.replica import Replica
from wavekv.core.session import DotRange
from wavekv.core.steps import Staged
from wavekv.core.types import Entry
from wavekv.core.writes import Write
from wavekv.errors import InvalidKey, KeyNotFound, PreconditionFailed, Superseded
from wavekv.ports import Clock, Listing, Written
from wavekv.runtime.canary import behind_all, hidden_entries
from wavekv.runtime.committer import Committer
from wavekv.runtime.coverage import Coverage, SpreadWait
from wavekv.runtime.gate import next_slice
from wavekv.runtime.watching import Subscription, WatchHub

_FREED_PER_TURN: Final = 16 << 20
"""Bytes of overwritten values that a batch lets go in one turn of the loop, some milliseconds."""


class LocalKeyValues:
    """Reads, writes and watches of one store."""

    def __init__(
        self,
        replica: Replica,
        committer: Committer,
        watches: WatchHub,
        clock: Clock,
        status: Callable[[], Mapping[str, Any]],
        *,
        coverage: Coverage,
        hidden: str | None = None,
    ) -> None:
        """Serve a store; keys that begin with `hidden`, one character, are the members' own and shown to nobody."""
        self._replica = replica
        self._store = replica.store
        self._committer = committer
        self._watches = watches
        self._clock = clock
        self._status = status
        self._coverage = coverage
        self._hidden = hidden
        self.refusal: Superseded | None = None
        """Why nothing is read either; writes are refused by the replica."""

    def _check(self, selector: str) -> None:
        """Refuse a key, or a prefix of keys, that are the members' own.

        Raises:
            InvalidKey: it is.
        """
        if self._hidden is not None and selector.startswith(self._hidden):
            raise InvalidKey(f"keys that begin with {self._hidden!r} are the members' own in this store; take another")

    def _check_readable(self, selector: str = "") -> None:
        """Refuse to read where a newer process serves, and what is the members' own.

        Raises:
            Superseded, InvalidKey: it is so.
        """
        if self.refusal is not None:
            raise self.refusal.with_traceback(None)  # one object, raised often: it must not gather frames
        self._check(selector)

    def get(self, key: str) -> Entry | None:
        """Return the live entry of `key`, or None."""
        if self.refusal is not None or self._hidden is not None:  # a call less: this is the path of every read
            self._check_readable(key)
        return self._store.get(key, self._clock.now_ms())

    def length_of(self, key: str) -> int | None:
        """Return the length of the live value of `key`, None if there is none."""
        self._check_readable(key)
        return self._store.length_of(key, self._clock.now_ms())

    def pending(self, key: str) -> Entry | None:
        """Return the live entry that `key` will hold once all that is staged is durable; its value may be a view."""
        self._check_readable(key)
        held = self._replica.held(key)
        alive = held is not None and held.alive(self._store.expiry_now(self._clock.now_ms()))
        return held if alive else None

    async def put(
        self, key: str, value: bytes, condition: Condition = ALWAYS, expires_at: int | None = None
    ) -> Written:
        """Store `value`; return when it is durable. Raises as `Replica.put` and `Committer.durable`."""
        self._check(key)
        try:
            staged = self._replica.put(key, value, self._clock.now_ms(), condition, expires_at)
        except PreconditionFailed as refusal:
            await self._committer.refuse(refusal)
        return await self._written(staged)

    async def delete(self, key: str, condition: Condition = ALWAYS) -> Written:
        """Store a tombstone; return when it is durable. Raises as `Replica.delete` and `Committer.durable`."""
        self._check(key)
        try:
            staged = self._replica.delete(key, self._clock.now_ms(), condition)
        except (KeyNotFound, PreconditionFailed) as refusal:
            await self._committer.refuse(refusal)
        return await self._written(staged)

    async def expire(self, key: str, expires_at: int | None, condition: Condition = ALWAYS) -> Written:
        """Store the live value with another expiry. Raises as `Replica.expire` and `Committer.durable`."""
        self._check(key)
        try:
            staged = self._replica.expire(key, expires_at, self._clock.now_ms(), condition)
        except (KeyNotFound, PreconditionFailed) as refusal:
            await self._committer.refuse(refusal)
        return await self._written(staged)

    async def _written(self, staged: Staged) -> Written:
        await self._committer.durable(staged.ticket)
        return Written(staged.entry, staged.previous)

    async def batch(self, writes: Sequence[Write]) -> list[Written | None]:
        """Store all or none; return when that is durable. Raises as `Replica.batch` and `Committer.durable`."""
        for write in writes:
            self._check(write.key)
        try:
            staged = self._replica.batch(writes, self._clock.now_ms())
        except PreconditionFailed as refusal:
            await self._committer.refuse(refusal)
        await self._committer.durable(staged.ticket)
        return await _answered(staged.writes)

    def list(
        self, prefix: str, after: str | None, limit: int, *, keys_only: bool = False, bytes_max: int | None = None
    ) -> Listing:
        """Begin a page of live entries in key order."""
        self._check_readable(prefix)
        if self._hidden is not None and not prefix:
            after = max(after or "", behind_all(self._hidden))
        paging = Paging(self._store, prefix, after, limit, keys_only=keys_only, bytes_max=bytes_max)
        return _Listing(paging, self._clock, self._check_readable)

    def count(self) -> int:
        """Return the number of live entries."""
        self._check_readable()
        return self._store.live() - hidden_entries(self._store, self._hidden, self._clock.now_ms())

    def expiring(self) -> int:
        """Return how many of the live entries will expire, as all of the members' own do."""
        self._check_readable()
        return self._store.expiring() - hidden_entries(self._store, self._hidden, self._clock.now_ms())

    async def covered(self, dots: Sequence[DotRange], seconds: float) -> None:
        """Return once this member covers `dots`. Raises as `Coverage.covered`."""
        self._check_readable()
        await self._coverage.covered(dots, seconds)

    def spread(self, count: int | None) -> SpreadWait:
        """Return a place for a write that waits for others. Raises as `Coverage.spread`."""
        return self._coverage.spread(count)

    def token(self) -> str:
        """Return the token that a watch resumes behind all that is visible now."""
        return self._watches.token()

    def watch(self, selector: str, *, prefix: bool, since: str | None) -> Subscription:
        """Open a watch. Raises as `WatchHub.watch`."""
        self._check_readable(selector)
        return self._watches.watch(selector, prefix=prefix, since=since)

    def explain(self, key: str) -> Mapping[str, Any]:
        """Return winner, known losers, and who covers the winner, as JSON-ready values."""
        self._check_readable(key)
        held = self._store.entries.get(key)
        reports = self._replica.reports.heard()
        others = self._replica.membership.others()
        return {
            "key": key,
            "held": None if held is None else _facts(held, self._store.expiry_now(self._clock.now_ms())),
            "losers": [
                {
                    "etag": loss.etag,
                    "deleted": loss.deleted,
                    "value_bytes": loss.value_bytes,
                    "lost_to": loss.lost_to,
                    "seen_ms": loss.seen_ms,
                }
                for loss in self._replica.journal.of(key)
            ],
            "covered_by": {
                name: name in reports and reports[name].context.covers(*held.dot)
                for name in sorted({*others, *reports})
            }
            if held is not None
            else {},
        }

    def status(self) -> Mapping[str, Any]:
        """Return the member's status as JSON-ready values."""
        return self._status()


async def _answered(staged: list[Staged | None]) -> list[Written | None]:
    """Return what `staged` came to; values that were there before are let go on the way, which takes long for many."""
    written: list[Written | None] = []
    freed = 0
    for place, one in enumerate(staged):
        staged[place] = None
        if one is None or one.previous is None:
            written.append(None if one is None else Written(one.entry, None))
            continue
        freed += len(one.previous.value or b"")
        written.append(Written(one.entry, one.previous._replace(value=b"")))
        if freed >= _FREED_PER_TURN:
            freed = 0
            await next_slice()
    return written


class _Listing:
    """A page in the making, over the member's clock; implements `ports.Listing`."""

    def __init__(self, paging: Paging, clock: Clock, check_readable: Callable[[], None]) -> None:
        self._paging = paging
        self._clock = clock
        self._check_readable = check_readable

    def step(self) -> bool:
        """Look at some hundred keys more; tell whether there is more to do. Raises Superseded."""
        self._check_readable()
        return self._paging.step(self._clock.now_ms())

    @property
    def entries(self) -> list[Entry]:
        """The live entries so far."""
        return self._paging.entries

    @property
    def more(self) -> bool:
        """Whether live entries follow; known once the page is complete."""
        return self._paging.more


def _facts(entry: Entry, now_ms: int) -> dict[str, Any]:
    return {
        "etag": entry.etag,
        "timestamp": entry.timestamp,
        "origin": entry.origin,
        "seq": entry.seq,
        "deleted": entry.value is None,
        "expired": entry.value is not None and not entry.alive(now_ms),
        "expires_at": entry.expires_at,
        "value_bytes": len(entry.value or b""),
    }
