"""The longest turns of the loop that a message at its bounds brings about: merged, adopted, shown, answered.

python -m bench.message_turns
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.fakes.cluster import LIMITS, MemoryMember, cluster
from tests.fakes.hostile_messages import TAKEN
from wavekv.core import exchange
from wavekv.core.codec.envelope import decode_envelope
from wavekv.core.messages import Envelope
from wavekv.core.steps import Slices
from wavekv.core.types import U64_MAX, Entry
from wavekv.errors import BadEnvelope

NOW = 2**62


def timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def turns(slices: Slices[object]) -> Iterator[float]:
    """Yield what each slice takes, ms."""
    more = True

    def one() -> None:
        nonlocal more
        more = next(slices, slices) is None

    while more:
        yield timed(one)


def shown(member: MemoryMember) -> float:
    """Make durable what is staged; return the longest turn."""
    longest = 0.0
    while (group := member.replica.ready()) is not None:
        longest = max(longest, *turns(member.replica.advance_in_slices(group)))
    return longest


def message(member: MemoryMember, name: str) -> Envelope:
    greeting = exchange.envelope(member.replica, NOW)
    said = decode_envelope(TAKEN[name]())
    about = {
        field: getattr(greeting, field) for field in ("sender_id", "sender_uuid", "name", "inc", "now_ms", "cluster_id")
    }
    return replace(said, **about, floor=0, since=0, members=None, epoch=None)


def measured(name: str) -> tuple[float, ...]:
    a, b, _ = cluster(3, LIMITS, healing=False)  # with two of them the word of one is enough
    a.replica.merge([Entry(f"h{at:05}", b"v", 100, 5, at + 1) for at in range(6000)], NOW)
    a.commit()
    request = message(b, name)
    merged = max(turns(exchange.receive_request_in_slices(a.replica, request, NOW)))
    durable = shown(a)
    again = max(turns(exchange.receive_request_in_slices(a.replica, request, NOW)))
    shown(a)
    asked = replace(request, page_pos=0, resume_from=(2**32 - 1, U64_MAX - 1))
    return merged, again, durable, timed(lambda: exchange.answer(a.replica, asked, NOW))


def main() -> None:
    print(f"{'longest turn, ms':34} {'merged':>8} {'again':>8} {'shown':>8} {'answered':>8}")
    for name in TAKEN:
        try:
            print(f"{name:34}" + "".join(f" {one:8.1f}" for one in measured(name)))
        except BadEnvelope as error:
            print(f"{name:34} refused behind the decoder: {error.detail}")


if __name__ == "__main__":
    main()
