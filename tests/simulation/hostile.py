"""A hostile member in the world: it belongs to the cluster, is heard under its own name, and sends what it likes.

It has no volume and keeps no promise; it knows what others told it. The world stamps who sent a message, as a
certificate does: another name in it is refused (`Hostile.may_say`). What it writes are writes like any other's: a
member may overwrite and delete every key by a newer stamp, and the checkers take its writes for what they are. In the
end an operator removes it, and what the honest members promised has to hold among them.

`ATTACKS` are what must not harm, one function a kind. `BEYOND` are lies that no last-writer-wins cluster of this design
sees through: each is shown to harm, so that the day it no longer does is noticed (docs/threat-model.md).
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simulation.clocks import EPOCH_MS
from tests.simulation.history import Write
from wavekv.core.digest import BUCKETS
from wavekv.core.messages import Envelope, Listed, Page
from wavekv.core.types import Dot, Entry
from wavekv.errors import PeerError, WrongRole

if TYPE_CHECKING:
    from tests.simulation.world import World

NODE_ID = 0x0BAD_0001
ORIGIN = 0x0BAD_0002
HEARD_MAX = 200
PAGES_MAX = 400
"""Pages that it sends of one page without an end; a run would not end either."""
FAR = 2**60

Reply = Callable[[Envelope | PeerError], None]


class Slotless:
    """What the network asks of a process's slot."""

    def __init__(self, name: str) -> None:
        self.id = self.name = name


class Hostile:
    """The hostile member: what it heard, and what it sends."""

    alive = serving = True

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.slot = Slotless(name)
        self.inc = 1
        self.heard: deque[tuple[str, Envelope]] = deque(maxlen=HEARD_MAX)
        self.entries: dict[Dot, Entry] = {}
        """Entries of honest members that came by, verbatim."""
        self.acks: dict[int, int] = {}
        """What honest members said they cover, the greatest of each origin."""
        self.epoch: int | None = None
        self.answers: str = "quiet"
        self._seq = 0
        self._pages = 0

    def now(self) -> int:
        """Return the time, which it knows well, in ms."""
        return EPOCH_MS + self.world.now

    # ---- what it says -----------------------------------------------------------------------------------------------

    def message(self, **fields: Any) -> Envelope:
        """Return a message in its own name, in which nothing is claimed."""
        about = Envelope(
            sender_id=NODE_ID,
            sender_uuid=b"h" * 16,
            name=self.name,
            inc=self.inc,
            cluster_id=self.world.cluster_id,
            now_ms=self.now(),
            epoch=self.epoch,
        )
        return replace(about, **fields)

    def write(self, key: str, value: bytes | None, timestamp: int | None = None) -> Entry:
        """Return a new write of its own, which counts like any member's."""
        self._seq += 1
        entry = Entry(key, value, self.now() if timestamp is None else timestamp, ORIGIN, self._seq)
        self.world.history.add(Write(entry, self.name, self.world.now, orphan=True))
        return entry

    def unrecorded(self, key: str, value: bytes | None, timestamp: int) -> Entry:
        """Return a write that has to be refused, so that the checkers must never meet it."""
        return Entry(key, value, timestamp, ORIGIN, FAR + self._seq)

    def ahead_of_others(self, to: str) -> dict[int, int]:
        """Return sequences that other members than `to` have not written yet, as acknowledgements."""
        process = self.world.process_called(to)
        own = process.replica.origin if process is not None else 0
        return {origin: ack + 20 for origin, ack in self.acks.items() if origin not in (own, ORIGIN)}

    def origin_told(self) -> int | None:
        """Return the origin it names as its own, or none."""
        return self.world.rng.choice((None, ORIGIN))

    def send(self, to: str, kind: str, message: Envelope) -> None:
        """Send to an honest member."""
        self.world.count(f"hostile {kind}s")
        self.world.network.call(self, to, kind, message, self._answered)  # type: ignore[arg-type]

    def _answered(self, answer: Envelope | None, error: PeerError | None) -> None:
        if error is not None:
            self.world.count(f"hostile refused: {error.code}")
        if answer is not None:
            self._learn(answer)

    def do(self, attack: str, to: str) -> bool:
        """Carry out an attack on one member."""
        known = {**ATTACKS, **BEYOND}
        if attack not in known:
            raise ValueError(f"there is no attack {attack}")
        self.world.count(f"attack: {attack}")
        known[attack](self, to)
        return True

    # ---- what it hears ----------------------------------------------------------------------------------------------

    def _learn(self, message: Envelope) -> None:
        self.heard.append(("request", message))
        self.epoch = max(self.epoch or 0, message.epoch or 0) or None
        for entry in message.carried():
            if entry.origin != ORIGIN:
                self.entries[entry.dot] = entry
        for origin, ack in message.acks.items():
            self.acks[origin] = max(self.acks.get(origin, 0), ack)

    def receive(self, kind: str, message: Envelope, reply: Reply) -> None:
        """Answer an honest member as the last attack said."""
        self._learn(message)
        self.world.count(f"hostile answers: {self.answers}")
        answer = ANSWERS[self.answers](self, message) if kind == "request" else self.message(push_only=True)
        if answer is not None:
            reply(answer)

    def page_without_end(self) -> Envelope:
        """Return one more page."""
        self._pages += 1
        entry = self.write(f"hostile-{self._pages % 5}", b"page")
        page = Page(entry.dot, last=False) if self._pages % PAGES_MAX else None
        return self.message(entries=(entry,), page=page, page_pos=self._pages)

    @staticmethod
    def may_say(sender: str, message: Envelope) -> PeerError | None:
        """Return the refusal of a message that names another than its sender, as certificates make it."""
        if message.name == sender:
            return None
        return WrongRole(f"a message in the name of {message.name} from {sender}")


