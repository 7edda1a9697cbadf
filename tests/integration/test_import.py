"""`wavekv import` against a fake member over real sockets: ends of every kind, and going on without doubling."""

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.http_member import CUT_AFTER, CUT_BEFORE, Fault, HttpMember, Problem
from tests.integration.member_process import eventually
from wavekv.__main__ import run
from wavekv.cli import importing
from wavekv.cli.import_reader import Reading
from wavekv.cli.import_run import Pace
from wavekv.cli.target import target_from
from wavekv.errors import WaveKVError


def keys_file(tmp_path: Path, keys: Sequence[str]) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text("".join(f"{key}\n" for key in keys))
    return path


def state_of(path: Path) -> Path:
    return path.with_name(path.name + ".wavekv-import")


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


def import_(member: HttpMember, path: Path, *more: str) -> int:
    return run(["import", str(path), "--url", member.url, "--json", *more])


def impatient(member: HttpMember, path: Path) -> tuple[dict[str, Any], WaveKVError | None]:
    """Import with a patience of a quarter of a second."""
    options = importing.Options(str(path), Reading("lines"), Pace(retry_seconds_max=0.25), None, None, restart=False)
    return importing.run_import(target_from(member.url, None), options)


def test_every_record_is_stored_once_over_kept_open_connections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"k{number}" for number in range(3000)]
    path = keys_file(tmp_path, [*keys, "", "// note"])
    with HttpMember() as member:
        assert import_(member, path, "--connections", "4") == 0
        assert member.entries == {key: key.encode() for key in keys}
        assert set(member.puts.values()) == {1}
        assert len(member.connections) == 4
        assert not member.gets
    facts = summary(capsys)
    assert (facts["read"], facts["imported"], facts["skipped"]) == (3002, 3000, {"blank": 1, "comment": 1})
    assert not state_of(path).exists()


def test_export_and_import_carry_any_value_over(tmp_path: Path) -> None:
    entries = {"a/b": b"\xff\x00", "ä\n": "ü".encode(), "..": b"", "x y?#%2F": b"1\n2", "big": bytes(1 << 20)}
    path = tmp_path / "all.jsonl"
    with HttpMember() as source, HttpMember() as sink:
        source.entries = dict(entries)
        assert run(["export", str(path), "--url", source.url]) == 0
        assert import_(sink, path) == 0
        assert sink.entries == entries


def test_an_expiry_is_carried_over_as_the_time_that_is_left(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    expires_at = time.time_ns() // 1_000_000 + 3_600_000
    with HttpMember() as source, HttpMember() as sink:
        source.entries = {"a": b"1", "b": b"2"}
        source.expiring = {"a": expires_at}
        assert run(["export", str(path), "--url", source.url]) == 0
        assert json.loads(path.read_text().splitlines()[0]) == {"key": "a", "value": "1", "expires_at": expires_at}
        assert import_(sink, path) == 0
        ttls = dict(sink.ttls)
    assert ttls["b"] is None
    assert 3500 < float(ttls["a"] or 0) <= 3600


def test_what_has_expired_is_left_out_and_counted_and_a_ttl_is_sent_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.jsonl"
    lines = [{"expires_at": 1}, {"ttl": 1.5}, {"ttl": "keep"}, {"tag": "1.2.3"}]
    path.write_text("".join(json.dumps({"key": f"k{i}", "value": ""} | more) + "\n" for i, more in enumerate(lines)))
    with HttpMember() as member:
        assert import_(member, path) == 1
        assert sorted(member.ttls) == [("k1", "1.5"), ("k2", "keep")]
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["expired"], facts["imported"], facts["refused"]) == (1, 2, {"malformed": 1})
    assert "line 4 refused" in err


@pytest.mark.parametrize(("held", "puts"), [(None, 1), (-1001, 1), (-1, 0), (1, 0), (61_000, 1)])
def test_a_doubtful_record_is_put_again_unless_the_member_holds_its_expiry_too(
    tmp_path: Path, held: int | None, puts: int
) -> None:
    path = tmp_path / "one.jsonl"
    expires_at = time.time_ns() // 1_000_000 + 3_600_000
    path.write_text(json.dumps({"key": "k", "value": "v", "expires_at": expires_at}))
    with HttpMember(lambda method, key, number: Problem(507, "disk_full") if number == 1 else None) as member:
        assert import_(member, path) == 1
        assert state_of(path).exists()
        member.entries["k"] = b"v"
        member.expiring = {} if held is None else {"k": expires_at + held}
        assert import_(member, path) == 0
        assert member.puts["k"] == puts


