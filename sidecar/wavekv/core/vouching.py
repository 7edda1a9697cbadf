"""Whose word counts for what an origin's writes are (R3, G11).

A context says what its sender covers; whoever adopts it is never sent those writes again. So a lie about writes of
others would hide them. Every message names the origin that its sender's process writes under, and its certificate names
the sender. What a member says of its own origins counts. What it says of others counts as far as

- their owner told it, in a complete exchange, which brought all of its writes up to there; or
- one member more told it: one of the two was honest, and brought what it covers; or,
- where nobody who belongs to the cluster owns the origin: all other members were asked since, and still nobody does.
  So nobody writes under it any more, and whatever any of them holds of it has come.

The rest is left for a later exchange, unless it would leave too many ranges open (`RELIEF_RANGES`). Leaving a part out
is safe for who is trusted: a delete is collected only once this member reported to cover it, so what is adopted of a
newer write never stands for a delete that is gone while the older write may still come (docs/decisions/0038). To go by
what the owner *reports* would not do: a report arrives before the writes that it speaks of, and a lie in between would
hide these.

Who heals has to take a whole context, since deletes that it never heard of may be gone. It waits a while for the word
of all other members; what those who cannot be reached own, it then takes from whom it heals with.

Volatile: after a restart owners are known again with their first message.
"""

from collections.abc import Callable, Collection, Mapping
from itertools import cycle, islice
from typing import NamedTuple

from wavekv.core.context import Context
from wavekv.core.messages import Envelope, Ranges

OWNED_MAX = 64
"""Origins remembered of one member (G9), those it named last."""
OWNERS_MAX = 4096
"""Members whose origins are remembered (G9); over it the one that named its first origin longest ago is forgotten."""
RANGES_MAX = 64
"""Ranges remembered of one origin as another member told it (G9); the others count later."""
RELIEF_RANGES = 256
"""Ranges of one origin that may stay open for want of a second word; with more, one member's word counts: a member that
must not tell what it covers (`Limits.dots_max`) serves nobody."""
OPEN_RANGES = 4096
"""Ranges that may stay open so of all origins, half of `Limits.dots_max`: with more of them one word counts for each
origin that has more than its part of these."""
CLAIMS_MAX = 65_536
"""Origins of nobody that others cover more of than this member, remembered until all were asked (G9)."""
WORD_RANGES_MAX = 131_072
"""Ranges remembered of all origins together, about 130 bytes each (G9, G11). Over it only the first range of an origin
is, which closes its first gap, and the next word the next one."""
JUDGED_MAX = 4096
"""Origins of others that are judged in one context, about 2 us each (G11); the rest is left for a later one. Who heals
judges all: it takes a whole context."""
HEAL_WAIT_MS = 5000
"""How long a healing member waits for other members' words; as many may be down."""


class _Word(NamedTuple):
    """That `name` told at moment `at` to cover these ranges of an origin."""

    name: str
    ranges: Ranges
    at: int


def _both(one: Ranges, other: Ranges) -> Ranges:
    """Return what two ascending lists of ranges have in common, in one pass over them."""
    if one == other:
        return one
    found: list[tuple[int, int]] = []
    left = right = 0
    while left < len(one) and right < len(other):
        (first, last), (begin, end) = one[left], other[right]
        if max(first, begin) <= min(last, end):
            found.append((max(first, begin), min(last, end)))
        if last < end:
            left += 1
        else:
            right += 1
    return tuple(found)


def _either(one: Ranges, other: Ranges) -> Ranges:
    """Return what is in one of two ascending lists of ranges, or in both."""
    if not one or not other or one == other:
        return one or other
    context = Context()
    for begin, end in (*one, *other):
        context.add_range(0, begin, end)
    ack = context.acks.get(0, 0)
    return (((1, ack),) if ack else ()) + context.ranges_of(0)


