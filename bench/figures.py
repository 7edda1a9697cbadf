"""The figures of `make bench`: three real members on this machine, started fresh for every round.

    python -m bench.figures [--rounds 5] [--entries 20000] [--json build/figures.json]

Measured in each round, interleaved so that a noisy minute hits all of them: start to serving of an empty directory and
of one with `--stored` entries, memory of an idle member, import over HTTP with 16 connections (a generated list and the
public suffix list, its own start not counted), and propagation from a write's answer on one member to a read on the
others. Reported are the median, minimum and maximum of the rounds. Client and members share the cores, so figures of
two machines do not compare; two versions on one machine do. The alternative, a load generator alone against one warm
member, shows higher numbers than any cluster reaches.
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources, util
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.member_process import ROOT, Cluster, MemberProcess, free_ports

MEMBERS = 3
CONNECTIONS = 16
WRITES_PROPAGATED = 200
"""Writes whose propagation one round times."""


class Figure(NamedTuple):
    """One measure: its values by round, and how to print them."""

    name: str
    unit: str
    values: list[float]


def main() -> None:
    arguments = _arguments()
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="wavekv-bench-") as temporary:
        folder = Path(temporary)
        machine = describe_machine(folder)
        generated = write_list(folder / "generated.txt", arguments.entries)
        stored = store_entries(folder / "stored", write_list(folder / "stored.txt", arguments.stored))
        inputs = {"generated list": generated, **suffix_list()}
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
            for name, unit, value in measure_round(folder / f"round{number}", stored, inputs):
                figures.setdefault(name, Figure(name, unit, [])).values.append(value)
    report(machine, list(figures.values()), arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.figures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=20_000, help="lines of the generated list")
    parser.add_argument("--stored", type=int, default=100_000, help="entries of the directory a member starts with")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "figures.json", help="where to write the values")
    return parser.parse_args()


# ---- inputs --------------------------------------------------------------------------------------------------------


def write_list(path: Path, lines: int) -> Path:
    """Write `lines` different keys, as long as host names are."""
    path.write_text("".join(f"service-{number:07}.example.internal\n" for number in range(lines)))
    return path


def suffix_list() -> dict[str, Path]:
    """Return the public suffix list's file if its package is installed."""
    if util.find_spec("publicsuffixlist") is None:
        return {}
    path = Path(str(resources.files("publicsuffixlist") / "public_suffix_list.dat"))
    return {"public suffix list": path} if path.exists() else {}


def store_entries(data_dir: Path, lines: Path) -> Path:
    """Fill a directory that members are started with, and return it."""
    member = lone_member(data_dir)
    try:
        member.start().wait_ready(60)
        run_import(member, lines, data_dir.with_suffix(".state"))
        member.terminate(60)
    finally:
        member.kill()
    return data_dir


def lone_member(data_dir: Path) -> MemberProcess:
    http_port, resp, peer, metrics = free_ports(4)
    return MemberProcess(data_dir, "m0", http=http_port, resp=resp, peer=peer, metrics=metrics)


# ---- measures ------------------------------------------------------------------------------------------------------


def measure_round(folder: Path, stored: Path, inputs: dict[str, Path]) -> Iterator[tuple[str, str, float]]:
    """Yield name, unit and value of every measure; the folder is gone afterwards."""
    folder.mkdir()
    yield "start, empty directory", "s", start_seconds(folder / "empty")
    shutil.copytree(stored, folder / "full", ignore=shutil.ignore_patterns("*.sock"))
    yield "start, stored entries", "s", start_seconds(folder / "full")
    with Cluster(MEMBERS, folder / "cluster") as cluster:
        cluster.start(60)
        time.sleep(2)  # let start-up allocations and first exchanges settle before memory is read
        yield "memory of an idle member", "MiB", statistics.median(map(resident_mib, cluster.members))
        p50, p99 = propagation_ms(cluster)
        yield "propagation p50, polled", "ms", p50
        yield "propagation p99, polled", "ms", p99
        yield "propagation p50, metrics", "ms", scraped_quantile_ms(cluster[0], 0.5)
        yield "propagation p99, metrics", "ms", scraped_quantile_ms(cluster[0], 0.99)
        for name, path in inputs.items():
            records, seconds = run_import(cluster[0], path, folder / f"{path.stem}.state")
            yield f"import, {name}", "records/s", records / seconds
    shutil.rmtree(folder)


