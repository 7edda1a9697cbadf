"""The input of an import as UTF-8 text: what its first bytes show, and what has to be done before they can be read.

Everything here happens before the first record is stored. What is packed or in another encoding is turned into a
temporary file as a whole, so that a damaged end is known in time; what cannot be read is refused with what was seen and
the option or the command that reads it.
"""

import gzip
import io
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from wavekv.errors import UsageError

HEAD_BYTES: Final = 64 << 10
"""What is looked at to tell what an input is."""
UNPACKED_BYTES_MAX: Final = 64 << 30
"""Largest text that a packed or re-encoded input may come to: a few bytes of gzip can stand for any number."""
BLOCK_BYTES: Final = 1 << 20
"""Read in one go while an input is turned into text."""

ENCODINGS: Final = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252")
"""What `--encoding` may name."""

_GZIP: Final = b"\x1f\x8b"
_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Byte order marks of encodings that are not UTF-8; the longer ones first."""
_STRANGE: Final = (
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "zstd -dc"),
    (b"BZh", "bzip2-compressed", "bzip2 -dc"),
    (b"\xfd7zXZ\x00", "xz-compressed", "xz -dc"),
    (b"\x04\x22\x4d\x18", "lz4-compressed", "lz4 -dc"),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
    (b"PAR1", "a Parquet file", None),
    (b"SQLite format 3\x00", "an SQLite database", None),
    (b"WKVL", "a log file of a member", None),
)
"""First bytes of what is no text, its name, and the command that makes text of it."""


class Source(NamedTuple):
    """An input that is UTF-8 text, read from its beginning. `path` is None for stdin, which is read once."""

    stream: BinaryIO
    path: Path | None

    @property
    def size(self) -> int | None:
        """How many bytes `stream` has; None where that is not known."""
        return None if self.path is None else os.fstat(self.stream.fileno()).st_size


@contextmanager
def opened(file: str, encoding: str | None, *, binary: bool) -> Iterator[Source]:
    """Open FILE (- for stdin) as text in UTF-8, or as the bytes it has when `binary`.

    Raises:
        UsageError: it cannot be read, or is not text of this encoding.
    """
    if file == "-":
        # Never closed: closing waits for the reading thread, which may wait for input nobody types.
        with _as_text(_stdin(), "stdin", encoding, binary) as stream:
            if not binary and stream.seekable():
                _refuse_nul(stream, "stdin")
            yield Source(stream, None)
        return
    path = Path(file)
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a file; give - and feed it to stdin")
    try:
        source = path.open("rb")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    with source, _as_text(source, file, encoding, binary) as stream:
        if not binary:
            _refuse_nul(stream, file)
        yield Source(stream, path)


def _stdin() -> BinaryIO:
    """Return stdin under a handle of our own, which the interpreter does not try to close at its end either.

    Raises:
        UsageError: it is closed.
    """
    if sys.stdin is None:
        raise UsageError("stdin is closed; give a file, or feed the input to stdin")
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:
        return sys.stdin.buffer
    except (OSError, ValueError) as error:
        raise UsageError("stdin is closed; give a file, or feed the input to stdin") from error


class _Rejoined(io.RawIOBase):
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            piece, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            piece = cast("io.BufferedReader", self._rest).read1(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _headed(source: BinaryIO) -> tuple[bytes, BinaryIO]:
    """Return the first bytes of `source`, as many as come at once, and a stream of all of it."""
    if source.seekable():
        start = source.tell()
        head = source.read(HEAD_BYTES)
        source.seek(start)
        return head, source
    head = b""
    while len(head) < len(b"SQLite") and (piece := cast("io.BufferedReader", source).read1(HEAD_BYTES)):
        head += piece
    return head, cast("BinaryIO", io.BufferedReader(_Rejoined(head, source)))


@contextmanager
def _as_text(source: BinaryIO, name: str, encoding: str | None, binary: bool) -> Iterator[BinaryIO]:
    with ExitStack() as files:
        try:
            stream = _prepared(source, name, encoding, binary, files)
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
        yield stream  # errors of the block are not ours to rename


def _prepared(source: BinaryIO, name: str, encoding: str | None, binary: bool, files: ExitStack) -> BinaryIO:
    """Return `source` as it can be read; what had to be made for that stays open as long as `files`."""
    head, stream = _headed(source)
    if head.startswith(_GZIP):
        stream = _copied(_gunzipped(stream, name), name, files)
        head, stream = _headed(stream)
        if head.startswith(_GZIP):
            raise UsageError(f"{name} is gzip-compressed twice; unpack it once: gunzip -c FILE | gunzip -c")
    if binary:
        return stream
    found = _encoding_of(head, name, encoding)
    return stream if found == "utf-8" else _copied(_encoded_anew(stream, name, found), name, files)


def _encoding_of(head: bytes, name: str, given: str | None) -> str:
    for magic, what, command in _STRANGE:
        if head.startswith(magic):
            how = f"; unpack it first: {command} FILE | wavekv import - --format FORMAT" if command else ""
            raise UsageError(f"{name} is {what}, which is not read{how}")
    _refuse_redis(head, name)
    if given is not None:
        return given
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        raise UsageError(f"{name} holds NUL bytes from byte {head.index(0)} on; {_nul_advice(head)}")
    return "utf-8"


def _refuse_redis(head: bytes, name: str) -> None:
    if re.match(rb"REDIS[0-9]{4}", head):
        raise UsageError(f"{name} looks like a dump of Redis; give --format rdb")
    if re.match(rb"\*[0-9]+\r\n\$[0-9]+\r\n", head):
        raise UsageError(f"{name} looks like an append-only file of Redis; give --format aof")


def _nul_advice(head: bytes) -> str:
    half = len(head) // 4  # of the bytes at even or odd places, every second one
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if zeros.count(0) > half:
            return f"it looks like UTF-16 without a mark: give --encoding {encoding}"
    return "text has none: the file is damaged, or binary"


def _refuse_nul(stream: BinaryIO, name: str) -> None:
    start = at = stream.tell()
    while block := stream.read(BLOCK_BYTES):
        if b"\0" in block:
            raise UsageError(
                f"{name} holds NUL bytes from byte {at + block.index(0)} of its text on, as a crash leaves them; "
                "nothing was stored: take a whole copy, or cut the file there"
            )
        at += len(block)
    stream.seek(start)


def _gunzipped(source: BinaryIO, name: str) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=source, mode="rb") as unpacking:
            while block := unpacking.read(BLOCK_BYTES):
                yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{name} is gzip-compressed and damaged: {error}; nothing was stored") from error


def _encoded_anew(source: BinaryIO, name: str, encoding: str) -> Iterator[bytes]:
    decoded = io.TextIOWrapper(source, encoding=encoding, errors="strict", newline="")
    try:
        while text := decoded.read(BLOCK_BYTES):
            yield text.encode()
    except UnicodeError as error:
        raise UsageError(f"{name} is not {encoding}: {error}; nothing was stored") from error
    finally:
        decoded.detach()


def _copied(blocks: Iterator[bytes], name: str, files: ExitStack) -> BinaryIO:
    """Return a temporary file of all of `blocks`, at its beginning."""
    output = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed with `files`
    size = 0
    for block in blocks:
        size += len(block)
        if size > UNPACKED_BYTES_MAX:
            raise UsageError(f"{name} comes to more than {UNPACKED_BYTES_MAX} bytes of text; split it")
        output.write(block)
    output.seek(0)
    return cast("BinaryIO", output)