class Vouching:
    """Origins by the member that names them as its own, and what was told of them.

    Its moments count the contexts that were judged; they order these and the requests of this member.
    """

    def __init__(self, others: Callable[[], Collection[str]], belongs: Callable[[str], bool]) -> None:
        """Know nothing.

        Args:
            others: Returns the names of all other members.
            belongs: Tells whether a name may be one of them.
        """
        self._others = others
        self._belongs = belongs
        self._owned: dict[str, dict[int, None]] = {}
        self._owners: dict[int, tuple[str, ...]] = {}
        self._attested: dict[int, int] = {}
        """Origin → sequence up to which its owner told it in a complete exchange."""
        self._words: dict[int, _Word] = {}
        """Origin of a member → the furthest that another one told it."""
        self._claims: dict[int, _Word] = {}
        """Origin of nobody → what was told of it first, and is not adopted yet."""
        self._ranges = 0
        """Ranges in both of them."""
        self._asked: dict[str, int] = {}
        """Name → moment at which a request left that brought a complete answer."""
        self._healing_since: int | None = None
        self.moment = 0

    # ---- whose an origin is ----------------------------------------------------------------------------------------

    def named(self, name: str, origin: int) -> bool:
        """Note that `name` writes, or wrote, under `origin`; tell whether nobody else named it.

        One that two members named is neither's: their words count like those of others.
        """
        owned = self._owned.get(name)
        if owned is None or origin not in owned:
            self._own(name, origin)
        return len(self.owners(origin)) == 1

    def _own(self, name: str, origin: int) -> None:
        owned = self._owned.setdefault(name, {})
        owned[origin] = None
        self._owners[origin] = (*self._owners.get(origin, ()), name)
        if len(self._owners[origin]) > 1:
            self._attested.pop(origin, None)  # by one of them, who may not be the true one
        self._lose(self._claims, origin)
        if len(owned) > OWNED_MAX:
            self._disown(name, next(iter(owned)))
        if len(self._owned) > OWNERS_MAX:
            gone = next(iter(self._owned))
            for old in list(self._owned[gone]):
                self._disown(gone, old)
            del self._owned[gone]

    def _disown(self, name: str, origin: int) -> None:
        del self._owned[name][origin]
        left = tuple(other for other in self._owners[origin] if other != name)
        if left:
            self._owners[origin] = left
        else:
            del self._owners[origin]
            self._attested.pop(origin, None)
            self._lose(self._words, origin)

    def owners(self, origin: int) -> tuple[str, ...]:
        """Return the members of the cluster that named `origin` as theirs."""
        named = self._owners.get(origin)
        return () if named is None else tuple(filter(self._belongs, named))

    def own_ranges(self, message: Envelope) -> dict[int, Ranges]:
        """Return what a push stands for: its sender's own writes alone.

        An older member names no origin: an exchange closes what it overwrote. To believe it of origins of nobody would
        let a hostile one, which may name none either, hide what processes wrote that have ended.
        """
        name = (message.name or "",)
        return {origin: ranges for origin, ranges in message.dots.items() if self.owners(origin) == name}

    # ---- what is told ----------------------------------------------------------------------------------------------

    def forget_words(self) -> None:
        """Begin anew: what was told was merged into a state that is gone, or is not trusted any more."""
        for told in (self._attested, self._words, self._claims, self._asked):
            told.clear()
        self._ranges = 0
        self._healing_since = None

    def drop(self, origins: Collection[int]) -> None:
        """Forget what was told of `origins`, which all members drop (R15): who tells one again is one word of two."""
        for origin in origins:
            self._attested.pop(origin, None)
            self._lose(self._words, origin)
            self._lose(self._claims, origin)

    def _keep(self, book: dict[int, _Word], origin: int, name: str, told: Ranges) -> _Word:
        self._lose(book, origin)
        word = book[origin] = _Word(name, told if self._ranges < WORD_RANGES_MAX else told[:1], self.moment)
        self._ranges += len(word.ranges)
        return word

    def _lose(self, book: dict[int, _Word], origin: int) -> None:
        word = book.pop(origin, None)
        if word is not None:
            self._ranges -= len(word.ranges)

    def attest(self, name: str, acks: Mapping[int, int]) -> None:
        """Note what `name` told of its own origins, all of whose writes it has sent."""
        for origin in self._owned.get(name, ()):
            ack = acks.get(origin, 0)
            if ack > self._attested.get(origin, 0) and self.owners(origin) == (name,):
                self._attested[origin] = ack

    def asked(self, name: str, moment: int) -> None:
        """Note that a request of this member, which left at `moment`, brought a complete answer of `name`."""
        self._asked[name] = max(self._asked.get(name, 0), moment)
        if len(self._asked) > OWNERS_MAX:
            del self._asked[next(iter(self._asked))]

    # ---- what is adopted -------------------------------------------------------------------------------------------

    def adoptable(self, name: str, theirs: Context, covered: Context) -> Context:
        """Return what a trusted member may adopt of `theirs`, which `name` told in a complete exchange."""
        self.moment += 1
        news = self._news(name, theirs, covered)
        if not news or all(other == name for other in self._others()):
            return theirs
        relieved = self._relieved(name, covered)
        news = [origin for origin in news if origin not in relieved]
        told = _told(theirs, covered, self._in_turn(name, news))
        return _with(theirs, frozenset(news), self._sure_of(name, told))

    def _relieved(self, name: str, covered: Context) -> Collection[int]:
        """Return the origins for which the word of `name` is enough, since too many ranges are open here."""
        if covered.range_count < RELIEF_RANGES:
            return ()
        own = self._owned.get(name, {})  # its own ranges are for itself to close
        counts = {origin: covered.ranges_in(origin) for origin in covered.ranged() if origin not in own}
        crowded = sum(counts.values()) > OPEN_RANGES
        most = min(RELIEF_RANGES, max(1, OPEN_RANGES // len(counts))) if crowded else RELIEF_RANGES
        return {origin: None for origin, count in counts.items() if count >= most}

    def adoptable_healing(self, name: str, theirs: Context, covered: Context, now_ms: int) -> Context | None:
        """Return what a healing member may adopt of `theirs`; None: not yet, the word of others may still come.

        All of it counts, but for what its owner itself told to be less: who wrote more since, was heard before, so that
        nobody has forgotten a delete of it without asking this member.
        """
        self.moment += 1
        if all(other == name for other in self._others()):
            return theirs
        if self._healing_since is None or now_ms < self._healing_since:  # the clock was set back
            self._healing_since = now_ms
        told = _told(theirs, covered, self._news(name, theirs, covered))
        sure = self._sure_of(name, told)
        unknown = [origin for origin in told if sure[origin] != told[origin] and origin not in self._attested]
        if unknown and now_ms - self._healing_since < HEAL_WAIT_MS:
            return None
        heard = {origin: ranges for origin, ranges in sure.items() if origin in self._attested}
        return _with(theirs, heard.keys(), heard)

    def _news(self, name: str, theirs: Context, covered: Context) -> list[int]:
        """Return the origins, not those of `name`, of which `theirs` covers more than `covered`, or may."""
        mine, ranged = covered.acks, theirs.ranged()
        own = frozenset(origin for origin in self._owned.get(name, ()) if self.owners(origin) == (name,))
        news = [
            origin
            for origin, ack in theirs.acks.items()
            if ack > mine.get(origin, 0) and origin not in ranged and origin not in own
        ]
        return news + [origin for origin in ranged if origin not in own and not theirs.same_of(origin, covered)]

    def _in_turn(self, name: str, news: list[int]) -> list[int]:
        """Return as many of `news` as are judged at once: those that another one told before, then others in turn."""
        if len(news) <= JUDGED_MAX:
            return news
        words = self._words
        second = [origin for origin in news if origin in words and words[origin].name != name]
        if len(second) >= JUDGED_MAX:
            return second[:JUDGED_MAX]
        rest = [origin for origin in news if origin not in words or words[origin].name == name]
        begin = self.moment * (JUDGED_MAX // 4) % len(rest)  # few steps of it cover all, whatever others' turns are
        return second + list(islice(cycle(rest), begin, begin + min(len(rest), JUDGED_MAX - len(second))))

    def _sure_of(self, name: str, told: dict[int, Ranges]) -> dict[int, Ranges]:
        """Return what is to be believed of what `name` tells of each origin, and remember its words."""
        if not told:
            return {}
        asked = min((self._asked.get(other, 0) for other in self._others() if other != name), default=self.moment)
        return {origin: self._sure(origin, name, ranges, asked) for origin, ranges in told.items()}

    def _sure(self, origin: int, name: str, told: Ranges, asked: int) -> Ranges:
        """Return what is to be believed of `told`; every other member was asked at moment `asked`, or later."""
        if self.owners(origin):
            attested = self._attested.get(origin, 0)
            known = _both(((1, attested),), told) if attested else ()
            if known == told:
                return told
        else:
            known = _both(self._unclaimed(origin, name, told, asked), told)
        word = self._words.get(origin)
        if word is not None and not self._belongs(word.name):
            word = None
        common = () if word is None else _both(word.ranges, told)
        if word is None or common != told:
            self._keep(self._words, origin, name, told)
        return known if word is None or word.name == name else _either(known, common)

    def _unclaimed(self, origin: int, name: str, told: Ranges, asked: int) -> Ranges:
        """Return what was told of an origin of nobody before all others were asked."""
        claim = self._claims.get(origin)
        if claim is None:
            claim = self._keep(self._claims, origin, name, told)
            if len(self._claims) > CLAIMS_MAX:
                self._drop(next(iter(self._claims)))
        if asked < claim.at:
            return ()
        self._drop(origin)
        return claim.ranges

    def _drop(self, origin: int) -> None:
        self._lose(self._claims, origin)
        if not self.owners(origin):
            self._lose(self._words, origin)


def _told(theirs: Context, covered: Context, origins: list[int]) -> dict[int, Ranges]:
    """Return what `theirs` covers of these origins and `covered` does not."""
    told: dict[int, Ranges] = {}
    for origin in origins:
        ack = theirs.acks.get(origin, 0)
        ranges: Ranges = ((1, ack),) if ack > covered.acks.get(origin, 0) else ()
        if theirs.ranges_in(origin):
            ranges += tuple(one for one in theirs.ranges_of(origin) if not covered.covers_range(origin, *one))
        if ranges:
            told[origin] = ranges[:RANGES_MAX]
    return told


def _with(theirs: Context, judged: Collection[int], sure: dict[int, Ranges]) -> Context:
    """Return `theirs`, but of the origins in `judged` no more than these ranges."""
    if not judged:
        return theirs
    kept = theirs.without(judged)
    acks, dots = kept.acks, kept.dots()
    for origin, ranges in sure.items():
        whole = ranges[:1] and ranges[0][0] == 1
        if whole:
            acks[origin] = ranges[0][1]
        if rest := ranges[1:] if whole else ranges:
            dots[origin] = rest
    return Context.told(acks, dots)
