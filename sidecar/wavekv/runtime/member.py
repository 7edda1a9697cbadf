"""A running member: its two stores, its standing in the cluster, and what operator and probes ask of it.

Owns no rule: reads and writes go through the engines, who may write is decided by `Readiness`. All of it runs on one
event loop; the only other thread is the log's.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavekv.config import GossipSettings, Limits
from wavekv.core.replica import Replica
from wavekv.errors import DiskFailed, Superseded
from wavekv.ports import Claims, Clock, Log, Observer, Phase, Transport
from wavekv.runtime.admission import Admission
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.canary import HIDDEN, Canary
from wavekv.runtime.clocks import ahead_ms
from wavekv.runtime.committer import Done, FindRoom, Syncing
from wavekv.runtime.compactor import Compactor
from wavekv.runtime.convergence import Convergence, heard_seconds_max
from wavekv.runtime.drain import Drain, DrainStatus
from wavekv.runtime.engine import Engine, MemorySyncing
from wavekv.runtime.epoch_file import EpochDocument
from wavekv.runtime.export import Exporter
from wavekv.runtime.link import Link
from wavekv.runtime.readiness import Readiness
from wavekv.runtime.settling import keep_settled
from wavekv.runtime.status import Recovered, member_status
from wavekv.runtime.watchdog import Watchdog

log = logging.getLogger(__name__)

_OBSERVE_SECONDS = 0.5
_DRAIN_SECONDS = 0.25
"""How often a draining member asks again whoever has not shown that it covers all."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a member is made of; tests give fakes for the ports."""

    replica: Replica
    ephemeral: Replica
    log: Log
    syncer: Syncing
    transport: Transport
    ephemeral_transport: Transport
    clock: Clock
    observer: Observer
    limits: Limits
    gossip: GossipSettings
    admission: Admission
    compactor: Compactor
    data_dir: Path
    recovered: Recovered
    rng: random.Random
    watchdog: Watchdog
    claims: Claims | None = None
    watch_budget: ByteBudget | None = None


