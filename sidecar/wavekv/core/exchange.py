"""One round between two members, both sides (R3): who sends what, and when a context may be adopted.

The requester sends its context and what it believes the responder lacks; the responder answers with what the requester
lacks and, on the last page, its own context of that same instant. Adoption needs all of R3's conditions; the field
`floor` is how a sender says that its side of them holds, so a message without it is merged and adopts nothing.

The first request of a round carries no entries: the last report may be a second old, and most of what it lacks has
been pushed since. Both directions page. A request of several pages is never adoptable: the receiver cannot know that it
saw them all, and the next round, whose delta is then empty, is adopted anyway. The original system repeats its first
request page instead, so a large one never gets through.

Who heals and lacks more than a page is sent nothing in requests: it asks itself, and would get every page twice.

A message is merged a slice at a time, with turns of others in between, and what it says its sender covers is adopted in
the turn of the last slice, by the state of then: the sender is looked at once more, and nothing is adopted if anything
staged was lost meanwhile to a full disk.

A healing member adopts only after it has compared lists (`repair`): until then it may show what others deleted and
forgot, and would claim to cover the delete.
"""

from dataclasses import replace
from typing import Any

from wavekv.core.block import Block
from wavekv.core.context import Context
from wavekv.core.delta import changed_behind, delta_page, lacks_any
from wavekv.core.horizon import adopt_horizon, greeting, sane_horizon, told
from wavekv.core.merging import check_sender, merge, turn
from wavekv.core.messages import Envelope, Page, Ranges
from wavekv.core.repair import Repair, answer_list, suspected
from wavekv.core.replica import Replica
from wavekv.core.reports import Report, sender_of
from wavekv.core.steps import Merged, Slices, whole
from wavekv.core.types import I64_MIN, Dot, Entry
from wavekv.errors import BadEnvelope


def _greeting(replica: Replica, now_ms: int, epoch_known: int | None) -> dict[str, object]:
    """Return what every message of this member carries; the names of an epoch only for who may not know it."""
    identity, membership = replica.identity, replica.membership
    epoch = membership.epoch
    news = epoch is not None and (epoch_known or 0) < epoch.number
    return {
        "sender_id": identity.node_id,
        "sender_uuid": identity.uuid,
        "name": identity.name,
        "inc": identity.inc,
        "healing": not replica.trusted,
        "now_ms": now_ms,
        "cluster_id": membership.cluster_id,
        "epoch": epoch.number if epoch else None,
        "members": epoch.members if epoch and news else None,
        "epoch_doc": epoch.signed if epoch and news else None,
        "claim": replica.reports.own_claim,
        "origin": told_origin(replica),
        **greeting(replica),
    }


def told_origin(replica: Replica) -> int | None:
    """Return the origin this process writes under, as others may know it: once it is durable (I4)."""
    process = replica.store.process
    return process.origin or None if process.inc == replica.identity.inc else None


def envelope(replica: Replica, now_ms: int, epoch_known: int | None = None, **fields: object) -> Envelope:
    """Return a message of this member with the given fields; `epoch_known`: the newest epoch the receiver told of."""
    return Envelope(**(_greeting(replica, now_ms, epoch_known) | fields))  # type: ignore[arg-type]


def _told(replica: Replica, *, needed: bool = False) -> tuple[dict[int, int], dict[int, Ranges]] | None:
    """Return acks and dots of what this member covers; None: they are kept back, unless they are `needed`.

    A volume that is being filled from one with many overwritten keys covers hundreds of thousands of single dots, until
    it adopts. Nobody else needs to know, reading them takes longer than all the rest of a message, and more than
    `dots_max` are refused; a part of them would pass for a whole report (R5).
    """
    context, limits = replica.store.context, replica.limits
    most = limits.dots_max if replica.trusted or needed else limits.told_dots_max
    if context.range_count > most or context.origin_count() > limits.origins_max + limits.dots_max:
        return None
    return told(replica)


def _held_back(replica: Replica) -> dict[str, object]:
    """Return what filters the answer to who cannot tell all it covers: as much of it as a message holds."""
    context, limits = replica.store.context, replica.limits
    if len(context.acks) > limits.origins_max:
        return {}
    left, dots = limits.dots_max, dict[int, Ranges]()
    for origin, ranges in context.dots().items():
        dots[origin] = ranges[:left]
        left -= len(ranges)
        if left <= 0:
            break
    return {"filter_acks": dict(context.acks), "filter_dots": dots}


def _filter(request: Envelope) -> Context:
    """Return what the answer to `request` leaves out."""
    if request.reset_acks:
        return Context()
    if request.filter_acks or request.filter_dots:
        return Context.told(request.filter_acks, request.filter_dots)
    return Context.told(request.acks, request.dots)


