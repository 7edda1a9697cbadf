"""Planted defects: each breaks one rule of the core, and names what has to catch it.

A plant replaces functions of the production core while a run lasts. A defect that nothing catches would mean that the
simulation is blind to its rule.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from tests.simulation import members
from tests.simulation.origin_plants import ORIGIN_PLANTS
from wavekv.core import clock, collection, exchange, repair, types
from wavekv.core import replica as replicas
from wavekv.core.context import Context
from wavekv.core.membership import Membership
from wavekv.core.messages import Envelope
from wavekv.core.replica import Replica
from wavekv.core.reports import Reports, sender_of
from wavekv.core.steps import Merged, Slices
from wavekv.runtime import drain as drains

Change = tuple[object, str, Any]


class Plant(NamedTuple):
    """One defect: what it breaks, the changes that make it, and the plan that catches it."""

    what: str
    changes: Callable[[], list[Change]]
    caught_by: str


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """Let the core have the defect."""
    with ExitStack() as stack:
        for owner, name, value in plant.changes():
            stack.enter_context(patch.object(owner, name, value))
        yield


# ---- R1, R2, R4: writes and merging ---------------------------------------------------------------------------------


def no_floor() -> list[Change]:
    """R1: a write of an absent key takes the clock's time, below deletes that were forgotten."""
    return [(replicas, "write_timestamp", lambda now, held, floor: clock.write_timestamp(now, held, types.I64_MIN))]


def timestamp_of_now() -> list[Change]:
    """R1: a write takes the clock's time, below what its key holds."""
    return [(replicas, "write_timestamp", lambda now, held, floor: now)]


def losers_forgotten() -> list[Change]:
    """R2: an entry that loses leaves no dot."""
    return [(replicas, "covering", lambda dots: [])]


def covered_entries_taken() -> list[Change]:
    """R4: an entry whose dot is covered is stored though nothing is held."""
    original = Replica.merge

    def merge(self: Replica, entries: Any, now_ms: int, **how: Any) -> Merged:
        for entry in entries:
            if self._staging.held(entry.key) is None and self.covered.covers(*entry.dot):
                self._stage_entry(entry, None)
        return original(self, entries, now_ms, **how)

    return [(Replica, "merge", merge)]


def ties_by_origin() -> list[Change]:
    """The tie-break: of one timestamp the smaller origin wins, so members that saw different orders disagree."""

    def beats(challenger: types.Entry, held: types.Entry) -> bool:
        return challenger.timestamp >= held.timestamp

    return [(replicas, "beats", beats)]


# ---- R3: adoption ---------------------------------------------------------------------------------------------------


def adopts_incomplete() -> list[Change]:
    """R3a: a context is adopted though an entry was refused."""
    original = exchange.Round._received_all

    def received_all(self: exchange.Round, last: Envelope, now_ms: int) -> int:
        self._complete = True
        return original(self, last, now_ms)

    return [(exchange.Round, "_received_all", received_all)]


def since_ignored() -> list[Change]:
    """R3b: a request's context is adopted whatever its entries were filtered by."""
    original = exchange.receive_request_in_slices

    def receive_request(replica: Replica, request: Envelope, now_ms: int) -> Slices[Merged]:
        since = replica.identity.inc if request.since is not None else None
        object.__setattr__(request, "since", since)
        return original(replica, request, now_ms)

    return [(exchange, "receive_request_in_slices", receive_request)]


def adopts_before_all_is_merged() -> list[Change]:
    """R3: a request's context is adopted with its first slice, before all of its entries were merged."""
    original = exchange.receive_request_in_slices

    def receive_request(replica: Replica, request: Envelope, now_ms: int) -> Slices[Merged]:
        if request.floor is not None and request.page is None and request.since in (0, replica.identity.inc):
            theirs = Context.told(request.acks, request.dots)
            replica.adopt(theirs, request.floor, now_ms, sender=sender_of(request))
        return (yield from original(replica, request, now_ms))

    return [(exchange, "receive_request_in_slices", receive_request)]


def late_changes_left_out() -> list[Change]:
    """R3c: the last page says nothing of what changed behind the cursor."""
    return [(exchange, "changed_behind", lambda *_: [])]


def healing_adopts() -> list[Change]:
    """R3d: a healing member adopts without comparing lists."""
    return [(exchange, "Repair", _NoRepair)]


