"""Directories of the original system: what they are read as, and that they become ours whatever happens meanwhile."""

import json
import shutil
import uuid
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.fakes.crate_dirs import NODE_ID, VECTORS, content, copy_of, told
from tests.fakes.disk import BROKEN, FULL, FaultDisk, PowerCut, fail_on, stop_at
from tests.fakes.log import HASTY, Operations
from wavekv.core.codec.records import encode_header, encode_record
from wavekv.core.ops import Clear, Floor, Op, Process, Set, SetExpiring, SetNextSeq, UpdateLocalAck
from wavekv.core.store import Store
from wavekv.core.types import U64_MAX, Entry
from wavekv.errors import (
    BadHeader,
    Corruption,
    DirectoryInUse,
    DiskFailed,
    DiskFull,
    ForeignDirectory,
    NewerVersion,
    WaveKVError,
)
from wavekv.wal.crate import CrateState, find_crate_files, read_crate
from wavekv.wal.directory import DataDirectory, open_directory
from wavekv.wal.recovery import recover

LOGS = VECTORS.parent / "wal"
REFUSED: dict[str, tuple[type[WaveKVError], str]] = {
    "snapshot-wrong-magic": (BadHeader, "no snapshot"),
    "snapshot-wrong-version": (NewerVersion, "snapshot version 2"),
    "snapshot-wrong-node": (ForeignDirectory, "of node 2, not of node 1"),
}
"""The 2.x crate goes on without such a snapshot; what has a wrong magic, version or node is refused (9.1)."""
NOT_OPENED_BY_THE_CRATE = {"zero-byte-wal": "holds nothing acknowledged, so it is begun anew (9.1)"}
EMPTY = {"nothing": "no file of the original system, so none of its directories"}
INCOMPLETE = ("snapshot-truncated", "v2-only-backup", "v2-primary-broken-backup-used", "v2-stale-temporaries")
"""The log goes on from a snapshot that cannot be read: only what the older one acknowledged is proven."""
NAMES = sorted(path.name for path in VECTORS.iterdir() if path.is_dir())
READ = [name for name in NAMES if name not in {*REFUSED, *NOT_OPENED_BY_THE_CRATE, *EMPTY}]


def expected(name: str) -> CrateState:
    """Return what the crate recovers, and what is put right on purpose (format, section 9)."""
    entries, acks, next_seq = told(name)
    if name == "replay-filter-clear":
        del entries["gone"]  # 9.3: every operation counts, so a tombstone that was collected stays away
    if name == "snapshot-key-mismatch":
        held = entries.pop("jfe0s8")  # the crate prints entry.key; where the entry lives is the map's key
        entries["not-jfe0s8"] = held._replace(key="not-jfe0s8")
    if name not in INCOMPLETE:
        acks[NODE_ID] = next_seq - 1  # 9.3: the crate restores its own ack only by its next write
    return CrateState(NODE_ID, dict(sorted(entries.items())), acks, next_seq)


def read(path: Path) -> CrateState:
    files = find_crate_files(path)
    assert files is not None
    return read_crate(files)


def facts(state: CrateState) -> tuple[list[tuple[str, Entry]], dict[int, int], int]:
    return list(state.entries.items()), {origin: ack for origin, ack in state.acks.items() if ack}, state.next_seq


def open_at(path: Path, **more: Any) -> DataDirectory:
    given: dict[str, Any] = {"node_id": None, "cluster_id": None, "now_ms": 5, "disk": HASTY}
    new_uuid, new_node_id = (lambda: uuid.UUID(int=3)), (lambda: 77)
    return open_directory(path, new_node_id=new_node_id, new_uuid=new_uuid, **{**given, **more})


def recovered(path: Path, **more: Any) -> tuple[DataDirectory, Store]:
    directory = open_at(path, **more)
    try:
        loader, recovery = recover(directory, Operations, HASTY)
        assert recovery.damage is None
    finally:
        directory.close()
    return directory, loader.store()


def log(path: Path, *ops: Op, tail: bytes = b"", node_id: int = NODE_ID) -> Path:
    path.mkdir(exist_ok=True)
    records = b"".join(encode_record(number, op) for number, op in enumerate(ops, start=1))
    (path / f"node_{node_id}.wal").write_bytes(encode_header(node_id, 0) + records + tail)
    return path


