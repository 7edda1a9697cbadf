"""Figures of replication: how fast a write is elsewhere, how fast a new member catches up, what a quiet cluster costs.

    python -m bench.replication [--only propagation,catchup,idle,bytes] [--rounds 3] [--keys 1000000]

- propagation: 1000 durable puts a second on the first of three members; milliseconds from a put's answer to the event
  of it at a watcher of each other member. One client on unix sockets does both; an event that comes first counts 0.
- catchup: entries a second that a member whose volume was lost takes from one with all keys, from its probe's first
  200, when gossip begins, until it covers and holds everything; and the processor seconds of both.
- idle: share of a core that each of three members with all keys takes, by its own schedstat, with nothing to do.
- bytes: one quiet round, bodies as they travel, of members that know so many origins; and all bytes a second between
  three quiet members, headers and both stores' rounds included, counted in the links.

Directories are written once, and rounds of the measures asked for take turns. Members and client share the cores.
"""

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.engine_data import CLUSTER_ID, NODE_ID, pairs, write_snapshot_directory
from bench.engine_servers import ROOMY, pid_of, processor_seconds
from bench.figures import Figure, describe_machine, report
from tests.integration.links import LinkedCluster
from tests.integration.member_process import ROOT, Cluster, MemberProcess, eventually
from wavekv.config import Limits
from wavekv.core import exchange
from wavekv.core.codec.envelope import pack
from wavekv.core.membership import Membership
from wavekv.core.ops import UpdateLocalAck
from wavekv.core.replica import Identity, Replica
from wavekv.core.store import Store

MEASURES = ("propagation", "catchup", "idle", "bytes")
WRITES_PER_SECOND = 1000
WRITERS = 8
WRITE_SECONDS = 10.0
IDLE_SECONDS = 30.0
QUIET_SECONDS = 10.0
ORIGINS = (3, 10, 100, 1000)
_CAUGHT_UP_SECONDS_MAX = 600.0
_SETTLING_SECONDS = 15.0

Measured = Iterator[tuple[str, str, float]]
"""Name, unit and value."""


