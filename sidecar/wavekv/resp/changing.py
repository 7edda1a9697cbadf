"""The commands that look before they write: what they see is what they change, with no turn of the loop between."""

from wavekv.core.types import Entry
from wavekv.errors import BatchTooLarge
from wavekv.resp import replies
from wavekv.resp.expiring import UNITS, expiry_at
from wavekv.resp.overlay import Overlay
from wavekv.resp.refusals import SYNTAX, Refused
from wavekv.resp.session import Reply, Session, bulk_or_null, decided, whole

_NO_KEY = "ERR no such key"


def append(session: Session, words: list[bytes]) -> Reply:
    """APPEND key value."""
    return decided(session, words, _append)


def _append(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    key = session.key(words[1])
    held = overlay.get(key)
    value = session.value((_value(held) or b"") + words[2])
    overlay.hold(key, value, held.expires_at if held is not None else None)
    return replies.integer(len(value))


def setrange(session: Session, words: list[bytes]) -> Reply:
    """SETRANGE key offset value."""
    if whole(words[2]) < 0:
        raise Refused("ERR offset is out of range")
    return decided(session, words, _setrange)


def _setrange(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    key, offset, part = session.key(words[1]), whole(words[2]), words[3]
    held = overlay.get(key)
    value = _value(held) or b""
    if not part:
        return replies.integer(len(value))
    most = session.limits.value_bytes_max
    if offset + len(part) > most:
        raise Refused(f"ERR string exceeds maximum allowed size ({most} bytes, value_bytes_max)")
    value = value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :]
    overlay.hold(key, value, held.expires_at if held is not None else None)
    return replies.integer(len(value))


def getset(session: Session, words: list[bytes]) -> Reply:
    """GETSET key value."""
    session.value(words[2])
    return decided(session, words, _getset)


def _getset(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    key = session.key(words[1])
    held = overlay.get(key)
    overlay.hold(key, words[2])
    return bulk_or_null(session, _value(held))


def getdel(session: Session, words: list[bytes]) -> Reply:
    """GETDEL key."""
    return decided(session, words, _getdel)


def _getdel(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    key = session.key(words[1])
    held = overlay.get(key)
    if held is not None:
        overlay.hold(key, None)
    return bulk_or_null(session, _value(held))


def getex(session: Session, words: list[bytes]) -> Reply:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]."""
    option = words[2].upper() if len(words) > 2 else b"PERSIST"
    known = len(words) == (4 if option in UNITS else min(len(words), 3)) and option in {*UNITS, b"PERSIST"}
    if not known:
        raise Refused(SYNTAX)
    return decided(session, words, _getex)


def _getex(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    key = session.key(words[1])
    held = overlay.get(key)
    if held is None or held.value is None or len(words) == 2:
        return bulk_or_null(session, _value(held))
    if len(words) == 3:
        if held.expires_at is not None:
            overlay.hold(key, held.value)
        return replies.bulk(held.value)
    unit = words[2].upper()
    at = expiry_at(session, "getex", unit, words[3], past=unit in {b"EXAT", b"PXAT"})
    overlay.hold(key, held.value if at > session.shared.clock.now_ms() else None, at)
    return replies.bulk(held.value)


def msetnx(session: Session, words: list[bytes]) -> Reply:
    """MSETNX key value…: all of them, or none."""
    if len(words) % 2 == 0:
        raise Refused("ERR wrong number of arguments for 'msetnx' command")
    most = session.limits.batch_operations_max
    if len(words) // 2 > most:
        raise BatchTooLarge(f"{len(words) // 2} keys are set, all or none; at most {most} are at once")
    return decided(session, words, _msetnx)


def _msetnx(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    pairs = [(session.key(key), session.value(value)) for key, value in zip(words[1::2], words[2::2], strict=True)]
    if any(overlay.pending(key) is not None for key, _ in pairs):
        return replies.integer(0)
    for key, value in pairs:
        overlay.hold(key, value)
    return replies.integer(1)


def rename(session: Session, words: list[bytes]) -> Reply:
    """RENAME key name, RENAMENX key name; with its time to live."""
    return decided(session, words, _rename)


def _rename(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    absent_only = words[0].upper() == b"RENAMENX"
    key, name = session.key(words[1]), session.key(words[2])
    held = overlay.get(key)
    if held is None:
        raise Refused(_NO_KEY)
    taken = absent_only and overlay.pending(name) is not None
    if not taken and key != name:
        overlay.hold(name, held.value, held.expires_at)
        overlay.hold(key, None)
    if absent_only:
        return replies.integer(0 if taken else 1)
    return replies.OK


def copy(session: Session, words: list[bytes]) -> Reply:
    """COPY key name [DB 0] [REPLACE]; with its time to live."""
    options = words[3:]
    while options:
        option = options[0].upper()
        if option == b"DB" and len(options) > 1:
            if whole(options[1]) != 0:
                raise Refused("ERR DB index is out of range")
            options = options[2:]
        elif option == b"REPLACE":
            options = options[1:]
        else:
            raise Refused(SYNTAX)
    if words[1] == words[2]:
        raise Refused("ERR source and destination objects are the same")
    return decided(session, words, _copy)


def _copy(session: Session, overlay: Overlay, words: list[bytes]) -> bytes:
    key, name = session.key(words[1]), session.key(words[2])
    held = overlay.get(key)
    replaces = any(word.upper() == b"REPLACE" for word in words[3:])
    if held is None or (overlay.pending(name) is not None and not replaces):
        return replies.integer(0)
    overlay.hold(name, held.value, held.expires_at)
    return replies.integer(1)


def _value(held: Entry | None) -> bytes | None:
    return None if held is None else held.value
