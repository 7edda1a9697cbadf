"""What another member's coverage adds to ours, as operations of the log, and what of it is not taken (R3, G11).

A context is taken whole or not at all where it would grow past its bounds: who covers a delete has to cover all that it
superseded (I5), so a part of one is worth nothing. What a sender says of sequences of *our* origin that we never issued
is left out and counted: it would cover our writes before we make them.
"""

from collections.abc import Callable, Iterable, Mapping

from wavekv.config import Limits
from wavekv.core.block import Block
from wavekv.core.context import Context
from wavekv.core.messages import Ranges
from wavekv.core.ops import Cover, Op, UpdateLocalAck
from wavekv.core.types import Dot, Entry
from wavekv.errors import BadEnvelope

CARRIED_SPAN_MAX = 65_536
"""Sequences one push may stand for (G9); it names more only by mistake or malice."""
CARRIED_RANGES_MAX = 16
"""Ranges one push may stand for; members carry one."""

Claims = Callable[[int, int], bool]
"""Tells whether a dot is one of ours that we never issued."""


def reserved(limits: Limits) -> int:
    """Return how much of `origins_max` is for origins that a member names as its own: a quarter of it at most."""
    return min(limits.origins_reserved, limits.origins_max // 4)


def dot_refusal(covered: Context, entry: Entry, limits: Limits, pushed: bool) -> str | None:
    """Return the code of why `covered` cannot grow by the dot of `entry`, None if it can.

    Pages of an exchange may open many more ranges than pushes: the last one closes them.
    """
    ranges_max = limits.dots_max if pushed else limits.fill_ranges_max
    if covered.range_count >= ranges_max and covered.opens_range(entry.origin, entry.seq):
        return "too_many_dots"
    return None


def block_fits(covered: Context, block: Block, limits: Limits) -> bool:
    """Tell whether `covered` may grow by all dots of `block`. False says nothing: look at its entries one by one."""
    ranges = covered.range_count + len(block) <= limits.fill_ranges_max
    return ranges and len(covered.acks) + covered.range_count + len(block.parts) <= limits.origins_max - reserved(
        limits
    )


def growth_refusal(covered: Context, theirs: Context, limits: Limits) -> str | None:
    """Return the code of why `theirs` may not join `covered`: what comes of it is over a bound and larger than before.

    One that was over it already, in an older log, may grow smaller, or stay.
    """
    if theirs.acks.keys() <= covered.acks.keys() and not theirs.range_count:
        return None
    known = covered.origin_count()
    if known + theirs.origin_count() > limits.origins_max:
        new = sum(not covered.knows(origin) for origin in theirs.origins())
        if known + new > max(known, limits.origins_max):
            return "too_many_origins"
    return ranges_refusal(covered, theirs, limits)


def ranges_refusal(covered: Context, theirs: Context, limits: Limits) -> str | None:
    """Return the code of why the ranges of `theirs` may not join `covered`, None if they may."""
    ranges = covered.range_count
    if ranges + theirs.range_count <= limits.dots_max:
        return None
    return "too_many_dots" if covered.joined(theirs).range_count > max(ranges, limits.dots_max) else None


def covering(dots: Context) -> list[Op]:
    """Return the operations that cover `dots`, for which nothing is stored."""
    covers: list[Op] = [Cover(origin, 1, ack) for origin, ack in dots.acks.items()]
    return covers + [Cover(*found) for found in dots.ranges()]


def adopted(covered: Context, theirs: Context, claims: Claims) -> tuple[list[Op], int]:
    """Join `theirs` into `covered`; return the operations, and how many origins of ours it claimed too much of."""
    ops: list[Op] = []
    claimed = 0
    mine = covered.acks
    for origin, ack in [item for item in theirs.acks.items() if item[1] > mine.get(item[0], 0)]:
        if claims(origin, ack):
            claimed += 1
        else:
            covered.add_range(origin, 1, ack)
            ops.append(UpdateLocalAck(origin, ack))
    for origin, ranges in theirs.dots().items():
        new = [found for found in ranges if not covered.covers_range(origin, *found)]
        if new and claims(origin, new[-1][1]):
            claimed += 1
        elif new:
            covered.add_ranges(origin, new)
            ops += [Cover(origin, *found) for found in new]
    return ops, claimed


def carried(
    covered: Context, dots: Mapping[int, Ranges], pushed: Iterable[Dot], limits: Limits, claims: Claims
) -> tuple[list[Op], int]:
    """Join what a push of entries stands for into `covered`; return the operations, and how many ranges claimed ours.

    A range has to end with an entry of the push, as its last write does unless it was overwritten meanwhile. Others,
    those longer than any push stands for, and those above the bound on ranges are left to the exchange.

    Raises:
        BadEnvelope: it names more ranges than any push stands for.
    """
    named = [(origin, *found) for origin, ranges in dots.items() for found in ranges]
    if len(named) > CARRIED_RANGES_MAX:
        raise BadEnvelope(f"the push stands for {len(named)} ranges; one stands for {CARRIED_RANGES_MAX} at most")
    ends = {(origin, last) for origin, _, last in named}.intersection(pushed)
    ops: list[Op] = []
    claimed = 0
    for origin, first, last in named:
        opens = covered.range_count >= limits.dots_max and covered.opens_range(origin, first)
        stands = (origin, last) in ends and last - first < CARRIED_SPAN_MAX and not opens
        if claims(origin, last):
            claimed += 1
        elif stands and not covered.covers_range(origin, first, last):
            covered.add_range(origin, first, last)
            ops.append(Cover(origin, first, last))
    return ops, claimed
