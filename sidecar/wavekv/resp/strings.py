"""The commands on values: GET, SET and their kin."""

from dataclasses import dataclass
from typing import Final

from wavekv.core.condition import ABSENT, ALWAYS, PRESENT, Condition
from wavekv.core.writes import KEEP_EXPIRY, Put
from wavekv.errors import BatchTooLarge, KeyNotFound, PreconditionFailed
from wavekv.resp import replies
from wavekv.resp.expiring import UNITS, expiry_at
from wavekv.resp.session import SYNTAX, Refused, Reply, Session, bulk_or_null

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


def mget(session: Session, words: list[bytes]) -> Reply:
    """MGET key…; bounded as a multi-get is."""
    limits = session.limits
    if len(words) - 1 > limits.multi_get_keys_max:
        raise BatchTooLarge(f"{len(words) - 1} keys are asked for; at most {limits.multi_get_keys_max} are at once")
    keys = [session.key(word) for word in words[1:]]
    if sum(session.store.length_of(key) or 0 for key in keys) > limits.list_bytes_max:
        raise BatchTooLarge(f"the values exceed {limits.list_bytes_max} bytes together; ask for fewer keys at once")
    parts = [b"*%d\r\n" % len(keys)]  # put together once: each copy of 8 MiB takes milliseconds
    for key in keys:
        entry = session.store.get(key)
        if entry is None or entry.value is None:
            parts.append(replies.null(session.proto))
        else:
            parts += (b"$%d\r\n" % len(entry.value), entry.value, b"\r\n")
    return b"".join(parts)


def mset(session: Session, words: list[bytes]) -> Reply:
    """MSET key value…; one batch, all of it or nothing."""
    if len(words) % 2 == 0:
        raise Refused("ERR wrong number of arguments for 'mset' command")
    if len(words) // 2 > session.limits.batch_operations_max:
        raise BatchTooLarge(
            f"{len(words) // 2} keys are set; at most {session.limits.batch_operations_max} are at once"
        )
    pairs = zip(words[1::2], words[2::2], strict=True)
    return _mset(session, [Put(session.key(key), session.value(value)) for key, value in pairs])


async def _mset(session: Session, writes: list[Put]) -> bytes:
    for written in await session.store.batch(writes):
        session.wrote(written)
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
