"""One run of a plan, judged: what happened, and what does not hold."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.checks import Violation
from tests.simulation.plan import Plan
from tests.simulation.trace import Trace
from tests.simulation.world import World


class Outcome(NamedTuple):
    """The end of a run: `rule` and `detail` say what is violated, None where all holds."""

    rule: str | None
    detail: str
    at_ms: int
    counts: Counter[str]
    events: int
    member_hours: float

    @property
    def violation(self) -> str | None:
        """Return the violation in a line."""
        return None if self.rule is None else f"{self.rule}: {self.detail} (at {self.at_ms} ms)"


def run(plan: Plan, write: Callable[[str], None] | None = None) -> Outcome:
    """Run a plan; a failed assertion of the core is a violation as well."""
    world = World(plan, Trace(write))
    rule, detail = None, ""
    try:
        world.run()
    except Violation as violation:
        rule, detail = violation.rule, violation.detail
    except AssertionError as failed:
        rule, detail = "assertion", str(failed) or "of the core"
    finally:
        world.close()
    hours = min(world.now, plan.setting.horizon_ms) / 3_600_000
    return Outcome(rule, detail, world.now, world.history.counts, world.events, hours)
