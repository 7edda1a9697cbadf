"""Cursors: labels in the order of keys, which may be forgotten but never leave a key out."""

import random
from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavekv.resp.cursors import CURSOR_MAX, Cursors
from wavekv.resp.refusals import Refused


class Scan:
    """A scan over a set of keys that may change."""

    def __init__(self, cursors: Cursors, keys: set[str], count: int) -> None:
        self.cursors, self.keys, self.count = cursors, keys, count
        self.cursor, self.told, self.done = 0, [], False

    def step(self) -> None:
        after = self.cursors.behind(self.cursor) if self.cursor else None
        left = sorted(key for key in self.keys if after is None or key > after)
        page = left[: self.count]
        self.cursor = 0
        while len(page) < len(left):
            following = self.cursors.next_behind(page[-1])
            cursor = self.cursors.stop(after, page[-1], len(page), len(self.keys))
            if cursor is not None:
                self.cursor = cursor
                break
            page.append(left[len(page)])
            if page[-1] == following:
                self.cursor = self.cursors.at(following) or 0
                assert self.cursor
                break
        self.told += page
        self.done = not self.cursor


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(12, 40))
def test_what_is_there_all_the_time_is_told_whatever_others_do(seed: int, count_max: int) -> None:
    rng = random.Random(seed)
    steady = {f"{rng.randrange(1000):03}" for _ in range(60)}
    keys = set(steady)
    cursors = Cursors(count_max, process=seed)
    slow = Scan(cursors, keys, rng.randint(1, 9))
    others = [Scan(cursors, keys, rng.randint(1, 9)) for _ in range(3)]
    for _ in range(1000):
        slow.step()
        if slow.done:
            break
        for number, other in enumerate(others):
            if rng.random() < 0.3:
                other.step()
                if other.done:
                    others[number] = Scan(cursors, keys, rng.randint(1, 9))
        changing = f"{rng.randrange(1000):03}x"
        keys.symmetric_difference_update({changing})
        assert 0 <= slow.cursor <= CURSOR_MAX
    assert slow.done, "it comes to an end"
    assert steady <= set(slow.told)


def test_alone_every_key_is_told_once_and_labels_stay_within_their_bound() -> None:
    keys = {f"{number:05}" for number in range(5000)}
    cursors = Cursors(100, process=1)
    scan = Scan(cursors, keys, 3)
    while not scan.done:
        scan.step()
        assert len(cursors._labels) <= 101
    assert scan.told == sorted(keys)


def test_keys_that_are_squeezed_between_two_labels_are_told() -> None:
    keys = {"a", "z"}
    cursors = Cursors(1000, process=1)
    for depth in range(200):
        keys.add("a" + "0" * (200 - depth))
        scan = Scan(cursors, keys, 1)
        while not scan.done:
            scan.step()
        assert scan.told == sorted(keys)
    cursors.renew()
    assert cursors.next_behind("a") is None


@pytest.mark.parametrize("seed", [1, 3])
def test_scans_of_all_strides_find_a_free_label_nearby_while_keys_come_and_go(seed: int) -> None:
    rng = random.Random(seed)
    steady = [f"{number:04}" for number in range(1000)]
    keys = list(steady)
    cursors = Cursors(1600, process=1)
    scans = [[0, rng.choice([1, 7, 50, 100])] for _ in range(30)]
    added = 0
    for _ in range(40_000):
        changing = f"{rng.randrange(1000):04}{rng.choice('abz') * rng.randint(1, 3)}"
        place = bisect_left(keys, changing)
        if keys[place : place + 1] == [changing]:
            keys.pop(place)
        else:
            keys.insert(place, changing)
        scan = rng.choice(scans)
        after = cursors.behind(scan[0])
        begin = 0 if after is None else bisect_right(keys, after)
        end = begin + scan[1]
        scan[0] = 0
        while end < len(keys):
            cursor = cursors.stop(after, keys[end - 1], end - begin, len(keys))
            if cursor is not None:
                scan[0] = cursor
                break
            following = cursors.next_behind(keys[end - 1])
            end = bisect_right(keys, following) if following is not None else len(keys)
            if following is not None:
                scan[0] = cursors.at(following) or 0
                break
        added += max(end - begin - scan[1], 0)
    assert added < 1000  # two to three thousand where the keys before a label are counted from its neighbour alone


def test_scans_in_progress_outlive_labels_that_are_given_anew() -> None:
    cursors = Cursors(10, process=7)
    cursor = cursors.stop(None, "k", 1, 2)
    assert cursor is not None
    cursors.renew()
    assert cursors.behind(cursor) == "k"
    assert cursors.at("k") is None
    following = cursors.stop("k", "m", 1, 2)
    assert following is not None
    assert cursors.behind(following) == "m"
    cursors.renew()
    assert cursors.behind(following) == "m"
    with pytest.raises(Refused):
        cursors.behind(cursor)


def test_a_cursor_of_another_process_is_refused_and_one_of_this_is_not() -> None:
    cursor = Cursors(10, process=7).stop(None, "k", 1, 2)
    assert cursor is not None
    assert Cursors(10, process=7 + (1 << 13)).behind(cursor) is None, "a label that is not known is the beginning"
    with pytest.raises(Refused):
        Cursors(10, process=8).behind(cursor)
