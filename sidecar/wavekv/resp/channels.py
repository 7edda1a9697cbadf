"""SUBSCRIBE and PSUBSCRIBE on the channels of key events: `__keyspace@0__:KEY` and `__keyevent@0__:EVENT`.

Events are what a watch tells, in Redis' words: `set` when a key holds something new, whoever wrote it and on whichever
member, and `expire` behind it if that will expire; `del`; `expired`. Of several changes in quick succession the last
one may be told alone. Other channels would never say anything, so they are refused; there is no PUBLISH.
"""

from typing import Final

from wavekv.ports import Change
from wavekv.resp import replies
from wavekv.resp.events import STEPS_PER_TURN, Outbox, Receiver
from wavekv.resp.globs import Matcher, literal, matcher
from wavekv.resp.refusals import Refused
from wavekv.runtime.gate import next_slice

KEYSPACE: Final = b"__keyspace@0__:"
KEYEVENT: Final = b"__keyevent@0__:"
SUBSCRIPTION_BYTES: Final = 240
"""What a subscription takes beside its name."""
_STEPS_SHIFT: Final = 10
"""Matching takes at most len(pattern) * len(channel) looks; so many count as one of two microseconds."""


def events_of(change: Change) -> tuple[bytes, ...]:
    """Return the names of the events that a change comes to."""
    if change.kind == "put":
        expires = change.entry is not None and change.entry.expires_at is not None
        return (b"set", b"expire") if expires else (b"set",)
    return (b"expired",) if change.kind == "expire" else (b"del",)


class Channels:
    """Who subscribed to what. A receiver's version of RESP is told with its subscription."""

    def __init__(self, patterns_max: int) -> None:
        self._patterns_max = patterns_max
        self._exact: dict[bytes, dict[Receiver, int]] = {}
        self._patterns: dict[bytes, tuple[Matcher, dict[Receiver, int]]] = {}

    @property
    def listens(self) -> bool:
        """Tell whether anybody subscribed."""
        return bool(self._exact or self._patterns)

    def subscribe(self, receiver: Receiver, channel: bytes, proto: int) -> None:
        """Tell `receiver` of a channel. Raises Refused."""
        if not channel.startswith((KEYSPACE, KEYEVENT)):
            raise Refused(_NO_MESSAGES)
        self._exact.setdefault(channel, {})[receiver] = proto

    def knows(self, pattern: bytes) -> bool:
        """Tell whether somebody subscribed to a pattern."""
        return pattern in self._patterns

    def subscribe_all(self, receiver: Receiver, pattern: bytes, proto: int, ready: Matcher | None) -> None:
        """Tell `receiver` of all channels that match; `ready` is the pattern's matcher where that was made already.

        Raises:
            Refused: nothing would ever match, or there are too many patterns.
        """
        begin, _ = literal(pattern)
        if not any(name.startswith(begin) or begin.startswith(name) for name in (KEYSPACE, KEYEVENT)):
            raise Refused(_NO_MESSAGES)
        known = self._patterns.get(pattern)
        if known is None:
            if len(self._patterns) >= self._patterns_max:
                raise Refused(f"ERR {self._patterns_max} different patterns are subscribed to, and no more are taken")
            known = self._patterns[pattern] = (ready or matcher(pattern), {})
        known[1][receiver] = proto

    def unsubscribe(self, receiver: Receiver, channel: bytes) -> None:
        """Tell `receiver` no more of a channel."""
        there = self._exact.get(channel, {})
        if there.pop(receiver, None) is not None and not there:
            del self._exact[channel]

    def unsubscribe_all(self, receiver: Receiver, pattern: bytes) -> None:
        """Tell `receiver` no more of what matches."""
        known = self._patterns.get(pattern)
        if known is not None and known[1].pop(receiver, None) is not None and not known[1]:
            del self._patterns[pattern]

    def names(self) -> list[bytes]:
        """Return the channels that somebody subscribed to."""
        return list(self._exact)

    def count(self, channel: bytes) -> int:
        """Return how many subscribed to a channel."""
        return len(self._exact.get(channel, ()))

    def count_patterns(self) -> int:
        """Return how many different patterns are subscribed to."""
        return len(self._patterns)

    # ---- a listener of `events` ------------------------------------------------------------------------------------

    async def tell(self, change: Change, outbox: Outbox) -> int:
        """Tell of one change; return the looks that took."""
        key = change.key.encode()
        steps = 0
        for event in events_of(change):
            steps += await self._message(KEYSPACE + key, event, outbox)
            steps += await self._message(KEYEVENT + event, key, outbox)
        return steps

    async def _message(self, channel: bytes, text: bytes, outbox: Outbox) -> int:
        steps = 1 + await _spread(self._exact.get(channel, {}), [b"message", channel, text], outbox)
        for pattern, (matches, receivers) in list(self._patterns.items()):
            steps += 1 + (len(pattern) * len(channel) >> _STEPS_SHIFT)
            if matches(channel):
                steps += await _spread(receivers, [b"pmessage", pattern, channel, text], outbox)
            if steps >= STEPS_PER_TURN:
                await next_slice()
                steps = 0
        return steps

    def missed(self, outbox: Outbox) -> None:
        """Say nothing: as with Redis, a subscriber may miss messages."""

    async def flush(self, outbox: Outbox) -> None:
        """Nothing is gathered."""


async def _spread(receivers: dict[Receiver, int], words: list[bytes], outbox: Outbox) -> int:
    """Tell all receivers the same, some in one turn of the loop; return the looks of the last one.

    The message is made once for each version of RESP: a copy for each of thousands would be bounded by nothing.
    """
    made: dict[int, bytes] = {}
    steps = 0
    for receiver, proto in list(receivers.items()):
        if receiver not in receivers:  # it left while others had their turn
            continue
        if proto not in made:
            made[proto] = replies.push(words, proto)
        outbox.add(receiver, made[proto])
        steps += 1
        if outbox.full:
            await outbox.send()
        if steps >= STEPS_PER_TURN:
            await next_slice()
            steps = 0
    return steps


_NO_MESSAGES: Final = (
    "ERR only channels of key events are told here, __keyspace@0__:KEY and __keyevent@0__:EVENT "
    "(set, expire, del, expired): members pass on what keys hold, not messages"
)
