"""Who a data directory belongs to, and that a refused one is left as it was found."""

import fcntl
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.disk import BROKEN, FULL, FaultDisk, PowerCut, fail_on, stop_at
from wavekv.errors import (
    Corruption,
    DirectoryInUse,
    DirectoryUnusable,
    DiskFailed,
    DiskFull,
    ForeignDirectory,
    NewerVersion,
    UsageError,
    WaveKVError,
)
from wavekv.wal.directory import DataDirectory, open_directory

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
OTHER = "00000000-1d1f-4f5e-9a44-3b6f0d4f7a01"


def open_at(path: Path, **more: Any) -> DataDirectory:
    told: dict[str, Any] = {"node_id": None, "cluster_id": None, "now_ms": 5, "new_node_id": lambda: 77}
    return open_directory(path, **{**told, "new_uuid": lambda: uuid.UUID(int=3), **more})


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def refuses(path: Path, error: type[WaveKVError], *words: str, **more: Any) -> None:
    before = content(path)
    with pytest.raises(error) as caught:
        open_at(path, **more)
    for word in words:
        assert word in caught.value.detail
    assert content(path) == before


def test_a_new_directory_is_private_and_its_first_process_knows_it_is_the_first(tmp_path: Path) -> None:
    opened = open_at(tmp_path / "a" / "b", cluster_id=CLUSTER)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (opened.is_new, opened.first_process) == (True, True)
    identity = opened.identity
    assert (identity.node_id, identity.uuid.int, identity.cluster_id, identity.created_at) == (77, 3, CLUSTER, 5)
    opened.close()


def test_each_start_is_counted_and_the_rest_of_the_identity_stays(tmp_path: Path) -> None:
    first = open_at(tmp_path, node_id=9)
    first.close()
    second = open_at(tmp_path, now_ms=6, new_uuid=lambda: uuid.UUID(int=4))
    second.close()
    assert second.identity.boot_count == 2
    assert (second.is_new, second.first_process) == (False, False)
    assert (second.identity.node_id, second.identity.uuid, second.identity.created_at) == (9, first.identity.uuid, 5)
    told = json.loads((tmp_path / "IDENTITY").read_text())
    assert set(told) == {"format", "node_id", "uuid", "cluster_id", "boot_count", "created_at"}


def test_the_count_is_durable_before_the_directory_is_open(tmp_path: Path) -> None:
    disk = FaultDisk()
    open_at(tmp_path, disk=disk).close()
    assert [call.split()[0] for call in disk.calls] == ["unlink", "open", "write", "sync", "rename", "sync_dir"]


def test_a_cluster_is_adopted_once(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    open_at(tmp_path, cluster_id=CLUSTER).close()
    assert open_at(tmp_path).identity.cluster_id == CLUSTER
    refuses(tmp_path, ForeignDirectory, CLUSTER, OTHER, cluster_id=OTHER)


def test_another_node_is_refused_naming_both(tmp_path: Path) -> None:
    open_at(tmp_path, node_id=9).close()
    refuses(tmp_path, ForeignDirectory, "node 9", "node 10", node_id=10)


@pytest.mark.parametrize("name", ["node_1.wal.tmp", "node_x.snapshot", "00000001.wal", "photo.jpg"])
def test_content_without_an_identity_is_foreign(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    refuses(tmp_path, ForeignDirectory, name, "empty directory")


def test_what_a_file_system_or_our_own_first_steps_leave_is_no_foreign_content(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    for name in (".gitkeep", "LOCK", "IDENTITY.tmp"):
        (tmp_path / name).write_bytes(b"")
    opened = open_at(tmp_path)
    assert opened.first_process
    opened.close()


def test_a_newer_identity_is_refused(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    file = tmp_path / "IDENTITY"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 3, "more": 1}))
    refuses(tmp_path, NewerVersion, "format 3")


@pytest.mark.parametrize(
    "damage",
    [
        {"node_id": 0},
        {"node_id": 2**32},
        {"node_id": True},
        {"boot_count": "1"},
        {"boot_count": -1},
        {"uuid": "none"},
        {"uuid": 5},
        {"cluster_id": 5},
        {"format": 0},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_damaged_identity_is_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    open_at(tmp_path).close()
    file = tmp_path / "IDENTITY"
    file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    refuses(tmp_path, Corruption, "IDENTITY")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null"])
def test_an_identity_that_is_no_object_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "IDENTITY").write_bytes(data)
    refuses(tmp_path, Corruption, "IDENTITY")


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DirectoryUnusable):
            open_at(path)


@pytest.mark.parametrize("node_id", [0, 2**32, -1])
def test_a_node_id_out_of_range_is_a_usage_error(tmp_path: Path, node_id: int) -> None:
    with pytest.raises(UsageError):
        open_at(tmp_path / "new", node_id=node_id)
    assert not (tmp_path / "new").exists()


def test_a_directory_in_use_by_another_process_is_refused_naming_it(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    script = (
        "import fcntl, os, sys\n"
        "lock = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "os.ftruncate(lock, 0); os.pwrite(lock, b'%d' % os.getpid(), 0)\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "LOCK")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        refuses(tmp_path, DirectoryInUse, f"process {holder.pid}")
        assert holder.stdin is not None
        holder.stdin.close()
    open_at(tmp_path).close()


def test_a_refused_start_gives_the_lock_back(tmp_path: Path) -> None:
    for code, error in ((FULL, DiskFull), (BROKEN, DiskFailed)):
        with pytest.raises(error):
            open_at(tmp_path, disk=FaultDisk(fail_on("sync", code)))
    lock = os.open(tmp_path / "LOCK", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


@pytest.mark.parametrize("index", range(5))
def test_a_crash_at_any_step_leaves_the_old_identity_or_the_new(tmp_path: Path, index: int) -> None:
    open_at(tmp_path).close()
    with pytest.raises(PowerCut):
        open_at(tmp_path, disk=FaultDisk(stop_at(index)))
    opened = open_at(tmp_path)
    assert opened.identity.boot_count in (2, 3)
    opened.close()
