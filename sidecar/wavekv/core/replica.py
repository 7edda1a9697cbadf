"""The engine of one member: `step` stages, `ready` hands out a commit group, `advance` shows it. No I/O.

    step(command, now_ms)  decides against what is stored *and* staged, and queues log operations
    ready()                → the group that has to be on disk next, one at a time
    advance(group)         folds the durable group into the store; only now do readers and peers see it (G5, I4)
    abandon()              the group never reached the disk: everything staged is forgotten, sequences included

A step returns a ticket: what it promises may be told once `durable_ticket` has reached it (G1). Rules R1–R4, R7 and
R8 live here and in the modules below; `exchange` builds on it for the two sides of a round.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from wavekv.config import Limits
from wavekv.core.clock import write_timestamp
from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.context import Context
from wavekv.core.membership import Membership
from wavekv.core.messages import Ranges
from wavekv.core.ops import Cover, Floor, Op, Process, Set, SetExpiring, UpdateLocalAck, storing
from wavekv.core.reports import Reports
from wavekv.core.store import Store, entry_bytes
from wavekv.core.types import U32_MAX, Dot, Entry, beats
from wavekv.errors import Draining, KeyNotFound, LimitReached, Removed, Starting, Stopping, TooManyWaiting

CARRIED_SPAN_MAX = 65_536
"""Sequences one push may stand for (G9); it names more only by mistake or malice."""


class Rng(Protocol):
    """The randomness the core asks for."""

    def random_u32(self) -> int:
        """Return a uniform number in 0 … 2**32-1."""
        ...


class Identity(NamedTuple):
    """Who this process is: born with the directory, but for `inc`, which is one process start's."""

    name: str
    node_id: int
    uuid: bytes
    inc: int
    first_origin: int | None
    """The origin of a new directory's first process; None: draw one at the first write (R7)."""


class Group(NamedTuple):
    """Operations that become durable together; `ticket` is the last that they fulfil."""

    ops: tuple[Op, ...]
    next_seq: int
    ticket: int


class Staged(NamedTuple):
    """A local write that waits for `ticket`: the entry, and whether the key held no live value before."""

    ticket: int
    entry: Entry
    created: bool


