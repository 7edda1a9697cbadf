"""Settings of a member: frozen, read once at the entry point, passed in. Every bound (G9) has its name here.

Each field says unit, effect and why this default. Units come last in names.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wavekv.errors import UsageError
from wavekv.plane_settings import HTTP_PLANE, METRICS_PLANE, PEER_PLANE, DescriptorSettings, PlaneSettings
from wavekv.redis_limits import RedisLimits

FsyncMode = Literal["thread", "inline", "adaptive"]


@dataclass(frozen=True, slots=True)
class Limits(RedisLimits):
    """Named bounds. Over any of them: a clear refusal, never a crash, never silent loss."""

    wire_key_bytes_max: int = 1024
    """Longest key that is merged, UTF-8 bytes; the crate's wire limit, so a longer one could not travel."""
    wire_value_bytes_max: int = 1 << 20
    """Longest value that is merged, bytes; the crate's wire limit."""
    key_bytes_max: int = wire_key_bytes_max
    """Longest key a client may use. A smaller one than the wire's binds clients alone: a member that refused what
    another one took under a larger limit would never converge with it."""
    value_bytes_max: int = wire_value_bytes_max
    """Longest value a client may write, bytes; the same holds for it."""
    entries_max: int = 1_000_000
    """Entries held, tombstones included. Local writes of new keys stop at `local_fill_ratio_max` of it."""
    bytes_max: int = 1 << 30
    """Sum of key and value bytes held."""
    local_fill_ratio_max: float = 0.9
    """Local writes are refused above this share of the two limits above, so that merges still find room."""
    future_ms_max: int = 300_000
    """Entries stamped further ahead of this member's clock are refused on merge (the crate's guard)."""
    waiting_writes_max: int = 16_384
    """Local writes staged and not yet durable; the next one is answered 429."""
    waiting_bytes_max: int = 64 << 20
    """Value bytes of local writes staged and not yet durable, one value or batch more at most; over it 429."""
    origins_max: int = 65_536
    """Origins in a context and in a message: a thousand members that started 65 times each. A context that would add
    more is not adopted, an entry of a further one is refused."""
    origins_reserved: int = 16_384
    """Of these, those kept for origins that a member names as its own, a quarter of `origins_max` at most: invented
    ones must not keep out processes that start later."""
    new_origins_max: int = 1024
    """Origins never heard of that one other member may bring in an hour, unless this one heals: a thousand members that
    all start anew, told by one of them. Further ones are refused, and come again."""
    own_origins_max: int = 64
    """The same, of origins that it names as its own: a process that starts each minute."""
    origins_expire_above: int = 4096
    """Origins in a context above which the dead ones are looked for and dropped (R15). Below it a member promises
    nothing by itself, so that a cluster of ordinary age neither logs nor tells anything for it."""
    origin_grace_ms: int = 3_600_000
    """How long after an origin was found dead its place in the contexts is kept at least (R15). Promises lie that far
    behind the clock, so clocks that differ by less than half of it cost nothing."""
    origin_promise_ms: int = 600_000
    """Between two promises while there is a dead origin: each is a record of the log."""
    origin_scan_max: int = 4096
    """Entries whose stamps are looked at in one step, a second, while origins are found dead; about 2 ms."""
    origin_drop_max: int = 4096
    """Origins dropped in one step; those of one record, and of one commit group."""
    dots_max: int = 8192
    """Ranges of single dots above the acks in a context, and in a message; pushed entries that would add one more are
    refused, and a context that would is not adopted. Looking at all of them takes some milliseconds."""
    fill_ranges_max: int = 1_048_576
    """The same while pages of an exchange come in, of whose entries each may be a range until the last page closes
    them: as many as entries. Over it they are refused."""
    told_dots_max: int = 4096
    """Ranges of dots up to which a healing member sends its context in every message. With more of them only its
    requests carry it, and its answers to members that heal as well and to crate nodes: reading it would take the others
    longer than all the rest of a message."""
    page_entries_max: int = 4096
    """Entries in one page of an exchange (the crate's page)."""
    page_bytes_max: int = 4 << 20
    """Bytes in one page, counted as len(key) + len(value) + 32 an entry (the crate's count)."""
    wire_bytes_max: int = 16 << 20
    """A message of the peer plane, compressed (the crate's limit)."""
    inflated_bytes_max: int = 16 << 20
    """The same message inflated; checked while inflating, never after. The largest honest one has a page, as much that
    changed meanwhile, and a context: 10 MiB (docs/message-bounds.md)."""
    reported_items_max: int = 2_097_152
    """Origins and ranges in the reports of all peers, about 100 bytes each: those of a thousand members that know two
    thousand origins. Over it the report heard longest ago is forgotten, which costs a fuller exchange."""
    merge_slice_entries: int = 128
    """Entries of other members merged, and operations shown, in one turn of the loop: a millisecond. A value that is
    shown counts as one more for each 8 KiB of it: it is copied."""
    push_keys_max: int = 4096
    """Keys queued for one peer's push; over it the queue is dropped and the exchange brings them."""
    changes_max: int = 65_536
    """Recent changes remembered for paging (rule R3c); an exchange that outlives them adopts nothing."""
    list_entries_max: int = 1000
    """Entries in one page of a listing."""
    list_bytes_max: int = 8 << 20
    """Value bytes in one page of a listing; the page ends before the entry that exceeds them."""
    list_entries_default: int = 100
    """Entries in a listing that names no limit."""
    header_bytes_max: int = 16 << 10
    """Request line and headers of the data plane; holds a percent-encoded longest key."""
    http_connections_max: int = 20_480
    """Open connections of the HTTP data plane, watchers among them; the next one is answered 503 and closed."""
    resp_command_bytes_max: int = 16 << 20
    """Unparsed bytes of one Redis command of many keys and values: an MSET of fifteen of the longest values."""
    resp_connections_max: int = 4096
    """Open connections of the Redis plane; the next one gets an error and is closed."""
    resp_pending_max: int = 1024
    """Commands of one Redis connection whose reply waits for the disk; reading stops there until some have gone."""
    resp_pending_bytes_max: int = 2 << 20
    """Bytes of such commands, and of replies that wait behind them; the longest command fits. One more at most."""
    resp_stuck_ms_max: int = 30_000
    """Longest time that a client may take to send the rest of a command, or not take a reply; then it is cut."""
    resp_pressed_ms_max: int = 2000
    """The same while less than an eighth of `resp_held_bytes_max` is left: those that hold it make room for others."""
    resp_idle_ms_min: int = 60_000
    """With all connections taken, one that sent nothing for this long is closed for a new one."""
    resp_config_patterns_max: int = 16
    """Patterns in one CONFIG GET, of at most 32 bytes each: no name of a setting is longer."""
    resp_arguments_max: int = 65_536
    """Arguments of one Redis command."""
    resp_keys_max: int = 10_000
    """Keys that one KEYS may answer; over it the command is refused, SCAN has no such bound."""
    resp_cursors_max: int = 8192
    """Places of SCANs remembered, of all connections; over it half are forgotten, and a scan that comes back to one of
    those goes on from the next one before it."""
    batch_operations_max: int = 1000
    """Operations in one batch."""
    batch_bytes_max: int = 8 << 20
    """Key and value bytes in one batch; the body of the request may be twice as long, for base64 and framing."""
    multi_get_keys_max: int = 1000
    """Keys in one multi-get; their values come up to `list_bytes_max`, the rest is named as left out."""
    ttl_ms_max: int = 100 * 365 * 86_400_000
    """Longest time to live: a hundred years."""
    watchers_max: int = 16_384
    """Watches open at once; the next one is answered 503."""
    watch_untold_max: int = 16_384
    """Changes that watchers are yet to be told of, in the turns to come; over it all watches of the store are cut."""
    watch_waiting_max: int = 16_384
    """Events that wait for one watcher to take them; over it the watcher is cut as a slow reader."""
    watch_waiting_bytes_max: int = 8 << 20
    """Key and value bytes of these events, one event more at most."""
    session_bytes_max: int = 8192
    """Longest session token of a request; shorter than what a request's headers may have together."""
    session_ranges_max: int = 1000
    """Dots, or ranges of them, in one session token."""
    waiting_sessions_max: int = 1024
    """Requests that wait until their session is covered, for each store; the next one is answered 429. Each costs a
    look at the context when a commit group becomes durable."""
    waiting_spreads_max: int = 4096
    """Writes that wait for other members, for each store; the next one is answered 429."""
    wait_ms_default: int = 5000
    """Longest wait of both kinds where the request names none."""
    wait_ms_max: int = 60_000
    """Longest wait that a request may name."""
    ahead_ms_max: int = 150_000
    """A member whose clock is further ahead of its peers' median takes no writes: half of `future_ms_max`, so that it
    stops before its peers refuse what it wrote."""
    http_held_bytes_max: int = 128 << 20
    """Bytes that requests and answers of the HTTP data plane hold at a time, bodies that are read and answers that
    clients have not taken: 128 of the longest values. Over it 503 `memory_budget`."""
    resp_held_bytes_max: int = 64 << 20
    """The same for commands and replies of the Redis plane."""
    watch_held_bytes_max: int = 64 << 20
    """Bytes of events that wait for all watchers together to take them; over it the slowest is cut."""
    peer_held_bytes_max: int = 128 << 20
    """Bytes of bodies of the peer plane in progress at a time, as they came: eight of the longest. Over it 503."""
    turn_ms_max: int = 20
    """A turn of the loop that takes longer is reported with what ran: everybody else waited for as long."""
    journal_entries_max: int = 10_000
    """Losers of concurrent writes remembered for `explain`, the newest."""


