"""What a command does with outputs that cannot be written, inputs that are closed, and words that are not UTF-8."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.fakes.http_member import HttpMember
from wavekv.__main__ import run

MANY = {f"k{number:04}": b"v" * 500 for number in range(2000)}


def command(*arguments: str | bytes) -> list[str | bytes]:
    return [sys.executable, "-m", "wavekv", *arguments]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WAVEKV_")}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | more


def through_shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose streams a shell redirects."""
    line = f'exec "$@" {redirection}'
    words = ["sh", "-c", line, "sh", *map(str, command(*arguments))]
    return subprocess.run(words, env=environment(), capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
@pytest.mark.parametrize(
    "arguments",
    [("get", "k0000"), ("list", "--all"), ("export",), ("export", "-"), ("put", "a", "b"), ("status",), ("--help",)],
)
def test_an_output_that_cannot_be_written_ends_in_one_line_and_with_1(
    redirection: str, arguments: tuple[str, ...]
) -> None:
    with HttpMember() as member:
        member.entries = dict(MANY)
        target = [] if arguments == ("--help",) else ["--url", member.url]
        done = through_shell(redirection, *arguments, *target)
    assert done.returncode == 1
    assert done.stderr.startswith(b"wavekv: the output cannot be written: ")
    assert done.stderr.count(b"\n") == 1


def test_an_error_that_nobody_can_read_keeps_its_exit_code() -> None:
    for redirection in ("2> /dev/full", "2>&-"):
        assert through_shell(redirection, "get", "k", "--url", "http://127.0.0.1:1").returncode == 3


@pytest.mark.parametrize("arguments", [("put", "k", "-"), ("import", "-", "--format", "lines")])
def test_a_closed_stdin_is_told_and_stores_nothing(arguments: tuple[str, ...]) -> None:
    with HttpMember() as member:
        done = through_shell("<&-", *arguments, "--url", member.url)
        assert not member.puts
    assert done.returncode == 2
    assert b"stdin" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_letters_that_a_terminal_lacks_are_escaped_and_json_stays_json(json_too: list[str]) -> None:
    entries = {"ä": "€ 𝄞".encode()}
    with HttpMember() as member:
        member.entries = dict(entries)
        done = subprocess.run(
            command("list", "--url", member.url, *json_too),
            env=environment(PYTHONIOENCODING="latin-1"),
            capture_output=True,
            check=True,
        )
    if json_too:
        found = json.loads(done.stdout.decode("latin-1"))
        assert (found["key"], found["value"]) == ("ä", "€ 𝄞")
    else:
        assert done.stdout == b"\xe4\t\\u20ac \\ud834\\udd1e\n"


def test_an_export_goes_into_a_fifo_and_leaves_it_one(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    with HttpMember() as member:
        member.entries = dict(MANY)
        assert run(["export", str(fifo), "--url", member.url]) == 0
    reader.join(10)
    assert read[0].count(b"\n") == len(MANY)
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_an_export_onto_a_full_device_ends_with_1_and_leaves_it(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with HttpMember() as member:
        member.entries = dict(MANY)
        assert run(["export", "/dev/full", "--url", member.url]) == 1
    assert b"No space left on device" in capfdbinary.readouterr().err
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_an_export_follows_a_link_and_keeps_the_mode_of_what_is_there(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with HttpMember() as member:
        member.entries = {"a": b"1"}
        assert run(["export", str(link), "--url", member.url]) == 0
    assert link.is_symlink()
    assert real.read_text() == '{"key":"a","value":"1"}\n'
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.jsonl", "real.jsonl"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", b"k\xff"],
        ["put", b"k\xff", "v"],
        ["delete", b"k\xff"],
        ["list", "--prefix", b"\xff"],
        ["list", "--after", b"\xff"],
        ["watch", "--prefix", b"\xff"],
        ["watch", "--key", b"\xff"],
        ["watch", "--since", b"\xff"],
        ["explain", b"\xff"],
        ["export", "--prefix", b"k\xff"],
        ["import", "-", "--format", "lines", "--key-prefix", b"\xc3"],
        ["import", "-", "--format", "lines", "--comment-prefix", b"\xff"],
        ["get", "k", "--session", b"\xff"],
        ["put", "k", "v", "--if-match", b"\xff"],
        ["put", "k", "v", "--ttl", b"\xff"],
        ["put", "k", "v", "--durability", b"\xff"],
    ],
)
def test_words_that_are_not_utf8_are_refused_and_never_stripped(arguments: list[str | bytes]) -> None:
    with HttpMember() as member:
        member.entries = {"k": b"1"}
        done = subprocess.run(
            command(*arguments, "--url", member.url), env=environment(), input=b"a\n", capture_output=True, check=False
        )
        assert member.entries == {"k": b"1"}
    assert done.returncode == 2 or (b"invalid_key" in done.stderr and done.returncode == 1)
    assert b"not UTF-8" in done.stderr
    assert done.stdout == b""


def test_a_value_may_be_any_bytes() -> None:
    with HttpMember() as member:
        subprocess.run(
            command("put", "k", b"\xff", "--url", member.url), env=environment(), capture_output=True, check=True
        )
        assert member.entries == {"k": b"\xff"}


def test_errors_are_json_where_json_is_asked_for() -> None:
    for arguments, code in ((["get", "k", "--url", "http://127.0.0.1:1"], 3), (["list", "--limit", "x"], 2)):
        done = subprocess.run(command(*arguments, "--json"), env=environment(), capture_output=True, check=False)
        assert done.returncode == code
        found = json.loads(done.stderr)
        assert found["exit_code"] == code
        assert found["code"] == ("unreachable" if code == 3 else "usage")
        assert found["detail"]


def test_every_form_of_an_export_is_imported_again_to_the_same_entries(tmp_path: Path) -> None:
    entries = {
        'a,"b"': b'"x"\r\ny',
        "ä\n": b"\xff\x00",
        "e": b"",
        "n": b"\x00",
        "=1+1": b"=cmd",
        "s;t": b"\xef\xbb\xbfz",
    }
    for form, suffix in (("jsonl", "jsonl"), ("csv", "csv"), ("consul", "json")):
        path = tmp_path / f"all.{suffix}"
        with HttpMember() as source, HttpMember() as sink:
            source.entries = dict(entries)
            assert run(["export", str(path), "--format", form, "--url", source.url]) == 0
            style = ["--format", "consul"] if form == "consul" else []
            assert run(["import", str(path), *style, "--url", sink.url]) == 0
            assert sink.entries == entries


def test_what_a_form_has_no_place_for_is_refused_unless_it_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    with HttpMember() as member:
        member.entries, member.expiring = {"a": b"1"}, {"a": 1_900_000_000_000}
        consul = ["export", str(path), "--format", "consul", "--url", member.url]
        assert run(consul) == 2
        assert not path.exists()
        assert run([*consul, "--drop", "expires_at"]) == 0
        assert json.loads(path.read_text()) == [{"key": "a", "flags": 0, "value": "MQ=="}]


def on_a_terminal(*arguments: str) -> tuple[str, int]:
    """Run a command whose stdout and stderr are a terminal; return what it showed, and its exit code."""
    outer, inner = os.openpty()
    with subprocess.Popen(command(*arguments), env=environment(TERM="dumb"), stdout=inner, stderr=inner) as child:
        os.close(inner)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says EIO once the other side is closed
            while piece := os.read(outer, 65536):
                shown += piece
        code = child.wait(30)
    os.close(outer)
    return shown.decode(), code


def test_a_value_that_is_no_text_does_not_flood_a_terminal() -> None:
    with HttpMember() as member:
        member.entries = {"bin": b"\x1b[2J\xff" * 100_000, "text": b"two\nlines", "long": b"x" * 100_000}
        shown, code = on_a_terminal("get", "bin", "--url", member.url)
        assert code == 0
        assert "\x1b" not in shown
        assert "500000 bytes that are no text" in shown
        assert len(shown) < 8192
        assert on_a_terminal("get", "text", "--url", member.url) == ("two\r\nlines", 0)
        listed, _ = on_a_terminal("list", "--url", member.url)
        assert "... (100000 bytes)" in listed
        assert len(listed) < 16384