def test_records_of_one_key_keep_their_order_and_are_never_under_way_together(tmp_path: Path) -> None:
    path = tmp_path / "same.csv"
    rows = [f"k{number % 7},{number}" for number in range(2000)]
    path.write_text("key,value\n" + "\n".join(rows))
    with HttpMember() as member:
        assert import_(member, path) == 0
        assert member.overlaps == 0
        assert member.entries == {f"k{number % 7}": str(number).encode() for number in range(1993, 2000)}


def test_a_member_behind_a_unix_socket_is_reached(tmp_path: Path) -> None:
    socket = str(tmp_path / "s")
    with HttpMember(socket=socket) as member:
        assert run(["import", str(keys_file(tmp_path, ["a"])), "--socket", socket]) == 0
        assert member.puts == {"a": 1}


def test_refused_records_are_counted_shown_and_listed_and_end_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault(method: str, key: str, number: int) -> Fault:
        return Problem(413, "value_too_large") if key == "c" else None

    path, rejects = keys_file(tmp_path, ["a", "k" * 1025, "c", "d"]), tmp_path / "rejects"
    with HttpMember(fault) as member:
        assert import_(member, path, "--rejects", str(rejects)) == 1
        assert sorted(member.entries) == ["a", "d"]
    printed = capsys.readouterr()
    assert json.loads(printed.out)["refused"] == {"invalid_key": 1, "value_too_large": 1}
    assert "line 2 refused" in printed.err
    listed = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(record["key"], record["value"]) for record in listed] == [("k" * 1025, "k" * 1025), ("c", "c")]
    why = [record["rejected"] for record in listed]
    assert [(refusal["line"], refusal["code"]) for refusal in why] == [(2, "invalid_key"), (3, "value_too_large")]
    assert not state_of(path).exists()


def test_rejects_are_mended_and_imported(tmp_path: Path) -> None:
    path, rejects = tmp_path / "some.jsonl", tmp_path / "rejects.jsonl"
    lines = [
        b'{"key":"a","value":"1"}',
        b'{"key":"","value":"2","ttl":60}',
        b'{"key":"c"}',
        b'{"key":"d","value":"\xff"}',
    ]
    path.write_bytes(b"\n".join(lines))
    with HttpMember() as member:
        assert import_(member, path, "--rejects", str(rejects)) == 1
        kept = [json.loads(line) for line in rejects.read_text().splitlines()]
        assert [record.get("record", record.get("record_base64")) for record in kept[1:]] == [
            '{"key":"c"}',
            base64.b64encode(lines[3]).decode(),
        ]
        rejects.write_text(json.dumps(kept[0] | {"key": "b"}))
        assert import_(member, rejects) == 0
        assert member.entries == {"a": b"1", "b": b"2"}
        assert member.ttls == [("a", None), ("b", "60.0")]


def test_what_cannot_be_read_rightly_stores_nothing_and_ends_with_2(tmp_path: Path) -> None:
    good = b'{"key":"a","value":"1"}\n' * 100_000
    inputs = {
        "utf16": good.decode().encode("utf-16-le"),
        "nul": good + bytes(10),
        "zstd": b"\x28\xb5\x2f\xfd" + good,
        "cut": gzip.compress(good)[:-9],
        "array": b"[" + good,
        "nested": b"{\n" + good,
    }
    with HttpMember() as member:
        for name, content in inputs.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_bytes(content)
            assert import_(member, path) == 2
            assert not state_of(path).exists()
        assert not member.puts


def test_gzip_is_imported_and_an_interrupted_import_of_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt.gz"
    path.write_bytes(gzip.compress(b"a\nb\nc\n"))
    with HttpMember() as member:
        interrupted(member, path)
        assert import_(member, path) == 0
        assert member.puts == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize("problem", [Problem(503, "starting"), Problem(429, "too_many_waiting")])
def test_not_now_is_tried_again(tmp_path: Path, problem: Problem) -> None:
    def fault(method: str, key: str, number: int) -> Fault:
        return problem if number <= 3 else None

    with HttpMember(fault) as member:
        assert import_(member, keys_file(tmp_path, ["a", "b"])) == 0
        assert member.puts == {"a": 1, "b": 1}


