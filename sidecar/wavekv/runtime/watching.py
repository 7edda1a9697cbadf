"""Watches: what is held, then every change, without a gap, to thousands of watchers (G9).

A watch is registered before its first page is read. While pages are told, only changes of keys that were told already
wait; the others are read with their page. A watch that resumes holds the names of what it missed, never the values, and
takes them in pages as well: neither thousands that resume at once nor one that missed much is a burden.

A watch token is a position in this member's log, with the node's uuid and the number of the process that wrote there. A
log that was rolled back and went on otherwise has another process at that position, so its tokens have expired instead
of leaving something out. Resuming tells what each changed key holds now, not every value in between.

A change looks up its key and those prefixes of it that have the length of a watched one. Changes are told, and who
hears of them is woken, a few at a time, so that a batch which interests thousands does not hold the loop up.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice
from typing import Final, Literal

from wavekv.config import Limits
from wavekv.core.ops import Batch, Clear, Op, Set, SetExpiring, as_records
from wavekv.core.store import Store
from wavekv.core.types import Entry, entry_bytes
from wavekv.errors import InvalidParameter, SlowReader, Stopping, Superseded, TooManyWatchers, WatchExpired
from wavekv.ports import Change, Clock
from wavekv.runtime.budget import ByteBudget, Holding
from wavekv.runtime.canary import behind_all
from wavekv.runtime.gate import next_slice

PAGE_ENTRIES: Final = 100
"""Held entries told in one step of a new watch."""
WOKEN_BYTES_PER_TURN: Final = 8 << 20
"""Bytes of events that watchers are woken for in one turn of the loop, one watcher's more at most."""
PAGE_BYTES: Final = 1 << 16
"""Key and value bytes of such a step where a watch resumes, one entry more at most."""
WOKEN_PER_TURN: Final = 32
"""Watchers woken in one turn of the loop: each takes some 50 microseconds to tell its client of a small change."""
TOLD_PER_TURN: Final = 4096
"""Watchers told of changes, and prefixes looked up for it, in one turn of the loop, two milliseconds; one change more
at most."""
_EVENT_BYTES: Final = 256
"""What an event that waits takes beside its key and value."""
_MISSED_BYTES: Final = 120
"""What the name of a key takes in the memory of a watch that resumes."""
EXPIRED_REMEMBERED: Final = 65_536
"""Expiries that a resumed watch may still hear of."""


