"""Whatever a message between members says, reading it costs a bounded number of steps and bytes (G11)."""

import sys
import tracemalloc
from collections.abc import Callable

import pytest

from tests.fakes.hostile_messages import BOUNDS, REFUSED, TAKEN, colliding_origins, entry, told
from wavekv.config import Limits
from wavekv.core.codec.envelope import decode_envelope, pack, unpack
from wavekv.core.codec.message_bounds import MessageBounds
from wavekv.core.messages import Envelope
from wavekv.core.scatter import UNCHECKED, scattered
from wavekv.errors import BadEnvelope

REFUSED_BYTES_MAX = 20 << 20
"""Beside the message: a copy of the longest, and what was read until then."""
TAKEN_BYTES_MAX = 40 << 20
STEPS_MAX = 400_000
"""Calls; some 50 ms. An honest page takes 70 000."""


def bytes_of(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def steps_of(work: Callable[[], object]) -> int:
    steps = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return steps


def refused(data: bytes) -> None:
    with pytest.raises(BadEnvelope):
        decode_envelope(data)


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_message_is_refused_within_bytes_and_steps(name: str) -> None:
    data = REFUSED[name]()
    assert bytes_of(lambda: refused(data)) <= REFUSED_BYTES_MAX
    assert steps_of(lambda: refused(data)) <= STEPS_MAX


@pytest.mark.parametrize("name", TAKEN)
def test_a_message_at_a_bound_is_read_within_bytes_and_steps(name: str) -> None:
    data = TAKEN[name]()
    assert bytes_of(lambda: decode_envelope(data)) <= TAKEN_BYTES_MAX
    assert steps_of(lambda: decode_envelope(data)) <= STEPS_MAX


def test_a_message_at_a_bound_still_fits_on_the_wire() -> None:
    body = pack(decode_envelope(TAKEN["the most of everything"]()))
    limits = Limits()
    assert isinstance(unpack(body, limits.wire_bytes_max, limits.inflated_bytes_max), Envelope)


def test_a_smaller_page_of_this_member_does_not_bind_what_others_send() -> None:
    bounds = MessageBounds.of(Limits(page_entries_max=1, push_keys_max=1, dots_max=1))
    assert (bounds.page, bounds.entries, bounds.ranges) == (BOUNDS.page, BOUNDS.entries, BOUNDS.ranges)
    data = told(entries=tuple(map(entry, range(BOUNDS.page))))
    assert len(decode_envelope(data, bounds).entries) == BOUNDS.page


@pytest.mark.parametrize("count", [UNCHECKED + 1, 20_000, 43_690, 43_691, 65_536])
def test_numbers_drawn_at_random_or_counted_are_scattered_and_chosen_ones_are_not(count: int) -> None:
    assert scattered([(at * 2_654_435_761) % 2**32 for at in range(count)])
    assert scattered(range(1, count + 1))
    assert not scattered(colliding_origins(count))


def test_a_row_that_only_looking_for_others_walks_along_is_found_too() -> None:
    assert not scattered(colliding_origins(2 * UNCHECKED)[:UNCHECKED] + list(range(2**31, 2**31 + UNCHECKED, 2)))


def test_few_origins_need_no_look() -> None:
    assert steps_of(lambda: scattered(colliding_origins(UNCHECKED))) < 50_000
    assert scattered(colliding_origins(UNCHECKED)[:UNCHECKED])


def test_a_context_at_its_bound_that_has_ranges_of_origins_it_knows_is_read() -> None:
    limits = Limits()
    acks = dict.fromkeys(range(1, limits.origins_max + 1), 1)
    dots = dict.fromkeys(range(1, limits.dots_max + 1), ((3, 3),))
    message = Envelope(sender_id=1, acks=acks, dots=dots)
    assert unpack(pack(message), limits.wire_bytes_max, limits.inflated_bytes_max) == message
