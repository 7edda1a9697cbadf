"""Dead origins leave the contexts, and nothing that they wrote comes back (R15)."""

from dataclasses import replace

from tests.fakes.cluster import LIMITS as DEFAULTS
from tests.fakes.cluster import MemoryMember, cluster, collect, contents, push, sync, wire
from wavekv.config import Limits
from wavekv.core import exchange
from wavekv.core.collection import included
from wavekv.core.horizon import dead_upto, sane_horizon
from wavekv.core.ops import Cover, DropOrigins, Promise, UpdateLocalAck
from wavekv.core.origin_expiry import OriginExpiry
from wavekv.core.standing import DROPPED_MAX, Standing
from wavekv.core.types import I64_MIN

LIMITS = replace(DEFAULTS, origins_expire_above=0)
GRACE = LIMITS.origin_grace_ms
START = 1_000_000_000
STEPS = 15
"""Enough for a search to begin, scan and end between two exchanges."""


class Cluster:
    """Members with their expiry, and one clock."""

    def __init__(self, size: int, limits: Limits = LIMITS) -> None:
        self.now = START
        self.members = cluster(size, limits)
        self.expiries = [OriginExpiry(member.replica) for member in self.members]
        self.meet()

    def meet(self, *absent: MemoryMember) -> None:
        """Let everybody exchange with everybody."""
        present = [member for member in self.members if member not in absent]
        for a in present:
            for b in present:
                if a is not b:
                    sync(a, b, self.now)

    def restart(self, index: int, keep: int | None = None) -> None:
        """Begin a new process of one member, on its volume as it is or was."""
        self.members[index].restart(keep)
        self.expiries[index] = OriginExpiry(self.members[index].replica)

    def step(self, index: int) -> None:
        member, expiry = self.members[index], self.expiries[index]
        expiry.step(included(member.replica), self.now)
        member.commit()
        expiry.settle(durable=True)

    def pass_time(self, ms: int, *, absent: tuple[MemoryMember, ...] = (), parts: int = 8) -> None:
        """Let time pass, in a few parts between which members step and meet."""
        for _ in range(parts):
            self.now += ms // parts
            for index, member in enumerate(self.members):
                if member not in absent:
                    for _ in range(STEPS):
                        self.step(index)
            self.meet(*absent)
            for member in self.members:
                collect(member, self.now)

    def origins(self) -> list[set[int]]:
        return [set(member.store.context.origins()) for member in self.members]


def with_a_dead_origin(size: int = 2, gate: int = 0) -> Cluster:
    """Return a cluster whose first member wrote `x` as origin 1, was restarted, and deleted it as another."""
    world = Cluster(size, replace(LIMITS, origins_expire_above=gate))
    world.members[0].put("x", b"1", world.now)
    world.meet()
    world.restart(0)
    world.meet()
    world.members[0].put("kept", b"2", world.now)
    world.members[0].delete("x", world.now)
    world.meet()
    for member in world.members:
        collect(member, world.now)
    assert all(1 in origins for origins in world.origins())
    return world


