"""The figures of `make bench-engine`: what the disk engine costs beside redis-server, on this machine.

    python -m bench.engine [--rounds 5] [--keys 1000000] [--only start,replay,…] [--json build/engine.json]

Measured in each round, interleaved: start to serving from a snapshot and a short log against an RDB of the same keys;
replay of a log of plain records against an append-only file of the same; memory a key after a start and after being
filled by MSET; the longest answer of a GET asked every millisecond, and durable SETs a second, while all keys are
compacted and while they are not. Once: memory over millions of overwrites. Only ratios inside a round mean anything,
so each is taken within its round before the median is. A *stall* is a GET's time less what client and loop waited for
a processor, which on a shared machine is others' doing.
"""

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.engine_data import (
    Pair,
    cached,
    command,
    pairs,
    write_aof_directory,
    write_log_directory,
    write_snapshot_directory,
)
from bench.engine_live import measure_live
from bench.engine_servers import (
    AOF_OPTIONS,
    Connection,
    Cost,
    RedisProcess,
    get_request,
    member_on,
    missing_tools,
    pid_of,
    resident_bytes,
    started,
)
from bench.figures import describe_machine
from tests.integration.member_process import ROOT

LOG_RECORDS = 10_000
MEMORY_ROUNDS_MAX = 2
"""Memory hardly varies, and filling a member takes a minute."""
PARTS = ("start", "replay", "memory", "live", "leak")
_SETTLED_SECONDS = 6.0
"""After a start, before memory is read."""
Measured = Iterator[tuple[str, str, float]]


class Source(NamedTuple):
    """What every round starts from."""

    folder: Path
    items: list[Pair]

    def path(self, name: str) -> Path:
        return self.folder / name


def main() -> None:
    arguments = _arguments()
    missing = missing_tools()
    if missing:
        sys.exit(f"bench.engine needs {' and '.join(missing)}; install redis-server and redis-tools (Debian's names)")
    compileall.compile_dir(ROOT / "sidecar", quiet=1)  # as installing does, whatever PYTHONDONTWRITEBYTECODE says
    values: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="wavekv-bench-", dir=arguments.dir) as temporary:
        machine = describe_machine(Path(temporary)) | {"load": os.getloadavg()[0]}
        source = prepare(Path(temporary), arguments.keys, arguments.only)
        for number in range(arguments.rounds):
            for part, measure in ROUND.items():
                if part in arguments.only:
                    begun = time.perf_counter()
                    for name, unit, value in measure(source, number):
                        values.setdefault(name, []).append(value)
                        units[name] = unit
                    seconds = time.perf_counter() - begun
                    print(f"round {number + 1} of {arguments.rounds}: {part}, {seconds:.0f} s", file=sys.stderr)
        if "leak" in arguments.only:
            for name, unit, value in leak(arguments.overwrites):
                values[name], units[name] = [value], unit
    machine["load after"] = os.getloadavg()[0]
    report(machine, values, units, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--overwrites", type=int, default=10_000_000, help="of the check for leaks")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--dir", type=Path, help="where the data lies; a local disk")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "engine.json", help="where to write the values")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.only) - set(PARTS))
    if unknown:
        parser.error(f"--only knows {','.join(PARTS)}, not {','.join(unknown)}")
    return arguments


def prepare(folder: Path, keys: int, only: Sequence[str]) -> Source:
    """Write the directories, and warm what is read in every round."""
    items = pairs(keys)
    source = Source(folder, items)
    write_snapshot_directory(source.path("snapshot"), items, min(LOG_RECORDS, keys))
    write_aof_directory(source.path("aof-random"), items)
    with RedisProcess(source.path("aof-random"), AOF_OPTIONS) as redis:
        redis.started()
        connection = Connection(redis.port)
        if connection.ask(command(b"SAVE")) != b"+OK\r\n":
            raise RuntimeError("redis-server could not SAVE")
        connection.close()
    source.path("rdb").mkdir()
    (source.path("aof-random") / "dump.rdb").rename(source.path("rdb") / "dump.rdb")
    if "replay" in only:
        ordered = pairs(keys, ordered=True)
        write_log_directory(source.path("log-random"), items)
        write_log_directory(source.path("log-ordered"), ordered)
        write_aof_directory(source.path("aof-ordered"), ordered)
    cached(folder)
    with member_on(source.path("snapshot")) as member:
        member.wait_started(120)
    return source


# ---- measures of a round -------------------------------------------------------------------------------------------


def measure_start(source: Source, number: int) -> Measured:
    """Start to the first answered GET, and to the first PONG; the two take turns at being first."""
    costs: dict[str, Cost] = {}
    for name in ("member", "redis") if number % 2 else ("redis", "member"):
        if name == "redis":
            with RedisProcess(source.path("rdb")) as redis:
                costs[name] = redis.started()
                redis.require_keys(len(source.items))
            continue
        key = source.items[0][0]
        with member_on(source.path("snapshot")) as member:
            costs[name] = started(pid_of(member), member.http, get_request(key), b"HTTP/1.1 200")
    yield from _compared("start to serving", costs["member"], costs["redis"])


