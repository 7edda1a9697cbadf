"""Lines that a stranger causes: one of a kind now and then, with the number of those left out."""

import logging

import pytest

from wavekv.runtime.spaced_log import KINDS_MAX, SpacedLog


def test_a_thousand_refusals_are_two_lines_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    lines = SpacedLog(logging.getLogger("wavekv.test"), lambda: now[0], seconds=10.0)
    for number in range(1000):
        lines.tell(logging.WARNING, "bad", "refused %d", number)
    now[0] = 10.0
    lines.tell(logging.WARNING, "bad", "refused %d", 1000)
    assert [record.getMessage() for record in caplog.records] == ["refused 0", "refused 1000 (and 999 more like it)"]


def test_kinds_are_told_apart_up_to_their_bound(caplog: pytest.LogCaptureFixture) -> None:
    lines = SpacedLog(logging.getLogger("wavekv.test"), lambda: 0.0)
    for number in range(KINDS_MAX + 1000):
        lines.tell(logging.WARNING, f"kind {number}", "refused")
    assert len(caplog.records) == KINDS_MAX + 1
