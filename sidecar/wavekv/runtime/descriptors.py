"""Shares the descriptors of the process out: so many for files, so many for other members, the rest for the planes.

The sum of all planes' bounds fits what is left, so that no number of connections takes a descriptor from the log (G9).
"""

import logging
import resource
from contextlib import suppress
from typing import NamedTuple

from wavekv.errors import UsageError
from wavekv.plane_settings import DescriptorSettings

log = logging.getLogger(__name__)

_WANTED_MAX = 1 << 20
"""An unlimited number is taken as this one."""


class Shares(NamedTuple):
    """Connections that each plane may have open, and `peers` those to other members, both stores together."""

    http: int
    resp: int
    peer: int
    metrics: int
    peers: int


def raise_limit() -> int:
    """Raise the limit of open files as far as the system allows; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED_MAX if soft == resource.RLIM_INFINITY else soft


def share_out(limit: int, wanted: Shares, settings: DescriptorSettings) -> Shares:
    """Return how many of `limit` descriptors each may have: what is wanted, or its part of what is there.

    Raises:
        UsageError: there are too few for a member at all.
    """
    peers = min(wanted.peers, settings.peers_reserved, limit // 8)
    left = limit - settings.files_reserved - peers
    metrics = min(wanted.metrics, max(settings.metrics_least, left // 16))
    left -= metrics
    planes = (wanted.http, wanted.resp, wanted.peer)
    if left < len(planes) * settings.metrics_least:
        least = -(-(settings.files_reserved + (1 + len(planes)) * settings.metrics_least) * 8 // 7)
        raise UsageError(f"the process may open {limit} files; allow it {least} at least (ulimit -n)")
    total = sum(planes)
    http, resp, peer = planes if total <= left else (min(one, max(one * left // total, left // 8)) for one in planes)
    if http + resp + peer > left:
        http = left - resp - peer
    shares = Shares(http, resp, peer, metrics, peers)
    told = ", ".join(f"{name} {count}" for name, count in shares._asdict().items())
    log.info("%d open files are allowed; connections at most: %s; %d for files", limit, told, settings.files_reserved)
    return shares
