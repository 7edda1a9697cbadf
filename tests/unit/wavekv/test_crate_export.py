"""A member's state as a directory of the original system: what is in it, and that it is there whole or not at all."""

import fcntl
import os
import uuid
from pathlib import Path

import pytest

from tests.fakes.crate_dirs import NODE_ID, VECTORS, content, copy_of
from tests.fakes.disk import BROKEN, FULL, FaultDisk, PowerCut, fail_on, stop_at
from tests.fakes.log import HASTY, append_all
from tests.fakes.log import NODE_ID as LOG_NODE_ID
from wavekv.__main__ import run
from wavekv.core.codec.crate_snapshot import decode_crate_snapshot
from wavekv.core.ops import Batch, Clear, Cover, Op, Process, Set, SetExpiring, UpdateLocalAck
from wavekv.core.packed import pack
from wavekv.core.standing import Standing
from wavekv.core.types import U64_MAX, Entry
from wavekv.disk import OS_DISK
from wavekv.errors import DirectoryUnusable
from wavekv.wal.contents import read_directory
from wavekv.wal.crate import CrateState, find_crate_files, read_crate
from wavekv.wal.crate_export import crate_files, write_crate_directory
from wavekv.wal.directory import open_directory
from wavekv.wal.segment import Reader, read_header

NAMES = sorted(
    path.name
    for path in VECTORS.iterdir()
    if path.is_dir() and not path.name.startswith(("snapshot-wrong", "nothing", "zero-byte"))
)
NOW_MS = 1_700_000_000_000
Captured = pytest.CaptureFixture[str]


def opened(path: Path) -> Path:
    """Have a process open the directory once and stop."""
    new_uuid = lambda: uuid.UUID(int=3)  # noqa: E731
    open_directory(
        path, node_id=None, cluster_id=None, now_ms=5, new_node_id=lambda: 77, new_uuid=new_uuid, disk=HASTY
    ).close()
    return path


def read(path: Path) -> CrateState:
    files = find_crate_files(path)
    assert files is not None
    return read_crate(files)


def entry(key: str, seq: int, *, origin: int = LOG_NODE_ID, expires_at: int | None = None) -> Entry:
    return Entry(key, b"v", NOW_MS + seq, origin, seq, expires_at)


def standing(*ops: Op) -> Standing:
    found = Standing()
    for op in ops:
        found.apply(op)
    return found


def export(data_dir: Path, out: Path, *more: str) -> int:
    return run(["export", "--format", "crate", "--data-dir", str(data_dir), str(out), *more])


# ---- what is in it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_was_taken_over_is_given_back(tmp_path: Path, name: str) -> None:
    before = read(VECTORS / name / "data")
    path = opened(copy_of(name, tmp_path / "d"))
    ours = content(path)
    assert export(path, tmp_path / "out") == 0
    after = read(tmp_path / "out")
    assert after.entries == before.entries
    assert list(after.entries) == sorted(before.entries)
    assert after.next_seq == before.next_seq
    # What is held is acknowledged as well where nothing is missing below it: our context knows each write.
    assert all(after.acks.get(origin, 0) >= ack for origin, ack in before.acks.items())
    assert (after.damage, after.cut_bytes, after.base) == (None, 0, "snapshot")
    assert content(path) == ours


def test_the_log_holds_only_what_both_versions_know_and_names_no_member() -> None:
    told = standing(UpdateLocalAck(9, 4), UpdateLocalAck(LOG_NODE_ID, 6), Cover(5, 3, 4))
    copy = crate_files({"a": pack(entry("a", 6))}, told, LOG_NODE_ID, now_ms=NOW_MS)
    header = read_header(copy.log, "x")
    assert header is not None
    assert (header.node_id, header.created_at_ms) == (LOG_NODE_ID, NOW_MS)
    reader = Reader(copy.log, header)
    found = [describe.record.op for describe in reader]
    assert [type(op).__name__ for op in found] == ["SetNextSeq", "UpdateLocalAck", "UpdateLocalAck"]
    assert found[1:] == [UpdateLocalAck(LOG_NODE_ID, 6), UpdateLocalAck(9, 4)]
    assert (reader.valid_end, reader.damage) == (len(copy.log), None)
    snapshot = decode_crate_snapshot(b"".join(copy.snapshot), "x")
    assert list(snapshot.peers) == [LOG_NODE_ID]


