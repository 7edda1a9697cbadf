"""How much disk a member takes while everything it holds is written again and again: `python -m bench.disk_use`.

Starts one member, fills it, overwrites all keys several times in random order, and samples what its directory occupies
(allocated blocks), beside the live bytes of keys and values. Prints the greatest share, what it was made of by kind of
file, and the number of compactions.
"""

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parents[1]
PORTS = {"http": 7370, "resp": 7371, "metrics": 7373}
BATCH = 200
KINDS = {
    "snapshot": "snapshots",
    "snapshot.tmp": "snapshot being written",
    "snapshot.dots.tmp": "snapshot being written",
    "snapshot.runs.tmp": "snapshot being written",
    "spare": "spares",
    "spare.tmp": "spares",
}
"""Kind of file by what follows its number; segments are told apart by which is the last."""


def occupied(path: Path) -> Counter[str]:
    """Return the bytes that the files below `path` take on disk, by kind of file."""
    kinds: Counter[str] = Counter()
    closed = []
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                size = os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - called very often
            except FileNotFoundError:
                continue
            if name.endswith(".wal"):
                closed.append((name, size))
            else:
                kinds[KINDS.get(name.partition(".")[2], "other")] += size
    closed.sort()
    for name, size in closed:
        kinds["live segment" if name == closed[-1][0] else "closed segments"] += size
    return kinds


def status() -> dict:  # type: ignore[type-arg]
    connection = http.client.HTTPConnection("127.0.0.1", PORTS["http"], timeout=10)
    connection.request("GET", "/v1/status")
    return json.loads(connection.getresponse().read())


def wait_serving() -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if status()["ready"]:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the member did not start")


def measure(directory: Path, keys: int, value_bytes: int, rounds: int) -> None:
    command = [
        *(sys.executable, "-m", "wavekv", "serve", "--data-dir", str(directory)),
        *("--listen", f"127.0.0.1:{PORTS['http']}", "--resp-listen", f"127.0.0.1:{PORTS['resp']}"),
        *("--metrics-listen", f"127.0.0.1:{PORTS['metrics']}"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "sidecar")}
    member = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    samples: list[Counter[str]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            samples.append(occupied(directory))

    try:
        wait_serving()
        client = redis.Redis(port=PORTS["resp"])
        watching = threading.Thread(target=sample)
        watching.start()
        order = list(range(keys))
        chance = random.Random(1)
        began = time.monotonic()
        for _ in range(rounds):
            chance.shuffle(order)
            for at in range(0, keys, BATCH):
                client.mset({f"key:{n:08}": chance.randbytes(value_bytes) for n in order[at : at + BATCH]})
        seconds = time.monotonic() - began
        told = status()
        done.set()
        watching.join()
    finally:
        member.terminate()
        member.wait(60)
    live, peak = told["store"]["bytes"], max(samples, key=Counter.total)
    print(
        f"{live / 1e6:.0f} MB live, {rounds} rounds in {seconds:.0f} s: at most {peak.total() / 1e6:.0f} MB on disk, "
        f"{peak.total() / live:.2f} times; {told['compaction']['completed']} compactions, error: "
        f"{told['compaction']['error']}; stopped: {occupied(directory).total() / live:.2f} times"
    )
    print("at most: " + ", ".join(f"{size / 1e6:.0f} MB {kind}" for kind, size in peak.most_common()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "member", options.keys, options.value_bytes, options.rounds)


if __name__ == "__main__":
    main()
