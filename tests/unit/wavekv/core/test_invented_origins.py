"""Whoever invents origins keeps no honest process out."""

from dataclasses import replace

from tests.fakes.cluster import LIMITS, MemoryMember, cluster, sync, wire
from wavekv.core import exchange
from wavekv.core.context import Context
from wavekv.core.messages import Envelope
from wavekv.core.types import Entry

NOW = 10_000
HOUR_MS = 3_600_000
SMALL = replace(LIMITS, origins_max=64, origins_reserved=16, new_origins_max=20, own_origins_max=4)


def invent(member: MemoryMember, first: int, count: int, now_ms: int, *, claims: bool) -> None:
    """Let m2, which is hostile, write under invented origins at `member`, or claim to cover them."""
    about = Envelope(sender_id=3, name="m2", inc=1, now_ms=now_ms)
    origins = range(first, first + count)
    if claims:
        message = replace(about, acks=dict.fromkeys(origins, 7), since=0, floor=0)
        exchange.receive_request(member.replica, wire(message), now_ms)
    else:
        entries = tuple(Entry(f"x{origin}", b"v", now_ms, origin, 1) for origin in origins)
        exchange.receive_push(member.replica, wire(replace(about, entries=entries, push_only=True)), now_ms)
    member.commit()


def test_a_process_that_starts_after_the_room_was_filled_is_heard_everywhere() -> None:
    a, b, c = cluster(3, SMALL, healing=False)
    for hour in range(8):
        for at, member in enumerate((a, b)):
            now_ms = NOW + hour * HOUR_MS
            invent(member, 10_000 + 1000 * hour + 100 * at, 60, now_ms, claims=False)
            invent(member, 50_000 + 1000 * hour + 100 * at, 60, now_ms, claims=True)
    room = SMALL.origins_max - SMALL.origins_reserved
    assert a.store.context.origin_count() >= room - 1
    later = NOW + 9 * HOUR_MS
    b.restart()
    b.replica.end_healing()
    b.replica.writable = None
    written = b.put("k", b"after", later)
    for _ in range(3):
        for one, other in ((a, b), (b, a), (a, c), (c, a), (c, b), (b, c)):
            sync(one, other, later)
    for member in (a, b, c):
        assert member.value("k") == b"after"
        assert member.store.context.covers(*written.dot)
        assert member.store.context.origin_count() <= SMALL.origins_max


def test_a_context_that_is_refused_for_its_ranges_uses_up_nobodys_allowance() -> None:
    small = replace(SMALL, dots_max=64)
    a = cluster(3, small, healing=False)[0]
    gaps = tuple((2 * at + 2, 2 * at + 2) for at in range(50))
    theirs = Context(dict.fromkeys(range(100, 110), 3), {8: gaps})
    a.replica.covered.join({}, {9: gaps})
    for _ in range(10):
        for name in ("m1", "m2"):
            a.replica.adopt(theirs, 0, NOW, sender=name)
    assert a.replica.refused["too_many_new_origins"] == 0
    assert a.replica.refused["too_many_dots"] > 0
    others = Context(dict.fromkeys(range(100, 110), 3))
    for name in ("m1", "m2"):
        a.replica.adopt(others, 0, NOW, sender=name)
    assert a.replica.covered.includes(others)