# ---- what must not harm ----------------------------------------------------------------------------------------------


def quiet(self: Hostile, _: str) -> None:
    """Answer everybody, with nothing."""
    self.answers = "quiet"


def hollow(self: Hostile, _: str) -> None:
    """Answer everybody with a message that says nothing."""
    self.answers = "hollow"


def covers_all(self: Hostile, _: str) -> None:
    """Report to cover all that anybody does, in answers whose context may not be adopted."""
    self.answers = "covering"


def silent(self: Hostile, _: str) -> None:
    """Answer nobody."""
    self.answers = "silent"


def endless(self: Hostile, _: str) -> None:
    """Answer every request with a page that is never the last."""
    self.answers = "endless"


def refusing(self: Hostile, _: str) -> None:
    """Answer every request with a message of another's name."""
    self.answers = "another's name"


def asks(self: Hostile, to: str) -> None:
    """Ask for all that a member holds, and learn what it covers."""
    self.send(to, "request", self.message(since=0))


def own_write(self: Hostile, to: str) -> None:
    """Write and delete keys of its own, the empty one too."""
    key = self.world.rng.choice(("", "hostile-1", "hostile-2"))
    value = self.world.rng.choice((None, b"v"))
    self.send(to, "push", self.message(entries=(self.write(key, value),), push_only=True))


def overwrite(self: Hostile, to: str) -> None:
    """Overwrite or delete a key of the honest, by a newer stamp: what any member may."""
    keys = sorted({entry.key for entry in self.entries.values()})
    if keys:
        entry = self.write(self.world.rng.choice(keys), self.world.rng.choice((None, b"overwritten")))
        self.send(to, "push", self.message(entries=(entry,), push_only=True))


def replay(self: Hostile, to: str) -> None:
    """Send old entries of honest members again, as they were."""
    chosen = [self.entries[dot] for dot in sorted(self.entries)][-50:]
    self.world.rng.shuffle(chosen)
    self.send(to, "push", self.message(entries=tuple(chosen[:10]), push_only=True))


def impersonate(self: Hostile, to: str) -> None:
    """Send what another member said, as that member, with a newer process."""
    if self.heard:
        kind, heard = self.world.rng.choice(list(self.heard))
        self.send(to, kind, replace(heard, inc=(heard.inc or 0) + self.world.rng.choice((0, 1, 10**6))))


