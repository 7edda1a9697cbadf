"""Appending: one group, one write, one sync; full and failed disks told apart."""

import errno
import random
from pathlib import Path

import pytest

from tests.fakes.disk import BROKEN, FULL, FaultDisk, StillClock, SyncRecorder, fail_on
from tests.fakes.log import NODE_ID, TIGHT, Operations, append_all, entry, opened, recovered, segments
from tests.fakes.paged_disk import PagedDisk
from wavekv.config import WalSettings
from wavekv.core.codec.records import decode_header
from wavekv.core.ops import Clear, Op, Set, SetNextSeq
from wavekv.errors import DiskFailed, DiskFull, OutOfDescriptors
from wavekv.ports import Log, LogSize
from wavekv.wal.directory import DataDirectory
from wavekv.wal.log import SegmentedLog
from wavekv.wal.recovery import recover
from wavekv.wal.reserve import RESERVE, RESERVE_BYTES, set_aside

ROOMY = WalSettings(segment_bytes_max=1 << 16, preallocate_bytes=4096)


def open_log(directory: DataDirectory, disk: FaultDisk, settings: WalSettings = ROOMY) -> SegmentedLog:
    return SegmentedLog(directory, recover(directory, Operations)[1], settings, StillClock(), SyncRecorder(), disk=disk)


def test_the_log_is_the_port() -> None:
    port: type[Log] = SegmentedLog
    assert port is SegmentedLog


def test_groups_come_back_in_order_each_behind_its_marker(tmp_path: Path) -> None:
    groups: list[list[Op]] = [[Set(entry(1)), Clear("a")], [], [Set(entry(2))]]
    observer = append_all(tmp_path, groups)
    found, ops = recovered(tmp_path)
    assert ops == [SetNextSeq(1), Set(entry(1)), Clear("a"), SetNextSeq(2), SetNextSeq(3), Set(entry(2))]
    assert (found.groups, found.records, found.next_sequence, found.damage) == (3, 6, 7, None)
    assert [count for count, _ in observer.groups] == [2, 0, 1]


def test_a_warm_append_is_one_write_and_one_sync(tmp_path: Path) -> None:
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        log.append([Set(entry(1))], 2)
        disk.calls.clear()
        log.append([Set(entry(2)), Set(entry(3))], 4)
        assert [call.split()[0] for call in disk.calls] == ["write", "sync"]


def test_a_segment_is_durable_under_its_name_before_a_group_is_written(tmp_path: Path) -> None:
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        open_log(directory, disk).append([], 1)
    assert [call.split()[0] for call in disk.calls] == [
        *("unlink", "open", "write", "sync", "rename", "sync_dir"),
        *("zeros", "sync"),
        *("write", "sync"),
    ]
    header = decode_header((tmp_path / "00000001.wal").read_bytes())
    assert (header.node_id, header.created_at_ms) == (NODE_ID, StillClock().now_ms())


