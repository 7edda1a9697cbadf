"""The budget of a plane: what fits, what is refused, and that everything is given back."""

import pytest

from wavekv.config import Limits
from wavekv.errors import TooManyBytes
from wavekv.runtime.budget import ByteBudget, Holding, budgets_of


def test_the_last_byte_fits_and_one_more_is_refused_and_counted() -> None:
    budget = ByteBudget("http", 10)
    budget.take(10)
    with pytest.raises(TooManyBytes, match="hold 10 of 10 bytes, and this needs 1 more") as refused:
        budget.take(1)
    assert (refused.value.code, refused.value.status) == ("memory_budget", 503)
    assert (budget.used, budget.left, budget.refusals) == (10, 0, 1)


def test_what_is_given_back_can_be_taken_again_and_the_peak_stays() -> None:
    budget = ByteBudget("http", 10)
    budget.take(8)
    budget.give_back(8)
    assert budget.try_take(9)
    assert not budget.try_take(2)
    budget.give_back(9)
    assert (budget.used, budget.peak, budget.refusals) == (0, 9, 1)


def test_more_than_was_taken_is_not_given_back() -> None:
    budget = ByteBudget("http", 10)
    budget.take(3)
    with pytest.raises(AssertionError):
        budget.give_back(4)


def test_a_holding_grows_shrinks_and_gives_back_once() -> None:
    budget = ByteBudget("http", 10)
    with Holding(budget) as holding:
        holding.resize(6)
        holding.resize(9)
        assert not holding.try_resize(11)
        assert (holding.size, budget.used) == (9, 9)
        holding.resize(2)
        assert (holding.size, budget.used) == (2, 2)
        with pytest.raises(TooManyBytes):
            holding.resize(11)
        assert (holding.size, budget.used) == (2, 2)
    holding.release()
    assert (holding.size, budget.used, budget.refusals) == (0, 0, 2)


def test_a_holding_is_given_back_when_the_work_fails() -> None:
    budget = ByteBudget("http", 10)

    def fail() -> None:
        with Holding(budget) as holding:
            holding.resize(6)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (budget.used, budget.peak) == (0, 6)


def test_each_plane_has_a_budget_of_its_own() -> None:
    limits = Limits(http_held_bytes_max=1, resp_held_bytes_max=2, watch_held_bytes_max=3, peer_held_bytes_max=4)
    budgets = budgets_of(limits)
    assert [(budget.plane, budget.bytes_max) for budget in budgets] == [
        ("http", 1),
        ("resp", 2),
        ("watch", 3),
        ("peer", 4),
    ]
