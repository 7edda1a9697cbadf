"""Bytes become the same commands however they are cut, and a header that declares too much reserves nothing."""

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wavekv.resp.framing import BadProtocol, CommandReader

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


def test_an_inline_command_is_told_that_there_are_none() -> None:
    parsed = reader()
    parsed.feed(b"PING\r\n")
    with pytest.raises(BadProtocol, match="inline commands are not taken"):
        parsed.next()


def test_one_argument_too_many_is_refused() -> None:
    parsed = reader()
    parsed.feed(encoded([[b"x"] * (ARGUMENTS_MAX + 1)]))
    with pytest.raises(BadProtocol):
        parsed.next()


@pytest.mark.parametrize(
    "data", [b"PING\r\n", b"$4\r\nPING\r\n", b":1\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-1\r\n", b"*1\r\n*1\r\n$1\r\na\r\n"]
)
def test_what_is_not_an_array_of_strings_is_refused(data: bytes) -> None:
    parsed = reader()
    parsed.feed(data)
    with pytest.raises(BadProtocol):
        parsed.next()


def test_an_empty_array_is_an_empty_command() -> None:
    parsed = reader()
    parsed.feed(b"*0\r\n" + encoded([[b"PING"]]))
    assert taken(parsed) == [[], [b"PING"]]
