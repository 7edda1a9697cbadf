"""The table of Redis commands. Texts of Redis' own errors are kept to the letter: clients match on them.

A command or option that this version lacks is refused and never ignored. INCR and its kin will not come:
last-writer-wins would lose increments, and PUBLISH neither: members pass on what keys hold, not messages.
"""

from collections.abc import Mapping
from typing import Final

from wavekv.resp import (
    changing,
    expiring,
    keyspace,
    replies,
    scanning,
    service,
    spreading,
    strings,
    subscribing,
    transactions,
)
from wavekv.resp.refusals import Refused
from wavekv.resp.session import SHOWN_MAX, Command, Reply, Session, shown


def command(session: Session, words: list[bytes]) -> Reply:
    """COMMAND [COUNT | LIST | DOCS [name…] | INFO [name…]]."""
    asked = words[1].upper() if len(words) > 1 else b"INFO"
    names = [word.upper() for word in words[2:]]
    if asked == b"COUNT" and not names:
        return replies.integer(len(COMMANDS))
    if asked == b"LIST" and not names:
        return replies.array([replies.bulk(name.lower()) for name in COMMANDS])
    if asked == b"DOCS":  # clients take an empty one for a server that knows none
        return replies.mapping({}, session.proto)
    if asked == b"INFO":
        return replies.array([_facts(name, session) for name in (names or COMMANDS)])
    raise Refused(f"ERR unknown subcommand '{shown(words[1])}'. Try COMMAND HELP.")


def _facts(name: bytes, session: Session) -> bytes:
    found = COMMANDS.get(name)
    if found is None:
        return replies.null_array(session.proto)
    arity = found.words_min if found.words_max == found.words_min else -found.words_min
    flags = [b"+readonly\r\n"] if found.reads else []
    numbers = [replies.integer(number) for number in found.keys]
    nothing = replies.array([])
    head = [replies.bulk(name.lower()), replies.integer(arity), replies.array(flags)]
    return replies.array([*head, *numbers, nothing, nothing, nothing, nothing])


_OPTIONS_MAX: Final = 32
"""Words of a command that takes options; no sensible one has more."""
_NAMES_MAX: Final = 512
"""Words of a command that takes names of commands or settings."""
_PAIR: Final = (1, 2, 1)
_ONE: Final = (1, 1, 1)
_ALL: Final = (1, -1, 1)

