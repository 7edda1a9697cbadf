"""Messages made to cost their reader as much as they can, as msgpack; used by tests and by `bench/message_cost.py`."""

from collections.abc import Callable
from typing import Any

import msgpack

from wavekv.config import Limits
from wavekv.core.block import Block
from wavekv.core.codec.envelope import encode_envelope
from wavekv.core.codec.message_bounds import MessageBounds
from wavekv.core.messages import Envelope, Listed, Ranges
from wavekv.core.packed import pack
from wavekv.core.types import U32_MAX, U64_MAX, Entry

LIMITS = Limits()
BOUNDS = MessageBounds.of(LIMITS)
HEAD = msgpack.packb({"version": 1, "sender_id": 2, "sender_uuid": b"u"})[1:]


def with_field(name: str, raw: bytes) -> bytes:
    """Return a minimal message with one more field, whose value is `raw`."""
    return b"\x84" + HEAD + msgpack.packb(name) + raw


def array(count: int) -> bytes:
    """Return the header of an array."""
    return b"\xdd" + count.to_bytes(4, "big")


def mapping(count: int) -> bytes:
    """Return the header of a map."""
    return b"\xdf" + count.to_bytes(4, "big")


def entry(index: int, value: bytes | None = b"") -> Entry:
    return Entry(f"{index:08}", value, 2**62, U32_MAX - index % 2, 2**63 + index)