def test_the_members_named_are_the_ones_it_exchanges_with() -> None:
    told = standing(UpdateLocalAck(9, 4))
    copy = crate_files({}, told, 7, now_ms=NOW_MS, members=(9, 8, 9))
    assert decode_crate_snapshot(b"".join(copy.snapshot), "x").peers == {7: (0, 0), 8: (0, 0), 9: (4, 0)}


def test_an_expiry_is_dropped_while_alive_and_the_entry_once_expired() -> None:
    entries = [
        entry("alive", 1, expires_at=NOW_MS + 1),
        entry("expired", 2, expires_at=NOW_MS),
        entry("plain", 3),
        entry("gone", 4)._replace(value=None),
    ]
    packed = {held.key: pack(held) for held in entries}
    copy = crate_files(packed, Standing(), 7, now_ms=NOW_MS)
    assert (copy.entries, copy.made_plain, copy.left_out) == (3, 1, 1)
    found = decode_crate_snapshot(b"".join(copy.snapshot), "x").entries
    assert found == {held.key: held._replace(expires_at=None) for held in entries if held.key != "expired"}


@pytest.mark.parametrize(
    ("ops", "next_seq"),
    [
        ((), 1),
        ((UpdateLocalAck(7, 4),), 5),
        ((UpdateLocalAck(7, 4), Cover(7, 9, 12)), 13),
        ((UpdateLocalAck(7, U64_MAX),), U64_MAX),
        ((Process(2, 5, False), UpdateLocalAck(5, 80)), 1),
    ],
    ids=repr,
)
def test_the_node_goes_on_above_every_sequence_of_its_own(ops: tuple[Op, ...], next_seq: int) -> None:
    copy = crate_files({}, standing(*ops), 7, now_ms=NOW_MS)
    assert decode_crate_snapshot(b"".join(copy.snapshot), "x").next_seq == next_seq


def test_the_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    packed = {f"{number:04}": pack(entry(f"{number:04}", number)) for number in range(1, 2501)}
    copy = crate_files(packed, Standing(), 7, now_ms=NOW_MS, progress=lambda done, total: seen.append((done, total)))
    assert len(decode_crate_snapshot(b"".join(copy.snapshot), "x").entries) == 2500
    assert seen == [(1000, 2500), (2000, 2500)]


# ---- reading the directory of a stopped member ---------------------------------------------------------------------


def test_a_directory_reads_as_its_log_says(tmp_path: Path) -> None:
    batch = Batch((Set(entry("c", 3)), Clear("a"), SetExpiring(entry("d", 4, expires_at=9))))
    append_all(tmp_path, [[Process(1, LOG_NODE_ID, False)], [Set(entry("a", 1)), Set(entry("b", 2))], [batch]])
    contents = read_directory(tmp_path)
    held = [entry("b", 2), entry("c", 3), entry("d", 4, expires_at=9)]
    assert contents.packed == {found.key: pack(found) for found in held}
    assert (contents.standing.next_seq, contents.standing.context.acks) == (5, {LOG_NODE_ID: 4})