def _compared(name: str, member: Cost, redis: Cost) -> Measured:
    yield f"{name}, member", "s", member.wall
    yield f"{name}, redis", "s", redis.wall
    yield f"{name}, ratio", "x", member.wall / redis.wall
    yield f"{name}, member, processor", "s", member.processor
    yield f"{name}, redis, processor", "s", redis.processor
    yield f"{name}, ratio, processor", "x", member.processor / redis.processor


def measure_replay(source: Source, _: int) -> Measured:
    """Recovery of a log alone, against what redis-server says it took to load the same from an append-only file."""
    for order in ("random", "ordered"):
        with RedisProcess(source.path(f"aof-{order}"), AOF_OPTIONS) as redis:
            cost = redis.started()
            aof = redis.aof_seconds()
        replayed = run_part("replay", source.path(f"log-{order}"))
        name = f"replay, {order} keys"
        yield f"{name}, member", "M records/s", replayed["records"] / replayed["wall_seconds"] / 1e6
        yield f"{name}, redis", "M records/s", len(source.items) / aof / 1e6
        yield f"{name}, ratio", "x", replayed["records"] / len(source.items) * aof / replayed["wall_seconds"]
        yield f"{name}, reading the log alone", "M records/s", replayed["records"] / replayed["recovery_seconds"] / 1e6
        yield f"{name}, member, processor", "s", replayed["processor_seconds"]
        yield f"{name}, redis, processor", "s", cost.processor


def measure_memory(source: Source, number: int) -> Measured:
    """Resident bytes a key, over those of an empty server."""
    if number >= MEMORY_ROUNDS_MAX:
        return
    keys, folder = len(source.items), source.path(f"memory-{number}")
    with RedisProcess(folder / "redis") as redis:
        redis.started()
        empty = redis.used_memory_rss()
        connection = Connection(redis.port)
        connection.fill(source.items)
        redis_filled = (redis.used_memory_rss() - empty) / keys
        connection.close()
    with RedisProcess(source.path("rdb")) as redis:
        redis.started()
        redis_loaded = (redis.used_memory_rss() - empty) / keys
    with member_on(folder / "member") as member:
        member.wait_ready(60)
        time.sleep(1)
        empty = resident_bytes(pid_of(member))
        connection = Connection(member.resp)
        connection.fill(source.items)
        member_filled = (resident_bytes(pid_of(member)) - empty) / keys
        connection.close()
    with member_on(source.path("snapshot")) as member:
        member.wait_ready(60)
        time.sleep(_SETTLED_SECONDS)
        member_loaded = (resident_bytes(pid_of(member)) - empty) / keys
    for name, ours, theirs in (
        ("after a start", member_loaded, redis_loaded),
        ("after MSETs", member_filled, redis_filled),
    ):
        yield f"memory a key {name}, member", "bytes", ours
        yield f"memory a key {name}, redis", "bytes", theirs
        yield f"memory a key {name}, ratio", "x", ours / theirs


def measure_compaction(source: Source, number: int) -> Measured:
    """Stalls and writes while all keys are compacted."""
    live = measure_live(source.path("snapshot"), source.path(f"live-{number}"), source.items[0][0])
    yield "compaction", "s", live.compaction_seconds
    for name, at in (("longest GET", 0), ("GET p99.9", 1), ("longest stall", 2), ("stall p99.9", 3)):
        idle, busy = live.idle[at], live.compacting[at]
        yield f"{name}, idle", "ms", idle
        yield f"{name}, compacting", "ms", busy
        yield f"{name}, excess", "ms", max(0.0, busy - idle)
    yield "SETs, not compacting", "writes/s", live.writes_without
    yield "SETs, compacting", "writes/s", live.writes_compacting
    yield "SETs, ratio", "x", live.writes_compacting / live.writes_without


ROUND: dict[str, Callable[[Source, int], Measured]] = {
    "start": measure_start,
    "replay": measure_replay,
    "memory": measure_memory,
    "live": measure_compaction,
}


def leak(overwrites: int) -> Measured:
    """Resident memory over many overwrites of few keys."""
    found = run_part("leak", overwrites)
    warm, half, end = found["resident_bytes"]
    yield "overwrites, resident before", "MiB", warm / 2**20
    yield "overwrites, growth in the first half", "MiB", (half - warm) / 2**20
    yield "overwrites, growth in the second half", "MiB", (end - half) / 2**20
    yield "overwrites, processor time each", "us", found["processor_seconds"] / found["overwrites"] * 1e6


def run_part(*arguments: object) -> dict[str, Any]:
    """Run a part of `bench.engine_parts`; return what it printed."""
    line = [sys.executable, "-m", "bench.engine_parts", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'sidecar'}"}
    done = subprocess.run(line, env=environment, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def report(machine: dict[str, Any], values: dict[str, list[float]], units: dict[str, str], path: Path) -> None:
    """Write the values as JSON and print the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = {name: {"unit": units[name], "values": found} for name, found in values.items()}
    path.write_text(json.dumps({"machine": machine, "figures": measured}, indent=1) + "\n")
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'measure':48} {'median':>10} {'minimum':>10} {'maximum':>10}")
    for name, found in values.items():
        numbers = (statistics.median(found), min(found), max(found))
        print(f"{name:48} " + " ".join(f"{number:10.4g}" for number in numbers) + f" {units[name]}")


if __name__ == "__main__":
    main()
