"""A volume that a stranger made: what it may cost to refuse it, by which name, and that nothing of it is changed.

Memory is what tracemalloc sees at its highest, so a bound here is one of what is built, not of what the system gives.
"""

import json
import os
import socket
import tracemalloc
from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.fakes.log import HASTY, append_all, entry, opened
from tests.fakes.snapshots import head, standing_of, write_snapshot
from tests.unit.wavekv.test_snapshot import assemble, parts
from tests.unit.wavekv.test_wal_directory import open_at
from wavekv.config import VOLUME_LIMITS, Limits, SnapshotSettings
from wavekv.core.codec.bincode import varint
from wavekv.core.codec.crate_snapshot import decode_crate_snapshot
from wavekv.core.codec.pieces import PieceError, Pieces, flat_array
from wavekv.core.codec.records import decode_op, encode_header, encode_record
from wavekv.core.loading import loader_over
from wavekv.core.ops import Batch, Clear, Cover, Op, Process, Set, SetNextSeq
from wavekv.core.types import Entry
from wavekv.disk import OS_DISK, disk_error
from wavekv.errors import Corruption, SnapshotDamaged, UnusableFile, UsageError, VolumeTooLarge
from wavekv.runtime.epoch_file import EpochFile, read_document
from wavekv.snapshot.blocks import DOTS, ENTRIES, EXPIRING, HEAD, TAIL, encode_head
from wavekv.snapshot.bounds import HeldBounds, held_bounds
from wavekv.snapshot.reading import load
from wavekv.volume import NotRegular, open_regular, read_file
from wavekv.wal.directory import BOOTS_MAX, LOCK
from wavekv.wal.recovery import recover
from wavekv.wal.segment import Sequences, read_header, replay
from wavekv.wal.spares import zero_spares

MIB = 1 << 20


def peak_bytes(step: Callable[[], Any]) -> int:
    """Return the most that Python held at once for `step`, beyond what it held before."""
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(error: type[Exception], step: Callable[[], Any], match: str | None = None) -> int:
    """Require the refusal; return the memory it took."""

    def inner() -> None:
        with pytest.raises(error, match=match):
            step()

    return peak_bytes(inner)


# ---- what has a name of ours -----------------------------------------------------------------------------------------

FILES = (
    "IDENTITY",
    "IDENTITY.tmp",
    "LOCK",
    "MEMBERSHIP",
    "RESERVE",
    "CONVERTING",
    "00000001.wal",
    "00000009.wal",
    "00000009.wal.tmp",
    "00000003.snapshot",
    "00000003.snapshot.dots.tmp",
    "00000002.spare",
    "00000002.spare.tmp",
    "00000001.wal.torn-40",
)


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside.with_name("not-there"))


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, _: Path) -> None:
    path.mkdir()


