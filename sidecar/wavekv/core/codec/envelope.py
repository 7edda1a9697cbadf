"""The bytes of a message between members: msgpack in one gzip member.

The fields are listed in docs/replication.md, "Fields of an envelope". Writing gives exactly the original system's bytes
for its ten fields, followed by WaveKV's own where they are set. Reading is as strict as the original: trailing bytes, a
field twice, a bool for a number, nil where only absence is meant, all are refused by the field's name; unknown fields
are skipped at every level, so that later versions can add some. Inflating stops at its bound, not after it; decoding
builds no more than `message_bounds` allows, whatever the bytes say (`message_reader`).
"""

import zlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from operator import le, sub
from typing import Any, Final

import msgpack

from wavekv.config import Limits
from wavekv.core.block import Block
from wavekv.core.codec.message_bounds import PACKED_FACTS_MAX, UUID_BYTES_MAX, MessageBounds
from wavekv.core.codec.message_reader import MALFORMED, MessageReader
from wavekv.core.messages import Envelope, Listed, Page, Ranges
from wavekv.core.scatter import scattered
from wavekv.core.types import I64_MAX, I64_MIN, U32_MAX, U64_MAX, Dot, Entry
from wavekv.errors import BadEnvelope, EnvelopeTooLarge

BOUNDS: Final = MessageBounds.of(Limits())
"""Bounds of a message under default settings."""
VERSION_MAX: Final = 1
EPOCH_DOC_BYTES_MAX: Final = 1 << 20
"""Longest signed membership document in a message; a thousand members with the longest names fit."""
CLAIM_BYTES_MAX: Final = 16 << 10
"""Longest claim: a signature and a chain of certificates."""
_HASH_BYTES = 32
_GZIP = 16 + zlib.MAX_WBITS
_SAMPLE_BYTES: Final = 16 << 10
_WORTH_SHARE: Final = 0.75
"""Up to this share of its size a message is worth compressing."""

_CRATE_FIELDS: Final = (
    "version",
    "sender_id",
    "sender_uuid",
    "acks",
    "entries",
    "digest",
    "page",
    "resume_from",
    "reset_acks",
    "push_only",
)
_OWN_FIELDS: Final = (
    "name",
    "inc",
    "since",
    "dots",
    "healing",
    "floor",
    "now_ms",
    "promised",
    "horizon",
    "epoch",
    "members",
    "buckets",
    "page_pos",
    "cluster_id",
    "listed",
    "listed_of",
    "listed_after",
    "listed_upto",
    "takes_block",
    "block",
    "filter_acks",
    "filter_dots",
    "epoch_doc",
    "rival",
    "claim",
    "origin",
)
_REQUIRED: Final = frozenset({"version", "sender_id", "sender_uuid"})


# ---- writing -------------------------------------------------------------------------------------------------------


def encode_envelope(message: Envelope) -> bytes:
    """Return the msgpack bytes of `message`."""
    fields: dict[str, Any] = {
        "version": message.version,
        "sender_id": message.sender_id,
        "sender_uuid": list(message.sender_uuid),
        "acks": message.acks,
        "entries": [_entry_out(entry) for entry in message.entries],
        "digest": None if message.digest is None else {"hash": list(message.digest)},
        "page": None if message.page is None else {"cursor": message.page.cursor, "last": message.page.last},
        "resume_from": message.resume_from,
        "reset_acks": message.reset_acks,
        "push_only": message.push_only,
    }
    for name in _OWN_FIELDS:
        value = getattr(message, name)
        if value is not None and value is not False and value != {}:
            fields[name] = _block_out(value) if isinstance(value, Block) else value
    return bytes(msgpack.packb(fields))


def _entry_out(entry: Entry) -> dict[str, Any]:
    meta = {"node": entry.origin, "seq": entry.seq, "timestamp": entry.timestamp}
    found: dict[str, Any] = {"key": entry.key, "value": entry.value, "meta": meta}
    if entry.expires_at is not None:
        found["expires_at"] = entry.expires_at
    return found


