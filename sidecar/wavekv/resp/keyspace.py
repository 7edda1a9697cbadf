"""The commands on keys whose number is open: EXISTS, DEL, FLUSHDB; and on one: TYPE, OBJECT, MEMORY USAGE."""

from typing import Final

from wavekv.core.writes import Delete
from wavekv.errors import KeyNotFound
from wavekv.resp import replies
from wavekv.resp.refusals import SYNTAX, Refused
from wavekv.resp.session import Reply, Session, Sliced, bulk_or_null, shown
from wavekv.resp.turns import KEYS_PER_SLICE, SLICE_STEPS
from wavekv.runtime.gate import next_slice

DELETES_PER_SLICE: Final = 128
"""Keys deleted in one slice, about three milliseconds until the disk has them and after."""


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
    session.alone = not session.deciding
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
        async with session.writing_long():
            outcomes = await session.store.batch(writes)
        for written in outcomes:
            session.wrote(written)
            deleted += written is not None
    return replies.integer(deleted)


def dbsize(session: Session, words: list[bytes]) -> Reply:
    """DBSIZE."""
    return replies.integer(session.store.count())


def flush(session: Session, words: list[bytes]) -> Reply:
    """FLUSHDB, FLUSHALL [ASYNC | SYNC]: delete what is held, some at a time; what is written meanwhile may stay."""
    if len(words) > 2 or (len(words) == 2 and words[1].upper() not in {b"ASYNC", b"SYNC"}):
        raise Refused(SYNTAX)
    session.alone = True
    return _flush(session)


async def _flush(session: Session) -> bytes:
    left = session.store.count() + DELETES_PER_SLICE
    after: str | None = None
    while left > 0:
        page = session.store.list("", after, DELETES_PER_SLICE, keys_only=True)
        while page.step():
            await next_slice()
        if not page.entries:
            break
        left -= len(page.entries)
        after = page.entries[-1].key
        async with session.writing_long():
            for written in await session.store.batch([Delete(entry.key) for entry in page.entries]):
                session.wrote(written)
    return replies.OK


# ---- OBJECT and MEMORY ---------------------------------------------------------------------------------------------

_EMBEDDED_BYTES: Final = 44
_ENTRY_BYTES: Final = 120
"""About what an entry takes beside its key and value."""


def object_(session: Session, words: list[bytes]) -> Reply:
    """OBJECT ENCODING | REFCOUNT | IDLETIME | FREQ key; idle is the time since the last write, on any member."""
    asked = words[1].upper()
    if asked not in {b"ENCODING", b"REFCOUNT", b"IDLETIME", b"FREQ"}:
        raise Refused(f"ERR unknown subcommand '{shown(words[1])}'. Try OBJECT HELP.")
    if len(words) != 3:
        raise Refused(f"ERR wrong number of arguments for 'object|{shown(asked.lower())}' command")
    entry = session.store.get(session.key(words[2]))
    if entry is None or entry.value is None:
        return bulk_or_null(session, None)
    if asked == b"FREQ":
        raise Refused(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
            "switching between policies at runtime LRU and LFU data will take some time to adjust."
        )
    if asked == b"ENCODING":
        return replies.bulk(_encoding(entry.value))
    idle_ms = session.shared.clock.now_ms() - entry.timestamp
    return replies.integer(1 if asked == b"REFCOUNT" else max(idle_ms, 0) // 1000)


def _encoding(value: bytes) -> bytes:
    digits = value.removeprefix(b"-")
    plain = digits.isdigit() and len(value) <= 20 and (digits[:1] != b"0" or value == b"0")
    if plain and -(2**63) <= int(value) < 2**63:
        return b"int"
    return b"embstr" if len(value) <= _EMBEDDED_BYTES else b"raw"


def memory(session: Session, words: list[bytes]) -> Reply:
    """MEMORY USAGE key [SAMPLES count]."""
    if words[1].upper() != b"USAGE":
        raise Refused(f"ERR unknown subcommand '{shown(words[1])}'. Try MEMORY HELP.")
    if len(words) not in {3, 5} or (len(words) == 5 and words[3].upper() != b"SAMPLES"):
        raise Refused(SYNTAX)
    size = session.store.length_of(session.key(words[2]))
    return bulk_or_null(session, None) if size is None else replies.integer(size + len(words[2]) + _ENTRY_BYTES)
