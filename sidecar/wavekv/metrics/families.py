"""Every metric family of a member: name, type, labels, help and buckets; docs/metrics.md is compared with this table.

Names follow Prometheus' conventions: `wavekv_`, base units (seconds, bytes) last, counters end in `_total`. Label
values are peer names from the configuration, or words of our own code, so the number of series is bounded (G9).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

_OPERATION_SECONDS = (2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SYNC_SECONDS = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3, 0.0128, 0.0256, 0.0512, 0.1, 0.25, 0.5, 1.0, 5.0)
_NETWORK_SECONDS = (1e-3, 2e-3, 4e-3, 8e-3, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COMPACTION_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0)
_OPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


class Family(NamedTuple):
    """One metric family. `buckets` are the inclusive upper bounds of a histogram, without infinity."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: Sequence[float] = ()


BUILD_INFO = Family("wavekv_build_info", "gauge", ("version",), "1, labelled with the version that runs.")
READY = Family("wavekv_ready", "gauge", (), "1 while the member takes traffic (its /readyz answers 200).")
HEALING = Family(
    "wavekv_healing", "gauge", (), "1 while a new, damaged or restored directory catches up with its peers."
)
CONVERGED = Family(
    "wavekv_converged", "gauge", (), "1 while this member and all its peers hold what any of them had issued 5 s ago."
)
CONVERGED_SINCE = Family(
    "wavekv_converged_since_timestamp_seconds", "gauge", (), "When that last became so; no sample while it is not."
)
CLOCK_AHEAD = Family(
    "wavekv_clock_ahead", "gauge", (), "1 while local writes are refused because the clock is far ahead of the peers'."
)
ENTRIES = Family("wavekv_entries", "gauge", (), "Entries held, tombstones included.")
ENTRIES_LIVE = Family("wavekv_entries_live", "gauge", (), "Entries that a read can see.")
DATA_BYTES = Family("wavekv_data_bytes", "gauge", (), "Key and value bytes of the entries held.")
LOG_BYTES = Family(
    "wavekv_log_bytes", "gauge", ("kind",), "Bytes of the write-ahead log: used by records, or allocated on disk."
)
LOG_SEGMENTS = Family("wavekv_log_segments", "gauge", (), "Files of the write-ahead log.")
SNAPSHOT_BYTES = Family("wavekv_snapshot_bytes", "gauge", (), "Size of the newest snapshot; 0: there is none.")
COMPACTING = Family("wavekv_compacting", "gauge", (), "1 while a process folds the log into a snapshot.")
SUPERSEDED = Family(
    "wavekv_superseded", "gauge", (), "1 once a newer process of this member's name was heard: this one serves nothing."
)
DISK_FULL = Family("wavekv_disk_full", "gauge", (), "1 while values are refused because the volume is full.")
DAMAGED = Family(
    "wavekv_recovery_damage",
    "gauge",
    ("kind",),
    "1 for the damage that this process met when it started: torn_tail, blank_segment, snapshot or corruption.",
)
EPHEMERAL_ENTRIES = Family("wavekv_ephemeral_entries", "gauge", (), "Entries in the ephemeral store, with tombstones.")
WATCHES = Family("wavekv_watches", "gauge", (), "Watches open.")
WATCHES_CUT = Family("wavekv_watches_cut", "gauge", (), "Watchers cut as slow readers since the process started.")
LOST_WRITES = Family(
    "wavekv_lost_writes", "gauge", (), "Losers of concurrent writes seen since the process started; explain names them."
)
LIMIT_RATIO = Family(
    "wavekv_limit_ratio",
    "gauge",
    ("limit",),
    "Share of a limit in use: entries or bytes; local writes stop at 0.9.",
)
WAITING_WRITES = Family("wavekv_waiting_writes", "gauge", (), "Local writes accepted and not yet durable.")
WAITING_SESSIONS = Family(
    "wavekv_waiting_sessions", "gauge", (), "Requests that wait until this member covers their session."
)
WAITING_SPREADS = Family("wavekv_waiting_spreads", "gauge", (), "Writes that wait to be durable on other members.")
RECOVERED_RECORDS = Family("wavekv_recovered_records", "gauge", (), "Log records replayed when this process started.")
RECOVERY_SECONDS = Family("wavekv_recovery_seconds", "gauge", (), "Time the replay took when this process started.")
PEERS = Family("wavekv_peers", "gauge", (), "Peers this member knows, itself excluded.")
PEER_UP = Family("wavekv_peer_up", "gauge", ("peer",), "1 while the last request to the peer was answered.")
PEER_LAG_SEQUENCES = Family(
    "wavekv_peer_lag_sequences", "gauge", ("peer",), "Writes held here that the peer has not reported durable."
)
PEER_LAG_SECONDS = Family(
    "wavekv_peer_lag_seconds", "gauge", ("peer",), "Age of the oldest write the peer has not reported durable."
)
PEER_BEHIND_SEQUENCES = Family(
    "wavekv_peer_behind_sequences", "gauge", ("peer",), "Writes the peer reported durable that are not held here."
)
PEER_CLOCK_SKEW = Family(
    "wavekv_peer_clock_skew_seconds", "gauge", ("peer",), "How far the peer's clock is ahead of this member's."
)

