"""What an import reads beside plain lines, and that what it cannot read is refused whole, with what was seen."""

import base64
import gzip
import io
import json
import time
from pathlib import Path

import pytest

from wavekv.cli.import_reader import Reading, Record, Refusal, Style
from wavekv.cli.import_source import opened
from wavekv.cli.import_units import units
from wavekv.errors import InvalidParameter, UsageError

JSONL = b'{"key":"a","value":"1"}\n{"key":"\xc3\xa4","value":"2"}\n'
BOTH = [Record(1, "a", b"1"), Record(2, "ä", b"2")]


def read(style: Style, content: bytes, *, named: bool = True, **options: object) -> list[object]:
    return list(units(io.BytesIO(content), Reading(style, **options), named=named))  # type: ignore[arg-type]


def read_file(tmp_path: Path, style: Style, content: bytes, encoding: str | None = None) -> list[object]:
    path = tmp_path / "input"
    path.write_bytes(content)
    with opened(str(path), encoding, binary=False) as source:
        return list(units(source.stream, Reading(style)))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_with_a_mark_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    assert read_file(tmp_path, "jsonl", JSONL.decode().encode(encoding)) == BOTH


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_refused_with_the_option_that_reads_it(tmp_path: Path, encoding: str) -> None:
    content = JSONL.decode().encode(encoding)
    with pytest.raises(UsageError, match=f"--encoding {encoding}"):
        read_file(tmp_path, "jsonl", content)
    assert read_file(tmp_path, "jsonl", content, encoding) == BOTH


def test_text_that_is_not_of_its_encoding_is_refused_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not utf-16"):
        read_file(tmp_path, "lines", b"\xff\xfe" + "a\n".encode("utf-16-le") + b"\x00")


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    assert read_file(tmp_path, "lines", b"caf\xe9\n", "latin-1") == [Record(1, "café", "café".encode())]


