"""The commands on values: GET, SET and their kin."""

from dataclasses import dataclass
from typing import Final

from wavekv.core.condition import ABSENT, ALWAYS, PRESENT, Condition
from wavekv.core.writes import KEEP_EXPIRY, Put
from wavekv.errors import BatchTooLarge, KeyNotFound, PreconditionFailed
from wavekv.resp import replies
from wavekv.resp.expiring import UNITS, expiry_at
from wavekv.resp.refusals import SYNTAX, Refused
from wavekv.resp.session import Reply, Session, Sliced, bulk_or_null, whole
from wavekv.resp.turns import KEYS_PER_SLICE, SLICE_STEPS
from wavekv.runtime.gate import next_slice

_CONDITIONS: Final = {b"NX": ABSENT, b"XX": PRESENT}


@dataclass(slots=True)
class _Options:
    condition: Condition = ALWAYS
    unit: bytes | None = None
    amount: bytes = b""
    keeps: bool = False
    gets: bool = False


def get(session: Session, words: list[bytes]) -> Reply:
    """GET key."""
    entry = session.store.get(session.key(words[1]))
    return bulk_or_null(session, None if entry is None else entry.value)


def strlen(session: Session, words: list[bytes]) -> Reply:
    """STRLEN key."""
    return replies.integer(session.store.length_of(session.key(words[1])) or 0)


def getrange(session: Session, words: list[bytes]) -> Reply:
    """GETRANGE key start end, SUBSTR key start end; both ends included, below 0 counted from the end."""
    start, end = whole(words[2]), whole(words[3])
    entry = session.store.get(session.key(words[1]))
    value = b"" if entry is None or entry.value is None else entry.value
    if start < 0 and end < 0 and start > end:
        return replies.bulk(b"")
    first = max(start + len(value), 0) if start < 0 else start
    last = max(end + len(value), 0) if end < 0 else end
    return replies.bulk(value[first : last + 1])


def mget(session: Session, words: list[bytes]) -> Reply:
    """MGET key…; very many are read in slices, and may change in between."""
    if len(words) - 1 <= KEYS_PER_SLICE:
        sizes = map(session.store.length_of, map(session.key, words[1:]))
        _check_total(session, sum(filter(None, sizes)))
        return b"".join([b"*%d\r\n" % (len(words) - 1), *_values(session, words[1:])])
    return _mget(session, words)


def _mget(session: Session, words: list[bytes]) -> Sliced:
    parts = [b"*%d\r\n" % (len(words) - 1)]
    size = 0
    for start in range(1, len(words), KEYS_PER_SLICE):
        some = _values(session, words[start : start + KEYS_PER_SLICE])
        size += sum(map(len, some))
        _check_total(session, size)
        parts += some
        yield SLICE_STEPS
    return b"".join(parts)


def _check_total(session: Session, size: int) -> None:
    most = session.limits.resp_replies_bytes_max
    if size > most:
        raise BatchTooLarge(f"the values exceed {most} bytes together; ask for fewer keys at once")


def _values(session: Session, words: list[bytes]) -> list[bytes]:
    parts: list[bytes] = []  # put together once: each copy of 8 MiB takes milliseconds
    for word in words:
        entry = session.store.get(session.key(word))
        if entry is None or entry.value is None:
            parts.append(replies.null(session.proto))
        else:
            parts += (b"$%d\r\n" % len(entry.value), entry.value, b"\r\n")
    return parts


def mset(session: Session, words: list[bytes]) -> Reply:
    """MSET key value…; one batch, all of it or nothing, and more than fit one batch in several."""
    if len(words) % 2 == 0:
        raise Refused("ERR wrong number of arguments for 'mset' command")
    limits = session.limits
    size = sum(map(len, words[1:]))
    if len(words) // 2 <= limits.batch_operations_max and size <= limits.batch_bytes_max:
        return _mset(session, _puts(session, words[1:]))
    session.alone = not session.deciding
    return _mset_in_parts(session, words)


