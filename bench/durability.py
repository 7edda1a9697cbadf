"""What `durability=k` costs: the time of a PUT until k of three members hold it, one client, one PUT after the other.

    python -m bench.durability [--rounds 5] [--writes 300] [--clients 16]

Three members and the clients share this machine's cores and disk. In each round every level takes its turn, so that a
noisy minute hits all of them; told are the median over the rounds, minimum and maximum, of each round's p50 and p99.
The last two rows have `--clients` connections at once, and the writes a second of all of them. `session` is a write on
one member and a read of it on another, with its token: how long the read takes, what it waits included. `processor` is
what a write costs the member that is asked, and all three: it hardly depends on what else the machine does.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.member_process import Cluster, MemberProcess

MEMBERS = 3
VALUE = b"v" * 100


class Caller:
    """One kept connection to a member."""

    def __init__(self, member: MemberProcess) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", member.http, timeout=30)

    def ask(self, method: str, path: str, body: bytes | None = None, session: str | None = None) -> str | None:
        """Do one request; return the session token of its answer."""
        self._connection.request(method, path, body, {} if session is None else {"Wavekv-Session": session})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status not in {200, 201}:
            raise SystemExit(f"{method} {path} was answered {answer.status}")
        return answer.getheader("Wavekv-Session")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.durability")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--writes", type=int, default=300, help="of each level in a round")
    parser.add_argument("--clients", type=int, default=16, help="connections at once in the last rows")
    arguments = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="wavekv-bench-") as folder, Cluster(MEMBERS, Path(folder)) as cluster:
        cluster.start(60)
        time.sleep(2)  # first exchanges
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
            for name, measure in levels(cluster, arguments.writes, arguments.clients).items():
                figures.setdefault(name, []).append(measure())
    for name, found in figures.items():
        p50, p99 = (_range([pair[place] for pair in found]) for place in (0, 1))
        print(f"{name:34} {p50:28} {p99:28}")


def levels(cluster: Cluster, writes: int, clients: int) -> dict[str, Callable[[], tuple[float, float]]]:
    """Return the measures of one round by name."""
    one = {f"durability={asked}, p50 and p99, ms": alone(cluster, asked, writes) for asked in ("1", "2", "all")}
    many = {
        f"durability={asked}, {clients} clients, p50 ms and writes/s": together(cluster, asked, writes, clients)
        for asked in ("1", "2")
    }
    cost = {
        f"durability={asked}, processor µs a write": processor(cluster, asked, writes) for asked in ("1", "2", "all")
    }
    return {**one, **cost, "session, p50 and p99, ms": sessions(cluster, writes), **many}


def alone(cluster: Cluster, asked: str, writes: int) -> Callable[[], tuple[float, float]]:
    """Return the measure of one client's writes."""

    def measure() -> tuple[float, float]:
        caller = Caller(cluster[0])
        return _percentiles([_put(caller, f"{asked}-{number}", asked) for number in range(writes)])

    return measure


def processor(cluster: Cluster, asked: str, writes: int) -> Callable[[], tuple[float, float]]:
    """Return the measure of what a write of one client costs: the member that is asked, and all members (µs)."""

    def measure() -> tuple[float, float]:
        caller = Caller(cluster[0])
        before = [_spent_us(member) for member in cluster.members]
        for number in range(writes):
            _put(caller, f"cost-{asked}-{number}", asked)
        spent = [_spent_us(member) - was for member, was in zip(cluster.members, before, strict=True)]
        return spent[0] / writes, sum(spent) / writes

    return measure


def _spent_us(member: MemberProcess) -> float:
    """Return the processor time of all threads of a member, µs."""
    assert member.process is not None
    tasks = Path(f"/proc/{member.process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1000


def sessions(cluster: Cluster, writes: int) -> Callable[[], tuple[float, float]]:
    """Return the measure of reads elsewhere."""

    def measure() -> tuple[float, float]:
        writer, reader = Caller(cluster[0]), Caller(cluster[1])
        times = []
        for number in range(writes):
            token = writer.ask("PUT", f"/v1/kv/session-{number}", VALUE)
            began = time.perf_counter()
            reader.ask("GET", f"/v1/kv/session-{number}", session=token)
            times.append(time.perf_counter() - began)
        return _percentiles(times)

    return measure


def together(cluster: Cluster, asked: str, writes: int, clients: int) -> Callable[[], tuple[float, float]]:
    """Return the measure of many clients' writes: p50 (ms), and writes a second."""

    def measure() -> tuple[float, float]:
        times: list[float] = []

        def work(client: int) -> None:
            caller = Caller(cluster[0])
            times.extend([_put(caller, f"{client}-{number}", asked) for number in range(writes)])

        threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return _percentiles(times)[0], len(times) / (time.perf_counter() - began)

    return measure


def _put(caller: Caller, key: str, asked: str) -> float:
    began = time.perf_counter()
    caller.ask("PUT", f"/v1/kv/{key}?durability={asked}", VALUE)
    return time.perf_counter() - began


def _percentiles(times: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(times, n=100)
    return 1000 * cuts[49], 1000 * cuts[98]


def _range(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    main()
