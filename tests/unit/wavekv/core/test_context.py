"""Coverage: acks, dots above them, and how they close up."""

from wavekv.core.context import Context


def test_a_dot_next_to_its_ack_joins_it() -> None:
    context = Context({7: 3})
    context.add(7, 4)
    assert context.acks == {7: 4}
    assert context.dots() == {}


def test_a_dot_above_a_gap_stays_single_until_the_gap_closes() -> None:
    context = Context({7: 3})
    context.add(7, 5)
    context.add(7, 7)
    assert context.acks == {7: 3}
    assert context.dots() == {7: ((5, 5), (7, 7))}
    assert context.range_count == 2
    assert not context.covers(7, 4)
    context.add(7, 4)
    assert context.acks == {7: 5}
    assert context.dots() == {7: ((7, 7),)}
    context.add(7, 6)
    assert context.acks == {7: 7}
    assert context.dots() == {}
    assert context.range_count == 0


def test_touching_ranges_melt_into_one() -> None:
    context = Context({}, {1: ((5, 6), (10, 12))})
    context.add_range(1, 7, 9)
    assert context.dots() == {1: ((5, 12),)}
    assert context.range_count == 1


def test_a_range_that_swallows_others_counts_once() -> None:
    context = Context({}, {1: ((3, 3), (5, 5), (9, 9))})
    context.add_range(1, 4, 20)
    assert context.dots() == {1: ((3, 20),)}
    assert context.range_count == 1


def test_raising_an_ack_swallows_the_ranges_below_it() -> None:
    context = Context({}, {1: ((3, 4), (6, 7), (9, 9))})
    context.join({1: 5}, {})
    assert context.acks == {1: 7}
    assert context.dots() == {1: ((9, 9),)}


def test_includes_looks_at_acks_and_dots_of_both_sides() -> None:
    small = Context({1: 4}, {2: ((3, 5),)})
    assert Context({1: 4, 2: 5}).includes(small)
    assert Context({2: 5}, {1: ((1, 4),)}).includes(small)
    assert not Context({1: 4, 2: 2}, {2: ((4, 5),)}).includes(small)
    assert not Context({1: 3, 2: 9}).includes(small)
    assert small.includes(Context())


def test_opens_range_tells_extension_from_a_new_range() -> None:
    context = Context({1: 4}, {1: ((8, 9),)})
    assert not context.opens_range(1, 5)
    assert not context.opens_range(1, 7)
    assert not context.opens_range(1, 9)
    assert not context.opens_range(1, 10)
    assert context.opens_range(1, 6)
    assert context.opens_range(1, 11)


def test_a_copy_does_not_share_ranges() -> None:
    context = Context({1: 4}, {1: ((8, 9),)})
    twin = context.copy()
    twin.add_range(1, 5, 7)
    assert context.dots() == {1: ((8, 9),)}
    assert twin.acks == {1: 9}


def test_missing_counts_sequences_that_the_other_has_above_ours() -> None:
    assert Context({1: 4, 2: 9}).missing(Context({1: 10, 2: 3, 5: 2})) == 8
