"""Which deletes can be forgotten: those that every other member covers, by reports that this member covers whole (R5).

The second half is what makes it safe: who covers a delete then covers every older write of its key that any member
knows of, so no such write can come back behind it (I5). It is asked of one report for each member, not of the newest:
under load that one is always a few writes ahead. An expired value is a delete once no member's clock is behind its time
(R11). While a node of the original system is a member nothing is collected: it returns what others forgot (R14). Nor is
anything where peers are found by DNS without an epoch document: nobody can tell that all were asked.
"""

from collections.abc import Iterator
from typing import NamedTuple

from wavekv.core.context import Context
from wavekv.core.packed import HAS_VALUE, KIND_AT, dot_of, expiry_of, unpack_facts
from wavekv.core.replica import Replica
from wavekv.core.reports import Included


class Pin(NamedTuple):
    """Who keeps deletes from being collected, why, and since when: the stamp or expiry (ms) of the oldest it keeps.

    `name` is `*` where it is nobody in particular.
    """

    name: str
    reason: str
    since_ms: int


def collect(replica: Replica, now_ms: int, count_max: int) -> int:
    """Stage the removal of up to `count_max` deletes that may be forgotten; return how many there were."""
    store = replica.store
    store.graves.tidy(store.deletes())
    reports = included(replica)
    if replica.reports.crates or not replica.membership.complete:
        return 0
    if replica.full is not None or None in reports.values():
        return 0
    known = [report for report in reports.values() if report is not None]
    clock_ms = min((report.clock_ms or 0 for report in known), default=now_ms)
    contexts = [report.context for report in known]
    ripe = store.graves.take(lambda origin, seq: _by_all(contexts, origin, seq), clock_ms, count_max)
    store.bury(key for key in ripe if replica.moves(key))  # what comes in their place may never reach the disk
    count = replica.forget(ripe)
    replica.collected += count
    return count


def included(replica: Replica) -> dict[str, Included | None]:
    """Return for each other member the newest report of it that this member covers.

    In static mode whoever speaks to this member is one, named by its flags or not.
    """
    mine = replica.store.context
    heard = replica.reports.heard()
    names = replica.membership.others()
    if replica.membership.epoch is None:
        names = (*dict.fromkeys((*names, *heard)),)
    for name in names:
        if name in heard:
            heard[name].include(mine)
    return {name: heard[name].included if name in heard else None for name in names}


def _by_all(contexts: list[Context], origin: int, seq: int) -> bool:
    return all(context.covers(origin, seq) for context in contexts)


def pins(replica: Replica) -> list[Pin]:
    """Return who keeps deletes from being collected at this moment, by name; one that was just made waits for all."""
    oldest = list(replica.store.graves.oldest())
    found: list[Pin] = []
    for name, report in sorted(included(replica).items()):
        if replica.reports.of(name) is None:
            kept, reason = [_since(packed) for _, packed in oldest], "not heard"
        else:
            kept, reason = list(_kept_by(report, oldest)), "behind"
        if kept:
            found.append(Pin(name, reason, min(kept)))
    if oldest and not replica.membership.complete:
        found.append(Pin("*", "members found by DNS may not be all", min(_since(packed) for _, packed in oldest)))
    if oldest and replica.reports.crates:
        found.append(Pin("*", "a node of the original system is a member", min(_since(packed) for _, packed in oldest)))
    return found


def _kept_by(report: Included | None, oldest: list[tuple[str, bytes]]) -> Iterator[int]:
    for _, packed in oldest:
        late = report is not None and packed[KIND_AT] & HAS_VALUE and (report.clock_ms or 0) < expiry_of(packed)
        if report is None or late or not report.context.covers(*dot_of(packed)):
            yield _since(packed)


def _since(packed: bytes) -> int:
    timestamp: int = unpack_facts(packed)[0]
    return expiry_of(packed) if packed[KIND_AT] & HAS_VALUE else timestamp