def start_seconds(data_dir: Path) -> float:
    """Return seconds from exec to the first 200 of /startupz."""
    member = lone_member(data_dir)
    try:
        begun = time.perf_counter()
        member.start().wait_started(120)
        return time.perf_counter() - begun
    finally:
        member.kill()


def run_import(member: MemberProcess, path: Path, state: Path) -> tuple[int, float]:
    """Import a list of lines with `wavekv import`; return how many records it put, and its seconds once started."""
    command = [sys.executable, "-m", "wavekv", "import", str(path), "--format", "lines", "--json", "--url", member.url]
    command += ["--connections", str(CONNECTIONS), "--state", str(state)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "sidecar")}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    summary = json.loads(done.stdout)
    return summary["imported"], summary["seconds"]


def resident_mib(member: MemberProcess) -> float:
    assert member.process is not None
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kib) / 1024


def propagation_ms(cluster: Cluster) -> tuple[float, float]:
    """Return p50 and p99 of the time from a write's answer on member 0 to the read of it on each other member."""
    with keep_alive(cluster[0]) as writer, keep_alive(cluster[1]) as second, keep_alive(cluster[2]) as third:
        delays: list[float] = []
        for number in range(WRITES_PROPAGATED):
            path = f"/v1/kv/bench/propagation/{number}"
            ask(writer, "PUT", path, b"x")
            begun = time.perf_counter()
            waiting = [second, third]
            while waiting:
                for reader in tuple(waiting):
                    if ask(reader, "GET", path) == 200:
                        delays.append((time.perf_counter() - begun) * 1000)
                        waiting.remove(reader)
                if time.perf_counter() - begun > 30:
                    raise TimeoutError(f"write {number} did not arrive within 30 s")
    quantiles = statistics.quantiles(delays, n=100)
    return quantiles[49], quantiles[98]


@contextmanager
def keep_alive(member: MemberProcess) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", member.http, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> int:
    connection.request(method, path, body)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def scraped_quantile_ms(member: MemberProcess, quantile: float) -> float:
    """Return the upper bound of the bucket of wavekv_propagation_seconds that holds the quantile; nan without any."""
    lines = [line for line in member.scrape().splitlines() if line.startswith("wavekv_propagation_seconds_bucket")]
    buckets = [(float(line.split('le="')[1].split('"')[0]), float(line.split()[-1])) for line in lines]
    if not buckets or buckets[-1][1] == 0:
        return float("nan")
    return next(bound for bound, count in buckets if count >= quantile * buckets[-1][1]) * 1000


# ---- report --------------------------------------------------------------------------------------------------------


def describe_machine(folder: Path) -> dict[str, Any]:
    """Return what the figures depend on, the time of one small synced write into `folder` among it."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "model": models[0] if models else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "fdatasync_us": round(fdatasync_us(folder)),
    }


def fdatasync_us(folder: Path, rounds: int = 200) -> float:
    """Return the median microseconds of writing and syncing 4 KiB over blocks that exist."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        file.write(bytes(4096))
        os.fsync(file.fileno())
        for _ in range(rounds):
            begun = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times)


def report(machine: dict[str, Any], figures: list[Figure], path: Path) -> None:
    """Write the values as JSON and print the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = {figure.name: {"unit": figure.unit, "values": figure.values} for figure in figures}
    path.write_text(json.dumps({"machine": machine, "figures": measured}, indent=1) + "\n")
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'measure':28} {'median':>10} {'minimum':>10} {'maximum':>10}")
    for name, unit, values in figures:
        numbers = (statistics.median(values), min(values), max(values))
        print(f"{name:28} " + " ".join(f"{number:10.4g}" for number in numbers) + f" {unit}")


if __name__ == "__main__":
    main()
