"""The commands of subscribers: SUBSCRIBE, PSUBSCRIBE, their opposites, and PUBSUB."""

from collections.abc import Callable
from typing import Final

from wavekv.resp import replies
from wavekv.resp.channels import SUBSCRIPTION_BYTES
from wavekv.resp.events import Receiver
from wavekv.resp.globs import Matcher, matcher
from wavekv.resp.refusals import Refused
from wavekv.resp.session import Reply, Session, Sliced, shown
from wavekv.resp.turns import SLICE_STEPS

ALLOWED: Final = frozenset({b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE", b"PING", b"QUIT", b"RESET"})
"""What a subscriber that speaks RESP2 may send."""

NAMES_PER_SLICE: Final = 256
"""Names taken in one slice, a millisecond at most."""
MATCHING_SHIFT: Final = 8
"""Matching takes at most len(pattern) * len(name) looks; so many count as one name, four microseconds."""


def not_allowed(words: list[bytes]) -> bytes:
    """Return the refusal of any other command."""
    name = shown(words[0].lower())
    allowed = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    return replies.error(f"ERR Can't execute '{name}': {allowed}")


def subscribe(session: Session, words: list[bytes]) -> Reply:
    """SUBSCRIBE channel…: to events of keys alone."""
    return _subscribe(session, words, session.channels, session.shared.channels.subscribe)


def psubscribe(session: Session, words: list[bytes]) -> Reply:
    """PSUBSCRIBE pattern…: to events of keys alone. Raises Refused."""
    longest = max(map(len, words[1:]))
    most = session.limits.resp_pattern_bytes_max
    if longest > most:
        raise Refused(f"ERR the pattern has {longest} bytes; at most {most} are allowed")
    return _psubscribe(session, words)


def _psubscribe(session: Session, words: list[bytes]) -> Sliced:
    """Make the patterns ready one a slice, which takes ten milliseconds at worst; then subscribe to all in one turn.

    So no message comes before the confirmation of its pattern.
    """
    channels = session.shared.channels
    ready: dict[bytes, Matcher] = {}
    for pattern in words[1 : session.limits.resp_patterns_max + 1]:
        if pattern not in ready and not channels.knows(pattern):
            ready[pattern] = matcher(pattern)
            yield SLICE_STEPS

    def take(receiver: Receiver, pattern: bytes, proto: int) -> None:
        channels.subscribe_all(receiver, pattern, proto, ready.get(pattern))

    return _subscribe(session, words, session.patterns, take)


def _subscribe(
    session: Session, words: list[bytes], mine: dict[bytes, None], take: Callable[[Receiver, bytes, int], None]
) -> bytes:
    most = session.limits.resp_subscriptions_max
    confirmed = []
    for place, name in enumerate(words[1:], 1):
        if place > most or (name not in mine and session.subscriptions >= most):
            confirmed.append(replies.error(f"ERR a connection subscribes {most} times at most"))
            break
        if name not in mine:
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
    """UNSUBSCRIBE [channel…], PUNSUBSCRIBE [pattern…]; without a name, from all. Raises Refused."""
    patterns = words[0].upper() == b"PUNSUBSCRIBE"
    names = words[1:] or list(session.patterns if patterns else session.channels)
    most = session.limits.resp_subscriptions_max
    if len(names) > most:
        raise Refused(f"ERR a connection subscribes {most} times at most; name no more, or none to leave all")
    session.shared.events.settle(session.receiver)
    confirmed = []
    for name in names:
        _drop(session, name, patterns=patterns)
        confirmed.append(_confirmed(session, words[0], name))
    session.note_told()
    return b"".join(confirmed) or _confirmed(session, words[0], None)


def leave(session: Session) -> None:
    """Subscribe to nothing."""
    session.shared.events.settle(session.receiver)
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
        pattern = words[2] if len(words) == 3 else b"*"
        most = session.limits.resp_pattern_bytes_max
        if len(pattern) > most:
            raise Refused(f"ERR the pattern has {len(pattern)} bytes; at most {most} are allowed")
        return _names(session, pattern)
    if asked == b"NUMSUB":
        counts = {name: replies.integer(channels.count(name)) for name in words[2:]}
        return replies.mapping(counts, 2)
    if asked == b"NUMPAT" and len(words) == 2:
        return replies.integer(channels.count_patterns())
    raise Refused(f"ERR unknown subcommand '{shown(words[1])}'. Try PUBSUB HELP.")


def _names(session: Session, pattern: bytes) -> Sliced:
    """Return the channels that match, a slice at a time; those of a connection that comes meanwhile may be left out."""
    most = session.limits.resp_replies_bytes_max
    fits = matcher(pattern)
    found: list[bytes] = []
    steps = size = 0
    for name in session.shared.channels.names():
        if fits(name):
            found.append(replies.bulk(name))
            size += len(found[-1])
            if size > most:
                raise Refused(f"ERR the channels that match exceed {most} bytes together; ask with a longer pattern")
        steps += 1 + (len(pattern) * len(name) >> MATCHING_SHIFT)
        if steps >= NAMES_PER_SLICE:
            yield SLICE_STEPS
            steps = 0
    return replies.array(found)
