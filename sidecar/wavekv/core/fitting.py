"""What fits: the limits on keys, values, counts and bytes, for local writes (to a share) and for merged ones (whole).

The share left between the two lets merges go on while local writes are refused already: else a full member could not
converge with the others.
"""

from collections.abc import Sequence
from typing import Final

from wavekv.config import Limits
from wavekv.core.block import Block
from wavekv.core.packed import FACTS_BYTES
from wavekv.core.types import Entry, beats
from wavekv.core.writes import Put, Write
from wavekv.errors import BatchTooLarge, LimitReached

UTF8_BYTES_MAX: Final = 4
"""Of one character."""


def check_room(limits: Limits, *, keys: int, size_bytes: int, new_key: bool, growth_bytes: int) -> None:
    """Check that a local write fits over `keys` and `size_bytes` held.

    Raises:
        LimitReached: it would take one of them over the local share; one that frees bytes of a held key never does.
    """
    share = limits.local_fill_ratio_max
    if new_key and keys >= int(limits.entries_max * share):
        raise LimitReached(
            f"{keys} of {limits.entries_max} entries are held and local writes of new keys stop at {share:.0%}; "
            "delete some, or raise the limit"
        )
    if growth_bytes > 0 and size_bytes + growth_bytes > int(limits.bytes_max * share):
        raise LimitReached(
            f"{size_bytes} of {limits.bytes_max} bytes are held and local writes stop at {share:.0%}; "
            "delete some, or raise the limit"
        )


def check_batch(writes: Sequence[Write], limits: Limits) -> None:
    """Check a batch against its bounds.

    Raises:
        BatchTooLarge: too many operations, or bytes of keys and values.
    """
    if len(writes) > limits.batch_operations_max:
        raise BatchTooLarge(f"{len(writes)} operations; a batch has {limits.batch_operations_max} at most")
    size = sum(len(write.key.encode()) + (len(write.value) if isinstance(write, Put) else 0) for write in writes)
    if size > limits.batch_bytes_max:
        raise BatchTooLarge(f"{size} bytes of keys and values; a batch has {limits.batch_bytes_max} at most")


def merge_refusal(
    entry: Entry, held: Entry | None, limits: Limits, *, keys: int, size_bytes: int, now_ms: int
) -> str | None:
    """Return the code of why another member's entry does not fit over `held`; None: it does, or it loses.

    Exactly at a limit is fine. The limits on what travels are the original system's; smaller ones are for clients. The
    empty key, which only its nodes can write, is merged like any other: a member that refused what another one took
    would never converge with it, and a batch deletes it.
    """
    if len(entry.key) > limits.wire_key_bytes_max or len(entry.key.encode()) > limits.wire_key_bytes_max:
        return "key_too_large"
    if entry.value is not None and len(entry.value) > limits.wire_value_bytes_max:
        return "value_too_large"
    if entry.timestamp > now_ms + limits.future_ms_max:
        return "future_timestamp"
    if held is None:
        return "limit_reached" if keys >= limits.entries_max or size_bytes >= limits.bytes_max else None
    growth_bytes = len(entry.value or b"") - len(held.value or b"")
    if growth_bytes > 0 and size_bytes + growth_bytes > limits.bytes_max and beats(entry, held):
        return "limit_reached"
    return None


def fits_whole(block: Block, limits: Limits, keys: int, size_bytes: int, now_ms: int) -> bool:
    """Tell whether all of another member's `block` fits over `keys` and `size_bytes` held, by columns.

    False says nothing: the entries are to be looked at one by one.
    """
    facts = block.facts
    return (
        max(facts.timestamps) <= now_ms + limits.future_ms_max
        and max(map(len, block.keys)) <= limits.wire_key_bytes_max // UTF8_BYTES_MAX
        and max(map(len, block.packed)) - FACTS_BYTES <= limits.wire_value_bytes_max
        and keys + len(block) <= limits.entries_max
        and size_bytes + block.size_bytes <= limits.bytes_max
    )
