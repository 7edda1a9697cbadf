"""The bytes of a message between members: msgpack in one gzip member (docs/format.md, "The wire").

Writing gives exactly the original system's bytes for its ten fields, followed by WaveKV's own where they are set.
Reading is as strict as the original: trailing bytes, a field twice, a bool for a number, nil where only absence is
meant, all are refused by the field's name; unknown fields are skipped at every level, so that later versions can add
some. Inflating stops at its bound, not after it.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack

from wavekv.core.block import Block
from wavekv.core.messages import Envelope, Listed, Page, Ranges
from wavekv.core.types import I64_MAX, I64_MIN, U32_MAX, U64_MAX, Dot, Entry
from wavekv.errors import BadEnvelope, EnvelopeTooLarge

VERSION_MAX: Final = 1
EPOCH_DOC_BYTES_MAX: Final = 1 << 20
"""Longest signed membership document in a message; a thousand members with the longest names fit."""
CLAIM_BYTES_MAX: Final = 16 << 10
"""Longest claim: a signature and a chain of certificates."""
ITEMS_MAX: Final = 1 << 20
"""Items one array or map may declare (G9); holds the longest value written as an array of numbers."""
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
    "epoch_doc",
    "rival",
    "claim",
)
_REQUIRED: Final = frozenset({"version", "sender_id", "sender_uuid"})
_KNOWN: Final = frozenset({*_CRATE_FIELDS, *_OWN_FIELDS, "key", "value", "meta", "node", "seq", "timestamp",
                           "expires_at", "hash", "cursor", "last", "keys", "packed"})  # fmt: skip


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


def unpack(body: bytes, wire_bytes_max: int, inflated_bytes_max: int) -> Envelope:
    """Return the message in `body`, one gzip member.

    Raises:
        EnvelopeTooLarge: more bytes than allowed, compressed or inflated.
        BadEnvelope: broken gzip or msgpack, trailing bytes, or a field that is not what it has to be.
    """
    return decode_envelope(_inflate(body, wire_bytes_max, inflated_bytes_max))


def unpack_push_answer(body: bytes, wire_bytes_max: int, inflated_bytes_max: int) -> Envelope | None:
    """Return the report in the answer to a push; None where it is empty or a gzip of nothing, as crate nodes answer.

    Raises: as `unpack`.
    """
    inflated = _inflate(body, wire_bytes_max, inflated_bytes_max) if body else b""
    return decode_envelope(inflated) if inflated else None


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


def decode_envelope(data: bytes) -> Envelope:
    """Return the message in msgpack `data`.

    Raises:
        BadEnvelope: it is not exactly one envelope; the message names the field.
    """
    items_max = min(len(data), ITEMS_MAX)  # an item has a byte at least
    try:
        raw = msgpack.unpackb(
            data,
            strict_map_key=False,
            use_list=False,
            object_pairs_hook=_checked_map,
            max_array_len=items_max,
            max_map_len=items_max,
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise BadEnvelope(f"the body is not one msgpack value: {error or type(error).__name__}") from error
    fields = _named(raw, "envelope", _CRATE_FIELDS)
    missing = _REQUIRED - fields.keys()
    if missing:
        raise BadEnvelope(f"the envelope lacks {', '.join(sorted(missing))}")
    return Envelope(**{name: read(fields[name], name) for name, read in _READERS.items() if name in fields})


def _checked_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[Any] = set()
        for name, _ in pairs:
            if name in seen and name in _KNOWN:
                raise BadEnvelope(f"the field {name!r} is given twice")
            seen.add(name)
    return found


def _named(raw: Any, where: str, order: tuple[str, ...]) -> Mapping[Any, Any]:
    """Return the fields of a struct, which travels as a map by name or as an array in `order`."""
    if isinstance(raw, dict):
        return raw
    if isinstance(raw, tuple) and len(raw) <= len(order):
        return dict(zip(order, raw, strict=False))
    raise BadEnvelope(f"{where} is neither a map nor an array of at most {len(order)}")


def _number(least: int, most: int) -> Callable[[Any, str], int]:
    def read(raw: Any, name: str) -> int:
        if type(raw) is not int or not least <= raw <= most:
            raise BadEnvelope(f"{name} has to be a whole number in {least} … {most}")
        return raw

    return read


_u32 = _number(0, U32_MAX)
_u64 = _number(0, U64_MAX)
_i64 = _number(I64_MIN, I64_MAX)


def _version(raw: Any, name: str) -> int:
    version = _number(0, 65535)(raw, name)
    if version > VERSION_MAX:
        raise BadEnvelope(f"version {version} is not known here; at most {VERSION_MAX} is")
    return version


def _flag(raw: Any, name: str) -> bool:
    if not isinstance(raw, bool):
        raise BadEnvelope(f"{name} has to be true or false")
    return raw


def _text(raw: Any, name: str) -> str:
    if not isinstance(raw, str):
        raise BadEnvelope(f"{name} has to be a string")
    return raw


def _octets(raw: Any, name: str) -> bytes:
    """Bytes travel as bin, or as an array of small numbers."""
    if isinstance(raw, bytes):
        return raw
    if isinstance(raw, tuple) and all(type(item) is int and 0 <= item <= 255 for item in raw):
        return bytes(raw)
    raise BadEnvelope(f"{name} has to be bytes or an array of numbers in 0 … 255")


def _acks(raw: Any, name: str) -> dict[int, int]:
    if not isinstance(raw, dict):
        raise BadEnvelope(f"{name} has to be a map")
    return {_u32(origin, f"{name} origin"): _u64(ack, f"{name} sequence") for origin, ack in raw.items()}


def _dot(raw: Any, name: str) -> Dot:
    if not isinstance(raw, tuple) or len(raw) != 2:
        raise BadEnvelope(f"{name} has to be [node, seq]")
    return _u32(raw[0], f"{name} node"), _u64(raw[1], f"{name} seq")


def _optional_dot(raw: Any, name: str) -> Dot | None:
    return None if raw is None else _dot(raw, name)


def _digest(raw: Any, name: str) -> bytes | None:
    if raw is None:
        return None
    digest = _octets(_named(raw, name, ("hash",)).get("hash"), f"{name} hash")
    if len(digest) != _HASH_BYTES:
        raise BadEnvelope(f"{name} hash has {len(digest)} bytes; it has to have {_HASH_BYTES}")
    return digest


def _page(raw: Any, name: str) -> Page | None:
    if raw is None:
        return None
    fields = _named(raw, name, ("cursor", "last"))
    return Page(_dot(fields.get("cursor"), f"{name} cursor"), _flag(fields.get("last"), f"{name} last"))


def _entries(raw: Any, name: str) -> tuple[Entry, ...]:
    if not isinstance(raw, tuple):
        raise BadEnvelope(f"{name} has to be an array")
    return tuple([_entry(item) for item in raw])


def _entry(raw: Any) -> Entry:
    """Read one entry; the common shape is taken without a call per field (a page has 4096 of them)."""
    fields = _named(raw, "entry", ("key", "value", "meta"))
    try:
        key, value, meta = fields["key"], fields["value"], fields["meta"]
    except KeyError as error:
        raise BadEnvelope(f"an entry lacks {error.args[0]}") from error
    stamp = _named(meta, "meta", ("node", "seq", "timestamp"))
    origin, seq, timestamp = stamp.get("node"), stamp.get("seq"), stamp.get("timestamp")
    if type(key) is not str:
        key = _key_from_bytes(key)
    if value is not None and type(value) is not bytes:
        value = value.encode() if isinstance(value, str) else _octets(value, "value")
    expires_at = fields.get("expires_at") if isinstance(raw, dict) else None
    if expires_at is not None:
        _i64(expires_at, "expires_at")
    elif isinstance(raw, dict) and "expires_at" in raw:
        raise BadEnvelope("expires_at has to be absent where there is none")
    return Entry(key, value, _i64(timestamp, "timestamp"), _u32(origin, "node"), _u64(seq, "seq"), expires_at)


def _key_from_bytes(raw: Any) -> str:
    if not isinstance(raw, bytes):
        raise BadEnvelope("key has to be a string")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadEnvelope("key is not UTF-8") from error


def _dots(raw: Any, name: str) -> dict[int, Ranges]:
    if not isinstance(raw, dict):
        raise BadEnvelope(f"{name} has to be a map")
    return {_u32(origin, f"{name} origin"): _ranges(ranges, name) for origin, ranges in raw.items()}


def _ranges(raw: Any, name: str) -> Ranges:
    if not isinstance(raw, tuple):
        raise BadEnvelope(f"{name} has to hold arrays of [first, last]")
    before = 0
    for pair in raw:
        first, last = _dot_range(pair, name)
        if first <= before or last < first:
            raise BadEnvelope(f"{name} has to ascend: [{first}, {last}] after {before}")
        before = last
    return raw


def _dot_range(raw: Any, name: str) -> tuple[int, int]:
    if not isinstance(raw, tuple) or len(raw) != 2:
        raise BadEnvelope(f"{name} has to hold [first, last]")
    return _u64(raw[0], name), _u64(raw[1], name)


def _members(raw: Any, name: str) -> tuple[str, ...]:
    if not isinstance(raw, tuple):
        raise BadEnvelope(f"{name} has to be an array of strings")
    return tuple([_text(item, name) for item in raw])


def _buckets(raw: Any, name: str) -> tuple[int, ...]:
    if not isinstance(raw, tuple):
        raise BadEnvelope(f"{name} has to be an array of numbers")
    return tuple([_u64(item, name) for item in raw])


def _listed(raw: Any, name: str) -> tuple[Listed, ...]:
    if not isinstance(raw, tuple):
        raise BadEnvelope(f"{name} has to be an array")
    found: list[Listed] = []
    for item in raw:
        if not isinstance(item, tuple) or len(item) != 4:
            raise BadEnvelope(f"{name} has to hold [key, timestamp, node, seq]")
        key, timestamp, origin, seq = item
        found.append(Listed(_text(key, name), _i64(timestamp, name), _u32(origin, name), _u64(seq, name)))
    return tuple(found)


def _document(bytes_max: int) -> Callable[[Any, str], bytes]:
    def read(raw: Any, name: str) -> bytes:
        if not isinstance(raw, bytes) or len(raw) > bytes_max:
            raise BadEnvelope(f"{name} has to be at most {bytes_max} bytes")
        return raw

    return read


def _block(raw: Any, name: str) -> Block:
    fields = _named(raw, name, ("keys", "packed"))
    keys, packed = fields.get("keys"), fields.get("packed")
    if not isinstance(keys, tuple) or not isinstance(packed, tuple) or len(keys) != len(packed):
        raise BadEnvelope(f"{name} has to have as many keys as packed entries")
    if set(map(type, keys)) - {str} or set(map(type, packed)) - {bytes}:
        raise BadEnvelope(f"{name} keys have to be strings, and packed entries bytes")
    block = Block(keys, packed)
    try:
        block.check()
    except ValueError as error:
        raise BadEnvelope(f"{name} is none: {error}") from error
    return block


_READERS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "version": _version,
    "sender_id": _u32,
    "sender_uuid": _octets,
    "acks": _acks,
    "entries": _entries,
    "digest": _digest,
    "page": _page,
    "resume_from": _optional_dot,
    "reset_acks": _flag,
    "push_only": _flag,
    "name": _text,
    "inc": _u64,
    "since": _u64,
    "dots": _dots,
    "healing": _flag,
    "floor": _i64,
    "now_ms": _i64,
    "epoch": _u64,
    "members": _members,
    "buckets": _buckets,
    "page_pos": _u64,
    "cluster_id": _text,
    "listed": _listed,
    "listed_of": _u64,
    "listed_after": _text,
    "listed_upto": _text,
    "takes_block": _flag,
    "block": _block,
    "epoch_doc": _document(EPOCH_DOC_BYTES_MAX),
    "rival": _flag,
    "claim": _document(CLAIM_BYTES_MAX),
}
