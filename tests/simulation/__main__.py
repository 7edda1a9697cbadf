"""`python -m tests.simulation`: run seeds, replay one, shrink a failure, run a scenario.

python -m tests.simulation --seeds 0..200
python -m tests.simulation --seed 17 --trace
python -m tests.simulation --hours 1000 --profile crashes
python -m tests.simulation --scenario tests/simulation/scenarios/orphan.txt --trace
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from tests.simulation.plan import Plan, parse
from tests.simulation.profiles import PROFILES, plan_of
from tests.simulation.runs import Outcome, run
from tests.simulation.shrink import shrink


def main() -> int:
    """Run what the command line asks for; return 1 if anything is violated."""
    options = _options()
    if options.scenario is not None:
        return _one(parse(options.scenario.read_text(encoding="utf-8")), options, f"--scenario {options.scenario}")
    if options.seed is not None:
        return _one(_plan(options.seed, options), options, f"--seed {options.seed}")
    return _many(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate clusters from seeds.")
    parser.add_argument("--seed", type=int, help="run one seed")
    parser.add_argument("--seeds", default="0..100", help="run seeds A..B, B not included (default %(default)s)")
    parser.add_argument("--hours", type=float, help="run seeds from the first of --seeds until so many cluster-hours")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="of every seed; by default each seed draws one")
    parser.add_argument("--gate", type=int, help="origins above which dead ones are dropped, in every seed (R15)")
    parser.add_argument("--scenario", type=Path, help="run a plan in words")
    parser.add_argument("--trace", action="store_true", help="print what happens, line by line")
    parser.add_argument("--no-shrink", action="store_true", help="leave a failing plan as it is")
    parser.add_argument("--save", type=Path, help="write the shrunk plan to this file")
    parser.add_argument("--keep-going", action="store_true", help="go on behind a failing seed, without shrinking it")
    return parser.parse_args()


def _plan(seed: int, options: argparse.Namespace) -> Plan:
    plan = plan_of(seed, options.profile)
    return plan if options.gate is None else replace(plan, setting=replace(plan.setting, gate=options.gate))


def _one(plan: Plan, options: argparse.Namespace, named: str) -> int:
    outcome = run(plan, print if options.trace else None)
    _table(outcome.counts)
    if outcome.rule is None:
        print("everything holds")
        return 0
    return _failure(plan, outcome, options, named)


def _failure(plan: Plan, outcome: Outcome, options: argparse.Namespace, named: str) -> int:
    profile = f" --profile {options.profile}" if options.profile else ""
    profile += f" --gate {options.gate}" if options.gate is not None else ""
    print(f"VIOLATION {outcome.violation}")
    print(f"replay: python -m tests.simulation {named}{profile} --trace")
    if not options.no_shrink:
        assert outcome.rule is not None
        short = shrink(plan, outcome.rule)
        print(f"shrunk from {len(plan.actions)} actions to {len(short.actions)}:")
        print(short.text(), end="")
        print(f"violates {run(short).violation}")
        if options.save is not None:
            options.save.write_text(short.text(), encoding="utf-8")
    return 1


def _seeds(options: argparse.Namespace) -> Iterator[int]:
    first, _, behind = options.seeds.partition("..")
    return count(int(first)) if options.hours else iter(range(int(first), int(behind)))


def _many(options: argparse.Namespace) -> int:
    began = time.process_time()
    counts: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    hours = 0.0
    events = failures = 0
    for seed in _seeds(options):
        plan = _plan(seed, options)
        outcome = run(plan)
        counts += outcome.counts
        runs[plan.setting.profile] += 1
        hours += outcome.member_hours
        events += outcome.events
        if outcome.rule is not None:
            failures += 1
            print(f"seed {seed}, profile {plan.setting.profile}")
            _failure(plan, outcome, _unshrunk(options) if options.keep_going else options, f"--seed {seed}")
            if not options.keep_going:
                return 1
        if options.hours and hours >= options.hours:
            break
    seconds = time.process_time() - began
    _table(counts)
    print("runs: " + ", ".join(f"{profile} {number}" for profile, number in sorted(runs.items())))
    print(
        f"{sum(runs.values())} seeds, {hours:.1f} cluster-hours, {events} events in {seconds:.1f} s of CPU "
        f"({hours / seconds * 60:.1f} cluster-hours a minute); {failures} failed"
    )
    return 1 if failures else 0


def _unshrunk(options: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "no_shrink": True})


def _table(counts: Counter[str]) -> None:
    for what, number in sorted(counts.items()):
        print(f"{number:>9} {what}")


if __name__ == "__main__":
    sys.exit(main())
