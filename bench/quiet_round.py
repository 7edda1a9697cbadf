"""What a round costs between two members that hold the same, by the number of members, each with an origin of its own.

python -m bench.quiet_round        prints a table: packed bytes without HTTP and TLS, and processor time of both sides
"""

import random
import time
from typing import NamedTuple

from tests.fakes.cluster import MemoryMember, sync
from wavekv.core import exchange
from wavekv.core.codec.envelope import pack, unpack
from wavekv.core.context import Context
from wavekv.core.membership import Epoch
from wavekv.core.messages import Envelope

NOW = 5000
KEYS = 200
REPEATS = 20
_MOST = 1 << 27


class Round(NamedTuple):
    """Bytes of the request and the answer, and milliseconds of both members together, packing included."""

    request: int
    answer: int
    ms: float


def pair(count: int) -> tuple[MemoryMember, MemoryMember]:
    """Return two healed members of an epoch of `count` that cover the same: a random origin for each member."""
    names = tuple(f"demo-{index}" for index in range(count))
    epoch = Epoch(3, names, admitted=dict.fromkeys(names, 1))
    first, second = (MemoryMember(index, names, epoch=epoch) for index in (0, 1))
    draw = random.Random(count)
    acks = {draw.getrandbits(32) or 1: draw.randrange(1, 100_000) for _ in range(count)}
    for member in (first, second):
        for number in range(KEYS):
            member.put(f"{member.index}-{number}", b"value", 1000)
        member.replica.adopt(Context(acks), 0)  # who heals takes it whole, whoever tells it
        member.replica.end_healing()
        member.commit()
    for _ in range(2):
        sync(first, second, NOW)
        sync(second, first, NOW)
    for member in (first, second):
        assert len(member.store.context.acks) == count + 2, "an origin for each member, and those of the two"
    return first, second


def quiet_round(asks: MemoryMember, answers: MemoryMember) -> Round:
    """Run one round over packed messages."""
    began = time.process_time()
    name = answers.replica.identity.name
    current = exchange.Round(asks.replica, name, name)
    request = pack(current.request(NOW))
    heard = opened(request)
    exchange.receive_request(answers.replica, heard, NOW)
    answer = pack(exchange.answer(answers.replica, heard, NOW))
    current.receive(opened(answer), NOW)
    assert current.done, "a quiet round has one request"
    return Round(len(request), len(answer), 1000 * (time.process_time() - began))


def opened(body: bytes) -> Envelope:
    return unpack(body, _MOST, _MOST)


def main() -> None:
    head = ("members", "request", "answer", "processor, both sides", "whole report", "receipt", "names of an epoch")
    print(f"| {' | '.join(head)} |")
    print("|---|---|---|---|---|---|---|")
    for count in (3, 10, 100, 300, 1000):
        first, second = pair(count)
        rounds = [quiet_round(first, second) for _ in range(REPEATS)]
        best = min(rounds, key=lambda one: one.ms)
        replica = second.replica
        report, receipt = (len(pack(make(replica, NOW, 3))) for make in (exchange.report, exchange.receipt))
        named = len(pack(exchange.receipt(replica, NOW))) - receipt
        print(f"| {count} | {best.request} | {best.answer} | {best.ms:.2f} ms | {report} | {receipt} | {named} |")


if __name__ == "__main__":
    main()
