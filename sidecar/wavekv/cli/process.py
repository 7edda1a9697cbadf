"""Puts one member's process together: directory, log, core, planes; and takes it apart in the right order.

Order matters twice. Starting: the health plane, the directory's lock and replay, then the peer plane and the data
planes, then gossip, so that nothing is answered before what was replayed is durable. Stopping is the reverse, with the
staged writes made durable before the log is cut.
"""

import asyncio
import logging
import random
import secrets
import signal
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvloop

from wavekv.admin import AdminApi
from wavekv.cli.planes import planes_of
from wavekv.config import MemberSettings
from wavekv.core.identity import Identity, process_number
from wavekv.core.loading import loader_over
from wavekv.core.membership import Membership
from wavekv.core.replica import Replica
from wavekv.core.store import Store
from wavekv.disk import OS_DISK
from wavekv.errors import UsageError
from wavekv.http_api import HttpApi
from wavekv.metrics import HealthServer, Metrics
from wavekv.peers.enrolment import Enrolment
from wavekv.peers.identity import Names
from wavekv.peers.proofs import SignedClaims, SignedEpochs
from wavekv.peers.service import PeerService
from wavekv.peers.tls import Certificates
from wavekv.peers.transport import HttpTransport
from wavekv.ports import Phase
from wavekv.resp import RespServer
from wavekv.runtime.admission import Admission, open_admission
from wavekv.runtime.allocator import give_back_large_blocks
from wavekv.runtime.budget import budgets_of
from wavekv.runtime.compactor import Compactor
from wavekv.runtime.descriptors import raise_limit
from wavekv.runtime.discovery import Discovery
from wavekv.runtime.engine import StoreName
from wavekv.runtime.epoch_file import EpochDocument, EpochFile, read_document
from wavekv.runtime.listening import open_loopback, open_public, open_unix
from wavekv.runtime.member import Member, Parts
from wavekv.runtime.mounted_epoch import MountedEpoch
from wavekv.runtime.starting import RecoveryProgress, unpaused_by_collections
from wavekv.runtime.status import Recovered
from wavekv.runtime.watchdog import Watchdog
from wavekv.snapshot.bounds import held_bounds
from wavekv.wal.conversion import Conversion
from wavekv.wal.directory import DataDirectory, allow_snapshots, open_directory
from wavekv.wal.log import SegmentedLog
from wavekv.wal.recovery import Recovery, recover, settle
from wavekv.wal.syncer import Syncer

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.001
"""How long a thread that decodes a large message runs before the loop has its turn; with Python's own 5 ms a reader
waits that long again and again while another member sends pages."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()


class SystemRng:
    """The machine's randomness: origins must not repeat between clones, so no seed will do (R7)."""

    def random_u32(self) -> int:
        """Return a uniform number in 0 … 2**32-1."""
        return secrets.randbits(32)