def main() -> None:
    arguments = _arguments()
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="wavekv-bench-") as temporary:
        folder = Path(temporary)
        machine = describe_machine(folder)
        if {"catchup", "idle"} & set(arguments.only):
            items = pairs(arguments.keys)
            for index in range(3):
                write_snapshot_directory(folder / f"filled{index}", items, 0, NODE_ID + index)
            del items
        for number in range(arguments.rounds):
            for measure in arguments.only:
                print(f"round {number + 1} of {arguments.rounds}: {measure}", file=sys.stderr)
                place = folder / f"{measure}{number}"
                for name, unit, value in measured(measure, place, folder, arguments.keys):
                    figures.setdefault(name, Figure(name, unit, [])).values.append(value)
                shutil.rmtree(place, ignore_errors=True)
    report(machine, list(figures.values()), arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.replication")
    parser.add_argument("--only", type=_measures, default=MEASURES, help="comma-separated measures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "replication.json", help="where to write values")
    return parser.parse_args()


def _measures(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(MEASURES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: measures are {', '.join(MEASURES)}")
    return names


def measured(measure: str, place: Path, filled: Path, keys: int) -> Measured:
    """Do one round of a measure in the folder `place`."""
    if measure == "propagation":
        return propagation(place)
    if measure == "catchup":
        return catch_up(place, filled, keys)
    return idle(place, filled) if measure == "idle" else quiet_bytes(place)


# ---- propagation ---------------------------------------------------------------------------------------------------


def propagation(place: Path) -> Measured:
    with Cluster(3, place) as cluster:
        cluster.start(60)
        answered, seen = asyncio.run(_write_and_watch(cluster))
    delays = [max(0.0, at - answered[key]) * 1000 for events in seen for key, at in events.items()]
    quantiles = statistics.quantiles(delays, n=100)
    yield "propagation p50", "ms", quantiles[49]
    yield "propagation p99", "ms", quantiles[98]
    yield "writes while measured", "writes/s", len(answered) / WRITE_SECONDS


async def _write_and_watch(cluster: Cluster) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return when each put was answered, and when each other member told of it."""
    answered: dict[str, float] = {}
    seen: list[dict[str, float]] = [{}, {}]
    ready = [asyncio.Event(), asyncio.Event()]
    watchers = [
        asyncio.create_task(_watch(member, events, synced))
        for member, events, synced in zip(cluster.members[1:], seen, ready, strict=True)
    ]
    for synced in ready:
        await asyncio.wait_for(synced.wait(), 30)
    ends = time.perf_counter() + WRITE_SECONDS
    await asyncio.gather(*(_write(cluster[0], number, ends, answered) for number in range(WRITERS)))
    gives_up = time.perf_counter() + 30
    while any(len(events) < len(answered) for events in seen):
        assert time.perf_counter() < gives_up, "every put arrives"
        await asyncio.sleep(0.01)
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    return answered, seen


async def _write(member: MemberProcess, number: int, ends: float, answered: dict[str, float]) -> None:
    """Put one key after the other at this writer's share of the rate; one that is late goes at once."""
    reader, writer = await asyncio.open_unix_connection(str(member.socket))
    interval = WRITERS / WRITES_PER_SECOND
    due = time.perf_counter() + interval * number / WRITERS
    count = 0
    while due < ends:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        key = f"{number}-{count}"
        writer.write(f"PUT /v1/kv/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        answered[key] = time.perf_counter()
        assert head.startswith(b"HTTP/1.1 201"), head
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
        count += 1
        due += interval
    writer.close()


async def _watch(member: MemberProcess, events: dict[str, float], synced: asyncio.Event) -> None:
    reader, writer = await asyncio.open_unix_connection(str(member.socket))
    writer.write(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        while line := await reader.readline():
            if line.startswith(b"event: synced"):
                synced.set()
            elif line.startswith(b'data: {"key"'):
                at = time.perf_counter()
                events[json.loads(line[6:])["key"]] = at
    finally:
        writer.close()


@contextmanager
def filled_cluster(count: int, place: Path, filled: Path) -> Iterator[Cluster]:
    """Start members with all keys, which have healed, and have made in idle turns what a start leaves to them."""
    with Cluster(count, place) as cluster:
        for index, member in enumerate(cluster.members):
            member.cluster_id, member.environment = CLUSTER_ID, ROOMY
            shutil.copytree(filled / f"filled{index}", member.data_dir)
        cluster.start(120)
        cluster.wait_converged(120)
        for member in cluster.members:
            eventually(lambda member=member: not member.status()["healing"], 120, f"{member.name} has healed")  # type: ignore[misc]
        time.sleep(_SETTLING_SECONDS)
        yield cluster


# ---- a new member --------------------------------------------------------------------------------------------------


def catch_up(place: Path, filled: Path, keys: int) -> Measured:
    with filled_cluster(2, place, filled) as cluster:
        full, new = cluster.members
        new.kill()
        shutil.rmtree(new.data_dir)
        new.start().wait_started(60)
        begun = time.perf_counter()
        before = [processor_seconds(pid_of(member)) for member in (full, new)]
        eventually(lambda: _holds(new, keys), _CAUGHT_UP_SECONDS_MAX, "the new member covers everything")
        seconds = time.perf_counter() - begun
        spent = [processor_seconds(pid_of(member)) - was for member, was in zip((full, new), before, strict=True)]
    yield "catch-up of an empty member", "entries/s", keys / seconds
    yield "catch-up, processor of the giver", "s", spent[0]
    yield "catch-up, processor of the taker", "s", spent[1]


def _holds(member: MemberProcess, keys: int) -> bool:
    time.sleep(0.1)  # asking is work for it, too
    status = member.status()
    covers = status["context"]["acks"].get(str(NODE_ID), 0) >= keys
    return covers and not status["healing"] and bool(status["store"]["entries"] == keys)


# ---- nothing to do -------------------------------------------------------------------------------------------------


def idle(place: Path, filled: Path) -> Measured:
    with filled_cluster(3, place, filled) as cluster:
        before = [_run_ns(member) for member in cluster.members]
        begun = time.perf_counter()
        time.sleep(IDLE_SECONDS)
        seconds = time.perf_counter() - begun
        shares = [(_run_ns(member) - was) / 1e9 / seconds for member, was in zip(cluster.members, before, strict=True)]
    yield "idle member", "% of a core", 100 * statistics.median(shares)
    yield "idle member, busiest", "% of a core", 100 * max(shares)


def _run_ns(member: MemberProcess) -> int:
    """Return the nanoseconds that all threads of a member have run."""
    tasks = Path(f"/proc/{pid_of(member)}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def quiet_bytes(place: Path) -> Measured:
    for origins in ORIGINS:
        yield f"quiet round, {origins} origins", "bytes", float(round_bytes(origins))
    with LinkedCluster(3, place, random.Random(1)) as cluster:
        cluster.start(60)
        for member in cluster.members:
            member.put(member.name, b"x")
        cluster.wait_converged()
        before = sum(link.carried_bytes for link in cluster.links.values())
        begun = time.perf_counter()
        time.sleep(QUIET_SECONDS)
        carried = sum(link.carried_bytes for link in cluster.links.values()) - before
    yield "sent by a quiet member of 3", "bytes/s", carried / 3 / (time.perf_counter() - begun)


def round_bytes(origins: int) -> int:
    """Return the bytes of the bodies of a round between two members that cover the same of so many origins."""
    generator = random.Random(origins)
    acks = {generator.getrandbits(32): generator.randrange(1, 1_000_000) for _ in range(origins)}
    asking, asked = (_replica(index, acks) for index in range(2))
    now_ms = time.time_ns() // 1_000_000
    total = 0
    current = exchange.Round(asking, "m1", "m1")
    while not current.done:
        request = current.request(now_ms)
        exchange.receive_request(asked, request, now_ms)
        answer = exchange.answer(asked, request, now_ms)
        current.receive(answer, now_ms)
        total += len(pack(request)) + len(pack(answer))
    return total


class _Numbers(random.Random):
    def random_u32(self) -> int:
        return self.getrandbits(32)


def _replica(index: int, acks: dict[int, int]) -> Replica:
    """Return a member of three, healed, that covers `acks`, with a little of everything in its digest."""
    names = ("m0", "m1", "m2")
    store = Store(Limits().changes_max)
    for origin, ack in acks.items():
        store.apply(UpdateLocalAck(origin, ack))
    store.buckets.sums[:] = [_Numbers(place).getrandbits(64) for place in range(len(store.buckets.sums))]
    identity = Identity(names[index], 1 + index, uuid.UUID(int=index).bytes, 1_760_000_000_000, None)
    membership = Membership(names[index], CLUSTER_ID, None, names)
    replica = Replica(identity, store, membership, Limits(), _Numbers(index))
    replica.end_healing()
    while (group := replica.ready()) is not None:
        replica.advance(group)
    return replica


if __name__ == "__main__":
    main()
