"""Keeps the other members up to date: pushes within milliseconds, exchanges once a second (R3).

One task wakes every interval (with jitter, so that members do not march in step) and starts a round with a few random
peers; a peer has one round and one push under way at most. Own durable writes are coalesced for a moment and pushed to
every peer; in a cluster too large for that, to a few random ones, and who learns news from a push passes them on, once,
to a few others (docs/dissemination.md). A push that fails is not repeated, the exchange brings what it held.

Unreachable peers are asked ever more rarely, and at once again when they speak to us; while this member heals it asks
them in every interval. A process that was superseded (R8) says nothing more.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from wavekv.config import GossipSettings, Limits, PeerAddress
from wavekv.core import exchange
from wavekv.core.repair import Repaired
from wavekv.core.replica import Replica
from wavekv.core.reports import sender_of
from wavekv.core.steps import Group
from wavekv.core.types import Entry
from wavekv.errors import DiskFailed, PeerError, PeerUnreachable, SameProcess, StaleProcess, WaveKVError
from wavekv.ports import Claims, Clock, NoClaims, Observer, Transport
from wavekv.runtime.committer import Committer
from wavekv.runtime.coverage import Coverage, Holds
from wavekv.runtime.link import Link, PushQueue
from wavekv.runtime.refusals import Refusals
from wavekv.runtime.slices import in_turns

log = logging.getLogger(__name__)

PUSHES_MAX = 32
"""Peers with a queue and a push under way where writes are relayed (G9); at the bound, further news go with theirs."""
ASKED_MAX = 32
"""Rounds under way when peers are asked out of turn (G9): who joins, or drains, a cluster of a thousand asks all."""


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
        on_superseded: Callable[[], None],
        claims: Claims | None = None,
    ) -> None:
        """Gossip over `transport`; `claims` proves which process of a name is the newest, None: nothing does."""
        self.coverage = Coverage(replica, limits, settings, self.seek, self._reported_as)
        self.refusals = Refusals(replica, observer, clock)
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
        self._on_superseded = on_superseded
        self._claims = claims or NoClaims()
        self._judging = self._claiming = False
        self._silent = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pushing: dict[str, Link] = {}
        self._names: list[str] = []
        self._fetched_from: Link | None = None
        """The peer that sends this member more than a page."""
        self.links: dict[str, Link] = {}

    @property
    def fetches(self) -> bool:
        """Tell whether some peer is sending this member more than a page."""
        return self._fetched_from is not None

    def connect(self, peers: tuple[PeerAddress, ...]) -> None:
        """Make `peers` the links, in the same dict; those that stay keep their state."""
        wanted = {peer.name: peer for peer in peers if peer.name != self._replica.identity.name}
        known = {link.url: link for link in self.links.values()}
        self.links.clear()
        for name, peer in wanted.items():
            self.links[name] = known.pop(peer.url) if peer.url in known else self._link(peer)
        for name, link in self.links.items():
            link.name, link.contact, link.crate = name, wanted[name].contact, wanted[name].crate
        self._names = list(self.links)

    def _link(self, peer: PeerAddress) -> Link:
        return Link(peer.name, peer.url, PushQueue(self._limits.push_keys_max), reported_as=peer.name)

    # ---- the periodic exchange -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with a round to every peer, then one interval after the other."""
        self._spawn(self._run())

    def silence(self) -> None:
        """Say nothing more to any peer, for good."""
        self._silent = True
        for task in list(self._tasks):
            task.cancel()

    async def stop(self) -> None:
        """End all tasks and connections."""
        self.silence()
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
            if not self.fetches:  # the others have nothing to say that it does not bring
                self._start_some(self._due(), self._settings.fanout)

    def _due(self) -> list[Link]:
        now, healing = self._clock.monotonic(), self._replica.healing
        return [link for link in self.idle() if healing or link.retry_at <= now]

    def _start_some(self, links: list[Link], count: int) -> None:
        for link in self._rng.sample(links, min(len(links), max(0, count))):
            self._start_round(link)

    def idle(self) -> list[Link]:
        """Return the links to members that have no round under way."""
        if self._silent:
            return []
        return [link for link in self.links.values() if not link.busy and self._may_ask(link)]

    def _may_ask(self, link: Link) -> bool:
        """Tell whether `link` is to be asked; a contact is, to learn who it is: what it answers is checked (R3)."""
        if link.leads_back and link.contact:
            return False
        return link.contact or self._replica.membership.speaks_to(link.name)

    def heard_from(self, name: str) -> None:
        """A peer spoke to us: if it was given up for now, ask it again at once."""
        now = self._clock.monotonic()
        for link in self.links.values():
            if link.reported_as == name:
                link.last_heard = now
                if link.failures and not link.busy and not self._silent:
                    self._start_round(link)

    def retry_now(self) -> None:
        """Start rounds at once with random idle peers, up to ASKED_MAX: who joins does not wait for its interval."""
        self._start_some(self.idle(), self._room())

    def ask(self, names: Collection[str]) -> None:
        """Start a round with idle peers among `names`, at random; at most ASKED_MAX rounds are under way (G9)."""
        wanted = set(names)
        due = [link for link in self._due() if link.name in wanted]
        self._start_some(due, self._room())

    def _room(self) -> int:
        return ASKED_MAX - sum(link.busy for link in self.links.values())

    def seek(self, holds: Holds) -> None:
        """Start a few rounds for what somebody waits for: with idle peers that hold it, else with any."""
        due = self._due()
        self._start_some([link for link in due if holds(link.reported_as)] or due, self._settings.fanout)

    def _reported_as(self, name: str) -> str:
        link = self.links.get(name)
        return name if link is None else link.reported_as

    def forgive(self) -> None:
        """Let no peer wait for the end of its pause."""
        for link in self.links.values():
            link.retry_at = 0.0

    def _start_round(self, link: Link) -> None:
        link.busy = True
        self._spawn(self._round(link))

    async def _round(self, link: Link) -> None:
        started = self._clock.monotonic()
        result, ended = "ok", False
        try:
            ended = await self._exchange(link)
        except DiskFailed:
            raise
        except WaveKVError as error:
            result = error.code
            self._note_failure(link, error)
        finally:
            link.busy = False
        self._observer.exchanged(link.name, result, self._clock.monotonic() - started)
        if ended:
            self._on_round(link)

    async def _exchange(self, link: Link) -> bool:
        """Run one round; go on with one that was cut off while pages were fetched or lists compared.

        Returns whether it came to its end: pages that another peer is sending already are not fetched twice.

        Raises:
            PeerError: the peer cannot be reached, refuses us, or answers what is refused.
            UnavailableError: what it sent could not be stored.
        """
        current, link.unfinished = link.unfinished, None
        current = current or exchange.Round(self._replica, link.name, link.reported_as)
        try:
            ended = await self._go_on(current, link)
        except PeerUnreachable:
            link.unfinished = current if current.resumable else None
            raise
        self.refusals.tell(current.merged.refused)
        if current.repair is not None:
            _tell_repaired(link.name, current.repair.result)
        return ended

    async def _go_on(self, current: exchange.Round, link: Link) -> bool:
        """Go through a round, one page fetched while the one before it is written; tell whether it came to its end.

        Pages are fetched from one peer at a time: the others would send the very same ones.
        """
        written: asyncio.Future[None] | None = None
        try:
            while not current.done:
                request = current.request(self._clock.now_ms())
                try:
                    answer = link.checked(await self._transport.exchange(link.url, request))
                except PeerUnreachable:
                    if written is not None:
                        await written  # it may go on later only if what it brought so far is safe
                    raise
                if written is not None:
                    await written
                try:
                    received = await in_turns(current.receive_in_slices(answer, self._clock.now_ms()))
                    written = self._committer.durable(received)
                    written.add_done_callback(_heard_of)
                    self._claim_if_wanted()
                finally:
                    await self._keep_epoch()
                link.answered(self._clock.monotonic(), sender_of(answer))
                self.coverage.heard(link.reported_as)
                if not current.fetching:
                    await written
                elif self._fetched_from is None or self._fetched_from is link:
                    self._fetched_from = link
                else:
                    await written
                    return False
        finally:
            if self._fetched_from is link:
                self._fetched_from = None
        return True

    def _claim_if_wanted(self) -> None:
        reports = self._replica.reports
        if reports.claim_wanted and reports.own_claim is None and not self._claiming:
            self._claiming = True
            self._spawn(self._claim())

    def _note_failure(self, link: Link, error: WaveKVError) -> None:
        if isinstance(error, StaleProcess):
            self._heed(error)
        if self._replica.reports.superseded_by:
            self._on_superseded()
        if error.code == SameProcess.code:
            link.leads_back = True
            if link.contact:
                link.failed(self._clock.monotonic(), error.detail, self._settings, 1.0)
                return
        if link.reachable is not False or link.last_error != error.detail:
            level = (
                logging.WARNING if isinstance(error, PeerError) and error.code != "peer_unreachable" else logging.INFO
            )
            log.log(level, "exchange with %s failed: %s", link.name, error.detail)
        link.failed(self._clock.monotonic(), error.detail, self._settings, self._rng.uniform(0.5, 1.0))

    # ---- two processes of one name (R8) ----------------------------------------------------------------------------

    def _heed(self, refusal: StaleProcess) -> None:
        """Believe that a newer process of our name runs if it said so itself, or signed what a peer shows us.

        A peer's word alone ends nobody: any member could end any other.
        """
        if refusal.own_word:
            self._superseded(refusal)
        elif refusal.claim and not self._judging and refusal.member == self._replica.identity.name:
            self._judging = True
            self._spawn(self._judge(refusal))

    def _superseded(self, refusal: StaleProcess) -> None:
        latest = self._clock.now_ms() + self._limits.future_ms_max
        if self._replica.reports.superseded(refusal.member, refusal.newest, latest):
            self._on_superseded()

    async def _judge(self, refusal: StaleProcess) -> None:
        try:
            if await self._claims.holds(refusal.claim, refusal.newest):
                self._superseded(refusal)
            else:
                log.warning("a peer says, without proof, that a newer process runs under our name: %s", refusal.detail)
        finally:
            self._judging = False

    async def _claim(self) -> None:
        """Sign, once, what an older process of our name is to be shown."""
        try:
            self._replica.reports.own_claim = await self._claims.make(self._replica.identity.inc)
        finally:
            self._claiming = False

    # ---- push ------------------------------------------------------------------------------------------------------

    def durable(self, group: Group) -> None:
        """Queue the local writes of a group that just became visible."""
        if not self.links or self._silent:
            return
        now = self._clock.monotonic()
        origin = self._replica.origin
        mine = [entry for entry in group.written() if entry.origin == origin]
        if not mine:
            return
        for link in self._some(self.coverage.others_wanted()) if self.relays else list(self.links.values()):
            if not self._takes_pushes(link):
                link.queue.clear()  # the exchange brings it when the peer is back
                continue
            for entry in mine:
                link.queue.add(entry, now)
            if self.coverage.hurried:
                link.urgent.set()
            self._begin_push(link)

    @property
    def relays(self) -> bool:
        """Tell whether the cluster is too large to push every write to every member directly."""
        return len(self.links) > self._settings.push_direct_max

    def relay(self, news: Sequence[Entry], sender: str) -> None:
        """Pass on what a push of `sender` brought that was new here: once, to a few others ("infect and die")."""
        if not (news and self.relays) or self._silent:
            return
        now = self._clock.monotonic()
        for link in self._some(but=sender):
            for entry in news:
                link.queue.relay(entry.key, now)
            self._begin_push(link)

    def _some(self, wanted: int = 0, but: str = "") -> list[Link]:
        """Return a few random links that take pushes, `wanted` if that is more, without looking at all of them.

        While PUSHES_MAX are under way they are some of these: news are coalesced, and no further queue is filled.
        """
        fanout = max(self._settings.push_fanout, min(wanted, PUSHES_MAX))
        full = len(self._pushing) >= PUSHES_MAX
        names = list(self._pushing) if full else self._names
        picked = self._rng.sample(names, min(len(names), 2 * fanout + 2))
        links = [link for name in picked if (link := self.links.get(name)) is not None and link.reported_as != but]
        return [link for link in links if self._takes_pushes(link)][:fanout]

    def _takes_pushes(self, link: Link) -> bool:
        return not (link.failures or link.contact) and self._replica.membership.speaks_to(link.name)

    def _begin_push(self, link: Link) -> None:
        if not link.pushing:
            link.pushing = True
            self._pushing[link.name] = link
            self._spawn(self._push(link))

    async def _push(self, link: Link) -> None:
        """Push what is queued, coalesced, until nothing is."""
        try:
            while link.queue.visible_at:
                now = self._clock.monotonic()
                spaced = link.pushed_at + self._settings.push_spacing_ms / 1000
                await _unless_urgent(link, max(self._settings.push_delay_ms / 1000, spaced - now))
                await self._push_once(link)
        except WaveKVError as error:
            link.queue.clear()
            self._observer.pushed(link.name, error.code, 0)
            self._note_failure(link, error)
        finally:
            link.pushing = False
            self._pushing = {name: other for name, other in self._pushing.items() if other is not link}

    async def _push_once(self, link: Link) -> None:
        link.pushed_at = self._clock.monotonic()
        taken = link.queue.take(self._replica.store.entries, self._limits.page_bytes_max)
        message = exchange.push_message(
            self._replica, taken.entries, taken.carried, self._clock.now_ms(), link.reported_as
        )
        answer = await self._transport.push(link.url, message)
        now = self._clock.monotonic()
        if answer is not None:
            answer = link.checked(answer)
            link.answered(now, exchange.hear_report(self._replica, answer, self._clock.now_ms()))
            self.coverage.heard(link.reported_as)
            if self.relays and self.coverage.hurried and not link.busy:
                self._start_round(link)  # the receipt has no context; who waits needs it told
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


async def _unless_urgent(link: Link, seconds: float) -> None:
    """Let writes gather for the next push, unless one of them is waited for."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await link.urgent.wait()
    link.urgent.clear()
