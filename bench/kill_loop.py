"""`make kill-loop`: one real member under load, killed at random moments; every acknowledged write has to be there.

    python -m bench.kill_loop [--kills 200] [--clients 4] [--seed N]

Clients put, delete and batch keys of their own. SIGKILL strikes at a random moment, or in a compaction or just behind
it; now and then it strikes the compacting process first. After each restart every key holds what was last acknowledged,
or what was in flight, a batch whole or not at all; now and then the member is killed and started once more and has to
hold the same.

The member compacts as often as its settings allow (`WAVEKV_COMPACT_AGE` and `WAVEKV_COMPACT_LOG_BYTES`, unless set).
A process that is killed leaves its page cache to the next one; that a power loss takes nothing either is shown by
`tests/property/test_engine_on_a_failing_disk.py`. Turned down: killing under `strace` between two system calls, which
that test does without a process.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.integration.member_process import Cluster, MemberProcess
from wavekv.snapshot.files import newest

KEYS = 30
"""Of each client that are written one by one; a third as many batches of three."""
COMPACTING = {"WAVEKV_COMPACT_AGE": "1", "WAVEKV_COMPACT_LOG_BYTES": "1Mi"}
ROUND_SECONDS_MAX = 1.2
REPEATED_SHARE = 0.15
"""Of the restarts, that are followed by another one, which has to find the same."""
MOMENTS = ("any", "in a compaction", "behind a compaction", "behind its worker's end")
MOMENT_WEIGHTS = (5, 2, 2, 1)
COMPACTION_SECONDS_MAX = 4.0
"""What a round waits for a compaction at most."""

State = dict[str, str]


@dataclass
class Tally:
    """What happened, counted."""

    kills: int = 0
    kills_in_compaction: int = 0
    worker_kills: int = 0
    acknowledged: int = 0
    refused: int = 0
    in_flight_found: int = 0
    in_flight_lost: int = 0
    compactions: int = 0
    second_restarts: int = 0
    restart_seconds_max: float = 0.0


@dataclass
class Client:
    """Writes its own keys one after the other; `doubtful` is what it sent last and got no answer to."""

    number: int
    rng: random.Random
    held: State = field(default_factory=dict)
    doubtful: dict[str, str | None] | None = None
    """A request's keys, with None where it deletes."""
    acknowledged: int = 0
    refused: int = 0
    _count: int = 0

    def run(self, port: int) -> None:
        """Write until the member is gone."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            while self._write(connection):
                pass
        finally:
            connection.close()

    def _write(self, connection: http.client.HTTPConnection) -> bool:
        method, path, body, changes = self._next()
        self.doubtful = changes
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if method == "POST" else {})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        self.doubtful = None
        if answer.status in {200, 201, 204}:
            self.acknowledged += 1
            apply(self.held, changes)
        elif answer.status != 404 or method != "DELETE" or path.rpartition("/")[2] in self.held:
            self.refused += 1
        return True

    def _next(self) -> tuple[str, str, bytes | None, dict[str, str | None]]:
        self._count += 1
        value = f"{self.number}:{self._count}:" + "x" * self.rng.choice((0, 10, 100, 5000))
        drawn = self.rng.random()
        if drawn < 0.25:
            at = self.rng.randrange(KEYS // 3)
            delete = self.rng.random() < 0.2
            keys = [f"b{self.number}-{at}-{part}" for part in "xyz"]
            operations = [
                {"op": "delete", "key": key} if delete else {"op": "put", "key": key, "value": value} for key in keys
            ]
            changes: dict[str, str | None] = dict.fromkeys(keys, None if delete else value)
            return "POST", "/v1/batch", json.dumps({"operations": operations}).encode(), changes
        key = f"c{self.number}-{self.rng.randrange(KEYS)}"
        if drawn < 0.45:
            return "DELETE", f"/v1/kv/{key}", None, {key: None}
        return "PUT", f"/v1/kv/{key}", value.encode(), {key: value}

    def settle(self, found: State) -> bool | None:
        """Compare what the member holds of this client's; tell whether what was in flight is there, if anything was.

        Raises:
            AssertionError: an acknowledged write is lost, or half of a batch is there.
        """
        mine = {key: value for key, value in found.items() if key[1:].startswith(f"{self.number}-")}
        changed = dict(self.held)
        apply(changed, self.doubtful or {})
        if mine not in (self.held, changed):
            wrong = sorted(key for key in mine.keys() | changed.keys() if mine.get(key) != self.held.get(key))
            raise AssertionError(
                "; ".join(
                    f"{key}: {mine.get(key, 'nothing')[:20]} in place of {self.held.get(key, 'nothing')[:20]}"
                    for key in wrong
                )
                + f"; in flight: {self.doubtful}"
            )
        before, self.held = self.held, mine
        doubtful, self.doubtful = self.doubtful, None
        if doubtful is None or changed == before:
            return None  # nothing was in flight, or a delete of what is not there
        return mine == changed


def apply(state: State, changes: dict[str, str | None]) -> None:
    """Do to `state` what a request does."""
    for key, value in changes.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


def contents(member: MemberProcess) -> State:
    """Return all that a member holds."""
    found: State = {}
    after = ""
    while True:
        page = member.request("GET", f"/v1/kv?limit=1000&after={after}" if after else "/v1/kv?limit=1000").json()
        found.update((item["key"], item["value"]) for item in page["entries"])
        after = page.get("next") or ""
        if not after:
            return found


def workers(member: MemberProcess) -> list[int]:
    """Return the process ids of the member's compaction, none or one."""
    assert member.process is not None
    pid = member.process.pid
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return children