def test_an_origin_whose_process_has_ended_and_of_which_nothing_is_held_is_dropped_by_all() -> None:
    world = with_a_dead_origin(3)
    before = [contents(member) for member in world.members]
    others = [member.replica.vouching for member in world.members[1:]]
    assert all(1 in vouching._attested for vouching in others)
    world.pass_time(GRACE // 2)
    assert all(1 in origins for origins in world.origins()), "not before the grace has passed"
    world.pass_time(2 * GRACE)
    current = world.members[0].replica.origin
    assert world.origins() == [{current}] * 3
    assert [contents(member) for member in world.members] == before
    assert [expiry.dropped for expiry in world.expiries] == [1, 1, 1]
    assert all(1 not in vouching._attested for vouching in others), "no word of before brings it back"


def test_a_quiet_cluster_without_dead_origins_logs_nothing() -> None:
    world = Cluster(2)
    world.members[0].put("x", b"1", world.now)
    world.meet()
    lengths = [len(member.log) for member in world.members]
    world.pass_time(10 * GRACE)
    assert [len(member.log) for member in world.members] == lengths
    world = with_a_dead_origin()
    world.pass_time(3 * GRACE)
    lengths = [len(member.log) for member in world.members]
    world.pass_time(10 * GRACE)
    assert [len(member.log) for member in world.members] == lengths, "promises end with their reason"


def test_an_origin_of_which_a_value_or_a_tombstone_is_held_stays() -> None:
    world = Cluster(2)
    world.members[0].put("x", b"1", world.now)
    world.meet()
    world.restart(0)
    world.meet()
    world.pass_time(3 * GRACE)
    assert world.origins() == [{1}, {1}]


def test_one_member_that_is_down_keeps_all_from_dropping() -> None:
    world = with_a_dead_origin(3)
    world.pass_time(4 * GRACE, absent=(world.members[2],))
    assert all(1 in origins for origins in world.origins())
    world.pass_time(4 * GRACE)
    assert not any(1 in origins for origins in world.origins())


def test_an_old_volume_brings_no_deleted_value_back() -> None:
    world = Cluster(2)
    world.members[0].put("x", b"1", world.now)
    world.meet()
    old = len(world.members[1].log)
    world.restart(0)
    world.meet()
    world.members[0].delete("x", world.now)
    world.meet()
    for member in world.members:
        collect(member, world.now)
    world.pass_time(3 * GRACE)
    assert 1 not in world.origins()[0]
    world.restart(1, keep=old)
    assert world.members[1].value("x", world.now) == b"1"
    sync(world.members[0], world.members[1], world.now)
    assert world.members[0].value("x", world.now) is None, "who heals is not believed below the horizon"
    world.meet()
    assert [member.value("x", world.now) for member in world.members] == [None, None]
    assert not world.members[1].replica.healing


def test_a_late_push_from_before_the_agreement_is_refused_and_counted() -> None:
    world = Cluster(2)
    entry = world.members[0].put("x", b"1", world.now)
    late = wire(exchange.push_message(world.members[0].replica, (entry,), {}, world.now))
    world.meet()
    world.restart(0)
    world.meet()
    world.members[0].delete("x", world.now)
    world.meet()
    for member in world.members:
        collect(member, world.now)
    world.pass_time(3 * GRACE)
    late = replace(late, inc=world.members[0].inc)
    merged = exchange.receive_push(world.members[1].replica, late, world.now)
    assert merged.refused == {"dead_entry": 1}
    assert world.members[1].value("x", world.now) is None


def test_a_node_of_the_original_system_promises_nothing_and_is_believed() -> None:
    world = with_a_dead_origin()
    world.pass_time(3 * GRACE)
    horizon = world.members[0].store.standing.horizon
    message = exchange.push_message(world.members[0].replica, (), {}, world.now)
    assert dead_upto(world.members[1].replica, replace(message, name=None)) == I64_MIN
    for late in (replace(message, healing=True), replace(message, promised=None), replace(message, promised=START)):
        assert dead_upto(world.members[1].replica, late) == horizon
    world.members[1].replica.reports.crates = True
    world.members[0].delete("kept", world.now)
    lengths = len(world.members[1].log)
    world.restart(0)
    world.pass_time(3 * GRACE)
    assert not any(isinstance(op, DropOrigins | Promise) for op in world.members[1].log[lengths:])


def test_a_write_by_a_clock_that_was_set_back_is_stamped_above_what_was_promised() -> None:
    world = with_a_dead_origin()
    world.pass_time(3 * GRACE)
    member = world.members[1]
    promised = member.store.standing.promised
    assert START < promised < world.now
    assert member.put("y", b"1", START - 10 * GRACE).timestamp == promised + 1
    world.restart(1)
    assert world.members[1].put("z", b"1", START - 10 * GRACE).timestamp == promised + 1, "it is in the log"


def test_a_horizon_of_this_moment_is_not_adopted() -> None:
    world = with_a_dead_origin()
    world.pass_time(3 * GRACE)
    for ahead, adopted in ((-GRACE // 2 + 1, False), (-GRACE // 2, True)):
        world.restart(1)
        replica = world.members[1].replica
        answer = exchange.push_message(world.members[0].replica, (), {}, world.now)
        sane = sane_horizon(replica, replace(answer, horizon=world.now + ahead), world.now)
        assert (sane, replica.refused["future_horizon"]) == (adopted, 0 if adopted else 1)


def test_only_a_member_that_heals_adopts_a_horizon() -> None:
    world = with_a_dead_origin()
    world.pass_time(3 * GRACE)
    a, b = world.members
    before = b.store.standing.horizon
    request = replace(wire(exchange.Round(a.replica, "m1", "m1").request(world.now)), horizon=before + 5, since=0)
    exchange.receive_request(b.replica, request, world.now)
    b.commit()
    assert b.store.standing.horizon == before
    lost = len([op for op in b.log if not isinstance(op, DropOrigins)])
    b.log[:] = [op for op in b.log if not isinstance(op, DropOrigins | Promise)]
    world.restart(1)
    assert b.store.standing.horizon == I64_MIN, lost
    world.meet()
    assert world.members[1].store.standing.horizon == before


def test_below_the_gate_nothing_is_promised_refused_or_dropped() -> None:
    world = with_a_dead_origin(gate=2)
    logged = [len(member.log) for member in world.members]
    world.pass_time(5 * GRACE)
    assert all(1 in origins for origins in world.origins()), "two origins are not above two"
    assert [len(member.log) for member in world.members] == logged
    assert "promised" not in exchange.greeting(world.members[0].replica)
    world = with_a_dead_origin(gate=1)
    world.pass_time(5 * GRACE)
    assert not any(1 in origins for origins in world.origins())


def test_a_context_above_its_bound_is_told_so_that_it_can_shed() -> None:
    limits = replace(LIMITS, origins_max=100, dots_max=20, origin_drop_max=50)
    told = []
    for extra in (0, 1):
        world = Cluster(2, limits)
        world.members[0].put("x", b"1", world.now)
        world.meet()
        for member in world.members:  # as a log of a version without the bound has it
            for origin in range(1000, 1000 + limits.origins_max + limits.dots_max - 1 + extra):
                member.log.append(UpdateLocalAck(origin, 7))
            world.restart(world.members.index(member))
        world.meet()
        world.pass_time(3 * GRACE, parts=8)
        told.append(world.origins())
    assert told[0] == [{1}, {1}]
    assert len(told[1][0]) > limits.origins_max


def test_a_cluster_that_caught_fifty_thousand_invented_origins_is_rid_of_them_after_the_grace() -> None:
    world = Cluster(2, replace(LIMITS, origins_max=100_000, origin_drop_max=20_000))
    world.members[0].put("x", b"1", world.now)
    world.meet()
    for index, member in enumerate(world.members):
        member.log += [UpdateLocalAck(origin, 7) for origin in range(1000, 51000)]
        member.log += [Cover(5, 3, 4), Cover(5, 9, 9)]
        world.restart(index)
    world.meet()
    assert len(world.origins()[0]) == 50_002
    before = contents(world.members[0])
    world.restart(1)
    world.meet()
    world.pass_time(3 * GRACE, parts=7)
    assert world.origins() == [{1}, {1}]
    assert [contents(member) for member in world.members] == [before, before]
    world.restart(0)
    world.restart(1)
    world.meet()
    assert world.origins() == [{1}, {1}]
    assert len(world.members[0].store.standing.dropped) == 50_001
    push(world.members[0], world.members[1], (world.members[0].put("y", b"2", world.now),), world.now)
    assert world.members[1].value("y", world.now) == b"2"


def test_the_newest_dropped_origins_are_remembered_up_to_a_bound() -> None:
    standing = Standing()
    standing.apply(DropOrigins(5, tuple((origin, 1) for origin in range(1, DROPPED_MAX + 1))))
    assert len(standing.dropped) == DROPPED_MAX
    standing.apply(DropOrigins(4, ((DROPPED_MAX + 1, 3),)))
    assert len(standing.dropped) == DROPPED_MAX
    assert 1 not in standing.dropped
    assert standing.dropped[DROPPED_MAX + 1] == 3
    assert standing.horizon == standing.promised == 5
