"""Seeds of every profile hold all guarantees, and what happened in them is not nothing; runs repeat exactly."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.plan import parse
from tests.simulation.profiles import PROFILES, plan_of
from tests.simulation.runs import Outcome, run
from tests.simulation.shrink import shrink

ROOT = Path(__file__).resolve().parents[2]
SEEDS = [(seed, profile) for profile in PROFILES if profile != "long" for seed in range(1000, 1003)]
REGRESSIONS = [
    line.partition("#")[0].split()
    for line in (Path(__file__).parent / "regressions.txt").read_text(encoding="utf-8").splitlines()
    if line.partition("#")[0].strip()
]


def told(seed: int, profile: str | None, outcome: Outcome) -> str:
    named = f"--seed {seed}" + (f" --profile {profile}" if profile else "")
    return f"{outcome.violation}; replay: python -m tests.simulation {named} --trace"


@pytest.mark.parametrize(("seed", "profile"), SEEDS)
def test_a_seed_holds_every_guarantee(seed: int, profile: str) -> None:
    outcome = run(plan_of(seed, profile))
    assert outcome.rule is None, told(seed, profile, outcome)


@pytest.mark.parametrize("words", REGRESSIONS, ids=" ".join)
def test_a_seed_that_failed_once_holds(words: list[str]) -> None:
    seed, profile = int(words[0]), words[1] if len(words) > 1 else None
    outcome = run(plan_of(seed, profile))
    assert outcome.rule is None, told(seed, profile, outcome)


def test_what_happens_in_a_few_seeds_is_not_nothing() -> None:
    counts: Counter[str] = Counter()
    for seed in range(2000, 2006):
        outcome = run(plan_of(seed, ("everything", "membership", "volumes")[seed % 3]))
        assert outcome.rule is None, told(seed, None, outcome)
        counts += outcome.counts
    for what in (
        "writes acknowledged", "deletes collected", "entries dropped by repair", "reads with a token", "crashes",
        "fault: rollback", "fault: wipe", "fault: partition", "epochs", "messages late", "messages lost",
        "writes acknowledged by several members", "drained scale-downs",
    ):  # fmt: skip
        assert counts[what] > 0, what


def test_origins_die_and_are_dropped_in_a_few_seeds() -> None:
    counts: Counter[str] = Counter()
    for seed in (1, 4):
        outcome = run(plan_of(seed, "origins"))
        assert outcome.rule is None, told(seed, "origins", outcome)
        counts += outcome.counts
    assert counts["origins dropped"] > 20


def test_a_plan_in_words_is_the_same_plan() -> None:
    for seed in range(20):
        plan = plan_of(seed)
        assert parse(plan.text()) == plan


def test_words_that_are_no_plan_are_told_by_line() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse("members 3\nput m0 k\n")


def test_an_unknown_action_is_told() -> None:
    with pytest.raises(ValueError, match="no such action"):
        run(parse("gossip off\n10 dance m0\n"))


def test_a_seed_gives_the_same_trace_whatever_the_hash_seed() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "12", "--trace"]
    path = os.pathsep.join(sys.path)
    traces = [
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            check=True, capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert traces[0] == traces[1]
    assert b"receives push" in traces[0]


def test_shrinking_keeps_what_fails_and_drops_the_rest() -> None:
    plan = plan_of(3)
    wanted = plan.actions[5], plan.actions[-7]
    short = shrink(plan, "x", lambda candidate: "x" if set(wanted) <= set(candidate.actions) else None)
    assert short.actions == wanted
