"""Bytes become the same commands however they are cut, and a header that declares too much reserves nothing."""

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wavekv.resp.framing import BadProtocol, CommandReader
from wavekv.resp.inline import LINE_BYTES_MAX

BYTES_MAX, ARGUMENTS_MAX = 1000, 100
PAYLOAD = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [b"*99999999\r\n", b"\n*99999999\r\nx", b"|4294967295\r\n", b"*", b"\r\n*1", b"$3\r\nGET\r\n", b""]
    ),
)
COMMANDS = st.lists(st.lists(PAYLOAD, min_size=1, max_size=4), min_size=1, max_size=6)


def reader() -> CommandReader:
    return CommandReader(BYTES_MAX, ARGUMENTS_MAX)


def encoded(commands: list[list[bytes]]) -> bytes:
    return b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words) for words in commands
    )


def taken(commands: CommandReader) -> list[list[bytes]]:
    found = []
    while (words := commands.next()) is not None:
        found.append(words)
    return found


@given(COMMANDS, st.lists(st.integers(0, 400), max_size=8))
@example([[b"SET", b"k", b"a\r\n*99999999\r\n"], [b"PING"]], [20, 31, 32, 33])
def test_commands_are_the_same_however_the_bytes_are_cut(commands: list[list[bytes]], cuts: list[int]) -> None:
    data, parsed, found = encoded(commands), reader(), []
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    start = 0
    for end in ends:
        parsed.feed(data[start:end])
        found += taken(parsed)
        start = end
    assert found == commands


@given(COMMANDS)
def test_every_byte_may_come_alone(commands: list[list[bytes]]) -> None:
    parsed, found = reader(), []
    for byte in encoded(commands):
        parsed.feed(bytes([byte]))
        found += taken(parsed)
    assert found == commands


@pytest.mark.parametrize("kind", [b"*", b"~", b">", b"|"])
@pytest.mark.parametrize("before", [b"", b"*2\r\n$3\r\nGET\r\n", b"*1\r\n", encoded([[b"PING"]])])
@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_a_header_that_declares_too_much_is_refused_and_reserves_nothing(kind: bytes, before: bytes, cut: int) -> None:
    parsed = reader()
    header = kind + b"100000000\r\n"
    tracemalloc.start()
    try:
        parsed.feed(before + header[:cut])
        found = taken(parsed)
        parsed.feed(header[cut:])
        with pytest.raises(BadProtocol, match="multibulk length"):
            found += taken(parsed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert found == parsed_before(before)


def parsed_before(before: bytes) -> list[list[bytes]]:
    parsed = reader()
    parsed.feed(before)
    return taken(parsed)


def test_commands_before_a_broken_one_are_given_first() -> None:
    parsed = reader()
    parsed.feed(encoded([[b"PING"], [b"GET", b"k"]]) + b"*99999999\r\n")
    assert parsed.next() == [b"PING"]
    assert parsed.next() == [b"GET", b"k"]
    with pytest.raises(BadProtocol):
        parsed.next()
    parsed.feed(encoded([[b"PING"]]))
    with pytest.raises(BadProtocol):
        parsed.next()


def test_the_bounds_of_a_command_are_inclusive() -> None:
    parsed = reader()
    parsed.feed(encoded([[b"x"] * ARGUMENTS_MAX]))
    assert parsed.next() == [b"x"] * ARGUMENTS_MAX
    parsed.feed(b"*1\r\n$5000\r\n".ljust(BYTES_MAX, b"v"))
    assert parsed.next() is None
    parsed.feed(b"v")
    with pytest.raises(BadProtocol, match=f"command too long, it has more than {BYTES_MAX} bytes"):
        parsed.next()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"PING\n", [b"PING"]),
        (b"  set a\t b \r\n", [b"set", b"a", b"b"]),
        (b'SET a "two words"\r\n', [b"SET", b"a", b"two words"]),
        (b"SET a 'it\\'s \\n'\r\n", [b"SET", b"a", b"it's \\n"]),
        (b'SET a "\\x41\\n\\t\\"\\q"\r\n', [b"SET", b"a", b'A\n\t"q']),
        (b'SET a ""\r\n', [b"SET", b"a", b""]),
        (b'SET foo"bar"\r\n', [b"SET", b"foobar"]),
        (b"\r\n", []),
        (b"   \n", []),
    ],
)
def test_a_line_of_words_is_a_command_however_it_is_cut(line: bytes, words: list[bytes]) -> None:
    for size in (1, 2, 3, len(line)):
        parsed, found = reader(), []
        for start in range(0, len(line), size):
            parsed.feed(line[start : start + size])
            found += taken(parsed)
        assert found == [words]
        assert not parsed.midway


def test_lines_and_arrays_may_follow_each_other() -> None:
    parsed = reader()
    parsed.feed(b"PING\r\n\r\n" + encoded([[b"GET", b"k"]]) + b"ECHO x\n" + encoded([[b"PING"]]) + b"PI")
    assert taken(parsed) == [[b"PING"], [], [b"GET", b"k"], [b"ECHO", b"x"], [b"PING"]]
    assert parsed.midway


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"POST / HTTP/1.1\r\n", "no HTTP server"),
        (b"post x\r\n", "no HTTP server"),
        (b"Host: 127.0.0.1\r\n", "no HTTP server"),
        (b"GET / HTTP/1.1\r\n", "no HTTP server"),
        (b"\x16\x03\x01\x02\x00\r\nSET a b\r\n", "speaks no TLS"),
        (b"\x16\x03\x01", "speaks no TLS"),
        (b'SET a "b\r\n', "unbalanced quotes"),
        (b'SET a "b"c\r\n', "unbalanced quotes"),
        (b"SET a 'b\r\n", "unbalanced quotes"),
        (b"x" * (BYTES_MAX + 1), "too big inline request"),
    ],
)
def test_a_line_that_is_no_command_ends_the_connection(line: bytes, why: str) -> None:
    parsed = reader()
    parsed.feed(line)
    with pytest.raises(BadProtocol, match=why):
        parsed.next()


def test_a_line_of_exactly_the_bound_is_taken() -> None:
    parsed = CommandReader(1 << 20, ARGUMENTS_MAX)
    parsed.feed(b"ECHO ".ljust(LINE_BYTES_MAX, b"x") + b"\n")
    assert len(taken(parsed)[0][1]) == LINE_BYTES_MAX - len(b"ECHO ")
    parsed.feed(b"x" * (LINE_BYTES_MAX + 1))
    with pytest.raises(BadProtocol, match="too big inline request"):
        parsed.next()


def test_one_argument_too_many_is_refused() -> None:
    parsed = reader()
    parsed.feed(encoded([[b"x"] * (ARGUMENTS_MAX + 1)]))
    with pytest.raises(BadProtocol):
        parsed.next()


@pytest.mark.parametrize(
    "data", [b"$4\r\nPING\r\n", b":1\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-1\r\n", b"*1\r\n*1\r\n$1\r\na\r\n"]
)
def test_what_is_not_an_array_of_strings_is_refused(data: bytes) -> None:
    parsed = reader()
    parsed.feed(data)
    with pytest.raises(BadProtocol):
        parsed.next()


@pytest.mark.parametrize("header", [b"*0\r\n", b"*-1\r\n"])
def test_an_empty_array_is_an_empty_command(header: bytes) -> None:
    parsed = reader()
    parsed.feed(header + encoded([[b"PING"]]))
    assert taken(parsed) == [[], [b"PING"]]