_MANY = 2048
"""Origins in a message whose report is taken in one turn, and adopted in another."""


class Round:
    """The requester's side of one exchange. Alternate `request` and `receive` until `done`."""

    def __init__(self, replica: Replica, peer: str, reported_as: str) -> None:
        self._replica = replica
        self._peer = peer
        self._report: Report | None = replica.reports.of(reported_as)
        self._covered: dict[str, Any] = {}
        self._sent: Dot | None = None
        self._brought = 0
        self._cursor: Dot | None = None
        self._page_pos: int | None = None
        self._first: Envelope | None = None
        self._started = self._all_sent = self._all_received = self._listing = False
        self._complete = True
        self._asked_at = 0
        self._last: Envelope | None = None
        self.repair: Repair | None = None
        self.merged = Merged()

    @property
    def done(self) -> bool:
        """Tell whether both directions have sent their last page, and lists were compared if they had to be."""
        exchanged = self._started and self._all_sent and self._all_received
        return exchanged and (self.repair is None or self.repair.done)

    @property
    def fetching(self) -> bool:
        """Tell whether the next request only asks for the next page: it may leave before the last one is durable."""
        return self._started and not self._all_received and self._all_sent

    @property
    def resumable(self) -> bool:
        """Tell whether a round that was cut off may go on later: what it fetched or compared so far stays true.

        What changed at the responder meanwhile comes with its last page; if that is too much, nothing is adopted.
        """
        return self.repair is not None or (self.fetching and self._cursor is not None)

    def request(self, now_ms: int) -> Envelope:
        """Return the next request. The first one only asks: what to send is judged by the answer's fresh report."""
        store = self._replica.store
        if not self._all_received:
            self._asked_at = self._replica.vouching.moment
        if self.repair is not None and self._all_sent:
            return self._list(self.repair, now_ms)
        first = not self._started
        if first or self._all_received:
            covered = _told(self._replica, needed=True)
            self._covered = {"promised": None, "horizon": None} | greeting(self._replica)  # of the same instant
            self._covered |= _held_back(self._replica) if covered is None else {"acks": covered[0], "dots": covered[1]}
        theirs = self._report.context if self._report else Context()
        entries: tuple[Entry, ...] = ()
        block: Block | None = None
        paged = self._sent is not None
        spared = False
        if first:
            self._all_sent = not lacks_any(store, theirs)
        elif not self._all_sent:
            page = delta_page(store, theirs, self._sent, self._replica.limits)
            block = page.block() if self._report is not None and self._report.takes_block else None
            entries, self._sent = () if block else page.entries(), page.cursor
            spared = self._sent is not None and self._report is not None and self._report.healing
            if spared:
                entries, block, self._sent = (), None, None
            self._all_sent = self._sent is None
        adoptable = self._all_sent and not paged and not spared and "acks" in self._covered
        self._started = True
        return envelope(
            self._replica,
            now_ms,
            epoch_known=self._report.epoch if self._report else None,
            **self._covered,
            entries=entries,
            block=block,
            takes_block=True,
            page=Page(self._sent, last=False) if self._sent is not None else None,
            resume_from=self._cursor,
            page_pos=self._page_pos,
            since=(self._report.inc if self._report else 0) if adoptable else None,
            floor=store.floor if adoptable else None,
        )

    def _list(self, repair: Repair, now_ms: int) -> Envelope:
        assert self._last is not None
        self._listing = True
        acks, dots = _told(self._replica) or ({}, {})
        fields = repair.request(self._last.buckets)
        return envelope(self._replica, now_ms, acks=acks, dots=dots, **fields)

    def receive(self, answer: Envelope, now_ms: int) -> int:
        """Do all of `receive_in_slices` in one turn."""
        return whole(self.receive_in_slices(answer, now_ms))

    def receive_in_slices(self, answer: Envelope, now_ms: int) -> Slices[int]:
        """Merge an answer and adopt its context if every condition of R3 holds; return the ticket to wait for.

        Raises:
            PeerError: the answer is refused; the round is over.
            NotWritten: what was merged of it is lost.
        """
        replica = self._replica
        self._check_round(answer)
        merged = yield from merge(replica, answer, now_ms)
        self.merged.stored += merged.stored
        self.merged.refused.update(merged.refused)
        self._first = self._first or answer
        replica.reports.claim_wanted |= answer.rival
        self._complete &= not merged.refused and answer.inc == self._first.inc
        self._report = replica.reports.hear(answer, now_ms)
        if self._all_received:
            return self._compare(self.repair, answer, now_ms) if self.repair and self._listing else merged.ticket
        if answer.page is not None and not answer.page.last:
            if answer.page.cursor <= (self._cursor or (0, 0)):
                raise BadEnvelope(f"the answer's cursor {answer.page.cursor} does not move on")
            self._cursor, self._page_pos = answer.page.cursor, answer.page_pos
            return merged.ticket
        self._all_received, self._cursor, self._page_pos = True, None, None
        return self._received_all(answer, now_ms)

    def _check_round(self, answer: Envelope) -> None:
        """Refuse pages that never end: a round brings no more than the responder can hold.

        Raises:
            BadEnvelope: they are too many.
        """
        self._brought += len(answer.entries) + (0 if answer.block is None else len(answer.block))
        most = 2 * self._replica.limits.entries_max
        if self._brought > most:
            raise BadEnvelope(f"the answers of one round have more than {most} entries")

    def _received_all(self, last: Envelope, now_ms: int) -> int:
        """Adopt, or compare lists first; return the ticket to wait for."""
        replica = self._replica
        if not self._complete:
            return replica.last_ticket
        self._last = last
        _attest(replica, last)
        replica.vouching.asked(self._peer, self._asked_at)
        if last.name is not None and (replica.healing or replica.doubts(Context.told(last.acks, last.dots))):
            self.repair = Repair(replica)
            return replica.last_ticket
        mine = replica.store.context
        nothing = not (last.entries or last.block)
        if last.name is not None and self._report is not None and nothing and self._report.context == mine:
            buckets = suspected(replica.store, self._report, now_ms)
            self.repair = Repair(replica, buckets) if buckets else None
        return self._adopt(last, now_ms)

    def _compare(self, repair: Repair, answer: Envelope, now_ms: int) -> int:
        """Take the answer to a list; after the last one a healing member adopts what the exchange ended with."""
        assert self._last is not None
        repair.receive(answer if sane_horizon(self._replica, answer, now_ms) else replace(answer, horizon=None))
        adopts = repair.done and repair.whole and self._complete and self._replica.healing
        if adopts and repair.undisturbed(Context.told(self._last.acks, self._last.dots), self._last.horizon):
            return self._adopt(self._last, now_ms)
        return self._replica.last_ticket

    def _adopt(self, last: Envelope, now_ms: int) -> int:
        replica = self._replica
        assert self._first is not None
        if last.name is None:  # R14: a crate node's acks as of its first page, never dots or floor
            context, floor = Context.told(self._first.acks, {}), I64_MIN
        elif _sane_floor(replica, last, now_ms):
            context, floor = Context.told(last.acks, last.dots), last.floor or 0
        else:
            return replica.last_ticket
        if replica.healing:
            whole = replica.vouching.adoptable_healing(sender_of(last), context, replica.covered, now_ms)
            if whole is None:
                return replica.last_ticket
            context = whole
        ticket = replica.adopt(context, floor, now_ms, sender=sender_of(last))
        if ticket is None:
            return replica.last_ticket
        if replica.healing:
            adopt_horizon(replica, last)
            replica.healed_with.update((self._peer, sender_of(last)))
            if not last.healing or replica.healed_with.issuperset(replica.membership.others()):
                replica.end_healing()
        return replica.last_ticket


