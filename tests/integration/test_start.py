"""What a member does with the directory, ports and flags it finds: starts, mends, or refuses with a reason."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.crate_dirs import content, copy_of
from tests.integration.member_process import ROOT, Cluster, MemberProcess, eventually, free_ports

EXIT_REFUSED, EXIT_USAGE, EXIT_CORRUPT = 1, 2, 4


@pytest.fixture
def member(tmp_path: Path) -> Iterator[MemberProcess]:
    """A member that is not started."""
    with Cluster(1, tmp_path) as cluster:
        yield cluster[0]


def segment(member: MemberProcess, number: int = 1) -> Path:
    return member.data_dir / f"{number:08d}.wal"


def refused(member: MemberProcess, exit_code: int, code: str) -> str:
    """Start the member, which has to refuse by `code`; return what it said."""
    assert member.start().wait_exit() == exit_code, member.log
    last = member.log.strip().splitlines()[-1]
    assert f"[{code}]" in last, member.log
    assert "Traceback" not in member.log
    return last


def filled(member: MemberProcess, count: int = 20) -> MemberProcess:
    """Start the member, write `count` keys one by one, and kill it."""
    member.start().wait_ready()
    for index in range(count):
        member.put(f"k{index:02}", b"value %d" % index)
    member.kill()
    return member


def held(member: MemberProcess) -> list[str]:
    return [item["key"] for item in member.request("GET", "/v1/kv?keys_only=true&limit=1000").json()["entries"]]


KEYS = [f"k{index:02}" for index in range(20)]


def test_a_torn_tail_is_cut_and_everything_before_it_stays(member: MemberProcess) -> None:
    path = segment(filled(member))
    used = len(path.read_bytes().rstrip(b"\0"))
    with path.open("r+b") as file:
        file.truncate(used - 3)
    member.start().wait_ready()
    assert held(member) == KEYS[:-1]
    assert member.status()["recovery"]["damage"] == "torn_tail"
    member.put("after", b"1")
    member.kill()
    member.start().wait_ready()
    assert held(member) == ["after", *KEYS[:-1]]
    assert member.status()["recovery"]["damage"] is None


def test_damage_in_the_middle_uses_the_prefix_and_keeps_the_rest_aside(member: MemberProcess) -> None:
    path = segment(filled(member))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"value 10")] ^= 1
    path.write_bytes(raw)
    member.start().wait_ready()
    assert held(member) == KEYS[:10]
    assert member.status()["recovery"]["damage"] == "corruption"
    kept = [file for file in (member.data_dir / "quarantine").rglob("*") if file.is_file() and file.suffix == ".wal"]
    assert any(file.read_bytes() == bytes(raw) for file in kept)
    member.kill()
    member.start().wait_ready()
    assert held(member) == KEYS[:10]
    assert member.status()["recovery"]["damage"] is None, "told once it is kept that the volume lost something"


def test_a_damaged_member_heals_from_its_peers_before_it_accepts_writes(tmp_path: Path) -> None:
    with Cluster(2, tmp_path) as cluster:
        cluster.start()
        for index in range(20):
            cluster[0].put(f"k{index:02}", b"value %d" % index)
        cluster.wait_everywhere("k19", b"value 19")
        for member in cluster.members:
            member.kill()
        path = segment(cluster[0])
        raw = bytearray(path.read_bytes())
        raw[raw.index(b"value 5")] ^= 1
        path.write_bytes(raw)
        cluster[0].start().wait_started()
        answer = cluster[0].request("PUT", "/v1/kv/early", b"x")
        assert (answer.status, answer.json()["code"]) == (503, "starting")
        assert cluster[0].get("k00") == b"value 0", "reads go on"
        cluster.start()
        assert held(cluster[0]) == KEYS
        cluster[0].put("late", b"x")
        cluster.wait_everywhere("late", b"x")


def test_a_log_of_a_newer_version_is_refused_and_left_untouched(member: MemberProcess) -> None:
    path = segment(filled(member))
    raw = path.read_bytes()
    newer = raw[:8] + b"\x02" + raw[9:]
    path.write_bytes(newer)
    assert "newer" in refused(member, EXIT_REFUSED, "wal_newer_version")
    assert path.read_bytes() == newer


def test_a_foreign_or_damaged_header_is_refused_and_left_untouched(member: MemberProcess) -> None:
    path = segment(filled(member))
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + b"NOPE" + raw[8:])
    refused(member, EXIT_CORRUPT, "wal_bad_header")
    assert path.read_bytes()[4:8] == b"NOPE"


def test_a_segment_of_another_node_is_refused(member: MemberProcess, tmp_path: Path) -> None:
    filled(member)
    with Cluster(1, tmp_path / "other") as cluster:
        other = filled(cluster[0])
        segment(member).write_bytes(segment(other).read_bytes())
    refused(member, EXIT_REFUSED, "foreign_directory")


def test_a_directory_of_another_cluster_is_refused(member: MemberProcess) -> None:
    filled(member)
    stranger = replace(member, cluster_id="00000000-0000-4000-8000-00000000beef", process=None)
    assert "00000000-0000-4000-8000-00000000beef" in refused(stranger, EXIT_REFUSED, "foreign_directory")
    assert held(member.start().wait_ready()) == KEYS


def test_a_directory_written_by_the_crate_is_taken_over_and_its_files_are_kept(member: MemberProcess) -> None:
    path = copy_of("v2-with-backup", member.data_dir)
    before = content(path)
    assert held(member.start().wait_ready()) == ["gen1", "gen2", "gen3"]
    assert "3 entries taken over from node 1" in member.log
    member.put("new", b"value")
    member.kill()
    assert held(member.start().wait_ready()) == ["gen1", "gen2", "gen3", "new"]
    assert {name: data for name, data in content(path / "crate").items() if name in before} == before


def test_a_directory_of_the_crate_that_lost_something_says_so_and_a_member_without_peers_goes_on(
    member: MemberProcess,
) -> None:
    copy_of("v2-primary-broken-backup-used", member.data_dir)
    assert held(member.start().wait_ready()) == ["gen1", "gen3"]
    assert "what was taken over is not all there was" in member.log
    assert member.put("new", b"value").status == 201


def test_a_directory_of_the_crate_with_another_nodes_snapshot_is_not_taken_over(member: MemberProcess) -> None:
    path = copy_of("snapshot-wrong-node", member.data_dir)
    before = content(path)
    refused(member, EXIT_REFUSED, "foreign_directory")
    assert content(path) == before


def test_a_directory_in_use_is_refused_and_its_member_goes_on(one: MemberProcess, tmp_path: Path) -> None:
    ports = free_ports(4)
    second = replace(one, http=ports[0], resp=ports[1], peer=ports[2], metrics=ports[3], process=None)
    second.start()
    assert second.wait_exit() == EXIT_REFUSED
    assert "[directory_in_use]" in second.log
    assert one.put("alive", b"yes").status == 201


def test_a_path_that_is_no_directory_is_refused(member: MemberProcess) -> None:
    member.data_dir.parent.mkdir(parents=True, exist_ok=True)
    member.data_dir.write_text("a file")
    refused(member, EXIT_REFUSED, "directory_unusable")


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A folder that this user may not write to: read-only for others, a read-only file system for root."""
    folder = tmp_path / "unwritable"
    folder.mkdir(mode=0o500)
    if os.geteuid():
        yield folder
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("root may write anywhere, and mounting read-only needs more rights than this root has")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_an_unwritable_directory_is_refused(member: MemberProcess, unwritable: Path) -> None:
    log, socket_path = member.log_file, member.socket
    member.data_dir = unwritable
    member.extra_args = ("--socket", str(socket_path))
    done = subprocess.run(member.command(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == EXIT_REFUSED
    assert "[directory_unusable]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not log.exists()


@pytest.mark.parametrize(
    ("plane", "flag"),
    [
        ("http", "--listen"),
        ("resp", "--resp-listen"),
        ("peer", "--peer-listen"),
        ("metrics", "--metrics-listen"),
    ],
)
def test_a_taken_port_is_refused_by_its_number_and_flag(member: MemberProcess, plane: str, flag: str) -> None:
    port = getattr(member, plane)
    with socket.create_server(("127.0.0.1", port)):
        assert f"{flag} 127.0.0.1:{port} is taken" in refused(member, EXIT_REFUSED, "port_taken")


@pytest.mark.parametrize(
    "flags",
    [
        ("--node-id", "0"),
        ("--fsync-mode", "sometimes"),
        ("--peer", "no-url"),
        ("--listen", "0.0.0.0:7070"),
        ("--tls-cert", "/nowhere.pem"),
        ("--membership", "/nowhere.json"),
        ("--discover-dns", "no such name"),
        ("--no-such-flag",),
    ],
)
def test_a_bad_flag_is_a_usage_error_without_a_trace(member: MemberProcess, flags: tuple[str, ...]) -> None:
    member.extra_args = flags
    assert member.start().wait_exit() == EXIT_USAGE, member.log
    assert "Traceback" not in member.log
    assert flags[0][:5] in member.log or "/nowhere.json" in member.log


def test_a_node_id_is_for_new_directories_only(member: MemberProcess) -> None:
    member.extra_args = ("--node-id", "7")
    filled(member)
    member.start().wait_ready()
    assert member.status()["node_id"] == 7
    member.kill()
    member.extra_args = ("--node-id", "8")
    assert "7" in refused(member, EXIT_REFUSED, "foreign_directory")


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB, which needs the right to mount."""
    volume = tmp_path / "small"
    volume.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(volume)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs privileges that this machine does not give")
    yield volume
    subprocess.run(["umount", "-l", volume], check=True)


def test_a_full_disk_refuses_writes_by_name_and_takes_them_again_when_room_returns(
    small_volume: Path, member: MemberProcess
) -> None:
    member.data_dir = small_volume / "m0"
    member.start().wait_ready()
    stored = 0
    while (answer := member.request("PUT", f"/v1/kv/big{stored}", bytes(500_000))).status == 201:
        stored += 1
    assert (answer.status, answer.json()["code"]) == (507, "disk_full")
    assert stored > 2
    assert member.get("big0") == bytes(500_000), "reads go on"
    subprocess.run(["mount", "-o", "remount,size=24m", small_volume], check=True)
    eventually(lambda: member.request("PUT", "/v1/kv/after", b"1").status == 201, 10, "values are taken again")
    member.kill()
    member.start().wait_ready()
    assert held(member) == ["after", *sorted(f"big{index}" for index in range(stored))]
    member.kill()


def test_a_clean_stop_cuts_the_log_to_its_last_record_and_loses_nothing(member: MemberProcess) -> None:
    member.start().wait_ready()
    member.put("k", b"v")
    assert member.terminate() == 0
    assert not segment(member).read_bytes().endswith(b"\0" * 64)
    identity = json.loads((member.data_dir / "IDENTITY").read_text())
    assert member.start().wait_ready().get("k") == b"v"
    assert json.loads((member.data_dir / "IDENTITY").read_text()) == {
        **identity,
        "boot_count": identity["boot_count"] + 1,
    }


def test_the_membership_file_decides_who_is_served(tmp_path: Path) -> None:
    with Cluster(3, tmp_path) as cluster:
        document = {"cluster_id": cluster[0].cluster_id, "epoch": 4, "bootstrap": True, "members": ["m0", "m1"]}
        (tmp_path / "membership.json").write_text(json.dumps(document))
        for member in cluster.members[:2]:
            member.extra_args = ("--membership", str(tmp_path / "membership.json"))
        cluster.start()
        cluster[0].put("x", b"1")
        cluster[1].wait_value("x", b"1")
        cluster[2].put("y", b"from outside")
        eventually(lambda: cluster[2].status()["peers"][0]["last_error"], 20, "m2 hears that it is no member")
        assert cluster[0].get("y") is None
        assert cluster[2].get("x") is None
        assert cluster[0].status()["membership"]["epoch"] == 4


def test_a_start_imports_no_library_of_certificates() -> None:
    """It takes a tenth of a second and some megabytes, and only a new volume that makes its own key needs it."""
    code = "import sys, wavekv.cli.process; sys.exit('cryptography' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "sidecar")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