def colliding_origins(count: int) -> list[int]:
    """Return u32 numbers half of which fill a row of places in a dict of `count`, where all the others are looked for.

    The row is the walk at -> 5 at + 1 with which CPython ends a search; who begins in it walks to its end.
    """
    mask = (1 << (count * 3 // 2).bit_length()) - 1
    row, at = [], 1
    for _ in range(count // 2):
        row.append(at)
        at = (at * 5 + 1) & mask
    others = [(place + (high + 1) * (mask + 1)) & U32_MAX for high in range(2) for place in row]
    return list(dict.fromkeys([*row, *others]))[:count]


def ranges(count: int, first: int = 3) -> Ranges:
    return tuple((first + 3 * at, first + 3 * at + 1) for at in range(count))


def colliding_pairs(count: int) -> bytes:
    """Return map keys that are arrays of two, as many as fit into four hashes of tuples."""
    return b"".join(b"\x92" + msgpack.packb(at) + msgpack.packb(2**61 - 1 + at) + b"\xc0" for at in range(count))


def told(**fields: Any) -> bytes:
    return encode_envelope(Envelope(sender_id=2, **fields))


def _block(count: int) -> Block:
    entries = sorted((entry(index) for index in range(count)), key=lambda one: one.dot)
    return Block([one.key for one in entries], [pack(one) for one in entries])


def _scattered(count: int) -> dict[int, int]:
    return {(at * 2_654_435_761) & U32_MAX: U64_MAX for at in range(1, count + 1)}


def _apart(count: int) -> dict[int, Ranges]:
    return {origin: ranges(1, 2**62) for origin in _scattered(count)}


def everything() -> bytes:
    """Return a message with the most of all that has a bound of its own, and values up to the size of a message."""
    value_bytes = 2 * (12 << 20) // BOUNDS.entries - 600
    return told(
        acks=_scattered(BOUNDS.origins - BOUNDS.ranges),
        dots=_apart(BOUNDS.ranges),
        members=tuple(f"{at:0100}" for at in range(BOUNDS.members)),
        buckets=(U64_MAX,) * BOUNDS.buckets,
        block=_block(BOUNDS.page),
        entries=tuple(entry(at, bytes(value_bytes)) for at in range(BOUNDS.entries - BOUNDS.page)),
    )


REFUSED: dict[str, Callable[[], bytes]] = {
    "arrays in arrays": lambda: with_field("new", b"\x91" * (15 << 20)),
    "arrays of arrays": lambda: with_field("new", (array(65_536) + b"\xdc\xff\xff") * 40 + b"\x90" * (14 << 20)),
    "maps of maps": lambda: with_field("new", (mapping(65_536) + b"\x01") * 40 + b"\x80" * (14 << 20)),
    "entries of arrays": lambda: with_field("entries", array(4096) + b"\x91" * (15 << 20)),
    "empty maps as entries": lambda: with_field("entries", array(8192) + b"\x80" * 8192),
    "keys that are arrays": lambda: mapping(20_003) + HEAD + colliding_pairs(20_000),
    "acks with keys that are arrays": lambda: with_field("acks", mapping(20_000) + colliding_pairs(20_000)),
    "keys that are floats": lambda: with_field("acks", mapping(1) + b"\xca\0\0\0\0\x01"),
    "keys that are bytes": lambda: b"\x84" + HEAD + b"\xc4\x01a\x01",
    "keys that are nil": lambda: b"\x84" + HEAD + b"\xc0\x01",
    "a key that is an extension": lambda: b"\x84" + HEAD + b"\xc7\x00\x05\x01",
    "a value that is an extension": lambda: with_field("name", b"\xc7\x05\x05hello"),
    "a value that is a time": lambda: with_field("inc", b"\xd6\xff\0\0\0\0"),
    "a name of megabytes": lambda: with_field("name", b"\xdb" + (1 << 20).to_bytes(4, "big") + b"a" * (1 << 20)),
    "unknown fields without end": lambda: mapping(5_000_003) + HEAD + b"\x01\x01" * 5_000_000,
    "unknown fields in an entry": lambda: with_field(
        "entries", array(1) + mapping(5_000_000) + b"\x01\x01" * 5_000_000
    ),
    "an unknown field of megabytes": lambda: with_field("new", b"\xc6" + (8 << 20).to_bytes(4, "big") + bytes(8 << 20)),
    "many long unknown fields": lambda: mapping(403) + HEAD + (b"\x01\xdc\x10\x00" + b"\x90" * 4096) * 400,
    "values as numbers": lambda: with_field(
        "entries", array(3) + (b"\x93\xa1k" + array(1 << 20) + b"\x01" * (1 << 20) + b"\x93\1\1\1") * 3
    ),
    "a value of large numbers": lambda: with_field(
        "entries", array(1) + b"\x93\xa1k" + array(1 << 20) + b"\xcd\xff\xff" * (1 << 20) + b"\x93\1\1\1"
    ),
    "acks beyond the bound": lambda: with_field("acks", msgpack.packb(dict.fromkeys(range(BOUNDS.origins + 1), 1))),
    "acks that collide": lambda: told(acks=dict.fromkeys(colliding_origins(BOUNDS.origins), 1)),
    "dots that collide": lambda: told(dots=dict.fromkeys(colliding_origins(BOUNDS.ranges), ((3, 4),))),
    "an origin twice": lambda: with_field("acks", mapping(2) + b"\x01\x01\x01\x01"),
    "ranges beyond the bound": lambda: told(dots={1: ranges(BOUNDS.ranges), 2: ranges(1)}),
    "origins without ranges": lambda: told(dots=dict.fromkeys(range(BOUNDS.ranges + 1), ())),
    "entries beyond the bound": lambda: told(entries=tuple(map(entry, range(BOUNDS.entries + 1)))),
    "entries and a list beyond the bound": lambda: told(
        entries=tuple(map(entry, range(BOUNDS.page + 1))),
        listed=tuple(Listed("", 0, 0, at) for at in range(BOUNDS.page)),
    ),
    "acks and a filter beyond the bound": lambda: told(
        acks=_scattered(BOUNDS.origins // 2), filter_acks=_scattered(BOUNDS.origins // 2 + 1)
    ),
    "a block beyond a page": lambda: told(block=_block(BOUNDS.page + 1)),
    "a list beyond a page": lambda: told(listed=tuple(Listed("", 0, 0, at) for at in range(BOUNDS.page + 1))),
    "members beyond the bound": lambda: told(members=("m",) * (BOUNDS.members + 1)),
    "buckets beyond the bound": lambda: told(buckets=(0,) * (BOUNDS.buckets + 1)),
    "a field twice": lambda: b"\x85" + HEAD + b"\xa4name\xa1a\xa4name\xa1b",
    "an array that ends too soon": lambda: with_field("entries", array(8192)),
    "an array that never ends": lambda: with_field("entries", b"\xdd\xff\xff\xff\xff"),
    "an unknown array that never ends": lambda: with_field("new", b"\xdd\xff\xff\xff\xff"),
    "an unknown text that never ends": lambda: with_field("new", b"\xdb\xff\xff\xff\xff"),
}
"""Refused, whatever they cost until then."""

TAKEN: dict[str, Callable[[], bytes]] = {
    "the most of everything": everything,
    "the most acks": lambda: told(acks=_scattered(BOUNDS.origins)),
    "the most ranges": lambda: told(dots={1: ranges(BOUNDS.ranges)}),
    "ranges of as many origins": lambda: told(dots=_apart(BOUNDS.ranges)),
    "the most entries": lambda: told(entries=tuple(map(entry, range(BOUNDS.entries)))),
    "the largest block": lambda: told(block=_block(BOUNDS.page)),
    "the longest list": lambda: told(listed=tuple(Listed(f"{at:08}", 1, 1, at) for at in range(BOUNDS.page))),
    "the longest value as numbers": lambda: with_field(
        "entries", array(1) + b"\x93\xa1k" + array(1 << 20) + b"\xcc\xff" * (1 << 20) + b"\x93\1\1\1"
    ),
    "the most unknown fields": lambda: mapping(3 + BOUNDS.unknown_fields) + HEAD + b"\x01\x90" * BOUNDS.unknown_fields,
    "the longest unknown field": lambda: with_field(
        "new", array(BOUNDS.unknown_bytes - 5) + b"\xc0" * (BOUNDS.unknown_bytes - 5)
    ),
}
"""At a bound, and taken."""
