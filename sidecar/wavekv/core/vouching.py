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

from collections.abc import Callable, Collection
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
CLAIMS_MAX = 65_536
"""Origins of nobody that others cover more of than this member, remembered until all were asked (G9)."""
HEAL_WAIT_MS = 5000
"""How long a healing member waits for other members' words; as many may be down."""


class _Word(NamedTuple):
    """That `name` told at moment `at` to cover these ranges of an origin."""

    name: str
    ranges: Ranges
    at: int


def _both(one: Ranges, other: Ranges) -> Ranges:
    """Return what two ascending lists of ranges have in common."""
    return tuple(
        (max(first, begin), min(last, end))
        for first, last in one
        for begin, end in other
        if max(first, begin) <= min(last, end)
    )


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
        self._claims.pop(origin, None)
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
            self._words.pop(origin, None)

    def owners(self, origin: int) -> tuple[str, ...]:
        """Return the members of the cluster that named `origin` as theirs."""
        return tuple(filter(self._belongs, self._owners.get(origin, ())))

    def own_ranges(self, message: Envelope) -> dict[int, Ranges]:
        """Return what a push stands for: only own writes, and those of an older member that names none."""
        name, unnamed = message.name or "", message.origin is None
        return {
            origin: ranges
            for origin, ranges in message.dots.items()
            if (owners := self.owners(origin)) == (name,) or (unnamed and not owners)
        }

    # ---- what is told ----------------------------------------------------------------------------------------------

    def forget_words(self) -> None:
        """Begin anew: what was told was merged into a state that is gone, or is not trusted any more."""
        for told in (self._attested, self._words, self._claims, self._asked):
            told.clear()
        self._healing_since = None

    def attest(self, name: str, theirs: Context) -> None:
        """Note what `name` told of its own origins, all of whose writes it has sent."""
        for origin in self._owned.get(name, ()):
            ack = theirs.acks.get(origin, 0)
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
        if all(other == name for other in self._others()):
            return theirs
        told = self._foreign(name, theirs, covered)
        open_ranges = {origin: len(covered.ranges_of(origin)) for origin in told}
        sure = {origin: self._sure(origin, name, ranges) for origin, ranges in told.items()}
        return _with(theirs, {origin: sure[origin] for origin in told if open_ranges[origin] < RELIEF_RANGES})

    def adoptable_healing(self, name: str, theirs: Context, covered: Context, now_ms: int) -> Context | None:
        """Return what a healing member may adopt of `theirs`; None: not yet, the word of others may still come.

        All of it counts, but for what its owner itself told to be less: who wrote more since, was heard before, so that
        nobody has forgotten a delete of it without asking this member.
        """
        self.moment += 1
        if all(other == name for other in self._others()):
            return theirs
        if self._healing_since is None:
            self._healing_since = now_ms
        told = self._foreign(name, theirs, covered)
        sure = {origin: self._sure(origin, name, ranges) for origin, ranges in told.items()}
        unknown = [origin for origin in told if sure[origin] != told[origin] and origin not in self._attested]
        if unknown and now_ms - self._healing_since < HEAL_WAIT_MS:
            return None
        return _with(theirs, {origin: ranges for origin, ranges in sure.items() if origin in self._attested})

    def _foreign(self, name: str, theirs: Context, covered: Context) -> dict[int, Ranges]:
        """Return what `theirs` covers beyond `covered` of origins that are not of `name`."""
        mine = covered.acks
        found = {origin: None for origin, ack in theirs.acks.items() if ack > mine.get(origin, 0)}
        found |= dict.fromkeys(theirs.ranged())
        told: dict[int, Ranges] = {}
        for origin in found:
            if self.owners(origin) != (name,):
                ack = theirs.acks.get(origin, 0)
                ranges = (((1, ack),) if ack else ()) + theirs.ranges_of(origin)
                ranges = tuple(one for one in ranges if not covered.covers_range(origin, *one))
                if ranges:
                    told[origin] = ranges[:RANGES_MAX]
        return told

    def _sure(self, origin: int, name: str, told: Ranges) -> Ranges:
        """Return what is to be believed of what `name` tells of `origin`, and remember its word."""
        sure = Context()
        word = self._words.get(origin)
        if word is not None and word.name != name:
            sure.add_ranges(origin, _both(word.ranges, told))
        if word is None or _both(word.ranges, told) != told:
            self._words[origin] = _Word(name, told, self.moment)
        known = ((1, self._attested.get(origin, 0)),) if self.owners(origin) else self._unclaimed(origin, name, told)
        for one in _both(known, told):
            sure.add_range(origin, *one)
        ack = sure.acks.get(origin, 0)
        return (((1, ack),) if ack else ()) + sure.ranges_of(origin)

    def _unclaimed(self, origin: int, name: str, told: Ranges) -> Ranges:
        """Return what was told of an origin of nobody before all others were asked."""
        claim = self._claims.get(origin)
        if claim is None:
            claim = self._claims[origin] = _Word(name, told, self.moment)
            if len(self._claims) > CLAIMS_MAX:
                self._drop(next(iter(self._claims)))
        if any(self._asked.get(other, 0) < claim.at for other in self._others() if other != name):
            return ()
        self._drop(origin)
        return claim.ranges

    def _drop(self, origin: int) -> None:
        del self._claims[origin]
        if not self.owners(origin):
            self._words.pop(origin, None)


def _with(theirs: Context, sure: dict[int, Ranges]) -> Context:
    """Return `theirs` with no more than these ranges of these origins."""
    if not sure:
        return theirs
    acks, dots = dict(theirs.acks), theirs.dots()
    for origin in sure:
        acks.pop(origin, None)
        dots.pop(origin, None)
    kept = Context.told(acks, dots)
    for origin, ranges in sure.items():
        kept.add_ranges(origin, ranges)
    return kept
