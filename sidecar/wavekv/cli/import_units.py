"""Which reader an input gets, and whether its beginning looks like the format it is read as.

A format that a file's name stands for may be wrong: what looks like another one is refused before its first line is
taken for a record.
"""

import json
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO, Final

from wavekv.cli.import_csv import csv_units
from wavekv.cli.import_documents import document_units
from wavekv.cli.import_reader import Reading, Unit, by_line, line_record, numbered_lines
from wavekv.cli.records import parse_json_line
from wavekv.errors import UsageError

_LOOKED_AT_MAX: Final = 1000
"""Blank lines and comments passed over to find a line that shows the format."""


def units(source: BinaryIO, reading: Reading, *, named: bool = True) -> Iterator[Unit]:
    """Return the units of `source`; `named` says that the user named the format, which is believed of a plain list.

    Raises:
        UsageError: the input has not the shape of its format.
    """
    if reading.style == "csv":
        return csv_units(source, reading)
    if reading.style not in {"jsonl", "lines"}:
        return document_units(source, reading)
    lines = numbered_lines(source)
    if reading.style == "lines" and named:
        return by_line(lines, reading, line_record)
    ahead: list[bytes | None] = []
    for line in lines:
        ahead.append(line)
        text = line.strip() if line is not None else b""
        comment = reading.style == "lines" and text.startswith(reading.comment_prefix.encode() or b"\n")
        if (text and not comment) or len(ahead) == _LOOKED_AT_MAX:
            _refuse_other_shape(text, reading)
            break
    all_lines = chain(ahead, lines)
    if reading.style == "jsonl":
        return by_line(all_lines, reading, lambda line: parse_json_line(line, reading.dropped))
    return by_line(all_lines, reading, line_record)


def _refuse_other_shape(line: bytes, reading: Reading) -> None:
    """Refuse an input whose first line shows that it is of another format than the one it is read as."""
    if reading.style == "jsonl":
        _refuse_document(line)
    elif line.startswith((b"{", b"[")) and _loaded(line) is not None:
        raise UsageError("the first line is JSON; give --format jsonl or json, or --format lines to store such lines")
    elif {b"key", b"value"} <= {field.strip(b' "') for field in line.replace(b";", b",").split(b",")}:
        raise UsageError("the first line is a header of CSV; give --format csv, or --format lines to store such lines")


def _refuse_document(line: bytes) -> None:
    if line.startswith(b"["):
        raise UsageError("the input begins with [: it is an array; give --format json, or --format consul")
    found = _loaded(line)
    if isinstance(found, dict) and "header" in found and "key" not in found:
        raise UsageError("the input is an object with a header, as etcdctl writes; give --format etcd")
    if found is None and line.startswith(b"{") and line.endswith((b"{", b"[", b",", b":")):
        raise UsageError(
            "the first line is no whole object: the input is JSON over several lines; --format json reads an array of "
            "records, --format etcd what etcdctl writes, --format yaml one flat object"
        )


def _loaded(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
