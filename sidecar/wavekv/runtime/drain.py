"""A drain (R10): whether everything that this member holds is durable on each of the others.

A report proves it if it was heard after the last local write became durable, comes from the newest process of its name
(`core.reports` forgets older ones) and covers the *basis*: this member's whole context at a moment after that write.
Its own sequences would not do: it may hold the last copy of another's write. What others write goes on arriving here
meanwhile. Judged by the newest context, a drain would never end under load. Judged by the first one for ever, it would
miss what arrived while it waited for a dead member. So the basis is renewed every BASIS_SECONDS_MAX.
"""

from typing import NamedTuple

from wavekv.core.context import Context
from wavekv.core.replica import Replica

BASIS_SECONDS_MAX = 2.0
"""Age of the basis at most; what arrived since is held by the member that sent it."""


class DrainStatus(NamedTuple):
    """How far a drain is: `covered_by` names who covers all, with its process number; `waiting_for` who does not."""

    draining: bool
    healing: bool
    waiting_writes: int
    covered_by: dict[str, int]
    waiting_for: list[str]
    complete: bool


class Drain:
    """The drain of one member; without memory of an earlier process, whose reports are gone too."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._basis: Context | None = None
        self._basis_at = 0.0
        self._heard_before = 0

    def reset(self) -> None:
        """Forget what was proven: local writes may have been accepted since."""
        self._basis = None

    def judge(self, draining: bool, at: float) -> DrainStatus:
        """Return how far the drain is at monotonic second `at`; `draining`: local writes are refused for it."""
        replica = self._replica
        others = replica.membership.others() if draining else ()
        covered: dict[str, int] = {}
        if not draining or not replica.trusted or replica.waiting:
            self._basis = None
        else:
            basis = self._current_basis(at)
            for name in others:
                report = replica.reports.of(name)
                if report is not None and report.order > self._heard_before and report.context.includes(basis):
                    covered[name] = report.inc
        waiting_for = [name for name in others if name not in covered]
        complete = self._basis is not None and bool(others) and not waiting_for  # the last member never may leave
        return DrainStatus(draining, not replica.trusted, replica.waiting, covered, waiting_for, complete)

    def _current_basis(self, at: float) -> Context:
        if self._basis is None:
            self._heard_before = self._replica.reports.count
        if self._basis is None or at - self._basis_at > BASIS_SECONDS_MAX:
            self._basis, self._basis_at = self._replica.store.context.copy(), at
        return self._basis
