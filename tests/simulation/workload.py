"""What clients do: puts, deletes, expiry, conditions, batches, reads with tokens, writes that wait for copies."""

from typing import TYPE_CHECKING

from wavekv.core.condition import ABSENT, ALWAYS, PRESENT, Condition
from wavekv.core.steps import Staged
from wavekv.core.types import Dot, Entry
from wavekv.core.writes import Delete, Put
from wavekv.errors import WaveKVError

if TYPE_CHECKING:
    from tests.simulation.members import Process
    from tests.simulation.slots import Slot
    from tests.simulation.world import World

WAIT_MS = 60_000
"""How long a read waits for its token, and a write for its copies."""


class Clients:
    """Clients of all members; values are numbered, so each is written once."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._number = 0

    def _value(self) -> bytes:
        self._number += 1
        return b"v%d" % self._number

    def put(self, slot: "Slot", key: str, *options: str) -> None:
        """Put a new value; options are `ttl=MS`, `if=absent|present|same`, `k=COPIES`, `read=SLOT`."""
        given = dict(option.split("=") for option in options)
        process = slot.process
        if process is None or not process.serving:
            self._world.count("requests to a member that is down")
            return
        condition = self._condition(process, key, given.get("if"))
        expires_at = process.now() + int(given["ttl"]) if "ttl" in given else None

        def stage() -> list[Staged]:
            return [process.replica.put(key, self._value(), process.now(), condition, expires_at)]

        self._write(process, stage, given)

    def delete(self, slot: "Slot", key: str, *options: str) -> None:
        """Delete a key; options as for `put`, without `ttl`."""
        given = dict(option.split("=") for option in options)
        process = slot.process
        if process is None or not process.serving:
            self._world.count("requests to a member that is down")
            return
        condition = self._condition(process, key, given.get("if"))
        self._write(process, lambda: [process.replica.delete(key, process.now(), condition)], given)

    def batch(self, slot: "Slot", *keys: str) -> None:
        """Write several keys at once; `-key` deletes one."""
        process = slot.process
        if process is None or not process.serving:
            self._world.count("requests to a member that is down")
            return
        writes = [Delete(key[1:]) if key.startswith("-") else Put(key, self._value()) for key in keys]

        def stage() -> list[Staged]:
            return [one for one in process.replica.batch(writes, process.now()).writes if one is not None]

        self._world.count("batches")
        self._write(process, stage, {})

    def _condition(self, process: "Process", key: str, wanted: str | None) -> Condition:
        held = process.replica.store.get(key, process.now())
        same = Condition(match=(held.etag,)) if held is not None else ABSENT
        return {None: ALWAYS, "absent": ABSENT, "present": PRESENT, "same": same}[wanted]

    def _write(self, process: "Process", stage: "object", given: dict[str, str]) -> None:
        world = self._world
        try:
            staged: list[Staged] = stage()  # type: ignore[operator]
        except WaveKVError as refusal:
            world.count(f"writes refused: {refusal.code}")
            return
        for one in staged:
            process.staged[one.entry.dot] = None
            world.checks.issued(process, one.entry)
        entries = [one.entry for one in staged]
        if entries:
            if world.tracing:
                world.trace(f"{process.slot.id} takes " + ", ".join(map(world.tracer.entry, entries)))
            world.count("writes", len(entries))
            pending = process.durable(process.replica.last_ticket)
            pending.then(lambda: self._acknowledged(process, entries, given))

    def _acknowledged(self, process: "Process", entries: list[Entry], given: dict[str, str]) -> None:
        world = self._world
        for entry in entries:
            world.checks.acked(process, entry.dot)
        world.count("writes acknowledged", len(entries))
        if "k" in given:
            self._wait_for_copies(process, entries[0].dot, int(given["k"]))
        if "read" in given:
            world.after(world.rng.randrange(50), self._read_with_token, given["read"], entries[0])

    # ---- durability=k (R12) -----------------------------------------------------------------------------------------

    def _wait_for_copies(self, process: "Process", dot: Dot, copies: int) -> None:
        world, reports = self._world, process.replica.reports
        write = world.history.writes[dot]
        deadline = world.now + WAIT_MS

        def enough() -> bool:
            others = process.replica.membership.others()
            covering = [name for name in others if (told := reports.of(name)) and told.context.covers(*dot)]
            if 1 + len(covering) >= copies:
                world.checks.counted(write, [process.slot.name, *covering])
                world.count("writes acknowledged by several members")
                return True
            return world.now > deadline

        if not enough():
            process.on_report.append(enough)

    # ---- reads ------------------------------------------------------------------------------------------------------

    def read(self, slot: "Slot", key: str) -> None:
        """Read a key from one member."""
        process = slot.process
        if process is not None and process.serving:
            self._world.count("reads")
            self._world.checks.read(process, key, process.replica.store.get(key, process.now()))

    def _read_with_token(self, slot_id: str, entry: Entry) -> None:
        """Read behind a write of another member: wait until the token is covered (R13)."""
        world = self._world
        slot = world.slots.get(slot_id)
        process = slot.process if slot is not None else None
        write = world.history.writes.get(entry.dot)
        if process is None or not process.serving or write is None:
            return
        deadline = world.now + WAIT_MS

        def covered() -> bool:
            if process.replica.store.context.covers(*entry.dot):
                world.count("reads with a token")
                world.checks.read(process, entry.key, process.replica.store.get(entry.key, process.now()))
                world.checks.read_with_token(process, write)
                return True
            if world.now > deadline:
                world.count("reads with a token, timed out")
                return True
            return False

        if not covered():
            world.count("reads that waited for their token")
            process.on_advance.append(covered)
