"""A member's own words: what is read of them, and that a hostile one is silent rather than believed."""

from typing import Any

import pytest

from wavekv_operator.member_status import read_view
from wavekv_operator.spec import EPOCH_MAX, REPLICAS_MAX

STATUS: dict[str, Any] = {
    "name": "demo-0",
    "node_id": 7,
    "uuid": "0b1b7a9e-5a36-4f4c-9f0e-7d1c5f0b8f0a",
    "phase": "serving",
    "ready": True,
    "healing": False,
    "draining": False,
    "converged": True,
    "process": {"inc": 5},
    "membership": {"epoch": 2, "included": True, "members": ["demo-0", "demo-1"], "admitted_epoch": 1},
}
DRAIN: dict[str, Any] = {
    "draining": True,
    "complete": False,
    "healing": False,
    "covered_by": {"demo-1": 9},
    "waiting_for": ["demo-2"],
}


def membership(**changes: Any) -> dict[str, Any]:
    return {**STATUS, "membership": {**STATUS["membership"], **changes}}


def test_values_are_taken_at_their_bounds() -> None:
    names = [f"demo-{i}" for i in range(REPLICAS_MAX)]
    view = read_view({**membership(members=names, epoch=EPOCH_MAX), "node_id": 2**32 - 1}, DRAIN)
    assert (len(view.members), view.known, view.node_id) == (REPLICAS_MAX, EPOCH_MAX, 2**32 - 1)
    assert view.drain is not None
    assert dict(view.drain.covered_by) == {"demo-1": 9}


@pytest.mark.parametrize(
    "status",
    [
        {**STATUS, "node_id": 2**32},
        {**STATUS, "node_id": -1},
        {**STATUS, "node_id": True},
        {**STATUS, "node_id": "7"},
        {**STATUS, "uuid": "x" * 2_000_000},
        {**STATUS, "uuid": None},
        {**STATUS, "phase": "x" * 33},
        {**STATUS, "phase": "serving\nfaked line"},
        {**STATUS, "name": "demo-0\n"},
        {**STATUS, "process": {"inc": 2**63}},
        {**STATUS, "process": []},
        {**STATUS, "membership": None},
        membership(epoch=EPOCH_MAX + 1),
        membership(epoch=-1),
        membership(admitted_epoch=EPOCH_MAX + 1),
        membership(members=[f"demo-{i}" for i in range(REPLICAS_MAX + 1)]),
        membership(members=["x" * 64]),
        membership(members=[["demo-0"]]),
        membership(members=7),
    ],
    ids=lambda status: str(status)[:40],
)
def test_what_no_member_says_is_refused(status: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        read_view(status, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"covered_by": {f"demo-{i}": 1 for i in range(REPLICAS_MAX + 1)}},
        {"covered_by": {"demo-1": "x"}},
        {"covered_by": ["demo-1"]},
        {"waiting_for": ["x" * 64]},
        {"waiting_for": ["demo-1"] * (REPLICAS_MAX + 1)},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_drain_that_no_member_says_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        read_view(STATUS, {**DRAIN, **changes})