COMMANDS: Final[Mapping[bytes, Command]] = {
    b"PING": Command("ping", 1, 2, False, service.ping),
    b"ECHO": Command("other", 2, 2, False, service.echo),
    b"AUTH": Command("other", 2, _OPTIONS_MAX, False, service.auth),
    b"QUIT": Command("quit", 1, _OPTIONS_MAX, False, service.leave),
    b"HELLO": Command("hello", 1, _OPTIONS_MAX, False, service.hello, queued=False),
    b"TIME": Command("other", 1, 1, False, service.time),
    b"SELECT": Command("other", 2, 2, False, service.select),
    b"CLIENT": Command("other", 2, _OPTIONS_MAX, False, service.client),
    b"COMMAND": Command("other", 1, _NAMES_MAX, False, command),
    b"CONFIG": Command("other", 2, _NAMES_MAX, False, service.config),
    b"INFO": Command("other", 1, _OPTIONS_MAX, True, service.info),
    b"GET": Command("get", 2, 2, True, strings.get, _ONE),
    b"STRLEN": Command("get", 2, 2, True, strings.strlen, _ONE),
    b"GETRANGE": Command("get", 4, 4, True, strings.getrange, _ONE),
    b"SUBSTR": Command("get", 4, 4, True, strings.getrange, _ONE),
    b"MGET": Command("multi_get", 2, None, True, strings.mget, _ALL),
    b"SET": Command("put", 3, _OPTIONS_MAX, False, strings.set_, _ONE),
    b"SETNX": Command("put", 3, 3, False, strings.setnx, _ONE),
    b"SETEX": Command("put", 4, 4, False, strings.setex, _ONE),
    b"PSETEX": Command("put", 4, 4, False, strings.setex, _ONE),
    b"MSET": Command("batch", 3, None, False, strings.mset, (1, -1, 2)),
    b"APPEND": Command("put", 3, 3, False, changing.append, _ONE),
    b"SETRANGE": Command("put", 4, 4, False, changing.setrange, _ONE),
    b"GETSET": Command("put", 3, 3, False, changing.getset, _ONE),
    b"GETDEL": Command("put", 2, 2, False, changing.getdel, _ONE),
    b"GETEX": Command("put", 2, _OPTIONS_MAX, False, changing.getex, _ONE),
    b"RENAME": Command("batch", 3, 3, False, changing.rename, _PAIR),
    b"RENAMENX": Command("batch", 3, 3, False, changing.rename, _PAIR),
    b"COPY": Command("put", 3, _OPTIONS_MAX, False, changing.copy, _PAIR),
    b"MSETNX": Command("batch", 3, None, False, changing.msetnx, (1, -1, 2)),
    b"EXISTS": Command("get", 2, None, True, keyspace.exists, _ALL),
    b"TOUCH": Command("get", 2, None, True, keyspace.exists, _ALL),
    b"TYPE": Command("get", 2, 2, True, keyspace.type_, _ONE),
    b"DEL": Command("delete", 2, None, False, keyspace.delete, _ALL),
    b"UNLINK": Command("delete", 2, None, False, keyspace.delete, _ALL),
    b"SCAN": Command("list", 2, _OPTIONS_MAX, True, scanning.scan, queued=False),
    b"KEYS": Command("list", 2, 2, True, scanning.keys, queued=False),
    b"RANDOMKEY": Command("list", 1, 1, True, scanning.randomkey, queued=False),
    b"DBSIZE": Command("list", 1, 1, True, keyspace.dbsize),
    b"FLUSHDB": Command("delete", 1, _OPTIONS_MAX, True, keyspace.flush, queued=False),
    b"FLUSHALL": Command("delete", 1, _OPTIONS_MAX, True, keyspace.flush, queued=False),
    b"OBJECT": Command("get", 2, _OPTIONS_MAX, True, keyspace.object_, (2, 2, 1)),
    b"MEMORY": Command("get", 2, _OPTIONS_MAX, True, keyspace.memory, (2, 2, 1)),
    b"TTL": Command("get", 2, 2, True, expiring.ttl, _ONE),
    b"PTTL": Command("get", 2, 2, True, expiring.pttl, _ONE),
    b"EXPIRETIME": Command("get", 2, 2, True, expiring.expiretime, _ONE),
    b"PEXPIRETIME": Command("get", 2, 2, True, expiring.pexpiretime, _ONE),
    b"EXPIRE": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"PEXPIRE": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"EXPIREAT": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"PEXPIREAT": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"WAIT": Command("wait", 3, 3, True, spreading.wait, queued=False),
    b"PERSIST": Command("expire", 2, 2, True, expiring.persist, _ONE),
    b"SUBSCRIBE": Command("other", 2, None, True, subscribing.subscribe, queued=False),
    b"PSUBSCRIBE": Command("other", 2, None, True, subscribing.psubscribe, queued=False),
    b"UNSUBSCRIBE": Command("other", 1, None, True, subscribing.unsubscribe, queued=False),
    b"PUNSUBSCRIBE": Command("other", 1, None, True, subscribing.unsubscribe, queued=False),
    b"PUBSUB": Command("other", 2, _OPTIONS_MAX, True, subscribing.pubsub),
    b"RESET": Command("other", 1, 1, True, service.reset, queued=False),
    b"MULTI": Command("other", 1, 1, False, transactions.multi, queued=False),
    b"EXEC": Command("batch", 1, 1, True, transactions.execute, queued=False),
    b"DISCARD": Command("other", 1, 1, False, transactions.discard, queued=False),
    b"WATCH": Command("other", 2, None, True, transactions.watch, _ALL, queued=False),
    b"UNWATCH": Command("other", 1, 1, False, transactions.unwatch),
}

_NO_COUNTERS: Final = (
    "is not taken: members take writes without asking each other, the last write wins, and of two increments at once "
    "one would be lost; count with a key for each writer and add them up"
)
_NEVER: Final[Mapping[bytes, str]] = {
    **dict.fromkeys((b"INCR", b"DECR", b"INCRBY", b"DECRBY", b"INCRBYFLOAT"), _NO_COUNTERS),
    b"PUBLISH": "is not taken: members pass on what keys hold, not messages; SET a key, and subscribe to its events",
}
"""Commands that will not come, each with the reason."""


def unknown(words: list[bytes]) -> bytes:
    """Return Redis' answer to a command it does not know, with the first of its arguments; or why it never comes."""
    why = _NEVER.get(words[0].upper())
    if why is not None:
        return replies.error(f"ERR {shown(words[0].upper())} {why}")
    listed = ""
    for word in words[1:]:
        if len(listed) >= SHOWN_MAX:
            break
        listed += f"'{shown(word[: SHOWN_MAX - len(listed)])}' "
    return replies.error(f"ERR unknown command '{shown(words[0])}', with args beginning with: {listed}")


def wrong_count(words: list[bytes]) -> bytes:
    """Return Redis' answer to a known command with too few or too many arguments."""
    return replies.error(f"ERR wrong number of arguments for '{shown(words[0].lower())}' command")
