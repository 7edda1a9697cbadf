"""Who waits until something is covered: readers until it is here (R13), writers until it is elsewhere (R12).

Nobody polls. A reader waits for one dot at a time, the first that it lacks; a commit group that becomes visible looks
at these dots alone. A writer counts the reports of other members as they are heard. Sound by R3: a context is adopted
only after what it speaks of was merged and became durable here, and a report speaks of what is durable there (I4).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Self

from wavekv.config import GossipSettings, Limits
from wavekv.core.replica import Replica
from wavekv.core.session import DotRange, covered_of, covers_all, first_missing, missing_of, token_of
from wavekv.core.types import Dot
from wavekv.errors import CoverageTimeout, DurabilityImpossible, DurabilityTimeout, TooManyWaiting

Holds = Callable[[str], bool]
"""Tells of a sender, by the name its reports go by, whether it has what is looked for."""

_TOLD_RANGES_MAX: Final = 100
"""Ranges of a session that a refusal names of either kind."""


class Coverage:
    """The requests of one store that wait for coverage, here or elsewhere."""

    def __init__(
        self,
        replica: Replica,
        limits: Limits,
        settings: GossipSettings,
        seek: Callable[[Holds], None],
        reported_as: Callable[[str], str],
    ) -> None:
        """Wait over `replica`.

        Args:
            replica: Whose context and reports count.
            limits: Bounds on who waits.
            settings: How often a peer may be asked for what is missing.
            seek: Starts rounds with peers, best with those that hold what is looked for.
            reported_as: The name that a member of the configuration gives itself.
        """
        self._replica = replica
        self._limits = limits
        self._settings = settings
        self._seek = seek
        self._reported_as = reported_as
        self._awaited: dict[Dot, dict[asyncio.Future[None], None]] = {}
        self._spreads: dict[SpreadWait, None] = {}
        self._wanted: Counter[int | None] = Counter()
        self._sought_at = float("-inf")
        self._seeking: asyncio.TimerHandle | None = None
        self.waiting_sessions = 0
        """Requests that wait until their session is covered here."""
        self.waiting_spreads = 0
        """Writes that wait for other members, those included that are not durable here yet."""
        self.on_heard: Callable[[str], None] = lambda _: None
        """Told the sender of each report, after the writers."""

    @property
    def hurried(self) -> bool:
        """Tell whether a write waits for other members, so that pushes must not."""
        return self.waiting_spreads > 0

    # ---- readers: coverage here ------------------------------------------------------------------------------------

    async def covered(self, dots: Sequence[DotRange], seconds: float) -> None:
        """Return once this member covers `dots`. Raises as `ports.KeyValues.covered`."""
        dropped = self._replica.store.standing.dropped
        dots = [one for one in dots if one.last > dropped.get(one.origin, 0)]  # all members had covered them (R15)
        if first_missing(self._replica.store.context, dots) is None:
            return
        if self.waiting_sessions >= self._limits.waiting_sessions_max:
            raise TooManyWaiting(f"{self.waiting_sessions} requests wait for their session; try again")
        self.waiting_sessions += 1
        try:
            async with asyncio.timeout(max(seconds, 0)):
                while (missing := first_missing(self._replica.store.context, dots)) is not None:
                    await self._dot(missing)
        except TimeoutError:
            raise self._late(dots, seconds) from None
        finally:
            self.waiting_sessions -= 1

    async def _dot(self, dot: Dot) -> None:
        arrival = asyncio.get_running_loop().create_future()
        waiting = self._awaited.setdefault(dot, {})
        waiting[arrival] = None
        self._seek_soon()
        try:
            await arrival
        finally:
            waiting.pop(arrival, None)
            if not waiting and self._awaited.get(dot) is waiting:
                del self._awaited[dot]

    def _late(self, dots: Sequence[DotRange], seconds: float) -> CoverageTimeout:
        context = self._replica.store.context
        covered, missing = (_told(find(context, dots)) for find in (covered_of, missing_of))
        detail = f"after {seconds:.3g} s this member has not got {missing} of the session; ask again, or another member"
        return CoverageTimeout(detail, covered, missing)

    def advanced(self) -> None:
        """Wake the readers whose dot the commit group that just became visible covers."""
        context = self._replica.store.context
        for dot in [dot for dot in self._awaited if context.covers(*dot)]:
            for arrival in self._awaited.pop(dot):
                if not arrival.done():
                    arrival.set_result(None)

    def _seek_soon(self) -> None:
        """Ask the peers for what readers lack: now, or as soon as the last time was long enough ago."""
        if self._seeking is None:
            loop = asyncio.get_running_loop()
            due = self._sought_at + self._settings.seek_spacing_ms / 1000
            self._seeking = loop.call_later(max(due - loop.time(), 0), self._seek_now)

    def _seek_now(self) -> None:
        self._seeking = None
        if self._awaited:
            self._sought_at = asyncio.get_running_loop().time()
            self._seek(self._holds_some)

    def _holds_some(self, name: str) -> bool:
        report = self._replica.reports.of(name)
        return report is not None and any(report.context.covers(*dot) for dot in self._awaited)

    # ---- writers: coverage elsewhere -------------------------------------------------------------------------------

    def spread(self, count: int | None) -> "SpreadWait":
        """Return a place for a write that waits for others. Raises as `ports.KeyValues.spread`."""
        membership = self._replica.membership
        if count is None and not membership.complete:
            raise DurabilityImpossible(
                "peers are found by DNS, so nobody knows who all are; ask for a number of members"
            )
        members = len(membership.members())
        if count is not None and count > members:
            raise DurabilityImpossible(
                f"durability on {count} members was asked for, and there are {members}; ask for fewer, or for all"
            )
        if self.waiting_spreads >= self._limits.waiting_spreads_max:
            raise TooManyWaiting(f"{self.waiting_spreads} writes wait for other members; try again")
        return SpreadWait(self, count)

    def enter(self, count: int | None) -> None:
        """Count a write that will wait for `count` members, None: for all."""
        self.waiting_spreads += 1
        self._wanted[count] += 1

    def leave(self, count: int | None) -> None:
        """Count it no more."""
        self.waiting_spreads -= 1
        self._wanted[count] -= 1
        if not self._wanted[count]:
            del self._wanted[count]

    def others_wanted(self) -> int:
        """Return how many other members have to hold a write so that nobody has to wait."""
        return max((self.needed(count) for count in self._wanted), default=1) - 1

    def attend(self, wait: "SpreadWait") -> None:
        """Tell `wait` of reports."""
        self._spreads[wait] = None

    def dismiss(self, wait: "SpreadWait") -> None:
        """Tell `wait` nothing more."""
        self._spreads.pop(wait, None)

    def heard(self, name: str) -> None:
        """A report of `name` was heard: wake the writers for whom it was the last that they needed."""
        for wait in self._spreads:
            wait.look(name)
        self.on_heard(name)

    def holds(self, name: str, dots: Sequence[DotRange]) -> bool:
        """Tell whether the last report that goes by `name` covers `dots`; crate nodes' count for nothing."""
        report = self._replica.reports.of(name)
        return report is not None and report.inc > 0 and covers_all(report.context, dots)

    def holders(self, dots: Sequence[DotRange]) -> tuple[str, ...]:
        """Return the different members of the newest epoch known to hold `dots`, this one first if it does.

        No report goes by this member's own name (R8), so none is counted twice.
        """
        own = self._replica.identity.name
        names = dict.fromkeys(map(self._reported_as, self._replica.membership.others()))
        mine = (own,) if covers_all(self._replica.store.context, dots) else ()
        return (*mine, *(name for name in names if self.holds(name, dots)))

    def needed(self, count: int | None) -> int:
        """Return how many members have to hold what `count` was asked for."""
        return len(self._replica.membership.members()) if count is None else count


