"""Room on a full disk: deletes have some, and leave what the next starts need."""

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest

from tests.fakes.disk import FULL, FaultDisk, PowerCut, fail_on
from tests.fakes.paged_disk import PagedDisk, any_of
from tests.fakes.paged_member import PagedMember
from wavekv.errors import DiskFull
from wavekv.wal.reserve import RESERVE, release, set_aside, start_with

WHOLE = 8192
KEPT = 1024


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with mock.patch.multiple("wavekv.wal.reserve", RESERVE_BYTES=WHOLE, START_BYTES=KEPT):
        yield


def paged(root: Path, seed: int = 1) -> PagedDisk:
    return PagedDisk(root, random.Random(seed), 512)


def started(disk: PagedDisk) -> PagedMember:
    return PagedMember(disk, random.Random(1))


def size(root: Path) -> int | None:
    path = root / RESERVE
    return path.stat().st_size if path.exists() else None


def delete_until_refused(member: PagedMember, keys: list[str]) -> list[str]:
    """Delete one key a group; return those whose delete was stored."""
    deleted = []
    for key in keys:
        member.replica.delete(key, 0)
        try:
            member.commit()
        except DiskFull:
            break
        deleted.append(key)
    return deleted


def test_deletes_that_take_all_of_the_reserve_leave_what_starts_need(tmp_path: Path) -> None:
    disk = paged(tmp_path)
    member = started(disk)
    keys = [f"k{index:03}" for index in range(400)]
    for key in keys:
        member.replica.put(key, b"v", 0)
        member.commit()
    disk.room = 0
    deleted = delete_until_refused(member, keys)
    assert 0 < len(deleted) < len(keys)
    assert size(tmp_path) == KEPT
    for end in (disk.kill, lambda: disk.power_loss(lambda _: 0), lambda: disk.power_loss(any_of(random.Random(2)))):
        member.directory.close()
        end()
        member = started(disk)
        assert size(tmp_path) == KEPT
        assert {key for key in keys if member.store.get(key, 0) is None} == set(deleted)
    disk.room = None
    assert member.find_room()
    assert size(tmp_path) == WHOLE
    member.stop()


@pytest.mark.parametrize("kept", [None, KEPT])
def test_no_part_of_a_reserve_has_its_name(tmp_path: Path, kept: int | None) -> None:
    """Whichever call a power loss comes in, on a disk with room or without."""
    for room in (None, 3000):
        for cut in range(1, 30):
            root = tmp_path / f"{room}-{cut}"
            root.mkdir()
            disk = paged(root, cut)
            if kept is not None:
                assert set_aside(root, disk)
                assert release(root, disk)
            disk.room, disk.cut_in = room, cut
            with suppress(PowerCut):
                set_aside(root, disk)
            disk.power_loss(any_of(random.Random(cut)))
            assert size(root) in {kept, KEPT, WHOLE}


def test_a_disk_without_room_for_all_keeps_what_starts_need(tmp_path: Path) -> None:
    disk = paged(tmp_path)
    disk.room = KEPT + 1
    assert not set_aside(tmp_path, disk)
    assert size(tmp_path) == KEPT
    assert not release(tmp_path, disk)
    disk.room = WHOLE - 1
    assert not set_aside(tmp_path, disk)
    assert size(tmp_path) == KEPT
    assert not (tmp_path / f"{RESERVE}.tmp").exists()
    disk.room = WHOLE
    assert set_aside(tmp_path, disk)
    assert disk.room == KEPT


def test_a_reserve_whose_name_is_not_durable_does_not_count(tmp_path: Path) -> None:
    disk = FaultDisk(fail_on("sync_dir", FULL))
    assert not set_aside(tmp_path, disk)
    assert size(tmp_path) == KEPT
    assert set_aside(tmp_path, disk)


def test_a_start_on_a_full_disk_gives_back_what_it_took_before_anything_else_is_written(tmp_path: Path) -> None:
    disk = paged(tmp_path)
    started(disk).stop()
    disk.room = 0
    for _ in range(3):
        started(disk).stop()
        assert (size(tmp_path), disk.room) == (WHOLE, 0)


def test_a_full_disk_where_nothing_was_set_aside_is_told(tmp_path: Path) -> None:
    disk = paged(tmp_path)
    disk.room = 100
    with pytest.raises(DiskFull, match="free some room"):
        started(disk)
    disk.room = None
    started(disk).stop()


def test_what_a_cut_search_for_room_left_is_given_to_a_start(tmp_path: Path) -> None:
    """The disk was full before anything was set aside, and the search for room is cut in its midst."""
    disk = paged(tmp_path)
    started(disk).stop()
    disk.unlink(tmp_path / RESERVE)
    disk.sync_dir(tmp_path)
    disk.room, disk.cut_in = 500, 3
    with pytest.raises(PowerCut):
        set_aside(tmp_path, disk)
    disk.kill()
    assert (tmp_path / f"{RESERVE}.tmp").stat().st_size > 300
    disk.room = 0
    started(disk).stop()


def test_a_start_passes_on_what_no_room_would_mend(tmp_path: Path) -> None:
    disk = paged(tmp_path)
    assert set_aside(tmp_path, disk)

    def broken() -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        start_with(tmp_path, disk, broken)
    assert size(tmp_path) == WHOLE
