"""The commands on times to live. What is past is a deletion, as in Redis."""

from collections.abc import Callable
from typing import Final

from wavekv.core.condition import Condition
from wavekv.core.types import Entry
from wavekv.errors import KeyNotFound, PreconditionFailed
from wavekv.resp import replies
from wavekv.resp.refusals import Refused
from wavekv.resp.session import Reply, Session, shown, whole

UNITS: Final = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}
"""Option of SET to milliseconds in one of its units, and whether it counts from now."""

_OF_COMMAND: Final = {b"EXPIRE": b"EX", b"PEXPIRE": b"PX", b"EXPIREAT": b"EXAT", b"PEXPIREAT": b"PXAT"}
_FLAGS: Final = frozenset({b"NX", b"XX", b"GT", b"LT"})
_NO_KEY, _NO_EXPIRY = -2, -1


def expiry_at(session: Session, command: str, unit: bytes, amount: bytes, *, past: bool) -> int:
    """Return milliseconds since 1970; a time that is over only where `past` is taken, and then 1 at least.

    Raises:
        Refused: not a number, not above 0 where it has to be, or beyond the longest time to live.
    """
    number = whole(amount)
    factor, relative = UNITS[unit]
    now_ms = session.shared.clock.now_ms()
    at = number * factor + (now_ms if relative else 0)
    if (number <= 0 and command not in _EXPIRE_NAMES) or at - now_ms > session.limits.ttl_ms_max:
        raise Refused(f"ERR invalid expire time in '{command}' command")
    assert past or at > now_ms, "an amount above 0 is ahead"
    return max(at, 1)  # 0 would mean to keep what is there


_EXPIRE_NAMES: Final = frozenset(name.decode().lower() for name in _OF_COMMAND)


def _remaining(of_entry: Callable[[Entry, int], int]) -> Callable[[Session, list[bytes]], Reply]:
    def run(session: Session, words: list[bytes]) -> Reply:
        entry = session.store.get(session.key(words[1]))
        if entry is None:
            return replies.integer(_NO_KEY)
        if entry.expires_at is None:
            return replies.integer(_NO_EXPIRY)
        return replies.integer(of_entry(entry, session.shared.clock.now_ms()))

    return run


def _left(entry: Entry, now_ms: int) -> int:
    return max((entry.expires_at or 0) - now_ms, 0)


ttl = _remaining(lambda entry, now_ms: (_left(entry, now_ms) + 500) // 1000)
pttl = _remaining(_left)
expiretime = _remaining(lambda entry, _: ((entry.expires_at or 0) + 500) // 1000)
pexpiretime = _remaining(lambda entry, _: entry.expires_at or 0)


def expire(session: Session, words: list[bytes]) -> Reply:
    """EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: key amount [NX | XX | GT | LT]."""
    name = words[0].upper()
    flags = _flags(words[3:])
    at = expiry_at(session, name.lower().decode(), _OF_COMMAND[name], words[2], past=True)
    return _expire(session, session.key(words[1]), at, flags)


def _flags(words: list[bytes]) -> frozenset[bytes]:
    flags = frozenset(word.upper() for word in words)
    for word in words:
        if word.upper() not in _FLAGS:
            raise Refused(f"ERR Unsupported option {shown(word)}")
    if b"NX" in flags and len(flags) > 1:
        raise Refused("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= flags:
        raise Refused("ERR GT and LT options at the same time are not compatible")
    return flags


def _allows(flags: frozenset[bytes], there: int | None, at: int) -> bool:
    """Tell whether the flags let `at` replace the expiry that is there; none counts as later than any."""
    if (b"NX" in flags and there is not None) or (b"XX" in flags and there is None):
        return False
    if b"GT" in flags and (there is None or at <= there):
        return False
    return not (b"LT" in flags and there is not None and at >= there)


async def _expire(session: Session, key: str, at: int, flags: frozenset[bytes]) -> bytes:
    return await _change(session, key, at, lambda there: _allows(flags, there, at))


def persist(session: Session, words: list[bytes]) -> Reply:
    """PERSIST key."""
    return _change(session, session.key(words[1]), None, lambda there: there is not None)


async def _change(session: Session, key: str, at: int | None, allows: Callable[[int | None], bool]) -> bytes:
    """Give the key another expiry if the one that is there allows it; what was looked at is what is changed."""
    store = session.store
    while True:
        entry = store.get(key)
        if entry is None or not allows(entry.expires_at):
            return replies.integer(0)
        seen = Condition(match=(entry.etag,))
        try:
            if at is not None and at <= session.shared.clock.now_ms():
                session.wrote(await store.delete(key, seen))
            else:
                session.wrote(await store.expire(key, at, seen))
        except KeyNotFound:
            return replies.integer(0)
        except PreconditionFailed:
            continue  # another write came first, and is visible by now
        return replies.integer(1)
