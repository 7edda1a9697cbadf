"""The commands about the connection and the server, so that clients start and people can look around."""

from collections.abc import Callable, Mapping
from typing import Final

from wavekv import REDIS_VERSION, __version__
from wavekv.resp import caching, replies, subscribing, transactions
from wavekv.resp.globs import matches
from wavekv.resp.refusals import SYNTAX, Refused
from wavekv.resp.session import Reply, Session, Sliced, shown, whole

_NAME_ALLOWED: Final = frozenset(range(0x21, 0x7F))
_NAME_BYTES_MAX: Final = 256
_MATCHING_STEPS: Final = 48
"""Steps that matching one name with all patterns takes, at worst half of that a pattern."""
PATTERN_BYTES_MAX: Final = 32
"""Longest pattern of CONFIG GET; no setting has so long a name."""
_NO_USERS: Final = "WRONGPASS invalid username-password pair or user is disabled."


def ping(session: Session, words: list[bytes]) -> Reply:
    """PING [message]; a subscriber that speaks RESP2 gets an array."""
    if session.proto == 2 and session.subscriptions:
        return replies.push([b"pong", words[1] if len(words) > 1 else b""], 2)
    return replies.bulk(words[1]) if len(words) > 1 else replies.PONG


def echo(session: Session, words: list[bytes]) -> Reply:
    """ECHO message."""
    return replies.bulk(words[1])


