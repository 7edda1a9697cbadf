"""The last checks see what they are for: a state that is tampered with after healing is told by the right rule."""

from collections.abc import Callable

import pytest

from tests.simulation.checks import Violation
from tests.simulation.history import Write
from tests.simulation.plan import parse
from tests.simulation.world import World
from wavekv.core.ops import Clear, Op, Set
from wavekv.core.types import Entry

STORY = """
members 2
horizon_ms 60000
6000 put m0 kept
6000 put m0 deleted
8000 delete m1 deleted
9000 put m0 rolled
"""


@pytest.fixture
def world() -> World:
    """Return a world that ran and healed: `kept` and `rolled` are there, `deleted` is collected."""
    world = World(parse(STORY))
    world.run()
    return world


def everywhere(world: World, change: Callable[[Entry | None], Op], key: str) -> None:
    for slot in world.slots.values():
        assert slot.process is not None
        slot.process.replica.store.apply(change(slot.process.replica.store.entries.get(key)))


def written(world: World, key: str) -> list[Write]:
    return world.history.by_key[key]


def violated(world: World) -> str:
    with pytest.raises(Violation) as caught:
        world.checks.settled()
    return caught.value.rule


def test_a_world_that_was_left_alone_holds(world: World) -> None:
    world.checks.settled()
    assert world.history.counts["deletes collected"] == 2


def test_a_value_that_is_gone_is_told(world: World) -> None:
    everywhere(world, lambda _: Clear("kept"), "kept")
    assert violated(world) == "I1 coverage"
    world.history.collected["kept"] = written(world, "kept")[0].entry.stamp  # as if a delete had been collected
    assert violated(world) == "G1 lost write"


def test_a_lost_write_may_be_gone(world: World) -> None:
    everywhere(world, lambda _: Clear("kept"), "kept")
    world.history.collected["kept"] = written(world, "kept")[0].entry.stamp
    written(world, "kept")[0].lost = True
    world.checks.settled()
    assert world.history.counts["survivors that a fault excuses"] == 0


def test_a_deleted_value_that_is_back_is_told(world: World) -> None:
    everywhere(world, lambda _: Set(written(world, "deleted")[0].entry), "deleted")
    assert violated(world) == "I1 coverage"
    written(world, "deleted")[0].post = True  # what I1 would excuse is still no survivor above the delete
    written(world, "deleted")[0].post = False
    written(world, "deleted")[0].orphan = True
    world.history.collected["deleted"] = written(world, "deleted")[1].entry.stamp
    world.checks.settled()


def test_a_deleted_value_may_be_back_if_no_volume_covers_all_that_its_delete_superseded(world: World) -> None:
    value, delete = written(world, "deleted")
    world.checks.forget()
    assert not delete.bare
    everywhere(world, lambda _: Set(value.entry), "deleted")
    assert violated(world) == "I1 coverage"
    for slot in world.slots.values():
        context = slot.volume.context()
        context.acks.pop(value.entry.origin)
        context.add_range(delete.entry.origin, delete.entry.seq, delete.entry.seq)
    world.checks.forget()
    assert delete.bare
    world.checks.settled()


def test_an_older_value_in_place_of_a_newer_one_is_told(world: World) -> None:
    newest = written(world, "rolled")[0].entry
    older = Entry("rolled", b"older", newest.timestamp - 1, 77, 1)
    world.history.add(Write(older, "m0", 0, durable=True, post=True))
    everywhere(world, lambda _: Set(older), "rolled")
    world.checks.settled()  # U5: written below what its member could not know; either may survive
    written(world, "rolled")[0].post = False
    assert violated(world) == "I1 coverage"


def test_members_that_differ_are_told(world: World) -> None:
    process = world.slots["m1"].process
    assert process is not None
    process.replica.store.context.add(99, 1)
    assert violated(world) == "G3 convergence"


def test_a_tombstone_that_is_left_is_told(world: World) -> None:
    tombstone = written(world, "deleted")[1].entry
    everywhere(world, lambda _: Set(tombstone), "deleted")
    assert violated(world) == "G4 pile-up"


def test_a_sequence_out_of_turn_and_a_dot_given_twice_are_told(world: World) -> None:
    process = world.slots["m0"].process
    assert process is not None
    newest = written(world, "rolled")[0].entry
    with pytest.raises(Violation, match="G8 uniqueness"):
        world.checks.issued(process, newest)
    with pytest.raises(Violation, match="R1 sequence"):
        world.checks.issued(process, newest._replace(seq=newest.seq + 2))


def test_a_read_of_what_is_not_on_disk_or_older_than_its_token_is_told(world: World) -> None:
    process = world.slots["m0"].process
    assert process is not None
    write = written(world, "kept")[0]
    with pytest.raises(Violation, match="G5 read"):
        world.checks.read(process, "kept", write.entry._replace(origin=5))
    process.replica.store.apply(Clear("kept"))
    with pytest.raises(Violation, match="G6 session"):
        world.checks.read_with_token(process, write)


def test_a_bound_that_is_passed_is_told(world: World) -> None:
    world.checks.within("things", 3, 3)
    with pytest.raises(Violation, match="4 things"):
        world.checks.within("things", 4, 3)


@pytest.mark.parametrize(
    ("flag", "dropped_at", "horizon", "forgone"),
    [("", "m1", 0, False), ("orphan", "m1", 0, True), ("orphan", "m1", -1, False), ("early", "m1", 0, True),
     ("early", "m0", 0, False)],
)  # fmt: skip
def test_only_what_an_orphan_or_an_earlier_process_wrote_is_forgone_behind_a_horizon(
    world: World, flag: str, dropped_at: str, horizon: int, *, forgone: bool
) -> None:
    write = written(world, "kept")[0]
    if flag:
        setattr(write, flag, True)
    world.history.horizon = write.entry.timestamp + horizon
    process = world.slots[dropped_at].process
    assert process is not None
    world.history.made_durable((Clear("kept"),), {}, process.replica.store, set())
    assert write.forgone == forgone