def _block_out(block: Block) -> dict[str, Any]:
    return {"keys": block.keys, "packed": block.packed}


def pack(message: Envelope) -> bytes:
    """Return `message` as one gzip member, with no time in its header: the same message gives the same bytes.

    A large one of which a sample hardly becomes smaller is stored as it is: compressing it took half of the time of
    whoever sent a million entries (`bench/replication.py`).
    """
    data = encode_envelope(message)
    middle = data[len(data) // 2 :][:_SAMPLE_BYTES]
    stored = len(data) >= 4 * _SAMPLE_BYTES and len(zlib.compress(middle, 1)) > _WORTH_SHARE * _SAMPLE_BYTES
    packer = zlib.compressobj(0 if stored else 1, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()


# ---- reading -------------------------------------------------------------------------------------------------------


def unpack(body: bytes, wire_bytes_max: int, inflated_bytes_max: int, bounds: MessageBounds = BOUNDS) -> Envelope:
    """Return the message in `body`, one gzip member.

    Raises:
        EnvelopeTooLarge: more bytes than allowed, compressed or inflated.
        BadEnvelope: broken gzip or msgpack, trailing bytes, or a field that is not what it has to be.
    """
    return decode_envelope(_inflate(body, wire_bytes_max, inflated_bytes_max), bounds)


def unpack_push_answer(
    body: bytes, wire_bytes_max: int, inflated_bytes_max: int, bounds: MessageBounds = BOUNDS
) -> Envelope | None:
    """Return the report in the answer to a push; None where it is empty or a gzip of nothing, as crate nodes answer.

    Raises: as `unpack`.
    """
    inflated = _inflate(body, wire_bytes_max, inflated_bytes_max) if body else b""
    return decode_envelope(inflated, bounds) if inflated else None


def _inflate(body: bytes, wire_bytes_max: int, inflated_bytes_max: int) -> bytes:
    if len(body) > wire_bytes_max:
        raise EnvelopeTooLarge(f"the message has {len(body)} bytes; at most {wire_bytes_max} are taken")
    unpacker = zlib.decompressobj(wbits=_GZIP)
    try:
        inflated = unpacker.decompress(body, inflated_bytes_max + 1)
    except zlib.error as error:
        raise BadEnvelope(f"the body is not gzip: {error}") from error
    if len(inflated) > inflated_bytes_max:
        raise EnvelopeTooLarge(f"the message inflates to more than {inflated_bytes_max} bytes")
    if not unpacker.eof:
        raise BadEnvelope("the gzip body is cut short")
    if unpacker.unused_data:
        raise BadEnvelope(f"{len(unpacker.unused_data)} bytes follow the gzip member")
    return inflated


def decode_envelope(data: bytes, bounds: MessageBounds = BOUNDS) -> Envelope:
    """Return the message in msgpack `data`.

    Raises:
        BadEnvelope: it is not exactly one envelope within `bounds`; the message names the field.
    """
    reader = MessageReader(data, bounds)
    fields: dict[str, Any] = {}
    at = "envelope"
    try:
        for name in reader.fields("envelope", _CRATE_FIELDS, _FIELDS):
            at = name
            fields[name] = _READERS[name](reader, name)
            at = "envelope"
    except MALFORMED as error:
        raise BadEnvelope(f"{at} is not what it has to be: {error or type(error).__name__}") from error
    if not reader.ended():
        raise BadEnvelope("bytes follow the message")
    missing = _REQUIRED - fields.keys()
    if missing:
        raise BadEnvelope(f"the envelope lacks {', '.join(sorted(missing))}")
    return Envelope(**fields)


Read = Callable[[MessageReader, str], Any]


def _number(least: int, most: int) -> Read:
    return lambda reader, name: reader.number(least, most, name)


_u32, _u64, _i64 = _number(0, U32_MAX), _number(0, U64_MAX), _number(I64_MIN, I64_MAX)


def _version(reader: MessageReader, name: str) -> int:
    version = reader.number(0, 65535, name)
    if version > VERSION_MAX:
        raise BadEnvelope(f"version {version} is not known here; at most {VERSION_MAX} is")
    return version


def _uuid(reader: MessageReader, name: str) -> bytes:
    return reader.octets(name, UUID_BYTES_MAX)


def _optional_dot(reader: MessageReader, name: str) -> Dot | None:
    return None if reader.take_nil() else reader.dot(name)


def _digest(reader: MessageReader, name: str) -> bytes | None:
    if reader.take_nil():
        return None
    digest: bytes | None = None
    for _ in reader.fields(name, ("hash",), _DIGEST_FIELDS):
        digest = reader.octets(f"{name} hash", _HASH_BYTES)
    if digest is None or len(digest) != _HASH_BYTES:
        raise BadEnvelope(f"{name} hash has to have {_HASH_BYTES} bytes")
    return digest


def _page(reader: MessageReader, name: str) -> Page | None:
    if reader.take_nil():
        return None
    cursor: Dot | None = None
    last: bool | None = None
    for field in reader.fields(name, ("cursor", "last"), _PAGE_FIELDS):
        if field == "cursor":
            cursor = reader.dot(f"{name} cursor")
        else:
            last = reader.flag(f"{name} last")
    if cursor is None or last is None:
        raise BadEnvelope(f"{name} has to have cursor and last")
    return Page(cursor, last)


# ---- who covers what ---


def _acks(reader: MessageReader, name: str) -> dict[int, int]:
    count = reader.count(reader.map, reader.origins_left, name)
    reader.origins_left -= count
    numbers = reader.some(2 * count)
    origins, acks = numbers[::2], numbers[1::2]
    reader.check_numbers(origins, 0, U32_MAX, f"{name} origins")
    reader.check_numbers(acks, 0, U64_MAX, f"{name} sequences")
    return dict(zip(_distinct(origins, name), acks, strict=True))


def _dots(reader: MessageReader, name: str) -> dict[int, Ranges]:
    """Read ranges by origin, all of them as one column of numbers: there may be few of each of many origins."""
    array, scalar = reader.array, reader.scalar
    count = reader.count(reader.map, min(reader.ranges_left, reader.origins_left), name)
    origins: list[Any] = []
    ends: list[int] = []
    raw: list[Any] = []
    for _ in range(count):
        origins.append(scalar())
        for _ in range(reader.count(array, reader.ranges_left - len(raw) // 2, name)):
            if array() != 2:
                raise BadEnvelope(f"{name} has to hold [first, last]")
            raw += (scalar(), scalar())
        ends.append(len(raw) // 2)
    reader.origins_left -= count
    reader.ranges_left -= len(raw) // 2
    reader.check_numbers(origins, 0, U32_MAX, f"{name} origins")
    return dict(zip(_distinct(origins, name), _cut(raw, ends, reader, name), strict=True))


def _distinct(origins: list[int], name: str) -> list[int]:
    if not scattered(origins):
        raise BadEnvelope(f"the origins of {name} are chosen so that looking them up takes long")
    if len(set(origins)) != len(origins):
        raise BadEnvelope(f"{name} has an origin twice")
    return origins


def _cut(raw: list[Any], ends: list[int], reader: MessageReader, name: str) -> list[Ranges]:
    """Return the ranges in a column of firsts and lasts, cut behind the place of each end."""
    reader.check_numbers(raw, 1, U64_MAX, name)
    firsts, lasts = raw[::2], raw[1::2]
    close = {at for at, gap in enumerate(map(sub, firsts[1:], lasts), start=1) if gap < 2}
    if not all(map(le, firsts, lasts)) or not close.issubset(ends):
        raise BadEnvelope(f"{name} has to ascend without touching: [first, last], a gap, [first, last]")
    ranges = tuple(zip(firsts, lasts, strict=True))
    return [ranges[begin:end] for begin, end in pairwise([0, *ends])]


def _members(reader: MessageReader, name: str) -> tuple[str, ...]:
    return tuple([reader.text(name) for _ in range(reader.count(reader.array, reader.bounds.members, name))])


def _buckets(reader: MessageReader, name: str) -> tuple[int, ...]:
    count = reader.count(reader.array, reader.bounds.buckets, name)
    return tuple(reader.numbers(count, 0, U64_MAX, name))


# ---- entries ---


def _entries(reader: MessageReader, name: str) -> tuple[Entry, ...]:
    count = reader.count(reader.array, reader.entries_left, name)
    reader.entries_left -= count
    return tuple([_entry(reader) for _ in range(count)])


def _entry(reader: MessageReader) -> Entry:
    """Read one entry; a map by name without a generator for its fields (a page has 4096 of them)."""
    scalar = reader.scalar
    try:
        count = reader.map()
    except ValueError:
        return _positional_entry(reader)
    key = value = meta = expires_at = _ABSENT
    for _ in range(count):
        name = scalar()
        if name == "key" and key is _ABSENT:
            key = _key(reader)
        elif name == "value" and value is _ABSENT:
            value = _value(reader)
        elif name == "meta" and meta is _ABSENT:
            meta = _meta(reader)
        elif name == "expires_at" and expires_at is _ABSENT:
            expires_at = reader.number(I64_MIN, I64_MAX, "expires_at")
        else:
            reader.unknown(name, _ENTRY_FIELDS)
    return _made_entry(key, value, meta, None if expires_at is _ABSENT else expires_at)


def _positional_entry(reader: MessageReader) -> Entry:
    parts: dict[str, Any] = {}
    for name in reader.fields("entry", ("key", "value", "meta"), _ENTRY_FIELDS):
        parts[name] = _PART_READERS[name](reader)
    key, value, meta = (parts.get(name, _ABSENT) for name in ("key", "value", "meta"))
    return _made_entry(key, value, meta, None)


def _made_entry(key: Any, value: Any, meta: Any, expires_at: Any) -> Entry:
    if key is _ABSENT or value is _ABSENT or meta is _ABSENT:
        raise BadEnvelope("an entry has to have key, value and meta")
    return _new_tuple(Entry, (key, value, *meta, expires_at))  # type: ignore[no-any-return]


def _key(reader: MessageReader) -> str:
    raw = reader.scalar()
    if type(raw) is str:
        return raw
    if type(raw) is not bytes:
        raise BadEnvelope("key has to be a string")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadEnvelope("key is not UTF-8") from error


def _value(reader: MessageReader) -> bytes | None:
    first = reader.peek()
    if first == 0xC0 or 0xC4 <= first <= 0xC6:
        return reader.scalar()  # type: ignore[no-any-return]
    if 0xA0 <= first <= 0xBF or 0xD9 <= first <= 0xDB:
        text: str = reader.scalar()
        return text.encode()
    return reader.octets("value", reader.bounds.octets)


def _meta(reader: MessageReader) -> tuple[int, int, int]:
    """Return timestamp, origin and sequence."""
    origin = seq = timestamp = None
    scalar = reader.scalar
    try:
        count = reader.map()
    except ValueError:
        if reader.array() != 3:
            raise BadEnvelope("meta has to have node, seq and timestamp") from None
        origin, seq, timestamp = scalar(), scalar(), scalar()
        count = 0
    for _ in range(count):
        name = scalar()
        if name == "node" and origin is None:
            origin = scalar()
        elif name == "seq" and seq is None:
            seq = scalar()
        elif name == "timestamp" and timestamp is None:
            timestamp = scalar()
        else:
            reader.unknown(name, _META_FIELDS)
    if type(origin) is not int or type(seq) is not int or type(timestamp) is not int:
        raise BadEnvelope("meta has to have node, seq and timestamp as whole numbers")
    if not (0 <= origin <= U32_MAX and 0 <= seq <= U64_MAX and I64_MIN <= timestamp <= I64_MAX):
        raise BadEnvelope("meta has to have node as u32, seq as u64 and timestamp as i64")
    return timestamp, origin, seq


def _listed(reader: MessageReader, name: str) -> tuple[Listed, ...]:
    array, scalar = reader.array, reader.scalar
    raw: list[Any] = []
    count = reader.count(array, min(reader.bounds.page, reader.entries_left), name)
    reader.entries_left -= count
    for _ in range(count):
        if array() != 4:
            raise BadEnvelope(f"{name} has to hold [key, timestamp, node, seq]")
        raw += (scalar(), scalar(), scalar(), scalar())
    keys, timestamps, origins, seqs = raw[::4], raw[1::4], raw[2::4], raw[3::4]
    if set(map(type, keys)) - {str}:
        raise BadEnvelope(f"{name} has to hold keys as strings")
    reader.check_numbers(timestamps, I64_MIN, I64_MAX, name)
    reader.check_numbers(origins, 0, U32_MAX, name)
    reader.check_numbers(seqs, 0, U64_MAX, name)
    return tuple([_new_tuple(Listed, one) for one in zip(keys, timestamps, origins, seqs, strict=True)])


def _document(bytes_max: int) -> Read:
    return lambda reader, name: reader.octets(name, bytes_max)


def _block(reader: MessageReader, name: str) -> Block:
    keys: list[str] | None = None
    packed: list[bytes] | None = None
    for field in reader.fields(name, ("keys", "packed"), _BLOCK_FIELDS):
        count = reader.count(reader.array, min(reader.bounds.page, reader.entries_left), f"{name} {field}")
        rule = f"{name} keys have to be strings, and packed entries bytes"
        if field == "keys":
            keys = reader.scalars(count, str, rule)
        else:
            packed = reader.scalars(count, bytes, rule)
    if keys is None or packed is None or len(keys) != len(packed):
        raise BadEnvelope(f"{name} has to have as many keys as packed entries")
    if max(map(len, packed), default=0) > reader.bounds.octets + PACKED_FACTS_MAX:
        raise BadEnvelope(f"{name} has an entry of more than {reader.bounds.octets} bytes")
    reader.entries_left -= len(keys)
    block = Block(keys, packed)
    try:
        block.check()
    except ValueError as error:
        raise BadEnvelope(f"{name} is none: {error}") from error
    return block


_ABSENT: Final[Any] = object()
_new_tuple: Final[Any] = tuple.__new__
"""Makes a named tuple from a tuple without a step in Python; a third of the time of the class's own."""
_DIGEST_FIELDS: Final = frozenset({"hash"})
_PAGE_FIELDS: Final = frozenset({"cursor", "last"})
_BLOCK_FIELDS: Final = frozenset({"keys", "packed"})
_ENTRY_FIELDS: Final = frozenset({"key", "value", "meta", "expires_at"})
_META_FIELDS: Final = frozenset({"node", "seq", "timestamp"})
_PART_READERS: Final[Mapping[str, Callable[[MessageReader], Any]]] = {"key": _key, "value": _value, "meta": _meta}

_READERS: Final[Mapping[str, Read]] = {
    "version": _version,
    "sender_id": _u32,
    "sender_uuid": _uuid,
    "acks": _acks,
    "entries": _entries,
    "digest": _digest,
    "page": _page,
    "resume_from": _optional_dot,
    "reset_acks": MessageReader.flag,
    "push_only": MessageReader.flag,
    "name": MessageReader.text,
    "inc": _u64,
    "since": _u64,
    "dots": _dots,
    "healing": MessageReader.flag,
    "floor": _i64,
    "now_ms": _i64,
    "promised": _i64,
    "horizon": _i64,
    "epoch": _u64,
    "members": _members,
    "buckets": _buckets,
    "page_pos": _u64,
    "cluster_id": MessageReader.text,
    "listed": _listed,
    "listed_of": _u64,
    "listed_after": MessageReader.text,
    "listed_upto": MessageReader.text,
    "takes_block": MessageReader.flag,
    "block": _block,
    "filter_acks": _acks,
    "filter_dots": _dots,
    "epoch_doc": _document(EPOCH_DOC_BYTES_MAX),
    "rival": MessageReader.flag,
    "claim": _document(CLAIM_BYTES_MAX),
    "origin": _u32,
}
_FIELDS: Final = frozenset(_READERS)