class Member:
    """The member that the data planes, the peer plane and the probes talk to."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._admission = parts.admission
        self._replica = parts.replica
        self._clock = parts.clock
        self.persistent = self._engine(
            parts.replica,
            parts.syncer,
            parts.transport,
            on_round=self._round_ended,
            find_room=self._find_room,
            pace=parts.compactor.pace,
        )
        self.ephemeral = self._engine(
            parts.ephemeral,
            MemorySyncing(),
            parts.ephemeral_transport,
            on_round=lambda _: None,
            token_suffix="e",  # noqa: S106 - of a watch, nothing secret
            hidden=HIDDEN,
        )
        self._engines = (self.persistent, self.ephemeral)
        self._superseded = False
        self._canary = Canary(
            parts.ephemeral,
            self.ephemeral.committer,
            lambda: self.ephemeral.gossip.links,
            clock=parts.clock,
            observer=parts.observer,
            settings=parts.gossip,
            rng=parts.rng,
        )
        self.ephemeral.coverage.on_heard = self._canary.heard
        self._ahead_ms: int | None = None
        self.compactor = parts.compactor
        self.compactor.on_disk_failed = self.persistent.committer.fail
        self.exporter = Exporter(parts.data_dir, parts.compactor)
        self._convergence = Convergence(parts.replica.store)
        self.persistent.on_dropped = self._convergence.drop
        self._drain = Drain(parts.replica)
        self._drain_asked = asyncio.Event()
        self._watching: tuple[asyncio.Task[None], ...] = ()
        self._started_at = parts.clock.monotonic()
        self._heeded_epoch = parts.replica.membership.epoch
        for engine in self._engines:
            engine.gossip.connect(parts.admission.addresses())
        self._readiness = Readiness(
            parts.replica,
            parts.admission,
            self.persistent.gossip,
            parts.clock,
            wait_seconds=parts.gossip.join_wait_ms / 1000,
            also=(parts.ephemeral,),
            empty=not (parts.recovered.records or parts.recovered.snapshot_entries),
        )
        if parts.admission.draining:
            self._drain_asked.set()

    def _engine(
        self,
        replica: Replica,
        syncing: Syncing,
        transport: Transport,
        *,
        on_round: Callable[[Link], None],
        find_room: FindRoom | None = None,
        pace: Callable[[], float] = lambda: 0.0,
        token_suffix: str = "",
        hidden: str | None = None,
    ) -> Engine:
        parts = self._parts
        return Engine(
            replica,
            syncing,
            transport,
            clock=parts.clock,
            observer=parts.observer,
            limits=parts.limits,
            settings=parts.gossip,
            rng=parts.rng,
            on_round=on_round,
            keep_epoch=self._keep_epoch,
            on_superseded=self._supersede,
            status=self.status,
            find_room=find_room,
            pace=pace,
            token_suffix=token_suffix,
            hidden=hidden,
            watchdog=parts.watchdog,
            claims=parts.claims,
            watch_budget=parts.watch_budget,
        )

    def _find_room(self, done: Done) -> None:
        self._parts.syncer.run(self._parts.log.find_room, done)

    # ---- life ------------------------------------------------------------------------------------------------------

    @property
    def failed(self) -> "asyncio.Future[DiskFailed]":
        """Resolves when the disk failed: the process has to stop and recover."""
        return self.persistent.committer.failed

    async def start(self) -> None:
        """Log that this process runs, before any message of it leaves (R7)."""
        for engine in self._engines:
            await engine.start()

    def gossip(self) -> None:
        """Begin to talk to the peers; call once the sockets are open."""
        for engine in self._engines:
            engine.gossip.start()
        work = [
            self._parts.watchdog.run(),
            self._observe(),
            self._see_to_drain(),
            keep_settled(self._replica.store, self._parts.watchdog),
            self.compactor.run(),
            self._canary.run(),
        ]
        for engine in self._engines:
            work += [engine.expire(), engine.collect()]
        discovery = self._admission.discovery
        if discovery is not None:
            work.append(discovery.run(lambda: self.persistent.gossip.links, self._discovered))
        self._watching = tuple(map(asyncio.get_running_loop().create_task, work))

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
            self.persistent.gossip.ask(status.waiting_for)
            await asyncio.sleep(_DRAIN_SECONDS)

    def ask_anew(self) -> None:
        """Let no peer wait for the end of its pause: what kept this member from them may be over."""
        for engine in self._engines:
            engine.gossip.forgive()
            engine.gossip.retry_now()

    def _discovered(self) -> None:
        """Other peers are there than before, or under another name."""
        self._admission.look_around()
        for engine in self._engines:
            known = set(engine.gossip.links)
            engine.gossip.connect(self._admission.addresses())
            engine.gossip.ask(set(engine.gossip.links) - known)
        self._readiness.standing_changed()

    def _round_ended(self, link: Link) -> None:
        del link
        self._readiness.round_ended()

    async def _observe(self) -> None:
        while True:
            now = self._clock.monotonic()
            reports, links = self._replica.reports, self.persistent.gossip.links
            since = now - heard_seconds_max(len(links), self._parts.gossip)
            recent = {
                name: reports.of(link.reported_as) if (link.last_heard or -1e9) > since else None
                for name, link in links.items()
            }
            with self._parts.watchdog.running("gossip"):
                self._convergence.observe(now, recent)
            self._ahead_ms = ahead_ms(recent.values())
            self._readiness.clock_judged(self._ahead_ms, self._parts.limits.ahead_ms_max)
            await asyncio.sleep(_OBSERVE_SECONDS)

    def _supersede(self) -> None:
        """A newer process of this name was heard (R8): serve nothing more, but stay for the probes."""
        if self._superseded:
            return
        self._superseded = True
        identity, reports = self._replica.identity, self._replica.reports
        newest = reports.superseded_by = max(engine.replica.reports.superseded_by for engine in self._engines)
        refusal = Superseded(
            f"process {identity.inc} of {identity.name} was superseded by {newest}: two processes run under one name; "
            "ask the newer one, stop this one, and give each member a --name and a --data-dir of its own"
        )
        log.error("this process ends its service: %s", refusal.detail)
        self._readiness.supersede(refusal)
        for engine in self._engines:
            engine.supersede(refusal)
        noted = self.persistent.committer.durable(self._replica.supersede())
        noted.add_done_callback(lambda future: future.exception())  # a full or failed disk is told by the committer

    async def stop(self) -> None:
        """Refuse new writes, make the staged ones durable, and end gossip; the log stays open."""
        self._readiness.stop()
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if self._admission.discovery is not None:
            self._admission.discovery.close()
        await self.exporter.stop()
        for engine in self._engines:
            engine.watches.stop()
            await engine.gossip.stop()
        if not self.failed.done():
            await self.persistent.committer.drain()

    def phase(self) -> Phase:
        """Return what the probes say."""
        return self._readiness.phase()

    # ---- what the operator calls -----------------------------------------------------------------------------------

    def status(self) -> Mapping[str, Any]:
        """Return the member's status as JSON-ready values."""
        now = self._clock.monotonic()
        with self._parts.watchdog.running("status"):
            return self._status(now)

    def _status(self, now: float) -> Mapping[str, Any]:
        return member_status(
            self._replica,
            self._parts.log.size(),
            self._parts.recovered,
            list(self.persistent.gossip.links.values()),
            self._convergence,
            origins=self.persistent.origin_expiry.progress(),
            ephemeral=self._parts.ephemeral,
            coverages=tuple(engine.coverage for engine in self._engines),
            canary=self._canary,
            clock={"ahead": self._readiness.clock_ahead, "ahead_of_peers_ms": self._ahead_ms},
            compaction=self.compactor.told(),
            watches=tuple(engine.watches for engine in self._engines),
            phase=self.phase(),
            draining=self._admission.draining,
            discovery=self._admission.discovery,
            uptime=now - self._started_at,
            at=now,
            now_ms=self._clock.now_ms(),
        )

    async def take_membership(self, document: EpochDocument, *, override: bool = False) -> int:
        """Take a document; return the number of the epoch in force once it is durable.

        `override`: also one that does not follow what is known, for the operator alone.

        Raises:
            RequestError, PeerError: as `Admission.take`.
            DiskFull, DiskFailed: it could not be kept.
        """
        if not override:
            self._admission.take(document)
        elif self._admission.override(document, self._clock.now_ms()):
            overridden = self._admission.membership.overridden
            assert overridden is not None, "it was just noted"
            log.warning("the operator overrode epoch %d with epoch %d", overridden.before, overridden.epoch)
        await self._keep_epoch()
        await self.persistent.committer.durable(self._replica.last_ticket)
        return document.epoch.number

    def signed_membership(self) -> bytes | None:
        """Return the document in force with the authority's signature, None where it has none."""
        epoch = self._replica.membership.epoch
        return None if epoch is None else epoch.signed

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
        await self.persistent.committer.durable(self._replica.last_ticket)
        self.persistent.gossip.forgive()
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
            for engine in self._engines:
                engine.replica.heed_admission()
                engine.gossip.connect(self._admission.addresses())
            self._readiness.standing_changed()
            if epoch is not None:
                log.info("epoch %d: %s", epoch.number, ", ".join(epoch.members))
        await self._admission.keep()
