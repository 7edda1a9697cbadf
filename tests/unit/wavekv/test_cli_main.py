"""The entry point: errors become one line and an exit code, never a traceback."""

import io
import json
import logging
import subprocess
import sys

import click
import pytest

from wavekv.__main__ import run
from wavekv.cli.errors import MemberUnreachable, RefusedByMember
from wavekv.cli.logs import MESSAGE_CHARS_MAX, set_up_logging
from wavekv.cli.root import COMMANDS, cli
from wavekv.errors import BadHeader, UsageError, WaveKVError


def ends_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fail)
    return run([])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RefusedByMember(404, "not_found", "no such key"), 1, "wavekv: no such key [not_found]\n"),
        (UsageError("no"), 2, "wavekv: no [usage]\n"),
        (MemberUnreachable("nobody"), 3, "wavekv: nobody [unreachable]\n"),
        (BadHeader("broken"), 4, "wavekv: broken [wal_bad_header]\n"),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: WaveKVError, code: int, line: str
) -> None:
    assert ends_with(monkeypatch, error) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130_and_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    assert ends_with(monkeypatch, error) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["nothing"], ["get"], ["list", "--limit", "0"], ["serve", "--fsync-mode", "x"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert run(arguments) == 2


def test_help_lists_every_command_and_imports_none() -> None:
    program = (
        "import sys; from wavekv.__main__ import run; code = run(['--help']); "
        "sys.exit(code or any(name in sys.modules for name in ('aiohttp', 'rich', 'uvloop')))"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_there(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name


def logged(style: str, level: str, message: str = "hi you", error: Exception | None = None) -> str:
    stream, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers.clear()  # so that set-up does not close those of the test run
    try:
        set_up_logging(style, level, stream)
        logging.getLogger("wavekv.test").info("%s", message)
        try:
            raise error or ValueError("inside")
        except ValueError:
            logging.getLogger("wavekv.test").exception("bad")
        return stream.getvalue()
    finally:
        root.handlers[:], root.level = before


def test_json_logs_are_an_object_a_line_with_the_traceback_inside() -> None:
    first, second = (json.loads(line) for line in logged("json", "info").splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "wavekv.test", "hi you")
    assert first["time"].endswith("Z")
    assert "ValueError: inside" in second["exception"]


def test_text_logs_begin_with_time_and_level_and_obey_the_level() -> None:
    lines = logged("text", "error").splitlines()
    assert lines[0].split()[1:] == ["ERROR", "wavekv.test", "bad"]


FORGED = "refused /x\n2026-01-01T00:00:00.000Z INFO    wavekv all is well\r\x1b[2K\u2028\u202e\udc80 end"


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_words_of_a_stranger_make_a_line_of_their_own(style: str) -> None:
    lines = logged(style, "info", FORGED).splitlines()
    assert sum("all is well" in line for line in lines) == 1
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert not any(char in line for line in lines for char in "\x1b\r\u2028\u202e\udc80")
    assert "end" in next(line for line in lines if "all is well" in line)


@pytest.mark.parametrize("length", [MESSAGE_CHARS_MAX, MESSAGE_CHARS_MAX + 1])
def test_a_long_message_is_cut_and_says_so(length: int) -> None:
    line = logged("text", "info", "x" * length).splitlines()[0]
    assert line.count("x") == MESSAGE_CHARS_MAX
    assert ("characters)" in line) == (length > MESSAGE_CHARS_MAX)


def test_a_traceback_holds_no_line_that_could_pass_for_another_event() -> None:
    traceback = logged("text", "info", "hi", ValueError("bad\n2026-01-01T00:00:00.000Z INFO forged")).splitlines()[2:]
    assert any("forged" in line for line in traceback)
    assert all(line.startswith("    ") for line in traceback)


@pytest.mark.parametrize(
    ("mistyped", "meant"), [("statsu", "status"), ("set", "put"), ("ls", "list"), ("exprot", "export")]
)
def test_a_mistyped_command_gets_a_suggestion(mistyped: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([mistyped]) == 2
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err
    assert run(["xyzzy"]) == 2
    assert "See wavekv --help" in capsys.readouterr().err
