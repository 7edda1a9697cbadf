"""A member in memory with the hub of its watches, and a client that reads events and keeps the state they make."""

import asyncio
from collections.abc import Sequence

from tests.fakes.cluster import LIMITS, MemoryMember
from tests.fakes.key_values import FakeClock
from tests.fakes.pages import page_of
from wavekv.config import Limits
from wavekv.core.ops import SetNextSeq, as_records
from wavekv.core.types import Entry
from wavekv.core.writes import Delete, Put
from wavekv.ports import Change
from wavekv.runtime.watching import Subscription, WatchHub


class LoggedMember(MemoryMember):
    """Its log has the record that begins a group too, so that positions are those of a real log."""

    def commit(self) -> None:
        while (group := self.replica.ready()) is not None:
            self.log += [SetNextSeq(group.next_seq), *as_records(group.ops)]
            self.replica.advance(group)


class Watched:
    """A `MemoryMember` whose commits and expiries its watchers are told of, at `clock`."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.clock = FakeClock()
        self.clock.seconds = 1.0
        self.member = LoggedMember(0, ("m0",), limits)
        self.hub = self._hub()

    def _hub(self) -> WatchHub:
        identity = self.member.replica.identity
        return WatchHub(self.member.store, self.clock, self.limits, identity.uuid.hex(), identity.inc)

    def restart(self, keep: int | None = None) -> None:
        """A new process on the log, cut to its first `keep` operations if given."""
        self.member.restart(keep)
        self.hub = self._hub()

    def commit(self) -> None:
        replica = self.member.replica
        while (group := replica.ready()) is not None:
            self.member.log += [SetNextSeq(group.next_seq), *as_records(group.ops)]
            replica.advance(group)
            self.hub.committed(group.ops, replica.store.position - group.record_count + 1, group.withdrawn)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def put(self, key: str, value: bytes = b"", expires_at: int | None = None) -> Entry:
        staged = self.member.replica.put(key, value, self.now_ms, expires_at=expires_at)
        self.commit()
        return staged.entry

    def delete(self, key: str) -> Entry:
        staged = self.member.replica.delete(key, self.now_ms)
        self.commit()
        return staged.entry

    def batch(self, *writes: Put | Delete) -> None:
        self.member.replica.batch(writes, self.now_ms)
        self.commit()

    def merge(self, *entries: Entry) -> None:
        self.member.replica.merge(entries, self.now_ms)
        self.commit()

    def tick(self, seconds: float = 0.0, count_max: int = 500) -> list[str]:
        """Let time go by, and expire what is due."""
        self.clock.seconds += seconds
        due = self.member.store.take_expired(self.now_ms, count_max)
        self.hub.expired(due)
        return due

    def watch(self, prefix: str = "", since: str | None = None) -> "Client":
        return Client(self.hub.watch(prefix, prefix=True, since=since))

    def watch_key(self, key: str, since: str | None = None) -> "Client":
        return Client(self.hub.watch(key, prefix=False, since=since))

    def live(self, prefix: str = "") -> dict[str, bytes | None]:
        entries = page_of(self.member.store, prefix, None, 1 << 20, self.now_ms).entries
        return {entry.key: entry.value for entry in entries}


TURNS = 32
"""Turns of the loop after which nothing waits: a step that waits behind other slices of work has come by then."""


class Client:
    """Reads one watch: what it was told, the state this makes, and the last token."""

    def __init__(self, watch: Subscription, state: dict[str, bytes | None] | None = None) -> None:
        self.subscription = watch
        self.state = {} if state is None else state
        self.token: str | None = None
        self.synced = False
        self.told: list[Change] = []
        self.history: list[tuple[str, dict[str, bytes | None]]] = []
        """Each token with the state behind it."""
        self.reading: asyncio.Task[Sequence[Change]] | None = None

    async def read(self) -> list[str]:
        """Take all there is without waiting; return it as `kind key` in order. Raises what ends the watch."""
        found: list[Change] = []
        while changes := await self.read_once():
            found += changes
        return [f"{change.kind} {change.key}".rstrip() for change in found]

    async def read_once(self) -> Sequence[Change]:
        """Take what one step gives, nothing if nothing waits. Raises what ends the watch."""
        reading = self.reading or self.wait()
        for _ in range(TURNS):
            if reading.done():
                break
            await asyncio.sleep(0)
        self.reading = None
        if not reading.done():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            return ()
        changes = reading.result()
        self._take(changes)
        return changes

    def wait(self) -> asyncio.Task[Sequence[Change]]:
        """Begin to wait, as a stream does between two events."""
        self.reading = asyncio.ensure_future(self.subscription.next())
        return self.reading

    def _take(self, changes: Sequence[Change]) -> None:
        self.told += changes
        for change in changes:
            self.token = change.token or self.token
            if change.kind == "synced":
                self.synced = True
            elif change.kind == "put":
                assert change.entry is not None
                self.state[change.key] = change.entry.value
            else:
                self.state.pop(change.key, None)
            if change.token is not None:
                self.history.append((change.token, dict(self.state)))

    def close(self) -> None:
        self.subscription.close()
