"""What the import reads: every format, what it refuses by line, and what it skips."""

import io

import pytest

from wavekv.cli.import_reader import LINE_BYTES_MAX, Reading, Record, Refusal, Skipped, Style, style_of
from wavekv.cli.import_units import units
from wavekv.errors import UsageError


def read(style: Style, content: bytes, **options: object) -> list[object]:
    return list(units(io.BytesIO(content), Reading(style, **options)))  # type: ignore[arg-type]


def codes(units: list[object]) -> list[str]:
    return [unit.code for unit in units if isinstance(unit, Refusal)]


def test_a_line_is_a_key_whose_value_is_the_same_bytes_without_surrounding_space() -> None:
    assert read("lines", b"  co.uk \r\nx") == [Record(1, "co.uk", b"co.uk"), Record(2, "x", b"x")]


def test_blank_lines_and_comments_are_units_of_their_own() -> None:
    assert read("lines", b"\n  // note\na\n \t\n") == [
        Skipped(1, "blank"),
        Skipped(2, "comment"),
        Record(3, "a", b"a"),
        Skipped(4, "blank"),
    ]


def test_the_comment_prefix_can_be_another_or_none() -> None:
    assert read("lines", b"# a\n// b\n", comment_prefix="#")[1] == Record(2, "// b", b"// b")
    assert read("lines", b"// b\n", comment_prefix="") == [Record(1, "// b", b"// b")]


def test_the_key_prefix_goes_before_the_key_alone() -> None:
    assert read("lines", b"a\n", key_prefix="suffix/") == [Record(1, "suffix/a", b"a")]


def test_a_byte_order_mark_is_not_part_of_the_first_key() -> None:
    assert read("lines", b"\xef\xbb\xbfa\n") == [Record(1, "a", b"a")]
    assert read("csv", b"\xef\xbb\xbfkey,value\na,1\n") == [Record(2, "a", b"1")]


def test_keys_are_refused_beyond_1024_bytes_and_taken_at_1024() -> None:
    assert codes(read("lines", b"k" * 1025)) == ["invalid_key"]
    assert codes(read("lines", b"k" * 1024)) == []
    assert codes(read("lines", b"k" * 1024, key_prefix="p")) == ["invalid_key"]


def test_values_are_refused_beyond_1_mib_and_taken_at_1_mib() -> None:
    line = b'{"key":"a","value":"%s"}\n'
    assert codes(read("jsonl", line % (b"v" * (1 << 20)))) == []
    assert codes(read("jsonl", line % (b"v" * ((1 << 20) + 1)))) == ["value_too_large"]


def test_a_key_that_is_not_utf8_is_refused() -> None:
    assert codes(read("lines", b"\xff\n")) == ["invalid_key"]


@pytest.mark.parametrize("style", ["lines", "jsonl"])
def test_a_line_over_the_limit_is_refused_and_the_next_one_read(style: Style) -> None:
    good = b"b\n" if style == "lines" else b'{"key":"b","value":"b"}\n'
    found = read(style, b"x" * (LINE_BYTES_MAX * 2 + 5) + b"\n" + good)
    assert codes(found) == ["line_too_long"]
    assert found[1] == Record(2, "b", b"b")


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"key":1,"value":"x"}',
        b'{"value":"x"}',
        b'{"key":"a"}',
        b'{"key":"a","value":1}',
        b'{"key":"a","value":"x","value_base64":"eA=="}',
        b'{"key":"a","value_base64":"*"}',
        b'{"key":"a","value":"\\ud800"}',
        b"\xff",
        b"[" * 100_000,
        b'{"key":"a","value":"x","tag":"1.2.3"}',
        b'{"key":"a","value":"x","expires_at":1,"ttl":1}',
        b'{"key":"a","value":"x","expires_at":-1}',
        b'{"key":"a","value":"x","expires_at":1.5}',
        b'{"key":"a","value":"x","expires_at":true}',
        b'{"key":"a","value":"x","expires_at":null}',
        b'{"key":"a","value":"x","ttl":0}',
        b'{"key":"a","value":"x","ttl":"60"}',
        b'{"key":"a","value":"x","ttl":NaN}',
        b'{"key":"a","value":"x","ttl":0.0001}',
    ],
)
def test_a_malformed_json_line_is_refused_by_its_number(line: bytes) -> None:
    _, refused, last = read("jsonl", b'{"key":"a","value":""}\n' + line + b'\n{"key":"b","value":""}')
    assert isinstance(refused, Refusal)
    assert (refused.line, refused.code) == (2, "malformed")
    assert last == Record(3, "b", b"")


