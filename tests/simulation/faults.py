"""The actions that are no client's: faults, and what people do to a cluster. Each tells whether it changed anything.

`do_` and the action's word name a method; words that name a slot arrive as slots.
"""

from typing import TYPE_CHECKING

from tests.simulation.network import Hold
from tests.simulation.volumes import MemoryVolume
from wavekv.core import exchange

if TYPE_CHECKING:
    from tests.simulation.slots import Slot
    from tests.simulation.world import World


class Faults:
    """What may happen to slots, volumes, clocks and the network of one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._marks: dict[str, int] = {}

    # ---- processes --------------------------------------------------------------------------------------------------

    def do_crash(self, slot: "Slot", steps: str = "0") -> bool:
        """Crash at the so many'th step from now; 0: at once, between two events."""
        if slot.process is None:
            return False
        if steps == "0":
            self._world.crash(slot)
        else:
            slot.crash_in = int(steps)
        return True

    def do_stop(self, slot: "Slot") -> bool:
        """End the process; it stays down."""
        running = slot.process is not None
        self._world.stop(slot)
        return running

    def do_start(self, slot: "Slot") -> None:
        """Begin a process; one that was superseded is ended first."""
        if slot.process is not None and slot.process.standing.superseded:
            self._world.stop(slot)
        self._world.start(slot)

    # ---- volumes ----------------------------------------------------------------------------------------------------

    def do_full(self, slot: "Slot", ms: str) -> bool:
        """Let the volume be full for a while."""
        slot.volume.full = True
        self._world.after(int(ms), setattr, slot.volume, "full", False)
        return True

    def do_failed(self, slot: "Slot") -> bool:
        """Let the next sync fail."""
        slot.sync_fails = slot.process is not None
        return slot.sync_fails

    def do_stall(self, slot: "Slot", ms: str, extra_ms: str) -> bool:
        """Let syncs take longer for a while."""
        slot.stall_ms = int(extra_ms)
        self._world.after(int(ms), setattr, slot, "stall_ms", 0)
        return True

    def _lost(self, slot: "Slot") -> None:
        slot.lossy_at = self._world.now
        history = self._world.history
        slot.acked = [dot for dot in slot.acked if history.knows(slot.volume, history.writes[dot])]

    def do_rollback(self, slot: "Slot", percent: str) -> bool:
        """Stop, and let the volume be as it was at that share of its records, or at the `mark`."""
        if not isinstance(slot.volume, MemoryVolume) or slot.destroyed:
            return False
        self._world.stop(slot)
        items = len(slot.volume.items)
        keep = self._marks[slot.id] if percent == "mark" else items * int(percent) // 100
        changed = slot.volume.roll_back(keep)
        self._lost(slot)
        return changed

    def do_corrupt(self, slot: "Slot", percent: str) -> bool:
        """Stop, and damage the log at that share of its records."""
        if slot.destroyed:
            return False
        self._world.stop(slot)
        changed = slot.volume.corrupt(int(percent) / 100)
        self._lost(slot)
        return changed

    def do_wipe(self, slot: "Slot") -> bool:
        """Stop, and put a new volume in the place of the old one."""
        if slot.destroyed:
            return False
        self._world.stop(slot)
        slot.volume = self._world.new_volume()
        self._lost(slot)
        return True

    def do_destroy(self, slot: "Slot") -> bool:
        """Take the volume away for good."""
        if slot.destroyed or self._world.keeper.static:
            return False
        self._world.destroy(slot)
        return True

    def do_clone(self, slot: "Slot", twin_id: str) -> bool:
        """Begin a second process on a copy of the volume, under the same name."""
        if not isinstance(slot.volume, MemoryVolume) or slot.destroyed or not isinstance(twin_id, str):
            return False
        twin = self._world.add_slot(twin_id, slot.name)
        twin.volume = slot.volume.copy()
        twin.lossy_at = slot.lossy_at = self._world.now
        self._world.start(twin)
        return True

    def do_swap(self, one: "Slot", other: "Slot") -> bool:
        """Stop two members, and start each on the other's volume."""
        kinds = {type(one.volume), type(other.volume)}
        if one.destroyed or other.destroyed or one.name == other.name or kinds != {MemoryVolume}:
            return False
        self._world.stop(one)
        self._world.stop(other)
        one.volume, other.volume = other.volume, one.volume
        one.acked, other.acked = other.acked, one.acked
        one.lossy_at = other.lossy_at = self._world.now
        self._world.start(one)
        self._world.start(other)
        return True

    # ---- the network ------------------------------------------------------------------------------------------------

    def do_partition(self, one: "Slot", other: "Slot", ms: str, way: str = "both") -> bool:
        """Keep two members apart for a while; `to`: nothing from the first reaches the second."""
        network = self._world.network
        pairs = [(one.name, other.name)] + ([(other.name, one.name)] if way == "both" else [])
        for pair in pairs:
            network.block(*pair)
            self._world.after(int(ms), network.unblock, *pair)
        return True

    def do_slow(self, slot: "Slot", ms: str, extra_ms: str) -> bool:
        """Let all messages of a member take longer for a while."""
        self._world.network.slow(slot.name, int(extra_ms))
        self._world.after(int(ms), self._world.network.slow, slot.name, 0)
        return True

    def do_hold(self, label: str, kind: str, sender: "Slot", to: "Slot") -> None:
        """Keep back the next `request` or `push` from `sender` to `to`."""
        self._world.network.hold(Hold(label, kind, sender.id, to.name))

    def do_release(self, label: str) -> bool:
        """Deliver what was kept back."""
        return self._world.network.release(label)

    # ---- clocks -----------------------------------------------------------------------------------------------------

    def do_jump(self, slot: "Slot", ms: str) -> bool:
        """Move a clock, either way."""
        slot.clock.jump(int(ms))
        return True

    def do_drift(self, slot: "Slot", ppm: str) -> bool:
        """Let a clock run faster or slower."""
        slot.clock.drift(self._world.now, int(ppm))
        return True

    def do_freeze(self, slot: "Slot", ms: str) -> bool:
        """Let a clock stand still for a while."""
        slot.clock.freeze(self._world.now)
        self._world.after(int(ms), lambda: slot.clock.thaw(self._world.now))
        return True

    # ---- membership -------------------------------------------------------------------------------------------------

    def do_join(self, name: str) -> bool:
        """Add a member with a new volume."""
        if not isinstance(name, str) or self._world.keeper.static:
            return False
        self._world.start(self._world.add_slot(name, name))
        return self._world.keeper.admit(name)

    def do_admit(self, slot: "Slot") -> bool:
        """Admit a removed member again, with the volume it has."""
        if slot.destroyed or not self._world.keeper.admit(slot.name):
            return False
        self._world.start(slot)
        return True

    def do_remove(self, slot: "Slot") -> bool:
        """Remove a member by force."""
        return self._world.keeper.remove(slot.name)

    def do_drain(self, slot: "Slot") -> bool:
        """Scale down by one member."""
        return self._world.keeper.drain(slot.name)

    def do_cancel(self, slot: "Slot") -> bool:
        """Let a leaving member stay."""
        return self._world.keeper.cancel(slot.name)

    def do_deaf(self, ms: str) -> None:
        """Let the operator be gone for a while (G10)."""
        self._world.keeper.deaf = True
        self._world.after(int(ms), setattr, self._world.keeper, "deaf", False)

    # ---- by hand, for scenarios -------------------------------------------------------------------------------------

    def do_sync(self, one: "Slot", other: "Slot") -> None:
        """Let the first ask the second: one round."""
        if one.process is not None and one.process.serving:
            link = one.process.gossip.links.get(other.name)
            if link is not None and not link.busy:
                one.process.gossip.start_round(link)

    def do_push(self, one: "Slot", other: "Slot", *keys: str) -> None:
        """Push what the first holds of these keys to the second."""
        process = one.process
        if process is not None:
            entries = tuple(process.replica.store.entries[key] for key in keys)
            message = exchange.push_message(process.replica, entries, {}, process.now())
            process.gossip.push_by_hand(other.name, message)

    def do_mark(self, slot: "Slot") -> None:
        """Remember how the volume is now, for a rollback."""
        assert isinstance(slot.volume, MemoryVolume)
        self._marks[slot.id] = len(slot.volume.items)

    def do_all(self, times: str = "1") -> None:
        """Let everybody ask everybody and collect, so many times; a round has 20 ms."""
        slots = [slot for slot in self._world.slots.values() if slot.process is not None]
        at = 0
        for _ in range(int(times)):
            for one in slots:
                for other in slots:
                    if one is not other:
                        self._world.after(at, self.do_sync, one, other)
                        at += 20
            for one in slots:
                self._world.after(at, self.do_tick, one)
            at += 10

    def do_tick(self, slot: "Slot", times: str = "1") -> None:
        """Let a member do its periodic work, so many times: expiry, collection, a step of R15; one has 5 ms."""
        if slot.process is not None:
            slot.process.tick()
        if int(times) > 1:
            self._world.after(5, self.do_tick, slot, str(int(times) - 1))

    def do_gossip(self, how: str) -> None:
        """Turn the members' own rounds and pushes on or off."""
        self._world.gossiping = how == "on"
