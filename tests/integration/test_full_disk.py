"""A volume with nothing left on it, and one that turns read-only: real file systems, mounted for the test.

Skipped where mounting needs more rights than the tests have.
"""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.member_process import Cluster, MemberProcess, eventually

VOLUME_MIB = 20
BALLAST_BYTES = 8 << 20
"""Somebody else's file, whose room is enough for the reserve and what is written ahead."""


@pytest.fixture
def member(tmp_path: Path, volume: Path) -> Iterator[MemberProcess]:
    """A member that is not started; its directory is the small volume, as a claim's is in a pod."""
    with Cluster(1, tmp_path) as cluster:
        assert cluster[0].data_dir == volume
        yield cluster[0]


def mounted(options: list[str], volume: Path) -> Iterator[Path]:
    volume.mkdir()
    if subprocess.run(["mount", *options, str(volume)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs privileges that this machine does not give")
    yield volume
    subprocess.run(["umount", "-l", volume], check=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MiB."""
    if request.param == "tmpfs":
        yield from mounted(["-t", "tmpfs", "-o", f"size={VOLUME_MIB}m", "tmpfs"], tmp_path / "m0")
        return
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(VOLUME_MIB << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-J", "size=1", image], capture_output=True, check=False)
    if made.returncode:
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("this machine cannot make an ext4 file system")
    yield from mounted(["-o", "loop", str(image)], tmp_path / "m0")


def fill(file: Path) -> None:
    """Take every byte that is left on the volume of `file`."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (1 << 16, 1 << 12, 512, 1):
            while True:
                try:
                    os.write(descriptor, bytes(size))
                    os.fsync(descriptor)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
    finally:
        os.close(descriptor)


def fill_through(member: MemberProcess, prefix: str) -> dict[str, bytes]:
    """Put values until even the smallest is refused for want of room; return what was stored."""
    stored: dict[str, bytes] = {}
    for size in (500_000, 20_000, 500):
        while True:
            key, value = f"{prefix}{len(stored):04}", os.urandom(size)
            answer = member.request("PUT", f"/v1/kv/{key}", value)
            if answer.status != 201:
                break
            stored[key] = value
        assert (answer.status, answer.json()["code"]) == (507, "disk_full")
    return stored


def test_a_volume_with_nothing_left_serves_reads_and_deletes_restarts_and_takes_values_when_room_returns(
    volume: Path, member: MemberProcess
) -> None:
    member.start().wait_ready()
    ballast = volume / ".ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    stored = fill_through(member, "k")
    assert len(stored) > 3
    fill(ballast)

    assert all(member.get(key) == value for key, value in stored.items()), "reads go on"
    gone = sorted(stored)[:2]
    assert member.delete(gone[0]).status == 200
    refused = member.request("PUT", "/v1/kv/more", bytes(100_000))
    assert (refused.status, refused.json()["code"]) == (507, "disk_full")

    member.kill()
    member.start().wait_ready()
    assert member.delete(gone[1]).status == 200
    stored |= fill_through(member, "in-room-written-ahead")
    left = {key: value for key, value in stored.items() if key not in gone}
    assert all(member.get(key) == left.get(key) for key in stored)

    ballast.unlink()
    eventually(lambda: member.request("PUT", "/v1/kv/more", b"room").status == 201, 20, "values are taken again")
    assert member.terminate() == 0
    member.start().wait_ready()
    assert all(member.get(key) == left.get(key) for key in stored)
    assert member.get("more") == b"room"


@pytest.mark.parametrize("volume", ["ext4"], indirect=True)
def test_a_volume_that_turns_read_only_stops_the_member_with_a_clear_error(volume: Path, member: MemberProcess) -> None:
    member.start().wait_ready()
    for index in range(20):
        member.put(f"k{index}", b"v")
    # What ext4 does by itself when its device fails.
    subprocess.run(["mount", "-o", "remount,abort", volume], capture_output=True, check=False)
    answer = member.request("PUT", "/v1/kv/late", b"v")
    assert answer.status >= 500, "not acknowledged"
    assert member.wait_exit() == 1
    last = member.log.strip().splitlines()[-1]
    assert "[disk_failed]" in last
    assert "check the volume" in last
    assert "Traceback" not in member.log
