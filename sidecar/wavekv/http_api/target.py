"""Reads a request target exactly: which path, which key, which parameters.

A key is the raw path behind `/v1/kv/`, percent-decoded once to bytes and read as strict UTF-8; `+` is a plus there, a
space in a query (as HTML forms and most clients write it). A router was turned down: it normalises and decodes before
we see the path, and then `a%2Fb`, `a/b` and a malformed escape cannot be told apart from what the client sent.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from wavekv.core.types import parse_key
from wavekv.errors import InvalidKey, InvalidParameter, RequestError

_MALFORMED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_WORDS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


class Target(NamedTuple):
    """The two raw halves of a request target; `query` is what follows the first question mark."""

    path: str
    query: str


def split_target(raw: str) -> Target:
    """Return path and query of `raw`, in origin form (`/v1/…`) or absolute form (`http://host/v1/…`)."""
    if not raw.startswith("/"):
        _, _, behind_scheme = raw.partition("://")
        raw = "/" + behind_scheme.partition("/")[2]
    path, _, query = raw.partition("?")
    return Target(path, query)


def key_from(escaped: str, key_bytes_max: int) -> str:
    """Return the key written as `escaped` in a path.

    Raises:
        InvalidKey: a malformed escape, or not a key (`parse_key`).
    """
    return parse_key(_unescape(escaped, InvalidKey), key_bytes_max)


def _unescape(escaped: str, refusal: type[RequestError]) -> bytes:
    raw = escaped.encode("utf-8", "surrogateescape")  # bytes that were sent unescaped arrive as surrogates
    if b"%" not in raw:
        return raw
    malformed = _MALFORMED.search(raw)
    if malformed:
        raise refusal(f"malformed percent escape at byte {malformed.start()} of {escaped[:80]!r}")
    return unquote_to_bytes(raw)


def parameters(query: str) -> dict[str, str]:
    """Return the parameters of a query string.

    Raises:
        InvalidParameter: a malformed escape, bytes that are not UTF-8, or a name given twice.
    """
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = (_text(part) for part in pair.replace("+", " ").partition("="))
        if name in found:
            raise InvalidParameter(f"{name!r} is given twice")
        found[name] = value
    return found


def _text(escaped: str) -> str:
    try:
        return _unescape(escaped, InvalidParameter).decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter(f"{escaped[:80]!r} is not UTF-8") from error


def flag(name: str, value: str) -> bool:
    """Return the parameter as a bool.

    Raises:
        InvalidParameter: neither true, 1, false nor 0.
    """
    if value not in _WORDS:
        raise InvalidParameter(f"{name}={value!r} is not one of {', '.join(_WORDS)}")
    return _WORDS[value]


def whole_number(name: str, value: str, low: int, high: int) -> int:
    """Return the parameter as an integer.

    Raises:
        InvalidParameter: not decimal digits, or outside `low`…`high`.
    """
    # the digits are counted first: converting thousands of them takes quadratic time
    digits = value.isascii() and value.isdecimal() and len(value) <= 19
    if not digits or not low <= int(value) <= high:
        raise InvalidParameter(f"{name}={value[:80]!r} is not a whole number of {low} to {high}")
    return int(value)
