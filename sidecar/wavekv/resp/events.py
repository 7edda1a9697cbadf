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
OUTBOX_BYTES: Final = 1 << 20
"""Messages gathered before they are sent, whatever changes are still to be told: one change may come to many."""
_MESSAGE_BYTES: Final = 64
"""What a message that waits costs beside its bytes."""
_RECEIVERS_PER_TURN: Final = 64
"""Connections that are sent to in one turn of the loop, about a millisecond."""
_AGAIN_SECONDS: Final = 1.0
"""Between two attempts to open a watch that was refused."""


class Receiver(Protocol):
    """A connection, as far as it is told of changes."""

    def push(self, data: bytes) -> None:
        """Send what was not asked for now, behind all replies due."""
        ...


class Outbox:
    """What is to be sent, for each connection in its order.

    One for all who tell, so that a connection that wants to be told no more gets what waits for it, and nothing later.
    """

    def __init__(self) -> None:
        self._parts: dict[Receiver, list[bytes]] = {}
        self._bytes = 0

    @property
    def full(self) -> bool:
        """Tell whether so much waits that it has to be sent before more is added."""
        return self._bytes >= OUTBOX_BYTES

    def add(self, receiver: Receiver, message: bytes) -> None:
        """Let `message` be sent."""
        self._parts.setdefault(receiver, []).append(message)
        self._bytes += len(message) + _MESSAGE_BYTES

    def send_to(self, receiver: Receiver) -> None:
        """Send what waits for one connection."""
        messages = self._parts.pop(receiver, None)
        if messages:
            self._bytes -= sum(map(len, messages)) + len(messages) * _MESSAGE_BYTES
            receiver.push(b"".join(messages))

    async def send(self) -> None:
        """Send all, to some connections in one turn of the loop."""
        sent = 0
        while self._parts:
            self.send_to(next(iter(self._parts)))
            sent += 1
            if not sent % _RECEIVERS_PER_TURN:
                await asyncio.sleep(0)


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

    async def flush(self, outbox: Outbox) -> None:
        """Add what was gathered of some changes."""
        ...


class KeyEvents:
    """The one watch, and who listens."""

    def __init__(self, store: KeyValues, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Listener) -> None:
        """Tell `listener` too, once `attend` was called and it listens."""
        self._listeners.append(listener)

    def attend(self, *, missed: bool = False) -> None:
        """Begin with what changes from now on, unless that has begun; end if nobody listens.

        `missed` says that there were changes of which nobody was told.
        """
        if not any(listener.listens for listener in self._listeners):
            self.stop()
        elif self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(self._store.token(), missed=missed))
            self._task.add_done_callback(self._ended)

    def settle(self, receiver: Receiver) -> None:
        """Send a connection what waits for it now: it is about to be told no more, or in another version of RESP."""
        self._outbox.send_to(receiver)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Begin anew after an error nobody expected; what changed until then was missed."""
        if not task.cancelled() and task.exception() is not None:
            log.error("Redis clients were not told of changes", exc_info=task.exception())
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, lambda: self.attend(missed=True))

    def stop(self) -> None:
        """Tell nobody any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, since: str, *, missed: bool) -> None:
        if missed:
            await self._miss()
        while True:
            try:
                since = await self._follow(since)
            except WatchExpired:
                since = self._store.token()
                await self._miss()
                await next_slice()
            except (TooManyWatchers, TooManyBytes) as error:
                log.warning("Redis clients are not told of changes: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
            except (Stopping, Superseded):
                return

    async def _follow(self, since: str) -> str:
        """Tell of changes behind `since`; return the place where they have to be taken up again."""
        watch = self._store.watch("", prefix=True, since=since)
        try:
            while True:
                changes = await watch.next()
                for start in range(0, len(changes), CHANGES_TOGETHER):
                    some = changes[start : start + CHANGES_TOGETHER]
                    await self._tell(some)
                    since = next((change.token for change in reversed(some) if change.token), since)
        except SlowReader:
            return since
        finally:
            watch.close()

    async def _tell(self, changes: Sequence[Change]) -> None:
        steps = 0
        for change in changes:
            if change.kind == "synced":
                continue
            for listener in self._listeners:
                if listener.listens:
                    steps += await listener.tell(change, self._outbox)
            if steps >= STEPS_PER_TURN:
                steps = 0
                await next_slice()
        for listener in self._listeners:
            await listener.flush(self._outbox)
        await self._outbox.send()

    async def _miss(self) -> None:
        for listener in self._listeners:
            listener.missed(self._outbox)
        await self._outbox.send()
