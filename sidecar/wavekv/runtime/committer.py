"""Group commit: what is staged in one turn of the loop becomes durable in one write and one sync (G1).

Drain rule: a turn that brought new work is followed by one more poll of the sockets, a few times at most, before the
group goes to disk; 64 busy connections share a sync that way. One group is out at a time; what arrives meanwhile is
the next. Futures resolve in order, so an acknowledgement never overtakes an earlier one.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from wavekv.core.ops import Op
from wavekv.core.replica import Replica
from wavekv.core.steps import Group, Slices
from wavekv.errors import DiskFailed, DiskFull, NotWritten, RequestError, Stopping, WaveKVError

log = logging.getLogger(__name__)

DRAIN_POLLS_MAX = 8
"""Turns of the loop a group may wait for company; at about 10 µs each, far below one sync."""

ROOM_SECONDS = 1.0
"""Between two looks for room on a full disk."""

Done = Callable[[WaveKVError | None], None]
FindRoom = Callable[[Done], None]
"""Looks for room where appends run, and calls back, from any thread, with what came of it."""


class Syncing(Protocol):
    """Runs one append at a time, off the loop or on it."""

    def submit(self, ops: Sequence[Op], next_seq: int, done: Callable[[WaveKVError | None], None]) -> None:
        """Append and sync `ops`, then call `done`, from any thread."""
        ...

    def run(self, work: Callable[[], None], done: Callable[[WaveKVError | None], None]) -> None:
        """Call `work` where appends run, between two of them, then `done`, from any thread."""
        ...


class Committer:
    """Moves staged groups to disk and wakes whoever waits for them."""

    def __init__(
        self,
        replica: Replica,
        syncer: Syncing,
        on_durable: Callable[[Group], None],
        find_room: FindRoom | None = None,
        pace: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Commit `replica` through `syncer`.

        Args:
            replica: What stages.
            syncer: Where groups become durable.
            on_durable: Told each group once it is visible.
            find_room: Looks for room on a full disk.
            pace: Seconds that the next group has to wait; what arrives meanwhile goes with it, up to its bounds.
        """
        self._replica = replica
        self._pace = pace
        self._find_room = find_room
        self._syncer = syncer
        self._on_durable = on_durable
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._scheduled = False
        self._polls = 0
        self._seen_ticket = 0
        self.failed: asyncio.Future[DiskFailed] = self._loop.create_future()

    def durable(self, ticket: int) -> "asyncio.Future[None]":
        """Return a future that ends once everything up to `ticket` is on disk and visible.

        Registered in the caller's own turn: a ticket kept across an await could be voided unseen.

        Raises (the future):
            DiskFull: it is not on disk and will not be.
            DiskFailed: whether it is on disk is unknown; the process is about to stop.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        if ticket <= self._replica.durable_ticket:
            waiter.set_result(None)
        elif self.failed.done():
            waiter.set_exception(self.failed.result())
        else:
            self._waiters.append((ticket, waiter))
            self._schedule()
        return waiter

    async def refuse(self, refusal: RequestError) -> NoReturn:
        """Raise `refusal` once it is true for good: it may speak of a write that is on its way to the disk (G5).

        Raises:
            RequestError: `refusal`.
            DiskFull, DiskFailed: as `durable`; what the refusal was decided on does not hold.
        """
        await self.durable(self._replica.last_ticket)
        raise refusal

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled, self._polls = True, 0
            self._seen_ticket = self._replica.last_ticket
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        ticket = self._replica.last_ticket
        if ticket != self._seen_ticket and self._polls < DRAIN_POLLS_MAX:
            self._polls += 1
            self._seen_ticket = ticket
            self._loop.call_soon(self._flush)
            return
        pause = self._pace()
        if pause:
            self._loop.call_later(pause, self._submit)
        else:
            self._submit()

    def _submit(self) -> None:
        self._scheduled = False
        group = None if self.failed.done() else self._replica.ready()
        if group is not None:
            self._syncer.submit(group.ops, group.next_seq, lambda error: self._from_any_thread(group, error))

    def _from_any_thread(self, group: Group, error: WaveKVError | None) -> None:
        if threading.get_ident() == self._loop_thread:
            self._synced(group, error)
        else:
            self._loop.call_soon_threadsafe(self._synced, group, error)

    def _synced(self, group: Group, error: WaveKVError | None) -> None:
        if error is None:
            self._show(group, self._replica.advance_in_slices(group))
        elif isinstance(error, NotWritten):
            self._replica.abandon()
            self._wake(None, error)
            if isinstance(error, DiskFull):
                self._wait_for_room(error)
        else:
            self.fail(error)

    def _show(self, group: Group, slices: Slices[None]) -> None:
        """Show a durable group, a large one a slice a turn; then wake who waits for it."""
        try:
            next(slices)
        except StopIteration:
            self._wake(group.ticket, None)
            self._on_durable(group)
            if self._replica.last_ticket > group.ticket:
                self._schedule()
        else:
            self._loop.call_soon(self._show, group, slices)

    def fail(self, error: WaveKVError) -> None:
        """Take note that nobody knows what is on disk: who waits is told so, and the process has to stop."""
        assert isinstance(error, DiskFailed), error
        if not self.failed.done():
            self.failed.set_result(error)
        self._wake(None, error)

    # ---- a full disk -----------------------------------------------------------------------------------------------

    def _wait_for_room(self, error: DiskFull) -> None:
        """Refuse values before they are staged, so that deletes get through, and look for room now and then."""
        if self._find_room is not None:
            if self._replica.full is None:
                log.warning("the disk is full: values are refused until there is room; reads and deletes go on")
                self._loop.call_later(ROOM_SECONDS, self._look_for_room)
            self._replica.full = error

    def _look_for_room(self) -> None:
        if self._find_room is not None and self._replica.full is not None and not self.failed.done():
            self._find_room(self._looked_from_any_thread)

    def _looked_from_any_thread(self, error: WaveKVError | None) -> None:
        self._loop.call_soon_threadsafe(self._looked, error)

    def _looked(self, error: WaveKVError | None) -> None:
        if error is None:
            self._replica.full = None
            log.info("the disk has room again: values are taken")
        elif isinstance(error, NotWritten):
            self._loop.call_later(ROOM_SECONDS, self._look_for_room)
        else:
            self.fail(error)

    def _wake(self, ticket: int | None, error: WaveKVError | None) -> None:
        """Resolve the waiters up to `ticket`, or fail all of them."""
        while self._waiters and (ticket is None or self._waiters[0][0] <= ticket):
            _, waiter = self._waiters.popleft()
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    async def drain(self) -> None:
        """Wait until everything staged is on disk, then refuse what comes later.

        Raises:
            DiskFull, DiskFailed: as `durable`.
        """
        await self.durable(self._replica.last_ticket)
        self._wake(None, Stopping("the member is stopping"))
