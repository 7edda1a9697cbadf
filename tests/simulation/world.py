"""The world: virtual time, a heap of events, the members in it, and the actions of a plan.

Everything that happens is decided by the plan and by one seeded generator; nothing looks at a real clock, and there is
one thread. A run ends by healing: all faults off, everybody up, until nothing changes; then the last checks.
"""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush
from typing import cast

from tests.simulation.atlas import FAULTS
from tests.simulation.checks import Checks, Violation
from tests.simulation.clocks import SkewedClock
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.hostile import Hostile
from tests.simulation.keeper import PASS_MS, Keeper
from tests.simulation.members import Process
from tests.simulation.network import Network
from tests.simulation.paged import PagedVolume
from tests.simulation.plan import Action, Plan
from tests.simulation.slots import Crashed, Slot
from tests.simulation.trace import Trace
from tests.simulation.volumes import MemoryVolume
from tests.simulation.workload import Clients
from wavekv.config import GossipSettings, Limits
from wavekv.core.messages import Envelope

CLUSTER = "6f9f2a3e-1d1f-4f5e-9a44-3b6f0d4f7a01"
WARP_MS = 24 * 3_600_000
"""Time that passes before healing: clocks that were ahead are overtaken, everything that expires has."""
CYCLES_MAX = 40
RID_CYCLES_MAX = 12
"""Graces within which dead origins are gone when all faults are over."""
TINY = replace(
    Limits(),
    page_entries_max=2,
    changes_max=6,
    dots_max=4,
    told_dots_max=1,
    push_keys_max=3,
    merge_slice_entries=1,
    waiting_writes_max=4,
    journal_entries_max=4,
    origin_scan_max=3,
    origin_drop_max=1,
)
GRACE_PERIODS = 30
"""Periods of the exchange in the grace of dead origins (R15): long beside one, short beside a run and late messages."""


