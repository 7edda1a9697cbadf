"""SCAN and KEYS: walks over keys in their order, in slices, between which others have their turn.

SCAN's cursor stands for the last key told (`cursors`), so a key that is there from the first call to the last is told,
whatever comes and goes meanwhile; one that comes or goes while a walk runs may be told or not. COUNT is the number of
keys that are looked at, as with Redis: those with the pattern's beginning, since no others can match.
"""

import secrets
from collections.abc import Generator
from typing import Final, NamedTuple

from wavekv.core.types import U64_MAX
from wavekv.resp import replies
from wavekv.resp.globs import Matcher, literal, matcher
from wavekv.resp.refusals import SYNTAX, Refused
from wavekv.resp.session import Reply, Session, Sliced, bulk_or_null, whole
from wavekv.resp.turns import KEYS_PER_SLICE, SLICE_STEPS

_COUNT_DEFAULT: Final = 10
_STEPS_SHIFT: Final = 12
"""Matching takes at most len(pattern) * len(key) looks; so many of them count as a step of ten microseconds."""
_DETOUR_KEYS_MAX: Final = 4096
"""Keys that a page goes on to where no cursor is free, before all cursors are given anew."""


class _Pattern(NamedTuple):
    """What keys have to begin with; `fits` None: that is all. `whole`: it is the key itself."""

    begin: str
    whole: bool
    fits: Matcher | None
    length: int


_ALL: Final = _Pattern("", whole=False, fits=None, length=0)


def scan(session: Session, words: list[bytes]) -> Reply:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]."""
    if not words[1].isdigit() or len(words[1]) > 20 or int(words[1]) > U64_MAX:
        raise Refused("ERR invalid cursor")
    pattern, count, typed = _ALL, _COUNT_DEFAULT, True
    options = words[2:]
    while options:
        if len(options) < 2:
            raise Refused(SYNTAX)
        name, value = options[0].upper(), options[1]
        if name == b"MATCH":
            pattern = _pattern(session, value)
        elif name == b"COUNT":
            count = whole(value)
            if count < 1:
                raise Refused(SYNTAX)
        elif name == b"TYPE":
            typed = value.lower() == b"string"
        else:
            raise Refused(SYNTAX)
        options = options[2:]
    after = session.shared.cursors.behind(int(words[1]))
    if not typed:
        return replies.array([replies.bulk(b"0"), replies.array([])])
    return _scan(session, pattern, after, min(count, session.limits.list_entries_max))


def _scan(session: Session, pattern: _Pattern, after: str | None, count: int) -> Sliced:
    keys, more = yield from _page(session, pattern, after, count)
    cursor = (yield from _stop(session, pattern, after, keys)) if more else 0
    found = yield from _fitting(pattern, keys)
    return replies.array([replies.bulk(b"%d" % cursor), _bulks(found)])


def _stop(session: Session, pattern: _Pattern, after: str | None, keys: list[str]) -> Generator[int, None, int]:
    """Return the cursor behind `keys`, to which more are added where none is free."""
    cursors, told = session.shared.cursors, len(keys)
    while True:
        cursor = cursors.stop(after, keys[-1], len(keys), session.store.count())
        if cursor is not None:
            return cursor
        if len(keys) - told > _DETOUR_KEYS_MAX:
            cursors.renew()
            continue
        following = cursors.next_behind(keys[-1])
        some, more = yield from _page(session, pattern, keys[-1], KEYS_PER_SLICE)
        reached = [key for key in some if following is None or key <= following]
        keys += reached
        if not more and len(reached) == len(some):
            return 0
        if len(reached) < len(some) and following is not None:
            cursor = cursors.at(following)
            if cursor is not None:  # else it was forgotten while others had their turn
                return cursor


def keys(session: Session, words: list[bytes]) -> Reply:
    """KEYS pattern; bounded, since its answer comes in one piece."""
    return _keys(session, _pattern(session, words[1]))


def _keys(session: Session, pattern: _Pattern) -> Sliced:
    keys_max = session.limits.resp_keys_max
    found: list[str] = []
    after: str | None = None
    more = True
    while more:
        some, more = yield from _page(session, pattern, after, KEYS_PER_SLICE)
        found += yield from _fitting(pattern, some)
        if len(found) > keys_max:
            raise Refused(f"ERR more than {keys_max} keys match; use SCAN")
        after = some[-1] if some else None
    return _bulks(found)


def randomkey(session: Session, words: list[bytes]) -> Reply:
    """RANDOMKEY: one of the next keys behind the one picked last, so that every key comes up."""
    return _randomkey(session)


def _randomkey(session: Session) -> Sliced:
    shared = session.shared
    count = secrets.randbelow(min(max(session.store.count(), 1), KEYS_PER_SLICE)) + 1
    found, _ = yield from _page(session, _ALL, shared.picked, count)
    if not found:
        found, _ = yield from _page(session, _ALL, None, count)
    shared.picked = found[-1] if found else None
    return bulk_or_null(session, found[-1].encode() if found else None)


def _page(
    session: Session, pattern: _Pattern, after: str | None, count: int
) -> Generator[int, None, tuple[list[str], bool]]:
    """Return the next keys with the pattern's beginning, and whether there are more."""
    if pattern.whole:
        there = pattern.begin and session.store.length_of(pattern.begin) is not None
        return ([pattern.begin] if there and (after is None or pattern.begin > after) else []), False
    listing = session.store.list(pattern.begin, after, count, keys_only=True)
    while listing.step():
        yield SLICE_STEPS
    return [entry.key for entry in listing.entries], listing.more


def _fitting(pattern: _Pattern, keys: list[str]) -> Generator[int, None, list[str]]:
    """Return those that match, a slice at a time."""
    if pattern.fits is None:
        return keys
    found: list[str] = []
    steps = 0
    for key in keys:
        name = key.encode()
        if pattern.fits(name):
            found.append(key)
        steps += 1 + (pattern.length * len(name) >> _STEPS_SHIFT)
        if steps >= 4 * SLICE_STEPS:
            yield steps
            steps = 0
    return found


def _bulks(found: list[str]) -> bytes:
    return replies.array([replies.bulk(key.encode()) for key in found])


def _pattern(session: Session, raw: bytes) -> _Pattern:
    most = session.limits.resp_pattern_bytes_max
    if len(raw) > most:
        raise Refused(f"ERR the pattern has {len(raw)} bytes; at most {most} are allowed")
    begin, is_prefix = literal(raw)
    simple = is_prefix or not any(letter in raw for letter in b"*?[\\")
    try:
        text = begin.decode()
    except UnicodeDecodeError as error:  # no key is like that, but for one whose letter the pattern cuts in two
        text, simple, is_prefix = begin[: error.start].decode(), False, True
    if simple:
        return _Pattern(text, not is_prefix, None, len(raw))
    return _Pattern(text, whole=False, fits=matcher(raw), length=len(raw))