def run_member(settings: MemberSettings) -> int:
    """Run a member until SIGTERM or SIGINT; return the exit code.

    Raises:
        WaveKVError: it cannot start, or its disk failed.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    give_back_large_blocks()
    return uvloop.run(_Process(settings, raise_limit()).run())


class _Process:
    def __init__(self, settings: MemberSettings, descriptors: int) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._budgets = budgets_of(settings.limits)
        self._planes = planes_of(settings, self._budgets, descriptors, self._clock.monotonic)
        planes = (self._planes.http, self._planes.peer, self._planes.metrics)
        self._metrics.bind_planes(planes, (*self._budgets, self._planes.metrics.budget))
        self._watchdog = Watchdog(self._clock, settings.limits.turn_ms_max, self._metrics.held_loop)
        self._member: Member | None = None
        self._phase = Phase(False, False, "starting: replaying the log")

    def _current_phase(self) -> Phase:
        if self._member is None or not self._phase.started:
            return self._phase
        return self._member.phase()

    async def run(self) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with AsyncExitStack() as stack:
            member = await self._start(stack)
            stopping, joining = loop.create_task(stop.wait()), loop.create_task(member.join(self._settings.bootstrap))
            stack.callback(stopping.cancel)
            stack.callback(joining.cancel)
            ends: set[asyncio.Future[Any]] = {stopping, member.failed, joining}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if joining.done():
                joining.result()  # it ends only by an error
            log.info("stopping")
        if member.failed.done():
            raise member.failed.result()
        return 0

    # ---- starting, in order ----------------------------------------------------------------------------------------

    async def _start(self, stack: AsyncExitStack) -> Member:
        settings = self._settings
        document = read_document(settings.membership) if settings.membership else None
        given = Certificates(settings.tls) if settings.tls else None
        health = HealthServer(self._current_phase, self._metrics, self._planes.metrics)
        await health.start(open_public(settings.metrics_listen, "--metrics-listen"))
        stack.push_async_callback(health.stop)

        directory = await asyncio.to_thread(  # what is taken over from the original system may be long
            open_directory,
            settings.data_dir,
            node_id=settings.node_id,
            cluster_id=settings.cluster_id or (document.cluster_id if document else None),
            now_ms=self._clock.now_ms(),
            new_node_id=lambda: secrets.randbits(32) or 1,
            new_uuid=uuid.uuid4,
            segment_bytes_max=settings.wal.segment_bytes_max,
        )
        stack.callback(directory.close)
        _tell_conversion(directory.converted)
        store, recovery, recovered = await self._recover(directory)
        syncing_log = SegmentedLog(directory, recovery, settings.wal, clock=self._clock, observer=self._metrics)
        stack.callback(syncing_log.close)
        syncer = Syncer(syncing_log, settings.wal.fsync_mode, self._clock)
        stack.callback(syncer.close)
        if not await asyncio.to_thread(syncing_log.reserve):
            log.warning("the volume is full: values are refused until there is room")

        discovery = self._discovery()
        names = Names(directory.identity.cluster_id, [peer.name for peer in settings.peers if peer.crate])
        security = await asyncio.to_thread(self._security, directory, given)
        damaged = recovery.damage == "corruption" or directory.lost_something
        admission = self._admission(directory, document, discovery, security, damaged=damaged)
        settle(directory)
        replica = self._replica(directory, store, admission.membership)
        parts = Parts(
            replica=replica,
            ephemeral=self._ephemeral(replica.identity, admission.membership),
            log=syncing_log,
            syncer=syncer,
            transport=self._transport(security, names, "persistent", discovery),
            ephemeral_transport=self._transport(security, names, "ephemeral", discovery),
            clock=self._clock,
            observer=self._metrics,
            limits=settings.limits,
            gossip=settings.gossip,
            admission=admission,
            compactor=self._compactor(directory, replica, syncing_log, syncer),
            data_dir=directory.path,
            recovered=recovered,
            rng=random.Random(),  # noqa: S311 - jitter and the choice of peers
            claims=security.claims if security else None,
            watch_budget=self._budgets.watch,
            watchdog=self._watchdog,
        )
        member = Member(parts)
        stack.push_async_callback(member.stop)
        await member.start()
        await self._open_planes(stack, member, directory, names=names, security=security)
        member.gossip()
        self._member = member
        self._metrics.bind(member.status)
        self._phase = Phase(True, False, "started")
        return member

    async def _recover(self, directory: DataDirectory) -> tuple[Store, Recovery, Recovered]:
        """Load and replay in a thread, so that the probes answer meanwhile; nothing else touches the store yet."""
        started = self._clock.monotonic()
        report = RecoveryProgress(self._tell_recovery, self._clock)
        changes_max = self._settings.limits.changes_max
        with unpaused_by_collections():
            loader, recovery = await asyncio.to_thread(
                recover,
                directory,
                partial(loader_over, changes_max),
                OS_DISK,
                report,
                held_bounds(self._settings.limits),
            )
            store = await asyncio.to_thread(loader.store)
        seconds = self._clock.monotonic() - started
        log.info(
            "recovered %d entries in %.3f s: %d from snapshot %d, %d records behind it",
            len(store.packed),
            seconds,
            recovery.snapshot_entries,
            recovery.snapshot,
            recovery.records,
        )
        if recovery.damage == "torn_tail":
            log.warning("the log ended in an unfinished write (%s); %d bytes cut", recovery.cause, recovery.cut_bytes)
        elif recovery.damage == "blank_segment":
            log.error(
                "the log's last segment is blank (%s): what it held is lost here, and is taken from other members",
                recovery.cause,
            )
        elif recovery.damage == "snapshot":
            log.error("a snapshot is damaged and set aside; older state and the log stood in: %s", recovery.cause)
        elif recovery.damage is not None:
            kept = ", ".join(str(path) for path in recovery.quarantined)
            log.error("the log is damaged (%s); the part behind it is kept in %s", recovery.cause, kept)
        recovered = Recovered(
            recovery.damage,
            recovery.cause,
            recovery.snapshot_entries,
            recovery.records,
            [path.name for path in recovery.quarantined],
            round(seconds, 6),
        )
        return store, recovery, recovered

    def _tell_recovery(self, share: float) -> None:
        self._phase = Phase(False, False, f"starting: {share:.0%} of snapshot and log read")

    def _name(self, directory: DataDirectory) -> str:
        return self._settings.name or f"node-{directory.identity.node_id:08x}"

    def _replica(self, directory: DataDirectory, store: Store, membership: Membership) -> Replica:
        identity = directory.identity
        # R7: an operator-given id may have been another volume's before this one.
        unused = self._settings.node_id is None or not membership.has_others()
        first = directory.first_process and store.process.inc == 0 and unused
        rng = SystemRng()
        return Replica(
            Identity(
                name=self._name(directory),
                node_id=identity.node_id,
                uuid=uuid.UUID(str(identity.uuid)).bytes,
                inc=process_number(self._clock.now_ms(), store.process.inc, rng),
                first_origin=identity.node_id if first else None,
            ),
            store,
            membership,
            self._settings.limits,
            rng,
        )

    def _admission(
        self,
        directory: DataDirectory,
        document: EpochDocument | None,
        discovery: Discovery | None,
        security: "_Security | None",
        *,
        damaged: bool,
    ) -> Admission:
        epochs = security.epochs if security else None
        admission = open_admission(
            self._name(directory),
            directory.identity.cluster_id,
            EpochFile(directory.path),
            document,
            self._settings.peers,
            founds=self._settings.bootstrap,
            damaged=damaged,
            discovery=discovery,
            verifier=epochs,
        )
        if epochs is not None:
            epochs.membership = admission.membership
        return admission

    def _compactor(
        self, directory: DataDirectory, replica: Replica, syncing_log: SegmentedLog, syncer: Syncer
    ) -> Compactor:
        return Compactor(
            directory.path,
            syncing_log,
            syncer,
            self._settings.compaction,
            clock=self._clock,
            observer=self._metrics,
            before_first=partial(allow_snapshots, directory.path),
            held_bytes=lambda: replica.store.size_bytes,
        )

    def _ephemeral(self, identity: Identity, membership: Membership) -> Replica:
        """Return the store of memory alone: always a new one, under an origin drawn for this process."""
        limits = self._settings.limits
        return Replica(identity._replace(first_origin=None), Store(limits.changes_max), membership, limits, SystemRng())

    def _discovery(self) -> Discovery | None:
        settings = self._settings
        if settings.discover_dns is None:
            return None
        return Discovery(settings.discover_dns, settings.discovery, self._clock, secure=settings.secure)

    def _security(self, directory: DataDirectory, given: Certificates | None) -> "_Security | None":
        """Return what makes the peer plane safe, None for a plain one; blocks."""
        settings, cluster_id = self._settings, directory.identity.cluster_id
        if not settings.secure:
            return None
        enrolment = None
        if settings.enrolment is not None:
            if cluster_id is None:
                raise UsageError("--tls-ca without --tls-cert: the key that the member makes needs a --cluster-id")
            enrolment = Enrolment(directory.path, self._name(directory), cluster_id, settings.enrolment)
        files = enrolment.files if enrolment is not None else settings.tls
        assert files is not None, "a secure member has a certificate or makes one"
        certificates = given or Certificates(files)
        claims = SignedClaims(files, cluster_id, self._name(directory))
        return _Security(certificates, SignedEpochs(files.ca, cluster_id, self._clock), claims, enrolment)

    def _transport(
        self, security: "_Security | None", names: Names, store: StoreName, discovery: Discovery | None
    ) -> HttpTransport:
        limits, gossip = self._settings.limits, self._settings.gossip
        server_name = discovery.server_name if discovery else lambda _: None
        most = self._planes.transport_connections_max
        if security is None:
            return HttpTransport(None, limits, gossip, store, server_name, connections_max=most)
        return HttpTransport(
            security.certificates.client,
            limits,
            gossip,
            store,
            server_name,
            names=names,
            epochs=security.epochs,
            connections_max=most,
        )

    async def _open_planes(
        self,
        stack: AsyncExitStack,
        member: Member,
        directory: DataDirectory,
        *,
        names: Names,
        security: "_Security | None",
    ) -> None:
        settings = self._settings
        if security is not None or settings.insecure_peers:
            admin = AdminApi(member, security.enrolment if security else None)
            stores = {"persistent": member.persistent, "ephemeral": member.ephemeral}
            service = PeerService(
                stores,
                names=names,
                tls=security.certificates.server if security else None,
                limits=settings.limits,
                admin=admin.handle,
                epochs=security.epochs if security else None,
                connections=self._planes.peer,
            )
            if security is not None and security.enrolment is not None:
                security.enrolment.on_taken = security.taken(member, asyncio.get_running_loop())
            await service.start(open_public(settings.peer_listen, "--peer-listen"))
            stack.push_async_callback(service.stop)
        if settings.insecure_peers:
            log.warning(
                "--insecure-peers: any program of this machine may speak in a member's name, read and write all data, "
                "and end members; give each member a certificate (wavekv certs) to close that"
            )
        for work in self._following(member, security):
            stack.callback(asyncio.get_running_loop().create_task(work).cancel)
        values = member.persistent.values
        http = HttpApi(
            values,
            member.ephemeral.values,
            self._planes.limits,
            self._metrics,
            self._clock,
            connections=self._planes.http,
            watch_budget=self._budgets.watch,
            watchdog=self._watchdog,
            allow_hosts=settings.allow_hosts,
        )
        path = settings.socket or directory.path / "wavekv.sock"
        await http.start([*open_loopback(settings.listen, "--listen"), open_unix(path, settings.socket_mode)])
        stack.push_async_callback(http.stop)
        resp = RespServer(
            values,
            self._planes.limits,
            self._metrics,
            self._clock,
            budget=self._budgets.resp,
            watchdog=self._watchdog,
        )
        await resp.start(open_loopback(settings.resp_listen, "--resp-listen"))
        stack.push_async_callback(resp.stop)

    def _following(self, member: Member, security: "_Security | None") -> list[Coroutine[Any, Any, None]]:
        """Return what follows files that others write: certificates and the membership document."""
        work = [security.certificates.watch()] if security is not None else []
        if self._settings.membership is not None:
            fail = member.persistent.committer.fail
            work.append(MountedEpoch(self._settings.membership, member.take_membership, fail).run())
        return work


@dataclass(frozen=True, slots=True)
class _Security:
    """What makes a peer plane safe; `enrolment` is None where the certificate is that of the flags."""

    certificates: Certificates
    epochs: SignedEpochs
    claims: SignedClaims
    enrolment: Enrolment | None

    def taken(self, member: Member, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Return what to do, in another thread, when a certificate was handed in: show it, and ask all peers anew."""

        def use() -> None:
            self.certificates.refresh()
            loop.call_soon_threadsafe(member.ask_anew)

        return use


def _tell_conversion(converted: Conversion | None) -> None:
    if converted is None:
        return
    found, files = (converted.entries, converted.node_id), ", ".join(converted.files)
    log.info("%d entries taken over from node %d of the original system; its files are kept: %s", *found, files)
    if converted.damage is not None:
        log.error("what was taken over is not all there was (%s): this volume heals first", converted.damage)
    elif converted.cut_bytes:
        log.warning("its log ended in an unfinished write; %d bytes were left out", converted.cut_bytes)
