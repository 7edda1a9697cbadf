"""Who a process talks to, and when: the decisions of `runtime.gossip`, with its links and queues, in virtual time."""

import random
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.slots import Pending
from wavekv.core import exchange
from wavekv.core.messages import Envelope
from wavekv.core.reports import sender_of
from wavekv.core.steps import Group
from wavekv.errors import PeerError, PeerUnreachable, StaleProcess, WaveKVError
from wavekv.runtime.link import Link, PushQueue

if TYPE_CHECKING:
    from tests.simulation.members import Process


OLDER_SHARE = 0.25
"""Members that do not ask for blocks, as those of an older version."""


class Gossip:
    """Rounds and pushes of one process."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._world = process.world
        self._settings = process.world.settings_gossip
        self._rng = process.world.rng
        self._pushing: set[str] = set()
        of_member = random.Random(f"{process.world.setting.seed} {process.slot.name}")
        self._older = of_member.random() < OLDER_SHARE
        self.links: dict[str, Link] = {}

    @property
    def _seconds(self) -> float:
        return self._world.now / 1000

    def connect(self) -> None:
        """Make the other members the links; those that stay keep their state."""
        wanted = self._process.replica.membership.others()
        for name in [name for name in self.links if name not in wanted]:
            del self.links[name]
        for name in wanted:
            if name not in self.links:
                queue = PushQueue(self._world.limits.push_keys_max)
                self.links[name] = Link(name, name, queue, reported_as=name)

    # ---- the periodic exchange --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin with a round to every peer, then one interval after the other."""
        self.retry_now()
        self._wait()

    def _wait(self) -> None:
        self._world.after(int(self._settings.interval_ms * self._rng.uniform(0.75, 1.25)), self._interval)

    def _interval(self) -> None:
        if not self._process.alive:
            return
        self._process.tick()
        if self._world.gossiping:
            self._start_some(self._due(), self._settings.fanout)
        self._wait()

    def _due(self) -> list[Link]:
        now, healing = self._seconds, self._process.replica.healing
        return [link for link in self.idle() if healing or link.retry_at <= now]

    def _start_some(self, links: list[Link], count: int) -> None:
        for link in self._rng.sample(links, min(len(links), max(0, count))):
            self.start_round(link)

    def idle(self) -> list[Link]:
        """Return the links to members that have no round under way; none of a process that was superseded."""
        if self._process.standing.superseded:
            return []
        speaks_to = self._process.replica.membership.speaks_to
        return [link for link in self.links.values() if not link.busy and speaks_to(link.name)]

    @property
    def busy(self) -> bool:
        """Tell whether a round or push is under way."""
        return bool(self._pushing) or any(link.busy for link in self.links.values())

    def heard_from(self, name: str) -> None:
        """A peer spoke to us: if it was given up for now, ask it again at once."""
        for link in self.links.values():
            if link.reported_as == name:
                link.last_heard = self._seconds
                if link.failures and not link.busy and self._world.gossiping and not self._process.standing.superseded:
                    self.start_round(link)

    def retry_now(self) -> None:
        """Start a round with every idle peer."""
        if self._world.gossiping:
            for link in self.idle():
                self.start_round(link)

    def ask(self, names: Collection[str]) -> None:
        """Start a round with idle peers among `names`."""
        due = [link for link in self._due() if link.name in names]
        self._start_some(due, len(due))

    def forgive(self) -> None:
        """Let no peer wait for the end of its pause."""
        for link in self.links.values():
            link.retry_at = 0.0

    # ---- a round ----------------------------------------------------------------------------------------------------

    def start_round(self, link: Link) -> None:
        """Begin a round with a peer that has none under way."""
        link.busy = True
        self._world.count("rounds")
        unfinished, link.unfinished = link.unfinished, None
        self._request(link, unfinished or exchange.Round(self._process.replica, link.name, link.reported_as))

    def _request(self, link: Link, current: exchange.Round, written: Pending | None = None) -> None:
        """Ask once more; `written` is the page before, which may still be on its way to the disk."""
        process = self._process
        if process.standing.superseded:
            return
        if current.done:
            link.busy = False
            process.standing.round_ended()
            return
        process.step()
        request = replace(current.request(process.now()), takes_block=not self._older)
        self._world.checks.reported(process, request)
        self._world.network.call(
            process, link.name, "request", request, partial(self._answered, link, current, written)
        )

    def _answered(
        self,
        link: Link,
        current: exchange.Round,
        written: Pending | None,
        answer: Envelope | None,
        error: PeerError | None,
    ) -> None:
        if answer is None:
            assert error is not None
            self._cut_off(link, current, written, error)
        elif written is not None:
            written.then(partial(self._take, link, current, answer), partial(self._failed, link))
        else:
            self._take(link, current, answer)

    def _cut_off(self, link: Link, current: exchange.Round, written: Pending | None, error: PeerError) -> None:
        """End a round that got no answer; it goes on later if what it brought so far is safe."""

        def keep(_: object = None) -> None:
            if isinstance(error, PeerUnreachable) and current.resumable:
                link.unfinished = current
                self._world.count("rounds that go on later")
            self._failed(link, error)

        if written is None:
            keep()
        else:
            written.then(keep, partial(self._failed, link))

    def _take(self, link: Link, current: exchange.Round, answer: Envelope) -> None:
        process = self._process
        if not process.alive:
            return
        process.step()
        self._world.trace(f"{process.slot.id} has an answer from {link.name}", answer)
        slices = current.receive_in_slices(answer, process.now())
        failed = lambda refusal: process.standing.keep_epoch(partial(self._failed, link, refusal))  # noqa: E731
        process.in_turns(slices, partial(self._taken, link, current, answer), failed)

    def _taken(self, link: Link, current: exchange.Round, answer: Envelope, ticket: int) -> None:
        process = self._process
        pending = process.durable(ticket)
        process.heard()
        process.step()
        link.answered(self._seconds, sender_of(answer))
        if current.fetching:
            process.standing.keep_epoch(partial(self._go_on, link, current, pending))
        else:
            go_on, failed = partial(self._go_on, link, current), partial(self._failed, link)
            process.standing.keep_epoch(lambda: pending.then(go_on, failed))

    def _go_on(self, link: Link, current: exchange.Round, written: Pending | None = None) -> None:
        if self._process.alive:
            self._request(link, current, written)

    def _failed(self, link: Link, error: WaveKVError) -> None:
        link.busy = False
        self._world.count("rounds failed")
        self._note_failure(link, error)

    def _note_failure(self, link: Link, error: WaveKVError) -> None:
        reports, process = self._process.replica.reports, self._process
        if isinstance(error, StaleProcess):
            reports.superseded(error.member, error.newest, process.now() + self._world.limits.future_ms_max)
        if reports.superseded_by:
            process.standing.supersede()
        link.failed(self._seconds, error.detail, self._settings, self._rng.uniform(0.5, 1.0))

    # ---- push -------------------------------------------------------------------------------------------------------

    def durable(self, group: Group) -> None:
        """Queue the local writes of a group that just became visible."""
        replica = self._process.replica
        mine = [entry for entry in group.written() if entry.origin == replica.origin]
        if not mine or not self._world.gossiping or self._process.standing.superseded:
            return
        for link in self.links.values():
            if link.failures or not replica.membership.speaks_to(link.name):
                link.queue.clear()
                continue
            for entry in mine:
                link.queue.add(entry, self._seconds)
            self._world.checks.within("keys queued for a push", len(link.queue.visible_at), link.queue.keys_max)
            if link.name not in self._pushing:
                self._pushing.add(link.name)
                self._push_soon(link)

    def _push_soon(self, link: Link) -> None:
        if not link.queue.visible_at:
            self._pushing.discard(link.name)
            return
        spaced = link.pushed_at * 1000 + self._settings.push_spacing_ms - self._world.now
        self._world.after(int(max(self._settings.push_delay_ms, spaced)), self._push, link)

    def _push(self, link: Link) -> None:
        process = self._process
        if not process.alive or process.standing.superseded:
            return
        link.pushed_at = self._seconds
        taken = link.queue.take(process.replica.store.entries, self._world.limits.page_bytes_max)
        self._world.count("pushes")
        message = exchange.push_message(process.replica, taken.entries, taken.carried, process.now())
        process.step()
        self._world.network.call(process, link.name, "push", message, partial(self._pushed, link))

    def _pushed(self, link: Link, answer: Envelope | None, error: PeerError | None) -> None:
        process = self._process
        try:
            if answer is None:
                assert error is not None
                raise error
            link.answered(self._seconds, exchange.hear_report(process.replica, answer, process.now()))
        except PeerError as refusal:
            link.queue.clear()
            self._pushing.discard(link.name)
            process.standing.keep_epoch(partial(self._note_failure, link, refusal))
            return
        process.heard()
        process.standing.keep_epoch(partial(self._push_soon, link))

    def push_by_hand(self, name: str, message: Envelope) -> None:
        """Push a message that no write of ours made."""
        self._world.network.call(self._process, name, "push", message, self._pushed_by_hand)

    def _pushed_by_hand(self, answer: Envelope | None, error: PeerError | None) -> None:
        del error
        if answer is not None:
            exchange.hear_report(self._process.replica, answer, self._process.now())
            self._process.heard()
