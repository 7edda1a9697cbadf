"""The bytes of a log file: header, records, operations, and the commit group (format: docs/format.md).

    header = u32le length, "WKVL", varint version, varint node id, zigzag created_at (ms)
    record = u32le body length, body
    body   = varint sequence, op, varint CRC-32 of the op's bytes

A commit group is what one append writes: a `SetNextSeq` record, which marks its start, then one record an operation
(R2: acknowledgements follow the entries they cover). Operations 0–8 are the original system's and never change.

Decoding is strict where the original is (fields) and lenient where it is (unread bytes behind header or checksum,
integers longer than need be). A checksum that matches the stored bytes is taken; only where it does not is the
canonical encoding made and tried, which is all the original does. Turned down: always re-encoding, three times slower.
"""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple
from zlib import crc32

from wavekv.config import VOLUME_LIMITS
from wavekv.core.block import Block
from wavekv.core.codec.bincode import (
    TAG_U16,
    TAG_U32,
    TAG_U64,
    DecodeError,
    InvalidError,
    TruncatedError,
    blob,
    boolean,
    optional_blob,
    read_bool,
    read_i64,
    read_optional_blob,
    read_text,
    read_u32,
    read_u64,
    text,
    varint,
    zigzag,
)
from wavekv.core.ops import (
    AddPeer,
    Batch,
    Clear,
    Cover,
    DropOrigins,
    Floor,
    IncrementSeq,
    Op,
    Process,
    Promise,
    PushPeerLog,
    RemovePeer,
    Set,
    SetExpiring,
    SetNextSeq,
    StoreBlock,
    UpdateLocalAck,
    UpdatePeerAck,
    storing,
)
from wavekv.core.packed import FACTS_BYTES, HAS_VALUE, unpack
from wavekv.core.types import U32_MAX, Entry

MAGIC = b"WKVL"
VERSION = 1
HEADER_BYTES_MAX = 4 + len(MAGIC) + 5 + 5 + 9
"""Longest header a writer makes: length, magic, two 32-bit varints, one 64-bit one."""

_pack_length = struct.Struct("<I").pack
_pack_crc = struct.Struct("<BI").pack
_U16_MAX = 0xFFFF
_BATCHABLE = frozenset((0, 1, 9))


class UnknownOpError(DecodeError):
    """An operation index this version does not know; whether a newer one wrote it, the checksum tells."""


class ChecksumError(DecodeError):
    """The checksum fits neither the stored bytes of the operation nor its canonical encoding."""


class Header(NamedTuple):
    """A log file's header. `fields_end`: offset behind the last field; `end`: offset of the first record."""

    version: int
    node_id: int
    created_at_ms: int
    fields_end: int
    end: int


class Record(NamedTuple):
    """One record: its place among the records of the log, its operation, the stored checksum, and what follows it."""

    sequence: int
    op: Op
    checksum: int
    unread: int
    """Bytes of the body behind the checksum; no writer of ours leaves any."""


# ---- writing -------------------------------------------------------------------------------------------------------


def encode_header(node_id: int, created_at_ms: int) -> bytes:
    """Return a log file's first bytes, length field included."""
    fields = MAGIC + varint(VERSION) + varint(node_id) + zigzag(created_at_ms)
    return _pack_length(len(fields)) + fields


def encode_op(op: Op) -> bytes:
    """Return the canonical bytes of `op`: index, then fields."""
    return _ENCODERS[type(op)](op)


def encode_record(sequence: int, op: Op) -> bytes:
    """Return one record, length field included."""
    encoded = _ENCODERS[type(op)](op)
    checksum = crc32(encoded)
    tail = _pack_crc(TAG_U32, checksum) if checksum > 0xFFFF else varint(checksum)
    body = varint(sequence) + encoded + tail
    return _pack_length(len(body)) + body


def encode_group(ops: Sequence[Op], first_sequence: int, next_seq: int) -> tuple[bytes, int]:
    """Return the bytes of one commit group and the number of its records (the marker and one an operation)."""
    assert SetNextSeq not in map(type, ops), "a group holds one marker, its first record"
    records = [encode_record(first_sequence, SetNextSeq(next_seq))]
    sequence = first_sequence + 1
    for op in ops:
        if type(op) is StoreBlock:
            records += _block(sequence, op.block)
            sequence += len(op.block)
        else:
            records.append(encode_record(sequence, op))
            sequence += 1
    return b"".join(records), sequence - first_sequence


