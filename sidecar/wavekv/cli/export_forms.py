"""The forms an export is written in, entry by entry. Each is one that `wavekv import` reads back to the same entries.

What a form has no place for is refused by its key, unless it is to be left out: nothing is dropped in silence.
"""

import base64
import json
from typing import Final, Protocol

from wavekv.cli.records import expiry, json_line
from wavekv.errors import UsageError


class Form(Protocol):
    """One export: `begin`, a `record` for each entry in order, `end`."""

    begin: bytes
    end: bytes

    def __init__(self, *, without_expiry: bool) -> None: ...

    def record(self, key: str, value: bytes, expires_at: int | None) -> bytes:
        """Return one entry. Raises UsageError where the form has no place for it."""
        ...


class JsonLines:
    """An object a line."""

    begin = b""
    end = b""

    def __init__(self, *, without_expiry: bool) -> None:
        self._without = without_expiry

    def record(self, key: str, value: bytes, expires_at: int | None) -> bytes:
        """Return one line."""
        return json_line(key, value, **expiry(None if self._without else expires_at)).encode() + b"\n"


class Csv:
    """A header and rows. A value with control characters goes as base64: programs turn them into something else."""

    begin = b"key,value,value_base64,expires_at\r\n"
    end = b""

    def __init__(self, *, without_expiry: bool) -> None:
        self._without = without_expiry

    def record(self, key: str, value: bytes, expires_at: int | None) -> bytes:
        """Return one row."""
        if "\0" in key:
            raise UsageError(f"the key {json.dumps(key)} holds a NUL byte, which CSV has no place for; use jsonl")
        text, encoded = "", ""
        try:
            text = value.decode()
        except UnicodeDecodeError:
            encoded = base64.b64encode(value).decode()
        if any(letter < " " and letter not in "\t\n" for letter in text):
            text, encoded = "", base64.b64encode(value).decode()
        when = "" if expires_at is None or self._without else str(expires_at)
        return f"{_quoted(key)},{_quoted(text)},{encoded},{when}\r\n".encode()


class Consul:
    """An array of key, flags and value in base64, as `consul kv export` writes and `consul kv import` reads."""

    begin = b"["
    end = b"\n]\n"

    def __init__(self, *, without_expiry: bool) -> None:
        self._without = without_expiry
        self._before = "\n"

    def record(self, key: str, value: bytes, expires_at: int | None) -> bytes:
        """Return one item."""
        if expires_at is not None and not self._without:
            raise UsageError(
                f"the key {json.dumps(key)} expires, which Consul's form has no place for; "
                "--drop expires_at writes it as one that does not"
            )
        item = {"key": key, "flags": 0, "value": base64.b64encode(value).decode()}
        before, self._before = self._before, ",\n"
        return (before + json.dumps(item, separators=(",", ":"))).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


FORMS: Final[dict[str, type[Form]]] = {"jsonl": JsonLines, "csv": Csv, "consul": Consul}
"""Each form by its name."""