def future(self: Hostile, to: str) -> None:
    """Stamp a key of everybody's further ahead than any clock may be."""
    entry = self.unrecorded("hot", b"for ever", self.now() + 10**12)
    self.send(to, "push", self.message(entries=(entry,), push_only=True))


def numbers(self: Hostile, to: str) -> None:
    """Be an older, a newer and a far process of itself."""
    self.inc = self.world.rng.choice((1, 2, self.now(), max(1, self.inc - 1)))
    self.send(to, "request", self.message(since=0))
    self.send(to, "request", self.message(since=0, inc=FAR))


def odd_pages(self: Hostile, to: str) -> None:
    """Ask for pages behind places that never were."""
    dot = (self.world.rng.choice((0, 1, ORIGIN)), self.world.rng.choice((0, 1, FAR)))
    self.send(to, "request", self.message(since=0, resume_from=dot, page_pos=self.world.rng.choice((0, 5, FAR))))
    self.send(to, "request", self.message(since=FAR, page=Page(dot, last=True), reset_acks=True))


def odd_lists(self: Hostile, to: str) -> None:
    """Send lists of what it does not hold, as one that heals."""
    listed = tuple(Listed(f"cold{number}", 1, ORIGIN, number + 1) for number in range(5))
    self.send(to, "request", self.message(since=0, healing=True, listed=listed, listed_of=FAR))
    self.send(to, "request", self.message(since=0, healing=True, listed=(), listed_of=1, listed_after="z"))


def clocks(self: Hostile, to: str) -> None:
    """Tell a clock far ahead or behind."""
    self.send(to, "request", self.message(since=0, now_ms=self.world.rng.choice((0, FAR, -FAR))))


def own_claims(self: Hostile, to: str) -> None:
    """Claim to cover writes of its own that it never made."""
    self.send(to, "request", self.message(since=0, dots={ORIGIN + 1: ((5, FAR),)}, acks={ORIGIN + 2: FAR}))


def far_floor(self: Hostile, to: str) -> None:
    """Tell a floor far ahead with a context that may be adopted: what is written next is stamped above it."""
    self.send(to, "request", self.message(since=0, floor=self.now() + 10**12))


def equivocate(self: Hostile, to: str) -> None:
    """Tell a value to one member and a delete to the others under one stamp."""
    entry = self.unrecorded("hostile-two", b"v", self.now())
    for name in self.world.names:
        told = entry if name == to else entry._replace(value=None)
        self.send(name, "push", self.message(entries=(told,), push_only=True))


def epoch(self: Hostile, to: str) -> None:
    """Tell of an epoch far ahead that leaves everybody out, unsigned."""
    self.send(to, "request", self.message(since=0, epoch=2**40, members=(self.name,)))


def cover_by_push(self: Hostile, to: str) -> None:
    """Claim that a push carries what honest members write next."""
    dots = {origin: ((1, ack),) for origin, ack in self.ahead_of_others(to).items()}
    self.send(to, "push", self.message(dots=dots, push_only=True))


def invent_origins(self: Hostile, to: str) -> None:
    """Write under origins that no process has, and claim to cover further ones."""
    first = self.world.rng.randrange(2**24, 2**32 - 100)
    made = [Entry(f"hostile-{at % 7}", b"v", self.now(), first + at, 1) for at in range(30)]
    for entry in made:
        self.world.history.add(Write(entry, self.name, self.world.now, orphan=True))
    self.send(to, "push", self.message(entries=tuple(made), push_only=True))
    acks = {first + 30 + at: FAR for at in range(30)}
    self.send(to, "request", self.message(since=0, floor=0, acks=acks))


def carry_by_push(self: Hostile, to: str) -> None:
    """Pass on the newest entry of each honest origin, as if it stood for all before it."""
    newest = {dot[0]: self.entries[dot] for dot in sorted(self.entries)}
    for origin, entry in sorted(newest.items()):
        dots = {origin: ((1, entry.seq),)}
        self.send(to, "push", self.message(entries=(entry,), dots=dots, push_only=True, origin=self.origin_told()))


