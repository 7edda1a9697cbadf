"""A member without an engine: a dict behind the `KeyValues` protocol, and the small ports that go with it."""

import asyncio
from collections.abc import Mapping
from typing import Any

from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.types import Entry
from wavekv.errors import KeyNotFound
from wavekv.ports import Listing, Written

ORIGIN = 7


class FakeKeyValues:
    """Keeps entries in a dict; stamps count up from 1.

    `error` is raised by every call while it is set. With `hold` the writes wait, staged and invisible, until `commit`.
    `commits` counts the groups: writes of one turn of the loop share one, as in a member.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.error: Exception | None = None
        self.hold = False
        self.commits = 0
        self.most_waiting = 0
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

    async def _write(self, key: str, value: bytes | None) -> Entry:
        self._seq += 1
        entry = Entry(key, value, self._seq, ORIGIN, self._seq)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._staged.append((entry, durable))
        self.most_waiting = max(self.most_waiting, len(self._staged))
        if not self._scheduled and not self.hold:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.commit)
        await durable
        return entry

    def commit(self) -> None:
        """Make what is staged durable and visible."""
        self._scheduled = False
        staged, self._staged = self._staged, []
        self.commits += bool(staged)
        for entry, durable in staged:
            self.entries[entry.key] = entry
            if not durable.done():
                durable.set_result(None)

    def get(self, key: str) -> Entry | None:
        self._fail()
        entry = self.entries.get(key)
        return None if entry is None or entry.value is None else entry

    async def put(self, key: str, value: bytes, condition: Condition = ALWAYS) -> Written:
        self._fail()
        held = self._newest(key)
        condition.check(held if held is not None and held.value is not None else None)
        return Written(await self._write(key, value), held is None or held.value is None)

    async def delete(self, key: str, condition: Condition = ALWAYS) -> Written:
        self._fail()
        held = self._newest(key)
        condition.check(held if held is not None and held.value is not None else None)
        if held is None or held.value is None:
            raise KeyNotFound(f"there is no key {key!r}")
        return Written(await self._write(key, None), created=False)

    def list(self, prefix: str, after: str | None, limit: int) -> Listing:
        self._fail()
        keys = sorted(
            key
            for key, entry in self.entries.items()
            if entry.value is not None and key.startswith(prefix) and (after is None or key > after)
        )
        return Listing([self.entries[key] for key in keys[:limit]], len(keys) > limit)

    def count(self) -> int:
        return sum(entry.value is not None for entry in self.entries.values())

    def status(self) -> Mapping[str, Any]:
        self._fail()
        return {"name": "fake", "entries": self.count()}


class FakeClock:
    """Time that moves only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Operations:
    """An observer that remembers the operations of clients and nothing else."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def synced(self, seconds: float, ops: int, size_bytes: int) -> None: ...

    def operation(self, plane: str, kind: str, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((plane, kind, result))

    def propagated(self, seconds: float) -> None: ...

    def exchanged(self, peer: str, result: str, seconds: float) -> None: ...

    def pushed(self, peer: str, result: str, entries: int) -> None: ...

    def refused(self, code: str, count: int) -> None: ...
