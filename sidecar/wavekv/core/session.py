"""Session tokens (R13): the dots that a write was given, as text, and how far a context covers them.

`ORIGIN.SEQ` names one write, `ORIGIN.FIRST-LAST` a batch, whose sequences have no gap; tokens join with commas. A dot
covers nothing but itself. One sequence for an origin, meaning all up to it, was turned down: it would wait for writes
that the client never saw, and for ever where one of those was lost with its volume.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from wavekv.core.context import Context
from wavekv.core.types import U32_MAX, U64_MAX, Dot, Entry
from wavekv.errors import InvalidSession

_PART: Final = re.compile(r"([1-9][0-9]{0,9})\.([1-9][0-9]{0,19})(?:-([1-9][0-9]{0,19}))?")
_HOW: Final = "give what writes answered in Wavekv-Session, several joined by commas, or leave it out"


class DotRange(NamedTuple):
    """The writes `first`…`last` of one origin."""

    origin: int
    first: int
    last: int

    def __str__(self) -> str:
        span = "" if self.first == self.last else f"-{self.last}"
        return f"{self.origin}.{self.first}{span}"


def parse_token(text: str, *, bytes_max: int, ranges_max: int) -> tuple[DotRange, ...]:
    """Return the dots that `text` names, in order, those side by side as one range.

    Raises:
        InvalidSession: not a token, or over a bound.
    """
    if len(text) > bytes_max or text.count(",") >= ranges_max:
        raise InvalidSession(
            f"the session has more than {bytes_max} bytes or {ranges_max} parts; leave out what a read has met already"
        )
    return _joined(_range(part.strip()) for part in text.split(","))


def _range(part: str) -> DotRange:
    matched = _PART.fullmatch(part)
    if matched is not None:
        origin, first, last = int(matched[1]), int(matched[2]), int(matched[3] or matched[2])
        if origin <= U32_MAX and first <= last <= U64_MAX:
            return DotRange(origin, first, last)
    raise InvalidSession(f"{part[:80]!r} is no session token; {_HOW}")


def _joined(ranges: Iterable[DotRange]) -> tuple[DotRange, ...]:
    joined: list[DotRange] = []
    for one in sorted(ranges):
        before = joined[-1] if joined else None
        if before is not None and before.origin == one.origin and one.first <= before.last + 1:
            joined[-1] = DotRange(one.origin, before.first, max(before.last, one.last))
        else:
            joined.append(one)
    return tuple(joined)


def dots_of(entries: Iterable[Entry]) -> tuple[DotRange, ...]:
    """Return the dots of `entries`."""
    return _joined(DotRange(entry.origin, entry.seq, entry.seq) for entry in entries)


def token_of(ranges: Iterable[DotRange]) -> str:
    """Return the token that names `ranges`."""
    return ",".join(map(str, ranges))


# ---- against a context ---------------------------------------------------------------------------------------------


def covers_all(context: Context, ranges: Sequence[DotRange]) -> bool:
    """Tell whether `context` covers every dot of `ranges`."""
    return all(context.covers_range(*one) for one in ranges)


def first_missing(context: Context, ranges: Sequence[DotRange]) -> Dot | None:
    """Return the first dot of `ranges` that `context` does not cover; None if it covers all."""
    for one in ranges:
        missing = next(iter(_gaps(context, one)), None)
        if missing is not None:
            return missing.origin, missing.first
    return None


def missing_of(context: Context, ranges: Sequence[DotRange]) -> tuple[DotRange, ...]:
    """Return the dots of `ranges` that `context` does not cover."""
    return tuple(gap for one in ranges for gap in _gaps(context, one))


def covered_of(context: Context, ranges: Sequence[DotRange]) -> tuple[DotRange, ...]:
    """Return the dots of `ranges` that `context` covers."""
    covered: list[DotRange] = []
    for one in ranges:
        at = one.first
        for gap in _gaps(context, one):
            if at < gap.first:
                covered.append(DotRange(one.origin, at, gap.first - 1))
            at = gap.last + 1
        if at <= one.last:
            covered.append(DotRange(one.origin, at, one.last))
    return tuple(covered)


def _gaps(context: Context, one: DotRange) -> Iterable[DotRange]:
    """Yield the parts of `one` that are not covered, in order."""
    if context.covers_range(*one):
        return
    at = max(one.first, context.acks.get(one.origin, 0) + 1)
    for first, last in context.ranges_of(one.origin):
        if first > one.last:
            break
        if at < first:
            yield DotRange(one.origin, at, first - 1)
        at = max(at, last + 1)
    if at <= one.last:
        yield DotRange(one.origin, at, one.last)
