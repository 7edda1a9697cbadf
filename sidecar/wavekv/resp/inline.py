"""Inline commands: a line of words instead of an array, as people type and simple checks send them.

Words are cut as Redis cuts them (`sdssplitargs`): quotes, and inside double ones the usual escapes. What a web browser
would send, over TLS too, is refused and ends the connection, so that no page can speak to a member by a form or a
request.
"""

import re
from typing import Final

LINE_BYTES_MAX: Final = 1 << 16
"""Longest line, as Redis has it."""

_HTTP: Final = re.compile(rb"(?i)(?:post|host:)(?:\s|$)|.* HTTP/\d(?:\.\d)?\s*$")
_SPACE: Final = b" \t\n\v\f\r"
_WORD: Final = re.compile(
    rb"""[\ \t\n\v\f\r]*(?:
        "((?:[^"\\]|\\.)*)"(?=[\ \t\n\v\f\r]|$)
      | '((?:\\'|[^'\\]|\\(?!'))*)'(?=[\ \t\n\v\f\r]|$)
      | ([^\ \t\n\v\f\r"']+)
    )""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE: Final = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class UnbalancedQuotes(Exception):
    """A quote that is not closed, or is followed by more than a space."""


def is_http(line: bytes) -> bool:
    """Tell whether `line` is one of a request over HTTP."""
    return _HTTP.match(line) is not None


def is_tls(line: bytes | bytearray) -> bool:
    """Tell whether `line` begins as the first message of TLS does.

    A browser sends one to any host and port that a page names, with bytes in it that the host of the page chose: a line
    end and a command among them.
    """
    return line[:2] == b"\x16\x03"


def words_of(line: bytes) -> list[bytes]:
    """Return the words of one line, without its end; none for an empty one.

    Raises:
        UnbalancedQuotes: as it says.
    """
    if b'"' not in line and b"'" not in line:
        return line.split()
    words: list[bytes] = []
    place, end = 0, len(line.rstrip(_SPACE))
    while place < end:
        word, place = _next(line, place)
        words.append(word)
    return words


def _next(line: bytes, place: int) -> tuple[bytes, int]:
    """Return the word at `place`, and the place behind it; a quote in the midst of a word goes on with it."""
    word = b""
    while True:
        found = _WORD.match(line, place)
        if found is None:
            raise UnbalancedQuotes
        double, single, plain = found.groups()
        place = found.end()
        if plain is None:
            return word + (_unescaped(double) if double is not None else single.replace(rb"\'", b"'")), place
        word += plain
        if place >= len(line) or line[place] in _SPACE:
            return word, place


def _unescaped(word: bytes) -> bytes:
    return _ESCAPE.sub(_letter, word) if b"\\" in word else word


def _letter(found: "re.Match[bytes]") -> bytes:
    escape: bytes = found.group(1)
    if escape[:1] == b"x" and len(escape) == 3:
        return bytes([int(escape[1:], 16)])
    return _LETTERS.get(escape, escape)
