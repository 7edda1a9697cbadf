"""The calendar of expiries and the order of keys, against models so plain that they cannot be wrong."""

import random
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from wavekv.core import ordered
from wavekv.core.expiry import TICK_MS, Calendar
from wavekv.core.ordered import KeyOrder

CALENDAR_KEYS = st.sampled_from("abcdef")
TIMES = st.integers(-2 * TICK_MS, 8 * TICK_MS)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("expires"), CALENDAR_KEYS, TIMES),
        st.tuples(st.just("stays"), CALENDAR_KEYS, st.just(0)),
        st.tuples(st.just("due"), st.integers(0, 4), TIMES),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_calendar_tells_each_expiry_once_in_order_and_within_a_tick(
    steps: list[tuple[str, str | int, int]],
) -> None:
    calendar, model = Calendar(), dict[str, int]()
    for kind, what, at in steps:
        if kind == "due":
            assert isinstance(what, int)
            due = calendar.take_due(at, what)
            ripe = {key for key, expires_at in model.items() if (expires_at // TICK_MS + 1) * TICK_MS - 1 <= at}
            ticks = [model[key] // TICK_MS for key in due]
            assert len(set(due)) == len(due) == min(what, len(ripe))
            assert set(due) <= ripe
            assert ticks == sorted(ticks)
            assert all(model[key] // TICK_MS >= ticks[-1] for key in ripe - set(due) if ticks)
            for key in due:
                del model[key]
        else:
            assert isinstance(what, str)
            if what in model:
                calendar.remove(what, model.pop(what))
            if kind == "expires":
                model[what] = at
                calendar.add(what, at)
    assert len(calendar) == len(model)
    assert sorted(calendar.take_due(10**9, 100)) == sorted(model)


KEYS = st.text("ab\u00e9\U0001f600", min_size=1, max_size=3)


@given(st.lists(KEYS, unique=True), st.lists(KEYS, max_size=80), st.lists(st.tuples(KEYS, st.booleans()), max_size=10))
def test_the_order_of_keys_is_that_of_a_sorted_list(
    first: list[str], toggled: list[str], asked: list[tuple[str, bool]]
) -> None:
    with patch.object(ordered, "BLOCK_MAX", 4):
        model = sorted(first)
        order = KeyOrder(model)
        for key in toggled:
            if key in model:
                model.remove(key)
                order.remove(key)
            else:
                model = sorted([*model, key])
                order.insert(key)
            assert (list(order), len(order)) == (model, len(model))
        for start, inclusive in asked:
            expected = [key for key in model if key > start or (inclusive and key == start)]
            assert list(order.behind(start, inclusive=inclusive)) == expected
    assert [key.encode() for key in order] == sorted(key.encode() for key in model), "the order of UTF-8 bytes"


@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.sampled_from(("insert", "remove", "settle", "prepare")), st.integers(0, 500))),
)
def test_keys_put_in_order_later_are_always_those_put_in_order_at_once(
    count: int, steps: list[tuple[str, int]]
) -> None:
    keys = [f"{number * 7919 % 401:03}" for number in range(count)]
    with patch.multiple(ordered, SORTED_AT_ONCE=64, PLACED_AT_ONCE=3):
        order, model = KeyOrder.later(list(keys)), set(keys)
        for step, number in steps:
            key = f"{number:03}"
            if step == "insert" and key not in model:
                order.insert(key)
                model.add(key)
            elif step == "remove" and key in model:
                order.remove(key)
                model.remove(key)
            elif step == "settle":
                order.settle()
            elif step == "prepare":
                order.prepare()
            assert len(order) == len(model)
        if steps and steps[0][1] % 2:
            while order.settle():
                pass
        assert list(order.behind("2", inclusive=True)) == sorted(key for key in model if key >= "2")
        assert list(order) == sorted(model)
        assert not order.settle()
        order.insert("~")
        assert [*order][-1] == "~"


@given(
    st.lists(
        st.tuples(st.sampled_from(("extend", "extend", "insert", "remove", "prepare", "ask")), st.integers(0, 99)),
        max_size=60,
    ),
    st.randoms(use_true_random=False),
)
def test_keys_that_come_many_at_a_time_are_always_those_put_in_order_at_once(
    steps: list[tuple[str, int]], rng: random.Random
) -> None:
    small = {"BLOCK_MAX": 4, "GATHERED_MIN": 6, "GATHERED_MAX": 20, "_SORTED_IN_MIN": 2}
    small |= {"SORTED_AT_ONCE": 5, "PLACED_AT_ONCE": 3}
    with patch.multiple(ordered, **small):
        order, model = KeyOrder(), set[str]()
        for step, number in steps:
            key = f"{number:02}"
            if step == "extend":
                keys = sorted({f"{rng.randrange(1000):03}" for _ in range(number % 13)} - model)
                order.extend(keys)
                model.update(keys)
            elif step == "insert" and key not in model:
                order.insert(key)
                model.add(key)
            elif step == "remove" and model:
                gone = rng.choice(sorted(model))
                order.remove(gone)
                model.remove(gone)
            elif step == "prepare":
                order.prepare()
            elif step == "ask":
                behind = sorted(held for held in model if held > key)
                assert list(order.behind(key, inclusive=False)) == behind
                assert order.some_behind(key, number % 9, inclusive=False) == behind[: number % 9]
            assert len(order) == len(model)
            assert all(0 < len(block) <= 4 for block in order._blocks)
            assert order._heads == [block[0] for block in order._blocks]
        assert list(order) == sorted(model)
