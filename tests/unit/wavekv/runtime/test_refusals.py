"""Entries refused on merge are counted by code, and the last one is named, in the log at a bounded rate."""

import logging

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember, cluster
from tests.fakes.key_values import FakeClock, Operations
from wavekv.core.types import Entry
from wavekv.runtime.refusals import Refusals

AHEAD_MS = LIMITS.future_ms_max + 1
NOW_MS = 1_000_000


class Counted(Operations):
    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[str, int]] = []

    def refused(self, code: str, count: int) -> None:
        self.counts.append((code, count))


def ahead(key: str) -> Entry:
    return Entry(key, b"v", NOW_MS + AHEAD_MS, 9, 1)


def test_the_last_refusal_is_named() -> None:
    (member,) = cluster(1)
    assert member.replica.last_refusal is None
    merged = member.replica.merge((ahead("a"), ahead("b"), Entry("c", b"", 1, 9, 0)), NOW_MS, sender="m1")
    assert dict(merged.refused) == {"future_timestamp": 2, "bad_sequence": 1}
    assert member.replica.last_refusal == ("bad_sequence", "c", 1, "m1", NOW_MS)


def test_each_is_counted_and_the_log_has_one_line_for_a_code_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    member: MemoryMember = cluster(1)[0]
    clock, observer = FakeClock(), Counted()
    refusals = Refusals(member.replica, observer, clock)
    for second in (0, 1, 29, 30):
        clock.seconds = float(second)
        refusals.tell(member.replica.merge((ahead("schlüssel" * 50),), NOW_MS, sender="m1").refused)
    assert observer.counts == [("future_timestamp", 1)] * 4
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("refused 1 entries")
    assert second.startswith("refused 3 entries")
    assert "of m1, key 'schlüssel" in first
    assert "stamped 300.0 s ahead [future_timestamp]" in first
    assert len(first) < 300
    refusals.tell({})
    assert len(caplog.records) == 2
