"""How much disk a member takes while everything it holds is written again and again: `python -m bench.disk_use`.

Starts one member, fills it, overwrites all keys several times in random order, and samples what its directory occupies
(allocated blocks), beside the live bytes of keys and values. Prints the greatest share and the number of compactions.
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
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parents[1]
PORTS = {"http": 7370, "resp": 7371, "metrics": 7373}
BATCH = 200


def occupied(path: Path) -> int:
    """Return the bytes that the files below `path` take on disk."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - called very often
            except FileNotFoundError:
                continue
    return total


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
    samples: list[int] = []
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
        for _ in range(rounds):
            chance.shuffle(order)
            for at in range(0, keys, BATCH):
                client.mset({f"key:{n:08}": chance.randbytes(value_bytes) for n in order[at : at + BATCH]})
        told = status()
        done.set()
        watching.join()
    finally:
        member.terminate()
        member.wait(60)
    live = told["store"]["bytes"]
    print(
        f"{live / 1e6:.0f} MB live, {rounds} rounds: at most {max(samples) / 1e6:.0f} MB on disk, "
        f"{max(samples) / live:.2f} times; {told['compaction']['completed']} compactions, error: "
        f"{told['compaction']['error']}; stopped: {occupied(directory) / live:.2f} times"
    )


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
