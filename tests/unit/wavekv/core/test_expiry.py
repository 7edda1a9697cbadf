"""Expiry: absent to the millisecond, told by the tick, counted, and never undone by a clock."""

from array import array

import pytest

from tests.fakes.cluster import MemoryMember, cluster, sync
from tests.fakes.pages import page_of
from wavekv.core.condition import ABSENT, PRESENT
from wavekv.core.expiry import TICK_MS, Calendar
from wavekv.core.image import Dots, Image
from wavekv.core.loading import MendingLoader
from wavekv.core.ops import Clear, SetExpiring
from wavekv.core.packed import pack
from wavekv.core.store import Store
from wavekv.core.types import Entry
from wavekv.core.writes import KEEP_EXPIRY
from wavekv.errors import KeyNotFound, PreconditionFailed


def alone() -> MemoryMember:
    return MemoryMember(0, ("m0",))


def put(member: MemoryMember, key: str, expires_at: int | None, now_ms: int = 100) -> Entry:
    staged = member.replica.put(key, b"v", now_ms, expires_at=expires_at)
    member.commit()
    return staged.entry


# ---- the calendar --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("expires_at", "due_at"), [(1000, 1099), (1099, 1099), (1100, 1199), (0, 99), (-1, -1)])
def test_a_key_is_due_when_its_whole_tick_has_passed(expires_at: int, due_at: int) -> None:
    calendar = Calendar()
    calendar.add("k", expires_at)
    assert calendar.take_due(due_at - 1, 10) == []
    assert calendar.take_due(due_at, 10) == ["k"]
    assert calendar.take_due(due_at, 10) == []
    assert len(calendar) == 0


def test_due_keys_come_the_earliest_first_and_no_more_than_asked() -> None:
    calendar = Calendar()
    for number in range(5):
        calendar.add(f"k{number}", (5 - number) * TICK_MS)
    assert calendar.take_due(10_000, 2) == ["k4", "k3"]
    assert calendar.take_due(10_000, 3) == ["k2", "k1", "k0"]


def test_a_removed_key_is_never_due_and_one_added_again_is_due_once() -> None:
    calendar = Calendar()
    calendar.add("k", 1000)
    calendar.remove("k", 1000)
    calendar.remove("k", 1000)
    assert calendar.take_due(5000, 10) == []
    calendar.add("k", 1000)
    calendar.remove("k", 1000)
    calendar.add("k", 1010)
    assert calendar.take_due(5000, 10) == ["k"]
    assert calendar.take_due(5000, 10) == []


def test_its_length_is_that_of_the_keys_not_yet_due() -> None:
    calendar = Calendar()
    for key in ("a", "a", "b", "c"):
        calendar.add(key, 1000)
    assert len(calendar) == 3
    calendar.remove("a", 1000)
    calendar.remove("a", 1000)
    calendar.remove("b", 5000)
    assert len(calendar) == 2
    assert len(calendar.take_due(5000, 1)) == 1
    assert len(calendar) == 1


def test_overwriting_one_key_for_ever_leaves_a_calendar_of_bounded_size() -> None:
    calendar = Calendar()
    for number in range(1000):
        calendar.add("k", number * TICK_MS)
        calendar.remove("k", number * TICK_MS)
    assert len(calendar._ticks) <= 64 + 2
    assert calendar._keys == {}


# ---- a member ------------------------------------------------------------------------------------------------------


def test_a_value_is_absent_at_the_very_millisecond() -> None:
    member = alone()
    put(member, "k", 1000)
    assert member.store.get("k", 999) is not None
    assert member.store.get("k", 1000) is None


def test_what_a_read_judged_expired_stays_so_when_the_clock_steps_back() -> None:
    member = alone()
    put(member, "k", 1000)
    assert member.store.get("k", 1000) is None
    assert member.store.get("k", 100) is None
    assert page_of(member.store, "", None, 10, 100).entries == []
    with pytest.raises(KeyNotFound):
        member.replica.delete("k", 100)
    put(member, "l", 2000)
    assert page_of(member.store, "", None, 10, 2000).entries == []
    assert member.store.get("l", 100) is None


def test_an_expired_value_cannot_be_deleted_or_prolonged_and_a_put_creates_it_anew() -> None:
    member = alone()
    old = put(member, "k", 1000)
    with pytest.raises(KeyNotFound):
        member.replica.delete("k", 1000)
    with pytest.raises(KeyNotFound):
        member.replica.expire("k", 5000, 1000)
    with pytest.raises(PreconditionFailed):
        member.replica.expire("k", 5000, 1000, PRESENT)
    with pytest.raises(PreconditionFailed):
        member.replica.put("k", b"2", 1000, PRESENT)
    staged = member.replica.put("k", b"2", 1000, ABSENT)
    assert (staged.created, staged.previous) == (True, None)
    member.commit()
    assert member.store.entries["k"].stamp > old.stamp
    assert member.store.size_bytes == 2


