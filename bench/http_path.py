"""What the shorter way through the HTTP plane gains: processor time of a durable PUT with and without it.

    python -m bench.http_path [--rounds 5] [--entries 20000]

Each round starts one fresh member with it and one without, imports the same list over 16 connections into both, and
reads what the member's threads ran from the scheduler. Only the ratio and the time a request count: client and member
share the cores.
"""

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wavekv.cli.process
from tests.integration.member_process import ROOT, Cluster, MemberProcess
from wavekv.__main__ import run
from wavekv.http_api import HttpApi

WAYS = ("fast", "plain")


class Member(MemberProcess):
    """A member whose HTTP plane takes one of the two ways."""

    way = "fast"

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, "-m", "bench.http_path", "--serve", self.way, *arguments]


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        wavekv.cli.process.HttpApi = functools.partial(HttpApi, fast=sys.argv[2] == "fast")  # type: ignore[misc,assignment]
        sys.exit(run(sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=20_000)
    arguments = parser.parse_args()
    results: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="wavekv-bench-") as folder:
        source = Path(folder) / "list.txt"
        source.write_text("".join(f"key-{number:07}\n" for number in range(arguments.entries)))
        for number in range(arguments.rounds):
            for way in WAYS:
                results[way].append(measure(Path(folder) / f"{way}{number}", way, source, arguments.entries))
    report(results)


def measure(folder: Path, way: str, source: Path, entries: int) -> tuple[float, float]:
    """Return microseconds of processor time a PUT, and PUTs a second."""
    with Cluster(1, folder) as cluster:
        member = Member(**{name: getattr(cluster[0], name) for name in MemberProcess.__dataclass_fields__})
        member.way = way
        member.environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'sidecar'}"}
        cluster.members[0] = member
        cluster.start()
        assert member.process is not None
        before, started = processor_seconds(member.process.pid), time.monotonic()
        command = [sys.executable, "-m", "wavekv", "import", str(source), "--url", member.url, "--format", "lines"]
        state = ["--state", str(folder / "state")]
        subprocess.run([*command, *state], check=True, capture_output=True)
        elapsed = time.monotonic() - started
        return (processor_seconds(member.process.pid) - before) / entries * 1e6, entries / elapsed


def processor_seconds(pid: int) -> float:
    """Return what all threads of a process have run, by the scheduler's own account."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def report(results: dict[str, list[tuple[float, float]]]) -> None:
    for way, values in results.items():
        times, rates = zip(*values, strict=True)
        print(f"{way:6} {statistics.median(times):6.0f} µs a PUT ({min(times):.0f}–{max(times):.0f}), ", end="")
        print(f"{statistics.median(rates):6.0f} PUT/s ({min(rates):.0f}–{max(rates):.0f})")
    ratios = [fast[0] / plain[0] for fast, plain in zip(results["fast"], results["plain"], strict=True)]
    print(f"processor time, fast / plain: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


if __name__ == "__main__":
    main()
