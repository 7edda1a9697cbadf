"""The commands of subscribers: SUBSCRIBE, PSUBSCRIBE, their opposites, and PUBSUB."""

from collections.abc import Callable
from typing import Final

from wavekv.resp import replies
from wavekv.resp.channels import SUBSCRIPTION_BYTES
from wavekv.resp.globs import matcher
from wavekv.resp.refusals import Refused
from wavekv.resp.session import Reply, Session, shown

ALLOWED: Final = frozenset({b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"PING", b"QUIT", b"RESET"})
"""What a subscriber that speaks RESP2 may send."""


def not_allowed(words: list[bytes]) -> bytes:
    """Return the refusal of any other command."""
    name = shown(words[0].lower())
    allowed = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    return replies.error(f"ERR Can't execute '{name}': {allowed}")


def subscribe(session: Session, words: list[bytes]) -> Reply:
    """SUBSCRIBE channel…, PSUBSCRIBE pattern…: to events of keys alone."""
    patterns = words[0].upper() == b"PSUBSCRIBE"
    channels = session.shared.channels
    mine = session.patterns if patterns else session.channels
    take = channels.subscribe_all if patterns else channels.subscribe
    if patterns:
        longest = max(map(len, words[1:]))
        most = session.limits.resp_pattern_bytes_max
        if longest > most:
            raise Refused(f"ERR the pattern has {longest} bytes; at most {most} are allowed")
    confirmed = []
    for name in words[1:]:
        if name not in mine:
            if session.subscriptions >= session.limits.resp_subscriptions_max:
                confirmed.append(replies.error(f"ERR a connection subscribes {session.subscriptions} times at most"))
                break
            try:
                take(session.receiver, name, session.proto)
            except Refused as error:
                confirmed.append(replies.error(str(error)))
                break
            mine[name] = None
            session.held_bytes += len(name) + SUBSCRIPTION_BYTES
        confirmed.append(_confirmed(session, words[0], name))
    session.note_told()
    return b"".join(confirmed)


def unsubscribe(session: Session, words: list[bytes]) -> Reply:
    """UNSUBSCRIBE [channel…], PUNSUBSCRIBE [pattern…]; without a name, from all."""
    patterns = words[0].upper() == b"PUNSUBSCRIBE"
    names = words[1:] or list(session.patterns if patterns else session.channels)
    confirmed = []
    for name in names:
        _drop(session, name, patterns=patterns)
        confirmed.append(_confirmed(session, words[0], name))
    session.note_told()
    return b"".join(confirmed) or _confirmed(session, words[0], None)


def leave(session: Session) -> None:
    """Subscribe to nothing."""
    for name in list(session.channels):
        _drop(session, name, patterns=False)
    for name in list(session.patterns):
        _drop(session, name, patterns=True)


def _drop(session: Session, name: bytes, *, patterns: bool) -> None:
    mine = session.patterns if patterns else session.channels
    if name not in mine:
        return
    del mine[name]
    session.held_bytes -= len(name) + SUBSCRIPTION_BYTES
    drop: Callable[..., None] = (
        session.shared.channels.unsubscribe_all if patterns else session.shared.channels.unsubscribe
    )
    drop(session.receiver, name)


def _confirmed(session: Session, command: bytes, name: bytes | None) -> bytes:
    head = b">3\r\n" if session.proto >= 3 else b"*3\r\n"
    told = replies.null(session.proto) if name is None else replies.bulk(name)
    return b"".join((head, replies.bulk(command.lower()), told, replies.integer(session.subscriptions)))


def pubsub(session: Session, words: list[bytes]) -> Reply:
    """PUBSUB CHANNELS [pattern] | NUMSUB [channel…] | NUMPAT."""
    asked, channels = words[1].upper(), session.shared.channels
    if asked == b"CHANNELS" and len(words) <= 3:
        fits = matcher(words[2][: session.limits.resp_pattern_bytes_max]) if len(words) == 3 else None
        found = [replies.bulk(name) for name in channels.names() if fits is None or fits(name)]
        return replies.array(found)
    if asked == b"NUMSUB":
        counts = {name: replies.integer(channels.count(name)) for name in words[2:]}
        return replies.mapping(counts, 2)
    if asked == b"NUMPAT" and len(words) == 2:
        return replies.integer(channels.count_patterns())
    raise Refused(f"ERR unknown subcommand '{shown(words[1])}'. Try PUBSUB HELP.")
