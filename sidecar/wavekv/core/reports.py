"""What the other members last said of themselves: their durable contexts, by member name (R3b, R5, R8).

Volatile on purpose: a report filters what is sent, shows lag and lets deletes be collected, and is asked for anew after
a restart. A context grows within one process of its sender, so reports of one process are joined; a newer process
begins anew.
"""

from binascii import b2a_base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from wavekv.config import Limits
from wavekv.core.context import Context
from wavekv.core.identity import Identity
from wavekv.core.messages import Envelope
from wavekv.errors import FutureProcess, IdentityMismatch, SameProcess, StaleProcess, Superseded

PEERS_MAX = 4096
"""Senders remembered (G9); over it the one heard longest ago is forgotten, which costs a fuller exchange."""


class Included(NamedTuple):
    """A report of which this member covers all: its context, and its sender's clock (ms) then, if it was told."""

    context: Context
    clock_ms: int | None
    promised: int | None = None
    """What the sender writes outside of this context is stamped above it (ms), R15."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """That some origins will be dropped: what was covered of them, and the horizon (ms) behind which all is dead (R15).

    `number` counts agreements from 1.
    """

    number: int
    horizon: int
    since_ms: int
    basis: Context


@dataclass(slots=True)
class Report:
    """One sender's context: the process, the time (ms, ours and theirs) and the place among all heard it came with.

    `included` is the newest report of that process that this member came to cover (R5): the newest of all may always be
    a few writes ahead. `suspects` are buckets that differ although both cover the same (`core.repair`).
    """

    inc: int
    context: Context
    heard_ms: int
    clock_ms: int | None = None
    buckets: tuple[int, ...] | None = None
    healing: bool = False
    epoch: int | None = None
    order: int = 0
    included: Included | None = None
    takes_block: bool = False
    promised: int | None = None
    """What the sender writes outside of `context` is stamped above it (ms), R15."""
    origin: int | None = None
    told_at: int = 0
    """The newest agreement there was when it last told what it covers."""
    renew: bool = False
    """The next context that is told takes the place of what was joined: something in it is told no more (R15)."""
    told: frozenset[int] = frozenset()
    """Which of the origins agreed on it told then."""
    suspects: dict[int, tuple[int, int]] = field(default_factory=dict)
    counted: int = 0
    """Its `items` when it was heard last."""
    rival: bool = False
    """An older process of this name spoke meanwhile, and has to be shown what it is superseded by."""
    claim: bytes | None = None
    """What this process gave to be shown to it."""

    @property
    def claim_wanted(self) -> bool:
        """Tell whether an older process is to be shown a claim that is not here yet."""
        return self.rival and self.claim is None

    @property
    def items(self) -> int:
        """Origins and ranges that it keeps, twice where `included` is an older one."""
        older = self.included is not None and self.included.context is not self.context
        return (len(self.context.acks) + self.context.range_count) * (2 if older else 1)

    def include(self, mine: Context) -> None:
        """Take note if `mine`, this member's durable context, covers all of this report by now."""
        seen = self.included
        if (seen is not None and seen.context is self.context) or mine.includes(self.context):
            self.included = Included(self.context, self.clock_ms, self.promised)

    def join(self, message: Envelope, items_max: int) -> None:
        """Cover what `message` covers, too; a context that `included` keeps stays as it was.

        One that would grow beyond `items_max` begins anew with `message`: it is made of what no process covered.
        """
        if not (message.acks or message.dots):
            return  # a receipt has no context; a copy for each would cost a large cluster much
        if self.renew:
            self.context, self.renew = Context(), False
        elif self.included is not None and self.included.context is self.context:
            self.context = self.context.copy()
        self.context.join(message.acks, message.dots)
        if len(self.context.acks) + self.context.range_count > items_max:
            self.context = Context.told(message.acks, message.dots)


def sender_of(message: Envelope) -> str:
    """Return the name a report is kept under; crate nodes have none and go by their node id."""
    return message.name if message.name is not None else f"crate-{message.sender_id}"


