"""What one write comes to over what its key holds."""

import pytest

from wavekv.core.condition import ABSENT, PRESENT
from wavekv.core.planning import decide
from wavekv.core.types import Entry
from wavekv.core.writes import KEEP_EXPIRY, Delete, Put
from wavekv.errors import PreconditionFailed

VALUE = Entry("ключ", b"12345", 100, 1, 1, 1000)
TOMBSTONE = Entry("ключ", None, 100, 1, 1)


@pytest.mark.parametrize(
    ("held", "now_ms", "live", "expires_at", "growth"),
    [
        (None, 500, None, None, 8 + 2),
        (TOMBSTONE, 500, None, None, 2),
        (VALUE, 999, VALUE, 1000, -3),
        (VALUE, 1000, None, None, -3),
    ],
)
def test_a_put_over_nothing_a_tombstone_a_live_and_an_expired_value(
    held: Entry | None, now_ms: int, live: Entry | None, expires_at: int | None, growth: int
) -> None:
    planned = decide(Put("ключ", b"ab", KEEP_EXPIRY), held, now_ms)
    assert planned is not None
    assert (planned.held, planned.live, planned.expires_at, planned.growth_bytes) == (held, live, expires_at, growth)
    forever = decide(Put("ключ", b"ab"), held, now_ms)
    assert forever is not None
    assert forever.expires_at is None


@pytest.mark.parametrize(("held", "now_ms"), [(None, 0), (TOMBSTONE, 0), (VALUE, 1000)])
def test_a_delete_where_nothing_lives_comes_to_nothing_or_fails_its_condition(held: Entry | None, now_ms: int) -> None:
    assert decide(Delete("ключ"), held, now_ms) is None
    assert decide(Delete("ключ", ABSENT), held, now_ms) is None
    with pytest.raises(PreconditionFailed):
        decide(Delete("ключ", PRESENT), held, now_ms)


def test_a_delete_of_a_live_value_frees_its_bytes_and_keeps_no_expiry() -> None:
    planned = decide(Delete("ключ"), VALUE, 999)
    assert planned is not None
    assert (planned.value, planned.expires_at, planned.growth_bytes) == (None, None, -5)
