"""The original system's snapshot: the example to the byte, and what its readers tolerate and refuse."""

from typing import Any

import msgpack
import pytest

from tests.fakes.crate_dirs import VECTORS
from wavekv.core.codec.crate_snapshot import CratePeer, decode_crate_snapshot, encode_crate_snapshot
from wavekv.core.types import I64_MIN, U64_MAX, Entry
from wavekv.errors import BadHeader, ForeignDirectory, NewerVersion, SnapshotDamaged

EXAMPLE = bytes.fromhex(
    "94 9457564b56 01 01 9382 a161 93 a161 c40131 93010164   a174 93 a174 c0 930207ff82 02 93070090   01 9300009002"
)
A = Entry("a", b"1", 100, 1, 1)
T = Entry("t", None, -1, 2, 7)


def encoded(*entries: Entry, peers: dict[int, CratePeer] | None = None, next_seq: int = 1) -> bytes:
    return b"".join(encode_crate_snapshot(1, len(entries), entries, peers or {}, next_seq))


def fields(data: bytes = EXAMPLE) -> list[Any]:
    unpacked = msgpack.unpackb(data, strict_map_key=False)
    assert isinstance(unpacked, list)
    return unpacked


def read(raw: Any) -> Any:
    return decode_crate_snapshot(msgpack.packb(raw), "node_1.snapshot", 1)


def test_the_worked_example_is_written_and_read_to_the_byte() -> None:
    assert len(EXAMPLE) == 44
    peers = {2: CratePeer(7, 0), 1: CratePeer(0, 0)}
    assert encoded(A, T, peers=peers, next_seq=2) == EXAMPLE
    assert decode_crate_snapshot(EXAMPLE, "x", 1) == (1, {"a": A, "t": T}, peers, 2)


@pytest.mark.parametrize("name", ["v2-snapshot-and-wal", "v2-gc-snapshot-only", "v2-with-backup"])
def test_a_snapshot_of_the_crate_is_written_again_as_it_was(name: str) -> None:
    data = (VECTORS / name / "data" / "node_1.snapshot").read_bytes()
    found = decode_crate_snapshot(data, name, 1)
    entries = found.entries.values()
    assert b"".join(encode_crate_snapshot(1, len(entries), entries, found.peers, found.next_seq)) == data


def test_integers_and_strings_are_as_short_as_msgpack_allows() -> None:
    extreme = Entry("é" * 20, b"v" * 300, I64_MIN, 2**32 - 1, U64_MAX)
    data = encoded(extreme, next_seq=U64_MAX)
    assert msgpack.packb(msgpack.unpackb(data, strict_map_key=False)) == data
    assert decode_crate_snapshot(data, "x").entries == {extreme.key: extreme}


def test_a_large_snapshot_comes_in_chunks() -> None:
    entries = [Entry(f"{number:06}", b"v" * 1000, number, 1, number) for number in range(1, 501)]
    chunks = list(encode_crate_snapshot(1, 500, entries, {}, 501))
    assert len(chunks) > 5
    assert max(map(len, chunks)) < 70_000
    assert list(decode_crate_snapshot(b"".join(chunks), "x").entries.values()) == entries


def test_a_peers_log_counts_for_its_own_acknowledgements_alone() -> None:
    raw = fields()
    raw[3][1] = {2: [3, 0, [["t", None, [2, 9, 0]], ["u", None, [5, 40, 0]]]], 1: [4, 8, [["a", b"", [1, 2, 0]]]]}
    assert read(raw).peers == {2: CratePeer(9, 0), 1: CratePeer(4, 8)}


def test_the_maps_key_is_where_an_entry_lives_and_keys_are_put_in_order() -> None:
    raw = fields()
    raw[3][0] = {"z": ["a", b"1", [1, 1, 100]], "b": ["b", [104, 105], [1, 2, 0]], b"c": ["c", "text", [1, 3, 0]]}
    assert list(read(raw).entries.values()) == [
        Entry("b", b"hi", 0, 1, 2),
        Entry("c", b"text", 0, 1, 3),
        Entry("z", b"1", 100, 1, 1),
    ]


def test_structs_as_maps_unknown_fields_a_bin_magic_and_bytes_behind_the_end_are_tolerated() -> None:
    magic, version, node_id, (data, peers, next_seq) = fields()
    named = {
        "version": version,
        "core": {"next_seq": next_seq, "peers": peers, "data": data, "more": [1]},
        "node_id": node_id,
        "magic": bytes(magic),
        "unknown": None,
    }
    assert read(named) == decode_crate_snapshot(EXAMPLE, "x")
    assert decode_crate_snapshot(EXAMPLE + b"trailing", "x") == decode_crate_snapshot(EXAMPLE, "x")


def test_another_magic_version_or_node_is_refused_by_name() -> None:
    for place, value, error in (
        (0, [87, 86, 75, 87], BadHeader),
        (1, 2, NewerVersion),
        (1, 0, BadHeader),
        (2, 3, ForeignDirectory),
    ):
        raw = fields()
        raw[place] = value
        with pytest.raises(error, match=r"node_1\.snapshot"):
            read(raw)
    raw[2] = 3
    assert decode_crate_snapshot(msgpack.packb(raw), "x", None).node_id == 3


@pytest.mark.parametrize("length", range(len(EXAMPLE)))
def test_a_snapshot_cut_anywhere_is_damaged(length: int) -> None:
    with pytest.raises(SnapshotDamaged, match="x is damaged"):
        decode_crate_snapshot(EXAMPLE[:length], "x", 1)


@pytest.mark.parametrize("place", range(len(EXAMPLE)))
def test_no_flipped_bit_ends_in_anything_but_an_error_of_ours_or_a_snapshot(place: int) -> None:
    for bit in range(8):
        data = bytearray(EXAMPLE)
        data[place] ^= 1 << bit
        try:
            decode_crate_snapshot(bytes(data), "x", 1)
        except (SnapshotDamaged, BadHeader, NewerVersion, ForeignDirectory) as error:
            assert error.detail.startswith("x ")  # noqa: PT017 - not every bit makes an error


@pytest.mark.parametrize(
    "core",
    [
        None,
        [{}, {}],
        [{}, {}, 1, 2],
        [{}, {}, -1],
        [{}, {}, True],
        [[], {}, 1],
        [{}, [], 1],
        [{"a": ["a", b"1", [1, 1]]}, {}, 1],
        [{"a": ["a", b"1", [2**32, 1, 1]]}, {}, 1],
        [{"a": ["a", b"1", [1, 1, 2**63]]}, {}, 1],
        [{"a": ["a", 5, [1, 1, 1]]}, {}, 1],
        [{"a": ["a", [256], [1, 1, 1]]}, {}, 1],
        [{"a": {"key": "a", "meta": [1, 1, 1]}}, {}, 1],
        [{5: ["a", b"1", [1, 1, 1]]}, {}, 1],
        [{b"\xff": ["a", b"1", [1, 1, 1]]}, {}, 1],
        [{}, {"2": [1, 0, []]}, 1],
        [{}, {2: [1, 0, None]}, 1],
        {"data": {}, "peers": {}},
    ],
    ids=repr,
)
def test_a_core_that_is_none_is_damaged(core: Any) -> None:
    with pytest.raises(SnapshotDamaged, match=r"node_1\.snapshot is damaged"):
        read([[87, 86, 75, 86], 1, 1, core])
