"""Held deletes in the order in which they can be forgotten."""

from wavekv.core.graves import Graves
from wavekv.core.packed import pack
from wavekv.core.types import Entry


def tombstone(key: str, seq: int, origin: int = 1) -> tuple[str, bytes]:
    return key, pack(Entry(key, None, 100, origin, seq))


def everything(_origin: int, _seq: int) -> bool:
    return True


def graves_with(*held: tuple[str, bytes]) -> tuple[Graves, dict[str, bytes]]:
    packed: dict[str, bytes] = {}
    graves = Graves(packed)
    for key, blob in held:
        packed[key] = blob
        graves.add(key, blob)
    return graves, packed


def test_the_oldest_of_each_origin_go_first_and_what_is_not_covered_holds_up_its_origin_alone() -> None:
    graves, _ = graves_with(tombstone("c", 3), tombstone("a", 1), tombstone("b", 2), tombstone("z", 9, origin=2))
    assert graves.take(lambda origin, seq: origin == 2 or seq < 3, 0, 10) == ["a", "b", "z"]
    assert graves.take(everything, 0, 10) == ["c"]


def test_no_more_are_taken_than_asked_for() -> None:
    graves, _ = graves_with(*(tombstone(f"k{seq}", seq) for seq in range(1, 6)))
    assert graves.take(everything, 0, 2) == ["k1", "k2"]
    assert graves.take(everything, 0, 9) == ["k3", "k4", "k5"]


def test_a_delete_that_was_overwritten_is_no_longer_one() -> None:
    graves, packed = graves_with(tombstone("a", 1), tombstone("b", 2))
    packed["a"] = pack(Entry("a", b"back", 200, 1, 3))
    del packed["b"]
    assert graves.take(everything, 0, 10) == []


def test_an_expired_value_waits_for_the_slowest_clock() -> None:
    graves, packed = graves_with()
    packed["a"] = pack(Entry("a", b"v", 100, 1, 1, expires_at=500))
    graves.expire("a")
    assert graves.take(everything, 499, 10) == []
    assert graves.take(everything, 500, 10) == ["a"]


def test_an_expired_value_that_was_written_anew_stays() -> None:
    graves, packed = graves_with()
    packed["a"] = pack(Entry("a", b"v", 100, 1, 1, expires_at=500))
    graves.expire("a")
    packed["a"] = pack(Entry("a", b"v", 200, 1, 2, expires_at=900))
    assert graves.take(everything, 600, 10) == []


def test_an_expired_value_is_judged_again_when_a_clock_behind_has_come_meanwhile() -> None:
    graves, packed = graves_with(tombstone("b", 2))
    packed["a"] = pack(Entry("a", b"v", 100, 1, 1, expires_at=500))
    graves.expire("a")
    assert graves.take(lambda _origin, _seq: False, 500, 10) == []
    assert graves.take(everything, 400, 10) == ["b"], "a member whose clock says 400 was admitted"
    assert graves.take(everything, 500, 10) == ["a"]


def test_dead_items_are_swept_once_they_are_most() -> None:
    graves, packed = graves_with()
    for seq in range(1, 1000):
        key, blob = tombstone("a", seq)
        packed[key] = blob
        graves.add(key, blob)
        graves.tidy(held=1)
        assert graves._items < 100
    assert graves.take(everything, 0, 10) == ["a"]


def test_the_oldest_are_those_in_front() -> None:
    graves, packed = graves_with(tombstone("b", 2), tombstone("a", 1), tombstone("z", 9, origin=2))
    packed["e"] = pack(Entry("e", b"v", 100, 1, 5, expires_at=500))
    graves.expire("e")
    del packed["a"]
    assert [key for key, _ in graves.oldest()] == ["b", "z", "e"]
