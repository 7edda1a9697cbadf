"""The system calls of a data directory: links are not followed, and a lack of descriptors is no failed disk."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.fakes.disk import FaultDisk
from wavekv.disk import OS_DISK, create, disk_error, replace_file, write_synced
from wavekv.errors import DirectoryUnusable, DiskFailed, OutOfDescriptors


@contextmanager
def no_descriptor_left() -> Iterator[list[int]]:
    """Open files until there is none left to open, under a limit a little above what is open; yield the descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 8, hard)
    )
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield taken
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_a_lack_of_descriptors_has_a_name_of_its_own(code: int) -> None:
    refused = disk_error(OSError(code, os.strerror(code)), "write f")
    assert isinstance(refused, OutOfDescriptors)
    assert not isinstance(refused, DiskFailed)
    assert (refused.code, refused.status) == ("out_of_descriptors", 503)
    assert "the disk is fine" in refused.detail


def test_a_directory_is_synced_when_no_descriptor_is_left(tmp_path: Path) -> None:
    OS_DISK.sync_dir(tmp_path)  # holds the spare one from now on
    with no_descriptor_left() as taken:
        with pytest.raises(OSError, match="Too many open files"):
            OS_DISK.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT)
        OS_DISK.sync_dir(tmp_path)
        OS_DISK.sync_dir(tmp_path)
        os.close(taken.pop())
        OS_DISK.sync_dir(tmp_path)


def test_a_file_is_not_replaced_without_a_descriptor_and_keeps_its_content(tmp_path: Path) -> None:
    path = tmp_path / "IDENTITY"
    replace_file(OS_DISK, path, b"old")
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        replace_file(OS_DISK, path, b"new")
    assert path.read_bytes() == b"old"
    replace_file(OS_DISK, path, b"new")
    assert path.read_bytes() == b"new"


def test_a_link_in_the_place_of_a_temporary_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"precious")
    (tmp_path / "IDENTITY.tmp").symlink_to(foreign)
    replace_file(OS_DISK, tmp_path / "IDENTITY", b"ours")
    assert foreign.read_bytes() == b"precious"
    assert (tmp_path / "IDENTITY").read_bytes() == b"ours"
    assert not (tmp_path / "IDENTITY").is_symlink()


def test_a_link_in_the_place_of_a_file_that_is_written_is_replaced(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"precious")
    (tmp_path / "f").symlink_to(foreign)
    write_synced(OS_DISK, tmp_path / "f", b"ours")
    assert foreign.read_bytes() == b"precious"
    assert (tmp_path / "f").read_bytes() == b"ours"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_no_name_is_followed_as_a_link(tmp_path: Path, flags: int) -> None:
    (tmp_path / "foreign").write_bytes(b"precious")
    (tmp_path / "f").symlink_to(tmp_path / "foreign")
    with pytest.raises(OSError, match="Too many levels of symbolic links") as refused:
        OS_DISK.open(tmp_path / "f", flags)
    told = disk_error(refused.value, "open f")
    assert isinstance(told, DirectoryUnusable)
    assert "nobody but the member" in told.detail


def test_a_file_that_another_process_makes_meanwhile_is_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "f"

    def intrude(call: str, _index: int) -> None:
        if call == "open f":
            path.write_bytes(b"another's")

    with pytest.raises(FileExistsError):
        create(FaultDisk(intrude), path)
    assert path.read_bytes() == b"another's"
