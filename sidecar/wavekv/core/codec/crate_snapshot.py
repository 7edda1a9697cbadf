"""The bytes of the original system's snapshot, `node_{id}.snapshot`: msgpack, structs as positional arrays.

    [ [87, 86, 75, 86], version, node_id,
      [ {key: [key, bin or nil, [node, seq, timestamp]], ...},
        {node: [local_ack, peer_ack, [entry, ...]], ...},
        next_seq ] ]

Writing gives what both of its versions write and read. Reading is as lenient as theirs: structs also as maps by name,
unknown fields, the magic as bin, bytes behind the end. The map's key is where an entry lives, whatever the entry says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgpack

from wavekv.config import VOLUME_LIMITS
from wavekv.core.codec.pieces import Pieces
from wavekv.core.types import I64_MAX, I64_MIN, U32_MAX, U64_MAX, Entry
from wavekv.errors import BadHeader, ForeignDirectory, NewerVersion, SnapshotDamaged

MAGIC: Final = b"WVKV"
VERSION: Final = 1
CHUNK_BYTES: Final = 1 << 16
"""About how much `encode_crate_snapshot` hands out at a time."""


class CratePeer(NamedTuple):
    """What a snapshot says of one node. `local_ack`: covered of its origin; `peer_ack`: what it covers of ours."""

    local_ack: int
    peer_ack: int


class CrateSnapshot(NamedTuple):
    """A snapshot's content: entries by the key they live under, peers by node id."""

    node_id: int
    entries: dict[str, Entry]
    peers: dict[int, CratePeer]
    next_seq: int


# ---- writing -------------------------------------------------------------------------------------------------------


def encode_crate_snapshot(
    node_id: int, count: int, entries: Iterable[Entry], peers: Mapping[int, CratePeer], next_seq: int
) -> Iterator[bytes]:
    """Yield the snapshot in chunks; `entries` are `count` in key order, none with an expiry, which it cannot hold."""
    packer = msgpack.Packer(autoreset=False)
    packer.pack_array_header(4)
    for field in (list(MAGIC), VERSION, node_id):
        packer.pack(field)
    packer.pack_array_header(3)
    packer.pack_map_header(count)
    written = 0
    for key, value, timestamp, origin, seq, expires_at in entries:
        assert expires_at is None, "an entry with expiry is made plain, or left out, before"
        packer.pack(key)
        packer.pack((key, value, (origin, seq, timestamp)))
        written += 1
        if len(packer.getbuffer()) >= CHUNK_BYTES:
            yield packer.bytes()
            packer.reset()
    assert written == count, "the map's length stands in front of it"
    packer.pack_map_header(len(peers))
    for peer, (local_ack, peer_ack) in peers.items():
        packer.pack(peer)
        packer.pack((local_ack, peer_ack, ()))
    packer.pack(next_seq)
    yield packer.bytes()


# ---- reading -------------------------------------------------------------------------------------------------------

_SNAPSHOT: Final = ("magic", "version", "node_id", "core")
_CORE: Final = ("data", "peers", "next_seq")
_ENTRY: Final = ("key", "value", "meta")
_META: Final = ("node", "seq", "timestamp")
_PEER: Final = ("local_ack", "peer_ack", "log")
_FIELDS_MAX: Final = 64
"""Fields of a struct that comes as a map, unknown ones included."""
_SHOWN_MAX: Final = 80
"""Characters of what a stranger wrote that go into a message."""
_T = TypeVar("_T")


def decode_crate_snapshot(data: bytes, name: str, node_id: int | None = None) -> CrateSnapshot:
    """Read a snapshot; `name` is the file's for messages, `node_id` whose it has to be (None: anybody's).

    A peer's log counts for its `local_ack`, as it does in the 2.x crate; its entries are in the map as well. Nothing
    is built but what the format has a place for, so it costs a few times the file's bytes.

    Raises:
        SnapshotDamaged: it does not decode.
        BadHeader: it decodes, and is something else.
        NewerVersion: its version is a later one.
        ForeignDirectory: it is another node's.
    """
    try:
        owner, core = _header(Pieces(data), name, node_id)
        return _core(Pieces(data, core), owner)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SnapshotDamaged(f"{name} is damaged: {error or type(error).__name__}") from error


def _header(pieces: Pieces, name: str, node_id: int | None) -> tuple[int, int]:
    """Check what stands around the core; return whose snapshot it is, and where the core begins."""
    found: dict[str, Any] = {"core": 0}

    def core(pieces: Pieces) -> int:
        at = pieces.at
        pieces.skip()
        return at

    found.update(_struct(pieces, _SNAPSHOT, {"magic": _magic, "core": core}))
    magic, version, owner = found["magic"], found["version"], found["node_id"]
    if magic != MAGIC:
        raise BadHeader(f"{name} is no snapshot: its magic is {magic!r}; move it away or restore it from a copy")
    if _number(version, 0, U32_MAX) > VERSION:
        raise NewerVersion(f"{name} has snapshot version {version}, this version reads {VERSION}; see its writer")
    if version != VERSION:
        raise BadHeader(f"{name} claims snapshot version {version}, which never existed")
    if node_id is not None and _number(owner, 0, U32_MAX) != node_id:
        raise ForeignDirectory(f"{name} is of node {owner}, not of node {node_id}; move it away")
    return _number(owner, 0, U32_MAX), found["core"]


