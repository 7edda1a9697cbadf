"""The engine of one member: `step` stages, `ready` hands out a commit group, `advance` shows it. No I/O.

    step(command, now_ms)  decides against what is stored *and* staged, and queues log operations
    ready()                → the group that has to be on disk next, one at a time
    advance(group)         folds the durable group into the store; only now do readers and peers see it (G5, I4)
    abandon()              the group never reached the disk: everything staged is forgotten, sequences included

A step returns a ticket: what it promises may be told once `durable_ticket` has reached it (G1). Rules R1–R4, R7 and
R8 live here and in the modules below; `exchange` builds on it for the two sides of a round.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from wavekv.config import Limits
from wavekv.core.adoption import adopted, block_fits, carried, covering, dot_refusal, growth_refusal
from wavekv.core.block import Block
from wavekv.core.clock import write_timestamp
from wavekv.core.condition import ALWAYS, Condition
from wavekv.core.context import Context
from wavekv.core.fitting import check_batch, check_room, fits_whole, merge_refusal
from wavekv.core.identity import Identity, Rng, fresh_origin
from wavekv.core.journal import Journal
from wavekv.core.membership import Membership
from wavekv.core.messages import Ranges
from wavekv.core.newcomers import Newcomers
from wavekv.core.ops import (
    Agreed,
    Batch,
    Clear,
    Floor,
    Op,
    Process,
    Set,
    SetExpiring,
    SetNextSeq,
    StoreBlock,
    parted,
    storing,
)
from wavekv.core.planning import Planned, decide, decide_all
from wavekv.core.reports import Reports
from wavekv.core.staging import Staging
from wavekv.core.steps import Group, Merged, Refusal, Slices, Staged, StagedBatch, whole
from wavekv.core.store import Store
from wavekv.core.types import I64_MIN, Dot, Entry, beats
from wavekv.core.vouching import Vouching
from wavekv.core.waiting import WaitingWrites
from wavekv.core.writes import Delete, Put, Write
from wavekv.errors import CratePeers, DiskFull, KeyNotFound, Starting, UnavailableError


class Replica:
    """The state machine of one member; see the module."""

    def __init__(self, identity: Identity, store: Store, membership: Membership, limits: Limits, rng: Rng) -> None:
        self.identity = identity
        self.store = store
        self.membership = membership
        self.limits = limits
        self.reports = Reports(identity, limits, crates=membership.has_crates)
        self.vouching = Vouching(membership.others, membership.belongs)
        self._newcomers = Newcomers(self.vouching, limits)
        self.journal = Journal(limits.journal_entries_max)
        self.healed_with: set[str] = set()
        self.durable_ticket = 0
        self.writable: UnavailableError | None = Starting("the member has not joined its peers yet; try again")
        """Why local writes are refused; None: they are accepted."""
        self.full: DiskFull | None = None
        """Why values are refused, local and merged ones; deletes are not."""
        self.refused: Counter[str] = Counter()
        self.abandoned = 0
        """How often what was staged was forgotten; who stages in several steps sees whether it was."""
        self.collected = 0
        """Deletes forgotten since this process started."""
        self.last_refusal: Refusal | None = None
        self._rng = rng
        self._ticket = 0
        self._in_flight: Group | None = None
        self._ops: list[Op] = []
        self._heeded = (membership.restarts, membership.admission())
        self._compared = store.process.inc == 0 or membership.has_others()
        """This volume is new, or was compared with another one since the process started, or is going to be."""
        self._reset_staged()
        self._ops.append(Process(identity.inc, 0, self.healing))
        self._ticket = 1

    def _reset_staged(self) -> None:
        """Make what is staged equal what is stored."""
        process = self.store.process
        self.vouching.forget_words()
        self._staging = Staging(self.store)
        self._origin = process.origin if process.inc == self.identity.inc else 0
        self._next_seq = self.store.next_seq if self._origin else 1
        self._watched_from = min(self.limits.dots_max, self.limits.fill_ranges_max, self.limits.origins_max)
        self._waiting = WaitingWrites(self.limits)
        self._losses: list[tuple[Entry, Entry, int]] = []
        self._out_losses: list[tuple[Entry, Entry, int]] = []
        self._withdrawn: list[str] = []
        mine = process.inc == self.identity.inc
        self.healing = process.healing if mine else self.membership.has_others()
        if self.healing:
            self.healed_with = set()

    # ---- the loop: ready, advance, abandon -------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Local writes staged and not yet durable."""
        return self._waiting.count

    @property
    def last_ticket(self) -> int:
        """The ticket of the newest step."""
        return self._ticket

    @property
    def trusted(self) -> bool:
        """Tell whether this volume has healed, durably: what it shows others is durable too (I4)."""
        return not self.healing and not self.store.process.healing

    @property
    def covered(self) -> Context:
        """What will be covered once all that is staged is durable."""
        return self._staging.covered

    @property
    def origin(self) -> int:
        """The origin this process writes under; 0 before its first write."""
        return self._origin

    def ready(self) -> Group | None:
        """Return the next group to persist; None while one is out, or when nothing is staged."""
        if self._in_flight is not None or not self._ops:
            return None
        self._in_flight = Group(tuple(self._ops), self._next_seq, self._ticket, frozenset(self._withdrawn))
        self._ops.clear()
        self._withdrawn.clear()
        self._waiting.hand_out()
        self._out_losses, self._losses = self._losses, []
        return self._in_flight

    def advance(self, group: Group) -> None:
        """Show `group`, which is durable now."""
        whole(self.advance_in_slices(group))

    def advance_in_slices(self, group: Group) -> Slices[None]:
        """Show `group`, which is durable now, a slice at a time; other steps may come in between, no other group."""
        assert group is self._in_flight, "groups become durable in the order they were handed out"
        self.store.apply(SetNextSeq(group.next_seq))  # the record that begins every group
        for place, part in enumerate(parted(group.ops, self.limits.merge_slice_entries)):
            if place:
                yield
            for op in part:
                self.store.apply(op)
        self._in_flight = None
        self._staging.settle(group)
        self._waiting.settle()
        for loss in self._out_losses:
            self.journal.lost(*loss)
        self.durable_ticket = group.ticket

    def abandon(self) -> None:
        """Forget all that is staged: its group is not on disk. Whoever waits for a ticket has to be told at once.

        The void tickets count as settled afterwards: a later step that stages nothing must not wait for them.
        """
        self._in_flight = None
        self.abandoned += 1
        self._ops.clear()
        kept = self._staging.removals()
        self._reset_staged()
        self.store.bury(kept)
        self.durable_ticket = self._ticket
        if self.store.process.inc < self.identity.inc:
            self._stage(Process(self.identity.inc, 0, self.healing))
        elif self.membership.must_heal() and not self.healing:
            self._begin_healing()

    def _stage(self, *ops: Op) -> int:
        self._ops.extend(ops)
        self._ticket += 1
        return self._ticket

    # ---- R1: local writes ------------------------------------------------------------------------------------------

    def held(self, key: str) -> Entry | None:
        """Return what `key` will hold once all that is staged is durable, live or not; to be looked at."""
        return self._staging.held(key)

    def put(
        self, key: str, value: bytes, now_ms: int, condition: Condition = ALWAYS, expires_at: int | None = None
    ) -> Staged:
        """Stage `value` under `key`.

        Raises:
            UnavailableError: starting, draining, too many waiting, or at 90 % of a limit; nothing is staged.
            PreconditionFailed: what is stored or staged does not meet `condition`; safe to tell once `last_ticket` is
                durable, because it may speak of a staged value.
            CratePeers: it shall expire, and a node of the original system is a member.
        """
        return self._put(Put(key, value, expires_at, condition), now_ms)

    def expire(self, key: str, expires_at: int | None, now_ms: int, condition: Condition = ALWAYS) -> Staged:
        """Stage the live value of `key` with another expiry. Raises as `put`, and KeyNotFound as `delete`."""
        self._check_writable()
        held = self._staging.held(key)
        if held is None or held.value is None or not held.alive(self.store.expiry_now(now_ms)):
            condition.check(None)
            raise KeyNotFound(f"there is no key {key!r}")
        return self._put(Put(key, bytes(held.value), expires_at, condition), now_ms)

    def _put(self, write: Put, now_ms: int) -> Staged:
        self._check_writable()
        planned = decide(write, self._staging.held(write.key), self.store.expiry_now(now_ms))
        assert planned is not None, "only a delete comes to nothing"
        self._check_expiry(planned.expires_at)
        self._check_room(planned.held is None, planned.growth_bytes)
        return self._write(planned, now_ms)

    def delete(self, key: str, now_ms: int, condition: Condition = ALWAYS) -> Staged:
        """Stage a tombstone over the live value of `key`.

        Raises:
            KeyNotFound: the key holds no live value, staged writes included; no tombstone is made.
            PreconditionFailed: as for `put`.
            UnavailableError: as for `put`, but for the limits: a delete needs no new room.
        """
        self._check_writable()
        planned = decide(Delete(key, condition), self._staging.held(key), self.store.expiry_now(now_ms))
        if planned is None:
            raise KeyNotFound(f"there is no key {key!r}")
        return self._write(planned, now_ms)

    def batch(self, writes: Sequence[Write], now_ms: int) -> StagedBatch:
        """Stage all of `writes`, or nothing; deletes of absent keys come to nothing.

        Raises:
            BatchTooLarge: over its bounds.
            PreconditionFailed: as for `put`; `operation` says which.
            UnavailableError, CratePeers: as for `put`.
        """
        check_batch(writes, self.limits)
        self._check_writable(len(writes))
        planned = decide_all(writes, self._staging.held, self.store.expiry_now(now_ms), self._check_in_batch)
        staged: list[Staged | None] = []
        ops: list[Set | SetExpiring] = []
        for one in planned:
            if one is None:
                staged.append(None)
                continue
            held = self._staging.held(one.key)
            entry = self._local_entry(one, held, now_ms)
            self._staging.note(entry, held)
            ops.append(storing(entry))
            staged.append(Staged(0, entry, held if one.live is not None else None))
        return StagedBatch(self._stage(Batch(tuple(ops))) if ops else self._ticket, staged)

    def _check_in_batch(self, planned: Planned, keys: int, growth_bytes: int) -> None:
        self._check_expiry(planned.expires_at)
        if planned.value is not None:
            self._check_room(planned.held is None, planned.growth_bytes, (keys, growth_bytes))

    def _check_writable(self, count: int = 1) -> None:
        if self.writable is not None:
            raise self.writable.with_traceback(None)  # one object, raised often: it must not gather frames
        self._waiting.check(count)

    def _check_room(self, new_key: bool, growth_bytes: int, ahead: tuple[int, int] = (0, 0)) -> None:
        if self.full is not None:
            raise self.full.with_traceback(None)
        keys, size = self._staging.keys + ahead[0], self._staging.size_bytes + ahead[1]
        check_room(self.limits, keys=keys, size_bytes=size, new_key=new_key, growth_bytes=growth_bytes)

    def _check_expiry(self, expires_at: int | None) -> None:
        if expires_at is not None and self.reports.crates:
            raise CratePeers("a node of the original system is a member: it would keep an expiring value for ever")

    def _write(self, planned: Planned, now_ms: int) -> Staged:
        entry = self._local_entry(planned, planned.held, now_ms)
        return Staged(self._stage_entry(entry, planned.held), entry, planned.live)

    def _local_entry(self, planned: Planned, held: Entry | None, now_ms: int) -> Entry:
        if not self._origin:
            self._begin_origin()
        timestamp = write_timestamp(self._staging.promised_time(now_ms), held, self._staging.floor)
        entry = Entry(planned.key, planned.value, timestamp, self._origin, self._next_seq, planned.expires_at)
        self._next_seq += 1
        self._waiting.add(len(planned.value or b""))
        return entry

    def _begin_origin(self) -> None:
        """R7: no process writes under an origin that an earlier one used."""
        covered, dropped = self.covered, self.store.standing.dropped
        origin = fresh_origin(self.identity, self._rng, lambda drawn: drawn in dropped or covered.knows(drawn))
        self._origin, self._next_seq = origin, 1
        self._ops.append(Process(self.identity.inc, origin, self.healing))

    def _stage_entry(self, entry: Entry, held: Entry | None) -> int:
        self._staging.note(entry, held)
        return self._stage(storing(entry))

    # ---- R2, R4: other members' entries ----------------------------------------------------------------------------

    def merge(
        self, entries: Sequence[Entry], now_ms: int, *, sender: str = "", pushed: bool = False, dead_upto: int = I64_MIN
    ) -> Merged:
        """Stage what wins of `entries`, and the dots of all of them; refusals are counted, the rest is taken.

        `sender` is who sent them, as reports know it; `pushed`: in a push; `dead_upto` as `horizon` has it.
        """
        merged = Merged()
        losers = Context()
        for entry in entries:
            held = self._staging.held(entry.key)
            code = self._refusal(entry, held, now_ms, sender, pushed=pushed, dead_upto=dead_upto)
            if code is not None:
                merged.refused[code] += 1
                self.last_refusal = Refusal(code, entry.key, entry.timestamp, sender, now_ms)
            elif held is not None and beats(entry, held):
                if entry.seq == held.seq and entry.stamp == held.stamp:
                    self._note("stamp_conflict", 1, sender, now_ms, entry)
                if self._unknown_to(sender, held):
                    self._losses.append((held, entry, now_ms))
                self._stage_entry(entry, held)
                merged.store(entry, pushed)
            elif held is None and self._staging.holds_elsewhere(entry):
                self._stage_entry(entry, None)
                merged.store(entry, pushed)
            elif self.covered.covers(entry.origin, entry.seq):
                if held is not None and entry.seq == held.seq and entry.stamp == held.stamp and entry != held:
                    self._note("stamp_conflict", 1, sender, now_ms, entry)
            elif held is None:
                self._stage_entry(entry, None)
                merged.store(entry, pushed)
            else:
                losers.add_range(entry.origin, entry.seq, entry.seq)
                self.covered.add(entry.origin, entry.seq)
                if entry.origin != held.origin:  # a process knows what it wrote before
                    self._losses.append((entry, held, now_ms))
        if covers := covering(losers):
            self._stage(*covers)
        self.refused.update(merged.refused)
        merged.ticket = self._ticket
        return merged

    def take_block(self, block: Block, now_ms: int) -> tuple[int, Sequence[Entry]]:
        """Stage at once what of `block` meets nothing here; return how many these are, and the others, to be merged."""
        staging = self._staging
        fits = self.full is None and fits_whole(block, self.limits, staging.keys, staging.size_bytes, now_ms)
        fits = fits and all(part.origin != self._origin for part in block.parts)
        fits = fits and block_fits(self.covered, block, self.limits)
        fits = fits and (self.healing or all(self.covered.knows(part.origin) for part in block.parts))
        fresh, others = staging.fresh(block) if fits else (None, list(block.unpacked()))
        if fresh is None:
            return 0, others
        staging.note_block(fresh)
        self._stage(StoreBlock(fresh))
        return len(fresh), others

    def _unknown_to(self, sender: str, held: Entry) -> bool:
        """A write of this process that the sender has not reported: who overwrote it cannot have seen it."""
        report = self.reports.of(sender)
        return held.origin == self._origin and (report is None or not report.context.covers(*held.dot))

    def _refusal(
        self, entry: Entry, held: Entry | None, now_ms: int, sender: str, *, pushed: bool, dead_upto: int
    ) -> str | None:
        """Return the code of why `entry` cannot be merged, None if it can."""
        limits = self.limits
        if entry.timestamp <= dead_upto and not self.covered.covers(*entry.dot) and not (held and beats(held, entry)):
            return "dead_entry"
        if entry.seq < 1:
            return "bad_sequence"
        if self._claims_mine(entry.origin, entry.seq):
            return "claimed_sequence"
        covered = self._staging.covered
        watched = covered.range_count + len(covered.acks) >= self._watched_from
        code = dot_refusal(covered, entry, limits, pushed) if watched else None
        if code is None and self.full is not None and entry.value is not None:
            code = self.full.code
        keys, size = self._staging.keys, self._staging.size_bytes
        code = code or merge_refusal(entry, held, limits, keys=keys, size_bytes=size, now_ms=now_ms)
        if code is None and not covered.knows(entry.origin):
            count, healing = covered.origin_count(), self.healing and not pushed
            code = self._newcomers.refusal(entry.origin, sender, count, now_ms, healing=healing)
        return code

    def _claims_mine(self, origin: int, seq: int) -> bool:
        """A sequence of ours that we never issued."""
        return origin == self._origin != 0 and seq >= self._next_seq

    def cover(self, dots: Mapping[int, Ranges], pushed: Iterable[Dot], now_ms: int, *, sender: str = "") -> int:
        """Stage the ranges that a push of entries carried in full; return the ticket. Raises as `carried`."""
        ops, claimed = carried(self.covered, dots, pushed, self.limits, self._claims_mine)
        self._note("claimed_sequence", claimed, sender, now_ms)
        return self._stage(*ops) if ops else self._ticket

    def _note(self, code: str, count: int, sender: str, now_ms: int, entry: Entry | None = None) -> None:
        """Count what `sender` said of an entry, or of what it covers, and was not taken or not needed."""
        if count:
            key, timestamp = ("", now_ms) if entry is None else (entry.key, entry.timestamp)
            self.refused[code] += count
            self.last_refusal = Refusal(code, key, timestamp, sender, now_ms)

    # ---- R3: adoption, and the end of healing; R9: its beginning ---------------------------------------------------

    def adopt(self, theirs: Context, floor: int, now_ms: int = 0, *, sender: str = "") -> int | None:
        """Stage the join of a context whose every entry has been merged; return the ticket.

        Left out is what its sender may not say (`vouching`). None: it would grow past its bounds, which is counted.
        """
        if not self.healing:
            theirs = self.vouching.adoptable(sender, theirs, self.covered)
            theirs, refused = self._newcomers.admitted(theirs, self.covered, sender, now_ms)
            for left_out, count in refused.items():
                self._note(left_out, count, sender, now_ms)
        code = growth_refusal(self.covered, theirs, self.limits)
        if code is not None:
            self._note(code, 1, sender, now_ms)
            return None
        ops, claimed = adopted(self.covered, theirs, self._claims_mine)
        self._note("claimed_sequence", claimed, sender, now_ms)
        if floor > self._staging.floor:
            self._staging.floor = floor
            ops.append(Floor(floor))
        return self._stage(*ops) if ops else self._ticket

    def forget(self, keys: Iterable[str]) -> int:
        """Stage the removal of those of `keys` that are held and about to hold nothing else; return how many.

        What is covered stays covered. The floor comes first: a log that is torn in between must not lack it (I6).
        """
        staging = self._staging
        ops: list[Op] = []
        before = staging.floor
        for key in keys:
            held = None if staging.moves(key) else staging.held(key)
            if held is not None:
                staging.remove(held)
                if held.value is not None and not self.store.passed(key):
                    self._withdrawn.append(key)
                ops.append(Clear(key))
        if ops:
            self._stage(*([Floor(staging.floor)] if staging.floor > before else []), *ops)
        return len(ops)

    def heed(self, op: Agreed) -> int:
        """Stage what `origin_expiry` or `horizon` decided (R15); return the ticket."""
        self._staging.heed(op)
        return self._stage(op)

    def moves(self, key: str) -> bool:
        """Tell whether what `key` holds is about to change."""
        return self._staging.moves(key)

    def staged(self) -> Iterable[Entry]:
        """Return the entries that wait for the disk."""
        return self._staging.entries()

    def end_healing(self) -> int:
        """Stage that this volume has been repaired (R7); return the ticket."""
        self.healing, self._compared = False, True
        return self._stage(Process(self.identity.inc, self._origin, False))

    def doubts(self, theirs: Context) -> bool:
        """Begin to heal if this volume was alone when its process started, and others know now what it does not.

        Nobody could say then that it was old; adopting before it is compared would cover deletes whose values it shows.
        """
        if self._compared or self.covered.includes(theirs):
            return False
        self.healing, self.healed_with = True, set()
        self.vouching.forget_words()
        self._stage(Process(self.identity.inc, self._origin, True))
        return True

    def supersede(self) -> int:
        """Stage the number of the newer process of this name, so that the next start's is greater (R8)."""
        return self._stage(Process(self.reports.superseded_by, 0, self.healing))

    def heed_admission(self) -> None:
        """Begin to heal, in the midst of a process, if a newer epoch admitted this member anew (R9).

        One that an epoch leaves alone has nobody to heal from, and is done.
        """
        standing = (self.membership.restarts, self.membership.admission())
        if standing > self._heeded:
            self._heeded = standing
            if self.membership.must_heal():
                self._begin_healing()
        if self.healing and not self.membership.has_others():
            self.end_healing()

    def _begin_healing(self) -> None:
        """Adopt nothing until healed, and write on under another origin, as a new process would."""
        self.healing, self.healed_with = True, set()
        self.vouching.forget_words()
        self._origin, self._next_seq = 0, 1
        self._stage(Process(self.identity.inc, 0, True))