def test_not_now_for_too_long_stops_and_the_next_import_goes_on(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(50)]
    path = keys_file(tmp_path, keys)
    stuck = True

    def fault(method: str, key: str, number: int) -> Fault:
        return Problem(503, "draining") if stuck and key == "k40" else None

    with HttpMember(fault) as member:
        facts, failure = impatient(member, path)
        assert failure is not None
        assert (failure.named, facts["complete"], facts["read"]) == ("draining", False, 40)
        stuck = False
        facts, failure = impatient(member, path)
        assert (failure, facts["complete"], facts["resumed_at"]) == (None, True, 40)
        assert member.puts == dict.fromkeys(keys, 1)


def test_a_full_disk_stops_at_once_with_1_and_keeps_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"k{number}" for number in range(3000)]
    path = keys_file(tmp_path, keys)
    full = True

    def fault(method: str, key: str, number: int) -> Fault:
        return Problem(507, "disk_full") if full and number > 1500 else None

    with HttpMember(fault) as member:
        assert import_(member, path) == 1
        printed = capsys.readouterr()
        assert json.loads(printed.err.splitlines()[-1])["code"] == "disk_full"
        assert 1000 < json.loads(printed.out)["read"] <= 1500
        full = False
        assert import_(member, path) == 0
        facts = summary(capsys)
        assert facts["read"] == 3000
        assert facts["imported"] + facts["already_there"] == 3000
        assert member.puts == dict.fromkeys(keys, 1)


def test_nobody_there_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with HttpMember() as member:
        gone = member.url
    assert run(["import", str(keys_file(tmp_path, ["a"])), "--url", gone]) == 3
    assert "wavekv serve" in capsys.readouterr().err


def test_a_member_that_goes_away_midway_ends_with_3_and_the_import_goes_on_later(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(500)]
    path = keys_file(tmp_path, keys)
    with HttpMember(lambda method, key, number: CUT_BEFORE if number > 200 else None) as member:
        assert import_(member, path) == 3
        member.fault = lambda method, key, number: None
        assert import_(member, path) == 0
        assert member.puts == dict.fromkeys(keys, 1)


@pytest.mark.parametrize("cut", [CUT_BEFORE, CUT_AFTER])
def test_a_cut_connection_is_opened_again_and_its_record_is_not_put_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: str
) -> None:
    keys = [f"k{number}" for number in range(100)]
    with HttpMember(lambda method, key, number: cut if number in (10, 50) else None) as member:
        assert import_(member, keys_file(tmp_path, keys)) == 0
        assert member.puts == dict.fromkeys(keys, 1)
    assert summary(capsys)["imported"] == 100


def test_something_that_is_no_member_ends_the_import_instead_of_refusing_each_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with HttpMember(lambda method, key, number: Problem(405, "method_not_allowed")) as member:
        assert import_(member, keys_file(tmp_path, ["a", "b"])) == 1
    assert json.loads(capsys.readouterr().err)["code"] == "method_not_allowed"


def test_after_a_kill_no_finished_record_is_put_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Every other key comes again soon: a doubtful earlier record must not overwrite the later one, already right.
    rows = [(f"k{number if number % 2 else number % 200}", str(number)) for number in range(3400)]
    path = tmp_path / "again.csv"
    path.write_text("key,value\n" + "".join(f"{key},{value}\n" for key, value in rows))
    reached = threading.Event()
    hold = True

    def fault(method: str, key: str, number: int) -> Fault:
        if number == 2500:
            reached.set()
        return Problem(503, "starting") if hold and number >= 2500 else None

    with HttpMember(fault) as member:
        command = [sys.executable, "-m", "wavekv", "import", str(path), "--url", member.url]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            assert reached.wait(30)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        time.sleep(0.1)  # what the dead process sent may still be on its way
        done = json.loads(state_of(path).read_bytes())["progress"]["done"]
        assert done >= 1000
        hold = False
        assert import_(member, path) == 0
        assert len(member.written) == len(set(member.written))
        assert member.entries == {key: value.encode() for key, value in rows}
    facts = summary(capsys)
    assert (facts["read"], facts["resumed_at"]) == (3400, done)
    assert facts["imported"] + facts["already_there"] + facts["superseded"] == 3400
    assert facts["already_there"] > 0
    assert facts["superseded"] > 0


