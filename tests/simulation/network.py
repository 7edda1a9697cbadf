"""The network between members: latency, loss, duplicates, reordering, partitions, and messages that come hours late.

A *call* is a connection: its answer goes to the very process that asked, or nowhere. The request itself is only bytes
under way, so a duplicate, or a request that lost its connection, may still reach whatever process the name has by then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.hostile import Hostile
from wavekv.core.codec.envelope import decode_envelope, encode_envelope
from wavekv.core.messages import Envelope
from wavekv.errors import PeerError, PeerUnreachable

if TYPE_CHECKING:
    from tests.simulation.members import Process
    from tests.simulation.world import World

Done = Callable[[Envelope | None, PeerError | None], None]


class Hold(NamedTuple):
    """The next message of `kind` from slot to member is kept back under `label`."""

    label: str
    kind: str
    sender: str
    to: str


@dataclass(eq=False)
class Call:
    """One connection that waits for its answer."""

    process: "Process"
    done: Done
    open: bool = True

    def end(self, answer: Envelope | None, error: PeerError | None) -> None:
        """Give the process its answer or its error, once, if it still runs."""
        if self.open:
            self.open = False
            if self.process.alive:
                self.done(answer, error)


@dataclass(eq=False)
class Carried:
    """A request or push under way."""

    kind: str
    sender: str
    to: str
    message: Envelope
    call: Call | None
    arrived: bool = False


class Network:
    """Carries messages between slots; all chances are the world's."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = world.rng
        setting = world.setting
        self.loss, self.duplicates, self.late = setting.loss, setting.duplicates, setting.late
        self._blocked: dict[tuple[str, str], int] = {}
        """(slot or member, member) → how many partitions keep them apart in this direction."""
        self._slow: dict[str, int] = {}
        self._holds: list[Hold] = []
        self._held: dict[str, Carried] = {}
        self.under_way: dict[Carried, None] = {}
        """Those that are very late, or doubles: what may arrive at a later process."""

    # ---- faults -----------------------------------------------------------------------------------------------------

    def block(self, sender: str, to: str) -> None:
        """Let nothing from member `sender` reach member `to`."""
        self._blocked[sender, to] = self._blocked.get((sender, to), 0) + 1

    def unblock(self, sender: str, to: str) -> None:
        """End one partition in this direction."""
        left = self._blocked.get((sender, to), 0) - 1
        self._blocked[sender, to] = left
        if left <= 0:
            self._blocked.pop((sender, to))

    def slow(self, name: str, ms: int) -> None:
        """Add `ms` to every message from or to `name`; 0 ends it."""
        self._slow[name] = ms

    def hold(self, hold: Hold) -> None:
        """Keep back the next message that fits."""
        self._holds.append(hold)

    def release(self, label: str) -> bool:
        """Deliver what was kept back; tell whether there was anything."""
        carried = self._held.pop(label, None)
        if carried is not None:
            self._arrive(carried)
        return carried is not None

    def mend(self) -> list[Carried]:
        """Be perfect from now on; return what is still under way or kept back, which the world delivers later."""
        self.loss = self.duplicates = self.late = 0.0
        self._blocked.clear()
        self._slow.clear()
        self._holds.clear()
        rest = [*self.under_way, *self._held.values()]
        self.under_way.clear()
        self._held.clear()
        for carried in rest:
            carried.arrived = True
        return rest

    def redeliver(self, carried: Carried) -> None:
        """Deliver what `mend` returned."""
        carried.arrived = False
        self._arrive(carried)

    # ---- messages ---------------------------------------------------------------------------------------------------

    def call(self, process: "Process", to: str, kind: str, message: Envelope, done: Done) -> None:
        """Send `message` to the member `to` and give `done` its answer, or an error after the deadline at most."""
        world = self._world
        call = Call(process, done)
        deadline = world.settings_gossip.request_timeout_ms
        world.after(deadline, call.end, None, PeerUnreachable(f"{to} does not answer: no answer in time"))
        self._send(Carried(kind, process.slot.id, to, self._serialised(message), call))

    def _send(self, carried: Carried) -> None:
        world, rng = self._world, self._rng
        sender = self._name_of(carried.sender)
        for hold in self._holds:
            if (hold.kind, hold.sender, hold.to) == (carried.kind, carried.sender, carried.to):
                self._holds.remove(hold)
                self._held[hold.label] = carried
                return
        if self._blocked.get((sender, carried.to)) or (self.loss and rng.random() < self.loss):
            world.count("messages lost")
            return
        if self.duplicates and rng.random() < self.duplicates:
            world.count("messages doubled")
            double = Carried(carried.kind, carried.sender, carried.to, carried.message, None)
            self._carry_late(double)
        if self.late and rng.random() < self.late:
            world.count("messages late")
            self._carry_late(carried)
        else:
            world.after(self._latency(sender, carried.to), self._arrive, carried)

    def _name_of(self, slot_id: str) -> str:
        return slot_id if self._world.is_hostile(slot_id) else self._world.slots[slot_id].name

    def _carry_late(self, carried: Carried) -> None:
        self.under_way[carried] = None
        exponent = self._rng.random()  # from a second to the bound, each order of magnitude as likely
        self._world.after(int(1000 * (self._world.setting.late_ms / 1000) ** exponent), self._arrive, carried)

    def _latency(self, sender: str, to: str) -> int:
        least, most = self._world.setting.latency_ms
        slow = self._slow.get(sender, 0) + self._slow.get(to, 0)
        return (self._rng.randint(least, most) if least < most else least) + slow

    def _arrive(self, carried: Carried) -> None:
        if carried.arrived:
            return
        carried.arrived = True
        self.under_way.pop(carried, None)
        world = self._world
        receiver = world.process_called(carried.to)
        if receiver is None:
            if carried.call is not None:
                carried.call.end(None, PeerUnreachable(f"{carried.to} does not answer: connection refused"))
            return
        refusal = Hostile.may_say(carried.sender, carried.message) if world.is_hostile(carried.sender) else None
        if refusal is not None:
            self._reply(carried, receiver, refusal)
            return
        world.trace(f"{receiver.slot.id} receives {carried.kind} from {carried.sender}", carried.message)
        receiver.receive(carried.kind, carried.message, lambda answer: self._reply(carried, receiver, answer))

    def _reply(self, carried: Carried, receiver: "Process", answer: Envelope | PeerError) -> None:
        world = self._world
        call = carried.call
        if call is None or not call.open:
            return
        names = receiver.slot.name, self._name_of(carried.sender)
        if self._blocked.get(names) or (self.loss and self._rng.random() < self.loss):
            world.count("messages lost")
            return
        delay = self._latency(*names)
        if world.is_hostile(names[0]) and isinstance(answer, Envelope):
            answer = Hostile.may_say(names[0], answer) or answer
        if isinstance(answer, PeerError):
            world.after(delay, call.end, None, answer)
        else:
            world.after(delay, call.end, self._serialised(answer), None)

    def _serialised(self, message: Envelope) -> Envelope:
        share = self._world.setting.wire
        if share < 1 and self._rng.random() >= share:
            return message
        self._world.count("messages serialised")
        return decode_envelope(encode_envelope(message))
