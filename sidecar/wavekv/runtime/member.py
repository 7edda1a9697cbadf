"""A running member: the core, its log, its peers, and the calls that clients and peers make on it.

Owns no rule: it stages through `Replica`, waits through `Committer`, and never shows what is not durable (G1, G5).
All of it runs on one event loop; the only other thread is the log's.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wavekv.config import GossipSettings, Limits
from wavekv.core import exchange
from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.messages import Envelope
from wavekv.core.replica import Group, Merged, Replica
from wavekv.core.reports import sender_of
from wavekv.core.types import Entry
from wavekv.errors import DiskFailed, PreconditionFailed
from wavekv.ports import Clock, Listing, Log, Observer, Phase, Transport, Written
from wavekv.runtime.admission import Admission
from wavekv.runtime.committer import Committer, Syncing
from wavekv.runtime.convergence import Convergence
from wavekv.runtime.drain import Drain, DrainStatus
from wavekv.runtime.epoch_file import EpochDocument
from wavekv.runtime.gossip import Gossip
from wavekv.runtime.link import Link
from wavekv.runtime.readiness import Readiness
from wavekv.runtime.status import Recovered, member_status

log = logging.getLogger(__name__)

_OBSERVE_SECONDS = 0.5
_HEARD_SECONDS_MAX = 10.0
"""A peer whose last word is older does not count towards convergence."""
_DRAIN_SECONDS = 0.25
"""How often a draining member asks again whoever has not shown that it covers all."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a member is made of; tests give fakes for the ports."""

    replica: Replica
    log: Log
    syncer: Syncing
    transport: Transport
    clock: Clock
    observer: Observer
    limits: Limits
    gossip: GossipSettings
    admission: Admission
    recovered: Recovered
    rng: random.Random


