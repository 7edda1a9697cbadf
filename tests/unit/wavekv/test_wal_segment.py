"""Reading one segment: the cause of damage, and what lies behind it."""

import os
from zlib import crc32

import pytest

from tests.fakes.log import EVERY_OP, entry
from wavekv.core.codec.records import decode_header, encode_group, encode_header, encode_record
from wavekv.core.ops import Clear, Op, Set, SetNextSeq
from wavekv.errors import BadHeader, NewerVersion
from wavekv.wal.segment import (
    Cause,
    Damage,
    Reader,
    Scan,
    Sequences,
    find_group_start,
    read_header,
    replay,
    segment_name,
    segment_number,
)

HEADER = encode_header(1, 0)
FIRST, _ = encode_group([Clear("a")], 1, 2)
SECOND, _ = encode_group([Clear("b")], 3, 3)
END = len(HEADER) + len(FIRST)


def scan(data: bytes) -> tuple[Scan, list[Op], Sequences]:
    ops: list[Op] = []
    sequences = Sequences()
    return replay(data, decode_header(data), ops.append, sequences), ops, sequences


def damage(rest: bytes) -> Damage | None:
    found, ops, _ = scan(HEADER + FIRST + rest)
    assert ops == [SetNextSeq(2), Clear("a")]
    assert found.valid_end == END
    reader = Reader(HEADER + FIRST + rest, decode_header(HEADER))
    assert len(list(reader)) == 2
    assert reader.damage == found.damage
    return found.damage


def unknown(op: bytes) -> bytes:
    body = b"\x05" + op + b"\xfc" + crc32(op).to_bytes(4, "little")
    return len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("zeros", [0, 1, 3, 4, 5000])
def test_the_end_and_preallocated_zeros_are_no_damage(zeros: int) -> None:
    assert damage(bytes(zeros)) is None


@pytest.mark.parametrize(
    ("rest", "cause"),
    [
        (SECOND[:3], Cause.TORN_TAIL),
        (SECOND[:9], Cause.TORN_TAIL),
        (bytes(4) + b"x", Cause.TORN_TAIL),
        (b"\xff\xff\xff\xff" + SECOND[4:11], Cause.TORN_TAIL),
        (SECOND[:-1].replace(b"\x06\x03", b"\x06\x04"), Cause.CRC_MISMATCH),
        (b"\x02\0\0\0\x01\x01", Cause.UNDECODABLE),
        (unknown(b"\x10whatever"), Cause.UNKNOWN_OP),
    ],
)
def test_damage_without_a_group_start_behind_it_is_named_by_its_cause(rest: bytes, cause: Cause) -> None:
    assert damage(rest) == Damage(cause, END, None)


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (bytes(4) + b"x", Cause.BAD_LENGTH),
        (b"\xff\xff\xff\x7fx", Cause.BAD_LENGTH),
        (encode_record(3, Clear("b"))[:-1] + b"\0", Cause.CRC_MISMATCH),
        (b"\x02\0\0\0\x01\x01", Cause.UNDECODABLE),
    ],
)
def test_a_group_start_behind_damage_is_found(bad: bytes, cause: Cause) -> None:
    assert damage(bad + SECOND) == Damage(cause, END, END + len(bad))


@pytest.mark.parametrize("taken", [1, 4, 11])
def test_a_length_that_takes_in_part_of_the_next_group_start_does_not_hide_it(taken: int) -> None:
    longer = bytearray(HEADER + FIRST + SECOND)
    at = END - len(encode_record(2, Clear("a")))
    longer[at] += taken
    found, ops, _ = scan(bytes(longer))
    assert ops == [SetNextSeq(2), Clear("a")]
    assert found.damage is not None
    assert found.damage.group_start == END


def test_a_length_that_takes_in_whole_records_is_damage_though_the_checksum_fits() -> None:
    longer = bytearray(HEADER + FIRST + SECOND)
    at = END - len(encode_record(2, Clear("a")))
    longer[at] += len(SECOND)
    found, ops, _ = scan(bytes(longer))
    assert ops == [SetNextSeq(2)]
    assert found.damage == Damage(Cause.BAD_LENGTH, at, END)


def test_records_of_other_kinds_or_with_a_bad_checksum_are_no_group_start() -> None:
    spoiled = bytearray(SECOND)
    spoiled[6] ^= 1
    assert find_group_start(bytes(spoiled), 0) is None
    assert find_group_start(encode_record(1, Clear("a")) * 3, 0) is None


