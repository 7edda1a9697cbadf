"""Wraps and unwraps the bodies of messages: small ones at once, large ones on a thread of their own.

Inflating and decoding the largest message takes some tens of milliseconds, packing a page not much less; the loop goes
on meanwhile. The server has one such thread, and so has whoever asks: messages wait for each other, not the loop for
them, and one of them at a time is held inflated. What was decoded is held until it is merged: `held_bytes`.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from wavekv.config import Limits
from wavekv.core.codec import envelope
from wavekv.core.codec.message_bounds import MessageBounds
from wavekv.core.messages import Envelope
from wavekv.errors import EnvelopeTooLarge

T = TypeVar("T")

SMALL_WIRE_BYTES_MAX: Final = 4096
SMALL_INFLATED_BYTES_MAX: Final = 32 << 10
"""Bodies up to both are unwrapped at once: 1 ms at most, and the way to a thread and back costs a tenth of one."""
SMALL_ITEMS_MAX: Final = 64
SMALL_ORIGINS_MAX: Final = 1024
"""Messages up to both, and to as many bytes, are wrapped at once."""
_ITEM_BYTES: Final = 384
"""What an entry or a range takes beside its key and value; measured in docs/message-bounds.md."""
_ORIGIN_BYTES: Final = 192


class Wrapping:
    """The thread, and the bounds of what is unwrapped."""

    def __init__(self, limits: Limits) -> None:
        self._bounds = MessageBounds.of(limits)
        self._wire_bytes_max, self._inflated_bytes_max = limits.wire_bytes_max, limits.inflated_bytes_max
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wavekv-messages")

    def close(self) -> None:
        """End the thread once it has done what it began."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def unwrapped(self, body: bytes) -> Envelope:
        """Return the message in `body`. Raises as `envelope.unpack`."""
        return await self._unwrapped(body, envelope.unpack)

    def unwrapped_small(self, body: bytes) -> Envelope | None:
        """Return the message in `body` at once, None if it is large. Raises as `envelope.unpack`."""
        if len(body) > SMALL_WIRE_BYTES_MAX:
            return None
        small = min(SMALL_INFLATED_BYTES_MAX, self._inflated_bytes_max)
        try:
            return envelope.unpack(body, self._wire_bytes_max, small, self._bounds)
        except EnvelopeTooLarge:
            return None

    async def unwrapped_answer(self, body: bytes) -> Envelope | None:
        """Return the report in the answer to a push, if any. Raises as `envelope.unpack_push_answer`."""
        return await self._unwrapped(body, envelope.unpack_push_answer)

    async def _unwrapped(self, body: bytes, unpack: Callable[[bytes, int, int, MessageBounds], T]) -> T:
        if len(body) <= SMALL_WIRE_BYTES_MAX:
            small = min(SMALL_INFLATED_BYTES_MAX, self._inflated_bytes_max)
            try:
                return unpack(body, self._wire_bytes_max, small, self._bounds)
            except EnvelopeTooLarge:
                pass  # it inflates to more
        arguments = (body, self._wire_bytes_max, self._inflated_bytes_max, self._bounds)
        return await asyncio.get_running_loop().run_in_executor(self._executor, unpack, *arguments)

    async def wrapped(self, message: Envelope) -> bytes:
        """Return the body that carries `message`."""
        if _small(message):
            return envelope.pack(message)
        return await asyncio.get_running_loop().run_in_executor(self._executor, envelope.pack, message)


def held_bytes(message: Envelope) -> int:
    """Return about how many bytes a decoded message takes: 16 KiB on the wire may have been 16 MiB."""
    items, origins = len(message.entries) + len(message.listed or ()), len(message.acks) + len(message.filter_acks)
    ranges = sum(map(len, message.dots.values())) + sum(map(len, message.filter_dots.values()))
    size = sum(len(entry.key) + len(entry.value or b"") for entry in message.entries)
    if message.block is not None:
        items += len(message.block)
        size += message.block.size_bytes
    return size + _ITEM_BYTES * (items + ranges) + _ORIGIN_BYTES * origins


def _small(message: Envelope) -> bool:
    if message.block is not None or len(message.entries) + len(message.listed or ()) > SMALL_ITEMS_MAX:
        return False
    ranges = sum(map(len, message.dots.values())) + sum(map(len, message.filter_dots.values()))
    size = sum(len(entry.key) + len(entry.value or b"") for entry in message.entries)
    origins = len(message.acks) + len(message.filter_acks)
    return ranges + origins <= SMALL_ORIGINS_MAX and size <= SMALL_INFLATED_BYTES_MAX
