"""Whether local writes are taken, and what the probes say: decided from what holds now, never from what happened (R7).

In order: a stopping member refuses writes, then one whose process was superseded (R8; it serves nothing at all, and
stays for the probes: were it to end, it would be started again and supersede its successor), then one that the newest
epoch leaves out (R9), one that drains (R10), one whose volume has to heal first, one that has just started, and one
whose clock is far ahead. The wait after a start is bounded, because one dead member must not keep a restarted cluster
out of service, but for a volume that was empty and is being filled; healing is waited for without bound. A member can
fall back at any time: a removed one that is admitted again has to heal like a new volume, in the same process.
"""

import asyncio
import logging

from wavekv.core.replica import Replica
from wavekv.errors import ClockAhead, Draining, NotWritten, Removed, Starting, Stopping, Superseded
from wavekv.ports import Clock, Phase
from wavekv.runtime.admission import Admission
from wavekv.runtime.gossip import Gossip

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25
"""How often a joining member asks its peers; their names may resolve only seconds after it started."""


class Readiness:
    """Keeps `Replica.writable` what the rules say, and ends healing's consequences once it has healed."""

    def __init__(
        self,
        replica: Replica,
        admission: Admission,
        gossip: Gossip,
        clock: Clock,
        *,
        wait_seconds: float,
        also: tuple[Replica, ...] = (),
        empty: bool = False,
    ) -> None:
        """Gate `replica`, and `also` others with it; `empty`: its volume held nothing when the process started."""
        self._replica = replica
        self._also = also
        self._admission = admission
        self._gossip = gossip
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._empty = empty
        self._greeted = False
        """The bounded wait after the start is over."""
        self._over: Stopping | Superseded | None = None
        """Nothing else matters any more."""
        self._ahead: ClockAhead | None = None
        self._told = ""
        self._news = asyncio.Event()
        self._regate()

    def round_ended(self) -> None:
        """A complete exchange with a peer ended; what it brought is durable."""
        if not self._greeted or self._admission.membership.must_heal():
            self._greeted = True
            self._news.set()

    def standing_changed(self) -> None:
        """Epoch or drain mark changed: refuse or accept writes accordingly, at once."""
        self._regate()
        self._news.set()

    def clock_judged(self, ahead_ms: int | None, ahead_ms_max: int) -> None:
        """Take note of how far this member's clock is ahead of its peers' median, None: nobody knows."""
        if ahead_ms is None or ahead_ms <= ahead_ms_max:
            self._ahead = None
        elif self._ahead is None:
            self._ahead = ClockAhead(
                f"this member's clock is {ahead_ms // 1000} s ahead of its peers' median ({ahead_ms_max // 1000} s at "
                "most): set it, and writes are taken again; other members take them now"
            )
        self._regate()

    @property
    def clock_ahead(self) -> bool:
        """Tell whether this member's clock is too far ahead for it to write."""
        return self._ahead is not None

    def stop(self) -> None:
        """Refuse local writes from now on."""
        self._over = Stopping("the member is stopping")
        self._regate()

    def supersede(self, refusal: Superseded) -> None:
        """Refuse everything for good: a newer process of this name serves."""
        self._over = refusal
        self._regate()
        self._news.set()

    def phase(self) -> Phase:
        """Return what the probes say."""
        refusal = self._replica.writable
        if refusal is None or isinstance(refusal, ClockAhead):  # which reads do not mind
            return Phase(True, True, "serving")
        if isinstance(refusal, Starting):
            return Phase(True, False, f"joining: {refusal.detail}")
        if isinstance(refusal, Removed | Superseded):
            return Phase(True, False, f"{refusal.code}: {refusal.detail}")
        return Phase(True, False, refusal.code)

    async def run(self, founds: bool = False) -> None:
        """Join, and join again whenever an epoch demands it, until cancelled; `founds`: wait for nobody.

        Raises:
            DiskFailed: what was decided could not be kept.
        """
        deadline = self._clock.monotonic() + self._wait_seconds
        nobody = not self._gossip.links and not self._admission.membership.discovers
        self._greeted = self._greeted or founds or nobody
        asking = False
        while True:
            self._news.clear()
            now = self._clock.monotonic()
            if not self._greeted and now >= deadline:
                if self._empty and self._gossip.fetches:
                    deadline = now + self._wait_seconds
                else:
                    self._greeted = True
                    log.info("no round ended within %g s; going on with what this volume holds", self._wait_seconds)
            await self._note_healed()
            self._regate()
            asked, asking = asking, isinstance(self._replica.writable, Starting)
            if asking and not asked:
                self._gossip.retry_now()
            try:
                await asyncio.wait_for(self._news.wait(), _RETRY_SECONDS if asking else None)
            except TimeoutError:
                self._gossip.retry_now()

    async def _note_healed(self) -> None:
        """Keep that the volume has healed for its admission: it is not asked again (R9)."""
        membership, replica = self._admission.membership, self._replica
        if not membership.included() or (membership.must_heal() and replica.healing):
            return
        before = membership.healed_epoch
        if before == membership.admission():
            return
        membership.healed()
        try:
            await self._admission.keep()
        except NotWritten as error:  # once more in a moment, as long as it takes
            membership.healed_epoch = before
            self._tell("the volume has healed and waits to note it: " + error.detail)

    def _regate(self) -> None:
        before = self._replica.writable
        now = self._refusal()
        if (type(before), before and before.detail) == (type(now), now and now.detail):
            return
        for replica in (self._replica, *self._also):
            replica.writable = now
        if now is None:
            self._tell(f"serving: {self._replica.store.live()} entries")
        else:
            self._tell(f"not taking writes: {now.detail}")

    def _tell(self, what: str) -> None:
        """Log `what`, once in a row."""
        if what != self._told:
            self._told = what
            log.info("%s", what)

    def _refusal(self) -> Starting | Draining | Removed | Stopping | Superseded | ClockAhead | None:
        membership = self._admission.membership
        if self._over is not None:
            return self._over
        if not membership.included():
            number = membership.epoch.number if membership.epoch else None
            return Removed(f"this member, {membership.own_name}, is not in epoch {number}")
        if self._admission.draining:
            return Draining("the member drains: it is to leave the cluster; write to another one")
        if membership.must_heal():
            return Starting("the volume is new, was damaged or admitted again, and heals from the other members first")
        if not self._greeted:
            waits = self._gossip.links or membership.discovers
            return Starting("waiting for a first exchange with a peer" if waits else "the member is starting")
        return self._ahead
