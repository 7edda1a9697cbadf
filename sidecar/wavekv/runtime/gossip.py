"""Keeps the other members up to date: pushes within milliseconds, exchanges once a second (R3).

One task wakes every interval (with jitter, so that members do not march in step) and starts a round with a few random
peers; a peer has one round and one push under way at most. Own durable writes are coalesced for a moment and pushed to
every peer; a push that fails is not repeated, the exchange brings what it held. Unreachable peers are asked ever more
rarely, and at once again when they speak to us; while this member heals it asks them in every interval.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any

from wavekv.config import GossipSettings, Limits, PeerAddress
from wavekv.core import exchange
from wavekv.core.repair import Repaired
from wavekv.core.replica import Replica
from wavekv.core.reports import sender_of
from wavekv.core.steps import Group
from wavekv.errors import DiskFailed, PeerError, WaveKVError
from wavekv.ports import Clock, Observer, Transport
from wavekv.runtime.committer import Committer
from wavekv.runtime.link import Link, PushQueue

log = logging.getLogger(__name__)

ASKED_MAX = 32
"""Rounds under way when particular peers are asked: a draining member in a cluster of a thousand waits for them all."""


class Gossip:
    """The links to the configured peers and what goes over them."""

    def __init__(
        self,
        replica: Replica,
        committer: Committer,
        transport: Transport,
        *,
        clock: Clock,
        observer: Observer,
        settings: GossipSettings,
        limits: Limits,
        rng: random.Random,
        on_round: Callable[[Link], None],
        keep_epoch: Callable[[], Awaitable[None]],
    ) -> None:
        self._replica = replica
        self._committer = committer
        self._transport = transport
        self._clock = clock
        self._observer = observer
        self._settings = settings
        self._limits = limits
        self._rng = rng
        self._on_round = on_round
        self._keep_epoch = keep_epoch
        self._tasks: set[asyncio.Task[None]] = set()
        self._pushing: set[str] = set()
        self.links: dict[str, Link] = {}

    def connect(self, peers: tuple[PeerAddress, ...]) -> None:
        """Make `peers` the links; those that stay keep their state."""
        wanted = {peer.name: peer for peer in peers if peer.name != self._replica.identity.name}
        for name in [name for name in self.links if name not in wanted]:
            del self.links[name]
        for name, peer in wanted.items():
            known = self.links.get(name)
            if known is None or known.url != peer.url:
                self.links[name] = Link(name, peer.url, PushQueue(self._limits.push_keys_max), reported_as=name)

    # ---- the periodic exchange -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with a round to every peer, then one interval after the other."""
        self._spawn(self._run())

    async def stop(self) -> None:
        """End all tasks and connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, DiskFailed):  # a failed disk is told by the committer
            log.error("a task of the gossip ended unexpectedly", exc_info=error)

    async def _run(self) -> None:
        self.retry_now()
        while True:
            await asyncio.sleep(self._settings.interval_ms / 1000 * self._rng.uniform(0.75, 1.25))
            self._start_some(self._due(), self._settings.fanout)

    def _due(self) -> list[Link]:
        now, healing = self._clock.monotonic(), self._replica.healing
        return [link for link in self.idle() if healing or link.retry_at <= now]

    def _start_some(self, links: list[Link], count: int) -> None:
        for link in self._rng.sample(links, min(len(links), max(0, count))):
            self._start_round(link)

    def idle(self) -> list[Link]:
        """Return the links to members that have no round under way."""
        speaks_to = self._replica.membership.speaks_to
        return [link for link in self.links.values() if not link.busy and speaks_to(link.name)]

    def heard_from(self, name: str) -> None:
        """A peer spoke to us: if it was given up for now, ask it again at once."""
        now = self._clock.monotonic()
        for link in self.links.values():
            if link.reported_as == name:
                link.last_heard = now
                if link.failures and not link.busy:
                    self._start_round(link)

    def retry_now(self) -> None:
        """Start a round with every idle peer (a joining member does not wait for its interval)."""
        for link in self.idle():
            self._start_round(link)

    def ask(self, names: Collection[str]) -> None:
        """Start a round with idle peers among `names`, at random; at most ASKED_MAX rounds are under way (G9)."""
        wanted = set(names)
        due = [link for link in self._due() if link.name in wanted]
        self._start_some(due, ASKED_MAX - sum(link.busy for link in self.links.values()))

    def forgive(self) -> None:
        """Let no peer wait for the end of its pause."""
        for link in self.links.values():
            link.retry_at = 0.0

    def _start_round(self, link: Link) -> None:
        link.busy = True
        self._spawn(self._round(link))

    async def _round(self, link: Link) -> None:
        started = self._clock.monotonic()
        result = "ok"
        try:
            await self._exchange(link)
        except DiskFailed:
            raise
        except WaveKVError as error:
            result = error.code
            self._note_failure(link, error)
        finally:
            link.busy = False
        self._observer.exchanged(link.name, result, self._clock.monotonic() - started)
        if result == "ok":
            self._on_round(link)

    async def _exchange(self, link: Link) -> None:
        """Run one round to its end. One page is fetched while the one before it is written.

        Raises:
            PeerError: the peer cannot be reached, refuses us, or answers what is refused.
            UnavailableError: what it sent could not be stored.
        """
        current = exchange.Round(self._replica, link.name, link.reported_as)
        written: asyncio.Future[None] | None = None
        while not current.done:
            request = current.request(self._clock.now_ms())
            answer = await self._transport.exchange(link.url, request)
            if written is not None:
                await written
            try:
                written = self._committer.durable(current.receive(answer, self._clock.now_ms()))
                written.add_done_callback(_heard_of)
            finally:
                await self._keep_epoch()
            link.answered(self._clock.monotonic(), sender_of(answer))
            if not current.fetching:
                await written
        self._report_refused(current.merged.refused)
        if current.repair is not None:
            _tell_repaired(link.name, current.repair.result)

    def _report_refused(self, refused: dict[str, int]) -> None:
        for code, count in refused.items():
            self._observer.refused(code, count)

    def _note_failure(self, link: Link, error: WaveKVError) -> None:
        if link.reachable is not False or link.last_error != error.detail:
            level = (
                logging.WARNING if isinstance(error, PeerError) and error.code != "peer_unreachable" else logging.INFO
            )
            log.log(level, "exchange with %s failed: %s", link.name, error.detail)
        link.failed(self._clock.monotonic(), error.detail, self._settings, self._rng.uniform(0.5, 1.0))

    # ---- push ------------------------------------------------------------------------------------------------------

    def durable(self, group: Group) -> None:
        """Queue the local writes of a group that just became visible."""
        if not self.links:
            return
        now = self._clock.monotonic()
        origin = self._replica.origin
        mine = [entry for entry in group.stored() if entry.origin == origin]
        if not mine:
            return
        for link in self.links.values():
            if link.failures or not self._replica.membership.speaks_to(link.name):
                link.queue.clear()  # the exchange brings it when the peer is back
                continue
            for entry in mine:
                link.queue.add(entry, now)
            if link.name not in self._pushing:
                self._pushing.add(link.name)
                self._spawn(self._push(link))

    async def _push(self, link: Link) -> None:
        """Push what is queued, coalesced, until nothing is."""
        try:
            while link.queue.visible_at:
                now = self._clock.monotonic()
                spaced = link.pushed_at + self._settings.push_spacing_ms / 1000
                await asyncio.sleep(max(self._settings.push_delay_ms / 1000, spaced - now))
                await self._push_once(link)
        except WaveKVError as error:
            link.queue.clear()
            self._observer.pushed(link.name, error.code, 0)
            self._note_failure(link, error)
        finally:
            self._pushing.discard(link.name)

    async def _push_once(self, link: Link) -> None:
        link.pushed_at = self._clock.monotonic()
        taken = link.queue.take(self._replica.store.entries, self._limits.page_bytes_max)
        message = exchange.push_message(self._replica, taken.entries, taken.carried, self._clock.now_ms())
        answer = await self._transport.push(link.url, message)
        now = self._clock.monotonic()
        if answer is not None:
            link.answered(now, exchange.hear_report(self._replica, answer, self._clock.now_ms()))
            for visible_at in taken.visible_at:
                self._observer.propagated(now - visible_at)
        self._observer.pushed(link.name, "ok", len(taken.entries))


def _heard_of(written: asyncio.Future[None]) -> None:
    """Take note of how a page was written that nobody waits for any more: the round ended meanwhile."""
    if not written.cancelled():
        written.exception()


def _tell_repaired(peer: str, result: Repaired) -> None:
    """Log what a comparison of lists did, by name: it takes values away that readers saw, or brings some back (U1)."""
    if result.dropped:
        names = ", ".join(map(repr, result.dropped_keys))
        log.warning("repair with %s: dropped %d keys deleted meanwhile, among them %s", peer, result.dropped, names)
    if result.alone:
        names = ", ".join(map(repr, result.alone_keys))
        log.info("repair with %s: it lacks %d keys held here, among them %s", peer, result.alone, names)