def test_preallocated_room_is_written_zeros_and_cut_on_close(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        log = open_log(directory, FaultDisk())
        log.append([], 1)
        file = tmp_path / "00000001.wal"
        size = log.size()
        assert file.stat().st_size == size.allocated_bytes == 19 + 4096
        assert file.stat().st_blocks * 512 >= 4096
        log.close()
        assert file.stat().st_size == size.used_bytes
        with pytest.raises(DiskFailed, match="closed"):
            log.append([], 2)


def test_a_segment_never_exceeds_its_size_and_the_next_one_takes_over(tmp_path: Path) -> None:
    groups = [[Set(entry(seq))] for seq in range(1, 40)]
    append_all(tmp_path, groups)
    sizes = [(tmp_path / name).stat().st_size for name in segments(tmp_path)]
    assert len(sizes) > 3
    assert max(sizes) <= TIGHT.segment_bytes_max
    found, ops = recovered(tmp_path)
    assert [op for op in ops if isinstance(op, Set)] == [group[0] for group in groups]
    assert found.closed_segments == len(sizes) - 1
    assert found.closed_bytes == sum(sizes[:-1])


def test_a_group_fills_a_segment_to_the_last_byte_and_one_more_byte_begins_the_next(tmp_path: Path) -> None:
    used = append_all(tmp_path / "measure", [[], [Clear("a")]]).groups
    full = 19 + used[0][1] + used[1][1]
    append_all(tmp_path / "fits", [[], [Clear("a")]], WalSettings(full, 64))
    append_all(tmp_path / "over", [[], [Clear("ab")]], WalSettings(full, 64))
    assert segments(tmp_path / "fits") == ["00000001.wal"]
    assert segments(tmp_path / "over") == ["00000001.wal", "00000002.wal"]


def test_a_group_larger_than_a_segment_gets_one_of_its_own_unsplit(tmp_path: Path) -> None:
    large = Set(entry(1, b"v" * 1000))
    append_all(tmp_path, [[large], [Clear("a")]])
    assert segments(tmp_path) == ["00000001.wal", "00000002.wal"]
    assert recovered(tmp_path)[1] == [SetNextSeq(1), large, SetNextSeq(2), Clear("a")]


def test_appending_goes_on_behind_what_was_recovered(tmp_path: Path) -> None:
    append_all(tmp_path, [[Clear("a")]])
    append_all(tmp_path, [[Clear("b")]], close=False)
    append_all(tmp_path, [[Clear("c")]])
    found, ops = recovered(tmp_path)
    assert [op.key for op in ops if isinstance(op, Clear)] == ["a", "b", "c"]
    assert (found.gaps, found.duplicates, found.disorder, found.next_sequence) == (0, 0, 0, 7)
    assert segments(tmp_path) == ["00000001.wal"]


def test_the_size_counts_closed_segments_and_the_live_one(tmp_path: Path) -> None:
    with opened(tmp_path) as directory:
        log = open_log(directory, FaultDisk(), TIGHT)
        assert log.size() == LogSize(0, 0, 0, 0)
        for seq in range(1, 20):
            log.append([Set(entry(seq))], seq)
        size = log.size()
        assert size.segments == len(segments(tmp_path)) > 1
        assert size.allocated_bytes == sum((tmp_path / name).stat().st_size for name in segments(tmp_path))
        assert size.last_sequence == 38
        log.close()
        assert size.used_bytes == sum((tmp_path / name).stat().st_size for name in segments(tmp_path))


@pytest.mark.parametrize("call", ["open", "write 19", "sync", "rename", "sync_dir", "zeros"])
def test_a_full_disk_while_making_room_refuses_the_group_and_later_ones_go_on(tmp_path: Path, call: str) -> None:
    disk = FaultDisk(fail_on(call, FULL))
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        with pytest.raises(DiskFull):
            log.append([Clear("refused")], 1)
        log.append([Clear("kept")], 2)
        log.close()
    found, ops = recovered(tmp_path)
    assert ops == [SetNextSeq(2), Clear("kept")]
    assert (found.damage, found.gaps) == (None, 0)


def test_a_live_segment_whose_successor_may_have_its_name_is_not_appended_to(tmp_path: Path) -> None:
    """As long as both are there a torn tail of the first would pass for corruption, which quarantines it."""
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        log.append([Clear("first")], 1)
        disk.before = fail_on("sync_dir", FULL)
        with pytest.raises(DiskFailed):
            log.close_segment()
        with pytest.raises(DiskFailed):
            log.append([Clear("later")], 2)
        log.close()
    found, ops = recovered(tmp_path)
    assert ops == [SetNextSeq(1), Clear("first")]
    assert found.damage is None


def test_the_reserve_survives_a_power_loss(tmp_path: Path) -> None:
    disk = PagedDisk(tmp_path, random.Random(1))
    assert set_aside(tmp_path, disk)
    disk.power_loss(lambda _count: 0)
    assert (tmp_path / RESERVE).stat().st_size == RESERVE_BYTES


def test_a_disk_that_fills_up_at_any_call_never_spoils_the_log(tmp_path: Path) -> None:
    groups = [[Set(entry(seq))] for seq in range(1, 12)]
    disk = FaultDisk()
    with opened(tmp_path / "all") as directory:
        log = open_log(directory, disk, TIGHT)
        for seq, group in enumerate(groups, start=1):
            log.append(group, seq)
    for index in range(len(disk.calls)):
        path = tmp_path / str(index)
        kept: list[Op] = []

        def before(call: str, seen: int, index: int = index) -> None:
            if seen == index:
                fail_on(call, FULL)(call, seen)

        with opened(path) as directory:
            log = open_log(directory, FaultDisk(before), TIGHT)
            try:
                for seq, group in enumerate(groups, start=1):
                    try:
                        log.append(group, seq)
                    except DiskFull:
                        log.append(group, seq)
                    kept += group
            except DiskFailed:
                pass  # a group's own sync, or the cut of a closed segment
        found, ops = recovered(path)
        stored = [op for op in ops if isinstance(op, Set)]
        assert stored[: len(kept)] == kept, disk.calls[index]
        assert found.damage is None


def test_a_lack_of_descriptors_at_any_open_refuses_the_group_and_the_log_goes_on(tmp_path: Path) -> None:
    groups = [[Set(entry(seq))] for seq in range(1, 12)]
    disk = FaultDisk()
    with opened(tmp_path / "all") as directory:
        log = open_log(directory, disk, TIGHT)
        for seq, group in enumerate(groups, start=1):
            log.append(group, seq)
    opens = [index for index, call in enumerate(disk.calls) if call.startswith("open ")]
    assert len(opens) == 2
    for index in opens:
        path = tmp_path / str(index)
        refused = 0

        def before(call: str, seen: int, index: int = index) -> None:
            if seen == index:
                fail_on(call, errno.EMFILE)(call, seen)

        with opened(path) as directory:
            log = open_log(directory, FaultDisk(before), TIGHT)
            for seq, group in enumerate(groups, start=1):
                try:
                    log.append(group, seq)
                except OutOfDescriptors:
                    refused += 1
                    log.append(group, seq)
        found, ops = recovered(path)
        assert [op for op in ops if isinstance(op, Set)] == [group[0] for group in groups]
        assert (found.damage, refused) == (None, 1)


def test_the_reserve_and_the_log_wait_for_a_descriptor(tmp_path: Path) -> None:
    disk = FaultDisk(fail_on("open RESERVE", errno.ENFILE))
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        with pytest.raises(OutOfDescriptors, match="set a reserve aside"):
            log.reserve()
        assert log.reserve()
        log.append([Clear("kept")], 1)


def test_with_little_room_left_the_log_takes_what_it_needs_and_no_more(tmp_path: Path) -> None:
    room = [2]

    def before(call: str, _seen: int) -> int | None:
        if call != "zeros":
            return None
        room[0] -= 1
        if room[0] < 0:
            fail_on("zeros", FULL)(call, 0)
        return 100

    with opened(tmp_path) as directory:
        log = open_log(directory, FaultDisk(before))
        log.append([Clear("fits")], 1)
        assert log.size().allocated_bytes == 19 + 200


@pytest.mark.parametrize("code", [BROKEN, FULL])
@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_group_that_may_or_may_not_be_on_disk_ends_the_log(tmp_path: Path, call: str, code: int) -> None:
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        log.append([Clear("first")], 1)
        disk.before = fail_on(call, code)
        with pytest.raises(DiskFailed):
            log.append([Clear("unknown")], 2)
        disk.calls.clear()
        with pytest.raises(DiskFailed):
            log.append([Clear("never")], 3)
        log.close()
        assert disk.calls == []


def test_a_write_that_takes_a_part_is_gone_on_with(tmp_path: Path) -> None:
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        log.append([Clear("first")], 1)
        disk.before = lambda call, _: 5 if call.startswith("write") else None
        log.append([Clear("second"), Clear("third")], 2)
    found, ops = recovered(tmp_path)
    assert ops == [SetNextSeq(1), Clear("first"), SetNextSeq(2), Clear("second"), Clear("third")]
    assert found.damage is None


def test_a_write_that_takes_nothing_ends_the_log_and_is_a_torn_tail_afterwards(tmp_path: Path) -> None:
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        log.append([Clear("first")], 1)
        takes = iter([30, 0])
        disk.before = lambda call, _: next(takes) if call.startswith("write") else None
        with pytest.raises(DiskFailed, match="took nothing"):
            log.append([Clear("unknown"), Clear("never")], 2)
    found, ops = recovered(tmp_path)
    assert ops == [SetNextSeq(1), Clear("first"), SetNextSeq(2)]
    assert found.damage == "torn_tail"


@pytest.mark.parametrize("call", ["open", "write 19", "sync", "rename", "sync_dir", "zeros"])
def test_a_broken_disk_while_making_room_ends_the_log(tmp_path: Path, call: str) -> None:
    with opened(tmp_path) as directory:
        log = open_log(directory, FaultDisk(fail_on(call, BROKEN)))
        for _ in range(2):
            with pytest.raises(DiskFailed):
                log.append([], 1)


@pytest.mark.parametrize("call", ["truncate", "sync"])
def test_a_failed_cut_on_close_is_told(tmp_path: Path, call: str) -> None:
    disk = FaultDisk()
    with opened(tmp_path) as directory:
        log = open_log(directory, disk)
        log.append([Clear("kept")], 1)
        disk.before = fail_on(call, BROKEN)
        with pytest.raises(DiskFailed):
            log.close()
        log.close()
    assert recovered(tmp_path)[1] == [SetNextSeq(1), Clear("kept")]