def cover_unseen(self: Hostile, to: str) -> None:
    """Claim to cover what honest members write next, in a context that may be adopted."""
    self.send(to, "request", self.message(since=0, floor=0, acks=self.ahead_of_others(to)))


def cover_told(self: Hostile, to: str) -> None:
    """Claim to cover exactly what honest members said they cover, without sending it."""
    acks = {origin: ack for origin, ack in self.acks.items() if origin != ORIGIN}
    self.send(to, "request", self.message(since=0, floor=0, acks=acks, origin=self.origin_told()))


def cover_ranges(self: Hostile, to: str) -> None:
    """Claim single ranges far above what honest members have written."""
    dots = {origin: ((ack + 2, FAR),) for origin, ack in self.ahead_of_others(to).items() if ack + 2 <= FAR}
    self.send(to, "request", self.message(since=0, floor=0, dots=dots))


def answers_ahead(self: Hostile, _: str) -> None:
    """Answer who is trusted with a context that may be adopted, and covers what honest members write next."""
    self.answers = "ahead"


def others_origin(self: Hostile, to: str) -> None:
    """Name another member's origin as its own, to who has heard of its owner, and claim what that one writes next."""
    process = self.world.process_called(to)
    for origin, ack in sorted(self.ahead_of_others(to).items()):
        if process is not None and process.replica.vouching.owners(origin) not in ((), (self.name,)):
            self.send(to, "request", self.message(since=0, floor=0, acks={origin: ack}, origin=origin))


# ---- lies that harm --------------------------------------------------------------------------------------------------


def first_to_name(self: Hostile, to: str) -> None:
    """Name another member's origin as its own, to who has not heard its owner since that one began it."""
    process = self.world.process_called(to)
    for origin, ack in sorted(self.ahead_of_others(to).items()):
        if process is not None and not process.replica.vouching.owners(origin):
            self.send(to, "request", self.message(since=0, floor=0, acks={origin: ack}, origin=origin))


def forge(self: Hostile, to: str) -> None:
    """Answer with other values under the stamps of honest writes, to who has not seen them yet."""
    del to
    self.answers = "forged"


ATTACKS: dict[str, Callable[[Hostile, str], None]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        asks, quiet, hollow, covers_all, silent, endless, refusing, own_write, overwrite, replay, impersonate, future,
        numbers, odd_pages, odd_lists, clocks, own_claims, far_floor, equivocate, epoch, cover_by_push,
        invent_origins, carry_by_push, cover_unseen, cover_told, cover_ranges, answers_ahead, others_origin,
    )
}  # fmt: skip
BEYOND: dict[str, Callable[[Hostile, str], None]] = {
    made.__name__.replace("_", "-"): made for made in (first_to_name, forge)
}


def _quiet(self: Hostile, request: Envelope) -> Envelope:
    """Answer as an honest member that holds nothing."""
    if request.listed is None:
        return self.message(floor=0, buckets=(0,) * BUCKETS)
    part = {"listed_of": request.listed_of, "listed_after": request.listed_after, "listed_upto": request.listed_upto}
    return self.message(listed=(), **part)


def _forged(self: Hostile, _: Envelope) -> Envelope:
    forged = tuple(self.entries[dot]._replace(value=b"forged") for dot in sorted(self.entries)[-20:])
    return self.message(entries=forged)


def _ahead(self: Hostile, request: Envelope) -> Envelope:
    """Answer who heals as a member that holds nothing: what it is told then is believed of who cannot be heard."""
    if request.healing or request.listed is not None:
        return _quiet(self, request)
    return self.message(acks={origin: ack + 20 for origin, ack in self.acks.items() if origin != ORIGIN}, floor=0)


ANSWERS: dict[str, Callable[[Hostile, Envelope], Envelope | None]] = {
    "quiet": _quiet,
    "covering": lambda self, _: self.message(acks=dict(self.acks)),
    "ahead": _ahead,
    "hollow": lambda self, _: self.message(),
    "silent": lambda self, _: None,
    "endless": lambda self, _: self.page_without_end(),
    "another's name": lambda self, _: self.message(name="m0", inc=FAR),
    "forged": _forged,
}
