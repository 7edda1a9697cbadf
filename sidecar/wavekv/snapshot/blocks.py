"""The frame of a snapshot: preamble and a chain of checked blocks, and the two blocks that are maps (docs/format.md).

    file  = "WKVS", u32le version, block*
    block = u8 kind, u32le length, u64le hash, payload (msgpack)

The hash is XXH3-64 of the payload, seeded with the hash of the block before plus this block's kind, modulo 2^64. So a
block counts only in its place, under its kind and behind the very blocks it was written behind: parts of two
snapshots never pass for one. Turned down: seeding with the index alone, which takes a block that an earlier file left
in the same place.

Nothing of a payload is looked at before its hash held. What is wrong with a snapshot whose hashes hold is still
damage, never a built-in error.
"""

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar
from uuid import UUID

import msgpack
from xxhash import xxh3_64_intdigest

from wavekv.config import VOLUME_LIMITS
from wavekv.core.codec.pieces import Pieces
from wavekv.core.context import Context
from wavekv.core.digest import BUCKETS
from wavekv.core.ops import Process
from wavekv.core.standing import DROPPED_MAX, Standing
from wavekv.core.types import I64_MAX, I64_MIN, U32_MAX, U64_MAX
from wavekv.errors import NewerVersion, SnapshotDamaged

MAGIC: Final = b"WKVS"
VERSION: Final = 1
PREAMBLE: Final = MAGIC + struct.pack("<I", VERSION)
BLOCK_BYTES_MAX: Final = VOLUME_LIMITS.snapshot_tail_bytes_max
"""Longest payload; only a tail of millions of ranges comes near it."""

HEAD: Final = 1
ENTRIES: Final = 2
EXPIRING: Final = 3
DOTS: Final = 4
TAIL: Final = 5

DEAD_ORIGINS: Final = "dead_origins"
"""What a tail requires of its reader once promises were logged: to keep them (R15)."""

_FRAME = struct.Struct("<BIQ")
_RANK = {HEAD: 0, ENTRIES: 1, EXPIRING: 1, DOTS: 2, TAIL: 3}
"""Blocks come in this order; entries and expiring take turns."""
_BYTES_MAX: Final = {
    HEAD: VOLUME_LIMITS.document_bytes_max,
    **dict.fromkeys((ENTRIES, EXPIRING, DOTS), VOLUME_LIMITS.snapshot_entries_bytes_max),
}
"""Longest payload of a kind; of all others, `BLOCK_BYTES_MAX`."""
_MASK: Final = 2**64 - 1
_FIELDS_MAX: Final = 64
"""Names in the map of a first or last block, unknown ones included."""
_TEXT_SHOWN_MAX: Final = 200
"""Characters of what a stranger wrote that go into a message."""

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Head:
    """Whose state a snapshot is, and of which moment.

    Attributes:
        node_id: the directory's, as in the log's headers.
        uuid: the directory's.
        cluster_id: the cluster, None where it has none yet.
        number: the last segment folded in.
        position: records of the log folded in, so the sequence of the last one.
        created_at: ms since 1970.
        base: number of the snapshot it was merged from, 0 for none.
    """

    node_id: int
    uuid: UUID
    cluster_id: str | None
    number: int
    position: int
    created_at: int
    base: int


@dataclass(frozen=True, slots=True)
class Tail:
    """What all blocks before it come to, and the standing of the same moment (R2); `blocks` counts the tail too."""

    entries: int
    values: int
    size_bytes: int
    buckets: tuple[int, ...]
    standing: Standing
    blocks: int


class Block(NamedTuple):
    """One block whose hash held."""

    kind: int
    payload: bytes
    offset: int


# ---- writing -------------------------------------------------------------------------------------------------------


def encode_block(kind: int, payload: bytes, before: int) -> tuple[bytes, int]:
    """Return the block's frame, which goes in front of `payload`, and its hash; `before` is that of the last block."""
    assert len(payload) <= BLOCK_BYTES_MAX, "blocks are cut far below the bound"
    digest = xxh3_64_intdigest(payload, seed=(before + kind) & _MASK)
    return _FRAME.pack(kind, len(payload), digest), digest


def encode_head(head: Head) -> bytes:
    """Return the payload of the first block."""
    return _packed(
        {
            "node_id": head.node_id,
            "uuid": head.uuid.bytes,
            "cluster_id": head.cluster_id,
            "number": head.number,
            "position": head.position,
            "created_at": head.created_at,
            "base": head.base,
        }
    )


