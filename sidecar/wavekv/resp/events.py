"""Changes of keys, carried from one watch of the store to the connections that asked for them.

The watch is open while somebody listens: the channels of key events (`channels`) or clients that keep a cache
(`tracking`). What a connection is told of some changes is sent together. Work is done in pieces, between which others
have their turn. A watch that was cut because changes came too fast is resumed where it stood; if that is not possible,
changes were missed, and the listeners are told so.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from wavekv.errors import SlowReader, Stopping, Superseded, TooManyBytes, TooManyWatchers, WatchExpired
from wavekv.ports import Change, KeyValues
from wavekv.runtime.gate import next_slice

log = logging.getLogger(__name__)

STEPS_PER_TURN: Final = 256
"""Looks of about two microseconds in one turn of the loop."""
CHANGES_TOGETHER: Final = 64
"""Changes whose messages are sent together."""
_AGAIN_SECONDS: Final = 1.0
"""Between two attempts to open a watch that was refused."""


class Receiver(Protocol):
    """A connection, as far as it is told of changes."""

    def push(self, data: bytes) -> None:
        """Send what was not asked for now, behind all replies due."""
        ...


class Outbox:
    """What is to be sent, for each connection in its order."""

    def __init__(self) -> None:
        self._parts: dict[Receiver, list[bytes]] = {}

    def add(self, receiver: Receiver, message: bytes) -> None:
        """Let `message` be sent."""
        self._parts.setdefault(receiver, []).append(message)

    def send(self) -> None:
        """Send all."""
        parts, self._parts = self._parts, {}
        for receiver, messages in parts.items():
            receiver.push(b"".join(messages))


class Listener(Protocol):
    """Who is told of each change."""

    @property
    def listens(self) -> bool:
        """Tell whether anybody is to be told."""
        ...

    async def tell(self, change: Change, outbox: Outbox) -> int:
        """Tell of one change; return the looks that took."""
        ...

    def missed(self, outbox: Outbox) -> None:
        """Changes were missed: say so."""
        ...

    def flush(self, outbox: Outbox) -> None:
        """Add what was gathered of some changes."""
        ...


class KeyEvents:
    """The one watch, and who listens."""

    def __init__(self, store: KeyValues) -> None:
        self._store = store
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Listener) -> None:
        """Tell `listener` too, once `attend` was called and it listens."""
        self._listeners.append(listener)

    def attend(self) -> None:
        """Begin with what changes from now on, unless that has begun; end if nobody listens."""
        if not any(listener.listens for listener in self._listeners):
            self.stop()
        elif self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(self._store.token()))
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Begin anew after an error nobody expected; what changed until then was missed."""
        if not task.cancelled() and task.exception() is not None:
            log.error("Redis clients were not told of changes", exc_info=task.exception())
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._begin_anew)

    def _begin_anew(self) -> None:
        self.attend()
        self._miss()

    def stop(self) -> None:
        """Tell nobody any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, since: str) -> None:
        while True:
            try:
                since = await self._follow(since)
            except WatchExpired:
                since = self._store.token()
                self._miss()
                await next_slice()
            except (TooManyWatchers, TooManyBytes) as error:
                log.warning("Redis clients are not told of changes: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
            except (Stopping, Superseded):
                return

    async def _follow(self, since: str) -> str:
        """Tell of changes behind `since`; return the place where they have to be taken up again."""
        watch = self._store.watch("", prefix=True, since=since)
        outbox = Outbox()
        try:
            while True:
                changes = await watch.next()
                for start in range(0, len(changes), CHANGES_TOGETHER):
                    some = changes[start : start + CHANGES_TOGETHER]
                    await self._tell(some, outbox)
                    since = next((change.token for change in reversed(some) if change.token), since)
        except SlowReader:
            return since
        finally:
            watch.close()

    async def _tell(self, changes: Sequence[Change], outbox: Outbox) -> None:
        steps = 0
        for change in changes:
            if change.kind == "synced":
                continue
            for listener in self._listeners:
                if listener.listens:
                    steps += await listener.tell(change, outbox)
            if steps >= STEPS_PER_TURN:
                steps = 0
                await next_slice()
        for listener in self._listeners:
            listener.flush(outbox)
        outbox.send()

    def _miss(self) -> None:
        outbox = Outbox()
        for listener in self._listeners:
            listener.missed(outbox)
        outbox.send()