def test_a_damaged_log_is_not_exported(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "d"
    append_all(path, [[Set(entry(f"{seq}", seq))] for seq in range(1, 12)])
    file = path / "00000001.wal"
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    assert export(path, tmp_path / "out") == 4
    assert "start the member beside its peers so that it heals" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- the command ---------------------------------------------------------------------------------------------------


def test_what_has_no_counterpart_is_counted(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "d"
    alive, expired = entry("a", 1, expires_at=2**62), entry("b", 2, expires_at=5)
    append_all(path, [[SetExpiring(alive), SetExpiring(expired), Set(entry("c", 3))]])
    assert export(path, tmp_path / "out", "--crate-member", "9") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"2 entries of node {LOG_NODE_ID} written to {tmp_path / 'out'}",
        "warning: 1 entries lost their expiry: over there they stay for ever",
        "warning: 1 entries that have expired were left out",
    ]


def test_a_running_member_is_refused_and_told_another_way(tmp_path: Path, capsys: Captured) -> None:
    path = opened(copy_of("v2-wal-only", tmp_path / "d"))
    lock = os.open(path / "LOCK", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert export(path, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "is in use by process" in err
    assert "admin plane" in err
    os.close(lock)
    assert not (tmp_path / "out").exists()


def test_a_target_that_holds_something_is_refused_untouched(tmp_path: Path, capsys: Captured) -> None:
    path = opened(copy_of("v2-wal-only", tmp_path / "d"))
    out = tmp_path / "out"
    out.mkdir()
    assert export(path, out) == 0
    before = content(out)
    assert export(path, out) == 1
    assert "is not empty" in capsys.readouterr().err
    assert export(path, out / "node_1.wal") == 1
    assert content(out) == before


@pytest.mark.parametrize(
    ("made", "says"), [("v2-wal-only", "the original system's own files"), ("nothing", "no IDENTITY"), (None, "no dir")]
)
def test_what_is_no_members_directory_is_refused_untouched(
    tmp_path: Path, made: str | None, says: str, capsys: Captured
) -> None:
    path = tmp_path / "d"
    if made is not None:
        copy_of(made, path)
    assert export(path, tmp_path / "out") == 1
    assert says in capsys.readouterr().err
    assert not (path / "LOCK").exists()


def test_an_unfinished_conversion_is_refused(tmp_path: Path, capsys: Captured) -> None:
    path = opened(copy_of("v2-wal-only", tmp_path / "d"))
    (path / "crate" / "CONVERTED").rename(path / "CONVERTING")
    assert export(path, tmp_path / "out") == 1
    assert "start the member once" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format", "crate"],
        ["--format", "crate", "out"],
        ["--format", "crate", "--data-dir", "d"],
        ["--format", "crate", "--data-dir", "d", "--prefix", "a", "out"],
        ["--data-dir", "d", "out"],
        ["--crate-member", "2", "out"],
        ["--format", "crate", "--data-dir", "d", "--crate-member", "0", "out"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments: list[str]) -> None:
    assert run(["export", *arguments]) == 2


# ---- all or nothing ------------------------------------------------------------------------------------------------


def test_the_files_are_synced_before_they_have_their_names_and_the_snapshot_comes_first(tmp_path: Path) -> None:
    disk = FaultDisk()
    write_crate_directory(tmp_path / "out", crate_files({}, Standing(), NODE_ID, now_ms=0), disk)
    assert [call.split()[0] for call in disk.calls] == [
        *("mkdir", "sync_dir"),
        *("unlink", "open", "write", "sync"),
        *("unlink", "open", "write", "sync"),
        *("rename", "sync_dir", "rename", "sync_dir"),
    ]
    assert disk.calls[10] == "rename node_1.snapshot.tmp node_1.snapshot"


@pytest.mark.parametrize("code", [FULL, BROKEN])
def test_a_disk_that_fails_at_any_call_leaves_nothing(tmp_path: Path, code: int) -> None:
    for index, call in enumerate(("open", "write", "sync", "rename", "sync_dir out")):
        out = tmp_path / str(index) / "out"
        out.mkdir(parents=True)
        with pytest.raises(OSError, match=os.strerror(code)):
            write_crate_directory(out, crate_files({}, Standing(), NODE_ID, now_ms=0), FaultDisk(fail_on(call, code)))
        assert list(out.iterdir()) == []


def test_a_power_cut_leaves_what_the_original_system_reads_as_nothing_or_as_all_entries(tmp_path: Path) -> None:
    held = entry("a", 3, origin=NODE_ID)
    whole = FaultDisk()
    told = standing(UpdateLocalAck(NODE_ID, 3))
    write_crate_directory(tmp_path / "out", crate_files({"a": pack(held)}, told, NODE_ID, now_ms=0), whole)
    for index, call in enumerate(whole.calls):
        out = tmp_path / str(index)
        with pytest.raises(PowerCut):
            write_crate_directory(
                out, crate_files({"a": pack(held)}, told, NODE_ID, now_ms=0), FaultDisk(stop_at(index))
            )
        files = find_crate_files(out) if out.exists() else None
        if files is not None:
            state = read_crate(files)
            assert (state.entries, state.acks, state.next_seq) == ({"a": held}, {NODE_ID: 3}, 4), call


def test_writing_into_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(DirectoryUnusable):
        write_crate_directory(tmp_path, crate_files({}, Standing(), NODE_ID, now_ms=0), OS_DISK)
