"""A running member folds its log, goes on, and starts from what came of it; and is told to by its operator."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.governed import GovernedCluster
from tests.integration.member_process import ROOT, Cluster, MemberProcess, eventually
from wavekv.wal.crate import find_crate_files, read_crate


@pytest.fixture
def governed(tmp_path: Path) -> Iterator[GovernedCluster]:
    """One member of epoch 1, running."""
    with GovernedCluster(1, tmp_path) as cluster:
        cluster.start_members(cluster[0])
        yield cluster


def compact(governed: GovernedCluster) -> None:
    """Have the member fold its log, and wait for it."""
    done = governed[0].status()["compaction"]["completed"]
    assert governed.ask(governed[0], "PUT", "/v1/admin/compaction").status == 200
    eventually(lambda: governed[0].status()["compaction"]["completed"] > done, 30, "the log is folded")


def fill(member: MemberProcess, numbers: range) -> None:
    for number in numbers:
        assert member.put(f"key/{number:03}", b"%d" % number).status in (200, 201)


def verified(member: MemberProcess) -> int:
    """Return the exit code of `wavekv wal verify` over the stopped member's directory."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "sidecar")}
    command = [sys.executable, "-m", "wavekv", "wal", "verify", str(member.data_dir)]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def names(member: MemberProcess, pattern: str) -> list[str]:
    return sorted(path.name for path in member.data_dir.glob(pattern))


def test_a_restart_loads_the_snapshot_and_the_log_behind_it(governed: GovernedCluster) -> None:
    member = governed[0]
    fill(member, range(40))
    assert json.loads((member.data_dir / "IDENTITY").read_text())["format"] == 1
    compact(governed)
    assert json.loads((member.data_dir / "IDENTITY").read_text())["format"] == 2
    assert names(member, "*.snapshot") == ["00000001.snapshot"]
    fill(member, range(30, 60))
    assert member.delete("key/000").status == 200
    member.kill()
    member.start().wait_ready()
    recovery = member.status()["recovery"]
    assert (recovery["damage"], recovery["snapshot_entries"]) == (None, 40)
    assert recovery["records"] > 30
    assert [member.get(f"key/{number:03}") for number in (0, 1, 35, 59)] == [None, b"1", b"35", b"59"]
    assert member.status()["store"]["live"] == 59


def test_the_last_but_one_generation_stays_and_a_broken_newest_snapshot_costs_nothing(
    governed: GovernedCluster,
) -> None:
    member = governed[0]
    for generation in range(3):
        fill(member, range(10 * generation, 10 * generation + 10))
        compact(governed)
    assert names(member, "*.snapshot") == ["00000002.snapshot", "00000003.snapshot"]
    assert names(member, "*.wal") == ["00000003.wal", "00000004.wal"]
    assert names(member, "*.spare") == ["00000002.spare"], "the first one has become segment 4"
    fill(member, range(30, 35))
    assert member.terminate() == 0
    assert verified(member) == 0
    newest = member.data_dir / "00000003.snapshot"
    spoiled = bytearray(newest.read_bytes())
    spoiled[len(spoiled) // 2] ^= 4
    newest.write_bytes(spoiled)
    assert verified(member) == 4
    member.start().wait_ready()
    status = member.status()
    assert (status["recovery"]["damage"], status["recovery"]["snapshot_entries"]) == ("snapshot", 20)
    assert not status["healing"], "nothing was lost"
    assert [member.get(f"key/{number:03}") for number in (0, 15, 25, 34)] == [b"0", b"15", b"25", b"34"]
    assert status["store"]["live"] == 35
    assert 'wavekv_recovery_damage{kind="snapshot"} 1.0' in member.scrape()
    compact(governed)
    assert member.terminate() == 0
    member.start().wait_ready()
    assert member.status()["recovery"]["damage"] is None
    assert member.status()["store"]["live"] == 35


def test_a_snapshot_that_rots_under_a_running_member_is_made_anew(governed: GovernedCluster) -> None:
    member = governed[0]
    for generation in range(2):
        fill(member, range(10 * generation, 10 * generation + 10))
        compact(governed)
    newest = member.data_dir / "00000002.snapshot"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\xff")
    fill(member, range(20, 30))
    compact(governed)
    assert member.status()["compaction"]["error"] is None
    member.kill()
    member.start().wait_ready()
    assert member.status()["recovery"]["damage"] is None
    assert member.status()["store"]["live"] == 30


def test_writes_go_on_while_the_log_is_folded(tmp_path: Path) -> None:
    args = ("--compact-log-bytes", "1Mi", "--gossip-interval-ms", "200")
    with Cluster(1, tmp_path, extra_args=args) as cluster:
        member = cluster.start()[0]
        value = bytes(100_000)
        for number in range(60):
            assert member.put(f"key/{number % 7}", value + b"%d" % number).status in (200, 201)
        eventually(lambda: member.status()["compaction"]["completed"] >= 1, 30, "the log was folded by itself")
        member.kill()
        member.start().wait_ready()
        assert [member.get(f"key/{number % 7}") for number in range(53, 60)] == [
            value + b"%d" % number for number in range(53, 60)
        ]
        assert member.status()["recovery"]["snapshot_entries"] == 7


def test_the_operator_has_a_running_member_export(governed: GovernedCluster) -> None:
    member = governed[0]
    fill(member, range(5))
    assert governed.ask(member, "PUT", "/v1/admin/export").json()["running"] is True

    def told() -> dict[str, object]:
        answer: dict[str, object] = governed.ask(member, "GET", "/v1/admin/export").json()
        return answer

    eventually(lambda: told()["path"] is not None, 30, "the export is whole")
    out = Path(str(told()["path"]))
    assert out == member.data_dir / "exports" / "crate"
    files = find_crate_files(out)
    assert files is not None
    state = read_crate(files)
    assert sorted(state.entries) == [f"key/{number:03}" for number in range(5)]
    assert governed.ask(member, "DELETE", "/v1/admin/export").json()["path"] is None
    assert not out.exists()
    member.kill()
    member.start().wait_ready()
    assert member.get("key/004") == b"4"
