"""`wavekv snapshot dump` and `snapshot verify`."""

import json
from pathlib import Path

import pytest

from tests.fakes.crate_dirs import VECTORS, content
from tests.fakes.snapshots import standing_of, write_snapshot
from wavekv.__main__ import run
from wavekv.core.types import Entry

Captured = pytest.CaptureFixture[str]
ENTRIES = [
    Entry("a", b"1", 100, 1, 1),
    Entry("b\n", b"v" * 100, 101, 1, 2, expires_at=5),
    Entry("t", None, -1, 2, 7),
    *(Entry(f"x{seq}", b"", seq, 3, seq) for seq in range(1, 9)),
]


def wavekv(*arguments: str | Path, capsys: Captured) -> tuple[int, list[str], str]:
    code = run(["snapshot", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def native(path: Path) -> Path:
    return write_snapshot(path, ENTRIES, standing_of(ENTRIES))[0]


def test_a_members_snapshot_is_verified_and_counted(tmp_path: Path, capsys: Captured) -> None:
    file = native(tmp_path)
    before = content(tmp_path)
    code, lines, err = wavekv("verify", file, capsys=capsys)
    assert (code, err) == (0, "")
    told = "kind native, node_id 1, number 3, position 9, entries 11, tombstones 1, bytes 121, origins 2, ranges 1"
    assert lines == [f"{file}: {told}", "no damage"]
    assert content(tmp_path) == before


def test_a_members_snapshot_is_dumped_as_objects_and_their_end(tmp_path: Path, capsys: Captured) -> None:
    code, lines, _ = wavekv("dump", "--json", native(tmp_path), capsys=capsys)
    printed = [json.loads(line) for line in lines]
    assert code == 0
    assert printed[0] == {"key": "a", "value_hex": "31", "node": 1, "seq": 1, "timestamp": 100}
    assert printed[1]["expires_at"] == 5
    assert printed[2] == {"key": "t", "value_hex": None, "node": 2, "seq": 7, "timestamp": -1}
    assert len(printed) == len(ENTRIES) + 1
    end = printed[-1]["end"]
    assert (end["kind"], end["entries"], end["acks"]) == ("native", 11, {"1": 2, "3": 8})


def test_a_dump_for_people_shows_keys_and_cuts_long_values(tmp_path: Path, capsys: Captured) -> None:
    _, lines, _ = wavekv("dump", native(tmp_path), capsys=capsys)
    assert lines[0] == "key=a value=31 node=1 seq=1 timestamp=100"
    assert lines[1].startswith("key=b\\n value=7676")
    assert "(100 bytes)" in lines[1]
    assert lines[2] == "key=t tombstone node=2 seq=7 timestamp=-1"
    assert lines[-1].startswith("end: kind=native node_id=1")


@pytest.mark.parametrize("command", ["dump", "verify"])
def test_a_flipped_byte_exits_4_and_prints_nothing_of_it(tmp_path: Path, command: str, capsys: Captured) -> None:
    file = native(tmp_path)
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    code, lines, err = wavekv(command, file, capsys=capsys)
    assert (code, lines) == (4, [])
    assert str(file) in err
    assert file.read_bytes() == data


@pytest.mark.parametrize("name", ["v2-with-backup", "v1-snapshot-and-wal", "snapshot-named-maps"])
def test_the_original_systems_snapshots_are_read_untouched(name: str, capsys: Captured) -> None:
    path = VECTORS / name / "data"
    before = content(path)
    code, lines, _ = wavekv("verify", path / "node_1.snapshot", capsys=capsys)
    assert (code, lines[-1]) == (0, "no damage")
    assert "kind crate, node_id 1" in lines[0]
    code, lines, _ = wavekv("dump", "--json", path / "node_1.snapshot", capsys=capsys)
    printed = [json.loads(line) for line in lines]
    assert code == 0
    assert len(printed) == printed[-1]["end"]["entries"] + 1
    assert content(path) == before


def test_a_backup_is_a_snapshot_too(capsys: Captured) -> None:
    code, lines, _ = wavekv(
        "dump", "--json", VECTORS / "v2-with-backup" / "data" / "node_1.snapshot.bak", capsys=capsys
    )
    assert code == 0
    assert json.loads(lines[0])["key"] == "gen1"
    end = {"kind": "crate", "node_id": 1, "entries": 1, "tombstones": 0, "bytes": 29, "next_seq": 2}
    assert json.loads(lines[-1]) == {"end": end | {"peers": 2, "acks": {"1": 1, "2": 0}}}


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("snapshot-truncated", 4),
        ("snapshot-wrong-magic", 4),
        ("snapshot-wrong-version", 1),
        ("snapshot-wrong-node", 1),
    ],
)
@pytest.mark.parametrize("command", ["dump", "verify"])
def test_what_is_wrong_with_one_is_told_by_the_exit_code(
    name: str, exit_code: int, command: str, capsys: Captured
) -> None:
    code, lines, err = wavekv(command, VECTORS / name / "data" / "node_1.snapshot", capsys=capsys)
    assert (code, lines) == (exit_code, [])
    assert "node_1.snapshot" in err


@pytest.mark.parametrize("command", ["dump", "verify"])
def test_what_is_no_snapshot_is_named(tmp_path: Path, command: str, capsys: Captured) -> None:
    (tmp_path / "x").write_bytes(b"")
    (tmp_path / "00000001.snapshot").write_bytes(b"nothing")
    (tmp_path / "y").write_bytes(b"hello there")
    for other in ("x", "y"):
        code, _, err = wavekv(command, tmp_path / other, capsys=capsys)
        assert code == 4
        assert "is not a snapshot: it begins neither with WKVS nor as one of the original system" in err
    assert wavekv(command, tmp_path / "00000001.snapshot", capsys=capsys)[0] == 4
    for missing, said in (("nowhere", "cannot read"), (".", "name a file in it")):
        code, _, err = wavekv(command, tmp_path / missing, capsys=capsys)
        assert code == 1
        assert said in err
