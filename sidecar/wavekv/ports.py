"""What the engine needs from outside, and what the edges need from the engine, as protocols.

Each has a real implementation and a fake one in tests/; both pass the same suite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.messages import Envelope
from wavekv.core.ops import Op
from wavekv.core.types import Entry


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


class LogSize(NamedTuple):
    """What a log occupies on disk: files, bytes with records, bytes allocated, and the last record's sequence."""

    segments: int
    used_bytes: int
    allocated_bytes: int
    last_sequence: int


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

    def exchanged(self, peer: str, result: str, seconds: float) -> None:
        """One exchange with `peer` ended: result ok|<error code>."""
        ...

    def pushed(self, peer: str, result: str, entries: int) -> None:
        """One push to `peer` ended."""
        ...

    def refused(self, code: str, count: int) -> None:
        """Entries of another member were refused on merge (future stamp, limits, dots)."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A durable local write: the entry as stored, and whether the key held no value before."""

    entry: Entry
    created: bool


class Listing(NamedTuple):
    """One page of a listing, in key order; `more` tells whether keys follow."""

    entries: list[Entry]
    more: bool


class KeyValues(Protocol):
    """What the data planes need from a member. Reads never wait (G5); writes return once durable (G1)."""

    def get(self, key: str) -> Entry | None:
        """Return the live entry of `key`, or None."""
        ...

    async def put(self, key: str, value: bytes, condition: Condition = ALWAYS) -> Written:
        """Store `value` if `condition` holds; return when it is durable.

        Raises:
            PreconditionFailed: it does not hold, which is durable too; nothing is stored.
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

    def list(self, prefix: str, after: str | None, limit: int) -> Listing:
        """Return up to `limit` live entries whose key starts with `prefix` and sorts behind `after`."""
        ...

    def count(self) -> int:
        """Return the number of live entries."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return the member's status as JSON-ready values."""
        ...


class Phase(NamedTuple):
    """Where a member is in its life, for the probes."""

    started: bool
    ready: bool
    reason: str
