"""Which origins may enter a context that this member has never heard of (G9, G11).

A context has room for so many origins, and none leaves it. So invented ones must not take the room of processes that
start later: a part of it is kept for origins that a member names as its own, and each member may bring only so many an
hour, of its own and of others. What is over that is refused for now and comes again with a later exchange. An exchange
of which an entry was refused adopts nothing: what it superseded would pass for covered.

Who heals asked for all that others cover, so only the room counts then. Where peers have no certificates anybody may
speak in any name, and nodes of the original system name no origin: there the bounds of an hour are all there is.
"""

from wavekv.config import Limits
from wavekv.core.adoption import ranges_refusal, reserved
from wavekv.core.context import Context
from wavekv.core.vouching import OWNERS_MAX, Vouching

HOUR_MS = 3_600_000


class Allowance:
    """Lets each sender do something `most` times at once, and as often again in an hour."""

    def __init__(self, most: int) -> None:
        """Allow `most` times, 1 at least."""
        self._spacing_ms = max(1, HOUR_MS // max(1, most))
        self._due: dict[str, int] = {}
        """Sender → time (ms) at which all that it did is forgotten."""

    def take(self, sender: str, now_ms: int) -> bool:
        """Tell whether `sender` may do it once more, and count it if so; all is forgotten in an hour of any clock."""
        due = min(max(self._due.pop(sender, now_ms), now_ms), now_ms + HOUR_MS)
        allowed = due + self._spacing_ms <= now_ms + HOUR_MS
        self._due[sender] = due + self._spacing_ms if allowed else due
        if len(self._due) > OWNERS_MAX:
            del self._due[next(iter(self._due))]
        return allowed


class Newcomers:
    """The bounds on origins that are new here."""

    def __init__(self, vouching: Vouching, limits: Limits) -> None:
        self._vouching = vouching
        self._limits = limits
        self._room = limits.origins_max
        self._room_of_nobody = limits.origins_max - reserved(limits)
        self._others = Allowance(limits.new_origins_max)
        self._owned = Allowance(limits.own_origins_max)

    def refusal(self, origin: int, sender: str, count: int, now_ms: int, *, healing: bool = False) -> str | None:
        """Return the code of why `origin` may not be the next beside `count` others, None if it may; count it then."""
        owners = self._vouching.owners(origin)
        if count >= (self._room if owners or healing else self._room_of_nobody):
            return "too_many_origins"
        if healing:
            return None
        took = self._owned.take(owners[0], now_ms) if len(owners) == 1 else self._others.take(sender, now_ms)
        return None if took else "too_many_new_origins"

    def admitted(self, theirs: Context, covered: Context, sender: str, now_ms: int) -> tuple[Context, dict[str, int]]:
        """Return `theirs` without the origins that may not enter `covered`, and how many these are by code.

        One that will not be adopted for its ranges is returned as it is, and counts for nobody.
        """
        known = theirs.acks.keys() <= covered.acks.keys() and not theirs.range_count
        if known or ranges_refusal(covered, theirs, self._limits) is not None:
            return theirs, {}
        left_out: dict[int, str] = {}
        count = covered.origin_count()
        for origin in theirs.origins():
            if not covered.knows(origin):
                code = self.refusal(origin, sender, count, now_ms)
                if code is None:
                    count += 1
                else:
                    left_out[origin] = code
        codes = list(left_out.values())
        return theirs.without(left_out), {code: codes.count(code) for code in sorted(set(codes))}
