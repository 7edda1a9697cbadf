"""The input of an import as a stream of numbered units: a record, a line to skip, or a refusal, never the whole file.

The formats of lines are read here, those that are one document by `import_documents`.

A unit is a line, or a row of CSV with its quoted newlines. Units are numbered from 0 without gaps in the order of the
file, which is what makes "the first N are done" a complete statement (`import_state`). Reading blocks; the import
does it on a thread.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple, get_args

from wavekv.cli.records import Parsed
from wavekv.config import Limits
from wavekv.core.types import parse_key
from wavekv.errors import InvalidKey, InvalidParameter, UsageError, ValueTooLarge, WaveKVError

LINE_BYTES_MAX = 8 << 20
"""Longest line: holds the longest value with every byte escaped in JSON (6 for 1). A longer one is refused unread."""

Style = Literal["jsonl", "csv", "lines", "json", "consul", "etcd", "env", "yaml", "rdb", "aof"]

BINARY: Final = frozenset({"rdb", "aof"})
"""The formats that are not text."""

BY_LINE: Final = frozenset({"jsonl", "csv", "lines", "env", "yaml"})
"""The formats whose records are named by their lines; those of others are counted."""

SUFFIXES: Final[Mapping[str, Style]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "lines",
    ".dat": "lines",
    ".json": "json",
    ".env": "env",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".rdb": "rdb",
    ".aof": "aof",
}
"""The format a file's name stands for."""


BOM: Final = b"\xef\xbb\xbf"


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
    """A record that cannot be stored: the line, a stable code, and what to do.

    `record` is what was refused, as far as it was understood: a record, else its bytes; None where it was too long.
    """

    line: int
    code: str
    detail: str
    record: "Parsed | bytes | None" = None

    @property
    def size(self) -> int:
        """Bytes that are kept with it."""
        if isinstance(self.record, Parsed):
            return len(self.record.value)
        return len(self.record or b"")


Unit = Record | Skipped | Refusal


@dataclass(frozen=True, slots=True)
class Reading:
    """How the input is to be read; part of what a resumed import must agree on."""

    style: Style
    key_prefix: str = ""
    comment_prefix: str = "//"
    separator: str | None = None
    """What is between the columns of CSV; None: a comma, or what a first line `sep=` says."""
    dropped: tuple[str, ...] = ()
    """Fields and columns that are left out."""
    key_bytes_max: int = Limits().key_bytes_max
    value_bytes_max: int = Limits().value_bytes_max


def style_of(file: str, given: Style | None) -> Style:
    """Return the format: the given one, else by the file's suffix.

    Raises:
        UsageError: none given, and the suffix tells nothing.
    """
    name = Path(file).name.lower().removesuffix(".gz")
    style = given or SUFFIXES.get(name if name == ".env" else Path(name).suffix)
    if style is None:
        raise UsageError(f"the name {file!r} does not tell its format; give --format {', '.join(get_args(Style))}")
    return style


def numbered_lines(source: BinaryIO) -> Iterator[bytes | None]:
    """Yield lines; None for one that is too long, whose rest is passed over piece by piece."""
    line = source.readline(LINE_BYTES_MAX + 1).removeprefix(BOM)
    while line:
        whole = len(line) <= LINE_BYTES_MAX
        yield line if whole else None
        while not whole and line and not line.endswith(b"\n"):
            line = source.readline(LINE_BYTES_MAX)
        line = source.readline(LINE_BYTES_MAX + 1)


def by_line(lines: Iterable[bytes | None], reading: Reading, parse: Callable[[bytes], Parsed]) -> Iterator[Unit]:
    """Yield a unit for each line, of which `parse` makes a record."""
    comment = reading.comment_prefix.encode() if reading.style == "lines" else b""
    for number, line in enumerate(lines, 1):
        if line is None:
            yield too_long(number)
        elif not (text := line.strip()):
            yield Skipped(number, "blank")
        elif comment and text.startswith(comment):
            yield Skipped(number, "comment")
        else:
            yield checked(number, reading, text, lambda text=text: parse(text))  # type: ignore[misc]


def line_record(line: bytes) -> Parsed:
    """Return the record that a line of a list is: key and value are the same bytes."""
    if b"\r" in line:
        raise InvalidParameter("a carriage return stands inside the line; end lines with a newline")
    return Parsed(line.decode("utf-8", "surrogateescape"), line)


def checked(line: int, reading: Reading, raw: bytes, parse: Callable[[], Parsed]) -> Record | Refusal:
    """Return the record that `parse` makes of `raw`, within the bounds of keys and values, or why there is none."""
    kept: Parsed | bytes = raw
    try:
        key, value, expires_at, ttl = parse()
        kept = Parsed(reading.key_prefix + key, value, expires_at, ttl)
        if b"\0" in raw:
            raise InvalidParameter("NUL bytes stand in it, which text has none of")
        key = parse_key(_raw(kept.key), reading.key_bytes_max)
        if len(value) > reading.value_bytes_max:
            raise ValueTooLarge(f"the value has {len(value)} bytes; at most {reading.value_bytes_max} are allowed")
    except WaveKVError as error:
        code = error.code if isinstance(error, InvalidKey | ValueTooLarge) else "malformed"
        return Refusal(line, code, error.detail, kept)
    return Record(line, key, value, expires_at, ttl)


def _raw(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidKey("the key holds half a surrogate pair") from error


def too_long(line: int) -> Refusal:
    """Return the refusal of a line over the bound, whose bytes were not kept."""
    return Refusal(line, "line_too_long", f"the line is longer than {LINE_BYTES_MAX} bytes")
