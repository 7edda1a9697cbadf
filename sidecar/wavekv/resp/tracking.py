"""CLIENT TRACKING: clients that keep a cache are told which of their keys changed.

By default the keys that a connection read are remembered, and each is told once, when it changes next: because somebody
here or on another member wrote it, or because it expired. With BCAST nothing is remembered, and every change of a key
with one of the connection's prefixes is told. What is remembered is bounded in bytes; over the bound the key that was
read longest ago is told as if it had changed. If changes were missed, the client is told to forget all.

Needs RESP3, whose pushes go behind the replies due: a value read before a change never arrives behind the news of it.
"""

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from wavekv.ports import Change, Written
from wavekv.resp import replies
from wavekv.resp.events import STEPS_PER_TURN, Outbox, Receiver
from wavekv.resp.refusals import Refused
from wavekv.runtime.budget import ByteBudget, Holding

_PAIR_BYTES: Final = 300
"""What a remembered key of one connection takes beside its name."""
PREFIX_BYTES: Final = 240
"""What a prefix takes beside its letters."""
OWN_MAX: Final = 16_384
"""Writes of all clients with NOLOOP, remembered until they are told, some 4 MiB; over it the oldest are told to all."""
_ALL: Final = b">2\r\n$10\r\ninvalidate\r\n_\r\n"


@dataclass(slots=True, eq=False)
class Tracking:
    """One connection's way to be told. `caching`: what CLIENT CACHING said of the next command."""

    receiver: Receiver
    bcast: bool = False
    optin: bool = False
    optout: bool = False
    noloop: bool = False
    prefixes: tuple[bytes, ...] = ()
    caching: bool | None = None
    ended: bool = False

    def remembers(self, *, keeps: bool) -> bool:
        """Tell whether the keys of the command that runs now are remembered; asked once for each.

        With `keeps` what CLIENT CACHING said holds for what follows too: it was said of a whole transaction.
        """
        said = self.caching
        if not keeps:
            self.caching = None
        return not self.bcast and (said is True if self.optin else said is not False)


