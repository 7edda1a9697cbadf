"""What members say to each other, as values. `codec.envelope` knows the bytes.

The ten fields of the original system come first; a field of WaveKV's own is None (or empty) where the sender is a
crate node or had nothing to say. What each field means, and when it is sent, is in
docs/replication.md, "Fields of an envelope".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from wavekv.core.block import Block
from wavekv.core.types import Dot, Entry

Ranges = tuple[tuple[int, int], ...]
"""Sequences `first`…`last` inclusive, ascending, not touching."""


class Page(NamedTuple):
    """The answer goes on behind `cursor`, unless `last`."""

    cursor: Dot
    last: bool


class Listed(NamedTuple):
    """A held entry in a list: its key and stamp."""

    key: str
    timestamp: int
    origin: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One message of the exchange or of a push, in either direction.

    Attributes:
        sender_id: node id of the sender, 1 … 2**32-1.
        sender_uuid: 16 bytes, or empty.
        acks: origin → sequence up to which the sender covers everything.
        entries: what the sender believes the receiver lacks, tombstones included.
        digest: SHA-256 of the sender's entries as the crate computes it, only towards crate nodes.
        page: set when the entries go on.
        resume_from: the cursor the answer has to start behind.
        reset_acks: the sender asks to ignore its acks (crate repair).
        push_only: the message adopts nothing.
        name: member name of the sender; its presence tells a WaveKV member from a crate node.
        inc: process number of the sender.
        since: on a request, the receiver's process whose report filtered the entries; 0 = not filtered.
        dots: origin → ranges above the ack that the sender covers; on a push, the ranges it carries in full.
        healing: the sender's volume is not yet trusted (R7).
        floor: with every context that may be adopted; its absence says "adopt nothing".
        now_ms: the sender's clock.
        promised: what the sender writes and does not cover in this message is stamped above it (ms), R15.
        horizon: what the sender does not cover and is not stamped above it (ms) is dead, R15.
        epoch: number of the newest membership the sender knows.
        members: names of that membership, for a receiver that knows an older one.
        buckets: digest of the entries the sender holds, by bucket.
        page_pos: the responder's log position at its first page, echoed by the requester.
        cluster_id: the sender's cluster, canonical UUID text.
        listed: in a repair, what the sender holds of a range of keys.
        listed_of: bit mask of the buckets that the list is about.
        listed_after: the range begins behind this key; absent: at the first.
        listed_upto: it ends with this key; absent: with the last.
        takes_block: on a request, the sender reads `block`.
        filter_acks: on a request of who covers more than a message may tell, and so tells none of it as a report: some
            of it, to be left out of the answer.
        filter_dots: the ranges that belong to it.
        block: entries like those in `entries`, packed and in the order of their dots.
        epoch_doc: the signed membership document of `epoch`, for a receiver that knows an older one.
        rival: on an answer, an older process of the receiver's name still speaks; its `claim` is wanted.
        claim: the sender's process number, signed with the key of its certificate, for that older process.
        origin: the origin this process of the sender writes under, once it is durable; None before its first write.
        crate: which configured node of the original system sent the message, by its certificate or its address; None:
            nobody knows. It is never on the wire.
    """

    sender_id: int
    sender_uuid: bytes = b""
    acks: Mapping[int, int] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    digest: bytes | None = None
    page: Page | None = None
    resume_from: Dot | None = None
    reset_acks: bool = False
    push_only: bool = False
    version: int = 1
    name: str | None = None
    inc: int | None = None
    since: int | None = None
    dots: Mapping[int, Ranges] = field(default_factory=dict)
    healing: bool = False
    floor: int | None = None
    now_ms: int | None = None
    promised: int | None = None
    horizon: int | None = None
    epoch: int | None = None
    members: tuple[str, ...] | None = None
    buckets: tuple[int, ...] | None = None
    page_pos: int | None = None
    cluster_id: str | None = None
    listed: tuple[Listed, ...] | None = None
    listed_of: int | None = None
    listed_after: str | None = None
    listed_upto: str | None = None
    takes_block: bool = False
    block: Block | None = None
    filter_acks: Mapping[int, int] = field(default_factory=dict)
    filter_dots: Mapping[int, Ranges] = field(default_factory=dict)
    epoch_doc: bytes | None = None
    rival: bool = False
    claim: bytes | None = None
    origin: int | None = None
    crate: str | None = None

    def carried(self) -> tuple[Entry, ...]:
        """Return all entries of the message, one by one."""
        return self.entries if self.block is None else (*self.block.unpacked(), *self.entries)