def auth(session: Session, words: list[bytes]) -> Reply:
    """AUTH [user] password: as Redis without a password, which takes any for the user `default`."""
    if len(words) == 2:
        raise Refused(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    if len(words) > 3:
        raise Refused(SYNTAX)
    if words[1] != b"default":
        raise Refused(_NO_USERS)
    return replies.OK


def time(session: Session, words: list[bytes]) -> Reply:
    """TIME: seconds and microseconds."""
    seconds, milliseconds = divmod(session.shared.clock.now_ms(), 1000)
    return replies.array([replies.bulk(b"%d" % seconds), replies.bulk(b"%d" % (milliseconds * 1000))])


def leave(session: Session, words: list[bytes]) -> Reply:
    """QUIT."""
    session.ends = True
    return replies.OK


def reset(session: Session, words: list[bytes]) -> Reply:
    """RESET: as if the connection had just been opened."""
    transactions.forget(session)
    subscribing.leave(session)
    caching.stop(session)
    session.note_told()
    session.proto, session.name = 2, b""
    return b"+RESET\r\n"


def select(session: Session, words: list[bytes]) -> Reply:
    """SELECT 0; there is one database."""
    if whole(words[1]) != 0:
        raise Refused("ERR DB index is out of range")
    return replies.OK


def hello(session: Session, words: list[bytes]) -> Reply:
    """HELLO [2|3 [AUTH default password] [SETNAME name]]."""
    proto, name = session.proto, session.name
    if len(words) > 1:
        if not words[1].isdigit():
            raise Refused("ERR Protocol version is not an integer or out of range")
        if words[1] not in {b"2", b"3"}:
            raise Refused("NOPROTO unsupported protocol version")
        proto = int(words[1])
    options = words[2:]
    while options:
        option = options[0].upper()
        if option == b"AUTH" and len(options) > 2:
            if options[1] != b"default":
                raise Refused(_NO_USERS)
            options = options[3:]
            continue
        if option != b"SETNAME" or len(options) < 2:
            raise Refused(f"ERR Syntax error in HELLO option '{shown(options[0])}'")
        name = _name(options[1])
        options = options[2:]
    if proto != session.proto and (session.subscriptions or session.tracking is not None):
        raise Refused("ERR the version of a connection that is told of changes cannot be changed; RESET it first")
    session.proto, session.name = proto, name
    facts = {
        b"server": replies.bulk(b"redis"),
        b"version": replies.bulk(REDIS_VERSION.encode()),
        b"proto": replies.integer(proto),
        b"id": replies.integer(session.number),
        b"mode": replies.bulk(b"standalone"),
        b"role": replies.bulk(b"master"),
        b"modules": b"*0\r\n",
    }
    return replies.mapping(facts, proto)


# ---- CLIENT --------------------------------------------------------------------------------------------------------


def client(session: Session, words: list[bytes]) -> Reply:
    """CLIENT TRACKING and its kin (`caching`); ID, GETNAME, SETNAME name, SETINFO attribute value, INFO, LIST."""
    name = words[1].upper()
    if name == b"TRACKING":
        if len(words) == 2:
            raise Refused("ERR wrong number of arguments for 'client|tracking' command")
        return caching.tracking(session, words)
    run = _CLIENT.get((name, len(words) - 2))
    if run is None:
        if any(name == known for known, _ in _CLIENT):
            raise Refused(f"ERR wrong number of arguments for 'client|{shown(name.lower())}' command")
        raise Refused(f"ERR unknown subcommand '{shown(words[1])}'. Try CLIENT HELP.")
    return run(session, words)


def _set_name(session: Session, words: list[bytes]) -> bytes:
    session.name = _name(words[2])
    return replies.OK


def _name(raw: bytes) -> bytes:
    if not _NAME_ALLOWED.issuperset(raw) or len(raw) > _NAME_BYTES_MAX:
        raise Refused("ERR Client names cannot contain spaces, newlines or special characters.")
    return raw


def _set_info(session: Session, words: list[bytes]) -> bytes:
    attribute = words[2].lower()
    if attribute not in {b"lib-name", b"lib-ver"}:
        raise Refused(f"ERR Unrecognized option '{shown(words[2])}'")
    if not _NAME_ALLOWED.issuperset(words[3]) or len(words[3]) > _NAME_BYTES_MAX:
        raise Refused(f"ERR {attribute.decode()} cannot contain spaces, newlines or special characters.")
    session.library[attribute] = words[3]
    return replies.OK


def _line(session: Session) -> bytes:
    library = session.library
    return b"id=%d addr=%b name=%b db=0 resp=%d lib-name=%b lib-ver=%b\n" % (
        session.number,
        session.address.encode(),
        session.name,
        session.proto,
        library.get(b"lib-name", b""),
        library.get(b"lib-ver", b""),
    )


_CLIENT: Final[Mapping[tuple[bytes, int], Callable[[Session, list[bytes]], bytes]]] = {
    (b"ID", 0): lambda session, _: replies.integer(session.number),
    (b"CACHING", 1): caching.caching,
    (b"TRACKINGINFO", 0): caching.info,
    (b"GETREDIR", 0): lambda session, _: replies.integer(-1 if session.tracking is None else 0),
    (b"GETNAME", 0): lambda session, _: replies.bulk(session.name) if session.name else replies.null(session.proto),
    (b"SETNAME", 1): _set_name,
    (b"SETINFO", 2): _set_info,
    (b"INFO", 0): lambda session, _: replies.bulk(_line(session)),
    (b"LIST", 0): lambda session, _: replies.bulk(b"".join(map(_line, session.shared.sessions.values()))),
}


# ---- INFO and CONFIG -----------------------------------------------------------------------------------------------


def info(session: Session, words: list[bytes]) -> Reply:
    """INFO [section…]."""
    asked = {word.lower() for word in words[1:]} - {b"all", b"everything", b"default"}
    parts = []
    for title, facts in _sections(session).items():
        if not asked or title.lower().encode() in asked:
            lines = "".join(f"{name}:{value}\r\n" for name, value in facts.items())
            parts.append(f"# {title}\r\n{lines}")
    return replies.bulk("\r\n".join(parts).encode())


def _sections(session: Session) -> dict[str, dict[str, object]]:
    shared = session.shared
    count = shared.store.count()
    return {
        "Server": {
            "redis_version": REDIS_VERSION,
            "redis_mode": "standalone",
            "arch_bits": 64,
            "server_name": "wavekv",
            "wavekv_version": __version__,
            "tcp_port": shared.port,
            "uptime_in_seconds": int(shared.clock.monotonic() - shared.started),
        },
        "Clients": {"connected_clients": len(shared.sessions), "maxclients": shared.limits.resp_connections_max},
        "Replication": {"role": "master", "connected_slaves": 0},
        "Cluster": {"cluster_enabled": 0},
        "Keyspace": {"db0": f"keys={count},expires={shared.store.expiring()},avg_ttl=0"} if count else {},
    }


def config(session: Session, words: list[bytes]) -> Reply:
    """CONFIG GET pattern…; nothing can be set here."""
    if words[1].upper() == b"SET" and len(words) == 4 and words[2].lower() == b"notify-keyspace-events":
        return replies.OK  # all of them are told to whoever subscribes, so what is asked for is among them
    if words[1].upper() != b"GET":
        raise Refused(f"ERR CONFIG {shown(words[1].upper())} is not supported: settings are flags of the member")
    if len(words) < 3:
        raise Refused("ERR wrong number of arguments for 'config|get' command")
    limits = session.limits
    known = {
        "appendonly": "yes",
        "appendfsync": "always",
        "databases": "1",
        "maxclients": str(limits.resp_connections_max),
        "maxmemory": str(limits.bytes_max),
        "maxmemory-policy": "noeviction",
        "notify-keyspace-events": "AKE",
        "proto-max-bulk-len": str(limits.value_bytes_max),
        "save": "",
        "timeout": "0",
    }
    return _config(session, [word.lower() for word in words[2:]], known)


def _config(session: Session, patterns: list[bytes], known: Mapping[str, str]) -> Sliced:
    patterns_max = session.limits.resp_config_patterns_max
    if len(patterns) > patterns_max or any(len(pattern) > PATTERN_BYTES_MAX for pattern in patterns):
        raise Refused(f"ERR CONFIG GET takes {patterns_max} patterns of {PATTERN_BYTES_MAX} bytes at most")
    matching: dict[bytes, bytes] = {}
    for name, value in known.items():
        if any(matches(pattern, name.encode()) for pattern in patterns):
            matching[name.encode()] = replies.bulk(value.encode())
        yield _MATCHING_STEPS
    return replies.mapping(matching, session.proto)
