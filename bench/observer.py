"""What counting one operation costs: our accumulators beside prometheus_client's locked children.

    python -m bench.observer

Prints the best of seven interleaved rounds for each, in microseconds a call.
"""

import timeit

from prometheus_client import CollectorRegistry, Counter, Histogram

from wavekv.metrics import Metrics
from wavekv.metrics.families import OPERATION_DURATION

CALLS = 200_000


def main() -> None:
    observe = Metrics().operation
    registry = CollectorRegistry()
    counter = Counter("c", "c", ["label"], registry=registry).labels("x")
    histogram = Histogram("h", "h", ["label"], registry=registry, buckets=OPERATION_DURATION.buckets).labels("x")

    def ours() -> None:
        observe("http", "get", "ok", 0.0004)

    def children() -> None:
        counter.inc()
        histogram.observe(0.0004)

    rounds = [(timeit.timeit(ours, number=CALLS), timeit.timeit(children, number=CALLS)) for _ in range(7)]
    for name, times in zip(("Metrics.operation", "prometheus_client"), zip(*rounds, strict=True), strict=True):
        print(f"{name:20} {min(times) / CALLS * 1e6:.2f} µs")


if __name__ == "__main__":
    main()
