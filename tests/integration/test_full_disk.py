"""A volume with nothing left on it, and one that turns read-only: real file systems, mounted for the test.

Skipped where mounting needs more rights than the tests have.
"""

import errno
import http.client
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.member_process import Answer, Cluster, MemberProcess, eventually

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


def batch(member: MemberProcess, operations: list[dict[str, str]]) -> Answer:
    body = json.dumps({"operations": operations}).encode()
    return member.request("POST", "/v1/batch", body, {"Content-Type": "application/json"})


def test_deletes_that_used_up_the_reserve_leave_a_member_that_starts(volume: Path, member: MemberProcess) -> None:
    member.start().wait_ready()
    keys = [f"{index:04}{'k' * 900}" for index in range(2000)]
    groups = [keys[start : start + 50] for start in range(0, len(keys), 50)]
    for group in groups:
        assert batch(member, [{"op": "put", "key": key, "value": "v"} for key in group]).status == 200
    fill(volume / ".ballast")
    fill_through(member, "in-room-written-ahead")
    refused: list[list[str]] = []
    for group in groups:
        answer = batch(member, [{"op": "delete", "key": key} for key in group])
        if answer.status == 507:
            refused.append(group)
        else:
            assert answer.status == 200
    assert len(groups) > len(refused) > 2, "some got through, and then the reserve was used up"

    for _ in range(3):
        member.kill()
        member.start().wait_ready()
        assert member.get(refused[-1][0]) == b"v", "reads go on"
        assert member.get(groups[0][0]) is None
    (volume / ".ballast").unlink()
    eventually(lambda: member.request("PUT", "/v1/kv/more", b"room").status == 201, 20, "values are taken again")
    assert batch(member, [{"op": "delete", "key": key} for key in refused[-1]]).status == 200


def remounted(volume: Path, how: str) -> bool:
    done = subprocess.run(["mount", "-o", f"remount,{how}", volume], capture_output=True, check=False)
    return done.returncode == 0


def is_refused(member: MemberProcess) -> None:
    """A start that ends at once, and whose last line, the only one of an error, says what to do."""
    before = len(member.log)
    assert member.start().wait_exit() == 1
    *earlier, line = member.log[before:].splitlines()
    assert [said for said in earlier if said.startswith(("wavekv: ", "Traceback"))] == []
    assert "Read-only file system; check the volume, mount it writable" in line
    assert line.endswith("[directory_unusable]")


def write_until_stopped(member: MemberProcess, stored: dict[str, bytes]) -> None:
    """Put values, and note what was acknowledged, until the member refuses or is gone."""
    while True:
        key, value = f"k{len(stored):05}", os.urandom(8000)
        try:
            answer = member.request("PUT", f"/v1/kv/{key}", value)
        except (OSError, http.client.HTTPException):
            return
        if answer.status != 201:
            assert answer.json()["code"] == "disk_failed", answer
            return
        stored[key] = value


def test_a_volume_that_is_mounted_read_only_is_refused_and_serves_once_it_is_writable(
    volume: Path, member: MemberProcess
) -> None:
    member.start().wait_ready()
    member.put("a", b"1")
    assert not remounted(volume, "ro"), "the member holds files open for writing: the kernel says busy"
    assert member.terminate() == 0
    assert remounted(volume, "ro")
    kept = {path.name: path.read_bytes() for path in volume.iterdir() if path.is_file()}
    is_refused(member)
    assert {path.name: path.read_bytes() for path in volume.iterdir() if path.is_file()} == kept
    assert remounted(volume, "rw")
    member.start().wait_ready()
    assert member.get("a") == b"1"
    assert member.put("b", b"2").status == 201


@pytest.mark.parametrize("volume", ["ext4"], indirect=True)
@pytest.mark.parametrize("on_errors", ["continue", "remount-ro"])
def test_a_volume_that_turns_read_only_under_writes_stops_the_member_with_a_clear_error_and_loses_nothing(
    volume: Path, member: MemberProcess, tmp_path: Path, on_errors: str
) -> None:
    """Writes are under way, and so is a compaction, when ext4 does what it does by itself when its device fails."""
    assert remounted(volume, f"errors={on_errors}")
    member.extra_args = ("--compact-log-bytes", str(1 << 20))
    member.start().wait_ready()
    stored: dict[str, bytes] = {}
    writer = threading.Thread(target=write_until_stopped, args=(member, stored))
    writer.start()
    try:
        eventually(lambda: len(stored) > 200, 30, "some values are stored")
    finally:
        remounted(volume, "abort")
        writer.join()
    assert member.wait_exit() == 1
    last = member.log.strip().splitlines()[-1]
    assert last.endswith("; check the volume, mount it writable, then start again [disk_failed]")
    assert "Traceback" not in member.log

    is_refused(member)
    subprocess.run(["umount", volume], check=True)
    subprocess.run(["mount", "-o", "loop", tmp_path / "image", volume], check=True)
    member.start().wait_ready()
    assert all(member.get(key) == value for key, value in stored.items())
    assert member.put("new", b"value").status == 201


@pytest.mark.parametrize("volume", ["ext4"], indirect=True)
def test_a_member_without_writes_reads_on_from_a_volume_that_turned_read_only(
    volume: Path, member: MemberProcess
) -> None:
    member.start().wait_ready()
    member.put("a", b"1")
    remounted(volume, "abort")
    assert member.get("a") == b"1"
    answer = member.request("PUT", "/v1/kv/late", b"v")
    assert (answer.status, answer.json()["code"]) == (503, "disk_failed"), "not acknowledged"
    assert member.wait_exit() == 1


@pytest.mark.parametrize("volume", ["ext4"], indirect=True)
def test_a_member_without_writes_ends_once_a_compaction_finds_that_its_log_cannot_go_on(
    volume: Path, member: MemberProcess
) -> None:
    member.extra_args = ("--compact-age", "2")
    member.start().wait_ready()
    member.put("a", b"1")
    eventually(lambda: member.status()["compaction"]["completed"], 20, "a compaction")
    member.put("b", b"2")
    remounted(volume, "abort")
    assert member.wait_exit() == 1
    assert member.log.strip().splitlines()[-1].endswith("mount it writable, then start again [disk_failed]")
