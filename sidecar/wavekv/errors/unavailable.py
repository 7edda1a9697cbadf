"""Errors of a member that cannot do it now; the caller may try again, later or elsewhere."""

from collections.abc import Sequence

from wavekv.errors.base import WaveKVError


class UnavailableError(WaveKVError):
    """The request is fine; this member cannot serve it at the moment."""

    code = "unavailable"
    status = 503


class Starting(UnavailableError):
    code = "starting"


class Draining(UnavailableError):
    code = "draining"


class Removed(UnavailableError):
    """The newest epoch leaves this member out: it serves nobody until one admits it again."""

    code = "removed"


class Superseded(UnavailableError):
    """A newer process of this member's own name was heard (R8): this one serves nothing more, reads included."""

    code = "superseded"


class Stopping(UnavailableError):
    code = "stopping"


class TooManyWaiting(UnavailableError):
    code = "too_many_waiting"
    status = 429


class ClockAhead(UnavailableError):
    """This member's clock is far ahead of its peers': its writes would beat theirs, or be refused by them."""

    code = "clock_ahead"


class CoverageTimeout(UnavailableError):
    """A session was not covered in time; its problem names the tokens of both parts, `covered` and `missing`."""

    code = "coverage_timeout"
    status = 504

    def __init__(self, detail: str, covered: str, missing: str) -> None:
        super().__init__(detail)
        self.more = {"covered": covered, "missing": missing}


class DurabilityTimeout(UnavailableError):
    """A write is durable here, and was not known to be on enough members in time; it stays.

    `durable_on` names the members that hold it; `etag` is its entity tag without quotes, None for a batch.
    """

    code = "durability_timeout"
    status = 504

    def __init__(self, detail: str, durable_on: Sequence[str], session: str = "") -> None:
        super().__init__(detail)
        self.more = {"durable_on": list(durable_on)}
        self.durable_on = tuple(durable_on)
        self.etag: str | None = None
        self.session = session


class TooManyBytes(UnavailableError):
    """What the clients of a plane hold, or wait to be answered with, reached the plane's budget of memory (G9)."""

    code = "memory_budget"


class TooManyConnections(UnavailableError):
    code = "too_many_connections"


class TooManyWatchers(UnavailableError):
    code = "too_many_watchers"


class NotWritten(UnavailableError):
    """Nothing of the refused write is on disk, and later ones may succeed."""


class DiskFull(NotWritten):
    """The volume is full; reads go on, and writes do again once room returns."""

    code = "disk_full"
    status = 507


class OutOfDescriptors(NotWritten):
    """The process, or the machine, has as many files and connections open as it may; the disk is fine."""

    code = "out_of_descriptors"


class LimitReached(UnavailableError):
    code = "limit_reached"
    status = 507
