"""What is only looked at is not copied: a long value that is overwritten, deleted or compared is seen where it lies."""

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember
from wavekv.core.packed import pack, seen, unpack
from wavekv.core.types import Entry
from wavekv.core.writes import Delete, Put


@pytest.mark.parametrize("value", [None, b"", b"short", bytes(range(256)) * 20, bytes(1 << 20)])
@pytest.mark.parametrize("expires_at", [None, 77])
def test_an_entry_that_is_seen_equals_the_one_that_was_stored(value: bytes | None, expires_at: int | None) -> None:
    packed = pack(Entry("k", value, 5, 7, 9, expires_at))
    entry = seen("k", packed)
    assert entry == unpack("k", packed)
    assert len(entry.value or b"") == len(value or b"")
    assert isinstance(entry.value, memoryview) is (value is not None and len(packed) >= 4096)


def test_writes_over_long_values_copy_none_of_them_and_another_expiry_keeps_the_value() -> None:
    member = MemoryMember(0, ("m0",), LIMITS)
    for key in "abc":
        member.put(key, bytes(10_000), 1000)
    staged = member.replica.batch([Put("a", b"new"), Delete("b")], 2000)
    previous = [one.previous for one in staged.writes if one is not None]
    assert [isinstance(entry.value, memoryview) for entry in previous if entry is not None] == [True, True]
    member.replica.expire("c", 9000, 2000)
    member.commit()
    held = member.store.entries["c"]
    assert (type(held.value), held.value, held.expires_at) == (bytes, bytes(10_000), 9000)
