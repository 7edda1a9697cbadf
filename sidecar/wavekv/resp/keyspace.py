"""The commands on keys: EXISTS, TYPE, DEL, SCAN, KEYS, DBSIZE.

SCAN goes in key order: its cursor stands for the last key told, so a key that is there from the first call to the last
is told exactly once, whatever comes and goes meanwhile. KEYS, SCAN and an EXISTS of very many keys are done in slices:
a key that comes or goes while one runs may be told or not. Patterns are a prefix and `*`, or a whole key: any other
would have to look at every key, which is refused rather than done slowly.
"""

from collections.abc import Generator
from typing import Final, NamedTuple

from wavekv.core.types import U64_MAX
from wavekv.core.writes import Delete
from wavekv.errors import KeyNotFound
from wavekv.resp import replies
from wavekv.resp.session import SYNTAX, Refused, Reply, Session, Sliced, shown, whole

KEYS_PER_SLICE: Final = 512
"""Keys looked up in one slice."""
DELETES_PER_SLICE: Final = 128
"""Keys deleted in one slice, about three milliseconds until the disk has them and after."""
SLICE_STEPS: Final = 48
"""Steps that a slice takes: half a millisecond."""
_COUNT_DEFAULT: Final = 10
_WILD: Final = frozenset(b"*?[")
_ESCAPE: Final = 0x5C


class _Pattern(NamedTuple):
    text: str
    whole: bool


def exists(session: Session, words: list[bytes]) -> Reply:
    """EXISTS key…; a key named twice counts twice. Very many are looked at in slices, and may change in between."""
    if len(words) <= KEYS_PER_SLICE:
        return replies.integer(_count(session, words[1:]))
    return _exists(session, words)


def _exists(session: Session, words: list[bytes]) -> Sliced:
    found = 0
    for start in range(1, len(words), KEYS_PER_SLICE):
        found += _count(session, words[start : start + KEYS_PER_SLICE])
        yield SLICE_STEPS
    return replies.integer(found)


def _count(session: Session, words: list[bytes]) -> int:
    return sum(session.store.length_of(session.key(word)) is not None for word in words)


def type_(session: Session, words: list[bytes]) -> Reply:
    """TYPE key; every value is a string."""
    return b"+none\r\n" if session.store.length_of(session.key(words[1])) is None else b"+string\r\n"


def delete(session: Session, words: list[bytes]) -> Reply:
    """DEL key…; many are deleted some at a time, those together, and what was deleted before an error stays so."""
    if len(words) == 2:
        return _delete(session, session.key(words[1]))
    return _delete_all(session, words[1:])


async def _delete(session: Session, key: str) -> bytes:
    try:
        session.wrote(await session.store.delete(key))
    except KeyNotFound:
        return replies.integer(0)
    return replies.integer(1)


async def _delete_all(session: Session, words: list[bytes]) -> bytes:
    deleted = 0
    at_once = min(DELETES_PER_SLICE, session.limits.batch_operations_max)
    for start in range(0, len(words), at_once):
        writes = [Delete(session.key(word)) for word in words[start : start + at_once]]
        async with session.shared.long_writes:
            outcomes = await session.store.batch(writes)
        for written in outcomes:
            session.wrote(written)
            deleted += written is not None
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
    return _scan(session, pattern, after, min(count, session.limits.list_entries_max) if typed else 0)


def _scan(session: Session, pattern: _Pattern, after: str | None, count: int) -> Sliced:
    keys, more = (yield from _page(session, pattern, after, count)) if count else ([], False)
    following = session.shared.cursors.remember(keys[-1]) if more else 0
    return replies.array([replies.bulk(b"%d" % following), _bulks(keys)])


def keys(session: Session, words: list[bytes]) -> Reply:
    """KEYS pattern; bounded, since its answer comes in one piece."""
    return _keys(session, _pattern(words[1]))


def _keys(session: Session, pattern: _Pattern) -> Sliced:
    keys_max = session.limits.resp_keys_max
    found, more = yield from _page(session, pattern, None, keys_max)
    if more:
        raise Refused(f"ERR more than {keys_max} keys match; use SCAN")
    return _bulks(found)


def _page(
    session: Session, pattern: _Pattern, after: str | None, count: int
) -> Generator[int, None, tuple[list[str], bool]]:
    if pattern.whole:
        there = pattern.text and session.store.length_of(pattern.text) is not None
        return ([pattern.text] if there and (after is None or pattern.text > after) else []), False
    listing = session.store.list(pattern.text, after, count, keys_only=True)
    while listing.step():
        yield SLICE_STEPS
    return [entry.key for entry in listing.entries], listing.more


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
