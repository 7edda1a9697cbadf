"""The book of one plane's connections: who comes in, who makes room, who owes something for too long (G9, G11).

A stranger may open connections and then say nothing, half of something, or read nothing. None of it may keep others
out or hold memory without bound, so:

- Over a bound the newcomer takes the place of the connection that has been idle longest, of the address that has most.
  Whoever fills a plane from one address thereby evicts only himself; kubelet and Prometheus still get in.
- What a connection owes (its first byte, the end of a head, more of a body, the taking of an answer) has a deadline.
- What it holds beyond a small allowance is taken from the plane's `ByteBudget`. Where that is used up, the connection
  is cut that has held bytes longest while we wait for its client: who reads and sends holds them for milliseconds.

No I/O here: `Acceptor` brings connections, their protocol says how they stand, and both are told to end.
"""

import ipaddress
import logging
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Final, Literal, Protocol

from wavekv.plane_settings import PlaneSettings
from wavekv.runtime.budget import ByteBudget, Holding

log = logging.getLogger(__name__)

Owed = Literal["first_byte", "head", "body", "unread"]
Reason = Literal[
    "full", "address_full", "evicted", "handshake", "first_byte", "head", "body", "unread", "memory_budget", "files"
]
"""Why a connection was refused or closed: over a bound, in favour of a newer one, by a deadline, for its bytes, or for
want of descriptors."""

LOOKED_AT_MAX: Final = 64
"""Connections looked at for the one that makes room; those that are busy or younger go to the end of the queue."""
TOLD_SECONDS: Final = 30.0
"""Between two lines of the log about closed connections of one plane."""

LOOPBACK: Final = "loopback"


class Served(Protocol):
    """What the book asks of the protocol of a connection."""

    def idle_since(self) -> float | None:
        """Return since when it waits for a request, by the book's clock; None while it works on one."""
        ...

    def progress(self, owed: Owed) -> int:
        """Return how many bytes of what it owes it has brought, or taken, so far."""
        ...

    def cut(self, reason: Reason) -> None:
        """End, with a word to the client where one can be said."""
        ...


class Slot:
    """The place of one connection in the book. `served` is None until it can talk, as during a TLS handshake."""

    __slots__ = ("address", "held", "left", "opened", "received", "served", "stop", "unsent")

    def __init__(self, address: str, opened: float, budget: ByteBudget, stop: Callable[[], None]) -> None:
        self.address = address
        self.opened = opened
        self.stop = stop
        """Ends a connection that has no protocol yet."""
        self.served: Served | None = None
        self.held = Holding(budget)
        self.received = self.unsent = 0
        """Bytes it holds: of requests in progress, and of answers that the client has not taken."""
        self.left = False

    def idle_since(self) -> float | None:
        """Return since when nothing is worked on for it, None if something is."""
        return self.opened if self.served is None else self.served.idle_since()


