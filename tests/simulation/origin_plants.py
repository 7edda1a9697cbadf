"""Planted defects of R15, one for each clause by which dead origins leave the contexts; see `plants`."""

from collections.abc import Callable
from typing import Any

from wavekv.core import exchange, horizon, merging, repair
from wavekv.core.messages import Envelope
from wavekv.core.origin_expiry import OriginExpiry, Reports
from wavekv.core.packed import unpack_facts
from wavekv.core.replica import Replica
from wavekv.core.staging import Staging
from wavekv.core.types import I64_MIN

Change = tuple[object, str, Any]


# ---- what lies behind the horizon -----------------------------------------------------------------------------------


def dead_entries_taken() -> list[Change]:
    """R15: what is behind the horizon is taken from whoever sends it."""
    return [(merging, "dead_upto", lambda replica, message: I64_MIN)]


def healing_promises_believed() -> list[Change]:
    """R15: a member promises while it heals, on a volume of before the horizon, and is believed."""
    original = OriginExpiry.step

    def step(self: OriginExpiry, reports: Reports, now_ms: int) -> tuple[int, ...]:
        self._names = (*reports,)
        self._promise(now_ms)
        return original(self, reports, now_ms)

    believed = _dead_upto(lambda replica, message: message.healing)
    return [(OriginExpiry, "step", step), (merging, "dead_upto", believed)]


def _dead_upto(believed: Callable[[Replica, Envelope], bool]) -> Callable[[Replica, Envelope], int]:
    original = horizon.dead_upto

    def dead_upto(replica: Replica, message: Envelope) -> int:
        promised = message.promised is not None and message.promised >= replica.store.standing.horizon
        return I64_MIN if promised and believed(replica, message) else original(replica, message)

    return dead_upto


def repair_ignores_horizon() -> list[Change]:
    """R6, R15: a healing member keeps what the other has dropped with its origin."""
    return [(repair, "dead_by", lambda *_: False)]


def repair_drops_own_writes() -> list[Change]:
    """R6, R15: what this process wrote by a clock far behind is dropped as dead."""

    def dead_by(upto: int | None, replica: Replica, packed: bytes) -> bool:
        return upto is not None and replica.healing and unpack_facts(packed)[0] <= upto

    return [(repair, "dead_by", dead_by)]


def horizon_not_adopted() -> list[Change]:
    """R15: a context is adopted without the horizon that says what it does not cover any more."""
    return [(exchange, "adopt_horizon", lambda replica, message: None)]


def promise_forgotten() -> list[Change]:
    """R1, R15: a write takes the clock's time, below what this member has promised."""
    return [(Staging, "promised_time", lambda self, now_ms: now_ms)]


# ---- who has to agree -----------------------------------------------------------------------------------------------


def drops_without_a_member() -> list[Change]:
    """R15: one of the other members is not asked."""
    original = OriginExpiry.step

    def step(self: OriginExpiry, reports: Reports, now_ms: int) -> tuple[int, ...]:
        if len(reports) > 1:
            reports = {name: reports[name] for name in sorted(reports)[:-1]}
        return original(self, reports, now_ms)

    return [(OriginExpiry, "step", step)]


def drops_before_all_have_met() -> list[Change]:
    """R15: reports need not cover what was covered when the origin was found dead."""
    return [(OriginExpiry, "_met", lambda self, search, known: True)]


def earlier_promises_count() -> list[Change]:
    """R15: a promise of before all had met is as good as a later one."""
    return [(OriginExpiry, "_bound_of", lambda self, search, promises: I64_MIN)]


def later_stamps_left_out() -> list[Change]:
    """R15: the horizon may lie below stamps that are held, and so below what the dead origin wrote."""
    original = OriginExpiry._scan

    def scan(self: OriginExpiry, search: Any) -> None:
        original(self, search)
        search.greatest = I64_MIN

    return [(OriginExpiry, "_scan", scan)]


def drops_while_others_tell() -> list[Change]:
    """R15: an origin is dropped though another member tells it yet, and brings it back for ever."""
    return [(OriginExpiry, "_is_quiet", lambda self, origin, agreement, heard: True)]


ORIGIN_PLANTS: dict[Callable[[], list[Change]], str] = {
    dead_entries_taken: "dead-origin-late-push",
    healing_promises_believed: "dead-origin-who-heals",
    repair_ignores_horizon: "dead-origin-old-volume",
    repair_drops_own_writes: "dead-origin-own-write",
    horizon_not_adopted: "dead-origin-empty-volume",
    promise_forgotten: "dead-origin-promise-kept",
    drops_without_a_member: "dead-origin-third-member",
    drops_before_all_have_met: "dead-origin-not-yet-met",
    earlier_promises_count: "dead-origin-clock-ahead",
    later_stamps_left_out: "dead-origin-stamped-ahead",
    drops_while_others_tell: "seed 0 origins",
}