def _puts(session: Session, words: list[bytes]) -> list[Put]:
    return [Put(session.key(key), session.value(value)) for key, value in zip(words[::2], words[1::2], strict=True)]


async def _mset(session: Session, writes: list[Put]) -> bytes:
    for written in await session.store.batch(writes):
        session.wrote(written)
    return replies.OK


async def _mset_in_parts(session: Session, words: list[bytes]) -> bytes:
    for start in range(1, len(words), 4 * KEYS_PER_SLICE):  # nothing is stored if anything can be refused before
        for place in range(start, min(start + 4 * KEYS_PER_SLICE, len(words)), 2):
            session.key(words[place])
            session.value(words[place + 1])
        if not session.deciding:
            await next_slice()
    most = session.limits.batch_bytes_max
    start = 1
    while start < len(words):
        end, size = start, 0
        while end < len(words) and end - start < 2 * KEYS_PER_SLICE:
            size += len(words[end]) + len(words[end + 1])
            if size > most and end > start:
                break
            end += 2
        async with session.writing_long():
            await _mset(session, _puts(session, words[start:end]))
        start = end
    return replies.OK


def set_(session: Session, words: list[bytes]) -> Reply:
    """SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]."""
    options = _options(words[3:])
    expires_at = KEEP_EXPIRY if options.keeps else None
    if options.unit is not None:
        expires_at = expiry_at(session, "set", options.unit, options.amount, past=options.unit in {b"EXAT", b"PXAT"})
    key, value = session.key(words[1]), session.value(words[2])
    return _set(session, key, value, options, expires_at)


def _options(words: list[bytes]) -> _Options:
    found = _Options()
    left = list(reversed(words))
    while left:
        option = left.pop().upper()
        if option in _CONDITIONS and found.condition in {ALWAYS, _CONDITIONS[option]}:
            found.condition = _CONDITIONS[option]
        elif option == b"GET":
            found.gets = True
        elif option == b"KEEPTTL" and found.unit is None:
            found.keeps = True
        elif option in UNITS and found.unit in {None, option} and not found.keeps and left:
            found.unit, found.amount = option, left.pop()
        else:
            raise Refused(SYNTAX)
    return found


async def _set(session: Session, key: str, value: bytes, options: _Options, expires_at: int | None) -> bytes:
    store = session.store
    while True:
        try:
            if expires_at is None or expires_at == KEEP_EXPIRY or expires_at > session.shared.clock.now_ms():
                written = await store.put(key, value, options.condition, expires_at)
            else:  # it has expired already: as Redis has it, the key goes
                written = await store.delete(key, options.condition)
            session.wrote(written)
            previous = written.previous
        except KeyNotFound:
            previous = None
        except PreconditionFailed:
            held = store.get(key)
            if options.condition == ABSENT and options.gets and held is None:
                continue  # what stood in the way has gone meanwhile; null would say that the value was stored
            return bulk_or_null(session, held.value if held is not None and options.gets else None)
        if options.gets:
            return bulk_or_null(session, None if previous is None else previous.value)
        return replies.OK


def setnx(session: Session, words: list[bytes]) -> Reply:
    """SETNX key value."""
    return _setnx(session, session.key(words[1]), session.value(words[2]))


async def _setnx(session: Session, key: str, value: bytes) -> bytes:
    try:
        session.wrote(await session.store.put(key, value, ABSENT))
    except PreconditionFailed:
        return replies.integer(0)
    return replies.integer(1)


def setex(session: Session, words: list[bytes]) -> Reply:
    """SETEX key seconds value, PSETEX key milliseconds value."""
    name = words[0].lower().decode()
    expires_at = expiry_at(session, name, b"PX" if name == "psetex" else b"EX", words[2], past=False)
    return _set(session, session.key(words[1]), session.value(words[3]), _Options(), expires_at)
