"""A member without an engine: a dict behind the `KeyValues` protocol, and the small ports that go with it."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from wavekv.config import Limits
from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.session import DotRange, token_of
from wavekv.core.types import Entry
from wavekv.core.writes import KEEP_EXPIRY, Check, Put, Write
from wavekv.errors import (
    BatchTooLarge,
    CoverageTimeout,
    DurabilityImpossible,
    DurabilityTimeout,
    KeyNotFound,
    PreconditionFailed,
    SlowReader,
    Stopping,
    TooManyWatchers,
    WatchExpired,
)
from wavekv.ports import Change, Listing, Written

ORIGIN = 7


class FakeClock:
    """Time that moves only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class FakeWatch:
    """One watcher: what was held, then what comes; the bound on what waits is the limits'."""

    def __init__(self, store: "FakeKeyValues", selector: str, *, prefix: bool, first: Sequence[Change]) -> None:
        self._store = store
        self._selector = selector
        self._prefix = prefix
        self._first = deque(first)
        self._waiting: list[Change] = []
        self._bytes = 0
        self._over: Exception | None = None
        self._wake = asyncio.Event()

    def wants(self, key: str) -> bool:
        return key.startswith(self._selector) if self._prefix else key == self._selector

    def tell(self, change: Change) -> None:
        if self._over is not None:
            return
        entry = change.entry
        self._bytes += len(change.key) + len((entry.value if entry else None) or b"")
        if len(self._waiting) >= self._store.limits.watch_waiting_max or (
            self._waiting and self._bytes > self._store.limits.watch_waiting_bytes_max
        ):
            self.fail(SlowReader("the events were not taken in time; watch again behind the last one"))
            return
        self._waiting.append(change)
        self._wake.set()

    def fail(self, error: Exception) -> None:
        self._over = error
        self._waiting.clear()
        self._first.clear()
        self._wake.set()

    async def next(self) -> Sequence[Change]:
        while not (self._over or self._first or self._waiting):
            self._wake.clear()
            await self._wake.wait()
        if self._over is not None:
            raise self._over
        if self._first:
            return [self._first.popleft() for _ in range(min(len(self._first), 100))]
        told, self._waiting, self._bytes = self._waiting, [], 0
        return told

    def close(self) -> None:
        self._store.watches.discard(self)


class FakeSpread:
    """A write's place; enough members hold what `FakeKeyValues.held_by` names."""

    def __init__(self, store: "FakeKeyValues", count: int) -> None:
        self._store = store
        self._count = count

    def __enter__(self) -> Self:
        self._store.spreading += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._store.spreading -= 1

    def holders(self, dots: Sequence[DotRange]) -> tuple[str, ...]:
        return ("fake", *self._store.held_by)

    async def reached(self, dots: Sequence[DotRange], seconds: float) -> tuple[str, ...]:
        self._store.waits.append(seconds)
        held = self.holders(dots)
        if not await self._store.until(lambda: len(self.holders(dots)) >= self._count, seconds):
            raise DurabilityTimeout(
                f"durable on {len(held)} of {self._count} ({', '.join(held)})", held, token_of(dots)
            )
        return self.holders(dots)


class FakeListing:
    """A page of what was held when it was begun, two entries a step."""

    def __init__(self, found: list[Entry], limit: int, bytes_max: int | None) -> None:
        self.entries: list[Entry] = []
        self.more = False
        page = found[:limit]
        size = 0
        for index, entry in enumerate(page):
            size += len(entry.value or b"")
            if bytes_max is not None and size > bytes_max and index:
                page = page[:index]
                break
        self._left, self._more = page, len(page) < len(found)

    def step(self) -> bool:
        self.entries += self._left[:2]
        del self._left[:2]
        self.more = self._more and not self._left
        return bool(self._left)


