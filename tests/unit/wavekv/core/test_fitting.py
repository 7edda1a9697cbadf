"""What fits, at its exact limits: local writes up to a share, merged entries up to the whole, and what frees always."""

from dataclasses import replace

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember
from wavekv.core.fitting import check_room, merge_refusal
from wavekv.core.types import Entry
from wavekv.errors import LimitReached

TEN = replace(LIMITS, entries_max=10, bytes_max=100)


@pytest.mark.parametrize(
    ("keys", "size_bytes", "new_key", "growth_bytes", "fits"),
    [
        (8, 0, True, 1, True),
        (9, 0, True, 1, False),
        (9, 0, True, 0, False),
        (10, 0, False, 0, True),
        (0, 89, False, 1, True),
        (0, 89, False, 2, False),
        (0, 0, True, 90, True),
        (0, 0, True, 91, False),
        (0, 100, False, 0, True),
        (0, 100, False, -1, True),
    ],
)
def test_local_writes_fit_up_to_nine_tenths(
    keys: int, size_bytes: int, new_key: bool, growth_bytes: int, fits: bool
) -> None:
    def check() -> None:
        check_room(TEN, keys=keys, size_bytes=size_bytes, new_key=new_key, growth_bytes=growth_bytes)

    if fits:
        check()
    else:
        with pytest.raises(LimitReached):
            check()


HELD = Entry("k", b"x" * 10, 100, 1, 1)


@pytest.mark.parametrize(
    ("entry", "held", "keys", "size_bytes", "code"),
    [
        (HELD, None, 9, 99, None),
        (HELD, None, 10, 0, "limit_reached"),
        (HELD, None, 0, 100, "limit_reached"),
        (Entry("k", b"x" * 20, 200, 1, 2), HELD, 10, 90, None),
        (Entry("k", b"x" * 21, 200, 1, 2), HELD, 10, 90, "limit_reached"),
        (Entry("k", b"x" * 21, 50, 1, 2), HELD, 10, 90, None),
        (Entry("k", b"x" * 10, 200, 1, 2), HELD, 10, 150, None),
        (Entry("k", None, 200, 1, 2), HELD, 10, 150, None),
        (Entry("k", b"x" * 21, 200, 1, 2), HELD, 10, 89, None),
    ],
)
def test_merged_entries_fit_up_to_the_whole_and_what_loses_or_frees_always_does(
    entry: Entry, held: Entry | None, keys: int, size_bytes: int, code: str | None
) -> None:
    assert merge_refusal(entry, held, TEN, keys=keys, size_bytes=size_bytes, now_ms=1000) == code


def test_overwriting_with_ever_larger_values_from_peers_stops_at_the_limit() -> None:
    member = MemoryMember(0, ("m0",), replace(LIMITS, bytes_max=1000))
    refused = 0
    for seq in range(1, 40):
        entry = Entry(f"k{seq % 4}", b"x" * (seq * 20), seq, 9, seq)
        refused += member.replica.merge([entry], 1000).refused["limit_reached"]
        member.commit()
    assert refused > 0
    assert 900 < member.store.size_bytes <= 1000
