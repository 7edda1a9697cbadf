"""Snapshots that a stranger made, ours and the original system's: what a refusal may cost, and its name."""

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.fakes.snapshots import head, standing_of, write_snapshot
from tests.unit.wavekv.test_hostile_volume import MIB, check_refused, peak_bytes
from tests.unit.wavekv.test_snapshot import assemble, parts
from wavekv.config import VOLUME_LIMITS, SnapshotSettings
from wavekv.core.codec.crate_snapshot import decode_crate_snapshot
from wavekv.core.codec.pieces import PieceError, Pieces, flat_array
from wavekv.core.types import Entry
from wavekv.errors import SnapshotDamaged, VolumeTooLarge
from wavekv.snapshot.blocks import DOTS, ENTRIES, EXPIRING, HEAD, TAIL, encode_head
from wavekv.snapshot.bounds import HeldBounds
from wavekv.snapshot.reading import load

# ---- snapshots -------------------------------------------------------------------------------------------------------

MANY = tuple(Entry(f"key-{n:02}", bytes([n]) * n, n, 1 + n % 3, 40 - n, 9 if n % 4 == 0 else None) for n in range(23))
EMPTY_MAPS = b"\x80"
NESTED = b"\x91"
CLAIM = b"\xdd\xff\xff\xff\xff"


def bomb(kind: int, payload: bytes, path: Path) -> Path:
    """Write a snapshot whose hashes hold, with this block in the place of its kind."""
    whole, _ = write_snapshot(path, MANY, standing_of(MANY))
    held = parts(whole)
    place = next(at for at, (known, _) in enumerate(held) if known == kind)
    assemble(whole, [*held[:place], (kind, payload), *held[place + 1 :]])
    return whole


def array_of(count: int, piece: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + piece * count


@pytest.mark.parametrize("kind", [HEAD, ENTRIES, EXPIRING, DOTS, TAIL])
@pytest.mark.parametrize(
    "payload",
    [
        array_of(60_000, EMPTY_MAPS),
        NESTED * 60_000,
        CLAIM * 12_000,
        b"\x92" + CLAIM * 12_000,
        b"\xdf\xff\xff\xff\xff" + b"\xa0\xc0" * 30_000,
        b"\x81\xa4acks" + array_of(60_000, EMPTY_MAPS),
        b"\x81\xa8requires" + array_of(60_000, EMPTY_MAPS),
        b"\x81\xa7unknown" + NESTED * 500 + b"\xc0",
        b"\x81\x93\x01\x02\x03\xc0",
        b"",
        b"\xc1",
    ],
    ids=range(11),
)
def test_a_block_costs_what_its_schema_allows(kind: int, payload: bytes, tmp_path: Path) -> None:
    path = bomb(kind, payload, tmp_path)
    assert check_refused(SnapshotDamaged, lambda: load(path), path.name) < 6 * MIB


@pytest.mark.parametrize("kind", [ENTRIES, DOTS])
def test_the_longest_block_of_empty_containers_is_refused_by_its_count(kind: int, tmp_path: Path) -> None:
    most = VOLUME_LIMITS.snapshot_entries_bytes_max
    path = bomb(kind, array_of(most - 5, EMPTY_MAPS), tmp_path)
    assert check_refused(SnapshotDamaged, lambda: load(path), "elements") < 3 * most


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (HEAD, VOLUME_LIMITS.document_bytes_max),
        (ENTRIES, VOLUME_LIMITS.snapshot_entries_bytes_max),
        (EXPIRING, VOLUME_LIMITS.snapshot_entries_bytes_max),
        (DOTS, VOLUME_LIMITS.snapshot_entries_bytes_max),
    ],
)
def test_a_block_is_read_up_to_its_kinds_bound(kind: int, most: int, tmp_path: Path) -> None:
    for size, said in ((most, "wrong shape"), (most + 1, "more than any of its kind")):
        path = bomb(kind, b"\xc1" * size, tmp_path)
        check_refused(SnapshotDamaged, lambda path=path: load(path), said)


def test_a_head_with_its_longest_cluster_id_and_unknown_names_is_read(tmp_path: Path) -> None:
    path, _ = write_snapshot(tmp_path, MANY, standing_of(MANY))
    held = parts(path)
    more = {f"later-{number}": [[{}]] for number in range(50)}
    assemble(path, [(HEAD, {**msgpack.unpackb(encode_head(head())), **more, "requires": []}), *held[1:]])
    assert load(path)[0] == head()


def _places(held: dict[int, Any]) -> None:
    held[DOTS][2] = bytes(reversed(held[DOTS][2]))


def _seqs(held: dict[int, Any]) -> None:
    held[DOTS][1] = array("Q", (seq + 1 for seq in array("Q", held[DOTS][1]))).tobytes()


def _origin(held: dict[int, Any]) -> None:
    held[DOTS][0] = 77


def _short(held: dict[int, Any]) -> None:
    held[ENTRIES][1] = b"short"


def _kind(held: dict[int, Any]) -> None:
    held[ENTRIES][1] = held[ENTRIES][1][:20] + b"\x09" + held[ENTRIES][1][21:]


def _number_as_key(held: dict[int, Any]) -> None:
    held[ENTRIES][2] = 5


def _text_as_entry(held: dict[int, Any]) -> None:
    held[ENTRIES][3] = "text"