def _block(sequence: int, block: Block) -> list[bytes]:
    """Return the records of a block: what `encode_record` makes of its entries, with fewer calls."""
    facts = block.facts
    fixed = sequence > _U16_MAX and sequence + len(block) <= U32_MAX
    if not fixed or min(facts.timestamps) <= U32_MAX or min(facts.origins) <= _U16_MAX:
        return list(map(encode_record, count(sequence), map(storing, block.unpacked())))
    records: list[bytes] = []
    rows = zip(
        zip(block.keys, block.packed, strict=True),
        facts.kinds,
        facts.origins,
        facts.seqs,
        facts.timestamps,
        strict=True,
    )
    for number, ((key, packed), kind, origin, seq, timestamp) in enumerate(rows, start=sequence):
        if kind != HAS_VALUE or not _U16_MAX < seq <= U32_MAX:
            records.append(encode_record(number, storing(unpack(key, packed))))
            continue
        name = key.encode()
        pack_op, head, middle, pack_record, size = _wide_set(len(name), len(packed) - FACTS_BYTES)
        value, stamp = packed[FACTS_BYTES:], timestamp << 1
        encoded = pack_op(head, name, middle, value, TAG_U32, origin, TAG_U32, seq, TAG_U64, stamp)
        checksum = crc32(encoded)
        if checksum > _U16_MAX:
            records.append(pack_record(size, TAG_U32, number, encoded, TAG_U32, checksum))
        else:
            records.append(encode_record(number, storing(unpack(key, packed))))
    return records


@lru_cache(maxsize=4096)
def _wide_set(key_bytes: int, value_bytes: int) -> tuple[Callable[..., bytes], bytes, bytes, Callable[..., bytes], int]:
    """Return what packs a Set whose numbers are wide, as nearly all are, and its record, with what is the same in all.

    That is what comes before the key and before the value, and the record's length field.
    """
    head, middle = b"\0" + varint(key_bytes), b"\1" + varint(value_bytes)
    op = struct.Struct(f"<{len(head)}s{key_bytes}s{len(middle)}s{value_bytes}sBIBIBQ")
    record = struct.Struct(f"<IBI{op.size}sBI")
    return op.pack, head, middle, record.pack, record.size - 4


def _entry(index: bytes, entry: Entry) -> bytes:
    key, value, timestamp, origin, seq, _ = entry
    return b"".join((index, text(key), optional_blob(value), varint(origin), varint(seq), zigzag(timestamp)))


def _set(op: Set) -> bytes:
    assert op.entry.expires_at is None, "an entry with expiry is stored by SetExpiring"
    return _entry(b"\0", op.entry)


def _push_peer_log(op: PushPeerLog) -> bytes:
    return _entry(b"\4" + varint(op.peer), op.entry) + varint(op.max_entries)


def _pairs(origins: tuple[tuple[int, int], ...]) -> bytes:
    return b"".join([varint(origin) + varint(seq) for origin, seq in origins])


def _set_expiring(op: SetExpiring) -> bytes:
    assert op.entry.expires_at is not None, "an entry without expiry is stored by Set"
    return _entry(b"\x09", op.entry) + zigzag(op.entry.expires_at)


_ENCODERS: dict[type[Op], Callable[[Any], bytes]] = {
    Set: _set,
    Clear: lambda op: b"\1" + blob(op.key.encode()),
    UpdatePeerAck: lambda op: b"\2" + varint(op.peer) + varint(op.ack) + boolean(op.monotonic),
    UpdateLocalAck: lambda op: b"\3" + varint(op.peer) + varint(op.ack) + boolean(op.monotonic),
    PushPeerLog: _push_peer_log,
    IncrementSeq: lambda _: b"\5",
    SetNextSeq: lambda op: b"\6" + varint(op.seq),
    AddPeer: lambda op: b"\7" + varint(op.peer),
    RemovePeer: lambda op: b"\x08" + varint(op.peer),
    SetExpiring: _set_expiring,
    Batch: lambda op: b"\x0a" + varint(len(op.ops)) + b"".join(map(encode_op, op.ops)),
    Cover: lambda op: b"\x0b" + varint(op.origin) + varint(op.first) + varint(op.last),
    Floor: lambda op: b"\x0c" + zigzag(op.timestamp),
    Process: lambda op: b"\x0d" + varint(op.inc) + varint(op.origin) + boolean(op.healing),
    Promise: lambda op: b"\x0e" + zigzag(op.timestamp),
    DropOrigins: lambda op: b"\x0f" + zigzag(op.horizon) + varint(len(op.origins)) + _pairs(op.origins),
}


