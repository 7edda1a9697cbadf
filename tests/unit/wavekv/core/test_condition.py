"""Conditions of writes, decided against what is stored and what is staged."""

import pytest

from tests.fakes.cluster import LIMITS, MemoryMember
from wavekv.core.condition import ABSENT, ALWAYS, PRESENT, Condition
from wavekv.core.types import Entry
from wavekv.errors import KeyNotFound, PreconditionFailed

ENTRY = Entry("k", b"v", 100, 7, 3)
OTHER = "99.7.2"


@pytest.mark.parametrize(
    ("condition", "live"),
    [
        (ALWAYS, None),
        (ALWAYS, ENTRY),
        (ABSENT, None),
        (PRESENT, ENTRY),
        (Condition(match=(ENTRY.etag,)), ENTRY),
        (Condition(match=(OTHER, ENTRY.etag)), ENTRY),
        (Condition(none_match=(OTHER,)), ENTRY),
        (Condition(none_match=(OTHER,)), None),
        (Condition(none_match=()), ENTRY),
    ],
)
def test_a_condition_holds(condition: Condition, live: Entry | None) -> None:
    condition.check(live)


@pytest.mark.parametrize(
    ("condition", "live"),
    [
        (ABSENT, ENTRY),
        (PRESENT, None),
        (Condition(match=(ENTRY.etag,)), None),
        (Condition(match=(OTHER,)), ENTRY),
        (Condition(match=()), ENTRY),
        (Condition(none_match=(OTHER, ENTRY.etag)), ENTRY),
        (Condition(match=(ENTRY.etag,), none_match=(ENTRY.etag,)), ENTRY),
    ],
)
def test_a_condition_that_does_not_hold_names_the_value_that_is_there(condition: Condition, live: Entry | None) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        condition.check(live)
    assert refused.value.etag == (live.etag if live else None)


def alone() -> MemoryMember:
    return MemoryMember(0, ("m0",), LIMITS)


def test_of_two_writers_that_want_an_absent_key_in_one_group_one_wins() -> None:
    member = alone()
    first = member.replica.put("k", b"1", 100, ABSENT)
    with pytest.raises(PreconditionFailed) as refused:
        member.replica.put("k", b"2", 100, ABSENT)
    assert refused.value.etag == first.entry.etag
    member.commit()
    assert member.value("k") == b"1"


def test_a_refused_write_stages_nothing() -> None:
    member = alone()
    member.replica.put("k", b"1", 100)
    member.commit()
    ticket, waiting = member.replica.last_ticket, member.replica.waiting
    for refuse in (lambda: member.replica.put("k", b"2", 200, ABSENT), lambda: member.replica.delete("k", 200, ABSENT)):
        with pytest.raises(PreconditionFailed):
            refuse()
    assert (member.replica.last_ticket, member.replica.waiting) == (ticket, waiting)
    assert member.replica.ready() is None


def test_compare_and_set_follows_the_tag_of_the_staged_value() -> None:
    member = alone()
    first = member.replica.put("k", b"1", 100)
    second = member.replica.put("k", b"2", 100, Condition(match=(first.entry.etag,)))
    with pytest.raises(PreconditionFailed):
        member.replica.put("k", b"3", 100, Condition(match=(first.entry.etag,)))
    assert member.replica.delete("k", 100, Condition(match=(second.entry.etag,))).entry.value is None
    member.commit()
    assert member.value("k") is None


def test_a_deleted_key_counts_as_absent() -> None:
    member = alone()
    member.replica.put("k", b"1", 100)
    member.replica.delete("k", 100)
    assert member.replica.put("k", b"2", 100, ABSENT).created
    member.replica.delete("k", 100)
    with pytest.raises(PreconditionFailed):
        member.replica.delete("k", 100, PRESENT)
    with pytest.raises(KeyNotFound):
        member.replica.delete("k", 100, ABSENT)