@pytest.mark.parametrize(
    ("field", "expires_at", "ttl"),
    [
        (b'"expires_at":1800000000000', 1_800_000_000_000, None),
        (b'"ttl":60', None, "60"),
        (b'"ttl":0.001', None, "0.001"),
        (b'"ttl":1e2', None, "100.0"),
        (b'"ttl":"keep"', None, "keep"),
    ],
)
def test_a_json_line_says_when_its_value_expires(field: bytes, expires_at: int | None, ttl: str | None) -> None:
    assert read("jsonl", b'{"key":"a","value":"x",%s}' % field) == [Record(1, "a", b"x", expires_at, ttl)]


def test_an_unknown_field_is_named() -> None:
    (refusal,) = read("jsonl", b'{"key":"a","value":"x","expire":1}')
    assert isinstance(refusal, Refusal)
    assert '"expire" is unknown' in refusal.detail


def test_a_json_key_with_half_a_surrogate_pair_is_refused() -> None:
    assert codes(read("jsonl", b'{"key":"\\ud800","value":""}')) == ["invalid_key"]


def test_csv_takes_quoted_newlines_and_counts_lines_of_the_file() -> None:
    found = read("csv", b'key,value\r\na,"1\n2"\r\n\r\nb,"say ""x"""\n')
    assert found == [Record(2, "a", b"1\n2"), Skipped(4, "blank"), Record(5, "b", b'say "x"')]


def test_csv_refuses_other_columns_by_name_unless_they_are_dropped_and_decodes_base64() -> None:
    content = b"note,value_base64,key\nn,/w==,a\n"
    with pytest.raises(UsageError, match='column "note" is unknown'):
        read("csv", content)
    assert read("csv", content, dropped=("note",)) == [Record(2, "a", b"\xff")]


def test_csv_keeps_bytes_that_are_not_utf8_in_a_value() -> None:
    assert read("csv", b"key,value\na,\xff\n") == [Record(2, "a", b"\xff")]


def test_a_csv_row_of_another_width_is_refused_and_the_next_one_read() -> None:
    found = read("csv", b"key,value\na\nb,1,2\nc,3\n")
    assert codes(found) == ["malformed", "malformed"]
    assert found[2] == Record(4, "c", b"3")


def test_csv_with_a_quote_in_the_middle_is_refused_and_the_next_row_read() -> None:
    found = read("csv", b'key,value\na,"x"y\nb,1\n')
    assert codes(found) == ["malformed"]
    assert found[1] == Record(3, "b", b"1")


def test_an_unclosed_csv_quote_is_refused() -> None:
    assert codes(read("csv", b'key,value\na,"x\n')) == ["malformed"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"key,value,key\n", "twice"),
        (b"name,value\n", "needs the column key"),
        (b"key\n", "needs the column key"),
        (b"key,value,Key\n", '"Key" is unknown'),
        (b"key,value, ttl\n", '" ttl" is unknown'),
        (b"", "needs the column key"),
    ],
)
def test_a_csv_header_without_clear_columns_is_refused_whole(header: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read("csv", header)


def test_the_format_follows_the_suffix_unless_given() -> None:
    assert style_of("a.JSONL", None) == "jsonl"
    assert style_of("a.csv", None) == "csv"
    assert style_of("public_suffix_list.dat", None) == "lines"
    assert style_of("a.csv", "lines") == "lines"
    with pytest.raises(UsageError, match="--format"):
        style_of("-", None)
