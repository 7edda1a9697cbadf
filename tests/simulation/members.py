"""A process of a member, with the production core inside.

It does what `runtime.engine` and `runtime.committer` do around the core, as callbacks in virtual time. `step` marks the
points between two steps; a crash may come at any of them.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tests.fakes.documents import FakeVerifier
from tests.simulation.gossip import Gossip
from tests.simulation.slots import Crashed, Pending, Slot
from tests.simulation.standing import RETRY_MS, Standing
from tests.simulation.volumes import records_of
from wavekv.config import PeerAddress
from wavekv.core import exchange
from wavekv.core.collection import collect, included
from wavekv.core.identity import Identity, process_number
from wavekv.core.messages import Envelope
from wavekv.core.ops import Clear, as_records
from wavekv.core.origin_expiry import OriginExpiry
from wavekv.core.replica import Replica
from wavekv.core.reports import sender_of
from wavekv.core.steps import Group, Merged, Slices
from wavekv.core.types import Dot, Stamp
from wavekv.errors import DiskFull, NotAMember, NotWritten, PeerError, PeerUnreachable, Superseded
from wavekv.runtime.admission import open_admission

if TYPE_CHECKING:
    from tests.simulation.world import World

COLLECTED_MAX = 500

T = TypeVar("T")
Reply = Callable[[Envelope | PeerError], None]


class Process:
    """One run of a member on its volume."""

    def __init__(self, world: "World", slot: Slot) -> None:
        self.world, self.slot = world, slot
        self.alive, self.serving = True, False
        recovered = slot.volume.boot()
        store = recovered.store
        static = world.setting.membership == "static"
        peers = tuple(PeerAddress(name, name) for name in world.names if name != slot.name) if static else ()
        self.admission = open_admission(
            slot.name, world.cluster_id, slot.volume, world.keeper.boot_document(), peers,
            founds=False, damaged=recovered.damaged, verifier=FakeVerifier(),
        )  # fmt: skip
        about = slot.volume.identity
        identity = Identity(
            slot.name, about.node_id, about.uuid,
            process_number(self.now(), store.process.inc, world),
            about.node_id if recovered.first_process and store.process.inc == 0 else None,
        )  # fmt: skip
        self.replica = Replica(identity, store, self.admission.membership, world.limits, world)
        self.origin_expiry = OriginExpiry(self.replica)
        self._expiring = False
        self.gossip = Gossip(self)
        self.checked: dict[int, int] = {}
        """Origin → sequence up to which I1 was checked."""
        self.staged: dict[Dot, None] = {}
        self.on_report: list[Callable[[], bool]] = []
        """Who waits for reports; each tells whether it is done."""
        self.on_advance: list[Callable[[], bool]] = []
        self._waiters: deque[tuple[int, Pending]] = deque()
        self._group: Group | None = None
        self._collected: dict[str, Stamp] = {}
        self._group_collected: dict[str, Stamp] = {}
        self.standing = Standing(self)

    def start(self) -> None:
        """Log that this process runs, then talk to the others (R7)."""
        self.world.checks.booted(self)
        self.standing.regate()
        self.durable(self.replica.last_ticket).then(self._open)

    def _open(self) -> None:
        self.serving = True
        self.gossip.connect()
        self.gossip.start()
        self.standing.opened()

    def now(self) -> int:
        """Return this member's wall clock, ms."""
        now = self.slot.clock.now_ms(self.world.now)
        clocks = self.world.history.clocks
        if now > clocks.get(self.slot.name, 0):
            clocks[self.slot.name] = now
        return now

    def step(self) -> None:
        """Crash here if it is time.

        Raises:
            Crashed: it is.
        """
        slot = self.slot
        if slot.crash_in is not None:
            slot.crash_in -= 1
            if slot.crash_in <= 0:
                self.world.crash(slot)
                raise Crashed

    # ---- commits: runtime.committer ---------------------------------------------------------------------------------

    def durable(self, ticket: int) -> Pending:
        """Return what is settled once `ticket` is durable and visible."""
        pending = Pending()
        if ticket <= self.replica.durable_ticket:
            pending.settle(None)
        else:
            self._waiters.append((ticket, pending))
            self.commit()
        return pending

    def commit(self) -> None:
        """Hand out the next group if none is out."""
        if not self.alive or self._group is not None:
            return
        group = self.replica.ready()
        if group is None:
            return
        self._group, self._group_collected, self._collected = group, self._collected, {}
        self.slot.volume.begin(group)
        least, most = self.world.setting.sync_ms
        self.world.after(self.world.rng.randint(least, most) + self.slot.stall_ms, self._sync)
        self.step()

    def _sync(self) -> None:
        if not self.alive:
            return
        self.step()
        group, slot = self._group, self.slot
        assert group is not None
        if slot.sync_fails:
            slot.sync_fails = False
            self.world.crash(slot)
            return
        try:
            slot.volume.sync()
        except DiskFull as full:
            self._abandon(full)
            return
        if self.world.tracing:
            self.world.trace(f"{slot.id} has on disk: " + "; ".join(map(self.world.tracer.op, as_records(group.ops))))
        self.world.history.made_durable(
            records_of(group), self._group_collected, self.replica.store, slot.volume.horizons
        )
        self._group_collected = {}
        self.step()
        self._group = None
        self.replica.advance(group)
        for entry in group.stored():
            self.staged.pop(entry.dot, None)
        self.world.checks.advanced(self, group)
        self.step()
        while self._waiters and self._waiters[0][0] <= group.ticket:
            self._waiters.popleft()[1].settle(None)
        self.gossip.durable(group)
        self.on_advance = [waiting for waiting in self.on_advance if not waiting()]
        self.commit()

    def _abandon(self, full: DiskFull) -> None:
        self.world.count("groups refused by a full disk")
        self._group = None
        self._collected, self._group_collected = {}, {}
        self.replica.abandon()
        self.world.history.void(self.staged)
        self.staged.clear()
        if self.replica.full is None:
            self.world.after(RETRY_MS, self._look_for_room)
        self.replica.full = full
        waiters, self._waiters = self._waiters, deque()
        for _, pending in waiters:
            pending.settle(full)
        self.commit()

    def _look_for_room(self) -> None:
        if not self.alive:
            return
        if self.slot.volume.find_room():
            self.replica.full = None
        else:
            self.world.after(RETRY_MS, self._look_for_room)

    def lost_group(self) -> dict[str, Stamp]:
        """Return the deletes that the group under way collects; the process is ending."""
        return self._group_collected

    def tick(self) -> None:
        """Do what is done periodically: expiry, collection."""
        self.replica.store.take_expired(self.now(), 1000)
        if not self.serving:
            return
        before = len(self.replica._ops)
        collect(self.replica, self.now(), COLLECTED_MAX)
        for op in self.replica._ops[before:]:
            if isinstance(op, Clear):
                held = self.replica.store.entries[op.key]
                self._collected[op.key] = held.stamp
                self.world.checks.collecting(self, held)
        self.commit()
        self._drop_dead_origins()

    def _drop_dead_origins(self) -> None:
        """Take a step of R15, unless the last one is not durable yet."""
        if self._expiring or self.origin_expiry.idle():
            return
        self._expiring = True
        gone = self.origin_expiry.step(included(self.replica), self.now())

        def settled(*, durable: bool) -> None:
            self._expiring = False
            self.origin_expiry.settle(durable=durable)
            if durable and gone:
                self.world.count("origins dropped", len(gone))

        self.durable(self.replica.last_ticket).then(lambda: settled(durable=True), lambda _: settled(durable=False))

    # ---- what others send: runtime.engine ---------------------------------------------------------------------------

    def receive(self, kind: str, message: Envelope, reply: Reply) -> None:
        """Merge a request or push, and answer once that is durable."""
        self.step()
        request = kind == "request"
        receive = exchange.receive_request_in_slices if request else exchange.receive_push_in_slices
        slices = receive(self.replica, message, self.now())
        alone = len(message.entries) <= self.world.limits.merge_slice_entries  # nobody has a turn in between
        limits, ranges = self.world.limits, self.replica.covered.range_count
        bound = limits.fill_ranges_max if request or not alone else max(ranges, limits.dots_max)
        self.in_turns(slices, partial(self._received, kind, message, reply, bound), partial(self._refused, reply))

    def in_turns(
        self, slices: Slices[T], done: Callable[[T], None], refused: Callable[[PeerError | NotWritten], None]
    ) -> None:
        """Do a slice, the next ones later; call `done` in the turn of the last one."""
        if not self.alive:
            return
        try:
            next(slices)
        except StopIteration as ended:
            done(ended.value)
        except (PeerError, NotWritten) as refusal:
            refused(refusal)
        else:
            self.world.count("slices with others in between")
            self.commit()
            self.step()
            self.world.after(self.world.rng.randint(0, 2), self.in_turns, slices, done, refused)

    def _refused(self, reply: Reply, refusal: PeerError | NotWritten) -> None:
        if isinstance(refusal, NotWritten):
            self.standing.keep_epoch(partial(reply, PeerError("it could not be stored")))
            return
        if isinstance(refusal, Superseded):
            self.standing.supersede()
            reply(PeerUnreachable("a newer process of this name serves"))
            return
        self.world.count(f"refused: {refusal.code}")
        proof = exchange.envelope(self.replica, self.now())
        self.standing.keep_epoch(partial(reply, proof if isinstance(refusal, NotAMember) else refusal))

    def _received(self, kind: str, message: Envelope, reply: Reply, ranges_max: int, merged: Merged) -> None:
        for code, count in merged.refused.items():
            self.world.count(f"entries refused: {code}", count)
        self.world.checks.within("ranges of dots after a message", self.replica.covered.range_count, ranges_max)
        pending = self.durable(merged.ticket)
        self.heard()
        self.step()
        failed = lambda _: reply(PeerError("it could not be stored"))  # noqa: E731
        self.standing.keep_epoch(lambda: pending.then(partial(self._answer, kind, message, reply), failed))

    def _answer(self, kind: str, message: Envelope, reply: Reply) -> None:
        if not self.alive:
            return
        self.step()
        self.gossip.heard_from(sender_of(message))
        if kind == "request":
            answer = exchange.answer(self.replica, message, self.now())
        else:
            answer = exchange.report(self.replica, self.now())
        self.world.checks.reported(self, answer)
        reply(answer)

    def heard(self) -> None:
        """Somebody's report came in: see who waited for it."""
        if self.on_report:
            self.on_report = [waiting for waiting in self.on_report if not waiting()]
