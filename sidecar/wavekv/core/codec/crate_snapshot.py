"""The bytes of the original system's snapshot, `node_{id}.snapshot`: msgpack, structs as positional arrays.

    [ [87, 86, 75, 86], version, node_id,
      [ {key: [key, bin or nil, [node, seq, timestamp]], ...},
        {node: [local_ack, peer_ack, [entry, ...]], ...},
        next_seq ] ]

Writing gives what both of its versions write and read. Reading is as lenient as theirs: structs also as maps by name,
unknown fields, the magic as bin, bytes behind the end. The map's key is where an entry lives, whatever the entry says.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgpack

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


def decode_crate_snapshot(data: bytes, name: str, node_id: int | None = None) -> CrateSnapshot:
    """Read a snapshot; `name` is the file's for messages, `node_id` whose it has to be (None: anybody's).

    A peer's log counts for its `local_ack`, as it does in the 2.x crate; its entries are in the map as well.

    Raises:
        SnapshotDamaged: it does not decode.
        BadHeader: it decodes, and is something else.
        NewerVersion: its version is a later one.
        ForeignDirectory: it is another node's.
    """
    try:
        fields = _named(_unpack(data), ("magic", "version", "node_id", "core"))
        magic, version, owner = _magic(fields["magic"]), fields["version"], fields["node_id"]
        if magic != MAGIC:
            raise BadHeader(f"{name} is no snapshot: its magic is {magic!r}; move it away or restore it from a copy")
        if _number(version, 0, U32_MAX) > VERSION:
            raise NewerVersion(f"{name} has snapshot version {version}, this version reads {VERSION}; see its writer")
        if version != VERSION:
            raise BadHeader(f"{name} claims snapshot version {version}, which never existed")
        if node_id is not None and _number(owner, 0, U32_MAX) != node_id:
            raise ForeignDirectory(f"{name} is of node {owner}, not of node {node_id}; move it away")
        core = _named(fields["core"], ("data", "peers", "next_seq"))
        entries = {_key(key): _entry(_key(key), raw) for key, raw in core["data"].items()}
        peers = {_number(peer, 0, U32_MAX): _peer(peer, raw) for peer, raw in core["peers"].items()}
        return CrateSnapshot(
            _number(owner, 0, U32_MAX), dict(sorted(entries.items())), peers, _number(core["next_seq"], 0, U64_MAX)
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SnapshotDamaged(f"{name} is damaged: {error or type(error).__name__}") from error


def _unpack(data: bytes) -> Any:
    unpacker = msgpack.Unpacker(use_list=False, strict_map_key=False, max_buffer_size=len(data) + 1)
    unpacker.feed(data)
    try:
        return unpacker.unpack()  # and not unpackb: bytes behind the end are tolerated
    except msgpack.exceptions.OutOfData as error:
        raise ValueError(f"it ends inside a field, after {len(data)} bytes") from error
    except msgpack.exceptions.UnpackException as error:
        raise ValueError(f"it is not msgpack ({type(error).__name__})") from error


def _named(raw: Any, names: tuple[str, ...]) -> Mapping[Any, Any]:
    """Return the fields of a struct, which is a map by name or an array in the order of `names`."""
    if isinstance(raw, dict):
        missing = [name for name in names if name not in raw]
        if missing:
            raise ValueError(f"the field {missing[0]} is missing")
        return raw
    if not isinstance(raw, tuple) or len(raw) != len(names):
        raise ValueError(f"there is no array of {len(names)} where {', '.join(names)} belong")
    return dict(zip(names, raw, strict=True))


def _magic(raw: Any) -> bytes:
    octets = bytes(raw) if isinstance(raw, bytes | tuple) else b""
    if len(octets) != len(MAGIC):
        raise ValueError(f"it begins with {raw!r}, which is no magic")
    return octets


def _number(raw: Any, least: int, most: int) -> int:
    if type(raw) is not int or not least <= raw <= most:
        raise ValueError(f"{raw!r} stands where a number in {least} … {most} belongs")
    return raw


def _key(raw: Any) -> str:
    if isinstance(raw, bytes):
        return raw.decode()
    if not isinstance(raw, str):
        raise ValueError(f"a key is {raw!r}")
    return raw


def _entry(key: str, raw: Any) -> Entry:
    if type(raw) is tuple and len(raw) == 3 and type(raw[2]) is tuple and len(raw[2]) == 3:
        value, (origin, seq, timestamp) = raw[1], raw[2]
    else:
        fields = _named(raw, ("key", "value", "meta"))
        meta = _named(fields["meta"], ("node", "seq", "timestamp"))
        value, origin, seq, timestamp = fields["value"], meta["node"], meta["seq"], meta["timestamp"]
    if value is not None and type(value) is not bytes:
        value = value.encode() if isinstance(value, str) else bytes([_number(octet, 0, 255) for octet in value])
    return Entry(
        key, value, _number(timestamp, I64_MIN, I64_MAX), _number(origin, 0, U32_MAX), _number(seq, 0, U64_MAX)
    )


def _peer(peer: int, raw: Any) -> CratePeer:
    fields = _named(raw, ("local_ack", "peer_ack", "log"))
    logged = [_entry("", entry) for entry in fields["log"]]
    own = [entry.seq for entry in logged if entry.origin == peer]
    local_ack = _number(fields["local_ack"], 0, U64_MAX)
    return CratePeer(max([local_ack, *own]), _number(fields["peer_ack"], 0, U64_MAX))