class FakeKeyValues:
    """Keeps entries in a dict; stamps count up from 1, and time is the clock's.

    `error` is raised by every call while it is set. With `hold` the writes wait, staged and invisible, until `commit`.
    `commits` counts the groups: writes of one turn of the loop share one, as in a member. `expire_due` does what the
    member's timer does. It covers its own writes, and `foreign` dots once `arrive` brought them; its cluster has
    `members` members, of which `held_by` hold every write too; `waits` lists the seconds that waits were given.
    Tokens are `fake.N`, N changes told so far; those before `forgotten` are too old.
    """

    def __init__(self, clock: FakeClock | None = None, limits: Limits | None = None) -> None:
        self.clock = clock or FakeClock()
        self.limits = limits or Limits()
        self.entries: dict[str, Entry] = {}
        self.error: Exception | None = None
        self.hold = False
        self.commits = 0
        self.most_waiting = 0
        self.watches: set[FakeWatch] = set()
        self.forgotten = 0
        self.members = 3
        self.held_by: tuple[str, ...] = ()
        self.foreign: set[DotRange] = set()
        self.waits: list[float] = []
        self.waiting = 0
        self.spreading = 0
        self._news = asyncio.Condition()
        self._changes: list[Change] = []
        self._seq = 0
        self._staged: list[tuple[Entry, asyncio.Future[None]]] = []
        self._scheduled = False

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def _newest(self, key: str) -> Entry | None:
        for entry, _ in reversed(self._staged):
            if entry.key == key:
                return entry
        return self.entries.get(key)

    def _live(self, key: str) -> Entry | None:
        held = self._newest(key)
        return held if held is not None and held.alive(self.clock.now_ms()) else None

    async def _checked(self, key: str, condition: Condition) -> Entry | None:
        """Return the live value if the condition holds; a refusal waits until what it saw is durable."""
        held = self._live(key)
        try:
            condition.check(held)
        except PreconditionFailed:
            waiting = [durable for entry, durable in self._staged if entry.key == key]
            if waiting:
                await asyncio.wait(waiting)
            raise
        return held

    def _stage(
        self, key: str, value: bytes | None, expires_at: int | None = None
    ) -> tuple[Entry, asyncio.Future[None]]:
        loop = asyncio.get_running_loop()
        self._seq += 1
        entry = Entry(key, value, self._seq, ORIGIN, self._seq, expires_at)
        durable: asyncio.Future[None] = loop.create_future()
        self._staged.append((entry, durable))
        self.most_waiting = max(self.most_waiting, len(self._staged))
        if not self.hold and not self._scheduled:
            self._scheduled = True
            loop.call_soon(self.commit)
        return entry, durable

    def commit(self) -> None:
        """Make what is staged durable and visible."""
        self._scheduled = False
        staged, self._staged = self._staged, []
        self.commits += bool(staged)
        for entry, durable in staged:
            self.entries[entry.key] = entry
            if not durable.done():
                durable.set_result(None)
        for entry, _ in staged:
            self._tell("delete" if entry.value is None else "put", entry)

    def _tell(self, kind: Literal["put", "delete", "expire"], entry: Entry) -> None:
        change = Change(kind, entry.key, entry, f"fake.{len(self._changes) + 1}")
        self._changes.append(change)
        for watch in list(self.watches):
            if watch.wants(entry.key):
                watch.tell(change)

    def expire_due(self) -> None:
        """Tell the watchers of what has expired, and forget it."""
        for entry in list(self.entries.values()):
            if entry.value is not None and not entry.alive(self.clock.now_ms()):
                del self.entries[entry.key]
                self._tell("expire", entry)

    def stop(self) -> None:
        """End every watch as a member that stops does."""
        for watch in list(self.watches):
            watch.fail(Stopping("the member stops; watch its successor"))

    # ---- the protocol ----------------------------------------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        self._fail()
        entry = self.entries.get(key)
        return entry if entry is not None and entry.alive(self.clock.now_ms()) else None

    def length_of(self, key: str) -> int | None:
        entry = self.get(key)
        return None if entry is None else len(entry.value or b"")

    def pending(self, key: str) -> Entry | None:
        self._fail()
        return self._live(key)

    async def put(
        self, key: str, value: bytes, condition: Condition = ALWAYS, expires_at: int | None = None
    ) -> Written:
        self._fail()
        held = await self._checked(key, condition)
        entry, durable = self._stage(key, value, _expiry(expires_at, held))
        await durable
        return Written(entry, held)

    async def delete(self, key: str, condition: Condition = ALWAYS) -> Written:
        self._fail()
        held = await self._checked(key, condition)
        if held is None:
            raise KeyNotFound(f"there is no key {key!r}")
        entry, durable = self._stage(key, None)
        await durable
        return Written(entry, held)

    async def expire(self, key: str, expires_at: int | None, condition: Condition = ALWAYS) -> Written:
        self._fail()
        held = await self._checked(key, condition)
        if held is None or held.value is None:
            raise KeyNotFound(f"there is no key {key!r}")
        return await self.put(key, held.value, expires_at=expires_at)

    async def batch(self, writes: Sequence[Write]) -> list[Written | None]:
        self._fail()
        size = sum(len(write.key.encode()) + (len(write.value) if isinstance(write, Put) else 0) for write in writes)
        if len(writes) > self.limits.batch_operations_max or size > self.limits.batch_bytes_max:
            raise BatchTooLarge("the batch is too large; send it in parts")
        self._check_batch(writes)
        results: list[Written | None] = []
        waiting: list[asyncio.Future[None]] = []
        for write in writes:
            held = self._live(write.key)
            if isinstance(write, Put):
                entry, durable = self._stage(write.key, write.value, _expiry(write.expires_at, held))
            elif held is None or isinstance(write, Check):
                results.append(None)
                continue
            else:
                entry, durable = self._stage(write.key, None)
            waiting.append(durable)
            results.append(Written(entry, held))
        if waiting:
            await asyncio.gather(*waiting)
        return results

    def _check_batch(self, writes: Sequence[Write]) -> None:
        """Check every condition against what the operations before it leave; nothing is staged yet."""
        left: dict[str, Entry | None] = {}
        for place, write in enumerate(writes):
            live = left[write.key] if write.key in left else self._live(write.key)
            try:
                write.condition.check(live)
            except PreconditionFailed as error:
                raise PreconditionFailed(f"operation {place}: {error.detail}", error.etag, place) from error
            if not isinstance(write, Check):
                left[write.key] = Entry(write.key, write.value, 0, ORIGIN, 0) if isinstance(write, Put) else None

    async def arrive(self, *dots: DotRange, held_by: tuple[str, ...] = ()) -> None:
        """Cover `dots` too, and let these members hold every write too."""
        async with self._news:
            self.foreign.update(dots)
            self.held_by += held_by
            self._news.notify_all()

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for `condition`; tell whether it came true within `seconds`."""
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return True

    async def covered(self, dots: Sequence[DotRange], seconds: float) -> None:
        self._fail()
        self.waits.append(seconds)
        if not await self.until(lambda: all(map(self._covers, dots)), seconds):
            found, missing = ([one for one in dots if self._covers(one) is has] for has in (True, False))
            raise CoverageTimeout(f"not here: {token_of(missing)}", token_of(found), token_of(missing))

    def _covers(self, one: DotRange) -> bool:
        return one in self.foreign or (one.origin == ORIGIN and one.last <= self._seq)

    def spread(self, count: int | None) -> FakeSpread:
        self._fail()
        if count is not None and count > self.members:
            raise DurabilityImpossible(f"there are {self.members} members")
        return FakeSpread(self, self.members if count is None else count)

    def list(
        self, prefix: str, after: str | None, limit: int, *, keys_only: bool = False, bytes_max: int | None = None
    ) -> Listing:
        self._fail()
        now_ms = self.clock.now_ms()
        keys = sorted(
            key
            for key, entry in self.entries.items()
            if entry.alive(now_ms) and key.startswith(prefix) and (after is None or key > after)
        )
        entries = [self.entries[key] for key in keys]
        if keys_only:
            entries = [entry._replace(value=b"") for entry in entries]
        return FakeListing(entries, limit, bytes_max)

    def count(self) -> int:
        now_ms = self.clock.now_ms()
        return sum(entry.alive(now_ms) for entry in self.entries.values())

    def expiring(self) -> int:
        now_ms = self.clock.now_ms()
        return sum(entry.alive(now_ms) and entry.expires_at is not None for entry in self.entries.values())

    def token(self) -> str:
        return f"fake.{len(self._changes)}"

    def watch(self, selector: str, *, prefix: bool, since: str | None) -> FakeWatch:
        self._fail()
        if len(self.watches) >= self.limits.watchers_max:
            raise TooManyWatchers(f"{len(self.watches)} watches are open; close some, or try again")
        watch = FakeWatch(self, selector, prefix=prefix, first=())
        watch = FakeWatch(self, selector, prefix=prefix, first=self._first_of(watch, since))
        self.watches.add(watch)
        return watch

    def _first_of(self, watch: FakeWatch, since: str | None) -> Sequence[Change]:
        if since is None:
            held = [
                Change("put", key, self.entries[key], None) for key in sorted(self.entries) if self._held(key, watch)
            ]
            return [*held, Change("synced", "", None, f"fake.{len(self._changes)}")]
        member, _, number = since.partition(".")
        if member != "fake" or not number.isdecimal() or not self.forgotten <= int(number) <= len(self._changes):
            raise WatchExpired("the token is another member's or too old; watch without one")
        return [change for change in self._changes[int(number) :] if watch.wants(change.key)]

    def _held(self, key: str, watch: FakeWatch) -> bool:
        return watch.wants(key) and self.entries[key].alive(self.clock.now_ms())

    def explain(self, key: str) -> Mapping[str, Any]:
        self._fail()
        entry = self.entries.get(key)
        return {"key": key, "winner": None if entry is None else entry.etag, "losers": [], "covered_by": []}

    def status(self) -> Mapping[str, Any]:
        self._fail()
        return {"name": "fake", "entries": self.count()}


def _expiry(asked: int | None, held: Entry | None) -> int | None:
    if asked == KEEP_EXPIRY:
        return held.expires_at if held is not None else None
    return asked


class Operations:
    """An observer that remembers the operations of clients and nothing else."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def synced(self, seconds: float, ops: int, size_bytes: int) -> None: ...

    def operation(self, plane: str, kind: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((plane, kind, result))

    def propagated(self, seconds: float) -> None: ...

    def canary(self, peer: str, seconds: float) -> None: ...

    def exchanged(self, peer: str, result: str, seconds: float) -> None: ...

    def pushed(self, peer: str, result: str, entries: int) -> None: ...

    def refused(self, code: str, count: int) -> None: ...

    def compacted(self, result: str, seconds: float) -> None: ...