ENTRIES_MOST = 10_000_000
"""Most that `entries_max` may be set to: some gigabytes of memory for the smallest entries, and a replay of minutes."""
BYTES_LEAST = 1 << 20
"""Least that `bytes_max` may be set to: one longest value."""
BYTES_MOST = 64 << 30
"""Most that `bytes_max` may be set to; all of it is held in memory."""
COMPACT_LOG_BYTES_LEAST = 1 << 20
"""Least that the log may have to reach before it is folded: below it, folding costs more than the log does."""
COMPACT_LOG_BYTES_MOST = BYTES_MOST
"""Most that it may have to reach."""
COMPACT_AGE_SECONDS_MOST = 31_536_000
"""Longest age of a log that is not folded, a year."""


@dataclass(frozen=True, slots=True)
class WalSettings:
    """The write-ahead log's files and syncing."""

    segment_bytes_max: int = 16 << 20
    """A segment that reached this size is closed and the next begun; groups are never split. The largest batch fits."""
    preallocate_bytes: int = 4 << 20
    """Zeros written ahead of the log: overwriting zeroed blocks halves the cost of a sync."""
    fsync_mode: FsyncMode = "thread"
    """thread: reads never wait for the disk. inline: fewer switches, reads wait. adaptive: inline while it is fast."""


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """How a snapshot is written; readers take any."""

    block_entries_max: int = 4096
    """Entries in one block, the unit of checking and decoding."""
    block_bytes_max: int = 1 << 20
    """Key and packed bytes in one block of entries, one entry more at most."""
    sort_dots_max: int = 131_072
    """Dots held in memory while they are sorted; more go to a temporary file. About 60 bytes each."""
    dots_block_max: int = 65_536
    """Dots, or entries with an expiry, in one block: 12 or 16 bytes each."""
    sync_bytes: int = 8 << 20
    """Bytes written between two syncs: one sync of a whole snapshot would hold up those of the log."""


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """The process that merges the last snapshot and closed segments into the next snapshot, and when it is due."""

    log_share: float = 0.25
    """Due when the log behind the newest snapshot has this share of its size. The disk then holds two snapshots and
    the log behind each, 2.5 times the data; a smaller share writes more, a larger one takes more room."""
    log_bytes_min: int = 32 << 20
    """Bytes of log below which that does not count: a small store would be compacted all the time."""
    age_ms_max: int = 3_600_000
    """Due also this long after the last one, if anything was written since: it bounds what a start replays."""
    nice: int = 10
    """Added to its priority, so that it takes what the member leaves."""
    batch_keys_max: int = 65_536
    """Keys changed by one segment that are sorted at once; about 250 bytes each."""
    batch_key_bytes_max: int = 8 << 20
    """Bytes of these keys, one operation more at most."""
    runs_max: int = 32
    """Sorted runs merged at once; more are merged in passes. Each holds one operation, so at most a value."""
    open_segments_max: int = 64
    """Segments open at once while their operations are read again."""
    spares_max: int = 2
    """Segments folded in that are kept as zeroed spares; the rest is removed."""
    reports_max: int = 100
    """Lines that tell how far it got, one for each further share of the work."""


