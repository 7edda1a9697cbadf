"""What the engine needs from outside, and what the edges need from the engine, as protocols.

Each has a real implementation in a layer above, and fakes in `tests/fakes`, so that every layer is tested without the
ones below it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.messages import Envelope
from wavekv.core.ops import Op
from wavekv.core.session import DotRange
from wavekv.core.types import Entry
from wavekv.core.writes import Write


class Clock(Protocol):
    """The two times a process knows."""

    def now_ms(self) -> int:
        """Return wall-clock milliseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, from an arbitrary start."""
        ...


class Log(Protocol):
    """The durable order of operations (G1)."""

    def append(self, ops: Sequence[Op], next_seq: int) -> None:
        """Write `ops` as one commit group and sync it; return when it is durable. Blocks.

        Raises:
            DiskFull: nothing of the group is on disk; later appends may succeed.
            DiskFailed: the disk's content is unknown; the process must stop.
        """
        ...

    def close(self) -> None:
        """Cut the preallocated rest, sync and release the files."""
        ...

    def size(self) -> "LogSize":
        """Return what the log occupies."""
        ...

    def close_segment(self) -> int:
        """Let all records so far lie in closed segments; return the last one's number. Raises as `append`."""
        ...

    def folded(self, snapshot: int, snapshot_bytes: int) -> None:
        """Take note of a new snapshot of all segments up to `snapshot`."""
        ...

    def find_room(self) -> None:
        """Look for room after `append` met a full disk; return if there is some. Raises as `append`."""
        ...


class LogSize(NamedTuple):
    """What a log occupies on disk, and what stands for the part of it that is folded into a snapshot.

    Attributes:
        segments: files behind the snapshot.
        used_bytes: of them, with records.
        allocated_bytes: of them, on disk.
        last_sequence: the last record's.
        snapshot: number of the newest snapshot, 0: there is none.
        snapshot_bytes: its size.
    """

    segments: int
    used_bytes: int
    allocated_bytes: int
    last_sequence: int
    snapshot: int = 0
    snapshot_bytes: int = 0


class Transport(Protocol):
    """Requests to another member's peer plane.

    Raises (both methods):
        PeerUnreachable: no answer in time, or none that can be understood.
        PeerError: a refusal, by its code.
    """

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        """Send one request of an exchange and return the answer."""
        ...

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        """Send pushed entries; return the receiver's report, None from a crate node."""
        ...

    async def close(self) -> None:
        """Release the connections."""
        ...


class Claims(Protocol):
    """Signed statements that a process of a member runs, for an older one of that name that only hears of it (R8)."""

    async def make(self, inc: int) -> bytes | None:
        """Return the statement of this process; None: it cannot make one now."""
        ...

    async def holds(self, claim: str, inc: int) -> bool:
        """Tell whether `claim` (base64) is a statement of process `inc` of this member's own name."""
        ...


class NoClaims:
    """Nobody signs anything without certificates."""

    async def make(self, inc: int) -> bytes | None:
        """Return None."""
        return None

    async def holds(self, claim: str, inc: int) -> bool:
        """Return False."""
        del claim, inc
        return False


class Observer(Protocol):
    """What log and runtime report to; metrics implement it."""

    def synced(self, seconds: float, ops: int, size_bytes: int) -> None:
        """One commit group of `ops` operations and `size_bytes` became durable in `seconds`."""
        ...

    def operation(self, plane: str, kind: str, result: str, seconds: float) -> None:
        """A client's operation ended: plane http|resp, kind get|put|…, result ok|<error code>."""
        ...

    def propagated(self, seconds: float) -> None:
        """A local write was reported durable by one peer, `seconds` after it became visible here."""
        ...

    def canary(self, peer: str, seconds: float) -> None:
        """`peer` reported this member's canary `seconds` after it was written."""
        ...

    def exchanged(self, peer: str, result: str, seconds: float) -> None:
        """One exchange with `peer` ended: result ok|<error code>."""
        ...

    def pushed(self, peer: str, result: str, entries: int) -> None:
        """One push to `peer` ended."""
        ...

    def compacted(self, result: str, seconds: float) -> None:
        """One compaction ended: result ok|<error code>."""
        ...

    def refused(self, code: str, count: int) -> None:
        """Entries of another member were refused on merge (future stamp, limits, dots)."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A durable local write: the entry as stored, and what live entry the key held before (staged ones included)."""

    entry: Entry
    previous: Entry | None

    @property
    def created(self) -> bool:
        """Tell whether the key held no live value before."""
        return self.previous is None


class Listing(Protocol):
    """One page of a listing, in key order, gathered slice by slice: call `step` until it returns False.

    Others take their turn in between, and keys may change then: one that is there all the time is told exactly once.
    """

    def step(self) -> bool:
        """Look at some hundred keys more; tell whether there is more to do."""
        ...

    @property
    def entries(self) -> list[Entry]:
        """The live entries so far."""
        ...

    @property
    def more(self) -> bool:
        """Whether live entries follow; known once the page is complete."""
        ...


class Change(NamedTuple):
    """One event of a watch.

    Attributes:
        kind: put, delete, expire; or synced: all that was held when the watch began has been told.
        key: whose; empty with synced.
        entry: what the key holds now; None with synced, and with delete where nothing is held any more.
        token: resume behind this event; None while the first pages are told, which cannot be resumed.
    """

    kind: Literal["put", "delete", "expire", "synced"]
    key: str
    entry: Entry | None
    token: str | None


