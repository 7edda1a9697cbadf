"""How a write spreads: the members' own gossip, exchange and store at 3 … 1000 members, in virtual time.

Everything that decides is the real code (`runtime.engine`, so `Gossip`, `Link`, `PushQueue`, the committer, `Replica`
and `exchange`). Only the log is memory, the clock is virtual (`bench/virtual_time.py`), and the network is a model: a
latency for each direction, drawn evenly from a range; a share of the requests lost, which the sender notices after
`LOST_SECONDS`; and a processor for each member that takes `CPU_MS` for each message it sends or receives, one after the
other. Bytes are those of the packed messages (`codec.envelope.pack`), without HTTP and TLS.

    python -m bench.dissemination [--members 3 10 100] [--out docs/figures]     prints the tables, writes JSON and SVG
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.svg_plot import Series, plot
from bench.virtual_time import VirtualClock, VirtualLoop, run
from wavekv.config import GossipSettings, Limits, PeerAddress
from wavekv.core.codec.envelope import pack
from wavekv.core.identity import Identity
from wavekv.core.membership import Membership
from wavekv.core.messages import Envelope
from wavekv.core.replica import Replica
from wavekv.core.store import Store
from wavekv.errors import PeerUnreachable
from wavekv.runtime.engine import Engine, MemorySyncing

CPU_MS = 1.0
"""Processor time of one message on one side, as measured for a push (`GossipSettings.push_spacing_ms`)."""
LOST_SECONDS = 1.0
"""After which a lost request is given up; real ones are sent again by TCP, so this is on the safe side."""
STEP_SECONDS = 0.001
WARM_SECONDS = 3.0
QUIET_SECONDS = 2.0
DEADLINE_SECONDS = 30.0
VALUE = b"x" * 100
CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"


@dataclass(frozen=True)
class Network:
    name: str
    latency_ms: tuple[float, float]
    loss: float


NETWORKS = (Network("loopback", (0.5, 0.5), 0.0), Network("cluster", (1.0, 5.0), 0.01))


@dataclass
class Traffic:
    """Messages and bytes of one kind, requests and answers together."""

    messages: int = 0
    size: int = 0


@dataclass
class World:
    """The simulated machines: who listens at which URL, and what went over the network."""

    network: Network
    loop: VirtualLoop
    rng: random.Random
    engines: dict[str, Engine] = field(default_factory=dict)
    busy_until: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, Traffic] = field(default_factory=lambda: {"push": Traffic(), "exchange": Traffic()})

    async def work(self, url: str) -> None:
        """Take a member's processor for one message."""
        now = self.loop.time()
        self.busy_until[url] = max(now, self.busy_until.get(url, 0.0)) + CPU_MS / 1000
        await asyncio.sleep(self.busy_until[url] - now)

    async def fly(self) -> None:
        await asyncio.sleep(self.rng.uniform(*self.network.latency_ms) / 1000)

    def count(self, kind: str, message: Envelope) -> None:
        traffic = self.traffic[kind]
        traffic.messages += 1
        traffic.size += len(pack(message))

    def reset(self) -> None:
        self.traffic = {"push": Traffic(), "exchange": Traffic()}


class SimulatedTransport:
    """Implements `ports.Transport` between the members of a world."""

    def __init__(self, world: World, own: str) -> None:
        self._world = world
        self._own = own

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        answer = await self._ask("exchange", url, request)
        assert answer is not None
        return answer

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        return await self._ask("push", url, message)

    async def _ask(self, kind: str, url: str, message: Envelope) -> Envelope | None:
        world = self._world
        world.count(kind, message)
        await world.work(self._own)
        await self._cross(url)
        await world.work(url)
        engine = world.engines[url]
        answer = await (engine.receive_request(message) if kind == "exchange" else engine.receive_push(message))
        if answer is not None:
            world.count(kind, answer)
        await self._cross(url)
        return answer

    async def _cross(self, url: str) -> None:
        if self._world.rng.random() < self._world.network.loss:
            await asyncio.sleep(LOST_SECONDS)
            raise PeerUnreachable(f"{url}: lost")
        await self._world.fly()

    async def close(self) -> None: ...


