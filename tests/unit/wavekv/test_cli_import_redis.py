"""Dumps and append-only files of Redis as inputs of an import: strings are read, all else is refused whole."""

import io
import struct

import pytest

from wavekv.cli.import_reader import Reading, Record
from wavekv.cli.import_redis import crc64
from wavekv.cli.import_units import units
from wavekv.errors import UsageError

pytest.importorskip("rdb")
EXPIRY = 1_900_000_000_000


def text(word: bytes) -> bytes:
    return bytes([len(word)]) + word


def dump(*entries: bytes, keys: int | None = None, database: int = 0) -> bytes:
    """A dump of version 11 with its checksum."""
    count = len(entries) if keys is None else keys
    body = b"REDIS0011\xfa" + text(b"redis-ver") + text(b"7.2.0")
    body += bytes([0xFE, database, 0xFB, count, 0]) + b"".join(entries) + b"\xff"
    return body + struct.pack("<Q", crc64(body))


A = b"\x00" + text(b"a") + text(b"\xff\x00")
B = b"\xfc" + struct.pack("<Q", EXPIRY) + b"\x00" + text(b"b") + b"\xc0\x2a"
"""The second has an expiry, and the number 42 as Redis packs it."""
BOTH = [Record(1, "a", b"\xff\x00"), Record(2, "b", b"42", EXPIRY)]


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def read(style: str, content: bytes) -> list[object]:
    return list(units(io.BytesIO(content), Reading(style)))  # type: ignore[arg-type]


def test_the_checksum_is_redis_own() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA


def test_a_dump_is_read_with_its_expiries() -> None:
    assert read("rdb", dump(A, B)) == BOTH


@pytest.mark.parametrize("at", [3, 12, 40, -12, -1])
def test_a_dump_with_a_changed_byte_is_refused_whole(at: int) -> None:
    changed = bytearray(dump(A, B))
    changed[at] ^= 1
    with pytest.raises(UsageError):
        read("rdb", bytes(changed))


def test_a_dump_cut_anywhere_is_refused_whole() -> None:
    whole = dump(A, B)
    for length in range(len(whole)):
        with pytest.raises(UsageError):
            read("rdb", whole[:length])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (dump(A, b"\x02" + text(b"s") + b"\x01" + text(b"x")), '"s" of the dump is a set'),
        (dump(A, keys=2), "holds 2 keys, 1 of them strings"),
        (dump(A, database=1), "database 1"),
    ],
)
def test_a_dump_of_more_than_strings_is_refused_whole(content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read("rdb", content)


def packed(claimed: bytes, body: bytes = b"\x00a") -> bytes:
    """An entry whose value is LZF that says how long it will be."""
    return b"\x00" + text(b"k") + b"\xc3" + bytes([len(body)]) + claimed + body


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (packed(b"\x80" + struct.pack(">I", 0xFFFFFFF0)), "say they unpack to 4294967280"),
        (packed(b"\x81" + struct.pack(">Q", 1 << 60)), "say they unpack to"),
        (packed(struct.pack(">H", 0x4000 | 2 * 264 + 1)), "say they unpack to 529"),
        (b"\x00" + text(b"k") + b"\x81" + struct.pack(">Q", 1 << 60), "beyond its end"),
        (b"\x00" + text(b"k") + b"\xc4", "damaged at byte"),
        (b"\x00" + b"\x90", "damaged at byte"),
        (b"\xf5" + text(b"x"), "functions or data of a module"),
        (b"\x63" + text(b"k"), "value of type 99"),
    ],
)
def test_a_length_that_lies_is_refused_before_the_library_believes_it(entry: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read("rdb", dump(entry))


def test_what_is_packed_is_read_where_its_length_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dump(packed(b"\x09", b"\x00a\xc0\x00"))
    assert read("rdb", whole) == [Record(1, "k", b"a" * 9)]
    monkeypatch.setattr("wavekv.cli.import_rdb.UNPACKED_BYTES_MAX", 9)
    assert len(read("rdb", whole)) == 1
    monkeypatch.setattr("wavekv.cli.import_rdb.UNPACKED_BYTES_MAX", 8)
    with pytest.raises(UsageError, match="unpack to more than 8 bytes"):
        read("rdb", whole)


@pytest.mark.parametrize("digits", [20, 5000])
def test_a_time_that_no_number_holds_is_refused(digits: int) -> None:
    with pytest.raises(UsageError, match='"SET" of 4 words'):
        read("aof", command(b"SET", b"a", b"1", b"PXAT", b"1" * digits))
    with pytest.raises(UsageError, match='"PEXPIREAT" of 2 words'):
        read("aof", command(b"SET", b"a", b"1") + command(b"PEXPIREAT", b"a", b"1" * digits))


def test_an_append_only_file_is_read_to_what_it_comes_to() -> None:
    log = command(b"SELECT", b"0") + b"#TS:1700000000\r\n" + command(b"SET", b"a", b"1") + command(b"MULTI")
    log += command(b"set", b"b", b"2", b"PXAT", b"%d" % EXPIRY) + command(b"MSET", b"c", b"3", b"d", b"4")
    log += (
        command(b"EXEC")
        + command(b"DEL", b"a")
        + command(b"PEXPIREAT", b"c", b"%d" % EXPIRY)
        + command(b"PERSIST", b"b")
    )
    assert read("aof", log) == [Record(1, "b", b"2"), Record(2, "c", b"3", EXPIRY), Record(3, "d", b"4")]


def test_an_append_only_file_may_begin_with_a_dump() -> None:
    assert read("aof", dump(A, B) + command(b"SET", b"c", b"3")) == [*BOTH, Record(3, "c", b"3")]
    assert read("aof", dump(A, B)) == BOTH


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (command(b"INCR", b"a"), '"INCR"'),
        (command(b"SET", b"a", b"1", b"EX", b"10"), '"SET" of 4 words'),
        (command(b"SELECT", b"1"), '"SELECT"'),
        (command(b"DEL", b"a"), "one part of several"),
        (command(b"SET", b"a", b"1")[:-3], "breaks off"),
        (command(b"SET", b"a", b"1")[:-20], "breaks off"),
        (b"SET a 1\r\n", "breaks off"),
    ],
)
def test_a_log_of_more_than_strings_or_a_part_of_one_is_refused_whole(log: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read("aof", command(b"SET", b"z", b"1") + log)