class _NoRepair(repair.Repair):
    """A repair that is done before it began."""

    def _compare(self, part: repair.Range, answer: Envelope) -> None:
        del part, answer


def pushes_claim_all() -> list[Change]:
    """R3: a push is taken for everything its sender covers."""
    original = exchange.receive_push_in_slices

    def receive_push(replica: Replica, message: Envelope, now_ms: int) -> Slices[Merged]:
        merged = yield from original(replica, message, now_ms)
        for entry in message.carried():
            replica.adopt(Context({entry.origin: entry.seq}), types.I64_MIN, sender=sender_of(message))
        merged.ticket = replica.last_ticket
        return merged

    return [(exchange, "receive_push_in_slices", receive_push)]


# ---- R5, R6, R11: collection and repair -----------------------------------------------------------------------------


def collects_without_a_member() -> list[Change]:
    """R5: one of the other members is not asked."""
    original = collection.included

    def included(replica: Replica) -> Any:
        reports = original(replica)
        if len(reports) > 1:
            reports.pop(max(reports))
        return reports

    return [(collection, "included", included)]


def collects_at_once() -> list[Change]:
    """R5: nobody is asked."""
    return [(collection, "included", lambda replica: {})]


def collects_on_reports_not_included() -> list[Change]:
    """R5 (2): a report that covers the delete is enough, though its sender knows more than this member."""

    def included(replica: Replica) -> Any:
        heard = replica.reports.heard()
        return {name: heard.get(name) for name in replica.membership.others()}

    return [(collection, "included", included)]


def collects_nothing() -> list[Change]:
    """G4: tombstones pile up."""
    return [(members, "collect", lambda replica, now_ms, count_max: 0)]


def expiry_by_one_clock() -> list[Change]:
    """R11: what has expired by this member's clock is collected, whatever the others' clocks say."""

    def by_all(contexts: list[Context], origin: int, seq: int) -> bool:
        return all(context.covers(origin, seq) for context in contexts)

    def collect(replica: Replica, now_ms: int, count_max: int) -> int:
        if None in collection.included(replica).values():
            return 0
        contexts = [report.context for report in collection.included(replica).values() if report is not None]
        taken = replica.store.graves.take(lambda o, s: by_all(contexts, o, s), replica.store.clock_ms, count_max)
        return replica.forget(taken)

    return [(members, "collect", collect)]


def repair_ignores_coverage() -> list[Change]:
    """R6: what the other does not list is dropped, covered by it or not."""
    original = repair.Repair._compare

    def compare(self: repair.Repair, part: repair.Range, answer: Envelope) -> None:
        context = self._replica.store.context
        object.__setattr__(answer, "acks", dict(context.acks))
        object.__setattr__(answer, "dots", context.dots())
        original(self, part, answer)

    return [(repair.Repair, "_compare", compare)]


def repair_list_is_old() -> list[Change]:
    """R6: a list lacks what its sender stored last, which its context covers."""
    original = exchange.answer_list

    def answer_list(store: Any, request: Envelope, limits: Any) -> Any:
        part, held, newer = original(store, request, limits)
        recent = max(held, key=lambda one: one.timestamp, default=None)
        return part, tuple(one for one in held if one is not recent), newer

    return [(exchange, "answer_list", answer_list)]


# ---- R7, R8, R9, R10, R12: identity, membership, scale-down, durability ---------------------------------------------


def origin_used_again() -> list[Change]:
    """R7: every process of a volume writes under its node id, and counts on from what the volume holds."""

    def begin_origin(self: Replica) -> None:
        origin = self.identity.node_id
        self._origin, self._next_seq = origin, self.covered.acks.get(origin, 0) + 1
        self._ops.append(replicas.Process(self.identity.inc, origin, self.healing))

    return [(Replica, "_begin_origin", begin_origin)]


def never_heals() -> list[Change]:
    """R7: a process start does not make its volume heal."""
    return [
        (Membership, "has_others", lambda self: False),
        (Membership, "must_heal", lambda self: False),
        (Replica, "doubts", lambda self, theirs: False),
    ]


def older_process_heard() -> list[Change]:
    """R8: a process is listened to though a newer one of its name was heard."""
    return [(Reports, "check", lambda self, message, inc_max, **how: None)]