class Unobserved:
    """Implements `ports.Observer`, for nobody."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def random_u32(self) -> int:
        return self._random.getrandbits(32)


async def _nothing() -> None: ...


def url_of(name: str) -> str:
    return f"http://{name}"


def build(world: World, count: int, settings: GossipSettings, seed: int) -> list[Engine]:
    """Make `count` members that know each other; none talks yet."""
    names = tuple(f"m{index}" for index in range(count))
    peers = tuple(PeerAddress(name, url_of(name)) for name in names)
    limits, clock = Limits(), VirtualClock(world.loop)
    engines = []
    for index, name in enumerate(names):
        identity = Identity(name, index + 1, uuid.UUID(int=index + 1).bytes, 1_700_000_000_000, index + 1)
        membership = Membership(name, CLUSTER, None, names)
        replica = Replica(identity, Store(limits.changes_max), membership, limits, Seeded(seed + index))
        replica.writable = None
        engine = Engine(
            replica, MemorySyncing(), SimulatedTransport(world, url_of(name)), clock=clock, observer=Unobserved(),
            limits=limits, settings=settings, rng=random.Random(seed * 7919 + index), on_round=lambda _: None,
            keep_epoch=_nothing, on_superseded=lambda: None, status=dict,
        )  # fmt: skip
        engine.gossip.connect(peers)
        world.engines[url_of(name)] = engine
        engines.append(engine)
    return engines


async def spread(world: World, engines: Sequence[Engine], writer: Engine, key: str) -> list[float]:
    """Write once; return for each member the ms until it held the write, infinite if not before the deadline."""
    loop = world.loop
    await writer.values.put(key, VALUE)
    began = loop.time()
    lacking = list(engines)
    times: list[float] = []
    while lacking and loop.time() - began < DEADLINE_SECONDS:
        lacking = [engine for engine in lacking if key not in engine.replica.store.packed]
        times += [1000 * (loop.time() - began)] * (len(engines) - len(lacking) - len(times))
        await asyncio.sleep(STEP_SECONDS)
    return times + [float("inf")] * len(lacking)


def share(times: Sequence[float], percent: float) -> float:
    """Return when `percent` of the members held the write."""
    needed = max(1, -(-len(times) * percent // 100))
    return sorted(times)[int(needed) - 1]


async def simulate(
    loop: VirtualLoop, *, count: int, network: Network, settings: GossipSettings, writes: int, seed: int
) -> dict[str, Any]:
    """Run one cluster; return times and costs, medians over the writes, but the worst for the last member."""
    world = World(network, loop, random.Random(seed))
    engines = build(world, count, settings, seed)
    for engine in engines:
        await engine.start()
        loop.call_later(world.rng.uniform(0, 1), engine.gossip.start)
    await asyncio.sleep(WARM_SECONDS)
    world.reset()
    await asyncio.sleep(QUIET_SECONDS)
    quiet = world.traffic["exchange"]
    curves, pushes = [], []
    for number in range(writes):
        world.reset()
        curves.append(await spread(world, engines, world.rng.choice(engines), f"key-{number}"))
        await asyncio.sleep(0.5)
        pushes.append(world.traffic["push"])
    for engine in engines:
        await engine.gossip.stop()
    return {
        "members": count,
        "network": network.name,
        "push_direct_max": settings.push_direct_max,
        "push_fanout": settings.push_fanout,
        "fanout": settings.fanout,
        "interval_ms": settings.interval_ms,
        "ms_50": statistics.median(share(curve, 50) for curve in curves),
        "ms_99": statistics.median(share(curve, 99) for curve in curves),
        "ms_100": statistics.median(share(curve, 100) for curve in curves),
        "ms_100_worst": max(share(curve, 100) for curve in curves),
        "push_messages_per_member": statistics.mean(push.messages for push in pushes) / count,
        "push_bytes_per_member": statistics.mean(push.size for push in pushes) / count,
        "quiet_bytes_per_second": quiet.size / count / QUIET_SECONDS,
        "quiet_messages_per_second": quiet.messages / count / QUIET_SECONDS,
        "curve": [round(ms, 2) for ms in sorted(curves[0])],
    }


# ---- which clusters ------------------------------------------------------------------------------------------------


def variants(count: int) -> Iterable[GossipSettings]:
    """Return the settings compared for a cluster of `count`."""
    if count <= 100:
        yield GossipSettings(push_direct_max=count)
    if count < 10:
        return
    fanouts = (3, 4, 5, 6, 8) if count <= 300 else (5, 4, 6)  # what is larger takes minutes each
    for push_fanout in fanouts:
        yield GossipSettings(push_direct_max=0, push_fanout=push_fanout)
    if count >= 100:
        for fanout in (1, 2) if count <= 300 else (1,):
            yield GossipSettings(push_direct_max=0, push_fanout=5, fanout=fanout)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    head = (
        "| members | network | push | exchanges a second | 50 % | 99 % | all | all, worst | pushes | push bytes |"
        " quiet bytes/s |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {row['members']} | {row['network']} | {push_of(row)} | {row['fanout']} | {row['ms_50']:.0f} ms "
        f"| {row['ms_99']:.0f} ms | {row['ms_100']:.0f} ms | {row['ms_100_worst']:.0f} ms "
        f"| {row['push_messages_per_member']:.1f} | {row['push_bytes_per_member']:.0f} "
        f"| {row['quiet_bytes_per_second']:.0f} |"
        for row in rows
    ]
    return head + "\n".join(lines)


def push_of(row: dict[str, Any]) -> str:
    """Return how a row's writes were pushed, in a word."""
    return "direct" if row["members"] - 1 <= row["push_direct_max"] else f"relayed to {row['push_fanout']}"


