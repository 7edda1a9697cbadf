"""Deltas and lists by pages: each within its bounds, nothing left out, nothing sent twice after an interruption."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.cluster import LIMITS, MemoryMember, answer_to, cluster, contents, wire
from wavekv.config import Limits
from wavekv.core import exchange
from wavekv.core.messages import Envelope
from wavekv.core.types import entry_bytes

WRITES = st.lists(
    st.tuples(st.sampled_from([f"k{index:02}" for index in range(30)]), st.integers(0, 60), st.booleans()), max_size=60
)
BOUNDS = st.builds(
    lambda entries, size: replace(LIMITS, page_entries_max=entries, page_bytes_max=size),
    st.integers(1, 7),
    st.integers(60, 600),
)
NOW = 10_000


def write(member: MemoryMember, writes: list[tuple[str, int, bool]]) -> None:
    for at, (key, size, deleted) in enumerate(writes):
        if deleted and member.value(key) is not None:
            member.delete(key, 1000 + at)
        else:
            member.put(key, b"x" * size, 1000 + at)


def begin(requester: MemoryMember, responder: MemoryMember) -> exchange.Round:
    name = responder.replica.identity.name
    return exchange.Round(requester.replica, name, name)


def within(message: Envelope, limits: Limits) -> bool:
    """Tell whether a message keeps to a page's bounds; one entry always goes, and a list may send newer ones along."""
    size = sum(entry_bytes(entry) + 32 for entry in message.carried()[:-1])
    listed = message.listed or ()
    fits = sum(len(one.key) + 32 for one in listed[:-1]) < limits.page_bytes_max
    return size <= limits.page_bytes_max and len(listed) <= limits.page_entries_max and fits


@settings(max_examples=60)
@given(BOUNDS, WRITES, WRITES, st.booleans(), st.booleans())
def test_a_round_of_small_pages_makes_both_equal(
    limits: Limits, ours: list[tuple[str, int, bool]], theirs: list[tuple[str, int, bool]], healing: bool, blocks: bool
) -> None:
    a, b = cluster(2, limits, healing=healing)
    write(a, ours)
    write(b, theirs)
    for requester, responder in ((a, b), (b, a), (a, b)):  # the second round sends in its requests, too
        current = begin(requester, responder)
        messages = 0
        while not current.done:
            messages += 1
            assert messages < 500, "the round ends"
            request = replace(current.request(NOW), takes_block=blocks)
            answer = answer_to(responder, request, NOW)
            assert blocks or (answer.block is None and request.block is None)
            assert within(request, limits)
            assert within(answer, limits)
            current.receive(answer, NOW)
            requester.commit()
    assert contents(a) == contents(b)
    assert a.store.context == b.store.context
    assert not a.replica.healing
    assert not b.replica.healing


@settings(max_examples=60)
@given(BOUNDS, WRITES, st.lists(st.integers(1, 6), max_size=6))
def test_what_came_before_an_interruption_is_not_sent_again(
    limits: Limits, theirs: list[tuple[str, int, bool]], cuts: list[int]
) -> None:
    a, b = cluster(2, limits)
    write(b, theirs)
    sent: list[tuple[int, int]] = []
    for messages in (*cuts, 500):
        current = begin(a, b)
        for _ in range(messages):
            if current.done:
                break
            answer = wire(answer_to(b, current.request(NOW), NOW))
            sent += [entry.dot for entry in answer.carried()]
            current.receive(answer, NOW)
            a.commit()
    assert len(sent) == len(set(sent))
    assert contents(a) == contents(b)
    assert a.store.context == b.store.context
