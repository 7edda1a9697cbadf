"""`wavekv wal dump` and `wal verify`."""

import json
import shutil
from pathlib import Path
from zlib import crc32

import pytest
from click.testing import CliRunner

from tests.fakes.log import EVERY_OP, append_all, entry, segments
from wavekv.__main__ import run
from wavekv.cli.wal import describe
from wavekv.core.ops import Clear, Set

VECTORS = Path(__file__).parents[2] / "vectors" / "wal"


def wavekv(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    code = run(["wal", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_dump_prints_an_object_a_line_and_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = wavekv("dump", "--json", VECTORS / "c2-every-op.wal", capsys=capsys)
    told = json.loads((VECTORS / "c2-every-op.json").read_text())
    printed = [json.loads(line) for line in lines]
    assert code == 0
    assert printed[-1] == {"end": {"records": 11, "valid_bytes": 307, "damage": None}}
    first = told["entries"][0]["op"]["entry"]
    assert printed[0] == {
        "sequence": 1,
        "op": "set",
        "key": first["key"],
        "value_hex": first["value"],
        "node": first["node"],
        "seq": first["seq"],
        "timestamp": first["ts"],
    }
    for line, record in zip(printed[1:-1], told["entries"][1:], strict=True):
        assert line == {"sequence": record["sequence"], **record["op"]}


def test_our_own_operations_have_names_and_fields() -> None:
    described = {type(op).__name__: describe(op) for op in EVERY_OP}
    assert described["SetExpiring"] == {
        "op": "set_expiring",
        "key": "key/3",
        "value_hex": "",
        "node": 0xC0FFEE01,
        "seq": 3,
        "timestamp": 1_700_000_000_003,
        "expires_at": 1_800_000_000_000,
    }
    assert described["Batch"]["op"] == "batch"
    assert [op["op"] for op in described["Batch"]["ops"]] == ["set", "clear", "set_expiring"]
    assert described["Cover"] == {"op": "cover", "origin": 6, "from": 7, "to": 2**40}
    assert described["Floor"] == {"op": "floor", "timestamp": -1}
    assert described["Process"] == {"op": "process", "inc": 9, "origin": 0xFFFFFFFF, "healing": True}


@pytest.mark.parametrize(
    ("name", "damage", "exit_code"),
    [
        ("torn-mid-record", "torn_tail", 0),
        ("torn-1-of-length", "torn_tail", 0),
        ("flip-length-high", "torn_tail", 0),
        ("flip-value", "crc_mismatch", 4),
        ("undecodable-bad-bool", "undecodable", 4),
        ("one-set", None, 0),
    ],
)
def test_dump_names_the_damage(
    name: str, damage: str | None, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = wavekv("dump", "--json", VECTORS / f"c2-{name}.wal", capsys=capsys)
    told = json.loads((VECTORS / f"c2-{name}.json").read_text())
    end = {"records": len(told["entries"]), "valid_bytes": told["valid_end"], "damage": damage}
    assert (code, json.loads(lines[-1])) == (exit_code, {"end": end})


@pytest.mark.parametrize("name", ["wrong-magic", "wrong-version", "garbage", "torn-header", "zero-bytes"])
def test_a_bad_header_exits_4(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, err = wavekv("dump", "--json", VECTORS / f"c2-{name}.wal", capsys=capsys)
    assert (code, lines) == (4, [])
    assert f"c2-{name}.wal" in err


@pytest.mark.parametrize("command", ["dump", "verify"])
def test_a_missing_file_exits_1_and_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = wavekv(command, "nowhere.wal", capsys=capsys)
    assert code == 1
    assert "cannot read nowhere.wal: No such file" in err


@pytest.mark.parametrize("command", ["dump", "verify"])
@pytest.mark.parametrize("name", ["a.txt", "node_1.wal"])
def test_a_named_file_that_is_no_log_is_told_by_its_bytes_and_not_to_be_moved(
    name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"hello there")
    code, lines, err = wavekv(command, tmp_path / name, capsys=capsys)
    assert (code, lines) == (4, [])
    assert "it has b'o th' at byte 4, where a log has WKVL [" in err


def test_a_dump_of_a_directory_says_what_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = wavekv("dump", tmp_path, capsys=capsys)
    assert code == 1
    assert f"is a directory: name a file in it, or check all of it: wavekv wal verify {tmp_path} [" in err


def test_dump_for_people_shows_each_operation_and_cuts_long_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append_all(tmp_path, [[*EVERY_OP, Set(entry(8, b"v" * 100)), Clear("a\nb")]])
    text = "\n".join(line for name in segments(tmp_path) for line in wavekv("dump", tmp_path / name, capsys=capsys)[1])
    assert "(100 bytes)" in text
    assert "batch | set key=key/4" in text
    assert r"key=a\nb" in text
    assert "damage: none" in text


def test_verify_counts_oddities_and_says_what_damage_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = wavekv("verify", VECTORS / "c2-sequence-reordered.wal", capsys=capsys)
    assert (code, lines[-1]) == (0, "no damage")
    assert lines[1].startswith("sequences: 1 gaps, 0 repeated, 1 out of order") or "out of order" in lines[1]
    code, lines, _ = wavekv("verify", VECTORS / "c2-torn-mid-record.wal", capsys=capsys)
    assert code == 0
    assert lines[-1].startswith("torn tail: torn_tail at 187; the last append was cut")


def test_verify_tells_corruption_by_its_exit_code_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append_all(tmp_path, [[Set(entry(seq))] for seq in range(1, 12)])
    assert wavekv("verify", tmp_path, capsys=capsys)[0] == 0
    file = tmp_path / "00000001.wal"
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path in (file, tmp_path):
        code, lines, _ = wavekv("verify", path, capsys=capsys)
        assert code == 4
        assert "corruption: crc_mismatch in 00000001.wal at" in lines[-1]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_verify_names_the_snapshots_that_hold_and_what_is_behind_the_oldest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append_all(tmp_path, [[Set(entry(seq))] for seq in range(1, 12)])
    _, (first, *_), _ = wavekv("verify", tmp_path, capsys=capsys)
    assert first == f"{tmp_path}: 22 records in 11 groups"
    assert run(["compact", str(tmp_path)]) == 0
    capsys.readouterr()
    _, (first, *_), _ = wavekv("verify", tmp_path, capsys=capsys)
    assert first == f"{tmp_path}: snapshot 2 with 11 entries; behind it 0 records in 0 groups"
    shutil.copy(tmp_path / "00000002.snapshot", tmp_path / "00000003.snapshot")
    _, (first, *_), _ = wavekv("verify", tmp_path, capsys=capsys)
    told = "snapshot 3 with 11 entries; snapshot 2 with 11 entries; behind the oldest 0 records in 0 groups"
    assert first == f"{tmp_path}: {told}"


def test_a_bad_record_at_the_end_of_our_own_log_is_a_torn_tail_and_of_the_original_systems_corruption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append_all(tmp_path, [[Set(entry(1))], [Set(entry(2))]])
    file = tmp_path / "00000001.wal"
    data = bytearray(file.read_bytes().rstrip(b"\0"))
    data[-12] ^= 1
    file.write_bytes(data)
    for path in (file, tmp_path):
        code, lines, _ = wavekv("verify", path, capsys=capsys)
        assert (code, lines[-1].split(":")[0]) == (0, "torn tail")
    assert wavekv("dump", file, capsys=capsys)[0] == 0
    file.rename(tmp_path / "anything.wal")
    assert wavekv("verify", tmp_path / "anything.wal", capsys=capsys)[0] == 0
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "node_7.wal").write_bytes(data)
    for path in (theirs / "node_7.wal", theirs):
        code, lines, _ = wavekv("verify", path, capsys=capsys)
        assert code == 4
        assert lines[-1].startswith("corruption: crc_mismatch at")
        assert "marks nothing" in lines[-1]


@pytest.mark.parametrize(("name", "code"), [("v2-wal-only", 0), ("v2-snapshot-and-torn-wal", 0), ("zero-byte-wal", 4)])
def test_the_original_systems_directories_and_logs_are_verified_untouched(
    name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = VECTORS.parent / "dirs" / name / "data"
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    for target in (path, path / "node_1.wal"):
        assert wavekv("verify", target, capsys=capsys)[0] == code
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_log_under_another_nodes_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (VECTORS.parent / "dirs" / "v2-wal-only" / "data" / "node_1.wal").read_bytes()
    (tmp_path / "node_2.wal").write_bytes(data)
    for command in ("dump", "verify"):
        code, _, err = wavekv(command, tmp_path / "node_2.wal", capsys=capsys)
        assert code == 1
        assert "is of node 1, not of node 2" in err


def test_an_operation_of_a_newer_version_is_no_corruption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_all(tmp_path, [[Set(entry(1))]])
    file = tmp_path / "00000001.wal"
    body = b"\x03\x63" + b"\xfc" + crc32(b"\x63").to_bytes(4, "little")
    file.write_bytes(file.read_bytes().rstrip(b"\0") + len(body).to_bytes(4, "little") + body)
    code, lines, _ = wavekv("dump", "--json", file, capsys=capsys)
    assert (code, json.loads(lines[-1])["end"]["damage"]) == (1, "unknown_op")
    assert wavekv("verify", file, capsys=capsys)[0] == 1


def test_the_commands_explain_themselves() -> None:
    from wavekv.cli.wal import wal  # noqa: PLC0415

    result = CliRunner().invoke(wal, ["--help"])
    assert "dump" in result.output
    assert "verify" in result.output