class Tracker:
    """What all connections of the plane have read, and the prefixes they named."""

    def __init__(self, budget: ByteBudget, bytes_max: int, outbox: Outbox) -> None:
        """Remember `bytes_max` bytes at most, of `budget`; what is forgotten for others is told by `outbox`."""
        self._bytes_max = bytes_max
        self._outbox = outbox
        self._own: OrderedDict[tuple[int, int], Tracking] = OrderedDict()
        self._telling: asyncio.Task[None] | None = None
        self._holding = Holding(budget)
        self._readers: OrderedDict[bytes, dict[Tracking, None]] = OrderedDict()
        self._prefixes: dict[bytes, dict[Tracking, None]] = {}
        self._lengths: Counter[int] = Counter()
        self._gathered: dict[Tracking, list[bytes]] = {}
        self._clients: dict[Tracking, None] = {}

    @property
    def listens(self) -> bool:
        """Tell whether anybody tracks."""
        return bool(self._clients)

    @property
    def held_bytes(self) -> int:
        """What is remembered, in bytes."""
        return self._holding.size

    def begin(self, tracking: Tracking, prefixes: tuple[bytes, ...]) -> None:
        """Tell a connection, of keys with `prefixes` too; one that is told already keeps the keys that it read."""
        self._clients[tracking] = None
        for prefix in prefixes:
            self._prefixes.setdefault(prefix, {})[tracking] = None
            self._lengths[len(prefix)] += 1

    def wrote(self, tracking: Tracking, written: Written) -> None:
        """Take note of a connection's own write, which it is not told of with NOLOOP."""
        if tracking.noloop:
            self._own[written.entry.dot] = tracking
            if len(self._own) > OWN_MAX:
                self._own.popitem(last=False)

    def end(self, tracking: Tracking) -> None:
        """Tell a connection no more. The keys it read are forgotten when they change, or with the last connection."""
        tracking.ended = True
        self._clients.pop(tracking, None)
        for prefix in tracking.prefixes:
            self._prefixes[prefix].pop(tracking)
            if not self._prefixes[prefix]:
                del self._prefixes[prefix]
            self._lengths[len(prefix)] -= 1
            if not self._lengths[len(prefix)]:
                del self._lengths[len(prefix)]
        self._gathered.pop(tracking, None)
        if not self._clients:
            self._own.clear()
            self._readers.clear()
            self._holding.release()

    def read(self, tracking: Tracking, keys: list[bytes]) -> None:
        """Remember that a connection read `keys`; others are told for it where there is no room."""
        for key in keys:
            readers = self._readers.get(key)
            if readers is None:
                readers = self._readers[key] = {}
            if tracking in readers:
                continue
            readers[tracking] = None
            self._readers.move_to_end(key)
            size = self._holding.size + len(key) + _PAIR_BYTES
            while size > self._bytes_max or not self._holding.try_resize(size):
                self._forget_oldest()
                size = self._holding.size + len(key) + _PAIR_BYTES
                if key not in self._readers:
                    break

    def _forget_oldest(self) -> None:
        """Tell the readers of the key that was read longest ago that it changed, behind the reply that is made now."""
        self._changed(next(iter(self._readers)), None)
        if self._gathered and (self._telling is None or self._telling.done()):
            self._telling = asyncio.get_running_loop().create_task(self._tell_forgotten())

    async def _tell_forgotten(self) -> None:
        await self.flush(self._outbox)
        await self._outbox.send()

    # ---- a listener of `events` ------------------------------------------------------------------------------------

    async def tell(self, change: Change, outbox: Outbox) -> int:
        """Take note of one change; return the looks that took."""
        return self._changed(change.key.encode(), self._writer(change))

    def _writer(self, change: Change) -> Tracking | None:
        """Return who asked not to be told of this change, because it made it.

        Changes of one origin are told in the order of their numbers, so writes that were never told, because a later
        one of the same key was, are forgotten with the next.
        """
        if change.entry is None or change.kind == "expire" or not self._own:
            return None
        origin, seq = change.entry.dot
        writer = self._own.pop((origin, seq), None)
        while self._own:
            oldest = next(iter(self._own))
            if oldest[0] != origin or oldest[1] > seq:
                break
            del self._own[oldest]
        return writer

    def _changed(self, key: bytes, writer: Tracking | None) -> int:
        readers = self._readers.pop(key, None)
        told = list(readers or ())
        if readers:
            counted = self._holding.size - len(readers) * (len(key) + _PAIR_BYTES)
            self._holding.try_resize(max(counted, 0))
        for length in self._lengths:
            if length <= len(key):
                told += self._prefixes.get(key[:length], ())
        name = replies.bulk(key)
        for tracking in told:
            if tracking is not writer and not tracking.ended:
                self._gathered.setdefault(tracking, []).append(name)
        if readers and writer in readers and not writer.ended:
            self.read(writer, [key])  # it knows what it wrote, and has to be told of what others write next
        return 1 + len(self._lengths) + len(told)

    def missed(self, outbox: Outbox) -> None:
        """Let every client forget all."""
        for tracking in self._clients:
            outbox.add(tracking.receiver, _ALL)
        self._readers.clear()
        self._holding.release()

    async def flush(self, outbox: Outbox) -> None:
        """Tell each client of the keys that changed, in one message; some clients in one turn of the loop."""
        steps = 0
        while self._gathered:
            tracking = next(iter(self._gathered))
            keys = self._gathered.pop(tracking)
            outbox.add(tracking.receiver, b">2\r\n$10\r\ninvalidate\r\n" + replies.array(keys))
            steps += 1
            if outbox.full:
                await outbox.send()
            elif not steps % STEPS_PER_TURN:
                await asyncio.sleep(0)


def overlapping(prefixes: list[bytes], known: tuple[bytes, ...]) -> None:
    """Refuse prefixes of which one begins another. Raises Refused."""
    seen = list(known)
    for prefix in prefixes:
        for other in seen:
            if prefix.startswith(other) or other.startswith(prefix):
                raise Refused(
                    f"ERR Prefix '{prefix.decode('utf-8', 'replace')}' overlaps with an existing prefix "
                    f"'{other.decode('utf-8', 'replace')}'. Prefixes for a single client must not overlap."
                )
        seen.append(prefix)
