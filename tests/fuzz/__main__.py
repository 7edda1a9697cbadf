"""`make fuzz`: all targets, or those named, each for so many seconds or executions; a table in the end.

    python -m tests.fuzz [--seconds 60 | --executions N] [--jobs 1] [--json FILE] [TARGET …]

Each target runs in a process of its own under Atheris (https://github.com/google/atheris), from the corpus in
tests/fuzz/corpus; what it finds is kept in build/fuzz/TARGET and gone on from. An input that fails is printed, kept in
build/fuzz/failures, and belongs into tests/fuzz/regressions/TARGET once what it shows is mended. Exit code 1 then.
"""

import argparse
import json
import logging
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz.seeds import CORPUS, REGRESSIONS
from tests.fuzz.targets import TARGETS, Target

BUILD: Final = Path("build") / "fuzz"
RSS_MIB_MAX: Final = 1024
"""Of a whole process: what inputs leave behind counts here."""
INPUT_SECONDS_MAX: Final = 20
MISSING: Final = "make fuzz needs Atheris: .venv/bin/python -m pip install atheris   (make test runs short without it)"
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"\bcov: (\d+)")


class Outcome(NamedTuple):
    """What came of one target."""

    name: str
    executions: int
    seconds: float
    covered: int
    failure: str | None


def fuzz(target: Target, seconds: int, executions: int) -> Outcome:
    """Run one target; return what came of it."""
    found, failures = BUILD / target.name, BUILD / "failures"
    for folder in (found, failures, REGRESSIONS / target.name):
        folder.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}"] if seconds else []
    options += [f"-runs={executions}"] if executions else []
    options += [f"-max_len={target.input_bytes_max}", f"-rss_limit_mb={RSS_MIB_MAX}", f"-timeout={INPUT_SECONDS_MAX}"]
    options += [f"-artifact_prefix={failures}/{target.name}-", "-print_final_stats=1", "-len_control=20"]
    if target.words:
        options.append(f"-dict={_dictionary(target)}")
    folders = [str(found), str(CORPUS / target.name), str(REGRESSIONS / target.name)]
    command = [sys.executable, "-m", "tests.fuzz.engine", target.name, *options, *folders]
    begun = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode(errors="replace")
    executed, covered = _EXECUTED.findall(said), _COVERED.findall(said)
    failure = None if done.returncode == 0 else said[-6000:]
    return Outcome(
        target.name,
        int(executed[-1]) if executed else 0,
        round(time.monotonic() - begun, 1),
        int(covered[-1]) if covered else 0,
        failure,
    )


def _dictionary(target: Target) -> Path:
    """Write the target's words as libFuzzer reads them."""
    path = BUILD / f"{target.name}.dict"
    lines = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in target.words if len(word) <= 64]
    path.write_text("\n".join(lines) + "\n")
    return path


def report(outcomes: list[Outcome]) -> None:
    """Print the table."""
    print(f"{'target':<16}{'executions':>14}{'seconds':>10}{'a second':>11}{'covered':>9}  outcome")
    for one in outcomes:
        rate = one.executions / max(one.seconds, 0.1)
        print(
            f"{one.name:<16}{one.executions:>14,}{one.seconds:>10.1f}{rate:>11,.0f}{one.covered:>9}  "
            f"{'failed' if one.failure else 'held'}"
        )
    print(f"{'together':<16}{sum(one.executions for one in outcomes):>14,}")
    for one in outcomes:
        if one.failure:
            print(f"\n{one.name} failed; the input is in {BUILD / 'failures'}:\n{one.failure}")


def main() -> None:
    """Run what is asked; exit with 1 if an input failed."""
    logging.getLogger("wavekv").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what a stranger may send or store.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all")
    parser.add_argument("--seconds", type=int, default=0, help="for each target (60, unless --executions is given)")
    parser.add_argument("--executions", type=int, default=0, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets that run at once (1)")
    parser.add_argument("--json", type=Path, help="write the outcome to this file as well")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if find_spec("atheris") is None:
        sys.exit(MISSING)
    seconds = arguments.seconds or (0 if arguments.executions else 60)
    chosen = [TARGETS[name] for name in arguments.targets or TARGETS]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes: list[Outcome] = []
        for outcome in pool.map(lambda target: fuzz(target, seconds, arguments.executions), chosen):
            outcomes.append(outcome)  # kept at once: a run of hours may be ended before its time
            print(f"{outcome.name}: {outcome.executions:,} executions", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.parent.mkdir(parents=True, exist_ok=True)
                arguments.json.write_text(json.dumps([one._asdict() for one in outcomes], indent=1) + "\n")
    report(outcomes)
    sys.exit(1 if any(one.failure for one in outcomes) else 0)


if __name__ == "__main__":
    main()
