"""What a store would hold after some writes, decided in memory and stored as one batch.

A command that looks before it writes (APPEND, RENAME, GETDEL…), and all commands of a transaction, run against one:
they see each other's writes and nothing is stored before all are decided. Reads look at what is staged too, so that
nothing written in the meantime is lost; what they see is shown to the client only once the batch, which comes behind
it, is durable (G5). If turns of the loop passed in between, the batch is stored only if nothing that was looked at
changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from wavekv.core.condition import ABSENT, ALWAYS, Condition
from wavekv.core.session import DotRange
from wavekv.core.types import Entry
from wavekv.core.writes import KEEP_EXPIRY, Check, Delete, Put, Write
from wavekv.errors import KeyNotFound
from wavekv.ports import Clock, KeyValues, Listing, Spread, Watch, Written


class Overlay:
    """Writes over `store` that are not stored yet; implements `ports.KeyValues`, and its writes never wait.

    With `visible` it looks at what is visible alone, for what only reads.
    """

    def __init__(self, store: KeyValues, clock: Clock, *, visible: bool = False) -> None:
        self._store = store
        self._clock = clock
        self._look = store.get if visible else store.pending
        self._seen: dict[str, Entry | None] = {}
        self._written: dict[str, Entry | None] = {}
        self._writes = 0

    # ---- the outcome -----------------------------------------------------------------------------------------------

    @property
    def seen(self) -> Mapping[str, Entry | None]:
        """What each key held when it was looked at first."""
        return self._seen

    async def store(self, *, conditional: bool) -> list[Written | None]:
        """Store what was written as one batch; with `conditional`, only if nothing that was looked at has changed.

        Raises:
            PreconditionFailed: it has.
            BatchTooLarge, CratePeers, UnavailableError: as `KeyValues.batch`.
        """
        writes: list[Write] = []
        for key, before in self._seen.items():
            condition = _still(before) if conditional else ALWAYS
            if key not in self._written:
                if conditional:
                    writes.append(Check(key, condition))
                continue
            after = self._written[key]
            if after is None or after.value is None:
                writes.append(Delete(key, condition) if before is not None else Check(key, condition))
            else:
                writes.append(Put(key, after.value, after.expires_at, condition))
        return await self._store.batch(writes)

    # ---- reads -----------------------------------------------------------------------------------------------------

    def pending(self, key: str) -> Entry | None:
        """Return what `key` holds by now; its value may be a view."""
        if key in self._written:
            entry = self._written[key]
            return entry if entry is not None and entry.alive(self._clock.now_ms()) else None
        if key not in self._seen:
            self._seen[key] = self._look(key)
        return self._seen[key]

    def get(self, key: str) -> Entry | None:
        """Return what `key` holds by now."""
        entry = self.pending(key)
        return entry._replace(value=bytes(entry.value)) if entry is not None and entry.value is not None else entry

    def length_of(self, key: str) -> int | None:
        """Return the length of what `key` holds by now."""
        entry = self.pending(key)
        return None if entry is None or entry.value is None else len(entry.value)

    def count(self) -> int:
        """Return the number of live entries, as far as is visible, with the writes so far."""
        made = sum((entry is not None) - (self._seen[key] is not None) for key, entry in self._written.items())
        return self._store.count() + made

    def expiring(self) -> int:
        """Return how many of the visible entries will expire."""
        return self._store.expiring()

    # ---- writes ----------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, value: bytes, condition: Condition = ALWAYS, expires_at: int | None = None
    ) -> Written:
        """Let `key` hold `value`. Raises PreconditionFailed."""
        before = self.pending(key)
        condition.check(before)
        if expires_at == KEEP_EXPIRY:
            expires_at = before.expires_at if before is not None else None
        return self.hold(key, value, expires_at)

    async def delete(self, key: str, condition: Condition = ALWAYS) -> Written:
        """Let `key` hold nothing. Raises KeyNotFound, PreconditionFailed."""
        before = self.pending(key)
        condition.check(before)
        if before is None:
            raise KeyNotFound(f"there is no key {key!r}")
        return self.hold(key, None)

    async def expire(self, key: str, expires_at: int | None, condition: Condition = ALWAYS) -> Written:
        """Let what `key` holds expire at another time. Raises as `delete`."""
        before = self.pending(key)
        condition.check(before)
        if before is None or before.value is None:
            raise KeyNotFound(f"there is no key {key!r}")
        return self.hold(key, bytes(before.value), expires_at)

    async def batch(self, writes: Sequence[Write]) -> list[Written | None]:
        """Let all happen, or nothing. Raises PreconditionFailed."""
        for write in writes:
            write.condition.check(self.pending(write.key))
        written: list[Written | None] = []
        for write in writes:
            if isinstance(write, Put):
                written.append(await self.put(write.key, write.value, expires_at=write.expires_at))
            elif isinstance(write, Delete) and self.pending(write.key) is not None:
                written.append(await self.delete(write.key))
            else:
                written.append(None)
        return written

    def hold(self, key: str, value: bytes | None, expires_at: int | None = None) -> Written:
        """Let `key` hold `value` from now on, None: nothing."""
        before = self.pending(key)
        self._writes += 1
        entry = Entry(key, value, self._clock.now_ms(), 0, self._writes, expires_at)
        self._written[key] = None if value is None else entry
        return Written(entry, before)

    # ---- what is asked of the store itself -------------------------------------------------------------------------

    async def covered(self, dots: Sequence[DotRange], seconds: float) -> None:
        """Ask the store."""
        await self._store.covered(dots, seconds)

    def spread(self, count: int | None) -> Spread:
        """Ask the store."""
        return self._store.spread(count)

    def list(
        self, prefix: str, after: str | None, limit: int, *, keys_only: bool = False, bytes_max: int | None = None
    ) -> Listing:
        """Ask the store; writes so far are not in it."""
        return self._store.list(prefix, after, limit, keys_only=keys_only, bytes_max=bytes_max)

    def token(self) -> str:
        """Ask the store."""
        return self._store.token()

    def watch(self, selector: str, *, prefix: bool, since: str | None) -> Watch:
        """Ask the store."""
        return self._store.watch(selector, prefix=prefix, since=since)

    def explain(self, key: str) -> Mapping[str, Any]:
        """Ask the store."""
        return self._store.explain(key)

    def status(self) -> Mapping[str, Any]:
        """Ask the store."""
        return self._store.status()


def _still(seen: Entry | None) -> Condition:
    return ABSENT if seen is None else Condition(match=(seen.etag,))
