"""Repair (R6): what others deleted and forgot is found by comparing lists, and dropped.

The requester lists the keys it holds in some buckets, a range of keys in each request; the responder answers with all
that it holds there, with what it holds newer, and with its context, all of one instant. A key that is not in the answer
and whose dot that context covers was deleted and collected: the requester drops it. One whose dot is not covered is
news to the responder, and the exchange brings it there. An old list stays true, so the ranges may be answered minutes
apart; adopting waits for the last one (`exchange`).

Which buckets: while healing all that differ. Otherwise those that went on differing by the very same sum although both
sides cover the same: what expires is collected here a moment earlier than there, and is not worth a list.

The digest is over values, so a healing member asks about its tombstones one by one, before the ranges, in a list that
is about no bucket. An old one would hide that a later delete is covered: a late copy of the value between the two would
beat it, and a new write would rank above it alone.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wavekv.config import Limits
from wavekv.core.context import Context
from wavekv.core.digest import BUCKETS, bucket_of, differences
from wavekv.core.horizon import dead_by
from wavekv.core.messages import Envelope, Listed
from wavekv.core.packed import dot_of, pack, unpack, unpack_facts
from wavekv.core.replica import Replica
from wavekv.core.reports import Report
from wavekv.core.store import Store
from wavekv.core.types import Entry, entry_bytes, key_bytes
from wavekv.errors import BadEnvelope

SUSPECT_MS = 10_000
"""How long a bucket has to differ by the same sum before its keys are listed, and between two such lists."""
NAMED_MAX = 20
"""Keys named in the log of what a repair did."""
_LISTED_BYTES = 32


class Range(NamedTuple):
    """Keys strictly behind `after`, up to `upto` (None: to the end), in the buckets of the bit mask `buckets`."""

    buckets: int
    after: str | None
    upto: str | None


def mask_of(buckets: Iterable[int]) -> int:
    """Return the bit mask of bucket numbers."""
    mask = 0
    for bucket in buckets:
        mask |= 1 << bucket
    return mask


def differing(store: Store, theirs: tuple[int, ...] | None) -> int | None:
    """Return the mask of buckets that differ from `theirs`; None: one of the two cannot tell yet."""
    mine = store.digest()
    if mine is None or not store.surveyed or theirs is None or len(theirs) != BUCKETS:
        return None
    return mask_of(differences(mine, theirs))


def suspected(store: Store, report: Report, now_ms: int) -> int:
    """Compare with a report whose sender covers exactly what is covered here; return the mask of what to list now."""
    mine, theirs = store.digest(), report.buckets
    if mine is None or theirs is None or len(theirs) != BUCKETS:
        return 0
    before, report.suspects = report.suspects, {}
    due: list[int] = []
    for bucket, difference in differences(mine, theirs).items():
        was, since_ms = before.get(bucket, (0, now_ms))
        if was != difference:
            since_ms = now_ms
        elif now_ms - since_ms >= SUSPECT_MS:
            due.append(bucket)
            since_ms = now_ms
        report.suspects[bucket] = (difference, since_ms)
    return mask_of(due)


# ---- lists ---------------------------------------------------------------------------------------------------------


def list_range(store: Store, wanted: Range, limits: Limits) -> tuple[Range, tuple[Listed, ...]]:
    """Return what is held in `wanted`, and the part of it that this is.

    It ends early after as many keys as a page has entries, in whatever bucket, or at a page's bytes.
    """
    if not wanted.buckets:
        return wanted, ()
    listed: list[Listed] = []
    size = 0
    for scanned, (key, packed) in enumerate(store.behind(wanted.after), start=1):
        if wanted.upto is not None and key > wanted.upto:
            break
        if wanted.buckets >> bucket_of(key) & 1:
            listed.append(_listed(key, packed))
            size += key_bytes(key) + _LISTED_BYTES
        if scanned >= limits.page_entries_max or size >= limits.page_bytes_max:
            return wanted._replace(upto=key), tuple(listed)
    return wanted, tuple(listed)


def answer_list(store: Store, request: Envelope, limits: Limits) -> tuple[Range, tuple[Listed, ...], list[Entry]]:
    """Return the answered part of a listed range, what is held there, and what of it is newer than in the request."""
    assert request.listed is not None
    asked = Range(request.listed_of or 0, request.listed_after, request.listed_upto)
    part, held = list_range(store, asked, limits) if asked.buckets else (asked, _held_of(store, request.listed))
    newer: list[Entry] = []
    size = 0
    for theirs in sorted(request.listed):
        packed = store.packed.get(theirs.key)
        if part.upto is not None and theirs.key > part.upto:
            break
        if packed is None:
            continue
        entry = unpack(theirs.key, packed)
        if entry.stamp <= theirs[1:]:
            continue
        newer.append(entry)
        size += entry_bytes(entry) + _LISTED_BYTES
        if size >= limits.page_bytes_max:
            part = part._replace(upto=theirs.key)
            held = tuple(one for one in held if one.key <= theirs.key)
            break
    return part, held, newer


def _listed(key: str, packed: bytes) -> Listed:
    timestamp, seq, origin, _ = unpack_facts(packed)
    return Listed(key, timestamp, origin, seq)


def _held_of(store: Store, asked: Iterable[Listed]) -> tuple[Listed, ...]:
    return tuple(_listed(one.key, store.packed[one.key]) for one in asked if one.key in store.packed)


def check_answer(asked: Range, answer: Envelope) -> Range:
    """Return the part of `asked` that `answer` speaks of.

    Raises:
        BadEnvelope: it does not answer that range.
    """
    upto = answer.listed_upto
    begins = answer.listed_of == asked.buckets and answer.listed_after == asked.after
    ends = upto is not None and upto > (asked.after or "") and (asked.upto is None or upto <= asked.upto)
    if not begins or not (ends or upto == asked.upto):
        raise BadEnvelope("the answer to a list speaks of another range of keys")
    return asked._replace(upto=upto)


@dataclass(slots=True)
class Repaired:
    """What comparing lists came to: how many keys were dropped, how many nobody but this member holds, some of each."""

    dropped: int = 0
    alone: int = 0
    dropped_keys: list[str] = field(default_factory=list)
    alone_keys: list[str] = field(default_factory=list)

    def note(self, dropped: list[str], alone: list[str]) -> None:
        """Count them."""
        self.dropped += len(dropped)
        self.alone += len(alone)
        self.dropped_keys += dropped[: NAMED_MAX - len(self.dropped_keys)]
        self.alone_keys += alone[: NAMED_MAX - len(self.alone_keys)]


class Repair:
    """The requester's side: its tombstones, then one range after the other until the last key.

    `whole` says that all could be judged so far; else nothing may be adopted.
    """

    def __init__(self, replica: Replica, buckets: int | None = None) -> None:
        """Repair the buckets of a bit mask, by default those that differ when the first request is made."""
        self._replica = replica
        self._asked = Range(buckets or 0, None, None)
        self._decided = buckets is not None
        self._began_at: int | None = None
        self._single: list[str] = []
        """Tombstones still to be asked about, one by one."""
        self._chunk: list[str] = []
        """Those that the last request named, in order, until they are answered."""
        self._buckets = buckets or 0
        self.whole = True
        self.done = False
        self.result = Repaired()

    def request(self, theirs: tuple[int, ...] | None) -> dict[str, Any]:
        """Return the fields of the next request; `theirs` is the responder's digest."""
        store = self._replica.store
        if self._began_at is None:
            self._began_at = store.position
        if not self._decided:
            self._decide(differing(store, theirs))
        listed: tuple[Listed, ...] = ()
        self._chunk = self._take_single()
        if self._chunk:
            self._asked = Range(0, None, None)
            listed = tuple(_listed(key, store.packed[key]) for key in self._chunk)
        elif self._buckets:
            rest = Range(self._buckets, self._asked.after, None)
            self._asked, listed = list_range(store, rest, self._replica.limits)
        else:
            self._asked = Range(0, None, None)
        buckets, after, upto = self._asked
        return {"listed": listed, "listed_of": buckets, "listed_after": after, "listed_upto": upto}

    def _take_single(self) -> list[str]:
        """Take the last tombstones to be asked about, in order, as many as a page holds; one at least.

        Those collected meanwhile are passed over. Nothing is asked about them, so the answer says nothing of a new
        write of the same key that comes in before it.
        """
        limits, held = self._replica.limits, self._replica.store.packed
        self._single += self._chunk  # of a request that was not answered
        chunk: list[str] = []
        size = 0
        while self._single:
            key = self._single[-1]
            if key in held:
                size += key_bytes(key) + _LISTED_BYTES
                if chunk and (len(chunk) == limits.page_entries_max or size > limits.page_bytes_max):
                    break
                chunk.append(key)
            self._single.pop()
        return sorted(chunk)

    def _decide(self, buckets: int | None) -> None:
        self._decided, self.whole, self._buckets = True, buckets is not None, buckets or 0
        self._single = self._replica.store.graves.tombstones() if self.whole else []

    def receive(self, answer: Envelope) -> None:
        """Compare what is held with the list in `answer`, whose entries were merged, and stage what is to be dropped.

        Raises:
            BadEnvelope: it is no answer to the last request.
        """
        if answer.listed is None:
            raise BadEnvelope("the answer to a list has none; the peer may be of an older version")
        part = check_answer(self._asked, answer)
        if part.buckets:
            self._compare(self._held_in(part), answer)
            self._asked = Range(part.buckets, part.upto, None)
            self.done = part.upto is None
            return
        judged = len(self._chunk) if part.upto is None else bisect_right(self._chunk, part.upto)
        self._compare(self._chunk[:judged], answer)
        self._single += self._chunk[judged:]
        self._chunk = []
        self.done = not (self._single or self._buckets)

    def _held_in(self, part: Range) -> Iterator[str]:
        for key, _ in self._replica.store.behind(part.after):
            if part.upto is not None and key > part.upto:
                break
            if part.buckets >> bucket_of(key) & 1:
                yield key

    def _compare(self, keys: Iterable[str], answer: Envelope) -> None:
        """Drop those of `keys` that are held, not in the list, and covered by its sender (R6)."""
        replica = self._replica
        theirs = {listed.key for listed in answer.listed or ()}
        context = Context.told(answer.acks, answer.dots)
        stale: list[str] = []
        alone: list[str] = []
        for key in keys:
            packed = replica.store.packed.get(key)
            if packed is not None and key not in theirs:
                dot = dot_of(packed)
                known = context.covers(*dot) or dead_by(answer.horizon, replica, packed)
                (stale if known and not self._certain(dot[0]) else alone).append(key)
        dropped = [key for key in stale if not replica.moves(key)]
        self.whole &= len(dropped) == len(stale)
        replica.forget(dropped)
        self.result.note(dropped, alone)

    def _certain(self, origin: int) -> bool:
        """Tell whether what this member holds of `origin` cannot have been deleted without its knowing.

        It is the one it writes under, and it does not heal: who forgot a delete has asked this process whether it
        covers it (R5). A peer that covers such a write without holding it, or a newer one, was told a lie.
        """
        return origin == self._replica.origin != 0 and not self._replica.healing

    def undisturbed(self, theirs: Context, horizon: int | None) -> bool:
        """Tell whether no entry that `theirs` covers, or that is dead by its horizon, came in since the first list.

        One that did, in a late message, may be what the responder deleted and forgot, and its key may be compared
        already. The next round finds it.
        """
        assert self._began_at is not None
        since = self._replica.store.packed_changed_since(self._began_at)
        if since is None:
            return False
        came = (*(packed for _, packed in since), *map(pack, self._replica.staged()))
        return not any(theirs.covers(*dot_of(packed)) or dead_by(horizon, self._replica, packed) for packed in came)
