"""CSV as an input of an import: a header that names the fields of a record, and rows with quoted newlines.

The separator is a comma, what a first line `sep=` says (as spreadsheets write it), or what `--separator` names. A
header that another separator would make sense of is refused with that option, and so is a column that no record has:
it could have meant something to its writer.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

from wavekv.cli.import_reader import (
    LINE_BYTES_MAX,
    Reading,
    Refusal,
    Skipped,
    Unit,
    checked,
    numbered_lines,
    too_long,
)
from wavekv.cli.records import FIELDS, SHOWN, Parsed, checked_date, from_base64, refuse_unknown, shown
from wavekv.config import Limits
from wavekv.errors import InvalidParameter, UsageError
from wavekv.http_api.expiry import expiry_of

SEPARATORS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""What `--separator` may name."""
_NEVER: Final = frozenset({"", "-1"})
"""As a time to live: no expiry. The latter is what Redis says of a key without one."""


class _Rows(Protocol):
    """What csv.reader returns; its own type has no public name."""

    line_num: int

    def __next__(self) -> list[str]: ...


def csv_units(source: BinaryIO, reading: Reading) -> Iterator[Unit]:
    """Yield the units of CSV.

    Raises:
        UsageError: a header without the columns a record needs, or with one that no record has.
    """
    # The csv module knows one field limit for the whole process; its default is below our longest value.
    csv.field_size_limit(LINE_BYTES_MAX)
    long_lines: list[int] = []
    lines = _texts(source, long_lines)
    first = next(lines, "")
    declared = _declared(first)
    separator = reading.separator or declared or ","
    if declared is not None and declared != separator:
        raise UsageError(f"the first line says the separator is {shown(declared)}, and --separator {shown(separator)}")
    header_line = next(lines, "") if declared is not None else first
    rows = csv.reader(_chain(header_line, lines), strict=True, delimiter=separator)
    header = _header(rows, header_line, separator, reading.dropped)
    return _units(rows, header, reading, long_lines, lines_before=int(declared is not None))


def _texts(source: BinaryIO, long_lines: list[int]) -> Iterator[str]:
    for number, line in enumerate(numbered_lines(source), 1):
        if line is None:
            long_lines.append(number)
        # An empty line keeps the reader's count of lines in step with the file's.
        yield "\n" if line is None else line.decode("utf-8", "surrogateescape")


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _declared(line: str) -> str | None:
    """Return the separator that a line such as `sep=;` names, None where it is another line."""
    bare = line.rstrip("\r\n").strip('"')
    return bare[4] if len(bare) == 5 and bare.lower().startswith("sep=") else None


def _header(rows: "_Rows", line: str, separator: str, dropped: tuple[str, ...]) -> list[str]:
    try:
        header = next(rows)
    except StopIteration:
        header = []
    except csv.Error as error:
        raise UsageError(f"the first line is not a CSV header: {error}") from error
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise UsageError(f"the CSV header names the column {shown(twice[0])} twice")
    if "key" not in header:
        _refuse_separator(line, separator)
    if "key" not in header or not {"value", "value_base64"} & set(header):
        raise UsageError("the CSV header needs the column key and value, value_base64 or both")
    try:
        refuse_unknown([name for name in header if name not in dropped and name not in SHOWN], "column")
    except InvalidParameter as error:
        raise UsageError(f"the CSV header: {error.detail}") from error
    return header


def _refuse_separator(line: str, separator: str) -> None:
    for name, other in SEPARATORS.items():
        if other != separator and "key" in [field.strip().strip('"') for field in line.split(other)] and other in line:
            raise UsageError(f"the columns of the CSV header are separated by a {name}; give --separator {name}")


def _units(
    rows: "_Rows", header: list[str], reading: Reading, long_lines: list[int], *, lines_before: int
) -> Iterator[Unit]:
    while True:
        began = rows.line_num + 1 + lines_before
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Refusal(began, "malformed", f"not CSV: {error}")
            continue
        raw = "\x1f".join(row).encode("utf-8", "surrogateescape")
        if long_lines:
            yield too_long(long_lines.pop())
        elif not row:
            yield Skipped(began, "blank")
        elif len(row) != len(header):
            yield Refusal(began, "malformed", f"{len(row)} fields where the header names {len(header)}", _again(row))
        else:
            fields = {name: text for name, text in zip(header, row, strict=True) if name in FIELDS}
            for name in reading.dropped:
                fields.pop(name, None)
            unit = checked(began, reading, raw, lambda fields=fields: _record(fields))  # type: ignore[misc]
            if isinstance(unit, Refusal) and isinstance(unit.record, bytes):
                unit = unit._replace(record=_again(row))
            yield unit


def _again(row: list[str]) -> bytes:
    """Return a row as CSV writes it."""
    quoted = ('"' + field.replace('"', '""') + '"' if set(field) & set('",\r\n') else field for field in row)
    return ",".join(quoted).encode("utf-8", "surrogateescape")


def _record(fields: dict[str, str]) -> Parsed:
    text, encoded = fields.get("value", ""), fields.get("value_base64", "")
    if text and encoded:
        raise InvalidParameter("value and value_base64 exclude each other; leave one empty")
    value = from_base64(encoded) if encoded else text.encode("utf-8", "surrogateescape")
    ttl, expires_at = fields.get("ttl", "").strip(), fields.get("expires_at", "").strip()
    if ttl not in _NEVER and expires_at:
        raise InvalidParameter("expires_at and ttl exclude each other; leave one empty")
    if ttl not in _NEVER:
        expiry_of(ttl, 0, Limits().ttl_ms_max)
        return Parsed(fields["key"], value, None, ttl)
    if not expires_at:
        return Parsed(fields["key"], value)
    if not (expires_at.isascii() and expires_at.isdecimal() and len(expires_at) < 20):
        raise InvalidParameter("expires_at has to be a whole number of milliseconds since 1970")
    return Parsed(fields["key"], value, checked_date(int(expires_at)))
