"""Redis' patterns, in bounded time whatever a client sends.

A pattern is cut at its stars. What lies between two stars has a fixed length, so the first place where it fits is as
good as any later one, and nothing is ever tried twice: at most len(pattern) * len(name) steps, done in C. A regular
expression of the whole pattern would take exponential time over `*a*a*a*a`.
"""

import re
from collections.abc import Callable
from typing import Final

Matcher = Callable[[bytes], bool]

_ANY: Final = b"(?s:.)"
_NOTHING: Final = b"(?!)"


def matcher(pattern: bytes) -> Matcher:
    """Return what tells whether a name matches `pattern`: `*`, `?`, `[a-z]`, `[^a]`, a backslash before any."""
    parts, width = _parts(pattern)
    if len(parts) == 1:
        return _whole(parts[0])
    first, last = re.compile(parts[0]), re.compile(b"(?:%b)\\Z" % parts[-1])
    middle = [re.compile(part).search for part in parts[1:-1] if part]

    def matches(name: bytes) -> bool:
        found = first.match(name)
        if found is None:
            return False
        place = found.end()
        for search in middle:
            found = search(name, place)
            if found is None:
                return False
            place = found.end()
        start = len(name) - width
        return start >= place and last.match(name, start) is not None

    return matches


def matches(pattern: bytes, name: bytes) -> bool:
    """Tell whether `name` matches `pattern`."""
    return matcher(pattern)(name)


def literal(pattern: bytes) -> tuple[bytes, bool]:
    """Return what every match begins with, and whether the pattern is nothing but that and stars behind it.

    The second is false for a pattern without any star: that is a whole name.
    """
    begin = bytearray()
    place = 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == 0x5C and place + 1 < len(pattern):
            place += 1
            letter = pattern[place]
        elif letter in b"*?[":
            break
        begin.append(letter)
        place += 1
    rest = pattern[place:]
    return bytes(begin), bool(rest) and not rest.strip(b"*")


def _whole(part: bytes) -> Matcher:
    fits = re.compile(part).fullmatch
    return lambda name: fits(name) is not None


def _parts(pattern: bytes) -> tuple[list[bytes], int]:
    """Return an expression of fixed width for each stretch between stars, and how many bytes the last one matches."""
    parts = [bytearray()]
    place = width = 0
    while place < len(pattern):
        letter = pattern[place : place + 1]
        place += 1
        if letter == b"*":
            if parts[-1] or len(parts) == 1:
                parts.append(bytearray())
                width = 0
            continue
        width += 1
        if letter == b"?":
            more = len(pattern) - place - len(pattern[place:].lstrip(b"?"))
            parts[-1] += _ANY + (b"{%d}" % (more + 1) if more else b"")  # a thousand alone take 15 ms to be made ready
            place += more
            width += more
        elif letter == b"[":
            one, place = _class(pattern, place)
            parts[-1] += one
        elif letter == b"\\" and place < len(pattern):
            parts[-1] += re.escape(pattern[place : place + 1])
            place += 1
        else:
            parts[-1] += re.escape(letter)
    return [bytes(part) for part in parts], width


def _class(pattern: bytes, place: int) -> tuple[bytes, int]:
    """Return an expression for the class whose inside begins at `place`, and the place behind it; as Redis reads it."""
    negated = pattern[place : place + 1] == b"^"
    place += negated
    inside = bytearray()
    while place < len(pattern):
        letter = pattern[place : place + 1]
        if letter == b"\\" and place + 1 < len(pattern):
            inside += _in_class(pattern[place + 1 : place + 2])
            place += 2
        elif letter == b"]":
            place += 1
            break
        elif pattern[place + 1 : place + 2] == b"-" and place + 2 < len(pattern):
            low, high = sorted((letter, pattern[place + 2 : place + 3]))
            inside += b"%b-%b" % (_in_class(low), _in_class(high))
            place += 3
        else:
            inside += _in_class(letter)
            place += 1
    if not inside:
        return (_ANY if negated else _NOTHING), place
    return b"[%b%b]" % (b"^" if negated else b"", bytes(inside)), place


def _in_class(letter: bytes) -> bytes:
    return b"\\" + letter if letter in {b"^", b"[", b"]", b"-", b"\\", b"&", b"~", b"|"} else letter
