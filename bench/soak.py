"""`make soak`: three real members for an hour under honest clients and everybody who means ill, at once.

    python -m bench.soak [--minutes 60] [--kill-minutes 5] [--without NAME,…] [--json build/soak.json]

Honest clients write over HTTP and Redis, read and watch (`soak_honest`); a hostile page and hostile local clients
(`soak_local`) and a hostile peer (`soak_peer`) do what they can; a member is killed every few minutes. Reported: memory
of each member over time, how long honest reads took, writes acknowledged and lost, what the hostile ones were answered.

It ends with 0 if no acknowledged write is lost, nothing of the page was taken, no member ended by itself, memory is
flat (the median of each member's last third is not above that of its first by more than a tenth and 16 MiB), and 99 of
100 reads took no more than 5 ms. Attackers run with a low priority: that they use up the processor is accepted. On a
machine that is busy with other work the last says little all the same; so a server that does nothing (`floor`) is read
beside the members, and with `--busy-floor 0.35` one that is as busy as a member and whose turns are all short.

Where this tree has `wavekv certs`, members run with certificates of their own, and the hostile peer has the key of a
fourth member; else the peer plane is plain and it needs none.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.figures import describe_machine
from bench.soak_parts import Part, Plan, Ports
from tests.integration.member_process import Cluster, MemberProcess, Unmet, eventually, free_ports

HOSTILE = "m3"
HOSTILE_NICE = 10
P99_MS_MAX = 5.0
GROWTH_RATIO_MAX = 1.1
GROWTH_BYTES_MAX = 16 << 20
WARM_SECONDS = 20.0
"""Before this, memory is not looked at: a start and the first full buffers are no growth."""
SAMPLE_SECONDS = 1.0
READ_KEYS = 100


@dataclass
class Samples:
    """Resident bytes of one member over time, through its processes."""

    member: MemberProcess
    taken: list[tuple[float, int]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Processes that ended by themselves."""
    killed: int = 0

    def take(self, seconds: float) -> None:
        """Look once."""
        process = self.member.process
        if process is None:
            return
        if process.poll() is not None:
            self.ended.append(f"{self.member.name} ended with {process.returncode} after {seconds:.0f} s")
            self.member.start()
            return
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                self.taken.append((seconds, 1024 * int(line.split()[1])))

    def thirds(self, seconds: float) -> tuple[int, int, int]:
        """Return the median of the first and the last third, and the greatest of all, without the warm-up."""
        warm = [(at, size) for at, size in self.taken if at >= min(WARM_SECONDS, seconds / 4)]
        third = seconds / 3
        first = [size for at, size in warm if at < third] or [0]
        last = [size for at, size in warm if at >= 2 * third] or [0]
        return int(statistics.median(first)), int(statistics.median(last)), max(size for _, size in self.taken)

    def flat(self, seconds: float) -> bool:
        """Tell whether memory did not grow."""
        first, last, _ = self.thirds(seconds)
        return last <= GROWTH_RATIO_MAX * first + GROWTH_BYTES_MAX


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="wavekv-soak-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        machine = describe_machine(folder)
        cluster = stack.enter_context(Cluster(3, folder))
        hostile, floor, busy = free_ports(3)
        files = secure(cluster, folder, hostile)
        plan = replace(plan_of(cluster, arguments, hostile, files), floor_port=floor)
        if arguments.busy_floor:
            plan = replace(plan, busy_port=busy, busy_share=arguments.busy_floor)
        cluster.start()
        for member in cluster.members[:1]:
            for number in range(READ_KEYS):
                member.put(f"read-{number}", b"x" * 100)
        report = soak(cluster, plan, arguments, stack)
    report["machine"] = machine
    print_report(report)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if report["failed"] else 0)


