"""Settings of the planes of HTTP: connections, deadlines, and how open files are shared out among them.

A part of `config`, whose `Limits` has the bounds on bytes.
"""

from dataclasses import dataclass

RECEIVED_AT_ONCE_BYTES = 128 << 10
"""The default of `PlaneSettings.received_at_once_bytes`, and the same for answers of other members. With the kernel's
own megabytes a peer that answers without end held the loop for 50 ms at a time."""


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """Connections of one plane of HTTP: how many there may be, and how long one may owe us or the kernel something."""

    connections_max: int
    """Open connections. The next one takes the place of the longest idle one of the address that has most, or is
    refused. Lower where the process may open fewer files (`DescriptorSettings`)."""
    per_address_max: int
    """The same for one remote address (all of loopback is one, and so is an IPv6 /64)."""
    evicted_ms_idle: int = 1000
    """Least time that a connection has been idle before it gives way: a pool in use is left alone."""
    handshakes_max: int = 32
    """TLS handshakes in progress; each costs about a millisecond of the loop. The next one ends the oldest."""
    handshake_ms_least: int = 250
    """Time that one has at least before it is ended in favour of another; meanwhile nobody is accepted."""
    handshake_ms_max: int = 5000
    """Until a handshake is done."""
    first_byte_ms_max: int = 10_000
    """Until the first byte of the first request."""
    head_ms_max: int = 10_000
    """From the first byte of a request to the end of its headers; over it 408."""
    head_bytes_max: int = 64 << 10
    """Request line and headers that came in several pieces, all together."""
    body_ms_grace: int = 10_000
    """A body, or an answer that is not taken, may take so long and a second for each `bytes_per_second_min` of it."""
    bytes_per_second_min: int = 64 << 10
    """A client slower than this is cut: 408 for a body, no word for an answer that it does not read."""
    idle_ms_max: int = 75_000
    """Between two requests."""
    received_at_once_bytes: int = RECEIVED_AT_ONCE_BYTES
    """What the kernel takes of one connection before the member reads it, and so about what one turn of the loop has to
    decrypt and parse of it: a fifth of a millisecond. Of a peer 1 ms away it still brings 100 MB a second."""
    free_bytes: int = 16 << 10
    """Bytes of one connection that are not counted in the budget of its plane: what a small request needs."""


@dataclass(frozen=True, slots=True)
class DescriptorSettings:
    """How the files that the process may open are shared out: RLIMIT_NOFILE, which a start raises to the hard limit."""

    files_reserved: int = 96
    """For the log, snapshots, the compaction process, certificates, DNS and the interpreter."""
    peers_reserved: int = 200
    """For connections to other members, up to an eighth of all."""
    metrics_least: int = 16
    """Kept for probes and metrics, however few there are."""


HTTP_PLANE = PlaneSettings(20_480, 20_480, first_byte_ms_max=60_000, idle_ms_max=3_630_000)
"""The data plane: clients of this machine, whose pools open connections ahead and keep them long. As many connections
as `Limits.http_connections_max`."""
PEER_PLANE = PlaneSettings(2048, 256)
"""The peer plane: a member of the largest cluster is asked by all others within a minute, for two stores each."""
METRICS_PLANE = PlaneSettings(128, 32, evicted_ms_idle=0, head_ms_max=5000, idle_ms_max=120_000)
"""Probes and metrics: the kubelet's address, and one or two Prometheus servers; nobody else keeps these out."""
METRICS_HELD_BYTES_MAX = 8 << 20
"""Bytes of scrapes that clients have not taken; one has some hundred KiB at a thousand peers."""
