"""The operator in the world: who belongs to the cluster, told to the members epoch by epoch (R9, R10).

One pass does one thing, as the real one's: founding ends once all first members were seen, a drained member that the
others cover leaves, and the newest document is handed to whoever runs. Forced removal, admission of an old volume and
lost documents are what people and accidents do to it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.fakes.documents import document
from wavekv.core.membership import Epoch
from wavekv.runtime.epoch_file import EpochDocument

if TYPE_CHECKING:
    from tests.simulation.members import Process
    from tests.simulation.world import World

PASS_MS = 5000
PEER_URL = "https://{name}:7072"


class Keeper:
    """The documents issued so far; the last one is the truth."""

    def __init__(self, world: "World", members: tuple[str, ...]) -> None:
        self._world = world
        self.members = members
        self.static = world.setting.membership == "static"
        self._admitted = dict.fromkeys(members, 1)
        self._documents = [self._document(1, bootstrap=True)]
        self._leaving: dict[str, None] = {}
        self._left: dict[str, None] = {}
        self.admitted_ms: dict[str, int] = {}
        """When each member was last let in behind the first ones."""
        self.deaf = False
        """It does nothing for now (G10)."""

    def _document(self, number: int, *, bootstrap: bool = False) -> EpochDocument:
        admitted = {name: self._admitted[name] for name in self.members}
        epoch = Epoch(number, self.members, bootstrap, admitted, peer_url=PEER_URL)
        return EpochDocument(replace(epoch, signed=document(epoch)), self._world.cluster_id, PEER_URL)

    @property
    def document(self) -> EpochDocument:
        """Return the newest document."""
        return self._documents[-1]

    def boot_document(self) -> EpochDocument | None:
        """Return the copy that a starting process finds, now and then an older one."""
        if self.static:
            return None
        rng = self._world.rng
        return self.document if rng.random() < 0.8 else rng.choice(self._documents)

    def _issue(self) -> None:
        self._documents.append(self._document(self.document.epoch.number + 1))
        self._world.count("epochs")
        self._world.trace(f"epoch {self.document.epoch.number}: {' '.join(self.members)}")

    # ---- what is asked of it ----------------------------------------------------------------------------------------

    def admit(self, name: str) -> bool:
        """Let a name in; tell whether it was outside."""
        if name in self.members or self.static:
            return False
        self.members = (*self.members, name)
        self._admitted[name] = self.document.epoch.number + 1
        self.admitted_ms[name] = self._world.now
        self._issue()
        return True

    def remove(self, name: str) -> bool:
        """Remove a member by force; tell whether that could be."""
        if name not in self.members or len(self.members) < 2 or self.static:
            return False
        checks = self._world.checks
        checks.forget()
        self.members = tuple(other for other in self.members if other != name)
        self._leaving.pop(name, None)
        self._issue()
        for write in checks.forget():
            write.orphan = True
        return True

    def drain(self, name: str) -> bool:
        """Ask a member to leave; tell whether it can be asked."""
        if name not in self.members or len(self.members) - len(self._leaving) < 2 or self.static:
            return False
        self._leaving[name] = None
        return True

    def cancel(self, name: str) -> bool:
        """Let a leaving member stay."""
        if name not in self._leaving:
            return False
        del self._leaving[name]
        process = self._world.process_called(name)
        if process is not None and process.admission.draining:
            process.standing.cancel_drain()
        return True

    # ---- a pass -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Pass, and come again; a member that crashes under its hands ends the pass."""
        self._world.after(PASS_MS, self.run)
        if not self.deaf and not self.static:
            self._found()
            for name in list(self._leaving):
                self._let_go(name)
            self._publish()
            for name in list(self._left):
                self._take_volume(name)

    def _running(self) -> list["Process"]:
        slots = self._world.slots.values()
        return [slot.process for slot in slots if slot.process is not None and slot.process.serving]

    def _found(self) -> None:
        if self.document.epoch.bootstrap and all(map(self._world.process_called, self.members)):
            self._issue()

    def _publish(self) -> None:
        number = self.document.epoch.number
        for process in self._running():
            known = process.replica.membership.epoch
            if known is not None and (known.number < number or (known.number == number and known.inferred)):
                process.admission.take(self.document)
                process.standing.keep_epoch(lambda: None)
            if process.admission.draining and process.slot.name not in self._leaving:
                process.standing.cancel_drain()  # nobody asked it; it runs on the volume of one who was asked

    def _let_go(self, name: str) -> None:
        """Tell a leaving member to drain; issue the epoch without it once the running others cover it (R10)."""
        process = self._world.process_called(name)
        if process is None or not process.replica.membership.included() or len(self.members) < 2:
            return
        if not process.admission.draining:
            process.standing.drain()
            return
        status = process.standing.drain_status()
        others = {other: self._world.process_called(other) for other in self.members if other != name}
        seen = {other: one.replica.identity.inc for other, one in others.items() if one is not None}
        if not status.complete or status.healing or len(seen) < len(others):
            return
        if any(status.covered_by.get(other) != inc for other, inc in seen.items()):
            return
        self._world.count("drained scale-downs")
        checks = self._world.checks
        checks.forget()
        del self._leaving[name]
        self.members = tuple(other for other in self.members if other != name)
        self._issue()
        checks.left(process.slot, process.slot.volume.context())
        self._left[name] = None

    def _take_volume(self, name: str) -> None:
        """Remove pod and volume of a member that left, once every running one knows."""
        number = self.document.epoch.number
        epochs = [process.replica.membership.epoch for process in self._running()]
        if all(epoch is not None and epoch.number >= number for epoch in epochs):
            del self._left[name]
            for slot in self._world.slots.values():
                if slot.name == name and name not in self.members:
                    self._world.destroy(slot)

    def settle(self) -> None:
        """Let everybody stay who is there, and remove members whose volume is gone for good."""
        self.deaf = False
        for name in list(self._leaving):
            self.cancel(name)
        there = {slot.name for slot in self._world.slots.values() if not slot.destroyed}
        for name in self.members:
            if name not in there:
                self.remove(name)
