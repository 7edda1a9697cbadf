"""The input of an import as a stream of numbered units: a record, a line to skip, or a refusal, never the whole file.

A unit is a line, or a row of CSV with its quoted newlines. Units are numbered from 0 without gaps in the order of the
file, which is what makes "the first N are done" a complete statement (`import_state`). Reading blocks; the import
does it on a thread.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol

from wavekv.cli.records import Parsed, from_base64, parse_json_line
from wavekv.config import Limits
from wavekv.core.types import parse_key
from wavekv.errors import InvalidKey, UsageError, ValueTooLarge, WaveKVError

LINE_BYTES_MAX = 8 << 20
"""Longest line: holds the longest value with every byte escaped in JSON (6 for 1). A longer one is refused unread."""

Style = Literal["jsonl", "csv", "lines"]

SUFFIXES: dict[str, Style] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".txt": "lines", ".dat": "lines"}
"""The format a file's name stands for."""


class _Rows(Protocol):
    """What csv.reader returns; its own type has no public name."""

    line_num: int

    def __next__(self) -> list[str]: ...


_BOM = b"\xef\xbb\xbf"


class Record(NamedTuple):
    """What is to be stored, and the line it began on (from 1); when it expires as in `Parsed`."""

    line: int
    key: str
    value: bytes
    expires_at: int | None = None
    ttl: str | None = None


class Skipped(NamedTuple):
    """A line that holds no record by design: `blank` or `comment`."""

    line: int
    why: str


class Refusal(NamedTuple):
    """A record that cannot be stored: the line, a stable code, and what to do."""

    line: int
    code: str
    detail: str


Unit = Record | Skipped | Refusal


@dataclass(frozen=True, slots=True)
class Reading:
    """How the input is to be read; part of what a resumed import must agree on."""

    style: Style
    key_prefix: str = ""
    comment_prefix: str = "//"
    key_bytes_max: int = Limits().key_bytes_max
    value_bytes_max: int = Limits().value_bytes_max


def style_of(file: str, given: Style | None) -> Style:
    """Return the format: the given one, else by the file's suffix.

    Raises:
        UsageError: none given, and the suffix tells nothing.
    """
    style = given or SUFFIXES.get(Path(file).suffix.lower())
    if style is None:
        raise UsageError(f"the name {file!r} does not tell its format; give --format jsonl, csv or lines")
    return style


def units(source: BinaryIO, reading: Reading) -> Iterator[Unit]:
    """Yield the units of `source`.

    Raises:
        UsageError: a CSV header without the columns a record needs.
    """
    if reading.style == "csv":
        return _csv(source, reading)
    return _by_line(source, reading, parse_json_line if reading.style == "jsonl" else _line_record)


def _lines(source: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines; None for one that is too long, whose rest is passed over piece by piece."""
    line = source.readline(LINE_BYTES_MAX + 1).removeprefix(_BOM)
    while line:
        whole = len(line) <= LINE_BYTES_MAX
        yield line if whole else None
        while not whole and line and not line.endswith(b"\n"):
            line = source.readline(LINE_BYTES_MAX)
        line = source.readline(LINE_BYTES_MAX + 1)


def _by_line(source: BinaryIO, reading: Reading, parse: Callable[[bytes], Parsed]) -> Iterator[Unit]:
    comment = reading.comment_prefix.encode() if reading.style == "lines" else b""
    for number, line in enumerate(_lines(source), 1):
        if line is None:
            yield _too_long(number)
        elif not (text := line.strip()):
            yield Skipped(number, "blank")
        elif comment and text.startswith(comment):
            yield Skipped(number, "comment")
        else:
            yield _checked(number, reading, lambda text=text: parse(text))  # type: ignore[misc]


def _line_record(line: bytes) -> Parsed:
    return Parsed(line.decode("utf-8", "surrogateescape"), line)


def _checked(line: int, reading: Reading, parse: Callable[[], Parsed]) -> Record | Refusal:
    try:
        key, value, expires_at, ttl = parse()
        key = parse_key(_raw(reading.key_prefix + key), reading.key_bytes_max)
        if len(value) > reading.value_bytes_max:
            raise ValueTooLarge(f"the value has {len(value)} bytes; at most {reading.value_bytes_max} are allowed")
    except WaveKVError as error:
        code = error.code if isinstance(error, InvalidKey | ValueTooLarge) else "malformed"
        return Refusal(line, code, error.detail)
    return Record(line, key, value, expires_at, ttl)


def _raw(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidKey("the key holds half a surrogate pair") from error


def _too_long(line: int) -> Refusal:
    return Refusal(line, "line_too_long", f"the line is longer than {LINE_BYTES_MAX} bytes")


def _csv(source: BinaryIO, reading: Reading) -> Iterator[Unit]:
    # The csv module knows one field limit for the whole process; its default is below our longest value.
    csv.field_size_limit(LINE_BYTES_MAX)
    too_long: list[int] = []

    def texts() -> Iterator[str]:
        for number, line in enumerate(_lines(source), 1):
            if line is None:
                too_long.append(number)
            # An empty line keeps the reader's count of lines in step with the file's.
            yield "\n" if line is None else line.decode("utf-8", "surrogateescape")

    rows = csv.reader(texts(), strict=True)
    return _csv_units(rows, _header(rows), reading, too_long)


def _csv_units(rows: "_Rows", header: list[str], reading: Reading, too_long: list[int]) -> Iterator[Unit]:
    while True:
        began = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Refusal(began, "malformed", f"not CSV: {error}")
            continue
        if too_long:
            yield _too_long(too_long.pop())
        elif not row:
            yield Skipped(began, "blank")
        elif len(row) != len(header):
            yield Refusal(began, "malformed", f"{len(row)} fields where the header names {len(header)}")
        else:
            fields = dict(zip(header, row, strict=True))
            yield _checked(began, reading, lambda fields=fields: _csv_record(fields))  # type: ignore[misc]


def _header(rows: "_Rows") -> list[str]:
    try:
        header = next(rows)
    except StopIteration:
        header = []
    except csv.Error as error:
        raise UsageError(f"the first line is not a CSV header: {error}") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UsageError(f"the CSV header names the column {json.dumps(twice[0])} twice")
    if "key" not in header or ("value" in header) == ("value_base64" in header):
        raise UsageError("the CSV header needs the column key and exactly one of value and value_base64")
    return header


def _csv_record(fields: dict[str, str]) -> Parsed:
    if "value_base64" in fields:
        return Parsed(fields["key"], from_base64(fields["value_base64"]))
    return Parsed(fields["key"], fields["value"].encode("utf-8", "surrogateescape"))