def encode_tail(tail: Tail) -> bytes:
    """Return the payload of the last block."""
    standing = tail.standing
    return _packed(
        {
            "entries": tail.entries,
            "values": tail.values,
            "size_bytes": tail.size_bytes,
            "buckets": tail.buckets,
            "acks": [number for item in sorted(standing.context.acks.items()) for number in item],
            "dots": [number for item in standing.context.ranges() for number in item],
            "floor": standing.floor,
            "next_seq": standing.next_seq,
            "process": tuple(standing.process),
            "blocks": tail.blocks,
            **_dead_origins(standing),
        }
    )


def _dead_origins(standing: Standing) -> dict[str, Any]:
    """Return the fields that say what R15 has come to: none before there was anything, so older versions read it."""
    if standing.promised == standing.horizon == I64_MIN:
        return {}
    return {
        "requires": [DEAD_ORIGINS],
        "promised": standing.promised,
        "horizon": standing.horizon,
        "dropped": [number for item in standing.dropped.items() for number in item],
    }


def _packed(fields: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


_REQUIRES: Final = "requires"
_HEAD_FIELDS: Final = frozenset(("node_id", "uuid", "cluster_id", "number", "position", "created_at", "base"))
_TAIL_FIELDS: Final = frozenset(
    ("entries", "values", "size_bytes", "floor", "next_seq", "blocks", "promised", "horizon")
)
_TAIL_LISTS: Final = {
    "buckets": BUCKETS,
    "acks": VOLUME_LIMITS.snapshot_tail_numbers_max,
    "dots": VOLUME_LIMITS.snapshot_tail_numbers_max,
    "process": 3,
    "dropped": 2 * DROPPED_MAX,
}

# ---- reading -------------------------------------------------------------------------------------------------------


def read_blocks(file: BinaryIO, path: Path, progress: Progress | None = None) -> Iterator[Block]:
    """Yield every block of `file`, checked, head first and tail last; a file that does not end so is damaged.

    Raises:
        SnapshotDamaged: no snapshot, or not as it was written.
        NewerVersion: a later format, or a block this version does not know.
        OSError: the file cannot be read.
    """
    total = os.fstat(file.fileno()).st_size
    _read_preamble(file.read(len(PREAMBLE)), path)
    offset, index, digest, rank = len(PREAMBLE), 0, 0, 0
    while rank < _RANK[TAIL]:
        frame = file.read(_FRAME.size)
        if len(frame) < _FRAME.size:
            raise damaged(path, offset, "it ends without a tail")
        kind, length, stored = _FRAME.unpack(frame)
        if length > total - offset - _FRAME.size:
            raise damaged(path, offset, f"a block of {length} bytes does not fit the file")
        if length > _BYTES_MAX.get(kind, BLOCK_BYTES_MAX):
            raise damaged(path, offset, f"a block of kind {kind} has {length} bytes, more than any of its kind")
        payload = file.read(length)
        digest = xxh3_64_intdigest(payload, seed=(digest + kind) & _MASK)
        if len(payload) < length or digest != stored:
            raise damaged(path, offset, "a block does not match its hash")
        if kind not in _RANK:
            raise NewerVersion(f"{path} holds a block of kind {kind}, unknown to this version; start a newer one")
        if _RANK[kind] < rank or (kind == HEAD) != (index == 0):
            raise damaged(path, offset, f"a block of kind {kind} is out of its order")
        yield Block(kind, payload, offset)
        rank = _RANK[kind]
        index += 1
        offset += _FRAME.size + length
        if progress is not None:
            progress(offset, total)
    if file.read(1):
        raise damaged(path, offset, "bytes follow its tail")


def _read_preamble(preamble: bytes, path: Path) -> None:
    if len(preamble) < len(PREAMBLE) or not preamble.startswith(MAGIC):
        raise damaged(path, 0, f"it begins with {preamble[:4]!r}, not {MAGIC!r}")
    version = int.from_bytes(preamble[len(MAGIC) :], "little")
    if version > VERSION:
        raise NewerVersion(f"{path} has snapshot format {version}, this version reads {VERSION}; start a newer one")
    if version != VERSION:
        raise damaged(path, len(MAGIC), f"it claims format {version}, which never existed")


def damaged(path: Path, offset: int, what: str) -> SnapshotDamaged:
    """Return the error for damage found at `offset`."""
    return SnapshotDamaged(
        f"{path} is damaged at {offset}: {what}; restore it from a copy, or remove it to start from an older snapshot"
    )


def decoded(path: Path, block: Block, decode: Callable[[bytes], _T]) -> _T:
    """Return `decode` of the block's payload.

    Raises:
        SnapshotDamaged: it is not of the shape that `decode` wants.
        NewerVersion: it needs something this version does not know.
    """
    try:
        return decode(block.payload)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        told = repr(error)[:_TEXT_SHOWN_MAX]
        raise damaged(path, block.offset, f"a block of kind {block.kind} has the wrong shape ({told})") from error


def _read_fields(payload: bytes, lists: Mapping[str, int], scalars: frozenset[str]) -> dict[str, Any]:
    """Return the known fields of a block's map; of each list no more than it may hold, of unknown ones nothing.

    Raises NewerVersion where it requires more of its reader.
    """
    pieces = Pieces(payload)
    fields: dict[str, Any] = {}
    for _ in range(pieces.map(_FIELDS_MAX)):
        name = pieces.scalar()
        if not isinstance(name, str):
            raise TypeError("a field's name is no text")
        if name in lists:
            fields[name] = pieces.scalars(lists[name])
        elif name in scalars:
            fields[name] = pieces.scalar()
        elif name == _REQUIRES:
            _refuse_required(pieces)
        else:
            pieces.skip()
    return fields


def _refuse_required(pieces: Pieces) -> None:
    """Refuse a snapshot that needs more than this version knows; an empty list needs nothing."""
    required = pieces.scalars(_FIELDS_MAX) if pieces.is_array() else [pieces.scalar()]
    unknown = [name for name in required if name and name != DEAD_ORIGINS]
    if unknown:
        told = f"{unknown}"[:_TEXT_SHOWN_MAX]
        raise NewerVersion(f"the snapshot requires {told}, unknown to this version; start a newer one")


def decode_head(payload: bytes) -> Head:
    """Read the first block's map; names unknown here are skipped unless it requires them.

    Raises:
        NewerVersion: it requires something.
        ValueError, TypeError, KeyError, AttributeError: it is not what `encode_head` makes.
    """
    fields = _read_fields(payload, {}, _HEAD_FIELDS)
    cluster_id = fields["cluster_id"]
    if not (cluster_id is None or isinstance(cluster_id, str)):
        raise TypeError("cluster_id is no string")
    return Head(
        _number(fields["node_id"], 1, U32_MAX),
        UUID(bytes=fields["uuid"]),
        cluster_id,
        _number(fields["number"], 1),
        _number(fields["position"]),
        _number(fields["created_at"], I64_MIN, I64_MAX),
        _number(fields["base"]),
    )


def decode_tail(payload: bytes) -> Tail:
    """Read the last block's map. Raises as `decode_head`."""
    fields = _read_fields(payload, _TAIL_LISTS, _TAIL_FIELDS)
    buckets = tuple(map(_number, fields["buckets"]))
    if len(buckets) != BUCKETS:
        raise ValueError(f"{len(buckets)} digest sums")
    inc, origin, healing = fields["process"]
    if type(healing) is not bool:
        raise TypeError("healing is no bool")
    standing = Standing()
    standing.context = _context(fields["acks"], fields["dots"])
    standing.floor = _number(fields["floor"], I64_MIN, I64_MAX)
    standing.next_seq = _number(fields["next_seq"])
    standing.promised = _number(fields.get("promised", I64_MIN), I64_MIN, I64_MAX)
    standing.horizon = _number(fields.get("horizon", I64_MIN), I64_MIN, I64_MAX)
    dropped = list(map(_number, fields.get("dropped", ())))
    standing.dropped = dict(zip(dropped[0::2], dropped[1::2], strict=True))
    standing.process = Process(_number(inc), _number(origin, 0, U32_MAX), healing)
    entries, values, size_bytes = (_number(fields[name]) for name in ("entries", "values", "size_bytes"))
    return Tail(entries, values, size_bytes, buckets, standing, _number(fields["blocks"]))


def _context(acks: list[int], dots: list[int]) -> Context:
    if len(acks) % 2 or len(dots) % 3:
        raise ValueError("half an ack or range")
    for number in (*acks, *dots):
        _number(number)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for origin, first, last in zip(dots[0::3], dots[1::3], dots[2::3], strict=True):
        ranges.setdefault(origin, []).append((first, last))
    by_origin = {origin: tuple(pairs) for origin, pairs in ranges.items()}
    return Context(dict(zip(acks[0::2], acks[1::2], strict=True)), by_origin)


def _number(value: Any, least: int = 0, greatest: int = U64_MAX) -> int:
    if type(value) is not int or not least <= value <= greatest:
        raise ValueError(f"{value!r} is no number of its range")
    return value