@dataclass(frozen=True, slots=True)
class VolumeLimits:
    """What is read from a data directory, which a stranger may have made; over any of it a start is refused."""

    document_bytes_max: int = 64 << 10
    """A document of the directory (identity, conversion, quarantine, state of an import): ours have some hundred bytes,
    and paths of a thousand crate files fit."""
    membership_bytes_max: int = 1 << 20
    """A membership document, as one that is pushed: a thousand members with the longest names."""
    segment_bytes_max: int = 512 << 20
    """One segment, which is read at once. Ours have 16 MiB and one commit group more, far below this even when groups
    gather behind a disk that hangs."""
    crate_file_bytes_max: int = 4 << 30
    """A log or snapshot of the original system, which is read at once: four times the default of `bytes_max`."""
    crate_entries_max: int = ENTRIES_MOST
    """Entries in a snapshot of the original system, or in the log it keeps of one peer."""
    crate_peers_max: int = 65_536
    """Nodes that such a snapshot speaks of."""
    crate_value_bytes_max: int = 64 << 20
    """A value in it that is written as an array of numbers, each of which is read for itself."""
    snapshot_entries_bytes_max: int = 8 << 20
    """A snapshot's block of entries. Ours have 1 MiB and the longest value more."""
    snapshot_block_entries_max: int = 262_144
    """Entries, dots or expiries in one block. Ours have 65 536 at most."""
    snapshot_tail_bytes_max: int = 64 << 20
    """A snapshot's last block: two million ranges of coverage fit, a hundred times what a cluster comes to."""
    snapshot_tail_numbers_max: int = 6_000_000
    """Numbers in it."""
    coverage_max: int = 2_000_000
    """Origins and ranges of coverage in a log, as many as the last block of a snapshot holds."""
    batch_operations_max: int = 65_536
    """Operations in one record. A batch of a client has 1000."""
    names_max: int = 65_536
    """Names in the directory. Ours are some dozen; a thousand segments are 16 GiB of log."""
    held_ratio_max: int = 2
    """How many times `entries_max` and `bytes_max` a directory may come to before a start is refused. One that was
    filled under twice the present limits still starts; for more, start with the limits it was filled under."""


