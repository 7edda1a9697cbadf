"""The number of a process: the time, or beyond the last one's."""

from tests.fakes.cluster import SeededRng
from wavekv.core.identity import SKIPPED_MAX, process_number


def test_it_is_the_time_unless_the_clock_is_behind_the_last_process() -> None:
    rng = SeededRng(1)
    assert process_number(5000, 0, rng) == 5000
    assert process_number(5000, 4999, rng) == 5000
    assert process_number(5000, 5000, rng) > 5000
    assert process_number(1000, 5000, rng) > 5000


def test_two_processes_that_follow_the_same_one_on_a_clock_that_is_behind_differ() -> None:
    rng = SeededRng(1)
    numbers = [process_number(1000, 5000, rng) for _ in range(20)]
    assert len(set(numbers)) > 15
    assert all(5000 < number <= 5000 + SKIPPED_MAX for number in numbers)