# ---- reading -------------------------------------------------------------------------------------------------------


def decode_header(data: bytes) -> Header:
    """Read the header at the start of `data`; the version is the caller's to judge.

    Raises:
        TruncatedError: `data` ends inside the header (also a file of nothing but zeros): its writer never used it.
        InvalidError: not a log file, or a header that no writer makes.
    """
    length = int.from_bytes(data[:4], "little")
    if not data.strip(b"\0"):
        raise TruncatedError("no header")
    if not MAGIC.startswith(data[4:8]):
        raise InvalidError(f"it has {data[4:8]!r} at byte 4, where a log has {MAGIC.decode()}")
    if len(data) < 4 + length:
        if len(data) > HEADER_BYTES_MAX:
            raise InvalidError(f"a header of {length} bytes is announced, {len(data) - 4} bytes follow")
        raise TruncatedError(f"{len(data)} bytes of header")
    block = data[: 4 + length]
    try:
        version, position = read_u32(block, 8)
        node_id, position = read_u32(block, position)
        created_at_ms, position = read_i64(block, position)
    except TruncatedError as error:
        raise InvalidError(f"a header of {length} bytes is too short for its fields") from error
    return Header(version, node_id, created_at_ms, position, 4 + length)


def decode_record(body: bytes) -> Record:
    """Read one record's body.

    Raises:
        TruncatedError, InvalidError: it does not decode.
        UnknownOpError: its operation has an index of a newer version, and its checksum fits.
        ChecksumError: the checksum fits neither the stored operation nor its canonical bytes.
    """
    sequence, start = read_u64(body, 0)
    try:
        op, end = decode_op(body, start)
    except UnknownOpError as error:
        if _ends_with_checksum(body, start):
            raise
        raise InvalidError(str(error)) from error
    checksum, read = read_u32(body, end)
    if crc32(body[start:end]) != checksum and crc32(encode_op(op)) != checksum:
        raise ChecksumError(f"record {sequence} does not match its checksum {checksum:#010x}")
    return Record(sequence, op, checksum, len(body) - read)


def decode_op(data: bytes, position: int) -> tuple[Op, int]:
    """Read one operation; return it and the position behind it.

    Raises:
        TruncatedError, InvalidError: a field does not decode.
        UnknownOpError: the index is of a newer version.
    """
    index, position = read_u32(data, position)
    if index >= len(_DECODERS):
        raise UnknownOpError(f"operation {index} is unknown to this version")
    return _DECODERS[index](data, position)


def _ends_with_checksum(body: bytes, start: int) -> bool:
    # An unknown operation has an unknown length, so its checksum is looked for at the end in each of its three forms.
    for width, tag in ((5, TAG_U32), (3, TAG_U16), (1, None)):
        end = len(body) - width
        if end <= start or (tag is not None and body[end] != tag):
            continue
        if int.from_bytes(body[end + (width > 1) :], "little") == crc32(body[start:end]):
            return True
    return False


def _read_entry(data: bytes, position: int) -> tuple[Entry, int]:
    key, position = read_text(data, position)
    value, position = read_optional_blob(data, position)
    origin, position = read_u32(data, position)
    seq, position = read_u64(data, position)
    timestamp, position = read_i64(data, position)
    return Entry(key, value, timestamp, origin, seq), position


def _read_set(data: bytes, position: int) -> tuple[Op, int]:
    entry, position = _read_entry(data, position)
    return Set(entry), position


