"""`wavekv wal dump` and `wal verify`."""

import json
from pathlib import Path

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
    ("name", "damage"),
    [
        ("torn-mid-record", "torn_tail"),
        ("torn-1-of-length", "torn_tail"),
        ("flip-length-high", "torn_tail"),
        ("flip-value", "crc_mismatch"),
        ("undecodable-bad-bool", "undecodable"),
        ("one-set", None),
    ],
)
def test_dump_names_the_damage(name: str, damage: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = wavekv("dump", "--json", VECTORS / f"c2-{name}.wal", capsys=capsys)
    told = json.loads((VECTORS / f"c2-{name}.json").read_text())
    end = {"records": len(told["entries"]), "valid_bytes": told["valid_end"], "damage": damage}
    assert (code, json.loads(lines[-1])) == (0, {"end": end})


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


def test_the_commands_explain_themselves() -> None:
    from wavekv.cli.wal import wal  # noqa: PLC0415

    result = CliRunner().invoke(wal, ["--help"])
    assert "dump" in result.output
    assert "verify" in result.output
