"""Which gauge shows which part of the member's status: one pure function, called at scrape time.

Reading the status only when asked keeps gauges off the hot path and makes metrics and `/v1/status` agree. What the
member does not know (a None) has no sample: Prometheus shows a gap instead of a made-up zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wavekv.metrics import families
from wavekv.metrics.families import Family
from wavekv.runtime.budget import ByteBudget
from wavekv.runtime.connections import Connections
from wavekv.wal.recovery import DAMAGES


class Reading(NamedTuple):
    """One gauge sample; `labels` are the values for the family's label names."""

    family: Family
    labels: tuple[str, ...]
    value: float


def read_gauges(status: Mapping[str, Any]) -> Iterator[Reading]:
    """Yield a reading of every gauge that `status` (the mapping of `KeyValues.status`) has a value for."""
    store, log, recovery, peers = status["store"], status["log"], status["recovery"], status["peers"]
    values: list[tuple[Family, tuple[str, ...], Any]] = [
        (families.READY, (), status["ready"]),
        (families.HEALING, (), status["healing"]),
        (families.CONVERGED, (), status["converged"]),
        (families.CONVERGED_SINCE, (), status["converged_since"]),
        (families.CLOCK_AHEAD, (), status["clock"]["ahead"]),
        (families.ENTRIES, (), store["entries"]),
        (families.ENTRIES_LIVE, (), store["live"]),
        (families.DATA_BYTES, (), store["bytes"]),
        (families.LOG_BYTES, ("used",), log["used_bytes"]),
        (families.LOG_BYTES, ("allocated",), log["allocated_bytes"]),
        (families.LOG_SEGMENTS, (), log["segments"]),
        (families.SNAPSHOT_BYTES, (), log["snapshot_bytes"]),
        (families.COMPACTING, (), status["compaction"]["running"]),
        (families.SUPERSEDED, (), status["process"]["superseded_by"] is not None),
        (families.DISK_FULL, (), status["disk_full"]),
        *((families.DAMAGED, (kind,), recovery["damage"] == kind) for kind in DAMAGES),
        (families.EPHEMERAL_ENTRIES, (), status["ephemeral"]["entries"]),
        (families.WATCHES, (), status["watches"]["open"]),
        (families.WATCHES_CUT, (), status["watches"]["cut"]),
        (families.LOST_WRITES, (), store["lost_writes"]),
        (families.LIMIT_RATIO, ("entries",), store["entries"] / store["entries_max"]),
        (families.LIMIT_RATIO, ("bytes",), store["bytes"] / store["bytes_max"]),
        (families.WAITING_WRITES, (), status["waiting_writes"]),
        (families.WAITING_SESSIONS, (), status["waiting"]["sessions"]),
        (families.WAITING_SPREADS, (), status["waiting"]["spreads"]),
        (families.RECOVERED_RECORDS, (), recovery["records"]),
        (families.RECOVERY_SECONDS, (), recovery["seconds"]),
        (families.PEERS, (), len(peers)),
    ]
    for peer in peers:
        name = (peer["name"],)
        values.append((families.PEER_UP, name, peer["reachable"]))
        values.append((families.PEER_LAG_SEQUENCES, name, peer["lag"]))
        values.append((families.PEER_LAG_SECONDS, name, peer["lag_seconds"]))
        values.append((families.PEER_BEHIND_SEQUENCES, name, peer["behind"]))
        skew_ms = peer["clock_skew_ms"]
        values.append((families.PEER_CLOCK_SKEW, name, None if skew_ms is None else skew_ms / 1000))
    for family, labels, value in values:
        if value is not None:
            yield Reading(family, labels, float(value))


def read_planes(planes: Sequence[Connections], budgets: Sequence[ByteBudget]) -> Iterator[Reading]:
    """Yield the readings of connections and budgets."""
    for plane in planes:
        name = (plane.plane,)
        yield Reading(families.CONNECTIONS, name, float(plane.count))
        yield Reading(families.CONNECTIONS_MAX, name, float(plane.settings.connections_max))
        for reason, count in sorted(plane.closed.items()):
            yield Reading(families.CONNECTIONS_CLOSED, (plane.plane, reason), float(count))
    for budget in budgets:
        name = (budget.plane,)
        yield Reading(families.HELD_BYTES, name, float(budget.used))
        yield Reading(families.HELD_BYTES_MAX, name, float(budget.bytes_max))
        yield Reading(families.HELD_BYTES_REFUSED, name, float(budget.refusals))
