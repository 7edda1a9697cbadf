"""A batch may hold conditions that write nothing; one that does not hold refuses all of it."""

import pytest

from tests.fakes.cluster import MemoryMember
from wavekv.core.condition import ABSENT, PRESENT, Condition
from wavekv.core.writes import Check, Delete, Put
from wavekv.errors import PreconditionFailed


def member() -> MemoryMember:
    one = MemoryMember(0, ("a",))
    one.replica.batch([Put("k", b"1")], 1000)
    one.commit()
    return one


def test_a_check_that_holds_lets_the_batch_happen_and_takes_no_sequence() -> None:
    one = member()
    held = one.replica.held("k")
    assert held is not None
    staged = one.replica.batch(
        [Check("k", Condition(match=(held.etag,))), Check("none", ABSENT), Put("x", b"2"), Check("x", PRESENT)], 2000
    )
    assert [write is None for write in staged.writes] == [True, True, False, True]
    before = one.replica.held("x")
    one.commit()
    assert before is not None
    assert before.seq == held.seq + 1


@pytest.mark.parametrize("check", [Check("k", ABSENT), Check("none", PRESENT), Check("k", Condition(match=("1.1.1",)))])
def test_a_check_that_does_not_hold_refuses_all(check: Check) -> None:
    one = member()
    with pytest.raises(PreconditionFailed) as refused:
        one.replica.batch([Put("x", b"2"), Delete("k"), check] if check.key != "k" else [Put("x", b"2"), check], 2000)
    assert refused.value.operation in {1, 2}
    assert one.replica.held("x") is None


def test_a_check_sees_what_is_staged_and_not_durable_yet() -> None:
    one = member()
    one.replica.batch([Put("k", b"2")], 2000)
    staged = one.replica.held("k")
    assert staged is not None
    assert staged.value == b"2"
    with pytest.raises(PreconditionFailed):
        one.replica.batch([Check("k", ABSENT)], 2000)


def test_a_batch_of_checks_alone_stages_nothing() -> None:
    one = member()
    ticket = one.replica.batch([Check("k", PRESENT)], 2000).ticket
    assert ticket == one.replica.last_ticket
    assert one.replica.ready() is None
