"""The table of Redis commands. Texts of Redis' own errors are kept to the letter: clients match on them.

A command or option that this version lacks is refused and never ignored. INCR and its kin will not come:
last-writer-wins would lose increments.
"""

from collections.abc import Mapping
from typing import Final

from wavekv.resp import expiring, keyspace, replies, service, spreading, strings
from wavekv.resp.session import SHOWN_MAX, Command, Refused, Reply, Session, shown


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
_ONE: Final = (1, 1, 1)
_ALL: Final = (1, -1, 1)

COMMANDS: Final[Mapping[bytes, Command]] = {
    b"PING": Command("ping", 1, 2, False, service.ping),
    b"ECHO": Command("other", 2, 2, False, service.echo),
    b"AUTH": Command("other", 2, 3, False, service.auth),
    b"QUIT": Command("quit", 1, _OPTIONS_MAX, False, service.leave),
    b"HELLO": Command("hello", 1, _OPTIONS_MAX, False, service.hello),
    b"SELECT": Command("other", 2, 2, False, service.select),
    b"CLIENT": Command("other", 2, _OPTIONS_MAX, False, service.client),
    b"COMMAND": Command("other", 1, _NAMES_MAX, False, command),
    b"CONFIG": Command("other", 2, _NAMES_MAX, False, service.config),
    b"INFO": Command("other", 1, _OPTIONS_MAX, True, service.info),
    b"GET": Command("get", 2, 2, True, strings.get, _ONE),
    b"STRLEN": Command("get", 2, 2, True, strings.strlen, _ONE),
    b"MGET": Command("multi_get", 2, None, True, strings.mget, _ALL),
    b"SET": Command("put", 3, _OPTIONS_MAX, False, strings.set_, _ONE),
    b"SETNX": Command("put", 3, 3, False, strings.setnx, _ONE),
    b"SETEX": Command("put", 4, 4, False, strings.setex, _ONE),
    b"PSETEX": Command("put", 4, 4, False, strings.setex, _ONE),
    b"MSET": Command("batch", 3, None, False, strings.mset, (1, -1, 2)),
    b"EXISTS": Command("get", 2, None, True, keyspace.exists, _ALL),
    b"TYPE": Command("get", 2, 2, True, keyspace.type_, _ONE),
    b"DEL": Command("delete", 2, None, False, keyspace.delete, _ALL),
    b"UNLINK": Command("delete", 2, None, False, keyspace.delete, _ALL),
    b"SCAN": Command("list", 2, _OPTIONS_MAX, True, keyspace.scan),
    b"KEYS": Command("list", 2, 2, True, keyspace.keys),
    b"DBSIZE": Command("list", 1, 1, True, keyspace.dbsize),
    b"TTL": Command("get", 2, 2, True, expiring.ttl, _ONE),
    b"PTTL": Command("get", 2, 2, True, expiring.pttl, _ONE),
    b"EXPIRETIME": Command("get", 2, 2, True, expiring.expiretime, _ONE),
    b"PEXPIRETIME": Command("get", 2, 2, True, expiring.pexpiretime, _ONE),
    b"EXPIRE": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"PEXPIRE": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"EXPIREAT": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"PEXPIREAT": Command("expire", 3, _OPTIONS_MAX, True, expiring.expire, _ONE),
    b"WAIT": Command("wait", 3, 3, True, spreading.wait),
    b"PERSIST": Command("expire", 2, 2, True, expiring.persist, _ONE),
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
    return replies.OK if name == b"DISCARD" else replies.error("EXECABORT Transaction discarded: MULTI was refused")


def unknown(words: list[bytes]) -> bytes:
    """Return Redis' answer to a command it does not know, with the beginning of its arguments."""
    listed = ""
    for word in words[1:]:
        if len(listed) >= SHOWN_MAX:
            break
        listed += f"'{shown(word[: SHOWN_MAX - len(listed)])}' "
    return replies.error(f"ERR unknown command '{shown(words[0])}', with args beginning with: {listed}")


def wrong_count(words: list[bytes]) -> bytes:
    """Return Redis' answer to a known command with too few or too many arguments."""
    return replies.error(f"ERR wrong number of arguments for '{shown(words[0].lower())}' command")