def figures(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Draw each cluster size: the share of members that hold a write, by time."""
    for count in sorted({row["members"] for row in rows}):
        chosen = [row for row in rows if row["members"] == count and row["network"] == "cluster" and row["fanout"] == 3]
        series = [
            Series(push_of(row), [(ms, 100 * (at + 1) / count) for at, ms in enumerate(row["curve"]) if ms < 1e9])
            for row in chosen
        ]
        text = plot(series, f"A write in {count} members", "ms after it was durable", "% of the members hold it")
        (out / f"dissemination-{count}.svg").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--members", type=int, nargs="+", default=[3, 10, 32, 100, 300, 1000])
    parser.add_argument("--writes", type=int, default=9, help="writes in each cluster up to 100; larger ones get 3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for dissemination.json and the figures")
    given = parser.parse_args()
    rows = []
    for count in given.members:
        for network in NETWORKS if count <= 100 else NETWORKS[1:]:
            for settings in variants(count):
                began = time.monotonic()
                writes = given.writes if count <= 100 else 3
                simulated = partial(
                    simulate, count=count, network=network, settings=settings, writes=writes, seed=given.seed
                )
                rows.append(run(simulated))
                print(f"{table(rows[-1:]).splitlines()[-1]}  ({time.monotonic() - began:.0f} s)", file=sys.stderr)
                if given.out:
                    save(rows, given.out)
    print(table(rows))


def save(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write what is known so far: the largest clusters take minutes."""
    out.mkdir(parents=True, exist_ok=True)
    lean = [{name: value for name, value in row.items() if name != "curve"} for row in rows]
    (out / "dissemination.json").write_text(json.dumps(lean, indent=1) + "\n")
    figures(rows, out)


if __name__ == "__main__":
    main()