VOLUME_LIMITS = VolumeLimits()
"""What every reader of a data directory goes by; no flag changes it."""


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """Exchange and push."""

    interval_ms: int = 1000
    """Mean time between exchanges; each wait is drawn from 0.75 … 1.25 of it so that members do not march in step."""
    fanout: int = 3
    """Random peers asked in one interval."""
    push_direct_max: int = 16
    """Peers up to which each write is pushed to all of them by its writer; with more it is relayed. A push costs its
    sender about a millisecond, so with `push_spacing_ms` a busy writer would spend a whole core on 15 peers; relaying
    costs the cluster five times the messages and is as fast from there on (docs/dissemination.md)."""
    push_fanout: int = 5
    """Random peers that a relaying cluster's member pushes news to, once. Of 1000 members 5 leave out about 7 in 1000,
    whom the exchange brings it; 4 leave out 20, and 6 cost a fifth more for the last 4 (docs/dissemination.md)."""
    push_delay_ms: int = 2
    """Writes that follow the first one this closely go out with it."""
    push_spacing_ms: int = 15
    """Least time between two pushes to one peer: each costs both sides about a millisecond, whatever it carries."""
    request_timeout_ms: int = 10_000
    """One request to a peer, answer included (the crate's timeout)."""
    connect_timeout_ms: int = 3000
    """Until a connection stands, handshake included; the address of a pod that is gone answers nothing at all."""
    resolved_ms_max: int = 2000
    """A resolved name is resolved again after this: a pod that came back has a new address."""
    backoff_ms_max: int = 10_000
    """Longest pause before an unreachable peer is asked again."""
    seek_spacing_ms: int = 100
    """Least time between two rounds that readers waiting for a session bring about."""
    canary_ms: int = 10_000
    """Mean time between two canaries: a write that shows how long a peer takes to have it."""
    canary_ms_per_peer: int = 300
    """The same for each peer, where that is longer: a member sends three canaries a second at most."""
    join_wait_ms: int = 3000
    """A started member waits this long at most for its first exchange before it accepts writes (R7)."""


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """How the name of `--discover-dns` is followed."""

    interval_ms: int = 5000
    """Between two resolutions; a cluster's DNS holds an answer for about as long."""
    joining_interval_ms: int = 500
    """The same while no peer has answered yet: pods that start resolve one by one."""
    timeout_ms: int = 3000
    """One resolution; what takes longer is waited for without a second one."""
    grace_ms: int = 30_000
    """An address that no answer held for this long is dropped: answers come without a pod that restarts."""
    addresses_max: int = 1024
    """Addresses used; the rest of a longer answer is not. Above the members of the largest cluster."""
    told_ms: int = 60_000
    """Between two lines of the log that say the same."""


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP endpoint to listen on; an empty host stands for all addresses, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A peer: the name others call it and the base URL of its peer plane.

    `contact`: an address whose member has not told its name yet; `name` only stands for it.
    """

    name: str
    url: str
    contact: bool = False
    crate: bool = False
    """A node of the original system, which sends no name."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the peer plane: certificate, key, and the authority that signs members and operator."""

    cert: Path
    key: Path
    ca: Path
    poll_ms: int = 2000
    """How often the files are looked at; changed ones are used for new connections."""


