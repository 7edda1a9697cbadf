"""Coverage behaves as the set of dots it stands for."""

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from wavekv.core import context as contexts
from wavekv.core.context import Context

ORIGINS = st.integers(1, 3)
SEQS = st.integers(1, 24)
RANGES = st.lists(st.tuples(ORIGINS, SEQS, SEQS).map(lambda r: (r[0], min(r[1:]), max(r[1:]))), max_size=12)


def model(ranges: list[tuple[int, int, int]]) -> set[tuple[int, int]]:
    return {(origin, seq) for origin, first, last in ranges for seq in range(first, last + 1)}


def built(ranges: list[tuple[int, int, int]]) -> Context:
    context = Context()
    for origin, first, last in ranges:
        context.add_range(origin, first, last)
    return context


@given(RANGES)
def test_a_context_covers_exactly_what_was_added(ranges: list[tuple[int, int, int]]) -> None:
    context, dots = built(ranges), model(ranges)
    assert {(o, s) for o in (1, 2, 3) for s in range(1, 26) if context.covers(o, s)} == dots
    assert context.range_count == sum(len(r) for r in context.dots().values())
    for origin, first, _ in context.ranges():
        assert first > context.acks.get(origin, 0) + 1


@given(RANGES, RANGES)
def test_join_is_union_and_includes_is_superset(
    left: list[tuple[int, int, int]], right: list[tuple[int, int, int]]
) -> None:
    a, b = built(left), built(right)
    assert a.includes(b) == (model(left) >= model(right))
    joined = a.copy()
    joined.join(b.acks, b.dots())
    other = b.copy()
    other.join(a.acks, a.dots())
    assert joined == other == built(left + right)
    assert joined.includes(a)
    assert joined.includes(b)


@given(RANGES, RANGES, st.sampled_from([0, 1, 3, 16]))
def test_many_ranges_in_one_pass_come_to_the_same_as_one_by_one(
    left: list[tuple[int, int, int]], right: list[tuple[int, int, int]], few: int
) -> None:
    with patch.object(contexts, "_FEW", few):
        a, b = built(left), built(right)
        assert a.includes(b) == (model(left) >= model(right))
        assert a.joined(b) == built(left + right)
        told = Context.told(b.acks, b.dots())
        assert (told, told.range_count) == (b, b.range_count)
        assert told.origin_count() == b.origin_count() == len(b.acks) + len(b.dots())


@given(RANGES, ORIGINS, SEQS)
def test_opens_range_is_right_about_the_count(ranges: list[tuple[int, int, int]], origin: int, seq: int) -> None:
    context = built(ranges)
    before, opens = context.range_count, context.opens_range(origin, seq)
    covered = context.covers(origin, seq)
    context.add(origin, seq)
    if not covered:
        assert opens == (context.range_count > before)


@given(RANGES, ORIGINS, SEQS, SEQS)
def test_what_is_touched_has_a_covered_dot(ranges: list[tuple[int, int, int]], origin: int, one: int, two: int) -> None:
    first, last = min(one, two), max(one, two)
    expected = any((origin, seq) in model(ranges) for seq in range(first, last + 1))
    assert built(ranges).touches(origin, first, last) == expected
    assert built(ranges).touches(origin, 0, last), "no write has sequence 0"
