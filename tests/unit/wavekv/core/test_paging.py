"""A page is gathered in slices that look at few keys and copy few bytes, whatever lies between its entries."""

import pytest

from tests.fakes.pages import page_of
from wavekv.core import store as store_module
from wavekv.core.image import Image
from wavekv.core.ops import Clear, Set
from wavekv.core.packed import pack
from wavekv.core.paging import Paging
from wavekv.core.store import SLICE_BYTES_MAX, SLICE_KEYS_MAX, Store
from wavekv.core.types import Entry

NOW = 1000


def entry(key: str, value: bytes | None = b"v", seq: int = 1, expires_at: int | None = None) -> Entry:
    return Entry(key, value, 5, 7, seq, expires_at)


def store_of(*entries: Entry) -> Store:
    store = Store(16)
    for seq, one in enumerate(entries, start=1):
        store.apply(Set(one._replace(seq=seq)))
    return store


def named(number: int) -> str:
    return f"k{number:06}"


def steps_of(paging: Paging) -> int:
    steps = 1
    while paging.step(NOW):
        steps += 1
    return steps


def test_deletes_between_entries_are_passed_a_slice_at_a_time() -> None:
    count = 10 * SLICE_KEYS_MAX
    store = store_of(*(entry(named(number), None) for number in range(count)), entry("z"))
    paging = Paging(store, "", None, 10, keys_only=False, bytes_max=None)
    assert steps_of(paging) == count // SLICE_KEYS_MAX + 1
    assert ([found.key for found in paging.entries], paging.more) == (["z"], False)


def test_a_slice_looks_at_no_more_than_its_keys_and_copies_no_more_than_its_bytes() -> None:
    store = store_of(*(entry(named(number)) for number in range(SLICE_KEYS_MAX + 1)))
    first = store.slice("", None, 10_000, NOW)
    assert (len(first.entries), first.passed, first.more) == (SLICE_KEYS_MAX, named(SLICE_KEYS_MAX - 1), True)
    large = store_of(*(entry(named(number), bytes(SLICE_BYTES_MAX)) for number in range(4)))
    found = large.slice("", None, 10, NOW)
    assert (len(found.entries), found.passed, found.more) == (1, named(0), True)


def test_a_page_of_keys_copies_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(*(entry(named(number), bytes(1 << 20)) for number in range(20)))
    unpacked: list[int] = []
    real = store_module.unpack
    monkeypatch.setattr(store_module, "unpack", lambda key, packed: unpacked.append(len(packed)) or real(key, packed))
    paging = Paging(store, "", None, 10, keys_only=True, bytes_max=None)
    assert steps_of(paging) == 2
    assert [(found.key, found.value) for found in paging.entries] == [(named(number), b"") for number in range(10)]
    assert paging.more
    assert max(unpacked) < 64


def test_a_page_ends_by_bytes_and_one_entry_always_goes() -> None:
    store = store_of(*(entry(named(number), bytes(100)) for number in range(5)))
    for bytes_max, fits in ((1, 1), (199, 1), (200, 2), (500, 5)):
        paging = Paging(store, "", None, 10, keys_only=False, bytes_max=bytes_max)
        steps_of(paging)
        assert (len(paging.entries), paging.more) == (fits, fits < 5)


def test_what_stays_is_told_once_whatever_comes_and_goes_between_slices() -> None:
    count = 3 * SLICE_KEYS_MAX
    store = store_of(*(entry(named(number)) for number in range(count)))
    paging = Paging(store, "", None, 2 * count, keys_only=False, bytes_max=None)
    seq = count
    for turn in range(10):
        if not paging.step(NOW):
            break
        for number in (turn * 100, count - 1 - turn):
            store.apply(Clear(named(number)))
        store.apply(Set(entry(f"{named(turn * SLICE_KEYS_MAX)}/new", seq=(seq := seq + 1))))
    told = [found.key for found in paging.entries]
    stayed = [key for key in map(named, range(count)) if key in store.packed]
    assert told == sorted(set(told))
    assert set(stayed) <= set(told)


def test_an_order_that_was_put_off_is_made_slice_by_slice() -> None:
    keys = [named(number * 7919 % 50_000) for number in range(50_000)]
    image = Image({key: pack(entry(key)) for key in keys}, list(keys), values=50_000, ordered=False)
    store = Store(16, image)
    found = store.slice("", None, 10, NOW)
    assert (found.entries, found.passed, found.more) == ([], None, True)
    assert page_of(store, "", None, 3, NOW).entries == [store.entries[named(number)] for number in range(3)]


def test_an_expired_value_has_no_length() -> None:
    store = store_of(entry("a", b"four"), entry("b", b"later", expires_at=NOW + 1), entry("c", None), entry("d", b""))
    assert [store.length_of(key, NOW) for key in "abcde"] == [4, 5, None, 0, None]
    assert store.length_of("b", NOW + 1) is None