def test_rejects_behind_the_last_saved_statement_are_not_listed_twice(tmp_path: Path) -> None:
    path, rejects = keys_file(tmp_path, ["k" * 1025, "a", "b" * 1025]), tmp_path / "rejects"
    stuck = True

    def fault(method: str, key: str, number: int) -> Fault:
        return Problem(507, "disk_full") if stuck else None

    with HttpMember(fault) as member:
        assert import_(member, path, "--rejects", str(rejects)) == 1
        with rejects.open("a") as file:
            file.write("written after the last statement\n")
        stuck = False
        assert import_(member, path, "--rejects", str(rejects)) == 1
    assert [json.loads(line)["rejected"]["line"] for line in rejects.read_text().splitlines()] == [1, 3]


def interrupted(member: HttpMember, path: Path) -> None:
    member.fault = lambda method, key, number: Problem(507, "disk_full") if key == "b" else None
    assert import_(member, path) == 1
    member.fault = lambda method, key, number: None


def test_a_changed_input_is_refused_until_restarted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = keys_file(tmp_path, ["a", "b"])
    with HttpMember() as member:
        interrupted(member, path)
        path.write_text("c\nd\n")
        assert import_(member, path) == 2
        assert "--restart" in capsys.readouterr().err
        assert "c" not in member.entries
        assert import_(member, path, "--restart") == 0
        assert {"c", "d"} <= set(member.entries)


def test_another_member_or_other_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = keys_file(tmp_path, ["a", "b"])
    with HttpMember() as member, HttpMember() as other:
        interrupted(member, path)
        capsys.readouterr()
        assert import_(other, path) == 2
        assert f"into {member.url}" in capsys.readouterr().err
        assert import_(member, path, "--key-prefix", "p/") == 2
        assert "other options" in capsys.readouterr().err
        assert not other.entries


def test_a_state_file_that_is_not_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = keys_file(tmp_path, ["a"])
    state_of(path).write_text("{}")
    with HttpMember() as member:
        assert import_(member, path) == 2
    assert "cannot be understood" in capsys.readouterr().err


def test_stdin_is_imported_and_leaves_no_state(tmp_path: Path) -> None:
    with HttpMember() as member:
        command = [sys.executable, "-m", "wavekv", "import", "-", "--format", "lines", "--url", member.url]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(command, env=environment, input=b"a\nb\n", check=True, cwd=tmp_path, stderr=subprocess.DEVNULL)
        assert member.puts == {"a": 1, "b": 1}
    assert list(tmp_path.iterdir()) == []


@contextmanager
def reading(member: HttpMember, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    """Import stdin; give the process when it has stored a first batch and waits for more. `before` it: a wrapper."""
    command = [*before, sys.executable, "-m", "wavekv", "import", "-", "--format", "lines", "--url", member.url]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        # Enough lines to fill the first batch, so that the process is surely reading when it is given.
        child.stdin.write(b"a\n" * 200)
        child.stdin.flush()
        eventually(lambda: member.puts, 20, "a first record is stored")
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_while_stdin_is_silent_ends_quietly_with_130() -> None:
    with HttpMember() as member, reading(member) as child:
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
        assert child.stderr is not None
        assert child.stderr.read().strip() == b""


def test_an_import_in_the_background_of_a_shell_ignores_ctrl_c() -> None:
    with HttpMember() as member, reading(member, "sh", "-c", "trap '' INT; exec \"$@\"", "sh") as child:
        child.send_signal(signal.SIGINT)
        child.communicate(b"b\n", timeout=10)
        assert child.returncode == 0
        assert member.puts == {"a": 200, "b": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing-there.txt"],
        ["."],
        ["-"],
        ["-", "--format", "lines", "--restart"],
        ["-", "--format", "lines", "--state", "s"],
        ["keys.unknown"],
        ["keys.txt", "--connections", "0"],
        ["keys.txt", "--rejects", "no/such/folder"],
    ],
)
def test_usage_that_cannot_work_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.txt").write_text("a\n")
    assert run(["import", *arguments]) == 2


def test_a_csv_without_a_key_column_ends_with_2_and_leaves_no_state(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("name,value\na,1\n")
    assert run(["import", str(path)]) == 2
    assert list(tmp_path.iterdir()) == [path]
