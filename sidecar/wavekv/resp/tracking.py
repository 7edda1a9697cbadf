"""CLIENT TRACKING: clients that keep a cache are told which of their keys changed.

By default the keys that a connection read are remembered, and each is told once, when it changes next: because somebody
here or on another member wrote it, or because it expired. With BCAST nothing is remembered, and every change of a key
with one of the connection's prefixes is told. What is remembered is bounded in bytes; over the bound the key that was
read longest ago is told as if it had changed. If changes were missed, the client is told to forget all.

Needs RESP3, whose pushes go behind the replies due: a value read before a change never arrives behind the news of it.
"""

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from wavekv.ports import Change, Written
from wavekv.resp import replies
from wavekv.resp.events import Outbox, Receiver
from wavekv.resp.refusals import Refused
from wavekv.runtime.budget import ByteBudget, Holding

_PAIR_BYTES: Final = 300
"""What a remembered key of one connection takes beside its name."""
PREFIX_BYTES: Final = 240
"""What a prefix takes beside its letters."""
_OWN_MAX: Final = 1024
"""Own writes remembered for NOLOOP until they are told; over it the oldest is told like any other."""
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
    own: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)
    ended: bool = False

    def wrote(self, written: Written) -> None:
        """Take note of an own write, which is not told with NOLOOP."""
        if self.noloop:
            self.own[written.entry.dot] = None
            if len(self.own) > _OWN_MAX:
                self.own.popitem(last=False)

    def remembers(self) -> bool:
        """Tell whether the keys of the command that runs now are remembered; asked once for each."""
        said, self.caching = self.caching, None
        return not self.bcast and (said is True if self.optin else said is not False)


class Tracker:
    """What all connections of the plane have read, and the prefixes they named."""

    def __init__(self, budget: ByteBudget, bytes_max: int) -> None:
        self._bytes_max = bytes_max
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

    def begin(self, tracking: Tracking) -> None:
        """Tell a connection."""
        self._clients[tracking] = None
        for prefix in tracking.prefixes if tracking.bcast else ():
            self._prefixes.setdefault(prefix, {})[tracking] = None
            self._lengths[len(prefix)] += 1

    def end(self, tracking: Tracking) -> None:
        """Tell a connection no more. The keys it read are forgotten when they change, or with the last connection."""
        tracking.ended = True
        self._clients.pop(tracking, None)
        for prefix in tracking.prefixes if tracking.bcast else ():
            self._prefixes[prefix].pop(tracking)
            if not self._prefixes[prefix]:
                del self._prefixes[prefix]
            self._lengths[len(prefix)] -= 1
            if not self._lengths[len(prefix)]:
                del self._lengths[len(prefix)]
        if not self._clients:
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
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._tell_forgotten)
        self._changed(next(iter(self._readers)), None)

    def _tell_forgotten(self) -> None:
        outbox = Outbox()
        self.flush(outbox)
        outbox.send()

    # ---- a listener of `events` ------------------------------------------------------------------------------------

    async def tell(self, change: Change, outbox: Outbox) -> int:
        """Take note of one change; return the looks that took."""
        return self._changed(change.key.encode(), change.entry.dot if change.entry is not None else None)

    def _changed(self, key: bytes, dot: tuple[int, int] | None) -> int:
        readers = self._readers.pop(key, None)
        told = list(readers or ())
        if readers:
            counted = self._holding.size - len(readers) * (len(key) + _PAIR_BYTES)
            self._holding.try_resize(max(counted, 0))
        for length in self._lengths:
            if length <= len(key):
                told += self._prefixes.get(key[:length], ())
        for tracking in told:
            own = dot is not None and tracking.noloop and tracking.own.pop(dot, self) is None
            if not own and not tracking.ended:
                self._gathered.setdefault(tracking, []).append(replies.bulk(key))
        return 1 + len(self._lengths) + len(told)

    def missed(self, outbox: Outbox) -> None:
        """Let every client forget all."""
        for tracking in self._clients:
            outbox.add(tracking.receiver, _ALL)
        self._readers.clear()
        self._holding.release()

    def flush(self, outbox: Outbox) -> None:
        """Tell each client of the keys that changed, in one message."""
        gathered, self._gathered = self._gathered, {}
        for tracking, keys in gathered.items():
            if not tracking.ended:
                outbox.add(tracking.receiver, b">2\r\n$10\r\ninvalidate\r\n" + replies.array(keys))


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