class Watch(Protocol):
    """One watcher's events. `close` once done, whatever happened."""

    async def next(self) -> Sequence[Change]:
        """Wait for events and return them in their order.

        Raises:
            SlowReader: too many were waiting; the watch is over.
            Stopping: the member stops; resume on its successor.
        """
        ...

    def close(self) -> None:
        """Forget the watcher."""
        ...


class Spread(Protocol):
    """A place among the writes that wait for other members, held while in its `with` block (R12)."""

    def __enter__(self) -> Self:
        """Let what is written from now on be pushed at once."""
        ...

    def __exit__(self, *error: object) -> None:
        """Give the place back."""
        ...

    async def reached(self, dots: Sequence[DotRange], seconds: float) -> tuple[str, ...]:
        """Wait until enough members hold `dots`, which are durable here; return the names of those that do.

        Raises:
            DurabilityTimeout: not within `seconds`.
        """
        ...

    def holders(self, dots: Sequence[DotRange]) -> tuple[str, ...]:
        """Return the names of the members known to hold `dots`, this one first."""
        ...


class KeyValues(Protocol):
    """What the data planes need from one store of a member. Reads never wait (G5); writes return once durable (G1).

    `expires_at` is milliseconds since 1970, None: never, KEEP_EXPIRY: as the live value that is there.
    """

    def get(self, key: str) -> Entry | None:
        """Return the live entry of `key`, or None."""
        ...

    def length_of(self, key: str) -> int | None:
        """Return the length of the live value of `key`, None if there is none; nothing is copied."""
        ...

    def pending(self, key: str) -> Entry | None:
        """Return the live entry that `key` will hold once all that is staged is durable; its value may be a view.

        For deciding a write in the same turn of the loop, and shown to nobody before that write is durable (G5).
        """
        ...

    async def put(
        self, key: str, value: bytes, condition: Condition = ALWAYS, expires_at: int | None = None
    ) -> Written:
        """Store `value` if `condition` holds; return when it is durable.

        Raises:
            PreconditionFailed: it does not hold, which is durable too; nothing is stored.
            CratePeers: an expiry, while a node of the original system is a member.
            UnavailableError: starting, draining, too many waiting, disk full or limit reached; nothing is stored.
        """
        ...

    async def delete(self, key: str, condition: Condition = ALWAYS) -> Written:
        """Store a tombstone if `condition` holds; return when it is durable.

        Raises:
            PreconditionFailed: as for `put`.
            KeyNotFound: the key holds no live value; nothing is stored.
            UnavailableError: as for `put`.
        """
        ...

    async def expire(self, key: str, expires_at: int | None, condition: Condition = ALWAYS) -> Written:
        """Store the live value again with another expiry. Raises as `put`, and KeyNotFound as `delete`."""
        ...

    async def batch(self, writes: Sequence[Write]) -> list[Written | None]:
        """Store all of `writes` or none, under one sync; None in the place of a check, or a delete that found nothing.

        Of the previous entries there are only the facts: their values are empty.

        Raises:
            PreconditionFailed: a condition does not hold; its detail names the operation's place, from 0.
            BatchTooLarge: more operations or bytes than the limits allow.
            CratePeers, UnavailableError: as for `put`.
        """
        ...

    async def covered(self, dots: Sequence[DotRange], seconds: float) -> None:
        """Return once this member covers `dots`, and so shows what they wrote, or something newer (G6, R13).

        Raises:
            CoverageTimeout: it does not within `seconds`.
            TooManyWaiting: too many requests wait for the same.
        """
        ...

    def spread(self, count: int | None) -> Spread:
        """Return a place to wait until a write is durable on `count` members, this one included; None: on all (G2).

        Raises:
            DurabilityImpossible: there are not so many members.
            TooManyWaiting: too many writes wait for the same.
        """
        ...

    def list(
        self, prefix: str, after: str | None, limit: int, *, keys_only: bool = False, bytes_max: int | None = None
    ) -> Listing:
        """Begin a page of up to `limit` live entries whose key starts with `prefix` and sorts behind `after`.

        It ends before the entry whose value would exceed `bytes_max`, but for the first. With `keys_only` values are
        empty, and nothing of them is copied.
        """
        ...

    def count(self) -> int:
        """Return the number of live entries."""
        ...

    def expiring(self) -> int:
        """Return how many of the live entries will expire."""
        ...

    def token(self) -> str:
        """Return the token that a watch resumes behind all that is visible now."""
        ...

    def watch(self, selector: str, *, prefix: bool, since: str | None) -> Watch:
        """Watch the key `selector`, or all keys that start with it; `since` is the token to resume behind.

        Without `since`, the watch tells what is held, then `synced`, then each change, without a gap.

        Raises:
            WatchExpired: the token is another member's, or older than what is remembered.
            TooManyWatchers: the bound is reached.
        """
        ...

    def explain(self, key: str) -> Mapping[str, Any]:
        """Return how the key came to hold what it holds, as JSON-ready values: winner, known losers, who covers it."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return the member's status as JSON-ready values."""
        ...


class Phase(NamedTuple):
    """Where a member is in its life, for the probes."""

    started: bool
    ready: bool
    reason: str
