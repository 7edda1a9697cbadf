"""Each counterexample that forced a rule is a scenario in words: it holds, and goes as its golden trace says.

`python -m tests.simulation.test_scenarios` writes the golden traces anew; look at the difference.
"""

from pathlib import Path

import pytest

from tests.simulation.plan import parse
from tests.simulation.runs import run

HERE = Path(__file__).parent
SCENARIOS = sorted((HERE / "scenarios").glob("*.txt"))
KNOWN: dict[str, str] = {}
"""Scenarios that are violated for a known reason; a test says so the day they hold."""


def trace_of(path: Path) -> tuple[str | None, str]:
    lines: list[str] = []
    outcome = run(parse(path.read_text(encoding="utf-8")), lines.append)
    return outcome.violation, "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_holds_and_goes_as_its_golden_trace(path: Path) -> None:
    violation, trace = trace_of(path)
    assert (violation is not None) == (path.stem in KNOWN), violation or "it holds now: take it off KNOWN"
    assert trace == (HERE / "golden" / f"{path.stem}.trace").read_text(encoding="utf-8")


if __name__ == "__main__":
    for each in SCENARIOS:
        (HERE / "golden" / f"{each.stem}.trace").write_text(trace_of(each)[1], encoding="utf-8")