def _order(held: dict[int, Any]) -> None:
    held[ENTRIES][0], held[ENTRIES][2] = held[ENTRIES][2], held[ENTRIES][0]


def _expiry(held: dict[int, Any]) -> None:
    held[EXPIRING][1] = b"\xff" * len(held[EXPIRING][1])


def _values(held: dict[int, Any]) -> None:
    held[TAIL]["values"] -= 1


def _size(held: dict[int, Any]) -> None:
    held[TAIL]["size_bytes"] += 1


@pytest.mark.parametrize(
    "change",
    [_places, _seqs, _origin, _short, _kind, _number_as_key, _text_as_entry, _order, _expiry, _values, _size],
)
def test_a_load_trusts_no_writer_for_what_a_member_relies_on(
    change: Callable[[dict[int, Any]], None], tmp_path: Path
) -> None:
    entries = [Entry(f"k{n}", b"v" * n, n, 5, n, 9 if n == 3 else None) for n in range(1, 6)]
    path, _ = write_snapshot(tmp_path, entries, standing_of(entries), settings=SnapshotSettings())
    held = dict(parts(path))
    assert len(held) == 5, "one block of each kind"
    assemble(path, list(held.items()))
    load(path)
    change(held)
    assemble(path, list(held.items()))
    with pytest.raises(SnapshotDamaged):
        load(path)


def test_a_snapshot_that_comes_to_more_than_the_member_may_hold_is_refused(tmp_path: Path) -> None:
    path, tail = write_snapshot(tmp_path, MANY, standing_of(MANY))
    load(path, held=HeldBounds(tail.entries, 1 << 20))
    for held in (HeldBounds(tail.entries - 1, 1 << 20), HeldBounds(tail.entries, 100)):
        with pytest.raises(VolumeTooLarge, match="--limit-bytes"):
            load(path, held=held)


# ---- the original system's -------------------------------------------------------------------------------------------


def crate(data: Any = None, peers: Any = None) -> list[Any]:
    return [[87, 86, 75, 86], 1, 1, [{} if data is None else data, {} if peers is None else peers, 1]]


@pytest.mark.parametrize(
    "raw",
    [
        array_of(1_000_000, EMPTY_MAPS),
        NESTED * 1_000_000,
        CLAIM * 200_000,
        b"\x94\x94\x57\x56\x4b\x56\x01\x01\x93\xdf\x00\x0f\x00\x00" + EMPTY_MAPS * 1_000_000,
        b"\x94\x94\x57\x56\x4b\x56\x01\x01\x93\x81\xa1a" + array_of(1_000_000, EMPTY_MAPS),
        b"\x94\x94\x57\x56\x4b\x56\x01\x01\x93\x81\xa1a\x93\xa1a" + array_of(1_000_000, EMPTY_MAPS),
        b"\x94\x94\x57\x56\x4b\x56\x01\x01\x93\x80\x81\x02\x93\x01\x01" + array_of(1_000_000, EMPTY_MAPS),
        b"\xdf\x00\x0f\x00\x00" + b"\xa0\xc0" * 1_000_000,
    ],
    ids=range(8),
)
def test_a_crate_snapshot_costs_what_its_format_has_a_place_for(raw: bytes) -> None:
    assert check_refused(SnapshotDamaged, lambda: decode_crate_snapshot(raw, "node_1.snapshot", 1)) < 2 * MIB


def test_a_peers_log_in_a_crate_snapshot_is_counted_and_not_kept() -> None:
    log = [["k" * 50, b"v" * 50, [2, number, 0]] for number in range(1, 20_001)]
    raw = msgpack.packb(crate(peers={2: [0, 0, log]}))
    found = []
    spent = peak_bytes(lambda: found.append(decode_crate_snapshot(raw, "x", 1)))
    assert found[0].peers[2].local_ack == 20_000
    assert spent < 2 * MIB


def test_an_unknown_field_of_a_crate_snapshot_is_passed_over_unbuilt() -> None:
    magic, version, node, core = crate()
    wide = {"magic": magic, "version": version, "later": [{}] * 500_000, "node_id": node, "core": core}
    raw = msgpack.packb(wide)
    assert peak_bytes(lambda: decode_crate_snapshot(raw, "x", 1)) < MIB


# ---- pieces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_a_flat_array_is_read_up_to_its_bound(count: int) -> None:
    data = msgpack.packb(["x"] * count)
    assert flat_array(data, count) == ["x"] * count
    if count:
        with pytest.raises(PieceError):
            flat_array(data, count - 1)
    for spoiled in (data + b"\xc0", data[:-1], b"", b"\x80", b"\xc0"):
        with pytest.raises(PieceError):
            flat_array(spoiled, count)


def test_pieces_name_what_is_not_there() -> None:
    for data, step in (
        (b"", Pieces.scalar),
        (b"\xda\xff\xffxx", Pieces.scalar),
        (b"\x91\xc0", Pieces.scalar),
        (b"\xc7\x01\x05x", Pieces.scalar),
        (b"\xc0", lambda pieces: pieces.map(5)),
        (b"\xc0", lambda pieces: pieces.array(5)),
        (b"\x93\xc0\xc0\xc0", lambda pieces: pieces.array(2)),
        (b"\x95\xc0\xc0", lambda pieces: pieces.array(5)),
        (b"\x91" * 5000, Pieces.skip),
        (b"\xa2\xff\xff", Pieces.scalar),
    ):
        with pytest.raises(PieceError):
            step(Pieces(data))
