"""A few rounds of `make kill-loop`: a member that is killed under load holds all it acknowledged, batches whole."""

from pathlib import Path

from bench.kill_loop import KillLoop
from tests.integration.member_process import Cluster

KILLS = 6


def test_a_member_killed_again_and_again_loses_no_acknowledged_write(tmp_path: Path) -> None:
    with Cluster(1, tmp_path) as cluster:
        tally = KillLoop(cluster[0], seed=7).run(KILLS)
    assert tally.kills >= KILLS
    assert tally.acknowledged > 100, "the load was real"
    assert tally.refused == 0
    assert tally.in_flight_found + tally.in_flight_lost > 0, "the kills met writes in flight"
