"""The plan and the words of `wavekv local`: ports, cluster id, table and lines."""

import io
import json
import re
import socket
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from rich.cells import cell_len
from rich.console import Console

from wavekv.__main__ import run
from wavekv.cli.engine_settings import EngineFlags
from wavekv.cli.local_plan import check_ports, cluster_id_of, plan_members, serve_arguments
from wavekv.cli.local_view import Lines, greeting, table
from wavekv.cli.serve import serve
from wavekv.cli.serve_settings import ServeFlags, settings_from
from wavekv.cli.supervisor import Supervised, last_lines
from wavekv.config import Address, CompactionSettings, Limits, MemberSettings, PeerAddress, TlsFiles
from wavekv.errors import DirectoryUnusable, PortTaken, UsageError


def settings_of(arguments: list[str]) -> MemberSettings:
    context = serve.make_context("serve", arguments[1:])
    flags = {name: value for name, value in context.params.items() if not name.startswith("log_")}
    return settings_from(ServeFlags(**flags))


def test_members_are_ten_ports_apart_and_keep_data_and_logs_apart(tmp_path: Path) -> None:
    plans = plan_members(3, 7070, tmp_path)
    assert [(plan.name, plan.port, plan.metrics_port) for plan in plans] == [
        ("m0", 7070, 7073),
        ("m1", 7080, 7083),
        ("m2", 7090, 7093),
    ]
    assert plans[1].data_dir == tmp_path / "m1"
    assert plans[1].log == tmp_path / "logs" / "m1.log"


def test_ports_end_at_65535() -> None:
    assert plan_members(2, 65522, Path())[1].metrics_port == 65535
    with pytest.raises(UsageError):
        plan_members(2, 65523, Path())
    with pytest.raises(UsageError):
        plan_members(1, 0, Path())


def test_serve_takes_the_arguments_and_knows_the_others_as_peers(tmp_path: Path) -> None:
    plans = plan_members(3, 7070, tmp_path)
    folder = tmp_path / "certificates"
    arguments = serve_arguments(plans[1], plans, "0123456789abcdef0123456789abcdef", folder, EngineFlags())
    settings = settings_of(arguments)
    assert settings.name == "m1"
    assert settings.tls == TlsFiles(folder / "m1.pem", folder / "m1.key", folder / "authority.pem")
    assert not settings.insecure_peers
    assert settings.peer_listen == Address("127.0.0.1", 7082)
    assert settings.metrics_listen == Address("127.0.0.1", 7083)
    assert settings.peers == (PeerAddress("m0", "https://127.0.0.1:7072"), PeerAddress("m2", "https://127.0.0.1:7092"))


def test_limits_and_compaction_are_handed_on_to_every_member(tmp_path: Path) -> None:
    plans = plan_members(2, 7070, tmp_path)
    given = EngineFlags(limit_entries="10", limit_bytes="2Mi", limit_key_bytes="3", compact_age="60")
    for plan in plans:
        settings = settings_of(serve_arguments(plan, plans, "0123456789abcdef0123456789abcdef", tmp_path, given))
        assert settings.limits == replace(Limits(), entries_max=10, bytes_max=2 << 20, key_bytes_max=3)
        assert settings.compaction == replace(CompactionSettings(), age_ms_max=60_000)


@pytest.mark.parametrize("flag", ["--limit-bytes", "--compact-log-bytes"])
def test_a_limit_that_is_none_is_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert run(["local", "--data-dir", str(tmp_path / "d"), flag, "1Ki"]) == 2
    assert f"{flag} 1Ki is outside 1Mi" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_a_folder_keeps_its_cluster_id(tmp_path: Path) -> None:
    first = cluster_id_of(tmp_path / "a")
    assert cluster_id_of(tmp_path / "a") == str(UUID(first))
    assert cluster_id_of(tmp_path / "b") != first


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"cluster_id": "x"}), json.dumps({"cluster_id": 1})])
def test_a_cluster_file_that_is_not_one_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cluster.json").write_text(content)
    with pytest.raises(DirectoryUnusable):
        cluster_id_of(tmp_path)
    assert (tmp_path / "cluster.json").read_text() == content


def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryUnusable):
        cluster_id_of(tmp_path / "file")


def test_the_greeting_says_how_to_write_on_one_member_and_read_on_another() -> None:
    text = greeting(plan_members(3, 7070, Path("d")), Path("d"))
    assert "curl -X PUT --data-binary hello http://127.0.0.1:7070/v1/kv/greeting" in text
    assert "curl http://127.0.0.1:7090/v1/kv/greeting" in text
    assert "redis-cli -p 7071 SET" in text
    assert "redis-cli -p 7091 GET" in text


def test_a_line_is_said_once_until_something_changes(capsys: pytest.CaptureFixture[str]) -> None:
    member = Supervised(plan_members(1, 7070, Path("d"))[0], [])
    lines = Lines([member])
    lines.refresh()
    lines.refresh()
    assert capsys.readouterr().out.count("\n") == 1
    member.status = {"store": {"live": 1200}, "peers": [{"lag": 1}, {"lag": 30}, {"lag": None}], "converged": True}
    lines.refresh()
    assert "entries=1,200 lag=30 converged=yes" in capsys.readouterr().out


def test_the_table_has_a_row_for_each_member() -> None:
    assert table([Supervised(plan, []) for plan in plan_members(3, 7070, Path("d"))]).row_count == 3


def test_the_last_ten_lines_of_a_log_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert last_lines(log).split("\n") == [f"  line {number}" for number in range(4990, 5000)]
    log.write_text("")
    assert last_lines(log) == "  (empty)"
    assert "No such file" in last_lines(tmp_path / "none")


def test_the_table_fits_80_columns_and_no_colour_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    members = [Supervised(plan, []) for plan in plan_members(3, 17070, Path("d"))]
    members[0].status = {"phase": "superseded", "store": {"live": 1_000_000}, "peers": [{"lag": 9_999_999}]}
    members[1].restarts = 100
    output = io.StringIO()
    Console(file=output, width=200, force_terminal=True).print(table(members))
    assert max(cell_len(re.sub("\x1b\\[[0-9;]*m", "", line)) for line in output.getvalue().splitlines()) <= 80
    assert "\x1b[3" not in output.getvalue()


def test_a_port_that_cannot_be_had_says_how_to_choose_others(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortTaken, match='wavekv local --base-port 17070, or make local ARGS="--base-port 17070"'):
            check_ports(plan_members(1, taken.getsockname()[1], tmp_path))


def test_what_a_cluster_leaves_is_ignored_by_git(tmp_path: Path) -> None:
    cluster_id_of(tmp_path / "d")
    assert (tmp_path / "d" / ".gitignore").read_text() == "*\n"