def _core(pieces: Pieces, owner: int) -> CrateSnapshot:
    entries: dict[str, Entry] = {}
    peers: dict[int, CratePeer] = {}

    def data(pieces: Pieces) -> None:
        for _ in range(pieces.map(VOLUME_LIMITS.crate_entries_max)):
            key = _key(pieces.scalar())
            entries[key] = _entry(key, pieces)

    def told(pieces: Pieces) -> None:
        for _ in range(pieces.map(VOLUME_LIMITS.crate_peers_max)):
            peer = _number(pieces.scalar(), 0, U32_MAX)
            peers[peer] = _peer(peer, pieces)

    fields = dict(_struct(pieces, _CORE, {"data": data, "peers": told}))
    return CrateSnapshot(owner, dict(sorted(entries.items())), peers, _number(fields["next_seq"], 0, U64_MAX))


def _struct(
    pieces: Pieces, names: tuple[str, ...], readers: Mapping[str, Callable[[Pieces], Any]]
) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a struct, which is a map by name or an array in the order of `names`.

    A field is read by its reader, or else as a plain value; one that is unknown is passed over.
    """
    if pieces.is_array():
        if pieces.array(len(names)) != len(names):
            raise ValueError(f"there is no array of {len(names)} where {', '.join(names)} belong")
        for name in names:
            yield name, readers.get(name, Pieces.scalar)(pieces)
        return
    missing = dict.fromkeys(names)
    for _ in range(pieces.map(_FIELDS_MAX)):
        name = pieces.scalar()
        if isinstance(name, str) and name in missing:
            del missing[name]
            yield name, readers.get(name, Pieces.scalar)(pieces)
        else:
            pieces.skip()
    if missing:
        raise ValueError(f"the field {next(iter(missing))} is missing")


def _magic(pieces: Pieces) -> bytes:
    raw = pieces.scalars(len(MAGIC)) if pieces.is_array() else pieces.scalar()
    octets = bytes(raw) if isinstance(raw, bytes | list) else b""
    if len(octets) != len(MAGIC):
        raise ValueError(f"it begins with {_shown(raw)}, which is no magic")
    return octets


def _shown(raw: Any) -> str:
    """Return what a message tells of a value."""
    if isinstance(raw, str | bytes | list):
        raw = raw[:_SHOWN_MAX]
    return repr(raw)[:_SHOWN_MAX]


def _number(raw: Any, least: int, most: int) -> int:
    if type(raw) is not int or not least <= raw <= most:
        raise ValueError(f"{_shown(raw)} stands where a number in {least} … {most} belongs")
    return raw


def _key(raw: Any) -> str:
    if isinstance(raw, bytes):
        return raw.decode()
    if not isinstance(raw, str):
        raise ValueError(f"a key is {_shown(raw)}")
    return raw


def _entry(key: str, pieces: Pieces) -> Entry:
    if pieces.is_array():  # as nodes write it, in half the time that any struct takes
        if pieces.array(len(_ENTRY)) != len(_ENTRY):
            raise ValueError(f"there is no array of {len(_ENTRY)} where {', '.join(_ENTRY)} belong")
        pieces.skip()
        value, meta = _value(pieces), _meta(pieces)
    else:
        fields = dict(_struct(pieces, _ENTRY, _ENTRY_READERS))
        value, meta = fields["value"], fields["meta"]
    origin, seq, timestamp = meta
    return Entry(key, value, timestamp, origin, seq)


def _value(pieces: Pieces) -> bytes | None:
    if pieces.is_array():  # a number for each byte; taken one by one, not as a list of them
        return bytes(_number(pieces.scalar(), 0, 255) for _ in range(pieces.array(VOLUME_LIMITS.crate_value_bytes_max)))
    raw = pieces.scalar()
    if raw is None or type(raw) is bytes:
        return raw
    if isinstance(raw, str):
        return raw.encode()
    raise ValueError(f"a value is {_shown(raw)}")


def _meta(pieces: Pieces) -> tuple[int, int, int]:
    if pieces.is_array():
        if pieces.array(len(_META)) != len(_META):
            raise ValueError(f"there is no array of {len(_META)} where {', '.join(_META)} belong")
        node, seq, timestamp = pieces.scalar(), pieces.scalar(), pieces.scalar()
    else:
        meta = dict(_struct(pieces, _META, {}))
        node, seq, timestamp = meta["node"], meta["seq"], meta["timestamp"]
    return _number(node, 0, U32_MAX), _number(seq, 0, U64_MAX), _number(timestamp, I64_MIN, I64_MAX)


_ENTRY_READERS: Final[Mapping[str, Callable[[Pieces], Any]]] = {"key": Pieces.skip, "value": _value, "meta": _meta}


def _peer(peer: int, pieces: Pieces) -> CratePeer:
    greatest = 0

    def log(pieces: Pieces) -> None:
        nonlocal greatest
        for _ in range(pieces.array(VOLUME_LIMITS.crate_entries_max)):
            entry = _entry("", pieces)
            if entry.origin == peer:
                greatest = max(greatest, entry.seq)

    fields = dict(_struct(pieces, _PEER, {"log": log}))
    local_ack = _number(fields["local_ack"], 0, U64_MAX)
    return CratePeer(max(local_ack, greatest), _number(fields["peer_ack"], 0, U64_MAX))