class Connections:
    """The connections of one plane. `closed` counts, by reason, those that were refused or ended by us."""

    def __init__(
        self, plane: str, settings: PlaneSettings, budget: ByteBudget, clock_seconds: Callable[[], float]
    ) -> None:
        self.plane = plane
        self.settings = settings
        self.budget = budget
        self.now = clock_seconds
        self.count = 0
        self.closed: Counter[Reason] = Counter()
        self._by_address: dict[str, dict[Slot, None]] = {}
        self._handshakes: dict[Slot, None] = {}
        self._owing: dict[Owed, dict[Slot, tuple[float, float]]] = {
            "first_byte": {}, "head": {}, "body": {}, "unread": {}
        }  # fmt: skip
        """By what is owed: since when, and the deadline; the oldest first."""
        self._holders: dict[Slot, None] = {}
        """Who holds bytes of the budget, who began longest ago first."""
        self._told: Counter[Reason] = Counter()
        self._told_at = float("-inf")

    # ---- coming and going ------------------------------------------------------------------------------------------

    def may_shake_hands(self) -> bool:
        """Tell whether one more TLS handshake may begin now; with too many, the oldest gives way if it had its time."""
        if len(self._handshakes) < self.settings.handshakes_max:
            return True
        oldest = next(iter(self._handshakes))
        if self.now() - oldest.opened < self.settings.handshake_ms_least / 1000:
            return False
        self._end(oldest, "handshake")
        return True

    def admit(self, address: str, stop: Callable[[], None], *, handshake: bool = False) -> Slot | None:
        """Return the place of a new connection, None if there is none; `stop` ends it before it is served."""
        settings = self.settings
        mine = self._by_address.get(address, {})
        if len(mine) >= settings.per_address_max:
            if not self._evict_one_of(mine):
                self.closed["address_full"] += 1
                return None
        elif self.count >= settings.connections_max and not self.evict_one():
            self.closed["full"] += 1
            return None
        slot = Slot(address, self.now(), self.budget, stop)
        self._by_address.setdefault(address, {})[slot] = None
        if handshake:
            self._handshakes[slot] = None
        self.count += 1
        return slot

    def serve(self, slot: Slot, served: Served) -> None:
        """The connection can talk."""
        slot.served = served
        self._handshakes.pop(slot, None)
        if slot.left:  # it was ended meanwhile
            served.cut("evicted")
        else:
            self.owe(slot, "first_byte", self.settings.first_byte_ms_max / 1000)

    def leave(self, slot: Slot) -> None:
        """The connection is gone; once more is fine."""
        if slot.left:
            return
        slot.left = True
        self.count -= 1
        mine = self._by_address[slot.address]
        del mine[slot]
        if not mine:
            del self._by_address[slot.address]
        self._handshakes.pop(slot, None)
        for owing in self._owing.values():
            owing.pop(slot, None)
        slot.held.release()
        self._holders.pop(slot, None)
        slot.served = None  # each knows the other: what it holds would wait for the collector

    def evict_one(self) -> bool:
        """End the connection that has been idle longest, of the address that has most; tell whether there was one."""
        if not self._by_address:
            return False
        return self._evict_one_of(max(self._by_address.values(), key=len))

    def _evict_one_of(self, slots: dict[Slot, None]) -> bool:
        looked_at = list(islice(slots, LOOKED_AT_MAX))
        latest = self.now() - self.settings.evicted_ms_idle / 1000
        since = [slot.idle_since() for slot in looked_at]
        idle = [(at, place) for place, at in enumerate(since) if at is not None and at <= latest]
        oldest = looked_at[min(idle)[1]] if idle else None
        for slot in looked_at:
            if slot is not oldest:
                slots[slot] = slots.pop(slot)
        if oldest is None:
            return False
        self._end(oldest, "evicted")
        return True

    def _end(self, slot: Slot, reason: Reason) -> None:
        self.closed[reason] += 1
        served = slot.served
        self.leave(slot)
        if served is None:
            slot.stop()
        else:
            served.cut(reason)

    # ---- bytes -----------------------------------------------------------------------------------------------------

    def hold(self, slot: Slot, received: int, unsent: int) -> bool:
        """Note what the connection holds now; tell whether it may. If not, it holds what it held, and has to end.

        Who has held bytes longer makes room for it.
        """
        while not self.try_hold(slot, received, unsent):
            slower = self._slower_than(slot)
            if slower is None:
                return False
            self._end(slower, "memory_budget")
        return True

    def make_room(self, slot: Slot, size: int) -> None:
        """Cut who has held bytes longer than `slot`, until so many fit; their memory is free in the next turn."""
        while self.budget.left < size and (slower := self._slower_than(slot)) is not None:
            self._end(slower, "memory_budget")

    def try_hold(self, slot: Slot, received: int, unsent: int) -> bool:
        """Note what the connection holds now, if it fits as things are; tell whether it did."""
        if slot.left:
            return True  # it is ending
        size = received + unsent
        size = size if size > self.settings.free_bytes else 0
        if not slot.held.try_resize(size):
            return False
        slot.received, slot.unsent = received, unsent
        if not size:
            self._holders.pop(slot, None)
        elif slot not in self._holders:
            self._holders[slot] = None
        return True

    def fits(self, size: int) -> bool:
        """Tell whether an answer of `size` bytes may be written at once."""
        return size <= self.settings.free_bytes or size <= self.budget.left

    def _slower_than(self, slot: Slot) -> Slot | None:
        """Return a connection that has held bytes longer than `slot`, and is waited for; None: there is none."""
        for holder in islice(self._holders, LOOKED_AT_MAX):
            if holder is slot:
                return None
            if holder in self._owing["body"] or holder in self._owing["unread"] or holder in self._owing["head"]:
                return holder
        return None

    # ---- deadlines -------------------------------------------------------------------------------------------------

    def owe(self, slot: Slot, owed: Owed, seconds: float) -> None:
        """Let `slot` bring it within so many seconds, counted from now; what it owes already stays as it is."""
        if not slot.left and slot not in self._owing[owed]:
            now = self.now()
            self._owing[owed][slot] = (now, now + seconds)

    def settle(self, slot: Slot, owed: Owed) -> None:
        """It was brought."""
        self._owing[owed].pop(slot, None)

    def look(self) -> None:
        """Cut who owes something for too long, and tell now and then of all that were closed; a second's timer."""
        now = self.now()
        for owed, owing in self._owing.items():
            while owing:
                slot, (since, deadline) = next(iter(owing.items()))
                if deadline > now:
                    break
                del owing[slot]
                later = self._granted(slot, owed, since)
                if later > now:  # at the end again, and looked at once more before long
                    owing[slot] = (since, min(later, now + self.settings.body_ms_grace / 1000))
                else:
                    self._end(slot, owed)
        if now - self._told_at >= TOLD_SECONDS and self.closed != self._told:
            self._tell(now)

    def _granted(self, slot: Slot, owed: Owed, since: float) -> float:
        if owed not in {"body", "unread"} or slot.served is None:
            return since
        brought = slot.served.progress(owed) / self.settings.bytes_per_second_min
        return since + self.settings.body_ms_grace / 1000 + brought

    def _tell(self, now: float) -> None:
        new = ", ".join(f"{reason} {count}" for reason, count in sorted((self.closed - self._told).items()))
        log.warning("connections of the %s plane refused or closed: %s; %d are open", self.plane, new, self.count)
        self._told, self._told_at = self.closed.copy(), now


def address_of(peername: object) -> str:
    """Return what connections from one place have in common: all of loopback is one, and so is an IPv6 /64."""
    if not isinstance(peername, tuple):
        return "unix"
    try:
        found = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return "unknown"
    if found.is_loopback:
        return LOOPBACK
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
