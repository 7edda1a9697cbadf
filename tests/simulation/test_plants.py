"""Every planted defect is caught by the scenario or seed that its table names; that plan holds without the defect."""

from pathlib import Path

import pytest

from tests.simulation.plan import Plan, parse
from tests.simulation.plants import PLANTS, planted
from tests.simulation.profiles import plan_of
from tests.simulation.runs import run

SCENARIOS = Path(__file__).parent / "scenarios"


def plan_called(name: str) -> Plan:
    """Return the plan of `seed N [PROFILE]`, or of a scenario."""
    word, *rest = name.split()
    if word == "seed":
        return plan_of(int(rest[0]), rest[1] if len(rest) > 1 else None)
    return parse((SCENARIOS / f"{name}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_defect_is_caught(name: str) -> None:
    plan = plan_called(PLANTS[name].caught_by)
    with planted(PLANTS[name]):
        assert run(plan).rule is not None, PLANTS[name].what
    assert run(plan).rule is None