def entry(key: str, seq: int, origin: int = NODE_ID, value: bytes | None = b"v") -> Entry:
    return Entry(key, value, 1_700_000_000_000 + seq, origin, seq)


def refuses(path: Path, error: type[WaveKVError], *words: str, **more: Any) -> None:
    before = content(path)
    with pytest.raises(error) as caught:
        open_at(path, **more)
    for word in words:
        assert word in caught.value.detail
    assert content(path) == before
    assert not (path / "LOCK").exists()


# ---- what is read --------------------------------------------------------------------------------------------------


def test_every_golden_directory_is_covered() -> None:
    assert len(NAMES) == 23
    assert len(READ) == 18


@pytest.mark.parametrize("name", READ)
def test_a_golden_directory_reads_as_the_crate_reads_it_or_better_on_purpose(name: str) -> None:
    before = content(VECTORS / name)
    state = read(VECTORS / name / "data")
    assert facts(state) == facts(expected(name))
    assert content(VECTORS / name) == before


@pytest.mark.parametrize("name", sorted(path.stem for path in LOGS.glob("*.wal")))
def test_a_golden_log_reads_up_to_where_the_crate_cuts_it(tmp_path: Path, name: str) -> None:
    told_of = json.loads((LOGS / f"{name}.json").read_text())
    node_id = told_of["open_as_node"]
    shutil.copy(LOGS / f"{name}.wal", tmp_path / f"node_{node_id}.wal")
    if not told_of["crate_2.1.0"]["crate_open"]["ok"] and told_of["file_len"] > 17:
        refuses(tmp_path, WaveKVError, f"node_{node_id}.wal")
        return
    held: dict[str, tuple[int, int, int]] = {}
    for record in told_of["entries"]:
        op = record["op"]
        if op["op"] == "set":
            held[op["entry"]["key"]] = (op["entry"]["ts"], op["entry"]["node"], op["entry"]["seq"])
        elif op["op"] == "clear":
            held.pop(op["key"], None)
    state = read(tmp_path)
    found = {key: entry.stamp for key, entry in state.entries.items()}
    if name.endswith("nonminimal-crc-raw"):
        assert found.items() > held.items()  # a checksum over the stored bytes is accepted (9.1)
    else:
        assert found == held
        assert state.cut_bytes == told_of["file_len"] - told_of.get("valid_end", 0)
    damaged = told_of.get("tail") in ("bad checksum", "undecodable") and state.cut_bytes > 0
    assert (state.damage is not None) == damaged
    assert list(recovered(tmp_path)[1].entries) == list(state.entries)


def test_a_log_cut_anywhere_reads_as_the_records_before_the_cut(tmp_path: Path) -> None:
    ops = [Set(entry(f"{seq}", seq)) for seq in range(1, 6)]
    whole = (log(tmp_path, *ops) / "node_1.wal").read_bytes()
    record, header = len(encode_record(1, ops[0])), len(encode_header(NODE_ID, 0))
    for length in range(len(whole)):
        (tmp_path / "node_1.wal").write_bytes(whole[:length])
        state = read(tmp_path)
        complete = max(0, length - header) // record
        assert [held.seq for held in state.entries.values()] == list(range(1, complete + 1))
        used = header + complete * record if length >= header else 0
        assert (state.cut_bytes, state.damage) == (length - used, None)


@pytest.mark.parametrize("name", REFUSED)
def test_a_snapshot_of_another_kind_is_refused_untouched(tmp_path: Path, name: str) -> None:
    error, words = REFUSED[name]
    refuses(copy_of(name, tmp_path / "d"), error, "node_1.snapshot", words)


def test_a_log_that_ends_inside_its_header_holds_nothing(tmp_path: Path) -> None:
    for length in (0, 3, 17):
        path = tmp_path / str(length)
        path.mkdir()
        (path / "node_1.wal").write_bytes(encode_header(NODE_ID, 1_700_000_000_000)[:length])
        state = read(path)
        assert facts(state) == ([], {}, 1)
        assert (state.cut_bytes, state.damage) == (length, None)
        directory, store = recovered(path)
        assert (directory.identity.node_id, store.entries) == (NODE_ID, {})