@pytest.mark.parametrize("sequence", [1, 250, 251, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("seq", [0, 251, 65_536, 2**64 - 1])
def test_a_group_start_of_any_width_is_found_at_any_place(sequence: int, seq: int) -> None:
    # What looks like one right before it overlaps with the true one.
    data = b"\x18\0\0\0\x01\x06" + encode_record(sequence, SetNextSeq(seq)) + bytes(30)
    assert find_group_start(data, 0) == 6
    assert find_group_start(data, 7) is None


def test_a_header_length_that_takes_in_a_group_is_refused() -> None:
    data = bytearray(HEADER + FIRST + SECOND)
    data[0] += len(FIRST)
    with pytest.raises(BadHeader, match="takes in records"):
        read_header(bytes(data), "f")


def test_the_last_group_is_known() -> None:
    found, _, _ = scan(HEADER + FIRST + SECOND)
    assert (found.groups, found.last_group) == (2, END)
    assert scan(HEADER + encode_record(1, Clear("a")))[0].last_group == 0


def test_odd_sequences_are_counted_and_decide_nothing() -> None:
    numbers = [5, 6, 9, 9, 10, 2, 3]
    ops = [Set(entry(300 + seq)) for seq in range(len(numbers))]
    data = HEADER + b"".join(map(encode_record, numbers, ops))
    found, read, sequences = scan(data)
    assert read == ops
    assert found.damage is None
    assert (sequences.gaps, sequences.duplicates, sequences.disorder, sequences.last) == (1, 1, 1, 3)


def test_an_error_of_the_applier_is_not_taken_for_damage() -> None:
    def apply(_: Op) -> None:
        raise IndexError("a bug")

    data = HEADER + b"".join(encode_record(number, Set(entry(300))) for number in (1, 2))
    with pytest.raises(IndexError, match="a bug"):
        replay(data, decode_header(data), apply, Sequences())


def _plain(option: bytes, seq: bytes = b"\xfc" + bytes(4)) -> bytes:
    op = b"\0\x01k" + option + b"\xfc" + bytes(4) + seq + b"\xfd" + bytes(8)
    body = b"\x02" + op + b"\xfc" + crc32(op).to_bytes(4, "little")
    return len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("option", [b"\x02", b"\xff", b"\x01\xfe" + bytes(254), b"\x01\xff" + bytes(255)])
def test_the_fast_path_accepts_no_set_that_the_codec_refuses(option: bytes) -> None:
    data = HEADER + encode_record(1, Set(entry(1))) + _plain(option)
    found, ops, _ = scan(data)
    assert ops == [Set(entry(1))]
    assert found.damage is not None
    assert found.damage.cause is Cause.UNDECODABLE


def test_the_fast_path_takes_no_other_integers_for_a_wide_origin() -> None:
    # As long as a wide origin and a wide seq together, with their tag at the right place.
    decoy = Set(entry(1)._replace(origin=5, seq=0xFC_00_00_00 | 1 << 40))
    found, ops, _ = scan(HEADER + encode_record(1, Set(entry(1))) + encode_record(2, decoy))
    assert ops == [Set(entry(1)), decoy]
    assert found.damage is None


def test_the_fast_path_reads_a_long_integer_form_as_the_codec_does() -> None:
    value = b"v" * 8
    data = HEADER + encode_record(1, Set(entry(1))) + _plain(b"\x01\xfc\x08\0\0\0" + value)
    _, ops, _ = scan(data)
    assert isinstance(ops[1], Set)
    assert ops[1].entry.value == value


def test_headers_that_are_not_ours_are_refused_by_name() -> None:
    assert read_header(HEADER, "f") is not None
    assert read_header(b"", "f") is None
    assert read_header(bytes(5000), "f") is None
    with pytest.raises(BadHeader, match="f is not a log"):
        read_header(bytes(5000) + b"x", "f")
    newer, never = bytearray(HEADER), bytearray(HEADER)
    newer[8], never[8] = 2, 0
    with pytest.raises(NewerVersion, match="format 2"):
        read_header(bytes(newer), "f")
    with pytest.raises(BadHeader, match="format 0"):
        read_header(bytes(never), "f")


def test_segment_names_are_eight_digits_and_nothing_else() -> None:
    assert segment_name(1) == "00000001.wal"
    assert segment_number("00000042.wal") == 42
    for name in ("node_1.wal", "1.wal", "00000001.wal.tmp", "00000001.wal.torn-5", "000000001.wal"):
        assert segment_number(name) is None


def test_random_bytes_hold_no_group_start() -> None:
    assert find_group_start(os.urandom(1 << 20) + bytes(1 << 20), 0) is None


def test_every_operation_is_replayed() -> None:
    data = HEADER + encode_group(EVERY_OP, 1, 1)[0]
    assert scan(data)[1] == [SetNextSeq(1), *EVERY_OP]
