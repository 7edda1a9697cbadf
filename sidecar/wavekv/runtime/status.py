"""What a member tells of itself: the body of `/v1/status`, which metrics and `wavekv status` read too."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from wavekv import REDIS_VERSION, __version__
from wavekv.core.collection import pins
from wavekv.core.membership import Membership, Overridden
from wavekv.core.origin_expiry import Progress as ExpiryProgress
from wavekv.core.replica import Replica
from wavekv.core.store import Store
from wavekv.ports import LogSize, Phase
from wavekv.runtime.canary import HIDDEN, Canary, hidden_entries
from wavekv.runtime.clocks import skew_ms
from wavekv.runtime.convergence import Convergence
from wavekv.runtime.coverage import Coverage
from wavekv.runtime.discovery import Discovery
from wavekv.runtime.link import Link
from wavekv.runtime.watching import WatchHub

PINNED_MS = 10_000
"""A delete that waits for longer is pinned; every one waits for an exchange with each member."""


class Recovered(NamedTuple):
    """What recovery found: damage by name and as a sentence (None: none), what was read and put aside, seconds."""

    damage: str | None
    cause: str | None
    snapshot_entries: int
    records: int
    quarantined: Sequence[str]
    seconds: float


def member_status(
    replica: Replica,
    size: LogSize,
    recovered: Recovered,
    links: Sequence[Link],
    convergence: Convergence,
    *,
    origins: ExpiryProgress,
    ephemeral: Replica,
    coverages: tuple[Coverage, ...],
    canary: Canary,
    clock: Mapping[str, Any],
    compaction: Mapping[str, Any],
    watches: tuple[WatchHub, ...],
    phase: Phase,
    draining: bool,
    discovery: Discovery | None,
    uptime: float,
    at: float,
    now_ms: int,
) -> Mapping[str, Any]:
    """Return the status document; times are seconds, sizes bytes, `at` a monotonic second."""
    identity, store, membership = replica.identity, replica.store, replica.membership
    since = convergence.since
    return {
        "name": identity.name,
        "node_id": identity.node_id,
        "uuid": str(UUID(bytes=identity.uuid)),
        "cluster_id": membership.cluster_id,
        "version": __version__,
        "redis_version": REDIS_VERSION,
        "phase": phase.reason.partition(":")[0],
        "ready": phase.ready,
        "healing": not replica.trusted,
        "draining": draining,
        "uptime_seconds": round(uptime, 3),
        "waiting_writes": replica.waiting,
        "disk_full": replica.full is not None,
        "process": {
            "inc": identity.inc,
            "origin": replica.origin,
            "superseded_by": replica.reports.superseded_by or None,
        },
        "store": _store(store, replica),
        "ephemeral": _store(ephemeral.store, ephemeral, hidden_entries(ephemeral.store, HIDDEN, now_ms)),
        "waiting": _waiting(coverages),
        "clock": clock,
        "watches": {"open": sum(hub.count for hub in watches), "cut": sum(hub.cut for hub in watches)},
        "log": _log(size),
        "recovery": recovered._asdict(),
        "compaction": compaction,
        "membership": _membership(membership),
        "collection": _collection(replica, now_ms),
        "discovery": discovery.told() if discovery is not None else None,
        "context": {
            "acks": {str(origin): ack for origin, ack in sorted(store.context.acks.items())},
            "dots": store.context.range_count,
        },
        "origins": origins._asdict(),
        "peers": [_peer(replica, link, convergence, canary.seconds(link.name), at) for link in links],
        "converged": since is not None,
        "converged_since": None if since is None else round(now_ms / 1000 - (at - since), 3),
        "refused": dict(replica.refused),
        "last_refused": None if replica.last_refusal is None else replica.last_refusal._asdict(),
    }


def _waiting(coverages: Sequence[Coverage]) -> Mapping[str, int]:
    """Return how many requests wait for their session, and writes for other members, over both stores."""
    return {
        "sessions": sum(coverage.waiting_sessions for coverage in coverages),
        "spreads": sum(coverage.waiting_spreads for coverage in coverages),
    }


def _log(size: LogSize) -> Mapping[str, Any]:
    return {
        "segments": size.segments,
        "used_bytes": size.used_bytes,
        "allocated_bytes": size.allocated_bytes,
        "position": size.last_sequence,
        "snapshot": size.snapshot,
        "snapshot_bytes": size.snapshot_bytes,
    }


def _membership(membership: Membership) -> Mapping[str, Any]:
    epoch = membership.epoch
    return {
        "epoch": epoch.number if epoch else None,
        "included": membership.included(),
        "members": sorted(membership.members()),
        "complete": membership.complete,
        "admitted_epoch": (membership.admission() or None) if epoch else None,
        "healed_epoch": membership.healed_epoch if epoch else None,
        "overridden": _overridden(membership.overridden),
    }


def _overridden(told: Overridden | None) -> Mapping[str, Any] | None:
    """Return the last override of an epoch: which number took the place of which, and when."""
    return None if told is None else {"epoch": told.epoch, "from": told.before, "at": told.at_ms / 1000}


def _collection(replica: Replica, now_ms: int) -> Mapping[str, Any]:
    """Return how many deletes wait to be forgotten, and who has kept some from it for longer than a moment (U8)."""
    return {
        "waiting": replica.store.deletes(),
        "collected": replica.collected,
        "pinned_by": [
            {"name": pin.name, "reason": pin.reason, "since": round(pin.since_ms / 1000, 3)}
            for pin in pins(replica)
            if now_ms - pin.since_ms >= PINNED_MS
        ],
    }


def _store(store: Store, replica: Replica, hidden: int = 0) -> Mapping[str, Any]:
    limits = replica.limits
    return {
        "entries": len(store.packed) - hidden,
        "live": store.live() - hidden,
        "bytes": store.size_bytes,
        "entries_max": limits.entries_max,
        "bytes_max": limits.bytes_max,
        "lost_writes": replica.journal.count,
    }


def _peer(
    replica: Replica, link: Link, convergence: Convergence, propagation: float | None, at: float
) -> Mapping[str, Any]:
    report = replica.reports.of(link.reported_as)
    lag = convergence.lag(report, at) if report is not None else None
    return {
        "name": link.name,
        "url": link.url,
        "reachable": link.reachable,
        "last_heard_seconds": None if link.last_heard is None else round(at - link.last_heard, 3),
        "lag": None if lag is None else lag.lag,
        "lag_seconds": None if lag is None else round(lag.lag_seconds, 3),
        "behind": None if lag is None else lag.behind,
        "clock_skew_ms": None if report is None else skew_ms(report),
        "propagation_seconds": None if propagation is None else round(propagation, 6),
        "push_dropped": link.queue.dropped,
        "last_error": link.last_error,
    }