class SpreadWait:
    """One write that waits for other members; implements `ports.Spread`."""

    def __init__(self, coverage: Coverage, count: int | None) -> None:
        self._coverage = coverage
        self._count = count
        self._dots: Sequence[DotRange] = ()
        self._seen: set[str] = set()
        self._done: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._coverage.enter(self._count)
        return self

    def __exit__(self, *error: object) -> None:
        self._coverage.leave(self._count)

    def look(self, name: str) -> None:
        """Take a report of `name` into account."""
        if self._done is None or self._done.done():
            return
        if self._coverage.holds(name, self._dots):
            self._seen.add(name)
        # What was seen may have gone since (a new process, another epoch): it is counted anew before it is told.
        if len(self._seen) + 1 >= self._coverage.needed(self._count) and self._enough():
            self._done.set_result(None)

    def _enough(self) -> bool:
        return len(self._coverage.holders(self._dots)) >= self._coverage.needed(self._count)

    def holders(self, dots: Sequence[DotRange]) -> tuple[str, ...]:
        """Return the names of the members known to hold `dots`, this one first."""
        return self._coverage.holders(dots)

    async def reached(self, dots: Sequence[DotRange], seconds: float) -> tuple[str, ...]:
        """Wait until enough members hold `dots`. Raises as `ports.Spread.reached`."""
        self._dots = dots
        self._seen = set(self._coverage.holders(dots)[1:])
        if not self._enough():
            self._done = asyncio.get_running_loop().create_future()
            self._coverage.attend(self)
            try:
                async with asyncio.timeout(max(seconds, 0)):
                    await self._done
            except TimeoutError:
                raise self._late(seconds) from None
            finally:
                self._coverage.dismiss(self)
        return self._coverage.holders(dots)

    def _late(self, seconds: float) -> DurabilityTimeout:
        held = self._coverage.holders(self._dots)
        asked = "all" if self._count is None else self._count
        detail = (
            f"after {seconds:.3g} s the write is known to be durable on {len(held)} of {asked} members "
            f"({', '.join(held)}); it stays, and goes on to the others"
        )
        return DurabilityTimeout(detail, held, token_of(self._dots))


def _told(dots: Sequence[DotRange]) -> str:
    return token_of(dots[:_TOLD_RANGES_MAX])
