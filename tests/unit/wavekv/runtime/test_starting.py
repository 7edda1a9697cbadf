"""A start tells how far it is: to the probes at once, to the log now and then."""

import gc
import logging

import pytest

from tests.fakes.disk import StillClock
from wavekv.runtime.starting import RecoveryProgress, unpaused_by_collections


def test_the_share_is_told_each_time_and_logged_every_five_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, shares = StillClock(), list[float]()
    progress = RecoveryProgress(shares.append, clock)
    for second, done in ((1, 10), (4.9, 40), (5, 50), (9.9, 80), (10, 100)):
        clock.seconds = second
        progress(done, 100)
    assert shares == [0.1, 0.4, 0.5, 0.8, 1.0]
    assert [record.getMessage() for record in caplog.records] == [
        "recovery: 50 % of 100 bytes read",
        "recovery: 100 % of 100 bytes read",
    ]


def test_an_empty_directory_is_read_at_once() -> None:
    shares = list[float]()
    RecoveryProgress(shares.append, StillClock())(0, 0)
    assert shares == [1.0]


def test_what_a_recovery_makes_is_left_out_of_later_collections() -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    try:
        with unpaused_by_collections():
            assert not gc.isenabled()
            made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
        assert gc.isenabled()
        assert gc.get_freeze_count() >= before + len(made)
    finally:
        gc.unfreeze()
