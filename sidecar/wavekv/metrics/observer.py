"""`Metrics`: counts what log and runtime report (`ports.Observer`) and renders it with the gauges for a scrape.

Counting is on the path of every operation, so it is plain Python: one dict look-up, an addition and one bisection,
0.4 µs where prometheus_client's locked children took 2.0 µs (`python -m bench.observer`). Each method is called from
one thread at a time (the log's `synced` from the log's, the rest from the loop's); a scrape may see a report half
counted, and derives a histogram's count from its buckets so that the two never disagree. Series are bounded (G9): once
a family has `SERIES_MAX`, new label values are counted together under `other`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from wavekv import __version__
from wavekv.metrics import families
from wavekv.metrics.families import Family
from wavekv.metrics.gauges import read_gauges, read_planes
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections

SERIES_MAX = 8192
"""Label combinations of one family: two results for each of the 4096 peers that reports are kept of."""

_OPENMETRICS = "application/openmetrics-text"

StatusReader = Callable[[], Mapping[str, Any]]

_Sample = tuple[str, dict[str, str], float]
"""Suffix to the family's name, labels, value."""


class _Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class _Distribution:
    """How many observations fell up to each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


_Cell = TypeVar("_Cell")


class _Series(Generic[_Cell]):
    """The cells of one family by label values."""

    def __init__(self, family: Family, make: Callable[[], _Cell]) -> None:
        self.family = family
        self._make = make
        self._cells: dict[tuple[str, ...], _Cell] = {}
        if not family.labels:
            self._cells[()] = make()  # an unlabelled family shows 0 from the start

    def at(self, *labels: str) -> _Cell:
        """Return the cell of `labels`, made on first use."""
        cell = self._cells.get(labels)
        if cell is None:
            if len(self._cells) >= SERIES_MAX:
                labels = ("other",) * len(self.family.labels)
            cell = self._cells.setdefault(labels, self._make())
        return cell

    def items(self) -> list[tuple[dict[str, str], _Cell]]:
        """Return label mapping and cell of each series."""
        return [(dict(zip(self.family.labels, values, strict=True)), cell) for values, cell in self._cells.items()]


def _counters(family: Family) -> _Series[_Counter]:
    return _Series(family, _Counter)


def _distributions(family: Family) -> _Series[_Distribution]:
    return _Series(family, lambda: _Distribution(family.buckets))


class Metrics(Collector):
    """The member's metrics: an `Observer` to report to, and their exposition.

    Gauges appear once `bind` was told where to read them; before that the member is still starting.
    """

    def __init__(self) -> None:
        self._status: StatusReader | None = None
        self._planes: Sequence[Connections] = ()
        self._budgets: Sequence[ByteBudget] = ()
        self._operations = _counters(families.OPERATIONS)
        self._durations = _distributions(families.OPERATION_DURATION)
        self._exchanges = _counters(families.EXCHANGES)
        self._exchange_seconds = _distributions(families.EXCHANGE_DURATION)
        self._pushes = _counters(families.PUSHES)
        self._pushed_entries = _counters(families.PUSHED_ENTRIES)
        self._compactions = _counters(families.COMPACTIONS)
        self._compaction_seconds = _distributions(families.COMPACTION_DURATION)
        self._refused = _counters(families.REFUSED_ENTRIES)
        self._long_turns = _counters(families.LONG_TURNS)
        self._long_turn_seconds = _counters(families.LONG_TURN_SECONDS)
        self._fsync_seconds = _distributions(families.FSYNC_DURATION)
        self._group_ops = _distributions(families.LOG_GROUP_OPS)
        self._written_bytes = _counters(families.LOG_WRITTEN_BYTES)
        self._propagation = _distributions(families.PROPAGATION)
        self._peer_propagation = _distributions(families.PEER_PROPAGATION)
        self._operation_cells: dict[tuple[str, str, str], tuple[_Counter, _Distribution]] = {}
        self._synced_cells = (self._fsync_seconds.at(), self._group_ops.at(), self._written_bytes.at())
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def bind(self, read: StatusReader) -> None:
        """Read gauges from `read()`, the member's status mapping, at every scrape."""
        self._status = read

    def bind_planes(self, planes: Sequence[Connections], budgets: Sequence[ByteBudget]) -> None:
        """Show the connections of `planes` and the use of `budgets` at every scrape."""
        self._planes, self._budgets = planes, budgets

    # ---- ports.Observer ----------------------------------------------------------------------------------------

    def synced(self, seconds: float, ops: int, size_bytes: int) -> None:
        """Count one commit group."""
        fsync_seconds, group_ops, written_bytes = self._synced_cells
        fsync_seconds.observe(seconds)
        group_ops.observe(ops)
        written_bytes.value += size_bytes

    def operation(self, plane: str, kind: str, result: str, seconds: float) -> None:
        """Count one client operation. The hot path: `_Distribution.observe` is written out, which saves 0.1 µs."""
        cells = self._operation_cells.get((plane, kind, result)) or self._new_operation(plane, kind, result)
        counter, duration = cells
        counter.value += 1
        duration.counts[bisect_left(duration.bounds, seconds)] += 1
        duration.total += seconds

    def _new_operation(self, plane: str, kind: str, result: str) -> tuple[_Counter, _Distribution]:
        cells = (self._operations.at(plane, kind, result), self._durations.at(plane, kind))
        if len(self._operation_cells) < SERIES_MAX:
            self._operation_cells[plane, kind, result] = cells
        return cells

    def propagated(self, seconds: float) -> None:
        """Count one local write that a peer reported durable."""
        self._propagation.at().observe(seconds)

    def canary(self, peer: str, seconds: float) -> None:
        """Count one canary that a peer reported."""
        self._peer_propagation.at(peer).observe(seconds)

    def exchanged(self, peer: str, result: str, seconds: float) -> None:
        """Count one exchange."""
        self._exchanges.at(peer, result).value += 1
        self._exchange_seconds.at().observe(seconds)

    def pushed(self, peer: str, result: str, entries: int) -> None:
        """Count one push; its entries only if it succeeded."""
        self._pushes.at(peer, result).value += 1
        if result == "ok":
            self._pushed_entries.at().value += entries

    def compacted(self, result: str, seconds: float) -> None:
        """Count one compaction."""
        self._compactions.at(result).value += 1
        self._compaction_seconds.at().observe(seconds)

    def refused(self, code: str, count: int) -> None:
        """Count refused entries."""
        self._refused.at(code).value += count

    def held_loop(self, kind: str, seconds: float) -> None:
        """Count a turn of the loop that took long."""
        self._long_turns.at(kind).value += 1
        self._long_turn_seconds.at(kind).value += seconds

    # ---- exposition --------------------------------------------------------------------------------------------

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the scrape's body and content type: Prometheus text, or OpenMetrics if the `accept` header asks."""
        # The media type alone decides: the library's own parsing of versions raises TypeError on malformed ones.
        encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Yield every family of `families.FAMILIES`, in that order."""
        yield _metric(families.BUILD_INFO, [("", {"version": __version__}, 1.0)])
        gauges: dict[str, list[_Sample]] = {family.name: [] for family in families.GAUGES}
        for reading in read_gauges(self._status()) if self._status else ():
            labels = dict(zip(reading.family.labels, reading.labels, strict=True))
            gauges[reading.family.name].append(("", labels, reading.value))
        for family in families.GAUGES:
            yield _metric(family, gauges[family.name])
        planes: dict[str, list[_Sample]] = {family.name: [] for family in families.PLANES}
        for reading in read_planes(self._planes, self._budgets):
            labels = dict(zip(reading.family.labels, reading.labels, strict=True))
            suffix = "_total" if reading.family.kind == "counter" else ""
            planes[reading.family.name].append((suffix, labels, reading.value))
        for family in families.PLANES:
            yield _metric(family, planes[family.name])
        counted = self._counted_samples()
        for family in families.COUNTED:
            yield _metric(family, counted[family.name])

    def _counted_samples(self) -> dict[str, list[_Sample]]:
        counters = (
            self._operations,
            self._written_bytes,
            self._exchanges,
            self._pushes,
            self._pushed_entries,
            self._compactions,
            self._refused,
            self._long_turns,
            self._long_turn_seconds,
        )
        distributions = (
            self._durations,
            self._fsync_seconds,
            self._group_ops,
            self._propagation,
            self._peer_propagation,
            self._exchange_seconds,
            self._compaction_seconds,
        )
        counted: dict[str, list[_Sample]] = {}
        for counts in counters:
            counted[counts.family.name] = [("_total", labels, cell.value) for labels, cell in counts.items()]
        for spreads in distributions:
            counted[spreads.family.name] = [
                sample for labels, cell in spreads.items() for sample in _histogram_samples(labels, cell)
            ]
        return counted


def _histogram_samples(labels: dict[str, str], cell: _Distribution) -> Iterator[_Sample]:
    bounds = [*map(floatToGoString, cell.bounds), "+Inf"]
    cumulated = list(accumulate(cell.counts))
    for bound, count in zip(bounds, cumulated, strict=True):
        yield "_bucket", {**labels, "le": bound}, count
    yield "_count", labels, cumulated[-1]
    yield "_sum", labels, cell.total


def _metric(family: Family, samples: Iterable[_Sample]) -> Metric:
    name = family.name.removesuffix("_total")  # the format's family name of a counter; its samples carry the suffix
    metric = Metric(name, family.help, family.kind)
    for suffix, labels, value in samples:
        metric.add_sample(name + suffix, labels, value)
    return metric