@dataclass(frozen=True, slots=True)
class EnrolmentFiles:
    """What a member is given that makes its own key: the authorities to trust, and what proves who it is."""

    ca: Path
    """The authorities that sign members and operator, PEM."""
    token: Path | None = None
    """Read anew whenever an operator asks; None: the operator has to know this member otherwise."""
    token_bytes_max: int = 16 << 10
    """What is read of the token; a projected one has about a thousand bytes."""
    certificate_bytes_max: int = 64 << 10
    """A certificate and its chain that an operator hands in; one has about 700 bytes."""


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """All that `wavekv serve` is told."""

    data_dir: Path
    name: str | None = None
    """Member name; None: `node-` and the node id in hex, which stays with the directory."""
    node_id: int | None = None
    """Node id for a new directory; None: drawn at random."""
    cluster_id: str | None = None
    listen: tuple[Address, ...] = (Address("127.0.0.1", 7070), Address("::1", 7070))
    socket: Path | None = None
    """Unix socket of the data plane; None: DATA_DIR/wavekv.sock."""
    socket_mode: int = 0o660
    allow_hosts: tuple[str, ...] = ()
    """Names, in lower case, that requests to the HTTP data plane may give as `Host` beside those of this machine."""
    resp_listen: tuple[Address, ...] = (Address("127.0.0.1", 7071), Address("::1", 7071))
    peer_listen: Address = Address("", 7072)
    metrics_listen: Address = Address("", 7073)
    peers: tuple[PeerAddress, ...] = ()
    membership: Path | None = None
    bootstrap: bool = False
    discover_dns: Address | None = None
    """Name that resolves to the addresses of all members, and the port of their peer planes."""
    tls: TlsFiles | None = None
    """Certificate and key given by flags; None with `enrolment`: the member makes its own."""
    enrolment: EnrolmentFiles | None = None
    insecure_peers: bool = False
    limits: Limits = field(default_factory=Limits)
    wal: WalSettings = field(default_factory=WalSettings)
    compaction: CompactionSettings = field(default_factory=CompactionSettings)
    gossip: GossipSettings = field(default_factory=GossipSettings)
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)
    http_plane: PlaneSettings = HTTP_PLANE
    peer_plane: PlaneSettings = PEER_PLANE
    metrics_plane: PlaneSettings = METRICS_PLANE
    descriptors: DescriptorSettings = field(default_factory=DescriptorSettings)

    @property
    def secure(self) -> bool:
        """Tell whether the peer plane speaks TLS."""
        return self.tls is not None or self.enrolment is not None


def parse_address(text: str) -> Address:
    """Return the address in `text`: `HOST:PORT`, `[V6]:PORT` or `:PORT` (all addresses, IPv4 and IPv6).

    Raises:
        UsageError: no port, or one outside 0…65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{text!r} is not HOST:PORT; for example 127.0.0.1:7070 or [::1]:7070")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"{text!r}: write an IPv6 address in brackets, for example [::1]:7070")
    return Address(host, int(port))
