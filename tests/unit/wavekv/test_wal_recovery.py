"""What survives: torn tails are cut, corruption goes to quarantine, refusals change nothing."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import pytest

from tests.fakes.disk import BROKEN, FULL, FaultDisk, PowerCut, fail_on, stop_at
from tests.fakes.log import NODE_ID, TIGHT, Operations, append_all, entry, opened, recovered, segments, settled
from wavekv.core.codec.records import encode_header
from wavekv.core.ops import Clear, Op, Set, SetNextSeq
from wavekv.errors import BadHeader, Corruption, DiskFailed, DiskFull, ForeignDirectory, NewerVersion, WaveKVError
from wavekv.wal import reading
from wavekv.wal.quarantine import EVENTS_KEPT_MAX
from wavekv.wal.recovery import TORN_FILES_KEPT_MAX, recover, settle
from wavekv.wal.segment import Reader, read_header

GROUPS: list[list[Op]] = [[Set(entry(seq))] for seq in range(1, 16)]


def files(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in ("IDENTITY", "LOCK")
    }


def three_segments(path: Path) -> list[Op]:
    """Fill at least three segments; return all operations."""
    append_all(path, GROUPS)
    assert len(segments(path)) >= 3
    return recovered(path)[1]


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)


def unknown_op() -> bytes:
    op = b"\x10of a later version"
    body = b"\x05" + op + b"\xfc" + crc32(op).to_bytes(4, "little")
    return len(body).to_bytes(4, "little") + body


def test_a_new_directory_has_an_empty_log(tmp_path: Path) -> None:
    found, ops = recovered(tmp_path)
    assert (found.records, found.next_sequence, found.damage, found.tail, ops) == (0, 1, None, None, [])


def test_a_log_left_by_a_crash_keeps_its_preallocated_room(tmp_path: Path) -> None:
    append_all(tmp_path, [[Clear("a")]], close=False)
    size = (tmp_path / "00000001.wal").stat().st_size
    found, _ = recovered(tmp_path)
    assert found.tail is not None
    assert found.tail.valid_end < found.tail.allocated == size
    assert (found.damage, found.cut_bytes) == (None, 0)


def test_what_was_replayed_is_written_again_and_synced_before_recovery_returns(tmp_path: Path) -> None:
    append_all(tmp_path, [[Clear("a")], [Clear("b")]])
    disk = FaultDisk()
    recovered(tmp_path, disk)
    assert [call.split()[0] for call in disk.calls] == ["open", "write", "sync", "sync_dir"]
    assert recovered(tmp_path)[1] == [SetNextSeq(1), Clear("a"), SetNextSeq(2), Clear("b")]


@pytest.mark.parametrize("call", ["open", "write", "sync", "sync_dir"])
def test_a_replayed_log_that_cannot_be_made_durable_is_not_served(tmp_path: Path, call: str) -> None:
    append_all(tmp_path, [[Clear("a")]])
    with pytest.raises(DiskFailed):
        recovered(tmp_path, FaultDisk(fail_on(call, BROKEN)))


def test_a_torn_tail_is_cut_and_kept_aside_without_its_zeros(tmp_path: Path) -> None:
    append_all(tmp_path, GROUPS[:2])
    file = tmp_path / "00000001.wal"
    whole = file.read_bytes()
    file.write_bytes(whole + b"\x40\x40\0\0half a record" + bytes(100))
    found, ops = recovered(tmp_path)
    assert (found.damage, found.cut_bytes, len(ops)) == ("torn_tail", 17, 4)
    assert found.cause == f"torn_tail in 00000001.wal at {len(whole)}"
    assert file.read_bytes() == whole
    assert (tmp_path / f"00000001.wal.torn-{len(whole)}").read_bytes() == b"\x40\x40\0\0half a record"
    assert recovered(tmp_path)[0].damage is None


def test_a_bounded_number_of_cut_tails_is_kept(tmp_path: Path) -> None:
    append_all(tmp_path, [[Clear("a")]])
    for number in range(TORN_FILES_KEPT_MAX + 3):
        append_all(tmp_path, [[Clear("x")]])
        with (tmp_path / segments(tmp_path)[-1]).open("ab") as file:
            file.write(b"\x40\0\0\0" + bytes([number + 1]))
        assert recovered(tmp_path)[0].damage == "torn_tail"
    kept = sorted(tmp_path.glob("*.torn-*"))
    assert len(kept) == TORN_FILES_KEPT_MAX
    assert {file.read_bytes()[-1] for file in kept} == set(range(4, TORN_FILES_KEPT_MAX + 4))


def test_a_full_disk_drops_the_copy_of_a_torn_tail_and_starts(tmp_path: Path) -> None:
    append_all(tmp_path, [[Clear("a")]])
    file = tmp_path / "00000001.wal"
    whole = file.read_bytes()
    file.write_bytes(whole + b"torn!")
    found, _ = recovered(tmp_path, FaultDisk(fail_on("write", FULL)))
    assert (found.damage, found.cut_bytes) == ("torn_tail", 5)
    assert files(tmp_path) == {"00000001.wal": whole}


@pytest.mark.parametrize("content", [b"", encode_header(NODE_ID, 0)[:9], bytes(5000)])
def test_a_last_segment_without_a_whole_header_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    ops = three_segments(tmp_path)
    unused = tmp_path / f"{len(segments(tmp_path)) + 1:08}.wal"
    unused.write_bytes(content)
    found, again = recovered(tmp_path)
    assert again == ops
    assert not unused.exists()
    assert (found.damage, found.cause) == ("blank_segment", f"{unused.name} has no header")
    append_all(tmp_path, GROUPS)
    assert unused.exists()
    assert recovered(tmp_path)[1][: len(ops)] == ops


def test_damage_with_a_group_behind_it_ends_the_log_there_and_nothing_is_lost_from_sight(tmp_path: Path) -> None:
    ops = three_segments(tmp_path)
    before = files(tmp_path)
    flip(tmp_path / "00000002.wal", 60)
    spoiled = files(tmp_path)["00000002.wal"]
    found, kept = recovered(tmp_path)
    assert found.damage == "corruption"
    assert found.cause is not None
    assert "00000002.wal" in found.cause
    assert kept == ops[: len(kept)]
    assert 0 < len(kept) < len(ops)
    later = [name for name in before if name > "00000002.wal"]
    assert [file.name for file in found.quarantined] == ["00000002.wal", *later]
    assert found.quarantined[0].read_bytes() == spoiled
    assert segments(tmp_path) == ["00000001.wal", "00000002.wal"]
    assert found.tail is not None
    assert (tmp_path / "00000002.wal").read_bytes() == spoiled[: found.tail.valid_end]
    settled(tmp_path)
    second, again = recovered(tmp_path)
    assert (again, second.damage) == (kept, None)
    append_all(tmp_path, [[Clear("after")]])
    assert recovered(tmp_path)[1] == [*kept, SetNextSeq(1), Clear("after")]


def test_damage_in_the_last_segment_is_corruption_only_with_a_group_behind_it(tmp_path: Path) -> None:
    append_all(tmp_path, GROUPS[:3])
    size = (tmp_path / "00000001.wal").stat().st_size
    shutil.copytree(tmp_path, tmp_path.with_name("tail"))
    flip(tmp_path / "00000001.wal", 50)
    assert recovered(tmp_path)[0].damage == "corruption"
    flip(tmp_path.with_name("tail") / "00000001.wal", size - 3)
    assert recovered(tmp_path.with_name("tail"))[0].damage == "torn_tail"


@pytest.mark.parametrize("rest", [b"\x40\0\0\0half", b"\0\0\0\0x", b"x"])
def test_an_incomplete_record_in_a_segment_that_is_not_the_last_is_corruption(tmp_path: Path, rest: bytes) -> None:
    three_segments(tmp_path)
    with (tmp_path / "00000001.wal").open("ab") as file:
        file.write(rest)
    found, _ = recovered(tmp_path)
    assert found.damage == "corruption"
    assert segments(tmp_path) == ["00000001.wal"]


def test_zeros_behind_a_segment_that_is_not_the_last_are_fine(tmp_path: Path) -> None:
    ops = three_segments(tmp_path)
    with (tmp_path / "00000001.wal").open("ab") as file:
        file.write(bytes(100))
    found, again = recovered(tmp_path)
    assert (again, found.damage) == (ops, None)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_segment_ends_the_log_before_it(tmp_path: Path, missing: int) -> None:
    ops = three_segments(tmp_path)
    count = len(segments(tmp_path))
    (tmp_path / f"{missing:08}.wal").unlink()
    found, kept = recovered(tmp_path)
    assert (found.damage, found.cause) == ("corruption", f"{missing:08}.wal is missing")
    assert kept == ops[: len(kept)]
    assert len(segments(tmp_path)) == missing - 1
    assert len(found.quarantined) == count - missing
    append_all(tmp_path, GROUPS)
    assert recovered(tmp_path)[0].damage is None


def test_a_segment_without_a_header_before_the_last_is_corruption(tmp_path: Path) -> None:
    three_segments(tmp_path)
    (tmp_path / "00000002.wal").write_bytes(b"")
    assert recovered(tmp_path)[0].damage == "corruption"
    assert segments(tmp_path) == ["00000001.wal"]


def newer_version_behind_corruption(path: Path) -> None:
    flip(path / "00000001.wal", 60)
    with (path / segments(path)[-1]).open("ab") as file:
        file.write(unknown_op())


def newer_version_in_the_damaged_file(path: Path) -> None:
    with (path / "00000001.wal").open("ab") as file:
        file.write(unknown_op())
    flip(path / "00000001.wal", 60)


def newer_format(path: Path) -> None:
    data = bytearray((path / "00000002.wal").read_bytes())
    data[8] = 2
    (path / "00000002.wal").write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: (path / "00000002.wal").write_bytes(encode_header(8, 0)), ForeignDirectory),
        (lambda path: (path / "00000002.wal").write_bytes(b"something else, and long enough"), BadHeader),
        (lambda path: (path / "00000002.wal").write_bytes(bytes(1 << 17) + b"x"), BadHeader),
        (newer_format, NewerVersion),
        (newer_version_behind_corruption, NewerVersion),
    ],
)
def test_a_refused_log_is_left_as_it_was(
    tmp_path: Path, spoil: Callable[[Path], object], error: type[WaveKVError]
) -> None:
    three_segments(tmp_path)
    spoil(tmp_path)
    with (tmp_path / segments(tmp_path)[-1]).open("ab") as file:
        file.write(b"a torn tail as well")
    before = files(tmp_path)
    with pytest.raises(error):
        recovered(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("spoil", ["flip", "missing", "headless"])
def test_a_quarantine_interrupted_at_any_call_ends_the_same(tmp_path: Path, spoil: str) -> None:
    made = tmp_path / "made"
    three_segments(made)
    second = made / "00000002.wal"
    if spoil == "flip":
        flip(second, 60)
    elif spoil == "missing":
        second.unlink()
    else:
        second.write_bytes(b"")
    shutil.copytree(made, tmp_path / "through")
    disk = FaultDisk()
    found, ops = recovered(tmp_path / "through", disk)
    end = files(tmp_path / "through")
    for index in range(len(disk.calls)):
        path = tmp_path / str(index)
        shutil.copytree(made, path)
        with pytest.raises(PowerCut):
            recovered(path, FaultDisk(stop_at(index)))
        again, replayed = recovered(path)
        assert replayed == ops, disk.calls[index]
        assert files(path) == end, disk.calls[index]
        assert (again.damage, again.cause) == (found.damage, found.cause), disk.calls[index]
        assert again.quarantined == tuple(path / file.relative_to(tmp_path / "through") for file in found.quarantined)


def test_a_loss_is_told_by_every_start_until_one_has_settled_it(tmp_path: Path) -> None:
    """What is kept of it, that the volume is not to be trusted, is kept after the recovery: a stop may come between."""
    three_segments(tmp_path)
    flip(tmp_path / "00000002.wal", 60)
    found, ops = recovered(tmp_path)
    assert found.cause
    for _ in range(2):
        again, replayed = recovered(tmp_path)
        assert (again.damage, again.cause, again.quarantined) == ("corruption", found.cause, found.quarantined)
        assert replayed == ops
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        settle(directory, disk)
    assert [call.split()[0] for call in disk.calls] == ["rename", "sync_dir"]
    assert recovered(tmp_path)[0].damage is None


def test_a_second_loss_before_the_first_is_settled_keeps_the_files_of_both(tmp_path: Path) -> None:
    three_segments(tmp_path)
    flip(tmp_path / "00000003.wal", 60)
    first = recovered(tmp_path)[0]
    flip(tmp_path / "00000002.wal", 60)
    second = recovered(tmp_path)[0]
    assert second.damage == "corruption"
    assert set(first.quarantined) < set(second.quarantined)
    assert all(file.exists() for file in second.quarantined)
    settled(tmp_path)
    assert recovered(tmp_path)[0].damage is None


@pytest.mark.parametrize("code", [FULL, BROKEN])
def test_a_quarantine_that_fails_at_any_call_is_carried_out_by_the_next_start(tmp_path: Path, code: int) -> None:
    made = tmp_path / "made"
    three_segments(made)
    flip(made / "00000002.wal", 60)
    shutil.copytree(made, tmp_path / "through")
    disk = FaultDisk()
    _, ops = recovered(tmp_path / "through", disk)
    for index in range(len(disk.calls)):
        path = tmp_path / str(index)
        shutil.copytree(made, path)

        def before(call: str, seen: int, index: int = index) -> None:
            if seen == index:
                fail_on(call, code)(call, seen)

        with pytest.raises((DiskFull, DiskFailed)):
            recovered(path, FaultDisk(before))
        assert recovered(path)[1] == ops, disk.calls[index]
        assert files(path) == files(tmp_path / "through")


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    three_segments(tmp_path)
    (tmp_path / "quarantine" / "0001").mkdir(parents=True)
    (tmp_path / "quarantine" / "0001" / "plan.json").write_bytes(b"{}")
    with pytest.raises(Corruption):
        recovered(tmp_path)


def test_a_bounded_number_of_quarantines_is_kept(tmp_path: Path) -> None:
    for _ in range(EVENTS_KEPT_MAX + 2):
        append_all(tmp_path, [[Clear("a")], [Clear("b")]])
        size = (tmp_path / "00000001.wal").stat().st_size
        flip(tmp_path / "00000001.wal", size - 30)
        assert recovered(tmp_path)[0].damage == "corruption"
    kept = sorted(folder.name for folder in (tmp_path / "quarantine").iterdir())
    assert kept == [f"{number:04}" for number in range(3, EVENTS_KEPT_MAX + 3)]


def test_a_sequence_no_log_reaches_is_not_carried_on(tmp_path: Path) -> None:
    append_all(tmp_path, [[]], TIGHT)
    file = tmp_path / "00000001.wal"
    data = file.read_bytes()
    body = b"\xfd" + b"\xff" * 8 + data[24:]
    file.write_bytes(data[:19] + len(body).to_bytes(4, "little") + body)
    found, ops = recovered(tmp_path)
    assert (ops, found.next_sequence) == ([SetNextSeq(1)], 1)


def test_leftovers_of_an_unfinished_segment_are_removed(tmp_path: Path) -> None:
    append_all(tmp_path, [[Clear("a")]])
    (tmp_path / "00000002.wal.tmp").write_bytes(b"half")
    recovered(tmp_path)
    assert segments(tmp_path) == ["00000001.wal"]
    assert not (tmp_path / "00000002.wal.tmp").exists()


def test_an_unreadable_segment_is_a_failed_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_all(tmp_path, [[Clear("a")]])

    def failing(path: Path) -> BinaryIO:
        raise OSError(errno.EIO, "the device failed", str(path))

    monkeypatch.setattr(reading, "open_file", failing)
    with opened(tmp_path) as directory, pytest.raises(DiskFailed):
        recover(directory, Operations)


def test_what_looks_like_a_newer_version_behind_damage_is_kept_aside_and_stops_no_start(tmp_path: Path) -> None:
    """It may be the bytes of a value: a client must not be able to keep a member from starting."""
    three_segments(tmp_path)
    newer_version_in_the_damaged_file(tmp_path)
    damaged = (tmp_path / "00000001.wal").read_bytes()
    recovery, _ = recovered(tmp_path)
    assert recovery.damage == "corruption"
    assert damaged in [path.read_bytes() for path in recovery.quarantined]


@pytest.mark.parametrize("lost", ["cut", "zeroed"])
def test_a_closed_segment_that_lost_its_end_on_a_record_s_border_is_corruption(tmp_path: Path, lost: str) -> None:
    everything = three_segments(tmp_path)
    path = tmp_path / "00000001.wal"
    data = path.read_bytes()
    header = read_header(data, path.name)
    assert header is not None
    starts = [found.offset for found in Reader(data, header) if isinstance(found.record.op, SetNextSeq)]
    kept = data[: starts[-1]]
    path.write_bytes(kept if lost == "cut" else kept + bytes(len(data) - len(kept)))
    recovery, ops = recovered(tmp_path)
    assert recovery.damage == "corruption"
    assert ops == everything[: len(ops)], "a prefix, and nothing from behind the hole"
    assert 0 < len(ops) < len(everything)
    assert recovered(tmp_path)[1] == ops


def test_zeros_left_behind_a_closed_segment_by_a_crash_are_no_damage(tmp_path: Path) -> None:
    everything = three_segments(tmp_path)
    with (tmp_path / "00000001.wal").open("ab") as file:
        file.write(bytes(64))
    recovery, ops = recovered(tmp_path)
    assert (recovery.damage, ops) == (None, everything)
