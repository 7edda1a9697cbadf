"""How what a message carries is merged: a slice at a time, with turns of others in between.

Whoever adopts what the message says its sender covers does so behind this, by the state of then: after each turn the
sender is looked at once more, and whether anything staged was lost meanwhile to a full disk.
"""

from collections.abc import Sequence
from itertools import groupby

from wavekv.core.codec.message_bounds import MessageBounds
from wavekv.core.horizon import dead_upto
from wavekv.core.messages import Envelope
from wavekv.core.replica import Replica
from wavekv.core.reports import sender_of
from wavekv.core.scatter import UNCHECKED, scattered_in_slices
from wavekv.core.steps import Merged, Refusal, Slices
from wavekv.core.types import I64_MIN, Entry
from wavekv.errors import BadEnvelope, NotWritten


def merge(replica: Replica, message: Envelope, now_ms: int, *, pushed: bool = False) -> Slices[Merged]:
    """Merge what `message` carries, a slice at a time.

    Raises:
        PeerError: the sender is refused, before or after.
        NotWritten: what was merged of it is lost.
    """
    check_sender(replica, message, now_ms)
    _check_size(replica, message)
    yield from _check_origins(replica, message)
    sender, abandoned = sender_of(message), replica.abandoned
    merged = Merged(ticket=replica.last_ticket)
    entries: Sequence[Entry] = message.entries
    if message.block is not None:
        whole = dead_upto(replica, message) == I64_MIN
        merged.stored, others = replica.take_block(message.block, now_ms) if whole else (0, message.block.unpacked())
        entries = (*others, *entries)
    size = replica.limits.merge_slice_entries
    for begin in range(0, max(1, len(entries)), size):
        if begin:
            yield from turn(replica, message, now_ms, abandoned)
        dead = dead_upto(replica, message)
        some = entries[begin : begin + size]
        merged.add(replica.merge(some, now_ms, sender=sender, pushed=pushed, dead_upto=dead))
    return merged


def turn(replica: Replica, message: Envelope, now_ms: int, abandoned: int) -> Slices[None]:
    """Let others have a turn, and see whether what they did ends the merging of `message`.

    Raises:
        PeerError: the sender is refused now.
        NotWritten: what was merged of it is lost.
    """
    yield
    if replica.abandoned != abandoned:
        raise NotWritten("the log took no more while a message was merged; what was merged of it is lost")
    check_sender(replica, message, now_ms)


def _check_size(replica: Replica, message: Envelope) -> None:
    """Refuse a push of more than a page, and any other message of more than its bound; the decoder counts alike."""
    bounds = MessageBounds.of(replica.limits)
    most = bounds.page if message.push_only else bounds.entries
    if len(message.entries) > most:
        raise BadEnvelope(f"the message has {len(message.entries)} entries; it may have {most}")


def _check_origins(replica: Replica, message: Envelope) -> Slices[None]:
    """Refuse new origins that would make looking up those that are covered slow.

    Raises:
        BadEnvelope: they would.
    """
    covered = replica.covered
    told, carried = len(message.acks) + len(message.dots), len(message.entries)
    if message.block is not None:
        carried += len(message.block.parts)
    if covered.origin_count() + told + carried <= UNCHECKED:
        return
    named = [*message.acks, *message.dots, *(entry.origin for entry in message.entries)]
    named += [part.origin for part in message.block.parts] if message.block is not None else []
    new = [origin for origin in named if not covered.knows(origin)]
    yield
    new = [origin for origin, _ in groupby(sorted(new))]
    for known in (covered.acks, covered.ranged(), replica.store.origins()) if new else ():
        if not (yield from scattered_in_slices([*known, *new])):
            raise BadEnvelope("the message has origins chosen so that looking them up takes long")


def check_sender(replica: Replica, message: Envelope, now_ms: int) -> None:
    """Refuse a sender that may not be listened to, and heed an epoch that admitted this member anew.

    Raises:
        PeerError: who sent `message` is refused.
    """
    if message.sender_id == 0:
        raise BadEnvelope("sender_id is 0; a node id is 1 … 4294967295")
    replica.membership.admit(message)
    replica.heed_admission()
    governed = replica.membership.epoch is not None
    replica.reports.check(message, now_ms + replica.limits.future_ms_max, governed=governed)
    _heed_origin(replica, message, now_ms)


def _heed_origin(replica: Replica, message: Envelope, now_ms: int) -> None:
    """Note which origins are the sender's; one that another member names as its own is counted, and is nobody's.

    Its node id is one: the first process of a new directory writes under it, and may not have written yet.
    """
    name = sender_of(message)
    for origin in (message.sender_id, message.origin):
        if origin is None:
            continue
        mine = origin in (replica.origin, replica.identity.node_id)
        if not replica.vouching.named(name, origin) or (mine and origin != 0):
            replica.refused["claimed_origin"] += 1
            replica.last_refusal = Refusal("claimed_origin", "", now_ms, name, now_ms)
