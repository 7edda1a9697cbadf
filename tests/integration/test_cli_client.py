"""The commands of a client against a fake member over real sockets."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.http_member import CUT_BEFORE, HttpMember, Problem
from wavekv.__main__ import run

Captured = pytest.CaptureFixture[bytes]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAVEKV_URL", raising=False)
    monkeypatch.delenv("WAVEKV_SOCKET", raising=False)


def test_a_value_comes_back_byte_for_byte(tmp_path: Path, capfdbinary: Captured) -> None:
    value = b"\x00\xff\n"
    (tmp_path / "v").write_bytes(value)
    with HttpMember() as member:
        assert run(["put", "a/ä", "--file", str(tmp_path / "v"), "--url", member.url]) == 0
        assert "created" in capfdbinary.readouterr().out.decode()
        assert run(["get", "a/ä", "--url", member.url]) == 0
        assert capfdbinary.readouterr().out == value
        assert run(["get", "a/ä", "--url", member.url, "--json"]) == 0
        expected = {"key": "a/ä", "value_base64": base64.b64encode(value).decode(), "etag": "1000.1.1"}
        assert json.loads(capfdbinary.readouterr().out) == expected


def test_stdin_is_a_value() -> None:
    with HttpMember() as member:
        command = [sys.executable, "-m", "wavekv", "put", "k", "-", "--url", member.url]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(command, env=environment, input=b"\xffx", check=True, capture_output=True)
        assert member.entries == {"k": b"\xffx"}


@pytest.mark.parametrize("arguments", [["get", "k"], ["delete", "k"]])
def test_an_absent_key_is_1_with_the_members_own_words(arguments: list[str], capfdbinary: Captured) -> None:
    with HttpMember() as member:
        assert run([*arguments, "--url", member.url]) == 1
    assert capfdbinary.readouterr() == (b"", b"wavekv: the member says not_found [not_found]\n")


def test_a_deleted_key_is_gone() -> None:
    with HttpMember() as member:
        member.entries["k"] = b"v"
        assert run(["delete", "k", "--url", member.url]) == 0
        assert member.entries == {}


@pytest.mark.parametrize("value", [[], ["v", "--file", "f"], ["--file", "no/such/file"]])
def test_put_without_exactly_one_readable_value_is_2(value: list[str]) -> None:
    assert run(["put", "k", *value]) == 2


def test_a_value_is_stored_at_1_mib_and_refused_beyond(tmp_path: Path, capfdbinary: Captured) -> None:
    path = tmp_path / "v"
    with HttpMember() as member:
        path.write_bytes(bytes(1 << 20))
        assert run(["put", "k", "--file", str(path), "--url", member.url]) == 0
        path.write_bytes(bytes((1 << 20) + 1))
        assert run(["put", "k", "--file", str(path), "--url", member.url]) == 1
        assert member.puts == {"k": 1}
    assert b"[value_too_large]" in capfdbinary.readouterr().err


@pytest.mark.parametrize("arguments", [["get", "k"], ["put", "k", "v"], ["list"], ["status"], ["export"]])
def test_nobody_there_is_3_for_every_command(arguments: list[str], tmp_path: Path) -> None:
    with HttpMember() as member:
        gone = member.url
    assert run([*arguments, "--url", gone]) == 3
    assert run([*arguments, "--socket", str(tmp_path / "none")]) == 3


def test_a_cut_connection_is_3() -> None:
    with HttpMember(lambda method, key, number: CUT_BEFORE) as member:
        assert run(["put", "k", "v", "--url", member.url]) == 3


def test_a_refusal_is_1_with_its_code(capfdbinary: Captured) -> None:
    with HttpMember(lambda method, key, number: Problem(507, "disk_full")) as member:
        assert run(["put", "k", "v", "--url", member.url]) == 1
    assert b"[disk_full]" in capfdbinary.readouterr().err


def test_a_socket_variable_wins_over_a_url_variable_and_a_flag_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = str(tmp_path / "s")
    with HttpMember(socket=socket) as behind_socket, HttpMember() as other:
        monkeypatch.setenv("WAVEKV_SOCKET", socket)
        monkeypatch.setenv("WAVEKV_URL", "http://127.0.0.1:1")
        assert run(["put", "k", "v"]) == 0
        assert run(["put", "k", "v", "--url", other.url]) == 0
        assert behind_socket.puts == other.puts == {"k": 1}


def test_a_listing_stops_at_its_limit_and_says_how_to_go_on(capfdbinary: Captured) -> None:
    with HttpMember() as member:
        member.entries = {"a": b"1\t2", "b\n": b"\xff", "c": b"3"}
        assert run(["list", "--limit", "2", "--url", member.url]) == 0
        out, err = capfdbinary.readouterr()
        assert out.decode() == "a\t1\\t2\nb\\n\t\\xff\n"
        assert b"--after b\\n" in err
        assert run(["list", "--limit", "3", "--keys-only", "--url", member.url]) == 0
        assert capfdbinary.readouterr() == (b"a\nb\\n\nc\n", b"")


def test_all_pages_are_listed_as_json_lines(capfdbinary: Captured) -> None:
    with HttpMember() as member:
        member.entries = {f"k{number:04}": b"v" for number in range(2500)} | {"x": b""}
        assert run(["list", "--all", "--prefix", "k", "--after", "k0009", "--json", "--url", member.url]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["key"] for line in lines] == [f"k{number:04}" for number in range(10, 2500)]
    assert lines[0] == {"key": "k0010", "value": "v", "etag": "1000.1.0"}


def test_a_reader_that_closes_its_end_causes_no_traceback() -> None:
    with HttpMember() as member:
        member.entries = {f"k{number:04}": b"v" * 500 for number in range(2000)}
        command = [sys.executable, "-m", "wavekv", "list", "--all", "--url", member.url]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            assert child.stdout.readline().startswith(b"k0000\t")
            child.stdout.close()
            assert child.stderr.read() == b""


def test_an_export_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with HttpMember() as member:
        gone = member.url
    assert run(["export", str(tmp_path / "out"), "--url", gone]) == 3
    assert list(tmp_path.iterdir()) == []
    with HttpMember() as member:
        assert run(["export", str(tmp_path / "no" / "out"), "--url", member.url]) == 1


def test_an_export_to_stdout_is_data_alone(capfdbinary: Captured) -> None:
    with HttpMember() as member:
        member.entries = {"a": b"1", "b": b"\xff", "c": b"3"}
        assert run(["export", "--url", member.url]) == 0
    out, err = capfdbinary.readouterr()
    assert out == b'{"key":"a","value":"1"}\n{"key":"b","value_base64":"/w=="}\n{"key":"c","value":"3"}\n'
    assert err == b""


STATUS = {
    "name": "m0",
    "node_id": 7,
    "version": "0.1.0",
    "cluster_id": "c",
    "phase": "ready",
    "healing": True,
    "uptime_seconds": 93784.0,
    "store": {"entries": 1200, "live": 1100, "bytes": 2048},
    "recovery": {"damage": "torn_tail", "records": 5, "seconds": 0.25},
    "membership": {"epoch": 3, "members": [1, 2]},
    "converged": True,
    "converged_since": 86400.5,
    "refused": {"future": 2, "limits": 0},
    "peers": [
        {"name": "m1", "url": "http://p", "reachable": False, "lag": 4, "lag_seconds": 1.5, "last_error": "[x]"},
    ],
}


def test_status_reads_well_and_json_passes_it_on(capfdbinary: Captured) -> None:
    with HttpMember() as member:
        member.status = STATUS
        assert run(["status", "--url", member.url]) == 0
        shown = capfdbinary.readouterr().out.decode()
        assert run(["status", "--json", "--url", member.url]) == 0
        assert json.loads(capfdbinary.readouterr().out) == STATUS
    for part in (
        "m0 (node 7",
        "ready, healing, up 1 d 2 h",
        "1,100 live",
        "2.0 KiB",
        "torn_tail",
        "2 members, epoch 3",
    ):
        assert part in shown
    assert "yes, since 1970-01-02 00:00:00+00:00" in shown
    for part in ("future 2", "m1", "never", "4 (1.5 s)", "[x]"):
        assert part in shown
    assert "limits" not in shown


@pytest.mark.parametrize("answer", [{}, {"peers": [{}], "store": None, "membership": {"members": 3}}])
def test_a_status_with_gaps_still_shows(answer: dict[str, object], capfdbinary: Captured) -> None:
    with HttpMember() as member:
        member.status = answer
        assert run(["status", "--url", member.url]) == 0
    assert b"member" in capfdbinary.readouterr().out


def test_status_and_the_live_table_fit_80_columns(capfdbinary: Captured) -> None:
    peers = [
        {"name": f"wavekv-{i}", "url": f"https://wavekv-{i}.wavekv-peers.some-namespace.svc.cluster.local:7072"}
        | {"reachable": True, "last_heard_seconds": 3661.0, "lag": 1_234_567, "lag_seconds": 86_400.0}
        | {"behind": 9_999, "propagation_seconds": 1.25, "clock_skew_ms": -12, "last_error": "no answer in time " * 5}
        for i in range(3)
    ]
    with HttpMember() as member:
        member.status = STATUS | {"peers": peers}
        assert run(["status", "--url", member.url]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("1,234,567" in line for line in lines)