OPERATIONS = Family(
    "wavekv_operations_total",
    "counter",
    ("plane", "kind", "result"),
    "Client operations by result: ok or an error code.",
)
OPERATION_DURATION = Family(
    "wavekv_operation_duration_seconds",
    "histogram",
    ("plane", "kind"),
    "Time from a complete client request to its answer; the sync and waits for other members are in it.",
    _OPERATION_SECONDS,
)
FSYNC_DURATION = Family(
    "wavekv_fsync_duration_seconds", "histogram", (), "Time to write and sync one commit group.", _SYNC_SECONDS
)
LOG_GROUP_OPS = Family("wavekv_log_group_ops", "histogram", (), "Log operations that shared one sync.", _OPS)
LOG_WRITTEN_BYTES = Family("wavekv_log_written_bytes_total", "counter", (), "Bytes of commit groups made durable.")
PROPAGATION = Family(
    "wavekv_propagation_seconds",
    "histogram",
    (),
    "Time from a local write being visible here to a peer reporting it durable.",
    _NETWORK_SECONDS,
)
PEER_PROPAGATION = Family(
    "wavekv_peer_propagation_seconds",
    "histogram",
    ("peer",),
    "Time from a canary of this member being written to the peer reporting it.",
    _NETWORK_SECONDS,
)
EXCHANGES = Family(
    "wavekv_exchanges_total", "counter", ("peer", "result"), "Exchanges with a peer by result: ok or an error code."
)
EXCHANGE_DURATION = Family(
    "wavekv_exchange_duration_seconds", "histogram", (), "Time of one exchange with a peer.", _NETWORK_SECONDS
)
PUSHES = Family(
    "wavekv_pushes_total", "counter", ("peer", "result"), "Pushes to a peer by result: ok or an error code."
)
PUSHED_ENTRIES = Family("wavekv_pushed_entries_total", "counter", (), "Entries in pushes that succeeded.")
CONNECTIONS = Family("wavekv_connections", "gauge", ("plane",), "Connections open: http, resp, peer or metrics.")
CONNECTIONS_MAX = Family(
    "wavekv_connections_max", "gauge", ("plane",), "Connections that may be open, by setting and by open files."
)
CONNECTIONS_CLOSED = Family(
    "wavekv_connections_closed_total",
    "counter",
    ("plane", "reason"),
    "Connections refused or closed by the member: over a bound, for a newer one, by a deadline, or for their bytes.",
)
HELD_BYTES = Family(
    "wavekv_held_bytes", "gauge", ("plane",), "Bytes that clients of a plane make the member hold, of its budget."
)
HELD_BYTES_MAX = Family("wavekv_held_bytes_max", "gauge", ("plane",), "That budget.")
HELD_BYTES_REFUSED = Family(
    "wavekv_held_bytes_refused_total", "counter", ("plane",), "Times that something did not fit into that budget."
)
COMPACTIONS = Family("wavekv_compactions_total", "counter", ("result",), "Compactions by result: ok or an error code.")
COMPACTION_DURATION = Family(
    "wavekv_compaction_duration_seconds", "histogram", (), "Time of one compaction.", _COMPACTION_SECONDS
)
REFUSED_ENTRIES = Family(
    "wavekv_refused_entries_total", "counter", ("code",), "Entries of other members refused on merge, by error code."
)
LONG_TURNS = Family(
    "wavekv_loop_long_turns_total",
    "counter",
    ("kind",),
    "Turns of the loop longer than `turn_ms_max` (20 ms), in which everybody else waited, by what ran; `machine`: the "
    "member was not given a processor.",
)
LONG_TURN_SECONDS = Family(
    "wavekv_loop_long_turn_seconds_total", "counter", ("kind",), "How long these turns took together."
)

PLANES = (CONNECTIONS, CONNECTIONS_MAX, CONNECTIONS_CLOSED, HELD_BYTES, HELD_BYTES_MAX, HELD_BYTES_REFUSED)
"""Read from the books of the planes at scrape time."""

GAUGES = (
    READY,
    HEALING,
    CONVERGED,
    CONVERGED_SINCE,
    CLOCK_AHEAD,
    ENTRIES,
    ENTRIES_LIVE,
    DATA_BYTES,
    LOG_BYTES,
    LOG_SEGMENTS,
    SNAPSHOT_BYTES,
    COMPACTING,
    SUPERSEDED,
    DISK_FULL,
    DAMAGED,
    EPHEMERAL_ENTRIES,
    WATCHES,
    WATCHES_CUT,
    LOST_WRITES,
    LIMIT_RATIO,
    WAITING_WRITES,
    WAITING_SESSIONS,
    WAITING_SPREADS,
    RECOVERED_RECORDS,
    RECOVERY_SECONDS,
    PEERS,
    PEER_UP,
    PEER_LAG_SEQUENCES,
    PEER_LAG_SECONDS,
    PEER_BEHIND_SEQUENCES,
    PEER_CLOCK_SKEW,
)
"""Read from the member's status at scrape time."""

COUNTED = (
    OPERATIONS,
    OPERATION_DURATION,
    FSYNC_DURATION,
    LOG_GROUP_OPS,
    LOG_WRITTEN_BYTES,
    PROPAGATION,
    PEER_PROPAGATION,
    EXCHANGES,
    EXCHANGE_DURATION,
    PUSHES,
    PUSHED_ENTRIES,
    COMPACTIONS,
    COMPACTION_DURATION,
    REFUSED_ENTRIES,
    LONG_TURNS,
    LONG_TURN_SECONDS,
)
"""Accumulated as log and runtime report."""

FAMILIES = (BUILD_INFO, *GAUGES, *PLANES, *COUNTED)
