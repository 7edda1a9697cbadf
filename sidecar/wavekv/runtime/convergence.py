"""How far members are apart: lag per peer, and whether the cluster has converged.

Converged means: every member covers all that any member had issued `SETTLE_SECONDS` ago, and where two cover the same
they hold the same. Ack vectors are sampled once a second; comparing with an old sample is what lets a cluster under
steady writes count as converged. Equal digests alone are not the definition: they trigger nothing. Once converged, a
cluster counts a bucket as different when it has differed by the very same sum for as long: one member collects an
expired value a moment before the other.
"""

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from wavekv.config import GossipSettings
from wavekv.core.context import Context
from wavekv.core.digest import differences
from wavekv.core.reports import Report
from wavekv.core.store import Store

SETTLE_SECONDS = 5.0
"""Age of the writes that have to be everywhere."""
SAMPLES_MAX = 64
"""Samples kept of this member; a lag older than they reach is shown as their age."""


HEARD_SECONDS = 10.0
"""A peer whose last word is older does not count towards convergence, in a small cluster."""
_HEARD_ROUNDS = 12
"""In a large one: as many times what two members wait for a round between them on average; e^-12 wait longer."""


def heard_seconds_max(peers: int, settings: GossipSettings) -> float:
    """Return how old a peer's last word may be: each member has `fanout` rounds of its own and as many of others."""
    mean = peers / (2 * max(1, settings.fanout)) * settings.interval_ms / 1000
    return max(HEARD_SECONDS, _HEARD_ROUNDS * mean)


class Lag(NamedTuple):
    """One peer as seen from here: sequences it lacks of ours, how old the oldest is (s), sequences we lack of its."""

    lag: int
    lag_seconds: float
    behind: int


class _Samples:
    """Ack vectors by the second they were current at."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Context]] = deque(maxlen=SAMPLES_MAX)

    def take(self, at: float, context: Context, known: "_Samples | None" = None) -> None:
        """Take a sample; one that equals the last, or the last of `known`, shares its context (thousands of acks)."""
        if self._samples and at - self._samples[-1][0] < 1.0:
            return
        for samples in (self, known):
            if samples is not None and samples._samples and samples._samples[-1][1].acks == context.acks:
                self._samples.append((at, samples._samples[-1][1]))
                return
        self._samples.append((at, Context(context.acks)))

    def drop(self, origins: Collection[int]) -> None:
        """Leave `origins` out of the samples."""
        for _, context in self._samples:
            context.drop(origins)

    def forget_settled(self, at: float) -> None:
        """Forget what lies behind the newest settled sample: nobody asks how far back a peer lagged."""
        while len(self._samples) > 1 and at - self._samples[1][0] >= SETTLE_SECONDS:
            self._samples.popleft()

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
        """Name → bucket → by how much it differs at equal coverage, and since when."""
        self.since: float | None = None
        """Monotonic second since which the cluster has counted as converged; None: it has not."""

    def lag(self, report: Report, at: float) -> Lag:
        """Return how far the sender of `report` and this member are apart."""
        mine = self._store.context
        missing = report.context.missing(mine)
        oldest = self._mine.oldest_missing(report.context) if missing else None
        return Lag(missing, at - oldest if oldest is not None else 0.0, mine.missing(report.context))

    def drop(self, origins: Collection[int]) -> None:
        """Ask for `origins` no more: this member has dropped them (R15)."""
        for samples in (self._mine, *self._theirs.values()):
            samples.drop(origins)

    def held(self) -> tuple[int, int]:
        """Return how many samples are held, and how many different contexts they have."""
        samples = [taken for book in (self._mine, *self._theirs.values()) for taken in book._samples]
        return len(samples), len({id(context) for _, context in samples})

    def observe(self, at: float, reports: dict[str, Report | None]) -> None:
        """Take a sample and judge; `reports` holds every other member by name, None for one not heard lately."""
        self._mine.take(at, self._store.context)
        for name in list(self._theirs):
            if name not in reports:
                del self._theirs[name]
                self._differing.pop(name, None)
        for name, report in reports.items():
            if report is not None:
                samples = self._theirs.setdefault(name, _Samples())
                samples.take(at, report.context, self._mine)
                samples.forget_settled(at)
        verdicts = [self._agrees(at, name, report) for name, report in reports.items()]  # all of them take note
        if not all(verdicts):
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
        return self._holds_the_same(at, name, report)

    def _holds_the_same(self, at: float, name: str, report: Report) -> bool:
        """Tell whether nothing is known to differ; while both do not cover the same, nothing new is."""
        if report.buckets is None or report.context != self._store.context:
            return True
        digest = self._store.digest()
        if digest is None or len(report.buckets) != len(digest):
            return False
        before = self._differing.get(name, {})
        differing: dict[int, tuple[int, float]] = {}
        for bucket, difference in differences(digest, report.buckets).items():
            known = before.get(bucket)
            differing[bucket] = known if known is not None and known[0] == difference else (difference, at)
        self._differing[name] = differing
        settled = [since for _, since in differing.values() if at - since >= SETTLE_SECONDS]
        return not (settled if self.since is not None else differing)
