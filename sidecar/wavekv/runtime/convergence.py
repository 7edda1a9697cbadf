"""How far members are apart: lag per peer, and whether the cluster has converged.

Converged means: every member covers all that any member had issued `SETTLE_SECONDS` ago, and where two cover the same
they hold the same. Ack vectors are sampled once a second; comparing with an old sample is what lets a cluster under
steady writes count as converged. Equal digests alone are not the definition: they trigger nothing. And since what
expires is collected here a moment earlier than there, members that had converged differ only once a bucket has gone on
differing by the same sum for `SETTLE_SECONDS`.
"""

from collections import deque
from typing import NamedTuple

from wavekv.core.context import Context
from wavekv.core.digest import differences
from wavekv.core.reports import Report
from wavekv.core.store import Store

SETTLE_SECONDS = 5.0
"""Age of the writes that have to be everywhere."""
SAMPLES_MAX = 64
"""Samples kept; a lag older than they reach is shown as their age."""


class Lag(NamedTuple):
    """One peer as seen from here: sequences it lacks of ours, how old the oldest is (s), sequences we lack of its."""

    lag: int
    lag_seconds: float
    behind: int


class _Samples:
    """Ack vectors by the second they were current at."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Context]] = deque(maxlen=SAMPLES_MAX)

    def take(self, at: float, context: Context) -> None:
        if not self._samples or at - self._samples[-1][0] >= 1.0:
            self._samples.append((at, Context(context.acks)))

    def settled(self, at: float) -> Context:
        """Return the newest sample older than SETTLE_SECONDS; an empty context before there is one."""
        old = [context for taken, context in self._samples if at - taken >= SETTLE_SECONDS]
        return old[-1] if old else Context()

    def oldest_missing(self, by: Context) -> float | None:
        """Return when the oldest sample that `by` does not include was taken."""
        return next((taken for taken, context in self._samples if not by.includes(context)), None)


class Convergence:
    """The samples of this member and its peers, and the verdict over them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mine = _Samples()
        self._theirs: dict[str, _Samples] = {}
        self._differing: dict[str, dict[int, tuple[int, float]]] = {}
        """By member and bucket: the difference last seen, and since when it has been that."""
        self.since: float | None = None
        """Monotonic second since which the cluster has counted as converged; None: it has not."""

    def lag(self, report: Report, at: float) -> Lag:
        """Return how far the sender of `report` and this member are apart."""
        mine = self._store.context
        missing = report.context.missing(mine)
        oldest = self._mine.oldest_missing(report.context) if missing else None
        return Lag(missing, at - oldest if oldest is not None else 0.0, mine.missing(report.context))

    def observe(self, at: float, reports: dict[str, Report | None]) -> None:
        """Take a sample and judge; `reports` holds every other member by name, None for one not heard lately."""
        self._mine.take(at, self._store.context)
        for name in list(self._theirs):
            if name not in reports:
                del self._theirs[name]
                self._differing.pop(name, None)
        for name, report in reports.items():
            if report is not None:
                self._theirs.setdefault(name, _Samples()).take(at, report.context)
        if not all(self._agrees(at, name, report) for name, report in reports.items()):
            self.since = None
        elif self.since is None:
            self.since = at

    def _agrees(self, at: float, name: str, report: Report | None) -> bool:
        if report is None:
            return False
        mine = self._store.context
        if not report.context.includes(self._mine.settled(at)):
            return False
        if not mine.includes(self._theirs[name].settled(at)):
            return False
        comparable = report.buckets is not None and report.context == mine
        return not comparable or self._alike(at, name, report.buckets or ())

    def _alike(self, at: float, name: str, theirs: tuple[int, ...]) -> bool:
        """Compare with the digest of a member that covers the same."""
        mine = self._store.digest()
        if mine is None or len(theirs) != len(mine):
            return False
        before = self._differing.get(name, {})
        found: dict[int, tuple[int, float]] = {}
        for bucket, difference in differences(mine, theirs).items():
            was, since = before.get(bucket, (0, at))
            found[bucket] = (difference, since if was == difference else at)
        self._differing[name] = found
        if self.since is None:
            return not found
        return all(at - since < SETTLE_SECONDS for _, since in found.values())
