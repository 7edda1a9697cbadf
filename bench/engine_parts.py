"""The parts of `bench.engine` that run in a process of their own, so that nothing they leave behind counts elsewhere.

    python -m bench.engine_parts replay DIRECTORY     recovery of a log alone, then the store from it
    python -m bench.engine_parts probe PORT PID KEY FILE  a GET every millisecond, until stdin closes
    python -m bench.engine_parts leak OVERWRITES      overwrites of 10 000 keys in the core, over a log that keeps none

Each prints one JSON object. `probe` writes three doubles for every request to FILE: when it began, when it ended, and
the seconds in between for which the prober or the member's loop stood in the kernel's queue for a processor.
"""

import gc
import json
import os
import random
import select
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.engine_data import VALUE_BYTES, open_again
from bench.engine_servers import Connection, get_request, resident_bytes
from wavekv.config import Limits
from wavekv.core.identity import Identity
from wavekv.core.loading import loader_over
from wavekv.core.membership import Membership
from wavekv.core.replica import Replica
from wavekv.core.store import Store
from wavekv.core.writes import Put
from wavekv.runtime.starting import unpaused_by_collections
from wavekv.wal.recovery import recover

LEAK_KEYS = 10_000
LEAK_BATCH = 1000
LEAK_WARM = 10
"""Every key is overwritten so often before memory is first read: what is bounded has to fill first."""
_PROBED_SECONDS = 0.001


def replay(directory: Path) -> dict[str, Any]:
    """Recover a log; return records, and wall and processor seconds of recovery and of the whole."""
    opened = open_again(directory)
    wall, processor = time.perf_counter(), time.process_time()
    with unpaused_by_collections():
        loader, recovery = recover(opened, partial(loader_over, Limits().changes_max))
        recovered = time.perf_counter() - wall
        store = loader.store()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {
        "records": recovery.records,
        "entries": len(store.packed),
        "recovery_seconds": recovered,
        "wall_seconds": wall,
        "processor_seconds": processor,
    }


def probe(port: int, pid: int, key: str, file: Path) -> dict[str, Any]:
    """Ask for a key every millisecond over one connection until stdin is closed; `pid` is the member's."""
    connection, request, times = Connection(port), get_request(key), array("d")
    schedules = [os.open(f"/proc/{process}/schedstat", os.O_RDONLY) for process in ("self", f"{pid}/task/{pid}")]

    def queued() -> float:
        return sum(int(os.pread(schedule, 100, 0).split()[1]) for schedule in schedules) / 1e9

    gc.disable()
    clock = time.monotonic
    while not select.select([sys.stdin], [], [], 0)[0]:
        before, begun = queued(), clock()
        connection.ask(request)
        ended = clock()
        times.extend((begun, ended, queued() - before))
        time.sleep(max(0.0, begun + _PROBED_SECONDS - ended))
    file.write_bytes(times.tobytes())
    return {"probes": len(times) // 3}


class _Draws:
    def random_u32(self) -> int:
        return 1 + random.getrandbits(31)


def leak(overwrites: int) -> dict[str, Any]:
    """Overwrite keys through replica and store; return resident bytes before, half-way and after."""
    limits = Limits()
    store, members = Store(limits.changes_max), Membership("m0", None, None, ())
    replica = Replica(Identity("m0", 1, bytes(16), 1, 1), store, members, limits, _Draws())
    replica.writable = None
    generator, now_ms = random.Random(3), 1_760_000_000_000
    keys = [f"key/{number:012}" for number in range(LEAK_KEYS)]

    def write(count: int) -> None:
        nonlocal now_ms
        for _ in range(0, count, LEAK_BATCH):
            now_ms += 1
            replica.batch(
                [Put(key, generator.randbytes(VALUE_BYTES)) for key in generator.sample(keys, LEAK_BATCH)], now_ms
            )
            group = replica.ready()
            assert group is not None, "a batch was staged"
            replica.advance(group)  # the log in between keeps nothing

    write(LEAK_KEYS * LEAK_WARM)
    resident = [resident_bytes(os.getpid())]
    begun = time.process_time()
    for _ in range(2):
        write(overwrites // 2)
        resident.append(resident_bytes(os.getpid()))
    return {"resident_bytes": resident, "processor_seconds": time.process_time() - begun, "overwrites": overwrites}


def main(arguments: Sequence[str]) -> None:
    parts: dict[str, Callable[..., dict[str, Any]]] = {
        "replay": lambda directory: replay(Path(directory)),
        "probe": lambda port, pid, key, file: probe(int(port), int(pid), key, Path(file)),
        "leak": lambda overwrites: leak(int(overwrites)),
    }
    print(json.dumps(parts[arguments[0]](*arguments[1:])))


if __name__ == "__main__":
    main(sys.argv[1:])
