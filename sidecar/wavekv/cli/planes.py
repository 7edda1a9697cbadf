"""The books of a member's planes: their connections by the files that the process may open, their budgets of bytes."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from wavekv.config import Limits, MemberSettings
from wavekv.metrics.health import scrapes_budget
from wavekv.plane_settings import PlaneSettings
from wavekv.runtime.budget import Budgets
from wavekv.runtime.connections import Connections
from wavekv.runtime.descriptors import Shares, share_out


class Planes(NamedTuple):
    """What the planes share out: the books, the limits as they fit, and connections to other members for each store."""

    http: Connections
    peer: Connections
    metrics: Connections
    limits: Limits
    transport_connections_max: int


def planes_of(
    settings: MemberSettings, budgets: Budgets, descriptors: int, clock_seconds: Callable[[], float]
) -> Planes:
    """Return the books for a process that may open so many `descriptors`.

    Raises:
        UsageError: there are too few for a member.
    """
    limits = settings.limits
    wanted = Shares(
        limits.http_connections_max,
        limits.resp_connections_max,
        settings.peer_plane.connections_max,
        settings.metrics_plane.connections_max,
        settings.descriptors.peers_reserved,
    )
    shares = share_out(descriptors, wanted, settings.descriptors)
    return Planes(
        Connections("http", _fitted(settings.http_plane, shares.http), budgets.http, clock_seconds),
        Connections("peer", _fitted(settings.peer_plane, shares.peer), budgets.peer, clock_seconds),
        Connections("metrics", _fitted(settings.metrics_plane, shares.metrics), scrapes_budget(), clock_seconds),
        replace(limits, http_connections_max=shares.http, resp_connections_max=shares.resp),
        max(shares.peers // 2, 1),
    )


def _fitted(settings: PlaneSettings, share: int) -> PlaneSettings:
    """Return `settings` with `share` connections; half of a plane that is smaller than its bound for one address."""
    if settings.per_address_max >= settings.connections_max:  # loopback alone
        return replace(settings, connections_max=share, per_address_max=share)
    return replace(settings, connections_max=share, per_address_max=min(settings.per_address_max, max(share // 2, 1)))
