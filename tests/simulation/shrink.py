"""Makes a failing plan short: drops actions, in ever smaller pieces, while the same rule is still violated."""

from collections.abc import Callable

from tests.simulation.plan import Action, Plan
from tests.simulation.runs import run

RUNS_MAX = 600


def shrink(plan: Plan, rule: str, fails: Callable[[Plan], str | None] | None = None) -> Plan:
    """Return a plan of as few actions as can be found in RUNS_MAX runs.

    Args:
        plan: One that violates `rule`.
        rule: What has to stay violated.
        fails: Returns the rule that a plan violates.
    """
    judge = fails or (lambda candidate: run(candidate).rule)
    actions = list(plan.actions)
    left = RUNS_MAX

    def still(candidate: list[Action]) -> bool:
        nonlocal left
        left -= 1
        return judge(plan.with_actions(candidate)) == rule

    width = max(1, len(actions) // 2)
    while left > 0:
        before = len(actions)
        start = 0
        while start < len(actions) and left > 0:
            candidate = actions[:start] + actions[start + width :]
            if still(candidate):
                actions = candidate
            else:
                start += width
        if width == 1 and len(actions) == before:
            break
        width = max(1, width // 2)
    return plan.with_actions(actions)