class World:
    """One run of one plan."""

    def __init__(self, plan: Plan, trace: Trace | None = None) -> None:
        self.plan, self.setting = plan, plan.setting
        setting = plan.setting
        self.rng = random.Random(setting.seed)
        self.now = 0
        self.cluster_id = CLUSTER
        self.tracer = trace or Trace()
        self.tracing = self.tracer.on
        self.gossiping = setting.gossip == "on"
        limits = TINY if setting.limits == "tiny" else replace(Limits(), changes_max=1000)
        grace_ms = GRACE_PERIODS * max(setting.interval_ms, 4000)
        self.limits = replace(
            limits, origins_expire_above=setting.gate, origin_grace_ms=grace_ms, origin_promise_ms=grace_ms // 6
        )
        self.settings_gossip = replace(
            GossipSettings(),
            interval_ms=setting.interval_ms,
            fanout=setting.fanout,
            backoff_ms_max=max(60_000, setting.interval_ms),
        )
        self._heap: list[tuple[int, int, Callable[..., object], tuple[object, ...]]] = []
        self._events = 0
        self._volumes: list[MemoryVolume | PagedVolume] = []
        self.names = tuple(f"m{index}" for index in range(setting.members))
        self.hostile = Hostile(self, "h0") if setting.hostile else None
        self.history = History()
        self.checks = Checks(self)
        self.keeper = Keeper(self, (*self.names, *self._hostile_names()))
        self.network = Network(self)
        self.clients = Clients(self)
        self.faults = Faults(self)
        self.slots: dict[str, Slot] = {}
        for name in self.names:
            self.add_slot(name, name)

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def after(self, delay_ms: int, then: Callable[..., object], *args: object) -> None:
        """Call `then(*args)` so many virtual milliseconds from now."""
        self._events += 1
        heappush(self._heap, (self.now + delay_ms, self._events, then, args))

    def _run_until(self, at: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= at:
            when, _, then, args = heappop(heap)
            self.now = max(self.now, when)
            try:
                then(*args)
            except Crashed:
                continue
        self.now = max(self.now, at)

    @property
    def events(self) -> int:
        """Return how many events there were."""
        return self._events

    def random_u32(self) -> int:
        """Return a uniform number: the randomness the core asks for."""
        return self.rng.getrandbits(32)

    def count(self, what: str, by: int = 1) -> None:
        """Count something that happened."""
        self.history.counts[what] += by

    def trace(self, what: str, message: Envelope | None = None) -> None:
        """Write a line of the trace."""
        if self.tracing:
            self.tracer.line(self.now, what, message)

    def _hostile_names(self) -> tuple[str, ...]:
        return () if self.hostile is None else (self.hostile.name,)

    def is_hostile(self, name: str) -> bool:
        """Tell whether `name` is that of the hostile member."""
        return self.hostile is not None and name == self.hostile.name

    # ---- slots and processes ----------------------------------------------------------------------------------------

    def add_slot(self, slot_id: str, name: str) -> Slot:
        """Make a place for a member, with a new volume."""
        skew = self.setting.skew_ms
        clock = SkewedClock(self.rng.randint(-skew, skew) if skew else 0)
        slot = self.slots[slot_id] = Slot(slot_id, name, self.new_volume(), clock)
        return slot

    def new_volume(self) -> MemoryVolume | PagedVolume:
        """Return an empty volume of the kind that the setting names."""
        kind = PagedVolume if self.setting.disk == "paged" else MemoryVolume
        volume = kind(self.rng, self.limits.changes_max)
        self._volumes.append(volume)
        return volume

    def close(self) -> None:
        """Leave nothing behind."""
        for volume in self._volumes:
            volume.close()

    def process_called(self, name: str) -> Process | None:
        """Return a process that answers under `name`, any of several."""
        if self.hostile is not None and name == self.hostile.name:
            return cast("Process", self.hostile)
        found = [
            s.process for s in self.slots.values() if s.name == name and s.process is not None and s.process.serving
        ]
        if len(found) > 1:
            return self.rng.choice(found)
        return found[0] if found else None

    def start(self, slot: Slot) -> None:
        """Begin a process in `slot`, if none runs."""
        if slot.process is None and not slot.destroyed:
            slot.process = Process(self, slot)
            self.trace(f"{slot.id} starts" + (", healing" if slot.process.replica.healing else ""))
            self.count("starts")
            slot.process.start()

    def stop(self, slot: Slot) -> None:
        """End the process in `slot`, as a power loss does: what was not synced may be gone."""
        process = slot.process
        if process is None:
            return
        process.alive = process.serving = False
        slot.process, slot.crash_in = None, None
        survivors = slot.volume.end()
        if survivors is None:
            slot.in_doubt.update(process.lost_group())
        elif survivors:
            self.count("groups that survived a crash in part or whole")
            self.history.made_durable(survivors, process.lost_group(), process.replica.store, slot.volume.horizons)
        self.trace(f"{slot.id} is gone")

    def crash(self, slot: Slot) -> None:
        """End the process in `slot`; something starts it again."""
        if slot.process is not None:
            self.count("crashes")
            self.stop(slot)
            self.after(self.rng.randint(1000, 30_000), self.start, slot)

    def destroy(self, slot: Slot) -> None:
        """Take process and volume away for good."""
        self.stop(slot)
        slot.destroyed = True

    # ---- a plan -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the plan and heal.

        Raises:
            Violation: something does not hold.
            ValueError: an action is unknown, or its words make no sense.
        """
        for name in self.names:
            self.after(0, self.start, self.slots[name])
        self.after(PASS_MS, self.keeper.run)
        for action in self.plan.actions:
            if action.at < self.setting.horizon_ms:
                self.after(action.at, self._act, action)
        self._run_until(self.setting.horizon_ms)
        self.settle()

    def _act(self, action: Action) -> None:
        self.trace(f"--- {action.what} {' '.join(action.args)}".rstrip())
        if action.what == "hostile":
            if self.hostile is not None and action.args[1] in self.slots:
                self.hostile.do(*action.args)
            return
        act = getattr(self.faults, f"do_{action.what}", None) or getattr(self.clients, action.what, None)
        if act is None or action.what.startswith("_"):
            raise ValueError(f"{action}: there is no such action")
        if (
            any(map(self._absent, action.args[: 2 if action.what in ("partition", "swap") else 1]))
            and action.what != "join"
        ):
            return  # it joins later, or the action that would bring it was left out
        slots = [self.slots.get(word, word) for word in action.args]
        happened = act(*slots)
        if happened and action.what in FAULTS:
            self.count(f"fault: {action.what}")
            if FAULTS[action.what].loses:
                self.count("writes lost to faults", len(self.checks.forget()))

    def _absent(self, word: str) -> bool:
        return word not in self.slots and re.fullmatch(r"m\d+(x\d+)?", word) is not None

    # ---- the end ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """End all faults, bring everybody up, wait until nothing changes, and check what has to hold then."""
        self.trace("--- healing")
        self.gossiping = True
        late = self.network.mend()
        for slot in self.slots.values():
            slot.volume.full = slot.sync_fails = False
            slot.crash_in, slot.stall_ms = None, 0
            slot.clock.mend(self.now)
        self._one_process_per_name()
        if self.hostile is not None:
            self.hostile.answers = "silent"
            self.keeper.remove(self.hostile.name)
        self.keeper.settle()
        self.now += WARP_MS
        for _ in (False, True):
            self._start_all()
            self._until_quiet()
            for carried in late:
                self.network.redeliver(carried)
            self.count("messages delivered after healing", len(late))
            late = []
        self._until_rid()
        self.checks.settled()

    def _until_rid(self) -> None:
        """Wait until dead origins have left the contexts, and those are the same again; then nothing more happens."""
        if self.setting.gate >= Limits().origins_expire_above:
            return
        for _ in range(RID_CYCLES_MAX):
            contexts = [s.volume.context() for s in self.slots.values() if s.process and s.name in self.keeper.members]
            dead = self.checks.dead_origins()
            if not dead and all(context == contexts[0] for context in contexts[1:]):
                break
            self._until_quiet()
            self._run_until(self.now + self.limits.origin_grace_ms)
        else:
            raise Violation("R15 liveness", ", ".join(dead) or "contexts stay different")
        self._until_quiet()

    def _one_process_per_name(self) -> None:
        """Of several processes of one name the newest stays; the others' volumes are given up."""
        for name in {slot.name: None for slot in self.slots.values()}:
            slots = [slot for slot in self.slots.values() if slot.name == name and not slot.destroyed]
            slots.sort(key=lambda slot: slot.process.replica.identity.inc if slot.process is not None else 0)
            for slot in slots[:-1]:
                self.destroy(slot)
        for write in self.checks.forget():  # taken at a removed member, or beside another process of the name
            if not write.orphan:
                raise Violation("G1 durable", f"nobody has {write.entry.dot} of {write.entry.key} on disk any more")

    def _start_all(self) -> None:
        for slot in self.slots.values():
            if slot.process is not None and slot.process.standing.superseded:
                self.stop(slot)
            if slot.name in self.keeper.members:
                self.start(slot)

    def _until_quiet(self) -> None:
        before: list[object] = []
        same = 0
        for _ in range(CYCLES_MAX if self.setting.gate >= Limits().origins_expire_above else 4 * CYCLES_MAX):
            self._start_all()  # somebody sees to a member that does not serve
            members = [s.process for s in self.slots.values() if s.process and s.name in self.keeper.members]
            for process in members:
                process.gossip.forgive()
                process.gossip.retry_now()
            self._run_until(self.now + max(self.setting.interval_ms * 3 // 2, 2 * PASS_MS))
            state = [
                (
                    p.slot.id,
                    p.replica.store.position,
                    p.replica.healing and p.replica.reports.count,  # lists are compared without a change on disk
                    p.replica.writable is None,
                )
                for p in members
            ]
            same = same + 1 if state == before else 0
            before = state
            if same == 2:
                break
        stuck = []
        for process in members:
            heals = (
                process.replica.healing and process.replica.membership.others()
            )  # alone there is nobody to heal from
            if heals or process.replica.writable is not None:
                stuck.append(process.slot.id)
        if same < 2 or stuck:
            raise Violation("liveness", f"healing does not end: {', '.join(stuck) or 'members go on changing'}")