def _socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize("make", [_link, _dangling, _fifo, _folder, _socket])
@pytest.mark.parametrize("name", FILES)
def test_a_name_of_ours_that_is_no_file_is_refused_before_anything_is_opened(
    name: str, make: Callable[[Path, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "v"
    outside.write_bytes(b"another team's")
    append_all(volume, [[Set(entry(1))]])
    (volume / name).unlink(missing_ok=True)
    monkeypatch.chdir(volume)  # a socket's path has a bound of its own
    make(Path(name), outside)
    before = {file.name: os.lstat(file) for file in volume.iterdir()}
    with pytest.raises(UnusableFile, match=name) as refusal:
        open_at(volume, node_id=7)
    assert (refusal.value.code, refusal.value.exit_code) == ("unusable_file", 4)
    assert {file.name: os.lstat(file) for file in volume.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir() if file != volume] == ["outside"]
    assert outside.read_bytes() == b"another team's"


@pytest.mark.parametrize("name", ["quarantine", "crate"])
def test_a_folder_of_ours_is_never_a_link_to_another(name: str, tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    append_all(volume, [[Set(entry(1))]])
    (volume / name).symlink_to(outside)
    with pytest.raises(UnusableFile, match=name):
        open_at(volume, node_id=7)


def test_a_device_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(NotRegular, match="a device"):
        open_regular(Path("/dev/zero"))
    with pytest.raises(UnusableFile, match="a device"):
        read_file(Path("/dev/zero"), 10)


def test_a_link_on_the_way_is_meant_where_a_person_or_pod_named_the_file(tmp_path: Path) -> None:
    """A mounted ConfigMap is made of links."""
    target, link = tmp_path / "..data", tmp_path / "membership.json"
    target.write_text(json.dumps({"epoch": 1, "members": ["a"]}))
    link.symlink_to(target)
    assert read_document(link).epoch.members == ("a",)
    with pytest.raises(UnusableFile):
        read_file(link, 1000)


def test_writing_through_a_link_is_refused_and_called_by_its_name(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    (tmp_path / "IDENTITY.tmp").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic link") as found:
        OS_DISK.open(tmp_path / "IDENTITY.tmp", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert isinstance(disk_error(found.value, "write"), UnusableFile)
    assert outside.read_bytes() == b"kept"


def test_a_longer_file_under_the_locks_name_stays_whole(tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    content = b"an entry of some other file"
    (tmp_path / LOCK).write_bytes(content * 3)
    with opened(tmp_path):
        pass
    assert (tmp_path / LOCK).read_bytes() == content * 3


@pytest.mark.parametrize("more", [0, 1])
def test_names_in_a_directory_are_bounded(more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    names = len(list(tmp_path.iterdir()))
    monkeypatch.setattr("wavekv.wal.directory.VOLUME_LIMITS", replace(VOLUME_LIMITS, names_max=names - more))
    if more:
        with pytest.raises(UnusableFile, match="names"):
            open_at(tmp_path, node_id=7)
    else:
        open_at(tmp_path, node_id=7).close()


# ---- documents -------------------------------------------------------------------------------------------------------


def identity(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((path / "IDENTITY").read_bytes())
    return fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("boot_count", BOOTS_MAX),
        ("boot_count", 10**400),
        ("created_at", 10**30),
        ("created_at", -1),
        ("cluster_id", "c" * 300),
        ("node_id", 1e400),
        ("uuid", {"a": []}),
        ("format", True),
    ],
)
def test_a_field_of_the_identity_out_of_range_is_corruption(field: str, value: Any, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    (tmp_path / "IDENTITY").write_text(json.dumps(identity(tmp_path) | {field: value}))
    with pytest.raises(Corruption, match="IDENTITY is damaged"):
        open_at(tmp_path)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_document_nested_deep_is_damaged_and_costs_little(opening: str, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    (tmp_path / "IDENTITY").write_text((opening * VOLUME_LIMITS.document_bytes_max)[: VOLUME_LIMITS.document_bytes_max])
    assert refused(Corruption, lambda: open_at(tmp_path), "too deep") < 4 * MIB
    (tmp_path / "MEMBERSHIP").write_text(opening * 100_000)
    assert refused(UsageError, EpochFile(tmp_path).load, "too deep") < 4 * MIB


@pytest.mark.parametrize(("name", "most"), [("IDENTITY", 64 << 10), ("MEMBERSHIP", 1 << 20)])
def test_documents_are_read_up_to_their_bound(name: str, most: int, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    membership = {"epoch": 1, "members": ["a"], "bootstrap": False}
    (tmp_path / "MEMBERSHIP").write_text(json.dumps(membership))
    read = {"IDENTITY": lambda: open_at(tmp_path).close(), "MEMBERSHIP": EpochFile(tmp_path).load}[name]
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content + b" " * (most - len(content)))
    read()
    with (tmp_path / name).open("ab") as file:
        file.truncate((1 << 40) if name == "MEMBERSHIP" else most + 1)
    assert refused(UnusableFile, read, name) < MIB


@pytest.mark.parametrize(
    "marker",
    [
        {"files": ["IDENTITY"]},
        {"files": ["..", "node_1.wal"]},
        {"files": ["node_1.wal\0"]},
        {"files": ["node_1.wal"], "records": "many"},
        {"files": ["node_1.wal"], "damage": [[]]},
    ],
    ids=repr,
)
def test_a_conversion_moves_only_files_of_the_original_system(marker: dict[str, Any], tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    whole = {"node_id": 1, "base": "nothing", "records": 0, "entries": 0, "cut_bytes": 0, "damage": None}
    (tmp_path / "CONVERTING").write_text(json.dumps(whole | marker))
    with pytest.raises(Corruption, match="CONVERTING is damaged"):
        open_at(tmp_path)
    assert (tmp_path / "IDENTITY").exists()


@pytest.mark.parametrize("segment", ["1e999", "-1", '"1"', "true", str(10**30)])
def test_a_plan_of_a_quarantine_that_nobody_made_is_corruption(segment: str, tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    event = tmp_path / "quarantine" / "0001"
    event.mkdir(parents=True)
    (event / "plan.json").write_text(f'{{"segment": {segment}, "valid_end": 0, "cause": "x"}}')
    with opened(tmp_path) as directory, pytest.raises(Corruption):
        recover(directory, partial(loader_over, 10), HASTY)


# ---- the log ---------------------------------------------------------------------------------------------------------


def sparse(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)


def test_a_segment_longer_than_any_is_refused_unread_and_the_start_is_not_counted(tmp_path: Path) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    boots = identity(tmp_path)["boot_count"]
    sparse(tmp_path / "00000001.wal", VOLUME_LIMITS.segment_bytes_max + 1)
    with opened(tmp_path) as directory:
        spent = refused(UnusableFile, lambda: recover(directory, partial(loader_over, 10), HASTY), "00000001.wal")
    assert spent < 4 * MIB
    assert identity(tmp_path)["boot_count"] == boots


def test_a_spare_that_would_fill_the_volume_is_removed_and_not_zeroed(tmp_path: Path) -> None:
    sparse(tmp_path / "00000001.spare.tmp", VOLUME_LIMITS.segment_bytes_max + 1)
    zero_spares(tmp_path, HASTY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [0, 1])
def test_operations_of_one_record_are_bounded_before_they_are_built(more: int) -> None:
    count = VOLUME_LIMITS.batch_operations_max + more
    data = b"\x0a" + varint(count) + b"\1\0" * count  # each deletes the empty key
    if more:
        assert refused(Exception, lambda: decode_op(data, 0), "none has more than") < MIB
    else:
        op, end = decode_op(data, 0)
        assert (op, end) == (Batch((Clear(""),) * count), len(data))


def log_of(path: Path, ops: list[Op]) -> None:
    """Write a segment whose every record holds, in one group."""
    records = [encode_record(number, op) for number, op in enumerate([SetNextSeq(1), *ops], start=1)]
    (path / "00000001.wal").write_bytes(encode_header(7, 0) + b"".join(records))


@pytest.mark.parametrize("held", [HeldBounds(2000, 1 << 30), HeldBounds(10_000, 40_000)])
def test_a_log_that_comes_to_more_than_the_member_may_hold_is_refused(held: HeldBounds, tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    log_of(tmp_path, [Set(Entry(f"k{number}", b"", 1, 9, number)) for number in range(1, 5000)])
    before = (tmp_path / "00000001.wal").read_bytes()
    with opened(tmp_path) as directory, pytest.raises(VolumeTooLarge, match="--limit-entries") as refusal:
        recover(directory, partial(loader_over, 10), HASTY, held=held)
    assert refusal.value.exit_code == 4
    assert (tmp_path / "00000001.wal").read_bytes() == before
    with opened(tmp_path) as directory:
        loader, _ = recover(directory, partial(loader_over, 10), HASTY, held=HeldBounds(4999, 1 << 30))
    assert len(loader.held) == 4999


def test_what_a_directory_may_come_to_is_twice_what_its_member_may_hold() -> None:
    assert held_bounds(Limits(entries_max=10, bytes_max=100)) == (20, 200)


def test_coverage_that_a_log_claims_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path):
        pass
    log_of(tmp_path, [Cover(origin, 1, 5) for origin in range(1, 1001)])
    for most, refusing in ((999, True), (1000, False)):
        monkeypatch.setattr("wavekv.snapshot.bounds.VOLUME_LIMITS", replace(VOLUME_LIMITS, coverage_max=most))
        with opened(tmp_path) as directory:
            if refusing:
                with pytest.raises(VolumeTooLarge, match="origins"):
                    recover(directory, partial(loader_over, 10), HASTY)
            else:
                recover(directory, partial(loader_over, 10), HASTY)


def test_processes_of_a_log_are_forgotten_but_for_the_newest() -> None:
    loader = loader_over(10, None)
    spent = peak_bytes(lambda: [loader.apply(Process(inc, 1, False)) for inc in range(1, 50_000)])
    assert spent < MIB


def test_reading_looks_at_what_is_held_every_few_thousand_records() -> None:
    header = encode_header(7, 0)
    records = [encode_record(number, Set(entry(number))) for number in range(1, 30_001)]
    data = header + b"".join(records)
    looks = []
    taken: list[Op] = []
    found = read_header(data, "x")
    assert found is not None
    replay(data, found, taken.append, Sequences(), heed=lambda: looks.append(len(taken)))
    gaps = [second - first for first, second in pairwise(looks)]
    assert len(taken) == 30_000
    assert max(gaps) <= 4096


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
    assert refused(SnapshotDamaged, lambda: load(path), path.name) < 6 * MIB


@pytest.mark.parametrize("kind", [ENTRIES, DOTS])
def test_the_longest_block_of_empty_containers_is_refused_by_its_count(kind: int, tmp_path: Path) -> None:
    most = VOLUME_LIMITS.snapshot_entries_bytes_max
    path = bomb(kind, array_of(most - 5, EMPTY_MAPS), tmp_path)
    assert refused(SnapshotDamaged, lambda: load(path), "elements") < 3 * most


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
        refused(SnapshotDamaged, lambda path=path: load(path), said)


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
    assert refused(SnapshotDamaged, lambda: decode_crate_snapshot(raw, "node_1.snapshot", 1)) < 2 * MIB


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
