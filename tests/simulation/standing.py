"""A process's standing: epoch, admission, healing, drain, and so whether it takes writes.

What `runtime.readiness`, `runtime.member` and the operator's routes do with the production `Admission` and `Drain`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from wavekv.errors import Draining, Removed, Starting, Superseded
from wavekv.runtime.drain import Drain, DrainStatus

if TYPE_CHECKING:
    from tests.simulation.members import Process

RETRY_MS = 1000
"""How often a joining or draining member asks; production does so more often."""


class Standing:
    """What one process may do in its cluster."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self.superseded = False
        """A newer process of its name lives: it serves nothing more (R8)."""
        self._drain = Drain(process.replica)
        self._greeted = self._asking = False
        self._heeded = process.replica.membership.epoch
        self._kept = self._facts()

    def opened(self) -> None:
        """The process talks to others from now on: wait for a first exchange, but not for ever."""
        process = self._process
        process.world.after(process.world.settings_gossip.join_wait_ms, self._greet)
        self._greeted = not process.gossip.links
        if process.admission.draining:
            self._see_to_drain()
        self.news()

    def supersede(self) -> None:
        """Serve nothing more, and note the newer process for the next start (R8)."""
        if not self.superseded:
            self._process.world.count("processes superseded")
            self._process.world.checks.superseded(self._process)
            self._process.world.trace(f"{self._process.slot.id} is superseded")
            self.superseded, self._process.serving = True, False
            self.regate()
            self._process.durable(self._process.replica.supersede())

    def _facts(self) -> tuple[object, ...]:
        membership = self._process.admission.membership
        return membership.epoch, membership.healed_epoch, self._process.admission.draining

    def keep_epoch(self, then: Callable[[], None]) -> None:
        """Act on a newer epoch at once, and go on when it is durable."""
        epoch = self._process.replica.membership.epoch
        if epoch is not self._heeded:
            self._heeded = epoch
            self._process.replica.heed_admission()
            self._process.gossip.connect()
            self.regate()
            self.news()
        self._keep(then)

    def _keep(self, then: Callable[[], None]) -> None:
        if self._facts() == self._kept:
            then()
        else:
            self._process.world.after(self._process.world.setting.sync_ms[1], self._keep_now, then)

    def _keep_now(self, then: Callable[[], None]) -> None:
        if self._process.alive:
            self._process.step()
            self._kept = self._facts()
            self._process.admission.keep_now()
            then()

    def _greet(self) -> None:
        if self._process.alive and not self._greeted:
            self._greeted = True
            self.news()

    def round_ended(self) -> None:
        """A complete exchange with a peer ended; what it brought is durable."""
        if not self._greeted or self._process.replica.membership.must_heal():
            self._greeted = True
            self.news()

    def news(self) -> None:
        """Look whether healing is over, and whether writes are taken."""
        membership = self._process.admission.membership
        waits = not membership.included() or (membership.must_heal() and self._process.replica.healing)
        if not waits and membership.healed_epoch != membership.admission():
            membership.healed()
            self._keep(self.regate)
        self.regate()
        if isinstance(self._process.replica.writable, Starting) and not self._asking:
            self._ask()

    def _ask(self) -> None:
        self._asking = self._process.alive and isinstance(self._process.replica.writable, Starting)
        if self._asking:
            self._process.gossip.retry_now()
            self._process.world.after(RETRY_MS, self._ask)

    def regate(self) -> None:
        """Let local writes be taken or refused, as the rules say now."""
        membership = self._process.admission.membership
        refusal: Starting | Draining | Removed | Superseded | None = None
        if self.superseded:
            refusal = Superseded("a newer process of this name serves")
        elif not membership.included():
            refusal = Removed("not in the epoch")
        elif self._process.admission.draining:
            refusal = Draining("drains")
        elif membership.must_heal() or not self._greeted:
            refusal = Starting("heals first" if self._greeted else "waits for a first exchange")
        self._process.replica.writable = refusal

    # ---- what the operator asks -------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Refuse local writes from now on, and show whether the others hold all."""
        if not self._process.admission.draining:
            self._drain.reset()
            self._process.admission.drain()
            self.regate()
            self._keep(self._see_to_drain)
        self._process.gossip.forgive()

    def cancel_drain(self) -> None:
        """Accept local writes again."""
        self._process.admission.cancel_drain()
        self.regate()
        self._keep(lambda: None)

    def drain_status(self) -> DrainStatus:
        """Return how far the drain is."""
        return self._drain.judge(self._process.admission.draining, self._process.world.now / 1000)

    def _see_to_drain(self) -> None:
        if self._process.alive and self._process.admission.draining:
            status = self.drain_status()
            if not status.complete:
                self._process.gossip.ask(status.waiting_for)
            self._process.world.after(RETRY_MS, self._see_to_drain)
