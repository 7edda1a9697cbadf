"""What must hold, checked while the world runs: I1 after every group; I2, I4, I6, G1, G2 and G5–G9 where they happen.

`settled` has what can be judged only when all faults are over: G1, G3, G4. Which writes may be lost is decided here
and nowhere else: `forget`, called by the faults that the atlas says may lose.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.simulation.atlas import TOLERATED
from tests.simulation.history import Known, Write
from wavekv.core.context import Context
from wavekv.core.messages import Envelope
from wavekv.core.ops import Batch, Clear, Cover, Set, SetExpiring, UpdateLocalAck, as_records
from wavekv.core.reports import PEERS_MAX
from wavekv.core.steps import Group
from wavekv.core.types import Dot, Entry, Stamp

if TYPE_CHECKING:
    from tests.simulation.members import Process
    from tests.simulation.slots import Slot
    from tests.simulation.world import World

NEVER: Stamp = (-(2**63), 0, 0)


class Violation(Exception):
    """A guarantee or an invariant does not hold."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule, self.detail = rule, detail


class Checks:
    """The checks of one world; every method raises `Violation`."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._history = world.history

    def _violated(self, rule: str, detail: str) -> None:
        if rule in TOLERATED:
            self._world.count(f"tolerated: {rule}")
        else:
            raise Violation(rule, detail)

    # ---- I1: whoever covers a write holds it, or something newer ----------------------------------------------------

    def advanced(self, process: "Process", group: Group) -> None:
        """Check I1 for all that a group changed: its keys, and the keys of dots it covers."""
        keys: dict[str, None] = {}
        for op in as_records(group.ops):
            for one in op.ops if isinstance(op, Batch) else (op,):
                if isinstance(one, Set | SetExpiring):
                    keys[one.entry.key] = None
                elif isinstance(one, Clear):
                    keys[one.key] = None
                elif isinstance(one, UpdateLocalAck):
                    self._covered(keys, one.peer, process.checked.get(one.peer, 0) + 1, one.ack)
                    process.checked[one.peer] = one.ack
                elif isinstance(one, Cover):
                    self._covered(keys, one.origin, one.first, one.last)
        for key in keys:
            self.key_covered(process, key)

    def _covered(self, keys: dict[str, None], origin: int, first: int, last: int) -> None:
        for write in self._history.by_origin.get(origin, ())[first - 1 : last]:
            keys[write.entry.key] = None

    def all_covered(self, process: "Process") -> None:
        """Check I1 for everything; also I3, where a volume came back as it was earlier."""
        process.checked = dict(process.replica.store.context.acks)
        for key in self._history.by_key:
            self.key_covered(process, key)

    def key_covered(self, process: "Process", key: str) -> None:
        """Check I1 for one key: nothing covered ranks above what is held, or above what was collected."""
        history, store = self._history, process.replica.store
        held = store.entries.get(key)
        least = history.collected.get(key, NEVER) if held is None else held.stamp
        for write in reversed(history.by_key.get(key, ())):
            entry = write.entry
            if entry.stamp <= least:
                return
            if self._knows(process, write) and not write.forgone and not self._excused(key, held, write):
                if write.lost_once and self._world.is_hostile(write.name):
                    continue  # nobody holds it any more, and no client of an honest member was promised it
                older = held is not None and held.value is None
                shows = "holds nothing" if held is None else f"holds the older {held.etag}"
                rule = "I1 older tombstone" if older else "I1 of a lost write" if write.lost_once else "I1 coverage"
                self._violated(rule, f"{process.slot.id} covers {entry.etag} of {key} and {shows}")
                return

    def _knows(self, process: "Process", write: Write) -> bool:
        """Tell whether a process shows that it covers `write`, or did before its origin was dropped (R15)."""
        covered = process.replica.store.context.covers(*write.entry.dot)
        return covered or bool(write.dropped & process.slot.volume.horizons)

    def _excused(self, key: str, held: Entry | None, covered: Write) -> bool:
        """U5: a write below a collected delete; U1: an orphan that its delete's author never saw; U3: a bare delete."""
        write = self._history.writes.get(held.dot) if held is not None else None
        if write is None:
            return False
        orphan = write.orphan and self._history.collected.get(key, NEVER) >= covered.entry.stamp
        deletes = self._history.by_key[key]
        return write.post or orphan or any(one.bare and one.entry.stamp >= covered.entry.stamp for one in deletes)

    # ---- local writes: I2, I6, G8, U5 -------------------------------------------------------------------------------

    def issued(self, process: "Process", entry: Entry) -> None:
        """Check the name and the rank of a write that was just staged, and record it."""
        history, world = self._history, self._world
        known = history.writes.get(entry.dot)
        if known is not None:
            raise Violation(
                "G8 uniqueness", f"{process.slot.id} gives {entry.dot} to {entry.key}, which {known.name} gave"
            )
        if entry.seq != len(history.by_origin.get(entry.origin, ())) + 1:
            raise Violation("R1 sequence", f"{process.slot.id} issues {entry.dot} out of turn")
        above = [write for write in history.by_key.get(entry.key, ()) if write.entry.stamp > entry.stamp]
        for write in above:
            if self._knows(process, write):
                raise Violation(
                    "I6 floor", f"{process.slot.id} writes {entry.etag} of {entry.key} below {write.entry.etag}"
                )
        write = Write(entry, process.slot.name, world.now)
        twins = [slot for slot in world.slots.values() if slot.name == process.slot.name and not slot.destroyed]
        write.orphan = process.slot.name not in world.keeper.members or len(twins) > 1
        collected = history.collected.get(entry.key, NEVER)
        write.post = collected >= entry.stamp or (process.replica.healing and bool(above))
        write.early = process.replica.healing and entry.timestamp <= history.horizon
        history.add(write)

    def acked(self, process: "Process", dot: Dot) -> None:
        """Record that a client was told so, and check G1: it is on the disk."""
        write = self._history.writes.get(dot)
        if write is None or not process.slot.volume.context().covers(*dot):
            raise Violation("G1 durable", f"{process.slot.id} acknowledged {dot}, which is not on its disk")
        write.acked = True
        process.slot.acked.append(dot)

    def counted(self, write: Write, names: list[str]) -> None:
        """Check G2: each member that was counted for a write has it on disk, or had before a fault that loses."""
        for name in names:
            if self._world.is_hostile(name):
                continue  # it may say that it holds what it does not: its word counts for one copy
            slots = [slot for slot in self._world.slots.values() if slot.name == name]
            if not any(self._history.knows(slot.volume, write) or slot.lossy_at >= write.at_ms for slot in slots):
                raise Violation(
                    "G2 durability", f"{name} was counted for {write.entry.dot} and does not have it on disk"
                )

    def superseded(self, process: "Process") -> None:
        """Check G11: where no other volume has the name, only a hostile member can have ended a process."""
        twins = [slot for slot in self._world.slots.values() if slot.name == process.slot.name]
        if self._world.hostile is not None and len(twins) == 1:
            raise Violation("G11 identity", f"{process.slot.id} was ended by somebody who has not its name")

    # ---- processes, reports, reads ----------------------------------------------------------------------------------

    def booted(self, process: "Process") -> None:
        """Check G1 and I3 on what a start found."""
        context = process.replica.store.context
        for dot in process.slot.acked:
            if not self._knows(process, self._history.writes[dot]):
                raise Violation("G1 durable", f"{process.slot.id} acknowledged {dot} and lost it in a crash")
        for key, stamp in process.slot.in_doubt.items():
            if process.replica.store.entries.get(key) is None:
                self._history.collected[key] = max(self._history.collected.get(key, NEVER), stamp)
        process.slot.in_doubt.clear()
        for dot, write in self._history.writes.items():
            write.durable = write.durable or context.covers(*dot)
        self.all_covered(process)

    def reported(self, process: "Process", message: Envelope) -> None:
        """Check I4: what a member says of itself is durable, and no more; G9: what it remembers is bounded."""
        standing, told = process.slot.volume.standing(), Context(message.acks, message.dots)
        told.drop(
            [o for o, seq in standing.dropped.items() if told.greatest(o) <= seq]
        )  # a round tells what it began with
        if not standing.context.includes(told):
            raise Violation("I4 report", f"{process.slot.id} reports more than it has on disk")
        self.within("reports", len(process.replica.reports._by_name), PEERS_MAX)

    def within(self, what: str, count: int, most: int) -> None:
        """Check a bound (G9)."""
        if count > most:
            raise Violation("G9 bounds", f"{count} {what}, at most {most} are allowed")

    def read(self, process: "Process", key: str, found: Entry | None) -> None:
        """Check G5: what a reader is shown is durable here."""
        if found is not None and not process.slot.volume.context().covers(*found.dot):
            raise Violation("G5 read", f"{process.slot.id} shows {found.etag} of {key}, which is not on its disk")

    def read_with_token(self, process: "Process", write: Write) -> None:
        """Check G6: who covers a token's write shows it, or something newer, or a delete that was."""
        entry = write.entry
        held = process.replica.store.entries.get(entry.key)
        stamp = held.stamp if held is not None else self._history.collected.get(entry.key, NEVER)
        if stamp < entry.stamp and not self._excused(entry.key, held, entry):
            raise Violation(
                "G6 session", f"{process.slot.id} covers {entry.dot} and shows {entry.key} as it was before"
            )

    def collecting(self, process: "Process", held: Entry) -> None:
        """Check R11: what expires is collected only when every member's clock has passed it."""
        if held.value is not None:
            for name in process.replica.membership.members():
                if self._world.is_hostile(name):
                    continue  # it says of its clock what it likes
                if held.expires_at is None or self._history.clocks.get(name, 0) < held.expires_at:
                    write = self._history.writes[held.dot]
                    late = self._world.keeper.admitted_ms.get(name, -1) > write.at_ms
                    self._violated(
                        "R11 later member" if late else "R11 expiry",
                        f"{process.slot.id} collects {held.key}, which lives by {name}'s clock",
                    )

    # ---- what may be lost -------------------------------------------------------------------------------------------

    def _member_slots(self) -> list["Slot"]:
        members = self._world.keeper.members
        return [slot for slot in self._world.slots.values() if slot.name in members and not slot.destroyed]

    def forget(self) -> list[Write]:
        """Note which writes no member's volume covers any more; return those that this is news of."""
        slots = self._member_slots()
        volumes = [slot.volume for slot in slots]
        removed = [slot.volume.context() for slot in self._world.slots.values() if slot not in slots]
        news = []
        for write in self._history.writes.values():
            lost = not any(self._history.knows(volume, write) for volume in volumes)
            if lost and not write.lost and write.durable:
                news.append(write)
                write.orphan |= any(context.covers(*write.entry.dot) for context in removed)
            write.lost = lost
            write.bare = write.bare or (not lost and self._bare(write.entry, volumes))
            write.lost_once = write.lost_once or (lost and write.durable)
        return news

    def _bare(self, delete: Entry, volumes: Sequence[Known]) -> bool:
        """Tell whether a collected delete is covered nowhere with all that it superseded: an older value may return.

        A volume that was cut in the midst of its first repair has dropped the delete, and covers it alone.
        """
        if delete.value is not None or self._history.collected.get(delete.key, NEVER) < delete.stamp:
            return False
        below = [write for write in self._history.by_key[delete.key] if write.entry.stamp <= delete.stamp]
        return not any(all(self._history.knows(volume, write) for write in below) for volume in volumes)

    def left(self, slot: "Slot", before: Context) -> None:
        """Check G7: a drained member that is gone took nothing with it."""
        taken = [write for write in self.forget() if before.covers(*write.entry.dot)]
        if taken:
            dots = ", ".join(str(write.entry.dot) for write in taken)
            raise Violation("G7 scale-down", f"{slot.id} was drained and took {dots} away")

    # ---- the end ----------------------------------------------------------------------------------------------------

    def dead_origins(self) -> list[str]:
        """Return who covers more origins than it may, and which of them are dead: nothing of them is held (R15)."""
        processes = [slot.process for slot in self._member_slots() if slot.process is not None]
        current = {process.replica.origin for process in processes}
        found = []
        for process in processes:
            store = process.replica.store
            origins = {*store.context.origins()}
            dead = origins - current - {*store.origins()}
            if dead and len(origins) > self._world.limits.origins_expire_above:
                found.append(f"{process.slot.id} covers {len(dead)} dead origins")
        return found

    def settled(self) -> None:
        """Check what holds when all faults are over and the members are quiet."""
        processes = [slot.process for slot in self._member_slots() if slot.process is not None]
        if not processes:
            return
        first, *others = processes
        for other in others:
            self._same(first, other)
        for process in processes:
            self.all_covered(process)
        for key in self._history.by_key:
            self._survivor(key, first.replica.store.entries.get(key))
        for entry in first.replica.store.entries.values():
            if entry.value is None or entry.expires_at is not None:
                raise Violation("G4 pile-up", f"{entry.etag} of {entry.key} is never collected")

    def _same(self, first: "Process", other: "Process") -> None:
        for key in {**first.replica.store.packed, **other.replica.store.packed}:
            ours, theirs = first.replica.store.entries.get(key), other.replica.store.entries.get(key)
            if ours != theirs:
                shown = [f"{p.slot.id} holds {e.etag if e else None}" for p, e in ((first, ours), (other, theirs))]
                raise Violation("G3 convergence", f"of {key} {' and '.join(shown)}")
        if first.replica.store.context != other.replica.store.context:
            raise Violation("G3 convergence", f"{first.slot.id} and {other.slot.id} cover different writes")
        if first.replica.store.digest() != other.replica.store.digest():
            raise Violation("G3 convergence", f"{first.slot.id} and {other.slot.id} have different digests")

    def _survivor(self, key: str, final: Entry | None) -> None:
        """Check G1 and G4 for one key: its greatest write survived, unless a fault excuses another."""
        writes = [write for write in self._history.by_key[key] if write.durable]
        sure = [write for write in writes if not write.lost and not write.post and not write.forgone]
        best = sure[-1] if sure else None
        absent = final is None or final.value is None or final.expires_at is not None
        if best is None or best.gone:
            if absent:
                return
        elif final == best.entry:
            return
        for write in writes:
            bare = best is not None and best.bare
            if not (write.lost or write.orphan or write.post or bare):
                continue
            outranks = best is None or write.entry.stamp > best.entry.stamp
            if outranks or write.post or bare or (write.orphan and best is not None and best.gone):
                self._world.count("survivors that a fault excuses")
                if (write.gone and absent) or final == write.entry:
                    return
        rule = "G4 resurrection" if final is not None and (best is None or best.gone) else "G1 lost write"
        expected = best.entry.etag if best is not None else "nothing"
        raise Violation(rule, f"{key} shows {final.etag if final else 'nothing'}, expected {expected}")