def _read_clear(data: bytes, position: int) -> tuple[Op, int]:
    key, position = read_text(data, position)
    return Clear(key), position


def _read_ack(make: type[UpdatePeerAck | UpdateLocalAck]) -> Callable[[bytes, int], tuple[Op, int]]:
    def read(data: bytes, position: int) -> tuple[Op, int]:
        peer, position = read_u32(data, position)
        ack, position = read_u64(data, position)
        monotonic, position = read_bool(data, position)
        return make(peer, ack, monotonic), position

    return read


def _read_push_peer_log(data: bytes, position: int) -> tuple[Op, int]:
    peer, position = read_u32(data, position)
    entry, position = _read_entry(data, position)
    max_entries, position = read_u64(data, position)
    return PushPeerLog(peer, entry, max_entries), position


def _read_increment_seq(_: bytes, position: int) -> tuple[Op, int]:
    return IncrementSeq(), position


def _read_set_next_seq(data: bytes, position: int) -> tuple[Op, int]:
    seq, position = read_u64(data, position)
    return SetNextSeq(seq), position


def _read_peer(make: type[AddPeer | RemovePeer]) -> Callable[[bytes, int], tuple[Op, int]]:
    def read(data: bytes, position: int) -> tuple[Op, int]:
        peer, position = read_u32(data, position)
        return make(peer), position

    return read


def _read_set_expiring(data: bytes, position: int) -> tuple[Op, int]:
    entry, position = _read_entry(data, position)
    expires_at, position = read_i64(data, position)
    return SetExpiring(entry._replace(expires_at=expires_at)), position


def _read_batch(data: bytes, position: int) -> tuple[Op, int]:
    count, position = read_u64(data, position)
    if count > len(data):
        raise TruncatedError(f"a batch of {count} operations in {len(data)} bytes")
    if count > VOLUME_LIMITS.batch_operations_max:
        raise InvalidError(
            f"a batch of {count} operations, and none has more than {VOLUME_LIMITS.batch_operations_max}"
        )
    ops: list[Any] = []
    for _ in range(count):
        index, position = read_u32(data, position)
        if index not in _BATCHABLE:  # looked at before decoding, so that batches never nest
            unknown = index >= len(_DECODERS)
            raise (UnknownOpError if unknown else InvalidError)(f"operation {index} inside a batch")
        op, position = _DECODERS[index](data, position)
        ops.append(op)
    return Batch(tuple(ops)), position


def _read_cover(data: bytes, position: int) -> tuple[Op, int]:
    origin, position = read_u32(data, position)
    first, position = read_u64(data, position)
    last, position = read_u64(data, position)
    return Cover(origin, first, last), position


def _read_floor(data: bytes, position: int) -> tuple[Op, int]:
    timestamp, position = read_i64(data, position)
    return Floor(timestamp), position


def _read_process(data: bytes, position: int) -> tuple[Op, int]:
    inc, position = read_u64(data, position)
    origin, position = read_u32(data, position)
    healing, position = read_bool(data, position)
    return Process(inc, origin, healing), position


def _read_promise(data: bytes, position: int) -> tuple[Op, int]:
    timestamp, position = read_i64(data, position)
    return Promise(timestamp), position


def _read_drop_origins(data: bytes, position: int) -> tuple[Op, int]:
    horizon, position = read_i64(data, position)
    count, position = read_u64(data, position)
    if count > len(data):
        raise TruncatedError(f"{count} origins in {len(data)} bytes")
    origins: list[tuple[int, int]] = []
    for _ in range(count):
        origin, position = read_u32(data, position)
        seq, position = read_u64(data, position)
        origins.append((origin, seq))
    return DropOrigins(horizon, tuple(origins)), position


_DECODERS: tuple[Callable[[bytes, int], tuple[Op, int]], ...] = (
    _read_set,
    _read_clear,
    _read_ack(UpdatePeerAck),
    _read_ack(UpdateLocalAck),
    _read_push_peer_log,
    _read_increment_seq,
    _read_set_next_seq,
    _read_peer(AddPeer),
    _read_peer(RemovePeer),
    _read_set_expiring,
    _read_batch,
    _read_cover,
    _read_floor,
    _read_process,
    _read_promise,
    _read_drop_origins,
)