class Member:
    """The member that the data planes, the peer plane and the probes talk to."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._admission = parts.admission
        self._replica = parts.replica
        self._store = parts.replica.store
        self._clock = parts.clock
        self._committer = Committer(parts.replica, parts.syncer, self._durable)
        self._convergence = Convergence(parts.replica.store)
        self._drain = Drain(parts.replica)
        self._drain_asked = asyncio.Event()
        self._watching: tuple[asyncio.Task[None], ...] = ()
        self._started_at = parts.clock.monotonic()
        self._gossip = Gossip(
            parts.replica,
            self._committer,
            parts.transport,
            clock=parts.clock,
            observer=parts.observer,
            settings=parts.gossip,
            limits=parts.limits,
            rng=parts.rng,
            on_round=self._round_ended,
            keep_epoch=self._keep_epoch,
        )
        self._heeded_epoch = parts.replica.membership.epoch
        self._gossip.connect(parts.admission.addresses())
        self._readiness = Readiness(
            parts.replica,
            parts.admission,
            self._gossip,
            parts.clock,
            wait_seconds=parts.gossip.join_wait_ms / 1000,
        )
        if parts.admission.draining:
            self._drain_asked.set()

    # ---- life ------------------------------------------------------------------------------------------------------

    @property
    def failed(self) -> "asyncio.Future[DiskFailed]":
        """Resolves when the disk failed: the process has to stop and recover."""
        return self._committer.failed

    async def start(self) -> None:
        """Log that this process runs, before any message of it leaves (R7)."""
        await self._committer.durable(self._replica.last_ticket)

    def gossip(self) -> None:
        """Begin to talk to the peers; call once the sockets are open."""
        self._gossip.start()
        loop = asyncio.get_running_loop()
        self._watching = (loop.create_task(self._observe()), loop.create_task(self._see_to_drain()))

    async def join(self, founds: bool = False) -> None:
        """Accept local writes whenever the rules allow it, until cancelled. Raises as `Readiness.run`.

        Args:
            founds: This volume founds a cluster: there is nobody to wait for.
        """
        await self._readiness.run(founds)

    async def _see_to_drain(self) -> None:
        """While this member drains, ask whoever has not shown yet that it covers all."""
        while True:
            await self._drain_asked.wait()
            status = self.drain_status()
            if not status.draining:
                self._drain_asked.clear()
                continue
            self._gossip.ask(status.waiting_for)
            await asyncio.sleep(_DRAIN_SECONDS)

    def _round_ended(self, link: Link) -> None:
        del link
        self._readiness.round_ended()

    async def _observe(self) -> None:
        while True:
            now = self._clock.monotonic()
            reports = self._replica.reports
            recent = {
                name: reports.of(link.reported_as) if now - (link.last_heard or -1e9) < _HEARD_SECONDS_MAX else None
                for name, link in self._gossip.links.items()
            }
            self._convergence.observe(now, recent)
            await asyncio.sleep(_OBSERVE_SECONDS)

    async def stop(self) -> None:
        """Refuse new writes, make the staged ones durable, and end gossip; the log stays open."""
        self._readiness.stop()
        for task in self._watching:
            task.cancel()
        await self._gossip.stop()
        if not self.failed.done():
            await self._committer.drain()

    def phase(self) -> Phase:
        """Return what the probes say."""
        return self._readiness.phase()

    # ---- what the data planes call (ports.KeyValues) ---------------------------------------------------------------

    def get(self, key: str) -> Entry | None:
        """Return the live entry of `key`, or None."""
        return self._store.get(key, self._clock.now_ms())

    async def put(self, key: str, value: bytes, condition: Condition = ALWAYS) -> Written:
        """Store `value`; return when it is durable. Raises as `Replica.put` and `Committer.durable`."""
        try:
            staged = self._replica.put(key, value, self._clock.now_ms(), condition)
        except PreconditionFailed as refusal:
            await self._committer.refuse(refusal)
        await self._committer.durable(staged.ticket)
        return Written(staged.entry, None if staged.created else staged.entry)

    async def delete(self, key: str, condition: Condition = ALWAYS) -> Written:
        """Store a tombstone; return when it is durable. Raises as `Replica.delete` and `Committer.durable`."""
        try:
            staged = self._replica.delete(key, self._clock.now_ms(), condition)
        except PreconditionFailed as refusal:
            await self._committer.refuse(refusal)
        await self._committer.durable(staged.ticket)
        return Written(staged.entry, None if staged.created else staged.entry)

    def list(self, prefix: str, after: str | None, limit: int) -> Listing:
        """Return a page of live entries in key order."""
        return Listing(*self._store.list(prefix, after, limit, self._clock.now_ms()))

    def count(self) -> int:
        """Return the number of entries with a value."""
        return self._store.values

    def status(self) -> Mapping[str, Any]:
        """Return the member's status as JSON-ready values."""
        now = self._clock.monotonic()
        return member_status(
            self._replica,
            self._parts.log.size(),
            self._parts.recovered,
            list(self._gossip.links.values()),
            self._convergence,
            phase=self.phase(),
            draining=self._admission.draining,
            uptime=now - self._started_at,
            at=now,
            now_ms=self._clock.now_ms(),
        )

    # ---- what the peer plane calls ---------------------------------------------------------------------------------

    async def receive_request(self, request: Envelope) -> Envelope:
        """Merge one request of an exchange, and answer from what is durable then.

        Raises:
            PeerError: the sender is refused.
            UnavailableError: what it sent could not be stored.
        """
        await self._admit(exchange.receive_request, request)
        self._gossip.heard_from(sender_of(request))
        return exchange.answer(self._replica, request, self._clock.now_ms())

    async def receive_push(self, message: Envelope) -> Envelope | None:
        """Merge pushed entries; return this member's report once they are durable, None to a crate node.

        Raises:
            PeerError: the sender is refused.
            UnavailableError: what it sent could not be stored.
        """
        await self._admit(exchange.receive_push, message)
        self._gossip.heard_from(sender_of(message))
        return exchange.report(self._replica, self._clock.now_ms()) if message.name is not None else None

    def proof(self) -> Envelope:
        """Return who this member is and the epoch it knows: what a refused sender is shown (R9)."""
        return exchange.envelope(self._replica, self._clock.now_ms())

    async def _admit(self, receive: Callable[[Replica, Envelope, int], Merged], message: Envelope) -> None:
        """Merge `message` and return once that is durable.

        A newer epoch it taught us is on disk before anything is answered, refusals too (R9).
        """
        try:
            merged = receive(self._replica, message, self._clock.now_ms())
            durable = self._committer.durable(merged.ticket)
        finally:
            await self._keep_epoch()
        for code, count in merged.refused.items():
            self._parts.observer.refused(code, count)
        await durable

    # ---- what the operator calls -----------------------------------------------------------------------------------

    async def take_membership(self, document: EpochDocument) -> int:
        """Take a pushed document; return the number of the epoch in force once it is durable.

        Raises:
            RequestError, PeerError: as `Admission.take`.
            DiskFull, DiskFailed: it could not be kept.
        """
        self._admission.take(document)
        await self._keep_epoch()
        await self._committer.durable(self._replica.last_ticket)
        return document.epoch.number

    async def drain(self) -> DrainStatus:
        """Refuse local writes from now on, and show whether the others hold all; returns once the mark is durable.

        Raises:
            StaticPeers: there is no epoch to leave.
            DiskFull, DiskFailed: the mark could not be kept.
        """
        if not self._admission.draining:
            self._drain.reset()
        self._admission.drain()
        self._readiness.standing_changed()
        await self._admission.keep()
        await self._committer.durable(self._replica.last_ticket)
        self._gossip.forgive()
        self._drain_asked.set()
        return self.drain_status()

    async def cancel_drain(self) -> DrainStatus:
        """Accept local writes again; returns once the mark is durably gone. Raises as `drain`."""
        self._admission.cancel_drain()
        self._readiness.standing_changed()
        await self._admission.keep()
        return self.drain_status()

    def drain_status(self) -> DrainStatus:
        """Return how far the drain is."""
        return self._drain.judge(self._admission.draining, self._clock.monotonic())

    async def _keep_epoch(self) -> None:
        """Act on a newer epoch at once, and return when it is durable."""
        epoch = self._replica.membership.epoch
        if epoch is not self._heeded_epoch:
            self._heeded_epoch = epoch
            self._replica.heed_admission()
            self._gossip.connect(self._admission.addresses())
            self._readiness.standing_changed()
            if epoch is not None:
                log.info("epoch %d: %s", epoch.number, ", ".join(epoch.members))
        await self._admission.keep()

    def _durable(self, group: Group) -> None:
        self._gossip.durable(group)