def plan_of(cluster: Cluster, arguments: argparse.Namespace, port: int, files: dict[str, str]) -> Plan:
    """Return what every part is told."""
    ports = tuple(Ports(m.name, m.http, m.resp, m.peer, m.metrics) for m in cluster.members)
    skipped = tuple(name for name in arguments.without.split(",") if name)
    return Plan(ports, cluster.members[0].cluster_id, arguments.pace, skipped, arguments.seed, files, HOSTILE, port)


def secure(cluster: Cluster, folder: Path, port: int) -> dict[str, str]:
    """Make the hostile member a peer of all, and give each member what secures its peer plane; return its files."""
    files = certificates(cluster, folder)
    scheme = "https" if files else "http"
    for member in cluster.members:
        member.peers = {other.name: other.peer_url for other in cluster.members if other is not member}
        member.peers[HOSTILE] = f"{scheme}://127.0.0.1:{port}"
    return files


def certificates(cluster: Cluster, folder: Path) -> dict[str, str]:
    """Make a certificate for each name, where this version can; return the hostile one's, or nothing."""
    names = [*(member.name for member in cluster.members), HOSTILE]
    made = folder / "certificates"
    command = [sys.executable, "-m", "wavekv", "certs", "--dir", str(made), "--cluster-id", cluster[0].cluster_id]
    command += [part for name in names for part in ("--name", name)] + ["--host", "127.0.0.1"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return {}
    found = {
        name: {"cert": str(made / f"{name}.pem"), "key": str(made / f"{name}.key"), "ca": str(made / "authority.pem")}
        for name in names
    }
    for member in cluster.members:
        member.peer_flags = [part for kind, path in found[member.name].items() for part in (f"--tls-{kind}", path)]
    return found[HOSTILE]


def soak(cluster: Cluster, plan: Plan, arguments: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Run everybody for the time asked, and return what came of it."""
    parts = {
        "floor": Part("bench.soak_honest", plan, "floor"),
        "write": Part("bench.soak_honest", plan, "write", nice=5),
        "read": Part("bench.soak_honest", plan, "read"),
        "client": Part("bench.soak_local", plan, "client", nice=HOSTILE_NICE),
        "page": Part("bench.soak_local", plan, "page", nice=HOSTILE_NICE),
        "peer": Part("bench.soak_peer", plan, nice=HOSTILE_NICE),
    }
    if plan.busy_port:
        parts["busy floor"] = Part("bench.soak_honest", plan, "busy-floor")
    for part in parts.values():
        stack.callback(part.end)
    samples = [Samples(member) for member in cluster.members]
    seconds = arguments.minutes * 60
    watch(samples, seconds, arguments.kill_minutes * 60, random.Random(arguments.seed))
    found = {name: parts[name].ask("stop") for name in ("read", "client", "page", "peer")}
    parts["write"].ask("stop")
    trouble = settle(cluster)
    found["write"] = parts["write"].ask("check", 300)
    return judged(found, samples, seconds, trouble, arguments)


def watch(samples: Sequence[Samples], seconds: float, kill_seconds: float, rng: random.Random) -> None:
    """Look at memory every second, and kill a member now and then, until the time is over."""
    begun = time.monotonic()
    kill_at = kill_seconds or seconds + 1
    while (now := time.monotonic() - begun) < seconds:
        for one in samples:
            one.take(now)
        if now >= kill_at:
            kill_at += kill_seconds
            victim = rng.choice(samples)
            victim.member.kill()
            victim.killed += 1
            victim.member.start()
        if sys.stderr.isatty():
            sizes = " ".join(f"{one.member.name} {one.taken[-1][1] >> 20} MiB" for one in samples if one.taken)
            print(f"\r{now:6.0f} of {seconds:.0f} s  {sizes}  ", end="", file=sys.stderr, flush=True)
        time.sleep(SAMPLE_SECONDS)


def settle(cluster: Cluster) -> list[str]:
    """Wait until the honest members hold the same; return what they lack."""

    held: list[Any] = []

    def same() -> bool:
        held[:] = [member.status()["store"]["live"] for member in cluster.members]
        return all(found == held[0] for found in held)

    try:
        for member in cluster.members:
            member.wait_ready(60)
        eventually(same, 90, "the honest members hold the same number of entries")
    except Unmet as unmet:
        return [f"{unmet}; held {held}"[:2000]]
    return []


def judged(
    found: dict[str, Any], samples: Sequence[Samples], seconds: float, trouble: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the report: what was seen, and what of it fails."""
    reads, writes = found["read"]["all"], found["write"]
    failed = [*trouble, *writes["wrong"], *(f"page: {hole}" for hole in found["page"]["holes"])]
    failed += [ended for one in samples for ended in one.ended]
    memory = {}
    for one in samples:
        first, last, most = one.thirds(seconds)
        memory[one.member.name] = {"first_third": first, "last_third": last, "max": most, "kills": one.killed}
        if not one.flat(seconds):
            failed.append(f"memory of {one.member.name} grew from {first >> 20} to {last >> 20} MiB")
    if reads["reads"] == 0 or reads["p99_ms"] > P99_MS_MAX:
        failed.append(f"99 of 100 honest reads took up to {reads.get('p99_ms')} ms, more than {P99_MS_MAX}")
    if writes["acknowledged"] == 0:
        failed.append("no write was acknowledged")
    return {
        "minutes": arguments.minutes,
        "without": arguments.without,
        "pace_seconds": arguments.pace,
        "reads": found["read"],
        "writes": writes,
        "memory": memory,
        "memory_by_time": {one.member.name: one.taken[:: max(1, len(one.taken) // 600)] for one in samples},
        "refusals": {name: found[name]["counts"] for name in ("client", "page", "peer")},
        "failed": failed,
    }


def print_report(report: dict[str, Any]) -> None:
    """Print the tables."""
    reads, writes = report["reads"], report["writes"]
    print(f"\n{report['minutes']} minutes; {report['machine']}")
    print(f"\n{'reads of':<10}{'number':>10}{'p50 ms':>10}{'p99 ms':>10}{'p99.9 ms':>10}{'max ms':>10}")
    for name, row in reads.items():
        values = "".join(f"{row.get(kind, 0):>10}" for kind in ("reads", "p50_ms", "p99_ms", "p999_ms", "max_ms"))
        print(f"{name:<10}{values}")
    print(f"\n{'memory of':<10}{'first third':>14}{'last third':>14}{'max':>10}{'kills':>8}   (MiB)")
    for name, row in report["memory"].items():
        sizes = f"{row['first_third'] / 2**20:>14.1f}{row['last_third'] / 2**20:>14.1f}{row['max'] / 2**20:>10.1f}"
        print(f"{name:<10}{sizes}{row['kills']:>8}")
    told = ("acknowledged", "lost", "refused", "unanswered", "events", "watches_resumed")
    print("\nwrites: " + ", ".join(f"{name.replace('_', ' ')} {writes[name]}" for name in told))
    for part, counts in report["refusals"].items():
        print(f"\nhostile {part}:")
        for name, count in counts.items():
            print(f"  {name:<44}{count:>9}")
    for line in report["failed"]:
        print(f"FAILED: {line}")
    print("nothing failed" if not report["failed"] else f"{len(report['failed'])} failed")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Three members among enemies.")
    parser.add_argument("--minutes", type=float, default=60, help="how long (60)")
    parser.add_argument("--kill-minutes", type=float, default=5, help="between two kills of a member; 0: none (5)")
    parser.add_argument("--pace", type=float, default=0.25, help="seconds between two attacks of one kind (0.25)")
    parser.add_argument("--without", default="", help="attacks left out, by name, with commas between them")
    parser.add_argument(
        "--busy-floor",
        type=float,
        default=0.0,
        help="read a server, too, that uses this share of a processor",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the report to this file as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
