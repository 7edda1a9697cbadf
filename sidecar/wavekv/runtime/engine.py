"""One store of a member at work: core, commits, gossip, watches. A member has two, `persistent` and `ephemeral`.

They differ in what a commit waits for, and in nothing else: the ephemeral one has a log of no bytes. Each speaks to its
counterpart on the other members, under an origin of its own.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal

from wavekv.config import GossipSettings, Limits
from wavekv.core import exchange
from wavekv.core.collection import collect, included
from wavekv.core.messages import Envelope
from wavekv.core.ops import Op
from wavekv.core.origin_expiry import OriginExpiry
from wavekv.core.replica import Replica
from wavekv.core.reports import sender_of
from wavekv.core.steps import Group, Merged, Slices
from wavekv.errors import NotWritten, Superseded, WaveKVError
from wavekv.ports import Claims, Clock, Observer, Transport
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.committer import Committer, FindRoom, Syncing
from wavekv.runtime.gate import next_slice
from wavekv.runtime.gossip import Gossip
from wavekv.runtime.key_values import LocalKeyValues
from wavekv.runtime.link import Link
from wavekv.runtime.slices import in_turns
from wavekv.runtime.watchdog import Watchdog
from wavekv.runtime.watching import WatchHub

StoreName = Literal["persistent", "ephemeral"]

_EXPIRY_SECONDS: Final = 0.1
_EXPIRED_PER_TICK_MAX: Final = 500
"""Keys whose expiry is told in one step; more wait for the next turn of the loop."""
_COLLECTED_PER_STEP_MAX: Final = 500
"""Deletes that are forgotten in one step."""


class MemorySyncing:
    """The log of a store that lives in memory alone: everything is as durable as it gets at once."""

    def submit(self, ops: Sequence[Op], next_seq: int, done: Callable[[WaveKVError | None], None]) -> None:
        """Call `done`."""
        done(None)

    def run(self, work: Callable[[], None], done: Callable[[WaveKVError | None], None]) -> None:
        """Call `work`, then `done`."""
        work()
        done(None)


class Engine:
    """A store's core with its commits, gossip and watches."""

    def __init__(
        self,
        replica: Replica,
        syncing: Syncing,
        transport: Transport,
        *,
        clock: Clock,
        observer: Observer,
        limits: Limits,
        settings: GossipSettings,
        rng: random.Random,
        on_round: Callable[[Link], None],
        keep_epoch: Callable[[], Awaitable[None]],
        on_superseded: Callable[[], None],
        status: Callable[[], Mapping[str, Any]],
        find_room: FindRoom | None = None,
        pace: Callable[[], float] = lambda: 0.0,
        token_suffix: str = "",
        hidden: str | None = None,
        watchdog: Watchdog | None = None,
        claims: Claims | None = None,
        watch_budget: ByteBudget | None = None,
    ) -> None:
        """Put a store to work.

        `token_suffix` tells its watches' tokens from those of the member's other store; keys that begin with `hidden`
        are the members' own; `watch_budget` is shared by the watches of both stores.
        """
        self.replica = replica
        self._clock = clock
        self._watchdog = watchdog or Watchdog(clock, limits.turn_ms_max)
        self._keep_epoch = keep_epoch
        self._collect_seconds = settings.interval_ms / 1000
        self.origin_expiry = OriginExpiry(replica)
        self.on_dropped: Callable[[Sequence[int]], None] = lambda _: None
        """Told of the origins that are covered no more, once that is durable (R15)."""
        self._on_superseded = on_superseded
        self._superseded: Superseded | None = None
        self.committer = Committer(replica, syncing, self._durable, find_room, pace)
        identity = replica.identity
        node = identity.uuid.hex() + token_suffix
        self.watches = WatchHub(replica.store, clock, limits, node, identity.inc, hidden=hidden, budget=watch_budget)
        self.gossip = Gossip(
            replica,
            self.committer,
            transport,
            clock=clock,
            observer=observer,
            settings=settings,
            limits=limits,
            rng=rng,
            on_round=on_round,
            keep_epoch=keep_epoch,
            on_superseded=on_superseded,
            claims=claims,
        )
        self.coverage = self.gossip.coverage
        self.values = LocalKeyValues(
            replica, self.committer, self.watches, clock, status, coverage=self.coverage, hidden=hidden
        )

    def _durable(self, group: Group) -> None:
        with self._watchdog.running("commit"):
            self._tell(group)

    def _tell(self, group: Group) -> None:
        self.watches.committed(group.ops, self.replica.store.position - group.record_count + 1, group.withdrawn)
        self.gossip.durable(group)
        self.coverage.advanced()

    async def start(self) -> None:
        """Make durable that this process runs; and expire what is past already, before anybody watches.

        A restart finds every entry that ever expired and was not overwritten. A watch that resumes hears of these among
        what it missed; told as news they would flood all the others.
        """
        await self.committer.durable(self.replica.last_ticket)
        more = True
        while more:
            more = self._expire_some()
            await next_slice()

    async def expire(self) -> None:
        """Tell watchers of expired keys as time goes by, until cancelled."""
        while True:
            more = self._expire_some()
            await (next_slice() if more else asyncio.sleep(_EXPIRY_SECONDS))

    def _expire_some(self) -> bool:
        """Tell of a few keys that expired; tell whether more may have."""
        with self._watchdog.running("expire"):
            due = self.replica.store.take_expired(self._clock.now_ms(), _EXPIRED_PER_TICK_MAX)
            self.watches.expired(due)
        return len(due) == _EXPIRED_PER_TICK_MAX

    async def collect(self) -> None:
        """Forget deletes that every member covers (R5), and dead origins (R15), now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._collect_seconds)
            more = True
            while more:
                more = await self._collect_some()
            await self._drop_dead_origins()

    async def _drop_dead_origins(self) -> None:
        """Take a step of R15; what it comes to is durable once this returns, or will be tried again."""
        if self.origin_expiry.idle():
            return
        with self._watchdog.running("drop origins"):
            dropped = self.origin_expiry.step(included(self.replica), self._clock.now_ms())
        try:
            await self.committer.durable(self.replica.last_ticket)
        except NotWritten:
            self.origin_expiry.settle(durable=False)
            return
        self.origin_expiry.settle(durable=True)
        if dropped:
            self.on_dropped(dropped)

    async def _collect_some(self) -> bool:
        """Forget a few deletes; tell, once that is durable, whether there may be more."""
        with self._watchdog.running("collect"):
            count = collect(self.replica, self._clock.now_ms(), _COLLECTED_PER_STEP_MAX)
        try:
            await self.committer.durable(self.replica.last_ticket)
        except NotWritten:  # they are collected when there is room again
            return False
        return count == _COLLECTED_PER_STEP_MAX

    def supersede(self, refusal: Superseded) -> None:
        """Serve nobody any more, for good: neither clients, their watches, nor peers."""
        self._superseded = refusal
        self.values.refusal = refusal
        self.watches.stop(refusal)
        self.gossip.silence()

    # ---- what the peer plane calls ---------------------------------------------------------------------------------

    async def receive_request(self, request: Envelope) -> Envelope:
        """Merge one request of an exchange, and answer from what is durable then.

        Raises:
            PeerError: the sender is refused.
            UnavailableError: what it sent could not be stored.
        """
        await self._admit(exchange.receive_request_in_slices, request)
        self.gossip.heard_from(sender_of(request))
        self.coverage.heard(sender_of(request))
        return exchange.answer(self.replica, request, self._clock.now_ms())

    async def receive_push(self, message: Envelope) -> Envelope | None:
        """Merge pushed entries; return this member's report once they are durable, None to a crate node.

        Raises:
            PeerError: the sender is refused.
            UnavailableError: what it sent could not be stored.
        """
        merged = await self._admit(exchange.receive_push_in_slices, message)
        self.gossip.heard_from(sender_of(message))
        self.gossip.relay(merged.news, sender_of(message))
        if message.name is None:
            return None
        answer = exchange.receipt if self.gossip.relays else exchange.report
        return answer(self.replica, self._clock.now_ms(), message.epoch)

    def proof(self) -> Envelope:
        """Return who this member is and the epoch it knows: what a refused sender is shown (R9)."""
        return exchange.envelope(self.replica, self._clock.now_ms())

    async def _admit(self, receive: Callable[[Replica, Envelope, int], Slices[Merged]], message: Envelope) -> Merged:
        """Merge `message` and return what came of it once that is durable.

        A newer epoch it taught us is on disk before anything is answered, refusals too (R9).
        """
        if self._superseded is not None:
            raise self._superseded.with_traceback(None)
        try:
            merged = await in_turns(
                receive(self.replica, message, self._clock.now_ms()), lambda: self._watchdog.running("merge")
            )
            durable = self.committer.durable(merged.ticket)
        except Superseded:
            self._on_superseded()
            raise
        finally:
            await self._keep_epoch()
        self.gossip.refusals.tell(merged.refused)
        await durable
        return merged