def _bound(book: dict[Any, Any]) -> None:
    while len(book) > PEERS_MAX:
        del book[next(iter(book))]


class Reports:
    """The last report of each sender."""

    def __init__(self, identity: Identity, limits: Limits, *, crates: bool = False) -> None:
        self._own_name = identity.name
        self._own_node_id = identity.node_id
        self._own_uuid = identity.uuid
        self._own_inc = identity.inc
        self.superseded_by = 0
        """The newest process heard under our own name, if it is newer than this one (R8); 0: none is."""
        self.claim_wanted = False
        """A peer refuses an older process of our name, and asks for what it can show to it."""
        self.own_claim: bytes | None = None
        """What it can show: this process's number, signed. It goes out with every message from then on."""
        self._by_name: dict[str, Report] = {}
        self._items = 0
        """Origins and ranges in all of them."""
        self._items_max = limits.reported_items_max
        self._context_max = limits.origins_max + limits.dots_max
        self._uuids: dict[int, bytes] = {}
        self._volumes: dict[str, tuple[int, int]] = {}
        """Name → node id of the volume and number of the process that was heard last under it."""
        self.dropped: Mapping[int, int] = {}
        """Origins that this member has dropped, with the greatest sequence it covered of each (R15)."""
        self.covered = Context()
        """What this member covers, durably."""
        self.agreed: dict[int, Agreement] = {}
        """Origin → the agreement to drop it (R15); told no more, and not asked of others."""
        self.agreements = 0
        """Agreements made so far."""
        self.count = 0
        """Reports heard so far."""
        self.crates = crates
        """A node of the original system is a member: it is configured, or spoke to this process (R14)."""

    def check(self, message: Envelope, inc_max: int, *, governed: bool = False) -> None:
        """Refuse a sender that is not who it says, or that a newer process has replaced.

        Two volumes of one node id are refused where ids are given by flags, whichever is heard second. Under an
        operator (`governed`) they are drawn, and the first to claim another's could shut that one out; there a member
        refuses those alone that claim its own.

        Raises:
            IdentityMismatch: the uuid is not the one known for its node id.
            StaleProcess: a newer process of that name was heard, or is this one.
            Superseded: the name is ours and the process newer than this one, whose end that is.
            SameProcess: this process sent it.
            FutureProcess: its number, a time, is beyond `inc_max`; it would lock out every honest process after it.
        """
        if message.inc is not None and message.inc > inc_max:
            raise FutureProcess(f"process {message.inc} of {sender_of(message)} began in the future; set its clock")
        if message.name == self._own_name:
            self._check_own(message, inc_max)
        known = self._own_uuid if message.sender_id == self._own_node_id else self._uuids.get(message.sender_id)
        if governed and message.sender_id != self._own_node_id:
            known = None
        if known and message.sender_uuid and known != message.sender_uuid:
            raise IdentityMismatch(f"node {message.sender_id} is known under another uuid; two nodes share one id")
        held = self._by_name.get(sender_of(message))
        if held is not None and message.inc is not None and message.inc < held.inc:
            name, held.rival = sender_of(message), True
            claim = "" if held.claim is None else b2a_base64(held.claim, newline=False).decode()
            raise StaleProcess(f"process {message.inc} of {name} was superseded by {held.inc}", name, held.inc, claim)

    def _check_own(self, message: Envelope, inc_max: int) -> None:
        """Refuse a message under our own name, and note if its process is newer."""
        inc, name = message.inc or 0, self._own_name
        if inc == self._own_inc and message.sender_uuid == self._own_uuid:
            raise SameProcess(
                f"the message is this member's own: an address given for a peer of {name} leads back here"
            )
        if self.superseded(name, inc, inc_max):
            raise Superseded(f"process {self._own_inc} of {name} was superseded by {inc}")
        raise StaleProcess(
            f"two members are called {name}: give each its own --name; process {self._own_inc} is the newer one",
            name,
            self._own_inc,
        )

    def superseded(self, name: str, inc: int, inc_max: int) -> bool:
        """Note that process `inc` of `name` was heard, here or by a peer; tell whether it supersedes this process.

        A number beyond `inc_max` is no time at which a process can have begun, and ends nobody.
        """
        if name != self._own_name or not self._own_inc < inc <= inc_max:
            return False
        self.superseded_by = max(self.superseded_by, inc)
        return True

    def hear(self, message: Envelope, now_ms: int) -> Report:
        """Take the context in `message` as its sender's report.

        When a process is first heard, what other names said from its volume is forgotten: they have another one now, or
        none. Not at every message: clones of one volume may serve under two names for good.
        """
        name, inc = sender_of(message), message.inc or 0
        if self._volumes.pop(name, None) != (message.sender_id, inc):
            for other, (node_id, _) in self._volumes.items():
                if node_id == message.sender_id:
                    self._forget(other)
        self._volumes[name] = (message.sender_id, inc)
        self.crates |= message.name is None
        news = self._without_dropped(message)
        held = self._by_name.pop(name, None)
        if held is None or held.inc != inc or message.inc is None:
            before = 0 if held is None else held.counted
            held = Report(inc, Context.told(news.acks, news.dots), now_ms, counted=before)
        else:
            held.join(news, self._context_max)
        held.heard_ms, held.clock_ms, held.healing = now_ms, message.now_ms, message.healing
        held.buckets, held.epoch = message.buckets, message.epoch
        held.takes_block |= message.takes_block
        held.claim = message.claim or held.claim
        self._note_dead_origins(held, message)
        self.count += 1
        held.order = self.count
        self._by_name[name] = held
        self._uuids[message.sender_id] = message.sender_uuid
        self._items += held.items - held.counted
        held.counted = held.items
        self._bound_reports()
        _bound(self._uuids)
        _bound(self._volumes)
        return held

    def _bound_reports(self) -> None:
        """Forget the reports heard longest ago while they are too many, or too large together."""
        while len(self._by_name) > PEERS_MAX or (self._items > self._items_max and len(self._by_name) > 1):
            self._forget(next(iter(self._by_name)))

    def _forget(self, name: str) -> None:
        gone = self._by_name.pop(name, None)
        if gone is not None:
            self._items -= gone.counted

    def _without_dropped(self, message: Envelope) -> Envelope:
        """Return the message without what this member dropped and has not taken back; a late one would be missed (R5).

        Its sender told it before it dropped it, too, and never will again.
        """
        dropped, covered = self.dropped, self.covered
        gone: set[int] = set()
        for origin in dropped.keys() & (message.acks.keys() | message.dots.keys()) if dropped else ():
            greatest = max([message.acks.get(origin, 0), *(last for _, last in message.dots.get(origin, ()))])
            if greatest <= dropped[origin] and not covered.greatest(origin):
                gone.add(origin)
        if not gone:
            return message
        acks = {origin: ack for origin, ack in message.acks.items() if origin not in gone}
        return replace(message, acks=acks, dots={o: ranges for o, ranges in message.dots.items() if o not in gone})

    def _note_dead_origins(self, held: Report, message: Envelope) -> None:
        """R15: a promise speaks of the context that comes with it, and that context says which origins are told yet."""
        held.origin = message.origin  # a process that is admitted anew begins another one
        if not (message.acks or message.dots or message.floor is not None):
            return
        if message.promised is not None:
            held.promised = max(message.promised, held.promised or message.promised)
        held.told_at = self.agreements
        if self.agreed or held.told:
            agreed = self.agreed.keys()
            held.told = frozenset(agreed & message.acks.keys()) | frozenset(agreed & message.dots.keys())

    def drop(self, origins: Collection[int]) -> None:
        """Forget what the reports cover of `origins`, which this member drops."""
        for report in self._by_name.values():
            report.context.drop(origins)
            if report.included is not None and report.included.context is not report.context:
                report.included.context.drop(origins)

    def of(self, name: str) -> Report | None:
        """Return the last report of `name`."""
        return self._by_name.get(name)

    def heard(self) -> dict[str, Report]:
        """Return all reports by name."""
        return dict(self._by_name)
