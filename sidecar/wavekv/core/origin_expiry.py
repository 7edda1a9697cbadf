"""When an origin is dropped from the contexts: everything about R15 that a member decides by itself.

A process writes under an origin of its own (R7), so contexts would grow by one for each process that ever wrote,
and what a member once adopted by mistake would stay in them for good. A member gets rid of them in four steps, which
wait for the word of every other member, in its newest process, none of them healing:

1. *Found dead.* Nothing of the origin is held here, and no process writes under it. What is covered then is the
   *basis*; the greatest stamp of all that is held or was forgotten bounds what the origin can have written.
2. *Met.* Every report covers the basis, so nobody holds a value of the origin any more. What somebody sent before that
   says in its promise that it is older.
3. *Agreed.* Every member has promised beyond both; the least promise is the *horizon* (`horizon`), made durable here.
   The origins are told no more.
4. *Dropped.* Nobody tells them any more: so nobody can bring them back, and no report misses them.

Nothing of this begins before a context has more than `origins_expire_above` origins. A step that cannot be taken loses
nothing: an origin that grows or is written under is left out, a member that is down or has restarted is waited for, an
agreement that the others do not join ends after twice the grace. Turned down: dropping by age alone (a volume of last
year brings deleted values back), keeping the names of dropped origins (they are what has to go), and lists of origins
in messages (the contexts are such lists already).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from wavekv.core.context import Context
from wavekv.core.horizon import told
from wavekv.core.ops import DropOrigins, Promise
from wavekv.core.packed import unpack_facts
from wavekv.core.replica import Replica
from wavekv.core.reports import Agreement, Included, Report
from wavekv.core.types import I64_MIN

Reports = Mapping[str, Included | None]
"""For each other member the newest report of it that is covered here whole (`collection.included`)."""
_RENEWED_STEPS = 60
"""Steps for which no report of a member came to be covered here, after which what it told earlier counts no more."""
_IDLE_STEPS = 10
"""Steps, of a second, between two looks at whether an origin is dead or a report has changed."""


@dataclass(slots=True)
class _Search:
    """What was found dead, and how far the others are. `bound`: see steps 2 and 3, ms; None: not met yet."""

    origins: frozenset[int]
    basis: Context
    processes: tuple[tuple[str, int], ...]
    promised: int
    greatest: int
    after: str | None = None
    scanned: bool = False
    bound: int | None = None


class Progress(NamedTuple):
    """How far it is: origins covered, those of them dead, those agreed on, dropped by this process, horizon (ms)."""

    covered: int
    dead: int
    agreed: int
    dropped: int
    horizon: int | None


class OriginExpiry:
    """Drops dead origins of one store, a bounded step at a time. Called by the member about once a second."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        replica.reports.dropped = replica.store.standing.dropped
        replica.reports.covered = replica.store.context
        self._search: _Search | None = None
        self._pending: tuple[frozenset[int], Agreement] | None = None
        self._idle = 0
        self._rests_until = I64_MIN
        self._uncovered: dict[str, tuple[Included | None, int]] = {}
        """Name → its newest covered report, and for how many steps there has been no newer one."""
        self._names: tuple[str, ...] = ()
        """The other members, as of the last step."""
        self._going: tuple[int, ...] = ()
        self.dropped = 0
        """Origins dropped since this process started."""

    def progress(self) -> Progress:
        """Return how far it is."""
        store, search = self._replica.store, self._search
        horizon = store.standing.horizon
        return Progress(
            len(store.context.origins()),
            len(search.origins) if search is not None else 0,
            len(self._replica.reports.agreed),
            self.dropped,
            None if horizon == I64_MIN else horizon,
        )

    def idle(self) -> bool:
        """Tell whether a step would come to nothing: the context is below the gate, and nobody has begun anything."""
        replica = self._replica
        if self._search is not None or self._pending is not None or self._going or replica.reports.agreed:
            return False
        if len(replica.store.context.origins()) > replica.limits.origins_expire_above:
            return False
        return all(report.promised is None for report in replica.reports.heard().values())

    def step(self, reports: Reports, now_ms: int) -> tuple[int, ...]:
        """Take one step; return the origins that are staged to be dropped. `settle` follows once that is durable.

        A healing member, one whose disk is full, and one that does not know or hear all others takes none.
        """
        known = {name: report for name, report in reports.items() if report is not None}
        self._names = (*reports,)
        self._agree(now_ms)
        self._renew(reports)
        processes = self._processes(reports)
        if processes is None or len(known) < len(reports):
            self._search = None
            return ()
        self._promise(now_ms)
        if not self._going:
            self._going = self._drop(reports)
        if self._search is not None and self._search.processes != processes:
            self._search = None
        if self._search is None:
            self._idle += 1
            if self._idle >= _IDLE_STEPS and now_ms >= self._rests_until:
                self._idle = 0
                self._find(processes, known)
        elif not self._search.scanned:
            self._scan(self._search)
        else:
            self._ask(self._search, known, now_ms)
        return self._going

    def settle(self, *, durable: bool) -> None:
        """Take note that what the last step staged is on disk, or is not and will never be."""
        gone, self._going = self._going, ()
        if not durable:
            self._pending = None
            return
        reports = self._replica.reports
        for origin in gone:
            reports.agreed.pop(origin, None)
        reports.drop(gone)
        self._replica.vouching.drop(gone)
        if self._search is not None:
            self._search.basis.drop(gone)
        self.dropped += len(gone)

    def _processes(self, reports: Reports) -> tuple[tuple[str, int], ...] | None:
        """Return the process of every other member; None if nothing can be agreed with them now."""
        replica = self._replica
        if replica.reports.crates or not replica.membership.complete or replica.full is not None:
            return None
        if not replica.trusted:
            return None
        found: list[tuple[str, int]] = []
        for name in sorted(reports):
            report = replica.reports.of(name)
            if report is None or report.healing:
                return None
            found.append((name, report.inc))
        return tuple(found)

    def _renew(self, reports: Reports) -> None:
        """Let what a member tells now take the place of all it ever told, if that is not covered here for long.

        A message that was under way for long may tell an origin that its sender has dropped since, and nobody else has.
        """
        self._uncovered = {name: seen for name, seen in self._uncovered.items() if name in reports}
        for name, newest in reports.items():
            before, steps = self._uncovered.get(name, (None, 0))
            steps = steps + 1 if newest is before else 0
            report = self._replica.reports.of(name)
            if steps >= _RENEWED_STEPS and report is not None:
                report.renew, steps = True, 0
            self._uncovered[name] = newest, steps

    # ---- promises ----------------------------------------------------------------------------------------------------

    def _promise(self, now_ms: int) -> None:
        """Promise further for a dead origin found here, or else as far as a member that has found one.

        Never beyond that one: members that each went by their own clock would follow each other for ever.
        """
        replica = self._replica
        limits, promised = replica.limits, replica.store.standing.promised
        due = now_ms - limits.origin_grace_ms
        if self._search is None:
            heard = [report for name in self._names if (report := replica.reports.of(name)) is not None]
            due = min(due, max((report.promised or I64_MIN for report in heard), default=I64_MIN))
        if due - promised >= limits.origin_promise_ms // (2 if self._search is None else 1):
            replica.heed(Promise(due))

    # ---- step 1: found dead ------------------------------------------------------------------------------------------

    def _find(self, processes: tuple[tuple[str, int], ...], known: Mapping[str, Included]) -> None:
        """Look for dead origins; nothing may be staged of them."""
        replica = self._replica
        store, context = replica.store, replica.store.context
        if len(context.origins()) <= replica.limits.origins_expire_above:
            return
        spared = self._alive() | replica.reports.agreed.keys()
        dead = frozenset(islice((o for o in context.origins() if o not in spared), replica.limits.origins_max))
        if dead:
            basis = Context(*told(replica))
            self._search = _Search(dead, basis, processes, store.standing.promised, I64_MIN)

    def _alive(self) -> set[int]:
        """Return the origins that the members' processes write under, and those of what is held or about to be."""
        replica = self._replica
        alive = {replica.origin, replica.store.process.origin, *replica.store.origins()}
        alive.update(entry.origin for entry in replica.staged())
        heard = map(replica.reports.of, self._names)
        alive.update(report.origin or 0 for report in heard if report is not None)
        return alive

    def _scan(self, search: _Search) -> None:
        """Look at some more stamps of what is held; what changes meanwhile only gets greater ones, or is forgotten."""
        store = self._replica.store
        if not store.surveyed:
            return
        some = list(islice(store.behind(search.after), self._replica.limits.origin_scan_max))
        for key, packed in some:
            search.greatest = max(search.greatest, unpack_facts(packed)[0])
            search.after = key
        if len(some) < self._replica.limits.origin_scan_max:
            search.greatest, search.scanned = max(search.greatest, store.floor), True

    # ---- steps 2 and 3: met, agreed ----------------------------------------------------------------------------------

    def _ask(self, search: _Search, known: Mapping[str, Included], now_ms: int) -> None:
        replica = self._replica
        own = replica.store.standing.promised
        promises = [own, *(report.promised if report.promised is not None else I64_MIN for report in known.values())]
        if search.bound is None:
            if self._met(search, known):
                search.bound = self._bound_of(search, promises)
            return
        horizon = min(promises)
        if horizon <= search.bound or horizon < search.greatest:
            return
        self._search = None
        dead = self._still_dead(search.origins, search.basis)
        if dead and self._pending is None:
            self._pending = dead, Agreement(replica.reports.agreements + 1, horizon, now_ms, search.basis)
            replica.heed(DropOrigins(horizon))

    def _met(self, search: _Search, known: Mapping[str, Included]) -> bool:
        """Tell whether every other member covers what was covered here when the origins were found dead."""
        return all(report.context.includes(search.basis) for report in known.values())

    def _bound_of(self, search: _Search, promises: list[int]) -> int:
        """Return what the horizon has to lie above: every promise of before all had met."""
        return max(*promises, search.promised)

    def _still_dead(self, origins: frozenset[int], basis: Context) -> frozenset[int]:
        """Return those of which nothing is held or about to be, nobody writes, and no more is covered than before."""
        replica = self._replica
        context, staged = replica.store.context, replica.covered
        spared = self._alive()
        return frozenset(
            o
            for o in origins
            if o not in spared and basis.greatest(o) and context.same_of(o, basis) and staged.same_of(o, basis)
        )

    def _agree(self, now_ms: int) -> None:
        """Tell the origins no more, once the horizon is durable; end what the others did not join."""
        reports = self._replica.reports
        if self._pending is not None and self._replica.store.standing.horizon >= self._pending[1].horizon:
            origins, agreement = self._pending
            self._pending = None
            reports.agreements = agreement.number  # what a report tells is compared with it from now on
            reports.agreed.update(dict.fromkeys(sorted(origins), agreement))
        if reports.agreed:
            begun = now_ms - 2 * self._replica.limits.origin_grace_ms
            late = [o for o, agreement in reports.agreed.items() if agreement.since_ms < begun]
            for origin in late:
                del reports.agreed[origin]
            if late:  # who has begun anew meanwhile has to hear of them before they are told no more again
                self._rests_until = now_ms + self._replica.limits.origin_grace_ms // 2

    # ---- step 4: dropped ---------------------------------------------------------------------------------------------

    def _is_quiet(self, origin: int, agreement: Agreement, heard: list[Report]) -> bool:
        """Tell whether everybody has told a context since the agreement, and none has the origin."""
        return all(report.told_at >= agreement.number and origin not in report.told for report in heard)

    def _drop(self, reports: Reports) -> tuple[int, ...]:
        """Drop some of the origins that nobody tells any more."""
        replica = self._replica
        agreed = replica.reports.agreed
        heard = [report for name in reports if (report := replica.reports.of(name)) is not None]
        some: dict[Agreement, list[int]] = {}
        for origin, agreement in islice(agreed.items(), replica.limits.origin_drop_max):
            some.setdefault(agreement, []).append(origin)
        gone: list[int] = []
        for agreement, origins in some.items():
            dead = self._still_dead(frozenset(origins), agreement.basis)
            for origin in origins:
                if origin not in dead:  # it came to life
                    del agreed[origin]
            quiet = [o for o in origins if o in dead and self._is_quiet(o, agreement, heard)]
            if quiet:
                gone += quiet
                context = replica.store.context
                replica.heed(DropOrigins(agreement.horizon, tuple((o, context.greatest(o)) for o in quiet)))
        return tuple(gone)
