"""What each Redis command does here. Texts of Redis' own errors are kept to the letter: clients match on them.

A command or option that this version lacks is refused and never ignored: `SET k v EX 5` answered OK would be a promise
to forget that nobody keeps. INCR and its kin will not come: last-writer-wins would lose increments.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from wavekv import __version__
from wavekv.config import Limits
from wavekv.core.condition import ABSENT, ALWAYS, PRESENT, Condition
from wavekv.core.types import parse_key
from wavekv.errors import KeyNotFound, PreconditionFailed, ValueTooLarge
from wavekv.ports import KeyValues
from wavekv.resp import replies

_SET_OPTIONS: Final = frozenset({b"EX", b"PX", b"EXAT", b"PXAT", b"GET", b"KEEPTTL"})
_SET_CONDITIONS: Final = {b"NX": ABSENT, b"XX": PRESENT}
_SYNTAX: Final = "ERR syntax error"
_SHOWN_MAX: Final = 128  # characters of an unknown command, and of its arguments, that Redis repeats

Reply = bytes | Coroutine[Any, Any, bytes]
"""A reply, or the write that will give one."""


@dataclass(slots=True)
class Session:
    """One connection's state as commands see it; `proto` is the version of RESP its replies have."""

    store: KeyValues
    limits: Limits
    number: int
    proto: int = 2
    ends: bool = False
    refusing: bool = False
    """A transaction was asked for and refused: what would be in it is not run either."""

    def key(self, raw: bytes) -> str:
        """Return a key. Raises InvalidKey."""
        return parse_key(raw, self.limits.key_bytes_max)


class Command(NamedTuple):
    """One line of the table. `reads` waits for this connection's earlier writes; counts include the name."""

    kind: str
    words_min: int
    words_max: int | None
    reads: bool
    run: Callable[[Session, list[bytes]], Reply]

    def takes(self, words: int) -> bool:
        """Tell whether a command of so many words is complete."""
        return self.words_min <= words and (self.words_max is None or words <= self.words_max)


def ping(session: Session, words: list[bytes]) -> Reply:
    """PING [message]."""
    return replies.bulk(words[1]) if len(words) > 1 else replies.PONG


def leave(session: Session, words: list[bytes]) -> Reply:
    """QUIT."""
    session.ends = True
    return replies.OK


def hello(session: Session, words: list[bytes]) -> Reply:
    """HELLO [2|3 [SETNAME name]]; there are no users, so AUTH is refused."""
    proto = session.proto
    if len(words) > 1:
        if not words[1].isdigit():
            return replies.error("ERR Protocol version is not an integer or out of range")
        if words[1] not in {b"2", b"3"}:
            return replies.error("NOPROTO unsupported protocol version")
        proto = int(words[1])
    options = words[2:]
    while options:
        option = options[0].upper()
        if option == b"AUTH":
            return replies.error("ERR option AUTH is not supported by this version")
        if option != b"SETNAME" or len(options) < 2:
            return replies.error(f"ERR syntax error in HELLO option '{_shown(options[0])}'")
        options = options[2:]
    session.proto = proto
    facts = {
        b"server": replies.bulk(b"wavekv"),
        b"version": replies.bulk(__version__.encode()),
        b"proto": replies.integer(proto),
        b"id": replies.integer(session.number),
        b"mode": replies.bulk(b"standalone"),
        b"role": replies.bulk(b"master"),
        b"modules": b"*0\r\n",
    }
    return replies.mapping(facts, proto)


def get(session: Session, words: list[bytes]) -> Reply:
    """GET key."""
    entry = session.store.get(session.key(words[1]))
    return replies.null(session.proto) if entry is None or entry.value is None else replies.bulk(entry.value)


def exists(session: Session, words: list[bytes]) -> Reply:
    """EXISTS key…; a key named twice counts twice."""
    return replies.integer(sum(session.store.get(session.key(word)) is not None for word in words[1:]))


def set_(session: Session, words: list[bytes]) -> Reply:
    """SET key value [NX | XX]."""
    condition = ALWAYS
    for option in (word.upper() for word in words[3:]):
        if option not in _SET_CONDITIONS:
            known = option in _SET_OPTIONS
            return replies.error(f"ERR option {_shown(option)} is not supported by this version" if known else _SYNTAX)
        if condition not in {ALWAYS, _SET_CONDITIONS[option]}:
            return replies.error(_SYNTAX)
        condition = _SET_CONDITIONS[option]
    key, value = session.key(words[1]), words[2]
    if len(value) > session.limits.value_bytes_max:
        raise ValueTooLarge(f"the value has {len(value)} bytes; at most {session.limits.value_bytes_max} are allowed")
    return _set(session, key, value, condition)


async def _set(session: Session, key: str, value: bytes, condition: Condition) -> bytes:
    try:
        await session.store.put(key, value, condition)
    except PreconditionFailed:
        return replies.null(session.proto)
    return replies.OK


def delete(session: Session, words: list[bytes]) -> Reply:
    """DEL key…; each is a delete of its own."""
    return _delete(session.store, [session.key(word) for word in words[1:]])


async def _delete(store: KeyValues, keys: list[str]) -> bytes:
    outcomes = await asyncio.gather(*[store.delete(key) for key in keys], return_exceptions=True)
    deleted = 0
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            deleted += 1
        elif not isinstance(outcome, KeyNotFound):
            raise outcome
    return replies.integer(deleted)


COMMANDS: Final[Mapping[bytes, Command]] = {
    b"PING": Command("ping", 1, 2, False, ping),
    b"QUIT": Command("quit", 1, None, False, leave),
    b"HELLO": Command("hello", 1, None, False, hello),
    b"GET": Command("get", 2, 2, True, get),
    b"EXISTS": Command("exists", 2, None, True, exists),
    b"SET": Command("put", 3, None, False, set_),
    b"DEL": Command("delete", 2, None, False, delete),
}


def refuse_transaction(session: Session, words: list[bytes]) -> bytes | None:
    """Return the refusal of MULTI and of all that follows it up to EXEC or DISCARD; None outside of that.

    Clients send a transaction in one go: running its commands one by one would keep half of a promise.
    """
    name = words[0].upper()
    if name == b"MULTI":
        session.refusing = True
        return replies.error("ERR transactions are not supported by this version")
    if not session.refusing:
        return None
    session.refusing = name not in {b"EXEC", b"DISCARD"}
    if session.refusing:
        return replies.error("ERR not run: the transaction it belongs to was refused")
    return replies.OK if name == b"DISCARD" else replies.error("EXECABORT Transaction discarded: none was begun")


def unknown(words: list[bytes]) -> bytes:
    """Return Redis' answer to a command it does not know, with the beginning of its arguments."""
    shown = ""
    for word in words[1:]:
        if len(shown) >= _SHOWN_MAX:
            break
        shown += f"'{_shown(word[: _SHOWN_MAX - len(shown)])}' "
    return replies.error(f"ERR unknown command '{_shown(words[0])}', with args beginning with: {shown}")


def wrong_count(words: list[bytes]) -> bytes:
    """Return Redis' answer to a known command with too few or too many arguments."""
    return replies.error(f"ERR wrong number of arguments for '{_shown(words[0].lower())}' command")


def _shown(word: bytes) -> str:
    return word[:_SHOWN_MAX].decode("utf-8", "surrogateescape")