def test_gzip_is_unpacked_and_a_damaged_end_refused_before_anything_is_read(tmp_path: Path) -> None:
    packed = gzip.compress(JSONL)
    assert read_file(tmp_path, "jsonl", packed) == BOTH
    for damaged in (packed[:-4], packed[:-1], packed[:-8] + bytes(8), packed[:20]):
        with pytest.raises(UsageError, match="damaged"):
            read_file(tmp_path, "jsonl", damaged)
    with pytest.raises(UsageError, match="twice"):
        read_file(tmp_path, "jsonl", gzip.compress(packed))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x28\xb5\x2f\xfd\x04", "zstd-compressed.* zstd -dc"),
        (b"BZh91AY", "bzip2-compressed.* bzip2 -dc"),
        (b"\xfd7zXZ\x00\x00", "xz-compressed.* xz -dc"),
        (b"PK\x03\x04", "zip archive"),
        (b"SQLite format 3\x00", "SQLite"),
        (b"REDIS0011\xfa", "--format rdb"),
        (b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", "--format aof"),
        (bytes(4096), "holds NUL bytes from byte 0"),
        (b"a\nb\n" + bytes(100), "holds NUL bytes from byte 4 "),
        (b"a\n" * 70_000 + bytes(100), "holds NUL bytes from byte 140000 .* as a crash leaves them"),
    ],
)
def test_what_is_no_text_is_refused_with_what_was_seen(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_file(tmp_path, "lines", content)


@pytest.mark.parametrize(
    ("style", "content", "said"),
    [
        ("jsonl", b'\n[{"key":"a","value":"b"}]', "--format json"),
        ("jsonl", b'{\n  "key": "a",\n  "value": "b"\n}\n', "over several lines"),
        ("jsonl", b'{"header":{},"kvs":[]}', "--format etcd"),
        ("json", b'{"key":"a","value":"b"}', "no array"),
        ("json", b'{"header":{},"kvs":[]}', "--format etcd"),
        ("json", b'[{"key":"a","flags":0,"value":""}]', "--format consul"),
        ("json", b'[{"key":"a"', "not JSON"),
        ("consul", b'[{"key":"a","value":"b"}]', "no array of objects with key, flags and value"),
        ("etcd", b'{"header":{},"kvs":[],"more":true,"count":2}', "a part of what was asked for"),
        ("etcd", b'{"header":{},"kvs":[],"count":2}', "says it holds 2 keys and has 0"),
        ("csv", b"key;value\na;1\n", "--separator semicolon"),
        ("csv", b"key\tvalue\na\t1\n", "--separator tab"),
        ("csv", b"key|value\na|1\n", "--separator pipe"),
        ("csv", b"key,value,lease\na,1,2\n", '"lease" is unknown'),
        ("yaml", b"a: {b: c}\n", "nested"),
        ("yaml", b"a: [b]\n", "nested"),
        ("yaml", b"a: 1\na: 2\n", '"a" is given twice'),
        ("yaml", b"a:\n", "no value"),
        ("yaml", b"- a\n", "no single YAML mapping"),
        ("yaml", b"a: !!python/object:x {}\n", "nested"),
        ("env", b"A=1\nA=2\n", "given twice"),
        ("env", b'A="1\n', "line 1 is no NAME=VALUE"),
        ("env", b"A=1\nnonsense\n", "line 2 is no NAME=VALUE"),
        ("env", b'A="${HOME}/x"\n', "names a variable"),
        ("env", b"A=$(id)\n", "names a variable"),
        ("env", b'A="\\q"\n', "escape"),
        ("env", b"A=a\\ b\n", "backslash"),
    ],
)
def test_input_of_another_shape_is_refused_whole(style: Style, content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(style, content)


@pytest.mark.parametrize(
    ("content", "said"), [(b'{"key":"a"}\n', "is JSON"), (b'"key";"value"\na;1\n', "header of CSV")]
)
def test_a_list_that_is_one_by_its_name_alone_is_looked_at_and_a_named_one_believed(content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read("lines", content, named=False)
    assert isinstance(read("lines", content)[0], Record)


def test_csv_takes_the_separator_it_names_and_the_one_it_is_given() -> None:
    wanted = [Record(3, "a", b"1,5")]
    assert read("csv", b"sep=;\r\nkey;value\r\na;1,5\r\n") == wanted
    assert read("csv", b'"sep=;"\nkey;value\na;1,5\n') == wanted
    assert read("csv", b"key\tvalue\na\t1,5\n", separator="\t") == [Record(2, "a", b"1,5")]
    with pytest.raises(UsageError, match="the first line says"):
        read("csv", b"sep=;\nkey;value\n", separator="\t")


def test_csv_honours_both_ways_to_expire() -> None:
    rows = b"key,value,ttl,expires_at\na,1,60,\nb,1,,1800000000000\nc,1,-1,\nd,1,,\ne,1,1.5,\n"
    assert read("csv", rows) == [
        Record(2, "a", b"1", None, "60"),
        Record(3, "b", b"1", 1_800_000_000_000),
        Record(4, "c", b"1"),
        Record(5, "d", b"1"),
        Record(6, "e", b"1", None, "1.5"),
    ]


@pytest.mark.parametrize("row", [b"60,1800000000000", b"0,", b"-2,", b"x,", b",2027-01-01", b",1800000000", b",-1"])
def test_csv_refuses_an_expiry_that_is_none(row: bytes) -> None:
    (refused,) = read("csv", b"key,value,ttl,expires_at\na,1," + row + b"\n")
    assert isinstance(refused, Refusal)
    assert refused.code == "malformed"


def test_csv_takes_text_and_base64_side_by_side() -> None:
    found = read("csv", b"key,value,value_base64\na,x,\nb,,/w==\nc,,\nd,x,/w==\n")
    assert found[:3] == [Record(2, "a", b"x"), Record(3, "b", b"\xff"), Record(4, "c", b"")]
    assert isinstance(found[3], Refusal)


@pytest.mark.parametrize("expires_at", [1_700_000_000, 99_999_999_999, 100_000_000])
def test_an_expiry_in_seconds_is_refused_and_not_taken_for_one_long_past(expires_at: int) -> None:
    (refused,) = read("jsonl", b'{"key":"a","value":"","expires_at":%d}' % expires_at)
    assert isinstance(refused, Refusal)
    assert "seconds" in refused.detail


@pytest.mark.parametrize("expires_at", [1, 99_999_999, 100_000_000_000])
def test_an_expiry_in_milliseconds_is_taken(expires_at: int) -> None:
    assert read("jsonl", b'{"key":"a","value":"","expires_at":%d}' % expires_at) == [Record(1, "a", b"", expires_at)]


@pytest.mark.parametrize("line", [b'{"key":"a","key":"b","value":"x"}', b'{"key":"a","value":"x","value":"y"}'])
def test_a_field_given_twice_is_refused(line: bytes) -> None:
    (refused,) = read("jsonl", line)
    assert isinstance(refused, Refusal)
    assert "twice" in refused.detail


def test_an_array_is_read_record_by_record() -> None:
    content = b'[{"key":"a","value":"1"},{"key":"b"},{"key":"c","value":"2","note":"n"}]'
    first, second, third = read("json", content)
    assert first == Record(1, "a", b"1")
    assert isinstance(second, Refusal)
    assert isinstance(third, Refusal)
    assert second.record == b'{"key":"b"}'
    assert read("json", content, dropped=("note",))[2] == Record(3, "c", b"2")


def test_what_consul_exports_is_read() -> None:
    items = [{"key": "a/", "flags": 0, "value": ""}, {"key": "a/b", "flags": 0, "value": "/w=="}]
    items += [{"key": "c", "flags": 42, "value": "eA=="}]
    content = json.dumps(items, indent="\t").encode()
    found = read("consul", content)
    assert found[:2] == [Record(1, "a/", b""), Record(2, "a/b", b"\xff")]
    assert isinstance(found[2], Refusal)
    assert read("consul", content, dropped=("flags",))[2] == Record(3, "c", b"x")


def test_what_etcdctl_prints_is_read() -> None:
    def item(key: bytes, value: bytes, **more: int) -> dict[str, object]:
        told = {"create_revision": 2, "mod_revision": 3, "version": 1, **more}
        return {"key": base64.b64encode(key).decode(), **told, "value": base64.b64encode(value).decode()}

    kvs = [item(b"/a", b"1"), item(b"\xff", b"2"), item(b"b", b"3", lease=7587848390000000000)]
    content = json.dumps({"header": {"revision": 9}, "kvs": kvs, "count": 3}).encode()
    found = read("etcd", content)
    assert found[0] == Record(1, "/a", b"1")
    assert [isinstance(unit, Refusal) for unit in found] == [False, True, True]
    assert read("etcd", content, dropped=("lease",))[2] == Record(3, "b", b"3")


def test_an_env_file_is_read_as_shells_read_it() -> None:
    content = b'# comment\n\nexport A=1\nB=\'x $Y #z\'\nC="a\\nb \\"q\\" \\$5"\r\n'
    content += b'D= bare words # note\nE=\nF="two\nlines" # n\nG=a#b\n'
    records = {unit.key: (unit.line, unit.value) for unit in read("env", content) if isinstance(unit, Record)}
    assert records == {
        "A": (3, b"1"),
        "B": (4, b"x $Y #z"),
        "C": (5, b'a\nb "q" $5'),
        "D": (6, b"bare words"),
        "E": (7, b""),
        "F": (8, b"two\nlines"),
        "G": (10, b"a#b"),
    }


def test_flat_yaml_keeps_its_values_as_they_are_written() -> None:
    pytest.importorskip("yaml")
    content = b'a: no\nb: 0123\n"c d": "x\\ny"\ne: 2027-01-01\nf: !!binary /w==\ng: ""\nh: |\n  two\n  lines\n'
    records = {unit.key: unit.value for unit in read("yaml", content) if isinstance(unit, Record)}
    assert records == {
        "a": b"no",
        "b": b"0123",
        "c d": b"x\ny",
        "e": b"2027-01-01",
        "f": b"\xff",
        "g": b"",
        "h": b"two\nlines\n",
    }


def test_a_line_with_a_carriage_return_inside_is_refused() -> None:
    (refused,) = read("lines", b"a\rb\rc\r\n")
    assert isinstance(refused, Refusal)


_SHARED = b", ".join(b"&a%d [%b]" % (n, b", ".join([b"*a%d" % (n - 1)] * 3 if n else [b"x"])) for n in range(40))


@pytest.mark.parametrize("key", [b"[" + _SHARED + b"]", b"&a [*a]"])
def test_a_yaml_node_that_holds_itself_or_very_many_is_refused_at_once(key: bytes) -> None:
    with pytest.raises(UsageError, match="line 1 is nested"):
        read("yaml", b"? " + key + b"\n: v\n")


def test_half_a_character_in_yaml_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match="line 2: the value holds half a surrogate pair"):
        read("yaml", b'a: x\nb: "\\ud800"\n')
    (refused,) = read("yaml", b'"\\ud800": x\n')
    assert isinstance(refused, Refusal)


@pytest.mark.parametrize("style", ["json", "jsonl", "csv"])
def test_a_name_given_twice_among_very_many_is_found_in_no_time(style: Style) -> None:
    names = [f"c{number}" for number in range(40_000)]
    if style == "csv":
        content = ",".join(["key", "value", *names, names[-1]]) + "\n"
    else:
        content = "{" + ",".join(f'"{name}":1' for name in [*names, names[-1]]) + "}\n"
        content = f"[{content}]" if style == "json" else content
    began = time.monotonic()
    try:
        found = str(read(style, content.encode()))
    except (UsageError, InvalidParameter) as error:
        found = str(error)
    assert "c39999" in found
    assert "twice" in found
    assert time.monotonic() - began < 5  # a minute and more where each name is looked for among all


def test_a_date_beyond_every_number_is_refused() -> None:
    for date, kept in ((2**64 - 1, True), (2**64, False), (10**4000, False)):
        (found,) = read("jsonl", b'{"key":"a","value":"1","expires_at":%d}\n' % date)
        assert isinstance(found, Record) == kept