def test_an_empty_directory_is_none_of_the_original_system(tmp_path: Path) -> None:
    assert find_crate_files(tmp_path) is None
    (tmp_path / "node_1.wal.tmp").write_bytes(b"")
    assert find_crate_files(tmp_path) is None


def test_the_base_and_the_damage_are_named(tmp_path: Path) -> None:
    found = {name: read(VECTORS / name / "data") for name in READ}
    bases = {name: state.base for name, state in found.items()}
    assert bases["v2-with-backup"] == "snapshot"
    assert bases["v2-only-backup"] == bases["v2-primary-broken-backup-used"] == "backup"
    assert bases["snapshot-truncated"] == bases["v1-wal-only"] == "nothing"
    assert [name for name, state in found.items() if state.damage] == [
        "snapshot-truncated",
        "v2-primary-broken-backup-used",
    ]
    torn = found["v2-snapshot-and-torn-wal"]
    assert (torn.damage, torn.cut_bytes > 0) == (None, True)


def test_a_bad_record_ends_the_log_and_is_damage_because_nothing_tells_what_lay_behind(tmp_path: Path) -> None:
    ops = [Set(entry("a", 1)), Set(entry("b", 2)), Set(entry("c", 3))]
    path = log(tmp_path / "d", *ops)
    file = path / "node_1.wal"
    data = bytearray(file.read_bytes())
    second = len(data) - 2 * len(encode_record(2, ops[1]))
    data[second + 8] ^= 1
    file.write_bytes(data)
    state = read(path)
    assert list(state.entries) == ["a"]
    assert state.cut_bytes == len(data) - second
    assert state.damage is not None
    assert f"crc_mismatch in {file} at {second}" in state.damage


def test_no_acknowledgement_of_the_log_counts_over_an_older_snapshot(tmp_path: Path) -> None:
    path = copy_of("v2-primary-broken-backup-used", tmp_path / "d")
    log(path, UpdateLocalAck(9, 500), Set(entry("x", 8, origin=9)))
    assert facts(read(path))[1] == {1: 1}
    (path / "node_1.snapshot").unlink()
    (path / "node_1.snapshot.bak").unlink()
    assert facts(read(path))[1] == {9: 500}


def test_the_next_sequence_lies_above_every_own_one_ever_seen_and_is_never_too_great_to_write(tmp_path: Path) -> None:
    gone = log(tmp_path / "gone", Set(entry("a", 7)), Clear("a"))
    assert facts(read(gone)) == ([], {1: 7}, 8)
    assert read(gone).floor == entry("a", 7).timestamp
    pinned = log(tmp_path / "pinned", Set(entry("a", U64_MAX)._replace(timestamp=5)))
    assert read(pinned).next_seq == U64_MAX
    assert list(recovered(pinned)[1].entries) == ["a"]


def test_an_operation_that_the_original_system_lacks_is_a_newer_versions(tmp_path: Path) -> None:
    refuses(log(tmp_path / "a", SetExpiring(entry("a", 1)._replace(expires_at=5))), NewerVersion, "SetExpiring")
    body = b"\1\x63\xfc" + crc32(b"\x63").to_bytes(4, "little")  # operation 99 and its checksum
    path = log(tmp_path / "b", Set(entry("a", 1)), tail=len(body).to_bytes(4, "little") + body)
    refuses(path, NewerVersion, "node_1.wal", "an operation this version does not know")


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_another_node_id_than_the_files_is_refused_naming_both(tmp_path: Path) -> None:
    path = copy_of("v2-snapshot-and-wal", tmp_path / "d")
    refuses(path, ForeignDirectory, "node 1", "node 2", node_id=2)
    assert open_at(path, node_id=1).identity.node_id == 1


def test_files_of_two_nodes_are_refused(tmp_path: Path) -> None:
    path = copy_of("v2-snapshot-and-wal", tmp_path / "d")
    (path / "node_23.snapshot.bak").write_bytes(b"")
    refuses(path, ForeignDirectory, "nodes 1 and 23", "node_23.snapshot.bak")