def test_expire_works_on_a_staged_value_and_none_makes_it_stay() -> None:
    member = alone()
    member.replica.put("k", b"staged", 100, expires_at=1000)
    member.replica.expire("k", 2000, 100)
    member.commit()
    assert (member.value("k"), member.store.entries["k"].expires_at) == (b"staged", 2000)
    member.replica.expire("k", None, 100)
    member.replica.expire("k", KEEP_EXPIRY, 100)
    member.commit()
    assert member.store.entries["k"].expires_at is None
    assert member.store.take_expired(10_000, 10) == []
    member.replica.delete("k", 10_000)
    with pytest.raises(KeyNotFound, match=r"^there is no key 'k'$"):
        member.replica.expire("k", 20_000, 10_000)
    with pytest.raises(KeyNotFound, match=r"^there is no key 'k'$"):
        member.replica.delete("k", 10_000)


def test_the_count_of_live_values_follows_each_expiry_once() -> None:
    member = alone()
    for key in ("a", "b", "c"):
        put(member, key, 1000)
    put(member, "d", None)
    store = member.store
    assert (store.live(), store.expiring()) == (4, 3)
    assert sorted(store.take_expired(1099, 10)) == ["a", "b", "c"]
    assert store.take_expired(1099, 10) == []
    assert (store.live(), store.expiring()) == (1, 0)
    put(member, "a", None, 1100)
    put(member, "b", 3000, 1100)
    assert (store.live(), store.expiring()) == (3, 1)
    member.delete("a", 1100)
    assert store.live() == 2
    store.apply(Clear("c"))
    assert store.live() == 2
    assert store.take_expired(3099, 10) == ["b"]
    assert store.live() == 1
    assert store.live() == len(page_of(store, "", None, 10, 3099).entries)


def test_an_expired_value_travels_as_it_is_and_every_member_reads_it_as_absent() -> None:
    first, second = cluster(2)
    put(first, "k", 1000)
    assert first.store.take_expired(2000, 10) == ["k"]
    sync(second, first)
    assert second.store.entries["k"] == first.store.entries["k"]
    assert second.store.get("k", 2000) is None
    assert second.store.take_expired(2000, 10) == ["k"]
    assert first.store.buckets.snapshot() == second.store.buckets.snapshot()


def image_of(entry: Entry) -> Image:
    image = Image(packed={entry.key: pack(entry)}, keys=[entry.key], expiring=[(entry.expires_at or 0, 0)])
    image.values, image.size_bytes, image.position = int(entry.value is not None), len(entry.value or b"") + 1, 1
    return image


@pytest.mark.parametrize(
    ("held", "due"),
    [
        (Entry("k", b"v", 100, 1, 1, 1000), ["k"]),
        (Entry("k", b"v", 100, 1, 1, 9000), []),
        (Entry("k", b"v", 100, 1, 1), []),
        (Entry("k", None, 100, 1, 1, 1000), []),
        (None, []),
    ],
)
def test_a_snapshot_s_list_of_expiries_counts_as_far_as_the_log_behind_it_left_it(
    held: Entry | None, due: list[str]
) -> None:
    image = image_of(Entry("k", b"v", 50, 1, 1, 1000))
    image.packed.clear()
    if held is not None:
        image.packed["k"] = pack(held)
    assert Store(10, image, {}).take_expired(2000, 10) == due


def test_a_replay_that_clears_an_expiring_key_of_the_snapshot_leaves_no_expiry() -> None:
    entries = [Entry(f"k{number}", b"v", 50, 1, number + 1, 1000) for number in range(10)]
    store = Store(100)
    for entry in entries:
        store.apply(SetExpiring(entry))
    places = range(10)
    dots = Dots(1, array("Q", range(1, 11)), array("I", places))
    image = Image(
        dict(store.packed), [entry.key for entry in entries], [dots], [(1000, place) for place in places],
        10, store.size_bytes, store.buckets.snapshot(), store.standing, store.position,
    )  # fmt: skip
    loader = MendingLoader(100, image)
    loader.apply(SetExpiring(Entry("k1", b"w", 60, 1, 20, 5000)))
    loader.apply(Clear("k2"))
    mended = loader.store()
    assert sorted(mended.take_expired(1099, 20)) == ["k0", *(f"k{number}" for number in range(3, 10))]
    assert mended.take_expired(5099, 20) == ["k1"]
    assert mended.live() == 0