@dataclass(slots=True)
class Merged:
    """What became of another member's entries; they are safe once `ticket` is durable."""

    ticket: int = 0
    stored: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Replica:
    """The state machine of one member; see the module."""

    def __init__(self, identity: Identity, store: Store, membership: Membership, limits: Limits, rng: Rng) -> None:
        self.identity = identity
        self.store = store
        self.membership = membership
        self.limits = limits
        self.reports = Reports(identity.name, identity.uuid)
        self.healed_with: set[str] = set()
        self.durable_ticket = 0
        self.writable: Starting | Draining | Removed | Stopping | None = Starting(
            "the member has not joined its peers yet; try again"
        )
        """Why local writes are refused; None: they are accepted."""
        self.refused: Counter[str] = Counter()
        self._rng = rng
        self._ticket = 0
        self._in_flight: Group | None = None
        self._ops: list[Op] = []
        self._origins: set[int] = set()
        self._heeded = membership.admission()
        self._reset_staged()
        self._ops.append(Process(identity.inc, 0, self.healing))
        self._ticket = 1

    def _reset_staged(self) -> None:
        """Make what is staged equal what is stored."""
        process = self.store.process
        self._entries: dict[str, Entry] = {}
        self._staged_dots: dict[Dot, str] = {}
        self._covered = self.store.context.copy()
        self._floor = self.store.floor
        self._origin = process.origin if process.inc == self.identity.inc else 0
        self._next_seq = self.store.next_seq if self._origin else 1
        self._held_keys = len(self.store.entries)
        self._held_bytes = self.store.size_bytes
        self._waiting = self._waiting_bytes = 0
        mine = process.inc == self.identity.inc
        self.healing = process.healing if mine else bool(self.membership.others())
        if self.healing:
            self.healed_with = set()

    # ---- the loop: ready, advance, abandon -------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Local writes staged and not yet durable."""
        return self._waiting

    @property
    def last_ticket(self) -> int:
        """The ticket of the newest step."""
        return self._ticket

    @property
    def origin(self) -> int:
        """The origin this process writes under; 0 before its first write."""
        return self._origin

    def ready(self) -> Group | None:
        """Return the next group to persist; None while one is out, or when nothing is staged."""
        if self._in_flight is not None or not self._ops:
            return None
        self._in_flight = Group(tuple(self._ops), self._next_seq, self._ticket)
        self._ops.clear()
        return self._in_flight

    def advance(self, group: Group) -> None:
        """Show `group`, which is durable now."""
        assert group is self._in_flight, "groups become durable in the order they were handed out"
        self._in_flight = None
        for op in group.ops:
            self.store.apply(op)
            if isinstance(op, Set | SetExpiring):
                self._unstage(op.entry)
        self.store.next_seq = group.next_seq
        self.durable_ticket = group.ticket

    def _unstage(self, entry: Entry) -> None:
        self._staged_dots.pop(entry.dot, None)
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        if entry.origin in self._origins:
            self._waiting -= 1
            self._waiting_bytes -= len(entry.value or b"")

    def abandon(self) -> None:
        """Forget all that is staged: its group is not on disk. Whoever waits for a ticket has to be told at once.

        The void tickets count as settled afterwards: a later step that stages nothing must not wait for them.
        """
        self._in_flight = None
        self._ops.clear()
        self._reset_staged()
        self.durable_ticket = self._ticket
        if self.store.process.inc != self.identity.inc:
            self._stage(Process(self.identity.inc, 0, self.healing))
        elif self.membership.must_heal() and not self.healing:
            self._begin_healing()

    def _stage(self, *ops: Op) -> int:
        self._ops.extend(ops)
        self._ticket += 1
        return self._ticket

    # ---- R1: local writes ------------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes, now_ms: int, condition: Condition = ALWAYS) -> Staged:
        """Stage `value` under `key`.

        Raises:
            UnavailableError: starting, draining, too many waiting, or at 90 % of a limit; nothing is staged.
            PreconditionFailed: what is stored or staged does not meet `condition`; safe to tell once `last_ticket` is
                durable, because it may speak of a staged value.
        """
        held = self._held(key)
        self._check_writable()
        condition.check(held if held is not None and held.alive(now_ms) else None)
        growth = len(value) - (len(held.value or b"") if held else -len(key.encode()))
        self._check_room(held is None, growth)
        return self._write(key, value, held, now_ms)

    def delete(self, key: str, now_ms: int, condition: Condition = ALWAYS) -> Staged:
        """Stage a tombstone over the live value of `key`.

        Raises:
            KeyNotFound: the key holds no live value, staged writes included; no tombstone is made.
            PreconditionFailed: as for `put`.
            UnavailableError: as for `put`, but for the limits: a delete needs no new room.
        """
        held = self._held(key)
        self._check_writable()
        live = held if held is not None and held.alive(now_ms) else None
        condition.check(live)
        if live is None:
            raise KeyNotFound(f"{key!r} holds no value")
        return self._write(key, None, held, now_ms)

    def _held(self, key: str) -> Entry | None:
        return self._entries.get(key) or self.store.entries.get(key)

    def _check_writable(self) -> None:
        if self.writable is not None:
            raise self.writable.with_traceback(None)  # one object, raised often: it must not gather frames
        if self._waiting >= self.limits.waiting_writes_max:
            raise TooManyWaiting(f"{self._waiting} writes wait for the disk; try again")
        if self._waiting_bytes >= self.limits.waiting_bytes_max:
            raise TooManyWaiting(f"{self._waiting_bytes} bytes wait for the disk; try again")

    def _check_room(self, new_key: bool, growth_bytes: int) -> None:
        share = self.limits.local_fill_ratio_max
        if new_key and self._held_keys >= int(self.limits.entries_max * share):
            raise LimitReached(f"{self._held_keys} entries are held; delete some, or raise the limit")
        if growth_bytes > 0 and self._held_bytes + growth_bytes > int(self.limits.bytes_max * share):
            raise LimitReached(f"{self._held_bytes} bytes are held; delete some, or raise the limit")

    def _write(self, key: str, value: bytes | None, held: Entry | None, now_ms: int) -> Staged:
        if not self._origin:
            self._begin_origin()
        created = held is None or not held.alive(now_ms)
        entry = Entry(key, value, write_timestamp(now_ms, held, self._floor), self._origin, self._next_seq)
        self._next_seq += 1
        self._waiting += 1
        self._waiting_bytes += len(value or b"")
        return Staged(self._stage_entry(entry, held), entry, created)

    def _begin_origin(self) -> None:
        """R7: no process writes under an origin that an earlier one used."""
        origin = self.identity.first_origin
        taken = self._covered.acks
        while origin is None or origin == 0 or origin in taken or self._covered.ranges_of(origin):
            origin = self._rng.random_u32() & U32_MAX
            origin = None if origin == self.identity.node_id else origin
        self._origin, self._next_seq = origin, 1
        self._origins.add(origin)
        self._ops.append(Process(self.identity.inc, origin, self.healing))

    def _stage_entry(self, entry: Entry, held: Entry | None) -> int:
        self._held_keys += held is None
        self._held_bytes += entry_bytes(entry) - (entry_bytes(held) if held is not None else 0)
        self._entries[entry.key] = entry
        self._staged_dots[entry.dot] = entry.key
        self._covered.add(entry.origin, entry.seq)
        return self._stage(storing(entry))

    # ---- R2, R4: other members' entries ----------------------------------------------------------------------------

    def merge(self, entries: Sequence[Entry], now_ms: int, *, pushed: bool = False) -> Merged:
        """Stage what wins of `entries`, and the dots of all of them; refusals are counted, the rest is taken."""
        merged = Merged()
        losers = Context()
        for entry in entries:
            held = self._held(entry.key)
            code = self._refusal(entry, held, now_ms, pushed)
            if code is not None:
                merged.refused[code] += 1
            elif held is not None and beats(entry, held):
                self._stage_entry(entry, held)
                merged.stored += 1
            elif held is None and self._dot_of_another_key(entry):
                self._stage_entry(entry, None)
                merged.stored += 1
            elif self._covered.covers(entry.origin, entry.seq):
                continue
            elif held is None:
                self._stage_entry(entry, None)
                merged.stored += 1
            else:
                losers.add_range(entry.origin, entry.seq, entry.seq)
                self._covered.add(entry.origin, entry.seq)
        self._stage_covers(losers)
        self.refused.update(merged.refused)
        merged.ticket = self._ticket
        return merged

    def _dot_of_another_key(self, entry: Entry) -> bool:
        """Only crate nodes give two keys one dot; that one key covers it says nothing of the other."""
        keys = self.store.keys_of(entry.origin, entry.seq) or (self._staged_dots.get(entry.dot, entry.key),)
        return entry.key not in keys

    def _refusal(self, entry: Entry, held: Entry | None, now_ms: int, pushed: bool) -> str | None:
        """Return the code of why `entry` cannot be merged, None if it can."""
        limits = self.limits
        code = self._wire_refusal(entry, now_ms)
        if code is not None:
            return code
        if entry.seq < 1:
            return "bad_sequence"
        if self._claims_mine(entry.origin, entry.seq):
            return "claimed_sequence"
        if pushed and self._covered.range_count >= limits.dots_max and self._covered.opens_range(*entry.dot):
            return "too_many_dots"
        if held is None and (self._held_keys >= limits.entries_max or self._held_bytes >= limits.bytes_max):
            return "limit_reached"
        return None

    def _wire_refusal(self, entry: Entry, now_ms: int) -> str | None:
        """The limits that the original system sets on what travels; exactly at one is fine. Smaller: for clients."""
        limits = self.limits
        if len(entry.key) > limits.wire_key_bytes_max or len(entry.key.encode()) > limits.wire_key_bytes_max:
            return "key_too_large"
        if entry.value is not None and len(entry.value) > limits.wire_value_bytes_max:
            return "value_too_large"
        return "future_timestamp" if entry.timestamp > now_ms + limits.future_ms_max else None

    def _claims_mine(self, origin: int, seq: int) -> bool:
        """A sequence of ours that we never issued."""
        return origin == self._origin != 0 and seq >= self._next_seq

    def _stage_covers(self, dots: Context) -> None:
        covers = [Cover(origin, 1, ack) for origin, ack in dots.acks.items()]
        covers += [Cover(*found) for found in dots.ranges()]
        if covers:
            self._stage(*covers)

    def cover(self, dots: dict[int, Ranges]) -> int:
        """Stage the ranges that a push carried in full; return the ticket.

        A range longer than any push stands for, and one above the bound on ranges, is left to the exchange.
        """
        ops: list[Op] = []
        for origin, ranges in dots.items():
            for first, last in ranges:
                opens = self._covered.range_count >= self.limits.dots_max and self._covered.opens_range(origin, first)
                if last - first < CARRIED_SPAN_MAX and not opens:
                    self._cover_range(ops, origin, first, last)
        return self._stage(*ops) if ops else self._ticket

    def _cover_range(self, ops: list[Op], origin: int, first: int, last: int) -> None:
        if self._claims_mine(origin, last):
            self.refused["claimed_sequence"] += 1
        elif not self._covered.covers_range(origin, first, last):
            self._covered.add_range(origin, first, last)
            ops.append(Cover(origin, first, last))

    # ---- R3: adoption, and the end of healing; R9: its beginning ---------------------------------------------------

    def adopt(self, theirs: Context, floor: int) -> int:
        """Stage the join of a context whose every entry has been merged; return the ticket."""
        ops: list[Op] = []
        for origin, ack in sorted(theirs.acks.items()):
            if self._claims_mine(origin, ack):
                self.refused["claimed_sequence"] += 1
            elif origin not in self._covered.acks and len(self._covered.acks) >= self.limits.origins_max:
                self.refused["too_many_origins"] += 1
            elif ack > self._covered.acks.get(origin, 0):
                self._covered.add_range(origin, 1, ack)
                ops.append(UpdateLocalAck(origin, ack))
        for origin, first, last in theirs.ranges():
            self._cover_range(ops, origin, first, last)
        if floor > self._floor:
            self._floor = floor
            ops.append(Floor(floor))
        return self._stage(*ops) if ops else self._ticket

    def end_healing(self) -> int:
        """Stage that this volume has been repaired (R7); return the ticket."""
        self.healing = False
        return self._stage(Process(self.identity.inc, self._origin, False))

    def heed_admission(self) -> None:
        """Begin to heal, in the midst of a process, if a newer epoch admitted this member anew (R9)."""
        admission = self.membership.admission()
        if admission > self._heeded:
            self._heeded = admission
            if self.membership.must_heal():
                self._begin_healing()

    def _begin_healing(self) -> None:
        """Adopt nothing until healed, and write on under another origin, as a new process would."""
        self.healing, self.healed_with = True, set()
        self._origin, self._next_seq = 0, 1
        self._stage(Process(self.identity.inc, 0, True))
