"""A volume that turns read-only in place of any call: told with what to do, and nothing acknowledged is lost."""

import random
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from tests.fakes.paged_disk import PagedDisk, any_of
from tests.fakes.paged_member import PagedMember
from wavekv.disk import disk_error
from wavekv.errors import DirectoryUnusable, DiskFailed

KEYS = [f"k{index}" for index in range(12)]


def lead(disk: PagedDisk, stored: dict[str, bytes]) -> None:
    """Start, write and compact so that segments are begun, folded in and zeroed. Note what was acknowledged.

    A compaction that fails is logged and tried again later; it is the write behind it that finds the log gone.
    """
    member = PagedMember(disk, random.Random(1))
    try:
        for turn in range(3):
            for key in KEYS:
                value = f"{turn}".encode() * 200
                member.replica.put(key, value, 0)
                member.commit()
                stored[key] = value
            member.compact()
        member.replica.put("last", b"", 0)
        member.commit()
    finally:
        member.end()


def calls_of_a_life(root: Path) -> int:
    root.mkdir()
    disk = PagedDisk(root, random.Random(1))
    calls = 0

    def count(meet: Callable[..., bool]) -> Callable[..., bool]:
        def counted(**cuts: bool) -> bool:
            nonlocal calls
            calls += 1
            return meet(**cuts)

        return counted

    with mock.patch.object(disk, "_meet", count(disk._meet)):
        lead(disk, {})
    return calls


def cached(disk: PagedDisk) -> None:
    """Mounted writable in place: what was in the cache stays."""
    disk.kill()


def unmounted(disk: PagedDisk) -> None:
    """Unmounted, then mounted: what was not written is gone."""
    disk.power_loss(any_of(random.Random(3)))


@pytest.mark.parametrize("mounted_again", [cached, unmounted])
def test_whichever_call_it_begins_with_is_told_and_nothing_is_lost(
    tmp_path: Path, mounted_again: Callable[[PagedDisk], None]
) -> None:
    calls = calls_of_a_life(tmp_path / "all")
    assert calls > 200
    for index in range(1, calls, 3):
        root = tmp_path / str(index)
        root.mkdir()
        disk = PagedDisk(root, random.Random(1))  # as many calls as were counted
        disk.read_only_in = index
        stored: dict[str, bytes] = {}
        with pytest.raises((DiskFailed, DirectoryUnusable), match="Read-only file system; check the volume, mount it"):
            lead(disk, stored)
        disk.kill()
        with pytest.raises(DirectoryUnusable, match="mount it writable, then start again"):
            PagedMember(disk, random.Random(2))
        mounted_again(disk)
        disk.read_only = False
        member = PagedMember(disk, random.Random(2))
        for key, value in stored.items():
            held = member.store.get(key, 0)
            assert held is not None
            assert held.value >= value, "as acknowledged, or as the write that was under way left it"
        member.stop()


def test_a_directory_without_permission_is_told_from_a_read_only_volume() -> None:
    refused = disk_error(PermissionError(13, "Permission denied"), "open the data directory d")
    assert isinstance(refused, DirectoryUnusable)
    assert "must be writable for user" in refused.detail
    assert "mount" not in refused.detail
