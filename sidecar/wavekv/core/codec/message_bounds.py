"""How much one message between members may hold, part by part (G9, G11); checked before anything of it is built.

Each bound is what an honest message can need, derived from `Limits`, and some room; docs/message-bounds.md says what
a message costs that reaches it. Nodes of the original system and older members have pages of their own size, so a
smaller page of this member never binds what it reads.
"""

from dataclasses import dataclass

from wavekv.config import Limits

_THEIRS = Limits()
"""Pages as nodes of the original system, and members with default settings, make them."""


@dataclass(frozen=True, slots=True)
class MessageBounds:
    """Most that each part of a message may have; over it the message is refused as a whole.

    Attributes:
        page: entries of one page, and keys of a page of a list. A block is a page.
        entries: entries, those of a block and keys of a list together: a page, and as many that changed behind its
            cursor (R3c), or that a list has newer.
        origins: origins in `acks` and `dots` together. A context at its bound may get ranges of origins that it knows,
            and has to be readable then, or its members never hear each other again.
        ranges: ranges in `dots`.
        octets: bytes of one value; one packed entry has `PACKED_FACTS_MAX` more. Longer ones inflate to no use: no
            member keeps them.
        numbers: bytes of a message that may travel as arrays of numbers. Only hand-made messages have values so.
        text: bytes of a name, a key or a cluster id.
        members: names in a membership.
        buckets: sums of a digest.
        unknown_fields: fields of later versions that are skipped.
        unknown_bytes: bytes of them.
    """

    page: int
    entries: int
    origins: int
    ranges: int
    octets: int
    numbers: int
    text: int
    members: int = 1000
    buckets: int = 1024
    unknown_fields: int = 16_384
    unknown_bytes: int = 1 << 20

    @classmethod
    def of(cls, limits: Limits) -> "MessageBounds":
        """Return the bounds of a member with `limits`."""
        page = max(limits.page_entries_max, limits.push_keys_max, _THEIRS.page_entries_max)
        ranges = max(limits.dots_max, _THEIRS.dots_max)
        return cls(
            page=page,
            entries=2 * page,
            origins=limits.origins_max + ranges,
            ranges=ranges,
            octets=limits.wire_value_bytes_max,
            numbers=limits.wire_value_bytes_max,
            text=4 * limits.wire_key_bytes_max,
        )


PACKED_FACTS_MAX = 29
"""Bytes of a packed entry in front of its value, at most."""
UUID_BYTES_MAX = 64
"""Bytes of a sender's uuid; all known nodes have 16, or none."""