class KillLoop:
    """A member, its clients, and what they believe."""

    def __init__(self, member: MemberProcess, seed: int, clients: int = 4) -> None:
        self.member = member
        self.member.environment = {name: os.environ.get(name, value) for name, value in COMPACTING.items()}
        self.tally = Tally()
        self._rng = random.Random(seed)
        self._clients = [Client(number, random.Random(seed + number)) for number in range(1, clients + 1)]
        self._snapshot = 0

    def run(self, kills: int) -> Tally:
        """Kill so many times, and check after each; return what happened.

        Raises:
            AssertionError: the member lost something, or holds what it must not.
        """
        self._start()
        while self.tally.kills < kills:
            self._round()
            self._check()
            if self._rng.random() < REPEATED_SHARE:
                before = contents(self.member)
                self._kill()
                self._start()
                assert contents(self.member) == before, "a second restart came to something else"
                self.tally.second_restarts += 1
        self.tally.acknowledged = sum(client.acknowledged for client in self._clients)
        self.tally.refused = sum(client.refused for client in self._clients)
        return self.tally

    def _start(self) -> None:
        started = time.monotonic()
        self.member.start().wait_ready()
        self.tally.restart_seconds_max = round(max(self.tally.restart_seconds_max, time.monotonic() - started), 2)

    def _kill(self) -> None:
        self.tally.kills_in_compaction += bool(workers(self.member))
        self.member.kill()
        self.tally.kills += 1

    def _round(self) -> None:
        """Load the member, kill it in the midst, and start it again."""
        threads = [threading.Thread(target=client.run, args=(self.member.http,)) for client in self._clients]
        for thread in threads:
            thread.start()
        self._wait()
        self._kill()
        for thread in threads:
            thread.join()
        self._start()

    def _wait(self) -> None:
        """Wait for the moment to kill at: any, or one within or just behind a compaction."""
        moment = self._rng.choices(MOMENTS, MOMENT_WEIGHTS)[0]
        seconds = self._rng.uniform(0.05, ROUND_SECONDS_MAX)
        ends = time.monotonic() + (seconds if moment == "any" else COMPACTION_SECONDS_MAX)
        before = newest(self.member.data_dir)
        while time.monotonic() < ends:
            time.sleep(0.01)
            if moment == "any":
                continue
            if moment == "behind a compaction":
                if newest(self.member.data_dir) != before:
                    time.sleep(self._rng.uniform(0, 0.3))
                    break
            elif found := workers(self.member):
                time.sleep(self._rng.uniform(0, 0.4))
                if moment == "in a compaction":
                    break
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found[0], signal.SIGKILL)
                    self.tally.worker_kills += 1
                moment, ends = "any", time.monotonic() + seconds

    def _check(self) -> None:
        found = contents(self.member)
        for client in self._clients:
            there = client.settle(found)
            self.tally.in_flight_found += there is True
            self.tally.in_flight_lost += there is False
        owned = sum(len(client.held) for client in self._clients)
        assert owned == len(found), "keys that nobody wrote"
        last = newest(self.member.data_dir)
        if last is not None and last.number > self._snapshot:
            self._snapshot = last.number
            self.tally.compactions += 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loop and print the tally; keep the directory and exit with 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill_loop")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="wavekv-kill-loop-"))
    print(f"seed {options.seed}, in {folder}, which is kept if anything is lost")
    with Cluster(1, folder) as cluster:
        loop = KillLoop(cluster[0], options.seed, options.clients)
        try:
            tally = loop.run(options.kills)
        except AssertionError as error:
            print(
                f"after {loop.tally.kills} kills: {error}\nthe directory is kept: {cluster[0].data_dir}",
                file=sys.stderr,
            )
            return 1
    shutil.rmtree(folder)
    for name, value in asdict(tally).items():
        print(f"{name.replace('_', ' '):<20} {value}")
    if not tally.compactions:
        print("no compaction ran: this member knows no setting that makes it compact often")
    return 0


if __name__ == "__main__":
    sys.exit(main())
