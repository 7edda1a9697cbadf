"""A clock far ahead of the peers' takes no writes, says why, and recovers by itself."""

from pathlib import Path

import pytest

from tests.unit.wavekv.runtime.test_readiness import FOUNDED, SERVING, STOPPING, running, settled
from wavekv.config import Limits
from wavekv.core.context import Context
from wavekv.core.reports import Report
from wavekv.errors import ClockAhead
from wavekv.runtime.clocks import ahead_ms, skew_ms

MOST = Limits().ahead_ms_max
AHEAD = (True, "serving", "clock_ahead")


def heard(skew: int | None) -> Report:
    return Report(1, Context(), 1_000_000, None if skew is None else 1_000_000 + skew)


def test_a_peer_s_skew_is_its_clock_against_ours() -> None:
    assert [skew_ms(heard(skew)) for skew in (250, -250, None)] == [250, -250, None]


@pytest.mark.parametrize(
    ("skews", "ahead"),
    [
        ((), None),
        ((None,), None),
        ((-200_000,), 200_000),
        ((200_000,), -200_000),
        ((-200_000, 0), 0),
        ((-200_000, -160_000), 160_000),
        ((-(2**63), 5), -5),
        ((-(2**63), 5, -5, -(2**63)), 5),
        ((-200_000, 0, 100), 0),
        ((-200_000, 0, -300_000), 200_000),
        ((None, -5), 5),
    ],
)
def test_the_median_of_the_peers_is_what_counts(skews: tuple[int | None, ...], ahead: int | None) -> None:
    assert ahead_ms([None, *map(heard, skews)]) == ahead


async def test_a_member_far_ahead_refuses_writes_while_it_is_and_stays_ready(tmp_path: Path) -> None:
    async with running(tmp_path, FOUNDED) as bench:
        bench.readiness.round_ended()
        await settled()
        for ahead, says in ((MOST, SERVING), (MOST + 1, AHEAD), (MOST + 5000, AHEAD), (MOST, SERVING), (None, SERVING)):
            bench.readiness.clock_judged(ahead, MOST)
            assert bench.says() == says
            assert bench.readiness.clock_ahead == (says == AHEAD)
        bench.readiness.clock_judged(MOST * 2, MOST)
        with pytest.raises(ClockAhead, match="300 s ahead of its peers' median"):
            bench.replica.delete("k", 100)
        bench.readiness.stop()
        assert bench.says() == STOPPING
