"""The integers, strings and options of the log's bytes."""

import pytest

from wavekv.core.codec import bincode
from wavekv.core.codec.bincode import InvalidError, TruncatedError

FORMS = [
    (0, "00"),
    (250, "fa"),
    (251, "fbfb00"),
    (65535, "fbffff"),
    (65536, "fc00000100"),
    (2**32 - 1, "fcffffffff"),
    (2**32, "fd0000000001000000"),
    (2**64 - 1, "fdffffffffffffffff"),
]


@pytest.mark.parametrize(("value", "digits"), FORMS)
def test_an_integer_takes_the_shortest_form_and_comes_back(value: int, digits: str) -> None:
    assert bincode.varint(value).hex() == digits
    assert bincode.read_u64(bytes.fromhex(digits), 0) == (value, len(digits) // 2)


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (0, "00"),
        (-1, "01"),
        (1, "02"),
        (-126, "fbfb00"),
        (2**63 - 1, "fdfeffffffffffffff"),
        (-(2**63), "fdffffffffffffffff"),
    ],
)
def test_a_signed_integer_is_folded_around_zero(value: int, digits: str) -> None:
    assert bincode.zigzag(value).hex() == digits
    assert bincode.read_i64(bytes.fromhex(digits), 0)[0] == value


@pytest.mark.parametrize("digits", ["fb0100", "fc01000000", "fd0100000000000000"])
def test_a_longer_form_than_needed_is_accepted(digits: str) -> None:
    assert bincode.read_u64(bytes.fromhex(digits), 0)[0] == 1


def test_a_tag_wider_than_the_field_is_refused_whatever_the_value() -> None:
    assert bincode.read_u32(bytes.fromhex("fcffffffff"), 0)[0] == 2**32 - 1
    with pytest.raises(InvalidError):
        bincode.read_u32(bytes.fromhex("fd0100000000000000"), 0)
    for tag in (0xFE, 0xFF):
        with pytest.raises(InvalidError):
            bincode.read_u64(bytes([tag]) + bytes(16), 0)


@pytest.mark.parametrize("digits", [digits for _, digits in FORMS])
def test_an_integer_cut_at_any_byte_is_truncated(digits: str) -> None:
    data = bytes.fromhex(digits)
    for end in range(len(data)):
        with pytest.raises(TruncatedError):
            bincode.read_u64(data[:end], 0)


def test_strings_and_bytes_end_where_their_length_says() -> None:
    assert bincode.text("é") == b"\x02\xc3\xa9"
    assert bincode.read_text(b"\x02\xc3\xa9rest", 0) == ("é", 3)
    assert bincode.read_blob(b"\x00", 0) == (b"", 1)
    with pytest.raises(TruncatedError):
        bincode.read_blob(b"\x03ab", 0)
    with pytest.raises(InvalidError):
        bincode.read_text(b"\x01\xff", 0)


def test_an_option_is_none_or_bytes_and_nothing_else() -> None:
    for value in (None, b"", b"v" * 300):
        data = bincode.optional_blob(value)
        assert bincode.read_optional_blob(data, 0) == (value, len(data))
    with pytest.raises(InvalidError):
        bincode.read_optional_blob(b"\x02", 0)
    with pytest.raises(TruncatedError):
        bincode.read_optional_blob(b"", 0)


def test_a_bool_is_0_or_1() -> None:
    assert [bincode.read_bool(bincode.boolean(value), 0)[0] for value in (False, True)] == [False, True]
    with pytest.raises(InvalidError):
        bincode.read_bool(b"\x02", 0)