def _attest(replica: Replica, message: Envelope) -> None:
    """Note what the sender of a complete exchange tells of its own origins."""
    if message.floor is not None and message.name is not None:
        replica.vouching.attest(message.name, message.acks)


def _sane_floor(replica: Replica, message: Envelope, now_ms: int) -> bool:
    """Tell whether the sender's context may be adopted: it says so, and its floor is not of a clock far ahead.

    An adopted floor stamps every new key; beyond the future guard peers would refuse all of them, for ever.
    """
    if message.floor is None:
        return False
    if message.floor > now_ms + replica.limits.future_ms_max:
        replica.refused["future_floor"] += 1
        return False
    return sane_horizon(replica, message, now_ms)


def receive_request(replica: Replica, request: Envelope, now_ms: int) -> Merged:
    """Do all of `receive_request_in_slices` in one turn."""
    return whole(receive_request_in_slices(replica, request, now_ms))


def receive_request_in_slices(replica: Replica, request: Envelope, now_ms: int) -> Slices[Merged]:
    """Merge a request, and adopt its context if it may be; answer once the ticket is durable.

    Raises:
        PeerError: the sender is refused; nothing is adopted.
        NotWritten: what was merged of it is lost.
    """
    merged = yield from merge(replica, request, now_ms)
    replica.reports.hear(request, now_ms)
    if len(request.acks) + len(request.dots) > _MANY:
        yield from turn(replica, request, now_ms, replica.abandoned)
    last_page = request.page is None and request.resume_from is None and not request.push_only
    fits = _sane_floor(replica, request, now_ms) and request.since in (0, replica.identity.inc)
    complete = last_page and fits and not merged.refused
    if complete:
        _attest(replica, request)
    if complete and not replica.healing:
        theirs = Context.told(request.acks, request.dots)
        if not replica.doubts(theirs):
            replica.adopt(theirs, request.floor or 0, now_ms, sender=sender_of(request))
        merged.ticket = replica.last_ticket
    return merged


