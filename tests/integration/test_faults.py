"""Clusters of processes under load while members are killed and stopped and links fail: what holds when that is over.

Every fault is drawn from a seed, which a failing run names with the command that draws them again; what the processes
make of it differs from run to run. `WAVEKV_FAULT_SECONDS` lets the faults go on for longer.
"""

import json
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.links import Link, LinkedCluster, Mode
from tests.integration.load import Tally, Writer, listing, wait_settled
from tests.integration.member_process import Cluster, MemberProcess, eventually
from tests.integration.sse import Watcher

FAULT_SECONDS = float(os.environ.get("WAVEKV_FAULT_SECONDS", "5"))
SEED = os.environ.get("WAVEKV_FAULT_SEED")
HOLD_SECONDS = (0.2, 1.2)
SETTLE_SECONDS = 40
KEYS = 80
"""Of each writer."""

End = Callable[[], object]
"""Ends a fault."""


class Faults:
    """Draws faults and has a few of them at once, one to a member."""

    def __init__(self, cluster: LinkedCluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self.met: Counter[str] = Counter()

    def go_on(self, seconds: float) -> None:
        """Let faults come and go for so long; none is left."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            victims = self._rng.sample(self._cluster.members, self._rng.randint(1, len(self._cluster.members) // 2))
            begun = [self._begin(victim) for victim in victims]
            time.sleep(self._rng.uniform(*HOLD_SECONDS))
            for end in begun:
                end()

    def _begin(self, victim: MemberProcess) -> End:
        kind = self._rng.choice(("kill", "stop", "link", "pair", "isolate"))
        mode = self._rng.choice((Mode.RESET, Mode.STALLED, Mode.MUTE, Mode.SLOW))
        self.met[kind if kind in {"kill", "stop"} else f"{kind} {mode.value}"] += 1
        if kind == "kill":
            victim.kill()
            return victim.start
        if kind == "stop":
            victim.pause()
            return victim.resume
        return self._disturb(self._links(kind, victim), mode)

    def _links(self, kind: str, victim: MemberProcess) -> list[Link]:
        if kind == "isolate":
            return self._cluster.around(victim)
        other = self._rng.choice([member for member in self._cluster.members if member is not victim])
        if kind == "pair":
            return self._cluster.between(victim, other)
        return [self._cluster.links[victim.name, other.name]]

    def _disturb(self, links: list[Link], mode: Mode) -> End:
        self._cluster.turn(links, mode)
        return lambda: self._cluster.turn(links, Mode.OPEN)


@pytest.fixture(scope="module")
def idle() -> Iterator[list[LinkedCluster]]:
    """Clusters that wait for their next test."""
    clusters: list[LinkedCluster] = []
    yield clusters
    for cluster in clusters:
        cluster.close()


@contextmanager
def three_linked(idle: list[LinkedCluster], folder: Path) -> Iterator[LinkedCluster]:
    """Give three members that hold nothing: an idle cluster, or a new one in `folder`.

    It is idle again only after a test that went well and left all links open; that test has to delete what it wrote.
    """
    cluster = idle.pop() if idle else LinkedCluster(3, folder, random.Random(1))
    with ExitStack() as stack:
        stack.callback(cluster.close)
        cluster.start()
        wait_settled(cluster.members, SETTLE_SECONDS)
        assert listing(cluster[0]) == {}
        yield cluster
        stack.pop_all()
    idle.append(cluster)


@contextmanager
def seeded() -> Iterator[random.Random]:
    """Give randomness from a seed that a failure names."""
    seed = SEED or str(random.SystemRandom().randrange(10**6))
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"the same faults again: WAVEKV_FAULT_SEED={seed} pytest tests/integration/test_faults.py")
        raise


def check_contents(cluster: Cluster, writers: list[Writer]) -> None:
    """Every member holds the same, and each key what its writer was answered or left in doubt."""
    asked_ms = time.time() * 1000
    held = [listing(member) for member in cluster.members]
    answered_ms = time.time() * 1000
    for other in held[1:]:
        assert other == held[0]
    keys = {name: key for writer in writers for name, key in writer.keys.items()}
    assert held[0].keys() <= keys.keys()
    wrong = {name: key.complaint(held[0].get(name), asked_ms, answered_ms) for name, key in keys.items()}
    assert {name: complaint for name, complaint in wrong.items() if complaint} == {}


def sum_of(writers: list[Writer]) -> Tally:
    """Return what all writers met."""
    return Tally(*(sum(getattr(writer.tally, field.name) for writer in writers) for field in fields(Tally)))


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.usefixtures("away")  # its ten seconds begin here
def test_a_cluster_under_load_outlives_its_faults(count: int, tmp_path: Path) -> None:
    with seeded() as rng, LinkedCluster(count, tmp_path, random.Random(rng.random())) as cluster:
        cluster.start()
        writers = [Writer(f"w{n}", cluster.members, KEYS, random.Random(rng.random())) for n in range(4)]
        for writer in writers:
            writer.start()
        faults = Faults(cluster, rng)
        faults.go_on(FAULT_SECONDS)
        for writer in writers:
            writer.stop()
        tally = sum_of(writers)
        assert min(tally.puts, tally.deletes, tally.expiring, tally.batches) > 20, (tally, faults.met)
        wait_settled(cluster.members, SETTLE_SECONDS)
        check_contents(cluster, writers)
        dots = [dot for writer in writers for dot in writer.dots]
        assert len(set(dots)) == len(dots), "two writes got one dot"


def test_a_push_that_comes_late_brings_nothing_back_that_was_deleted_and_forgotten(
    idle: list[LinkedCluster], tmp_path: Path
) -> None:
    with three_linked(idle, tmp_path) as cluster:
        m0, m1, m2 = cluster.members
        before = pushes(m0, "m1")
        m0.put("first", b"1")
        pushed = eventually(lambda: at_least(pushes(m0, "m1"), before + 1), 20, "m1 has answered a push")
        late = cluster.links["m0", "m1"]
        cluster.turn([late], Mode.STALLED)
        m0.put("late", b"1")
        m1.wait_value("late", b"1")
        assert m2.delete("late").status == 200
        wait_settled(cluster.members, SETTLE_SECONDS)
        assert pushes(m0, "m1") == pushed, "the push is under way still"
        cluster.turn([late], Mode.OPEN)
        m0.put("first", b"2")  # pushed behind the late one, be that given up or not
        eventually(lambda: pushes(m0, "m1") > pushed, 20, "m1 has answered what was late")
        assert listing(m1).keys() == {"first"}
        wait_settled(cluster.members, SETTLE_SECONDS)
        assert [listing(member) for member in cluster.members] == [listing(m1)] * 3
        delete_all(m0, {"first"})


def test_a_healing_member_keeps_a_delete_whose_older_write_may_still_be_on_its_way_to_it(
    idle: list[LinkedCluster], tmp_path: Path
) -> None:
    with three_linked(idle, tmp_path) as cluster:
        m0, m1, m2 = cluster.members
        m1.kill()
        own = [cluster.links["m1", name] for name in ("m0", "m2")]
        cluster.turn(own, Mode.RESET)  # it cannot ask, so it goes on healing, and hears what others send
        m1.start().wait_ready()
        m0.put("first", b"1")
        m1.wait_value("first", b"1")
        overtaken = cluster.links["m0", "m1"]
        cluster.turn([overtaken], Mode.STALLED)
        m0.put("late", b"1")
        m2.wait_value("late", b"1")
        cluster.turn([overtaken], Mode.HELD)
        assert m0.delete("late").status == 200
        for member in (m0, m2):
            eventually(lambda member=member: waiting(member) == 0, 30, f"{member.name} forgets it")  # type: ignore[misc]
        met = exchanges(m0, "m1"), exchanges(m2, "m1")
        eventually(
            lambda: exchanges(m0, "m1") > met[0] + 2 and exchanges(m2, "m1") > met[1] + 2, 30, "m1 heard both again"
        )
        assert waiting(m1) == 1, "the late put would come back"
        cluster.turn([overtaken, *own], Mode.OPEN)
        m0.put("first", b"2")
        m1.wait_value("first", b"2")
        assert m1.get("late") is None
        wait_settled(cluster.members, SETTLE_SECONDS)
        delete_all(m0, {"first"})


def waiting(member: MemberProcess) -> int:
    """Return how many deletes a member keeps."""
    count: int = member.status()["collection"]["waiting"]
    return count


def collected(member: MemberProcess) -> int:
    """Return how many deletes a member's process has forgotten."""
    count: int = member.status()["collection"]["collected"]
    return count


def exchanges(member: MemberProcess, peer: str) -> int:
    """Return how many rounds with `peer` went well."""
    return counter(member, f'wavekv_exchanges_total{{peer="{peer}",result="ok"}}')


def pushes(member: MemberProcess, peer: str) -> int:
    """Return how many pushes to `peer` were answered."""
    return counter(member, f'wavekv_pushes_total{{peer="{peer}",result="ok"}}')


def at_least(count: int, wanted: int) -> int:
    """Return `count`, 0 if it is less than `wanted`."""
    return count if count >= wanted else 0


def counter(member: MemberProcess, name: str) -> int:
    """Return a counter among a member's metrics, 0 where it is not told yet."""
    counted = re.search(rf"^{re.escape(name)} (\S+)", member.scrape(), re.MULTILINE)
    return int(float(counted[1])) if counted else 0


# ---- volumes that lost something -----------------------------------------------------------------------------------


def write_all(member: MemberProcess, name: str, count: int, value: str) -> set[str]:
    """Put keys `name`-0, …; return them."""
    keys = [f"{name}-{number}" for number in range(count)]
    batch(member, [{"op": "put", "key": key, "value": value} for key in keys])
    return set(keys)


def delete_all(member: MemberProcess, keys: set[str]) -> None:
    results = batch(member, [{"op": "delete", "key": key} for key in sorted(keys)])
    assert all(result["deleted"] for result in results)


def batch(member: MemberProcess, operations: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Do `operations` and return their results."""
    body = json.dumps({"operations": operations}).encode()
    answer = member.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})
    assert answer.status == 200, answer
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def origin_of(member: MemberProcess) -> int:
    """Return the origin of the member's process, which has written."""
    origin: int = member.status()["process"]["origin"]
    assert origin != 0
    return origin


def wait_pinned(member: MemberProcess) -> list[dict[str, Any]]:
    """Return who pins deletes by the member's word, once somebody does."""
    pinned: list[dict[str, Any]] = eventually(
        lambda: member.status()["collection"]["pinned_by"], 30, f"{member.name} says that deletes are pinned"
    )
    return pinned


def acks(member: MemberProcess) -> dict[str, int]:
    known: dict[str, int] = member.status()["context"]["acks"]
    return known


def test_a_volume_rolled_back_drops_what_was_collected_and_writes_under_another_origin(
    idle: list[LinkedCluster], tmp_path: Path
) -> None:
    with three_linked(idle, tmp_path) as cluster:
        m0, m1, m2 = cluster.members
        deleted = write_all(m0, "deleted", 100, "old") | write_all(m2, "own", 100, "old")
        kept = write_all(m1, "kept", 20, "kept")
        origins = [origin_of(m2)]
        wait_settled(cluster.members, SETTLE_SECONDS)
        m2.terminate()
        shutil.copytree(m2.data_dir, tmp_path / "copy")
        m2.start().wait_ready()
        before = [collected(member) for member in cluster.members]
        delete_all(m0, deleted)
        later = write_all(m2, "later", 5, "later")
        origins.append(origin_of(m2))
        wait_settled(cluster.members, SETTLE_SECONDS)
        for member, count in zip(cluster.members, before, strict=True):
            assert collected(member) >= count + len(deleted)
        m2.kill()
        shutil.rmtree(m2.data_dir)
        shutil.copytree(tmp_path / "copy", m2.data_dir)
        cluster.turn(cluster.around(m2), Mode.RESET)
        m2.start().wait_started()
        with Watcher(m2.http) as watcher:
            told = {event.data["key"] for event in watcher.until_synced() if event.kind == "put"}
            assert told == deleted | kept, "the copy was what was asked for"
            cluster.turn(cluster.around(m2), Mode.OPEN)
            eventually(lambda: not m2.status()["healing"], 20, "the volume healed")
            assert deleted.isdisjoint(listing(m2)), "healed, it shows what was deleted"
            dropped: set[str] = set()
            while dropped != deleted:
                event = watcher.event()
                assert event.data["key"] in (deleted if event.kind == "delete" else later), event
                dropped |= {event.data["key"]} & deleted
        m2.wait_ready()
        m2.put("last", b"last")
        origins.append(origin_of(m2))
        assert len(set(origins)) == len(origins), "an origin was used twice"
        wait_settled(cluster.members, SETTLE_SECONDS)
        for member in cluster.members:
            assert listing(member).keys() == kept | later | {"last"}
        delete_all(m0, kept | later | {"last"})


class Away(NamedTuple):
    """A cluster whose m2 is stopped, and what was deleted since then: between which times (s since 1970)."""

    cluster: Cluster
    kept: set[str]
    lost: int
    """Origin of m2's process, which wrote a hundred times."""
    began: float
    done: float


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    """One for all tests of this file: who keeps deletes is told only after ten seconds, and others run meanwhile."""
    with Cluster(3, tmp_path_factory.mktemp("away")) as cluster:
        m0, _, m2 = cluster.start().members
        deleted = write_all(m2, "deleted", 50, "old")
        kept = write_all(m2, "kept", 50, "kept")
        lost = origin_of(m2)
        wait_settled(cluster.members, SETTLE_SECONDS)
        m2.pause()
        began = time.time()
        delete_all(m0, deleted)
        yield Away(cluster, kept, lost, began, time.time())


def test_a_member_that_is_away_pins_deletes_and_a_volume_that_was_lost_fills_again(away: Away) -> None:
    m0, m1, m2 = away.cluster.members
    for member in (m0, m1):
        (pin,) = wait_pinned(member)
        assert pin["name"] == "m2"
        assert away.began - 0.01 <= pin["since"] <= away.done
        assert member.status()["collection"] == {"waiting": 50, "collected": 0, "pinned_by": [pin]}
    m2.kill()
    shutil.rmtree(m2.data_dir)
    m2.start().wait_ready()
    assert listing(m2).keys() >= away.kept, "it serves before it healed"
    m2.put("last", b"last")
    assert origin_of(m2) != away.lost
    wait_settled(away.cluster.members, SETTLE_SECONDS)
    for member in away.cluster.members:
        assert listing(member).keys() == away.kept | {"last"}
    assert acks(m0)[str(away.lost)] == 100, "the lost process' writes stay covered"
