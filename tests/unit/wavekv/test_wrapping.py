"""Small messages are wrapped and unwrapped at once, large ones on a thread; both are bounded alike."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest

from wavekv.config import Limits
from wavekv.core.block import Block
from wavekv.core.codec import envelope
from wavekv.core.messages import Envelope
from wavekv.core.packed import pack
from wavekv.core.types import Entry
from wavekv.errors import BadEnvelope, EnvelopeTooLarge
from wavekv.peers.wrapping import SMALL_INFLATED_BYTES_MAX, SMALL_ITEMS_MAX, SMALL_ORIGINS_MAX, Wrapping


@pytest.fixture
async def wrapping() -> AsyncIterator[Wrapping]:
    made = Wrapping(Limits())
    yield made
    made.close()


def of(count: int, value_bytes: int = 1) -> Envelope:
    entries = tuple(Entry(f"k{seq}", bytes(value_bytes), 1, 1, seq) for seq in range(1, count + 1))
    return Envelope(sender_id=2, entries=entries)


async def on_loop(wrapping: Wrapping, message: Envelope) -> tuple[bool, bool]:
    """Tell whether `message` is wrapped, and unwrapped, in the thread of the loop."""
    threads: list[bool] = []

    def noting(work: object) -> object:
        def run(*arguments: object) -> object:
            threads.append(threading.current_thread() is threading.main_thread())
            return work(*arguments)  # type: ignore[operator]

        return run

    with (
        patch.object(envelope, "pack", noting(envelope.pack)),
        patch.object(envelope, "decode_envelope", noting(envelope.decode_envelope)),
    ):
        assert await wrapping.unwrapped(await wrapping.wrapped(message)) == message
    wrapped, unwrapped = threads
    return wrapped, unwrapped


BLOCK = Block(["k"], [pack(Entry("k", b"v", 1, 1, 1))])


@pytest.mark.parametrize(
    ("message", "wrapped_on_loop", "unwrapped_on_loop"),
    [
        (of(1), True, True),
        (of(SMALL_ITEMS_MAX), True, True),
        (of(SMALL_ITEMS_MAX + 1), False, True),
        (of(1, SMALL_INFLATED_BYTES_MAX - 2), True, False),
        (of(1, SMALL_INFLATED_BYTES_MAX), False, False),
        (Envelope(sender_id=2, acks=dict.fromkeys(range(SMALL_ORIGINS_MAX), 1)), True, True),
        (Envelope(sender_id=2, acks=dict.fromkeys(range(SMALL_ORIGINS_MAX + 1), 1)), False, True),
        (of(8192), False, False),
    ],
)
async def test_what_is_small_stays_on_the_loop(
    wrapping: Wrapping, message: Envelope, wrapped_on_loop: bool, unwrapped_on_loop: bool
) -> None:
    assert await on_loop(wrapping, message) == (wrapped_on_loop, unwrapped_on_loop)


async def test_a_block_is_wrapped_on_the_thread(wrapping: Wrapping) -> None:
    body = await wrapping.wrapped(Envelope(sender_id=2, block=BLOCK))
    assert (await wrapping.unwrapped(body)).block is not None


async def test_a_small_body_that_inflates_beyond_all_bounds_is_refused_without_the_loop(wrapping: Wrapping) -> None:
    bomb = gzip.compress(bytes(Limits().inflated_bytes_max + 1), 9)
    with pytest.raises(EnvelopeTooLarge):
        await wrapping.unwrapped(bomb)


async def test_refusals_are_the_same_on_both_ways(wrapping: Wrapping) -> None:
    for body in (b"no gzip", b"no gzip" * 1000):
        with pytest.raises(BadEnvelope, match="not gzip"):
            await wrapping.unwrapped(body)
    assert await wrapping.unwrapped_answer(b"") is None
    assert await wrapping.unwrapped_answer(gzip.compress(b"")) is None


async def test_the_loop_goes_on_while_a_large_message_is_decoded(wrapping: Wrapping) -> None:
    body = await wrapping.wrapped(of(8192))
    decoding = asyncio.create_task(wrapping.unwrapped(body))
    turns = 0
    while not decoding.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1
