"""The commands on keys: EXISTS, TYPE, DEL, SCAN, KEYS, DBSIZE.

SCAN goes in key order: its cursor stands for the last key told, so a key that is there from the first call to the last
is told exactly once, whatever comes and goes meanwhile. Patterns are a prefix and `*`, or a whole key: any other would
have to look at every key, which is refused rather than done slowly.
"""

import asyncio
from typing import Final, NamedTuple

from wavekv.core.types import U64_MAX
from wavekv.errors import KeyNotFound
from wavekv.resp import replies
from wavekv.resp.session import SYNTAX, Refused, Reply, Session, shown, whole

_COUNT_DEFAULT: Final = 10
_WILD: Final = frozenset(b"*?[")
_ESCAPE: Final = 0x5C


class _Pattern(NamedTuple):
    text: str
    whole: bool


def exists(session: Session, words: list[bytes]) -> Reply:
    """EXISTS key…; a key named twice counts twice."""
    return replies.integer(sum(session.store.get(session.key(word)) is not None for word in words[1:]))


def type_(session: Session, words: list[bytes]) -> Reply:
    """TYPE key; every value is a string."""
    return b"+none\r\n" if session.store.get(session.key(words[1])) is None else b"+string\r\n"


def delete(session: Session, words: list[bytes]) -> Reply:
    """DEL key…; each is a delete of its own."""
    return _delete(session, [session.key(word) for word in words[1:]])


async def _delete(session: Session, keys: list[str]) -> bytes:
    outcomes = await asyncio.gather(*[session.store.delete(key) for key in keys], return_exceptions=True)
    deleted = 0
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            session.wrote(outcome)
            deleted += 1
        elif not isinstance(outcome, KeyNotFound):
            raise outcome
    return replies.integer(deleted)


def dbsize(session: Session, words: list[bytes]) -> Reply:
    """DBSIZE."""
    return replies.integer(session.store.count())


def scan(session: Session, words: list[bytes]) -> Reply:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]."""
    if not words[1].isdigit() or len(words[1]) > 20 or int(words[1]) > U64_MAX:
        raise Refused("ERR invalid cursor")
    cursor = int(words[1])
    pattern, count, typed = _Pattern("", whole=False), _COUNT_DEFAULT, True
    options = words[2:]
    if len(options) % 2:
        raise Refused(SYNTAX)
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name.upper() == b"MATCH":
            pattern = _pattern(value)
        elif name.upper() == b"COUNT":
            count = whole(value)
            if count < 1:
                raise Refused(SYNTAX)
        elif name.upper() == b"TYPE":
            typed = value.lower() == b"string"
        else:
            raise Refused(SYNTAX)
    after = session.shared.cursors.behind(cursor) if cursor else None
    keys, more = _page(session, pattern, after, min(count, session.limits.list_entries_max)) if typed else ([], False)
    following = session.shared.cursors.remember(keys[-1]) if more else 0
    return replies.array([replies.bulk(b"%d" % following), _bulks(keys)])


def keys(session: Session, words: list[bytes]) -> Reply:
    """KEYS pattern; bounded, since its answer comes in one piece."""
    keys_max = session.limits.resp_keys_max
    found, more = _page(session, _pattern(words[1]), None, keys_max)
    if more:
        raise Refused(f"ERR more than {keys_max} keys match; use SCAN")
    return _bulks(found)


def _page(session: Session, pattern: _Pattern, after: str | None, count: int) -> tuple[list[str], bool]:
    if pattern.whole:
        there = pattern.text and session.store.get(pattern.text) is not None
        return ([pattern.text] if there and (after is None or pattern.text > after) else []), False
    entries, more = session.store.list(pattern.text, after, count)
    return [entry.key for entry in entries], more and bool(entries)


def _bulks(found: list[str]) -> bytes:
    return replies.array([replies.bulk(key.encode()) for key in found])


def _pattern(raw: bytes) -> _Pattern:
    """Return the prefix or the whole key that `raw` means; a backslash takes what follows it as it is.

    Raises:
        Refused: any other pattern.
    """
    text = bytearray()
    place = 0
    while place < len(raw):
        letter = raw[place]
        if letter == _ESCAPE and place + 1 < len(raw):
            place += 1
            letter = raw[place]
        elif letter in _WILD:
            break
        text.append(letter)
        place += 1
    if raw[place:].strip(b"*"):
        raise Refused(f"ERR pattern '{shown(raw)}' is not supported: only PREFIX* and whole keys are")
    try:
        return _Pattern(text.decode(), whole=place == len(raw))
    except UnicodeDecodeError as error:
        raise Refused(f"ERR pattern '{shown(raw)}' is not UTF-8, and neither could a key be") from error
