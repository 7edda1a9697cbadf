"""A cluster whose contexts are full of invented origins, in every log, is rid of them; what was written stays (R15)."""

import pytest

from tests.simulation.plan import Plan, parse
from tests.simulation.world import World
from wavekv.core.adoption import adopted
from wavekv.core.context import Context
from wavekv.core.types import I64_MIN

INVENTED = 5000
STORY = """
members 3
interval_ms 4000
horizon_ms 900000
wire 0.05
6000 put m0 kept
6000 put m1 other
7000 put m2 deleted
30000 crash m0
60000 put m0 kept if=present
70000 put m1 deleted
80000 delete m2 deleted
200000 put m1 late
400000 crash m1
450000 put m1 other
800000 put m2 last
"""


def poisoned(plan: Plan) -> World:
    """Run a plan in whose second minute all members adopt invented origins, as they did before that was bounded."""
    world = World(plan)
    invented = Context(dict.fromkeys(range(1000, 1000 + INVENTED), 7), {5: ((3, 4), (9, 9))})

    def poison() -> None:
        for slot in world.slots.values():
            assert slot.process is not None
            replica = slot.process.replica
            ops, _ = adopted(replica.covered, invented, lambda *_: False)
            replica._stage(*ops)
            slot.process.commit()

    world.after(65_000, poison)
    world.run()
    return world


def origins(world: World) -> list[int]:
    return [len(slot.volume.context().origins()) for slot in world.slots.values()]


def test_invented_origins_leave_every_log_and_what_was_written_stays() -> None:
    world = poisoned(parse(STORY + "gate 4096\n"))
    assert max(origins(world)) < 10
    assert world.history.counts["origins dropped"] >= 3 * INVENTED
    for slot in world.slots.values():
        assert slot.process is not None
        entries = slot.process.replica.store.entries
        assert {key: entries[key].stamp for key in ("kept", "other", "late", "last")} == {
            key: world.history.by_key[key][-1].entry.stamp for key in ("kept", "other", "late", "last")
        }
        assert entries.get("deleted") is None


def test_below_the_gate_they_stay_and_nobody_promises() -> None:
    world = poisoned(parse(STORY + "gate 8000\n"))
    assert min(origins(world)) > INVENTED
    for slot in world.slots.values():
        assert slot.process is not None
        standing = slot.process.replica.store.standing
        assert standing.promised == standing.horizon == I64_MIN


@pytest.mark.parametrize("times", ["200000", "300000", "500000"])
def test_restarts_in_the_midst_of_it_only_make_it_later(times: str) -> None:
    restarts = "".join(f"{int(times) + 3000 * index} crash m{index}\n" for index in range(3))
    world = poisoned(parse(STORY + "gate 4096\n" + restarts))
    assert max(origins(world)) < 20
