"""Redis' own files as inputs of an import: a dump (RDB) by rdb-py, an append-only file (AOF) here.

Both are taken whole or not at all. What holds anything but strings of database 0 is refused, since a part of it would
be left out; so is a dump whose checksum does not hold, and a log that ends in the middle of a command, or that changes
keys that it does not hold (it is one part of several).
"""

import re
import struct
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

from wavekv.cli.import_rdb import check_shape
from wavekv.cli.import_reader import Reading, Unit, checked
from wavekv.cli.records import Parsed, shown
from wavekv.errors import UsageError

Held = dict[bytes, tuple[bytes, int | None]]
"""Value and expiry (ms since 1970) of each key."""

_DUMP: Final = b"REDIS"
_END: Final = b"\xff"
_CRC_BYTES: Final = 8
_POLYNOMIAL: Final = 0x95AC9329AC4BC9B5
"""CRC-64 as Redis has it (Jones), reflected."""
_HEADER: Final = re.compile(rb"([*$])([0-9]{1,10})\r\n")
_NOTE: Final = re.compile(rb"#[^\n]*\n")
_TIME_DIGITS_MAX: Final = 19
_SILENT: Final = frozenset({"MULTI", "EXEC"})


def rdb_units(content: bytes, reading: Reading) -> Iterator[Unit]:
    """Return the units of a dump. Raises UsageError."""
    held = _of_dump(content)
    return _units(held, reading)


def aof_units(content: bytes, reading: Reading) -> Iterator[Unit]:
    """Return the units of an append-only file, with a dump at its beginning or without. Raises UsageError."""
    held: Held = {}
    if content.startswith(_DUMP):
        length = _dump_length(content)
        held, content = _of_dump(content[:length]), content[length:]
    for command in _commands(content):
        _apply(command, held)
    return _units(held, reading)


def _units(held: Mapping[bytes, tuple[bytes, int | None]], reading: Reading) -> Iterator[Unit]:
    for number, (key, (value, expires_at)) in enumerate(held.items(), 1):
        record = Parsed(key.decode("utf-8", "surrogateescape"), value, expires_at)
        yield checked(number, reading, b"", lambda record=record: record)  # type: ignore[misc]


# ---- a dump --------------------------------------------------------------------------------------------------------


def _decoder(path: str) -> Any:
    try:
        import rdb  # noqa: PLC0415 - of the extra `import`
    except ImportError as error:
        raise UsageError("reading Redis' files needs rdb-py: pip install 'wavekv-operator[import]'") from error
    return rdb.RdbDecoder(path)


def _of_dump(content: bytes) -> Held:
    _check_sum(content)
    check_shape(content)
    held: Held = {}
    keys = 0
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            for item in _decoder(file.name):
                kind = item["type"]
                if kind == "select_db" and item["db"] != 0:
                    raise UsageError(f"the dump holds database {item['db']}; only database 0 is read")
                if kind == "resize_db":
                    keys += item["db_size"]
                elif kind == "string":
                    held[item["key"]] = (item["value"], item["expiry"])
                elif kind not in {"select_db", "aux_field", "checksum"}:
                    raise UsageError(f"the key {_named(item['key'])} of the dump is a {kind}; only strings are read")
        except (OSError, ValueError) as error:
            raise UsageError(f"the dump cannot be read: {error}; nothing was stored") from error
    if keys and keys != len(held):
        raise UsageError(f"the dump holds {keys} keys, {len(held)} of them strings; only a dump of strings is read")
    return held


def _named(key: bytes) -> str:
    return shown(key.decode("utf-8", "backslashreplace"))


def _check_sum(content: bytes) -> None:
    told = content[-_CRC_BYTES:]
    if len(content) < len("REDIS0011") + _CRC_BYTES + 1 or content[-_CRC_BYTES - 1 : -_CRC_BYTES] != _END:
        raise UsageError("the dump is cut short, or is of a version before 5; nothing was stored")
    if told != bytes(_CRC_BYTES) and struct.unpack("<Q", told)[0] != crc64(content[:-_CRC_BYTES]):
        raise UsageError("the dump is damaged: its checksum does not hold; nothing was stored")


def _table() -> tuple[int, ...]:
    entries = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ _POLYNOMIAL if value & 1 else value >> 1
        entries.append(value)
    return tuple(entries)


_TABLE: Final = _table()


def crc64(content: bytes, value: int = 0) -> int:
    """Return the checksum that a dump ends with."""
    table = _TABLE
    for byte in content:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value


def _dump_length(content: bytes) -> int:
    """Return how long the dump at the beginning of an append-only file is: what is left of it begins a command."""
    value, place = 0, 0
    for found in re.finditer(rb"\xff", content):
        end = found.end()
        value, place = crc64(content[place:end], value), end
        told = content[end : end + _CRC_BYTES]
        behind = content[end + _CRC_BYTES : end + _CRC_BYTES + 1]
        if len(told) == _CRC_BYTES and struct.unpack("<Q", told)[0] == value and behind in {b"", b"*", b"#"}:
            return end + _CRC_BYTES
    raise UsageError("the dump at the beginning of the file is cut short, damaged, or has no checksum")


# ---- an append-only file -------------------------------------------------------------------------------------------


def _commands(content: bytes) -> Iterator[list[bytes]]:
    place = 0

    def header(sign: bytes) -> int:
        nonlocal place
        found = _HEADER.match(content, place)
        if found is None or found[1] != sign:
            raise UsageError(f"the file breaks off or is damaged at byte {place}; redis-check-aof can mend it")
        place = found.end()
        return int(found[2])

    while place < len(content):
        if (note := _NOTE.match(content, place)) is not None:
            place = note.end()
            continue
        words = []
        for _ in range(header(b"*")):
            end = header(b"$") + place
            if content[end : end + 2] != b"\r\n":
                raise UsageError(f"the file breaks off or is damaged at byte {place}; redis-check-aof can mend it")
            words.append(content[place:end])
            place = end + 2
        if words:
            yield words


def _apply(command: list[bytes], held: Held) -> None:
    name = command[0].decode("ascii", "replace").upper()
    match name, command[1:]:
        case "SELECT", [b"0"]:
            pass
        case "SET", [key, value]:
            held[key] = (value, None)
        case "SET", [key, value, option, when] if option.upper() == b"PXAT" and _is_time(when):
            held[key] = (value, int(when))
        case "MSET", [*pairs] if pairs and len(pairs) % 2 == 0:
            held |= {key: (value, None) for key, value in zip(pairs[::2], pairs[1::2], strict=True)}
        case (("DEL" | "UNLINK"), [*keys]) if keys:
            for key in keys:
                _of(key, held)
                del held[key]
        case "PEXPIREAT", [key, when] if _is_time(when):
            held[key] = (_of(key, held), int(when))
        case "PERSIST", [key]:
            held[key] = (_of(key, held), None)
        case _ if name not in _SILENT:
            words = len(command) - 1
            raise UsageError(f"the file has a {shown(name)} of {words} words, which is not read; nothing was stored")


def _is_time(word: bytes) -> bool:
    return word.isdigit() and len(word) <= _TIME_DIGITS_MAX


def _of(key: bytes, held: Held) -> bytes:
    if key not in held:
        raise UsageError(f"the file changes the key {_named(key)}, which it does not hold: it is one part of several")
    return held[key][0]