def answer(replica: Replica, request: Envelope, now_ms: int) -> Envelope:
    """Return the answer to a merged request, all of one instant of the durable state."""
    store = replica.store
    if request.listed is not None:
        return _answer_list(replica, request, now_ms)
    theirs = _filter(request)
    found = delta_page(store, theirs, request.resume_from, replica.limits)
    block = found.block() if request.takes_block else None
    entries, cursor = () if block else found.entries(), found.cursor
    told = _told(replica, needed=request.healing or request.name is None)
    acks, dots = told or ({}, {})
    heard = replica.reports.of(sender_of(request))
    rival = heard is not None and heard.claim_wanted
    if cursor is not None:
        position = store.position if request.resume_from is None else request.page_pos
        page = Page(cursor, last=False)
        return envelope(
            replica,
            now_ms,
            request.epoch,
            entries=entries,
            block=block,
            page=page,
            acks=acks,
            dots=dots,
            page_pos=position,
            rival=rival,
        )
    late: list[Entry] | None = []
    if request.resume_from is not None and request.page_pos is not None:
        late = changed_behind(store, theirs, request.resume_from, request.page_pos, replica.limits)
    return envelope(
        replica,
        now_ms,
        request.epoch,
        entries=entries + tuple(late or ()),
        block=block,
        acks=acks,
        dots=dots,
        floor=store.floor if late is not None and told is not None else None,
        buckets=store.digest(),
        rival=rival,
        digest=store.crate_digest() if request.name is None else None,
    )


def _answer_list(replica: Replica, request: Envelope, now_ms: int) -> Envelope:
    part, held, newer = answer_list(replica.store, request, replica.limits)
    told = _told(replica, needed=True)
    acks, dots = told or ({}, {})
    return envelope(
        replica,
        now_ms,
        acks=acks,
        dots=dots,
        entries=tuple(newer),
        listed=held,
        listed_of=part.buckets,
        listed_after=part.after,
        listed_upto=part.upto,
    )


def push_message(
    replica: Replica, entries: tuple[Entry, ...], carried: dict[int, Ranges], now_ms: int, to: str = ""
) -> Envelope:
    """Return a push of `entries` to `to`; `carried` names sequences that these entries stand for without a gap."""
    known = replica.reports.of(to)
    return envelope(replica, now_ms, known.epoch if known else None, entries=entries, dots=carried, push_only=True)


def receive_push(replica: Replica, message: Envelope, now_ms: int) -> Merged:
    """Do all of `receive_push_in_slices` in one turn."""
    return whole(receive_push_in_slices(replica, message, now_ms))


def receive_push_in_slices(replica: Replica, message: Envelope, now_ms: int) -> Slices[Merged]:
    """Merge pushed entries; they extend dots and adopt nothing.

    Raises:
        PeerError: the sender is refused; nothing more is merged.
        NotWritten: what was merged of it is lost.
    """
    if message.block is not None:
        raise BadEnvelope("a push has its entries in entries, never in a block")
    merged = yield from merge(replica, message, now_ms, pushed=True)
    if message.dots and not merged.refused:
        dots = (entry.dot for entry in message.entries)
        merged.ticket = replica.cover(replica.vouching.own_ranges(message), dots, now_ms, sender=sender_of(message))
    return merged


def report(replica: Replica, now_ms: int, epoch_known: int | None = None) -> Envelope:
    """Return this member's durable context, the answer to a push."""
    acks, dots = _told(replica) or ({}, {})
    return envelope(replica, now_ms, epoch_known, acks=acks, dots=dots, push_only=True)


def receipt(replica: Replica, now_ms: int, epoch_known: int | None = None) -> Envelope:
    """Return the short answer to a push: what it carried is durable here.

    It has no context. That of a large cluster has thousands of bytes, and a part of one, such as the dots just taken,
    would pass for a whole report: who covers a delete is believed to cover all that it superseded (R5).
    """
    return envelope(replica, now_ms, epoch_known, push_only=True)


def hear_report(replica: Replica, message: Envelope, now_ms: int) -> str:
    """Take the answer to a push as its sender's report; return the sender's name.

    Raises:
        PeerError: the sender is refused.
    """
    check_sender(replica, message, now_ms)
    replica.reports.hear(message, now_ms)
    return sender_of(message)