def removed_member_heard() -> list[Change]:
    """R9: a member that the newest epoch leaves out is listened to, and learns nothing."""
    return [
        (Membership, "admit", lambda self, message: None),
        (Membership, "speaks_to", lambda self, name: True),
        (Membership, "included", lambda self: True),
        (Membership, "must_heal", lambda self: False),
    ]


def readmitted_trusted() -> list[Change]:
    """R9: a member that is admitted again does not heal."""
    return [(Membership, "must_heal", lambda self: False), (Replica, "_begin_healing", lambda self: None)]


def drain_of_own_writes() -> list[Change]:
    """R10: a member may leave when its own writes are covered, though it holds the last copy of another's."""
    original = drains.Drain._current_basis

    def current_basis(self: drains.Drain, at: float) -> Context:
        original(self, at)
        replica = self._replica
        origin = replica.origin
        return Context({origin: replica.store.context.acks.get(origin, 0)} if origin else {})

    return [(drains.Drain, "_current_basis", current_basis)]


def answers_before_sync() -> list[Change]:
    """G1, I4: a group is shown, acknowledged and reported when it was written, not when it is synced."""
    original = members.Process.commit

    def commit(self: members.Process) -> None:
        original(self)
        if self._group is not None:
            for ticket, pending in self._waiters:
                if ticket <= self._group.ticket:
                    pending.settle(None)

    return [(members.Process, "commit", commit)]


def shows_what_is_staged() -> list[Change]:
    """G5: readers are shown a value that is on its way to the disk."""
    original = members.Process.commit

    def commit(self: members.Process) -> None:
        original(self)
        self.replica.store.get = lambda key, _: self.replica._staging.held(key)

    return [(members.Process, "commit", commit)]


def reports_what_is_staged() -> list[Change]:
    """I4: a member reports what it has taken and not yet synced."""

    def report(replica: Replica, now_ms: int) -> Envelope:
        context = replica.covered
        return exchange.envelope(replica, now_ms, acks=dict(context.acks), dots=context.dots(), push_only=True)

    return [(exchange, "report", report)]


def counts_whoever_was_asked() -> list[Change]:
    """R12: a member counts for a write as soon as it was heard of at all."""
    original = Reports.hear

    def hear(self: Reports, message: Envelope, now_ms: int) -> Any:
        report = original(self, message, now_ms)
        for origin in list(report.context.acks):
            report.context.add_range(origin, 1, report.context.acks[origin] + 1)
        return report

    return [(Reports, "hear", hear)]


CAUGHT_BY: dict[Callable[[], list[Change]], str] = {
    no_floor: "floor",
    timestamp_of_now: "held-stamp",
    losers_forgotten: "seed 3",
    covered_entries_taken: "late-duplicate",
    ties_by_origin: "seed 10",
    adopts_incomplete: "seed 9",
    since_ignored: "old-report-as-filter",
    adopts_before_all_is_merged: "seed 4",
    late_changes_left_out: "behind-the-cursor",
    healing_adopts: "rollback-behind-a-collected-delete",
    pushes_claim_all: "push-with-a-gap",
    collects_without_a_member: "one-member-not-asked",
    collects_at_once: "one-member-not-asked",
    collects_on_reports_not_included: "report-not-included",
    collects_nothing: "late-duplicate",
    expiry_by_one_clock: "one-clock-ahead",
    repair_ignores_coverage: "written-while-lists-are-compared",
    repair_list_is_old: "list-of-one-instant",
    origin_used_again: "origin-again",
    never_heals: "rollback-behind-a-collected-delete",
    older_process_heard: "push-of-a-dead-process",
    removed_member_heard: "removed-member",
    readmitted_trusted: "admitted-again",
    drain_of_own_writes: "last-copy-of-another",
    answers_before_sync: "counted-copies",
    reports_what_is_staged: "report-before-sync",
    shows_what_is_staged: "report-before-sync",
    counts_whoever_was_asked: "counted-copies",
}
"""The quickest scenario or seed that was found to catch it."""

PLANTS = {
    make.__name__.replace("_", "-"): Plant((make.__doc__ or "").strip(), make, caught_by)
    for make, caught_by in {**CAUGHT_BY, **ORIGIN_PLANTS}.items()
}