@pytest.mark.parametrize("name", ["photo.jpg", "00000001.wal", "CONVERTING", "node_01.wal", "crate"])
def test_foreign_files_beside_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = copy_of("v1-wal-only", tmp_path / "d")
    if name == "CONVERTING":
        (path / "photo.jpg").write_bytes(b"x")
    (path / name).write_bytes(b"x")
    refuses(path, ForeignDirectory, "photo.jpg" if name == "CONVERTING" else name, "node_1.wal")


def test_a_node_id_that_no_member_can_have_is_refused(tmp_path: Path) -> None:
    for node_id in (0, 2**32):
        path = log(tmp_path / str(node_id))
        (path / "node_1.wal").rename(path / f"node_{node_id}.wal")
        refuses(path, ForeignDirectory, f"not {node_id}")


def test_a_log_under_another_nodes_name_is_refused(tmp_path: Path) -> None:
    path = log(tmp_path / "d", node_id=2)
    (path / "node_2.wal").rename(path / "node_3.wal")
    refuses(path, ForeignDirectory, "node_3.wal is of node 2, not of node 3")


# ---- how it becomes ours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READ)
def test_a_converted_directory_recovers_to_the_same_state(tmp_path: Path, name: str) -> None:
    path = copy_of(name, tmp_path / "d")
    before, want = content(path), expected(name)
    directory, store = recovered(path, cluster_id="c")
    identity = directory.identity
    assert (identity.node_id, identity.cluster_id, identity.boot_count) == (NODE_ID, "c", 1)
    assert (identity.uuid.int, identity.created_at, directory.is_new) == (3, 5, False)
    assert store.entries == want.entries
    assert (store.process, store.next_seq) == (Process(1, NODE_ID, False), want.next_seq)
    assert all(store.context.covers_range(origin, 1, ack) for origin, ack in want.acks.items())
    assert {origin for origin, ack in store.context.acks.items() if ack} <= {
        *want.acks,
        *(held.origin for held in want.entries.values()),
    }
    kept = content(path / "crate")
    del kept["CONVERTED"]
    assert kept == before
    assert {file.name for file in path.iterdir()} == {"IDENTITY", "LOCK", "00000001.wal", "crate"}


def test_what_was_converted_is_told_once_and_the_next_start_is_an_ordinary_one(tmp_path: Path) -> None:
    path = copy_of("v2-primary-broken-backup-used", tmp_path / "d")
    first, store = recovered(path)
    told_of = first.converted
    assert told_of is not None
    assert (told_of.node_id, told_of.base, told_of.records, told_of.entries) == (1, "backup", 1, 2)
    assert told_of.files == ("node_1.snapshot", "node_1.snapshot.bak", "node_1.wal")
    assert told_of.damage is not None
    assert first.lost_something
    assert "node_1.snapshot is damaged" in told_of.damage
    second, again = recovered(path)
    assert (second.converted, second.identity.boot_count, second.first_process) == (None, 2, False)
    assert not second.lost_something
    assert again.entries == store.entries


def test_collected_keys_leave_a_floor_and_acknowledgements_follow_what_they_cover(tmp_path: Path) -> None:
    ops: list[Op] = [Set(entry("a", 7)), Clear("a"), Set(entry("b", 2, origin=9)), UpdateLocalAck(9, 4)]
    path = log(tmp_path / "d", *ops)
    with_identity = open_at(path)
    loader, _ = recover(with_identity, Operations, HASTY)
    with_identity.close()
    plain = [op for op in loader.ops if not isinstance(op, SetNextSeq)]
    assert plain == [
        Process(1, 1, False),
        Set(entry("b", 2, origin=9)),
        UpdateLocalAck(1, 7),
        UpdateLocalAck(9, 4),
        Floor(entry("a", 7).timestamp),
    ]


def test_a_large_state_fills_several_segments_and_groups(tmp_path: Path) -> None:
    ops = [Set(entry(f"{seq:05}", seq)) for seq in range(1, 10_001)]
    path = log(tmp_path / "d", *ops)
    _, store = recovered(path, segment_bytes_max=100_000)
    assert sorted(file.name for file in path.glob("*.wal")) == ["00000001.wal", "00000002.wal", "00000003.wal"]
    assert list(store.entries.values()) == [op.entry for op in ops]
    assert (store.next_seq, store.context.acks) == (10_001, {1: 10_000})


