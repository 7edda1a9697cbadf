"""What the worst messages between members cost their reader: processor time, and memory at the peak.

python -m bench.message_cost
"""

import statistics
import time
import tracemalloc

from tests.fakes.hostile_messages import REFUSED, TAKEN
from wavekv.core.codec.envelope import decode_envelope
from wavekv.errors import BadEnvelope


def decoded(data: bytes) -> str:
    try:
        decode_envelope(data)
    except BadEnvelope as refusal:
        return f"refused: {refusal.detail[:60]}"
    return "taken"


def main() -> None:
    print(f"{'message':34} {'bytes':>10} {'ms':>7} {'MiB':>6}")
    for name, make in (*REFUSED.items(), *TAKEN.items()):
        data = make()
        times = []
        for _ in range(3):
            began = time.thread_time()
            result = decoded(data)
            times.append((time.thread_time() - began) * 1000)
        tracemalloc.start()
        decoded(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{name:34} {len(data):10} {statistics.median(times):7.1f} {peak / 2**20:6.1f} {result}")


if __name__ == "__main__":
    main()