class WatchHub:
    """The watchers of one store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        limits: Limits,
        node: str,
        inc: int,
        *,
        hidden: str | None = None,
        budget: ByteBudget | None = None,
    ) -> None:
        """Watch `store`; nobody is told of keys that begin with `hidden`.

        What waits for all watchers is counted in `budget`, an event once however many it waits for.
        """
        self._store = store
        self._clock = clock
        self._limits = limits
        self._node = node
        self._inc = inc
        self._hidden = hidden
        self._by_key: dict[str, dict[Subscription, None]] = {}
        self._by_prefix: dict[str, dict[Subscription, None]] = {}
        self._prefix_lengths: Counter[int] = Counter()
        self._woken: deque[Subscription] = deque()
        self._expired: deque[tuple[int, str]] = deque(maxlen=EXPIRED_REMEMBERED)
        self._expired_from = 0
        self.budget = budget or ByteBudget("watch", limits.watch_held_bytes_max)
        self.late: dict[Subscription, None] = {}
        """Watchers that events wait for, those that have waited longest first."""
        self._ended: Stopping | Superseded | None = None
        self._untold: deque[tuple[str, Literal["put", "delete", "expire"], Entry | None, int]] = deque()
        self._telling = False
        self.count = 0
        """Watches open."""
        self.cut = 0
        """Watchers cut as slow readers."""

    # ---- opening and closing ---------------------------------------------------------------------------------------

    def watch(self, selector: str, *, prefix: bool, since: str | None) -> "Subscription":
        """Open a watch. Raises as `ports.KeyValues.watch`."""
        if self._ended is not None:
            raise self._ended.with_traceback(None)
        if self.count >= self._limits.watchers_max:
            raise TooManyWatchers(f"{self.count} watches are open; close some, or try again")
        missed = None if since is None else self._missed(since)
        subscription = Subscription(
            self, selector, prefix=prefix, store=self._store, clock=self._clock, limits=self._limits
        )
        if missed is not None:  # may be refused, so before it is in any book
            subscription.resume(key for key in missed if subscription.selects(key) and not self._hides(key))
        elif prefix and self._hidden is not None:
            subscription.skip(behind_all(self._hidden))
        book = self._by_prefix if prefix else self._by_key
        book.setdefault(selector, {})[subscription] = None
        if prefix:
            self._prefix_lengths[len(selector)] += 1
        self.count += 1
        return subscription

    def _hides(self, key: str) -> bool:
        return self._hidden is not None and key.startswith(self._hidden)

    def forget(self, subscription: "Subscription") -> None:
        """Close a watch; once more is fine."""
        subscription.drop()
        book = self._by_prefix if subscription.prefix else self._by_key
        watchers = book.get(subscription.selector, {})
        if watchers.pop(subscription, self) is self:
            return
        self.count -= 1
        if not watchers:
            del book[subscription.selector]
        if subscription.prefix:
            length = len(subscription.selector)
            self._prefix_lengths[length] -= 1
            if not self._prefix_lengths[length]:
                del self._prefix_lengths[length]

    def stop(self, why: Stopping | Superseded | None = None) -> None:
        """End every watch, and open none any more; by default because the member stops."""
        self._ended = why or Stopping("the member is stopping; resume on its successor")
        for subscription in chain.from_iterable((*self._by_key.values(), *self._by_prefix.values())):
            subscription.end(self._ended)

    # ---- tokens ----------------------------------------------------------------------------------------------------

    def token(self, position: int | None = None) -> str:
        """Return the token that resumes behind `position`, by default behind all there is."""
        return f"{self._node}-{self._inc}-{self._store.position if position is None else position}"

    def _missed(self, token: str) -> list[str]:
        """Return the keys that changed behind `token`, those that changed longest ago first; some may be there twice.

        Raises:
            InvalidParameter: it is no token.
            WatchExpired: it is another member's, or what changed since is not remembered.
        """
        parts = token.split("-")
        digits = all(part.isascii() and part.isdecimal() and len(part) <= 20 for part in parts[1:])
        if len(parts) != 3 or not digits:
            raise InvalidParameter(f"{token[:80]!r} is no token of a watch; give the id of its last event")
        node, inc, position = parts[0], int(parts[1]), int(parts[2])
        store = self._store
        known = node == self._node and position <= store.position and store.process_at(position) == inc
        keys = store.keys_changed_since(position) if known else None
        if keys is None or position < self._expired_from:
            raise WatchExpired("the token is another member's, or too old; watch anew without one")
        expired = [key for at, key in self._expired if at >= position]
        return [*reversed(keys), *expired]

    def now(self, key: str) -> Change:
        """Return what `key` holds now, as a change without a token."""
        entry = self._store.entries.get(key)
        if entry is None or entry.value is None:
            return Change("delete", key, entry, None)
        alive = entry.alive(self._store.expiry_now(self._clock.now_ms()))
        return Change("put" if alive else "expire", key, entry, None)

    # ---- what happens ----------------------------------------------------------------------------------------------

    def committed(self, ops: Sequence[Op], position: int, withdrawn: Collection[str] = ()) -> None:
        """Tell of operations that became visible; the first one stands at log position `position`.

        `withdrawn` are the keys that a repair removed although readers saw their value.
        """
        if not self.count:
            return
        for at, op in enumerate(as_records(ops), start=position):
            if isinstance(op, Batch):
                for one in op.ops[:-1]:
                    self._tell(one, at - 1)  # a batch is one record: what resumes within it is told it whole
                self._tell(op.ops[-1], at)
            elif isinstance(op, Clear) and op.key in withdrawn:
                self._dispatch(op.key, "delete", None, at)
            elif isinstance(op, Set | SetExpiring):
                self._tell(op, at)
        self._tell_some()

    def _tell(self, op: Set | SetExpiring | Clear, position: int) -> None:
        if isinstance(op, Clear):
            return  # of the original system, or a collected delete, which was told when it was made
        entry = op.entry
        self._dispatch(entry.key, "delete" if entry.value is None else "put", entry, position)

    def expired(self, keys: Iterable[str]) -> None:
        """Tell of keys whose expiry the clock has passed."""
        for key in keys:
            if len(self._expired) == EXPIRED_REMEMBERED:
                self._expired_from = self._expired[0][0] + 1
            self._expired.append((self._store.position, key))
            self._dispatch(key, "expire", self._store.entries.get(key), self._store.position)
        self._tell_some()

    def _dispatch(self, key: str, kind: Literal["put", "delete", "expire"], entry: Entry | None, position: int) -> None:
        if self.count and not self._hides(key):
            self._untold.append((key, kind, entry, position))

    @property
    def behind(self) -> bool:
        """Tell whether changes that readers see already are still to be told; no page is read meanwhile."""
        return bool(self._untold)

    def _tell_some(self) -> None:
        """Tell of changes, as many as fit a turn of the loop; the rest in the next ones."""
        if self._telling:
            if len(self._untold) > self._limits.watch_untold_max:
                self._fall_behind()
            return
        self._telling = True
        self._tell_more()

    def _tell_more(self) -> None:
        left = TOLD_PER_TURN
        while self._untold and left > 0:
            left -= self._tell_all(*self._untold.popleft())
        if self._untold:
            asyncio.get_running_loop().call_soon(self._tell_more)
        else:
            self._telling = False

    def _fall_behind(self) -> None:
        """End all watches: there are more changes than so many watchers can be told of, and they must not pile up."""
        self._untold.clear()
        why = SlowReader("changes come faster than all watchers can be told of; resume, or watch less")
        books = (*self._by_key.values(), *self._by_prefix.values())
        for subscription in chain.from_iterable(books):
            self.cut += 1
            if subscription.end(why):
                self.wake(subscription)

    def _tell_all(self, key: str, kind: Literal["put", "delete", "expire"], entry: Entry | None, position: int) -> int:
        """Tell everybody of one change; return how many looks and watchers that took."""
        looks = 1 + len(self._prefix_lengths)
        watchers = [self._by_key.get(key)]
        watchers += [self._by_prefix.get(key[:length]) for length in self._prefix_lengths if length <= len(key)]
        if not any(watchers):
            return looks
        event = _Event(Change(kind, key, entry, self.token(position)))
        for book in watchers:
            for subscription in book or ():
                if subscription.add(event):
                    self.wake(subscription)
        return looks + sum(map(len, filter(None, watchers)))

    def make_room(self, event: "_Event", subscription: "Subscription") -> bool:
        """Count `event` in the budget; those who do not read are cut for it, `subscription` itself at last."""
        while not self.budget.try_take(event.size):
            slowest = next(iter(self.late), subscription)
            self.cut += 1
            if slowest.end(SlowReader("the events that wait for all watchers reached their bound; read faster")):
                self.wake(slowest)
            if slowest is subscription:
                return False
        return True

    def wake(self, subscription: "Subscription") -> None:
        """Let a watcher take its events, in this turn of the loop or a later one."""
        if not self._woken:
            asyncio.get_running_loop().call_soon(self._wake_some)
        self._woken.append(subscription)

    def _wake_some(self) -> None:
        size = 0
        for _ in range(min(len(self._woken), WOKEN_PER_TURN)):
            woken = self._woken.popleft()
            size += woken.waiting_bytes
            woken.wake()
            if size >= WOKEN_BYTES_PER_TURN:
                break
        if self._woken:
            asyncio.get_running_loop().call_soon(self._wake_some)


class _Event:
    """A change that waits for `readers` watchers; its bytes are counted once."""

    __slots__ = ("change", "readers", "size")

    def __init__(self, change: Change) -> None:
        self.change = change
        self.size = _EVENT_BYTES + (entry_bytes(change.entry) if change.entry is not None else len(change.key))
        self.readers = 0


class Subscription:
    """One watcher; implements `ports.Watch`."""

    def __init__(
        self, hub: WatchHub, selector: str, *, prefix: bool, store: Store, clock: Clock, limits: Limits
    ) -> None:
        self.selector = selector
        self.prefix = prefix
        self._hub = hub
        self._store = store
        self._clock = clock
        self._limits = limits
        self._waiting: deque[_Event] = deque()
        self._waiting_bytes = 0
        self._told: str | None = ""
        """The last key told of what is held; None once all is told."""
        self._missed: dict[str, None] | None = None
        """What a resumed watch missed and was not told yet; None once all is told."""
        self._held_missed = Holding(hub.budget)
        self._woken = False
        self._news: asyncio.Future[None] | None = None
        self._end: SlowReader | Stopping | Superseded | None = None

    @property
    def waiting_bytes(self) -> int:
        """Key and value bytes of the events that wait."""
        return self._waiting_bytes

    def selects(self, key: str) -> bool:
        """Tell whether the watch is about `key`."""
        return key.startswith(self.selector) if self.prefix else key == self.selector

    def resume(self, missed: Iterable[str]) -> None:
        """Tell of these keys instead of what is held. Raises TooManyBytes."""
        found = dict.fromkeys(missed)
        self._held_missed.resize(len(found) * _MISSED_BYTES)
        self._told, self._missed = None, found

    def skip(self, key: str) -> None:
        """Tell of nothing that is held up to `key`."""
        self._told = key

    def add(self, event: _Event) -> bool:
        """Let `event` wait; tell whether the watcher has to be woken for it."""
        if self._end is not None or self._will_tell(event.change.key):
            return False
        full = len(self._waiting) >= self._limits.watch_waiting_max
        if full or self._waiting_bytes >= self._limits.watch_waiting_bytes_max:
            self._hub.cut += 1
            return self.end(SlowReader(f"{len(self._waiting)} events were waiting; read faster, or watch less"))
        if not event.readers and not self._hub.make_room(event, self):
            return False
        event.readers += 1
        if not self._waiting:
            self._hub.late[self] = None
        self._waiting.append(event)
        self._waiting_bytes += event.size - _EVENT_BYTES
        return self._asks()

    def _will_tell(self, key: str) -> bool:
        """Tell whether a page to come has what `key` holds then."""
        if self._missed is not None:
            return key in self._missed
        return self._told is not None and key > self._told

    def end(self, why: SlowReader | Stopping | Superseded) -> bool:
        """End the watch; tell whether the watcher has to be woken for it."""
        self._end = why
        self.drop()
        if not isinstance(why, SlowReader):
            self.wake()
            return False
        return self._asks()

    def _asks(self) -> bool:
        asks, self._woken = self._news is not None and not self._woken, True
        return asks

    def wake(self) -> None:
        """Let `next` return."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def next(self) -> Sequence[Change]:
        """Return the events that wait, or the first to come. Raises as `ports.Watch`."""
        while True:
            if self._told is not None or self._missed is not None:
                await next_slice()
            if self._end is not None:
                raise self._end.with_traceback(None)  # several watchers share one
            if (self._told is not None or self._missed is not None) and self._hub.behind:
                await asyncio.sleep(0)  # a page shows what is there by now, and is not to be followed by older news
                continue
            if self._told is not None:
                changes = self._page(self._told)
                if changes:
                    return changes
                await next_slice()  # behind keys that hold nothing now
                continue
            if self._missed is not None:
                return self._missed_page(self._missed)
            if self._waiting:
                return self._take()
            self._woken = False
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._news
            finally:
                self._news = None

    def _take(self) -> list[Change]:
        changes = [event.change for event in self._waiting]
        self._give_back()
        return changes

    def _give_back(self) -> None:
        if not self._waiting:
            return
        for event in self._waiting:
            event.readers -= 1
            if not event.readers:
                self._hub.budget.give_back(event.size)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._hub.late.pop(self, None)

    def drop(self) -> None:
        """Let nothing wait any more."""
        self._give_back()
        self._missed = None
        self._held_missed.release()

    def _page(self, told: str) -> list[Change]:
        """Return the next of what is held, maybe nothing; with the last page what changed meanwhile, and `synced`."""
        changes = self._take_untold()
        now_ms = self._clock.now_ms()
        if self.prefix:
            page = self._store.slice(self.selector, told or None, PAGE_ENTRIES, now_ms)
            found, more = page.entries, page.more
            told = page.passed or told
        else:
            entry = self._store.get(self.selector, now_ms)
            found, more = [entry] if entry is not None else [], False
        changes += [Change("put", entry.key, entry, None) for entry in found]
        if more:
            self._told = told
            return changes
        self._told = None
        return [*changes, Change("synced", "", None, self._hub.token())]

    def _missed_page(self, missed: dict[str, None]) -> list[Change]:
        """Return the next of what was missed; with the last page what changed meanwhile, and `synced`."""
        changes = self._take_untold()
        size, page = 0, []
        for key in islice(missed, PAGE_ENTRIES):
            now = self._hub.now(key)
            changes.append(now)
            page.append(key)
            size += entry_bytes(now.entry) if now.entry is not None else 0
            if size >= PAGE_BYTES:
                break
        for key in page:
            del missed[key]
        self._held_missed.resize(len(missed) * _MISSED_BYTES)
        if missed:
            return changes
        self._missed = None
        return [*changes, Change("synced", "", None, self._hub.token())]

    def _take_untold(self) -> list[Change]:
        """Take what waits, without tokens: behind them is more than what pages have yet to tell."""
        return [Change(kind, key, entry, None) for kind, key, entry, _ in self._take()]

    def close(self) -> None:
        """Forget the watcher."""
        self._hub.forget(self)