def test_a_directory_in_use_is_not_converted(tmp_path: Path) -> None:
    import fcntl  # noqa: PLC0415
    import os  # noqa: PLC0415

    path = copy_of("v2-wal-only", tmp_path / "d")
    lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    before = content(path)
    with pytest.raises(DirectoryInUse):
        open_at(path)
    assert content(path) == before
    os.close(lock)


def _calls(made: Path, tmp_path: Path, **more: Any) -> tuple[list[str], dict[str, bytes], dict[str, Entry]]:
    """Convert a copy without a fault; return the calls, the files, and the entries it ends with."""
    through = shutil.copytree(made, tmp_path / "through")
    disk = FaultDisk()
    open_at(through, disk=disk, **more).close()
    files = content(through)
    return disk.calls, files, recovered(through)[1].entries


def _ignoring_the_count(files: dict[str, bytes]) -> dict[str, Any]:
    identity = json.loads(files["IDENTITY"])
    del identity["boot_count"]
    return {**files, "IDENTITY": identity}


@pytest.mark.parametrize("name", ["v2-with-backup", "v1-snapshot-and-wal", "v2-stale-temporaries"])
def test_a_power_cut_at_any_call_is_made_good_by_the_next_start(tmp_path: Path, name: str) -> None:
    made = copy_of(name, tmp_path / "made")
    settings = {"segment_bytes_max": 30}
    calls, end, entries = _calls(made, tmp_path, **settings)
    assert sum(call.startswith("open 0000000") for call in calls) > 1
    for index, call in enumerate(calls):
        path = shutil.copytree(made, tmp_path / str(index))
        with pytest.raises(PowerCut):
            open_at(path, disk=FaultDisk(stop_at(index)), **settings)
        both = {**content(path), **content(path / "crate")} if (path / "crate").exists() else content(path)
        assert {file: both[file] for file in content(made)} == content(made), call
        directory = open_at(path, **settings)
        directory.close()
        counted = calls[:index].count("rename IDENTITY.tmp IDENTITY") == 2
        assert (directory.converted is None) == counted, call
        assert _ignoring_the_count(content(path)) == _ignoring_the_count(end), call
        assert recovered(path)[1].entries == entries, call


@pytest.mark.parametrize(("code", "error"), [(FULL, DiskFull), (BROKEN, DiskFailed)])
def test_a_disk_that_fails_at_any_call_is_named_and_the_next_start_goes_on(
    tmp_path: Path, code: int, error: type[WaveKVError]
) -> None:
    made = copy_of("v2-with-backup", tmp_path / "made")
    calls, end, _ = _calls(made, tmp_path)
    for index, call in enumerate(calls):
        path = shutil.copytree(made, tmp_path / str(index))

        def before(_: str, seen: int, at: int = index) -> None:
            if seen == at:
                raise OSError(code, "no")

        with pytest.raises(error):
            open_at(path, disk=FaultDisk(before))
        open_at(path).close()
        assert _ignoring_the_count(content(path)) == _ignoring_the_count(end), call


def test_files_that_changed_before_the_identity_was_written_are_read_again(tmp_path: Path) -> None:
    path = copy_of("v2-wal-only", tmp_path / "d")
    with pytest.raises(DiskFull):
        open_at(path, disk=FaultDisk(fail_on("open IDENTITY", FULL)), segment_bytes_max=30)
    assert (path / "00000002.wal").exists()
    log(path, Set(entry("later", 1)))
    assert list(recovered(path)[1].entries) == ["later"]
    assert not (path / "00000002.wal").exists()


def test_a_damaged_marker_is_refused(tmp_path: Path) -> None:
    path = copy_of("v2-wal-only", tmp_path / "d")
    with pytest.raises(DiskFull):
        open_at(path, disk=FaultDisk(fail_on("mkdir crate", FULL)))
    for damage in (b"", b"{}", b"[]", b'{"files": ["../x"]}', b'{"files": 5}'):
        (path / "CONVERTING").write_bytes(damage)
        with pytest.raises(Corruption, match="CONVERTING is damaged"):
            open_at(path)
