"""Whose word counts for what an origin's writes are."""

from wavekv.core.context import Context
from wavekv.core.messages import Envelope, Ranges
from wavekv.core.vouching import (
    CLAIMS_MAX,
    HEAL_WAIT_MS,
    JUDGED_MAX,
    OPEN_RANGES,
    OWNED_MAX,
    RANGES_MAX,
    RELIEF_RANGES,
    WORD_RANGES_MAX,
    Vouching,
)

NAMES = ("b", "c", "m")
NONE = Context()


def knowing(*names: str) -> Vouching:
    """Return what a member knows whose others are `names`; b writes under 7, c under 8."""
    vouching = Vouching(lambda: names, lambda name: name in names)
    for name, origin in (("b", 7), ("c", 8)):
        vouching.named(name, origin)
    return vouching


def asked(vouching: Vouching, *names: str) -> None:
    for name in names:
        vouching.asked(name, vouching.moment)


def test_a_member_may_tell_of_its_own_origin_and_of_no_other_members() -> None:
    vouching = knowing(*NAMES)
    assert vouching.adoptable("b", Context({7: 9}), NONE) == Context({7: 9})
    assert vouching.adoptable("m", Context({7: 9, 8: 3}, {7: ((20, 30),)}), NONE) == NONE


def test_others_may_tell_as_far_as_the_owner_told_when_it_had_sent_everything() -> None:
    vouching = knowing(*NAMES)
    vouching.attest("b", {7: 5, 8: 100})
    assert vouching.adoptable("m", Context({7: 9, 8: 9}), NONE) == Context({7: 5})


def test_what_two_members_tell_counts_and_no_more() -> None:
    vouching = knowing(*NAMES)
    assert vouching.adoptable("m", Context({7: 1000}), NONE) == NONE
    assert vouching.adoptable("m", Context({7: 1000}), NONE) == NONE, "the same member twice is one word"
    assert vouching.adoptable("c", Context({7: 9}, {7: ((12, 13),)}), NONE) == Context({7: 9}, {7: ((12, 13),)})
    assert vouching.adoptable("c", Context({7: 20}), Context({7: 13})) == Context({7: 20})


def test_who_is_removed_owns_nothing_any_more() -> None:
    members = ["b", "c", "m"]
    vouching = Vouching(lambda: members, lambda name: name in members)
    vouching.named("b", 7)
    members.remove("b")
    assert vouching.owners(7) == ()
    asked(vouching, "c")
    assert vouching.adoptable("m", Context({7: 9}), NONE) == NONE, "c was asked before this was told"
    asked(vouching, "c")
    assert vouching.adoptable("m", Context({7: 99}), NONE) == Context({7: 9}), "as far as it was told then"


def test_an_origin_of_nobody_waits_until_all_others_were_asked_since() -> None:
    vouching = knowing(*NAMES)
    told = Context({9: 4}, {9: ((6, 6),)})
    early = vouching.moment
    assert vouching.adoptable("m", told, NONE) == NONE
    vouching.asked("b", early)
    asked(vouching, "c")
    assert vouching.adoptable("m", told, NONE) == NONE, "b was asked before"
    asked(vouching, "b")
    assert vouching.adoptable("m", told, NONE) == told


def test_an_origin_that_is_named_meanwhile_is_nobodys_no_more() -> None:
    vouching = knowing(*NAMES)
    assert vouching.adoptable("m", Context({9: 4}), NONE) == NONE
    vouching.named("c", 9)
    asked(vouching, "b", "c")
    assert vouching.adoptable("m", Context({9: 4}), NONE) == NONE
    assert vouching.adoptable("c", Context({9: 1}), NONE) == Context({9: 1})


def test_an_origin_that_two_name_is_neithers() -> None:
    vouching = knowing(*NAMES)
    assert vouching.named("c", 8)
    assert not vouching.named("m", 8)
    assert vouching.adoptable("m", Context({8: 1000}), NONE) == NONE
    assert vouching.adoptable("c", Context({8: 5}), NONE) == Context({8: 5}), "the two words have this in common"


def test_where_there_is_one_other_member_its_word_counts() -> None:
    vouching = knowing("m")
    assert vouching.adoptable("m", Context({7: 9, 9: 1}), NONE) == Context({7: 9, 9: 1})


def test_too_many_open_ranges_are_closed_by_one_word() -> None:
    told = Context({7: 10_000})
    for count, adopted in ((RELIEF_RANGES - 1, NONE), (RELIEF_RANGES, told)):
        ranges = tuple((2 * at + 2, 2 * at + 2) for at in range(count))
        assert knowing(*NAMES).adoptable("m", told, Context({}, {7: ranges})) == adopted


def test_who_heals_waits_for_the_others_and_then_takes_what_those_own_that_were_not_heard() -> None:
    vouching = knowing(*NAMES)
    told = Context({7: 9, 8: 9})
    assert vouching.adoptable_healing("m", told, NONE, 1000) is None
    vouching.attest("b", {7: 5})
    assert vouching.adoptable_healing("m", told, NONE, 1000 + HEAL_WAIT_MS - 1) is None
    assert vouching.adoptable_healing("m", told, NONE, 1000 + HEAL_WAIT_MS) == Context({7: 5, 8: 9})


def test_who_heals_and_has_the_word_of_all_need_not_wait() -> None:
    vouching = knowing(*NAMES)
    vouching.attest("b", {7: 5})
    vouching.attest("c", {8: 6})
    assert vouching.adoptable_healing("m", Context({7: 9, 8: 9}), NONE, 1000) == Context({7: 5, 8: 6})


def test_a_push_stands_for_its_senders_own_writes_alone() -> None:
    vouching = knowing(*NAMES)
    dots = {7: ((1, 4),), 8: ((1, 4),), 9: ((1, 4),)}
    push = Envelope(sender_id=2, name="b", dots=dots, origin=7)
    assert vouching.own_ranges(push) == {7: ((1, 4),)}
    unnamed = Envelope(sender_id=2, name="b", dots=dots)
    assert vouching.own_ranges(unnamed) == {7: ((1, 4),)}, "who names no origin speaks for none more"


def test_words_of_before_are_void_once_what_they_stood_for_is_lost() -> None:
    vouching = knowing(*NAMES)
    vouching.attest("b", {7: 5})
    vouching.adoptable("m", Context({7: 9}), NONE)
    vouching.forget_words()
    assert vouching.adoptable("c", Context({7: 9}), NONE) == NONE


def test_what_is_remembered_is_bounded() -> None:
    vouching = knowing(*NAMES)
    for origin in range(100, 100 + OWNED_MAX + 1):
        vouching.named("m", origin)
    assert vouching.owners(100) == ()
    assert vouching.owners(101) == ("m",)
    many = tuple((2 * at + 2, 2 * at + 2) for at in range(RANGES_MAX + 1))
    vouching.adoptable("m", Context({}, {7: many}), NONE)
    assert vouching.adoptable("c", Context({}, {7: many}), NONE) == Context({}, {7: many[:-1]})
    for begin in range(1000, 1000 + CLAIMS_MAX, JUDGED_MAX):
        vouching.adoptable("m", Context(dict.fromkeys(range(begin, begin + JUDGED_MAX), 1)), NONE)
    assert len(vouching._claims) == CLAIMS_MAX
    assert 1000 in vouching._words
    vouching.adoptable("m", Context({999: 1}), NONE)
    assert len(vouching._claims) == CLAIMS_MAX
    assert 1000 not in vouching._words


def gaps(count: int) -> Ranges:
    return tuple((2 * at + 2, 2 * at + 2) for at in range(count))


def test_the_ranges_of_all_words_together_are_bounded_and_gaps_still_close_one_by_one() -> None:
    vouching = knowing(*NAMES)
    for begin in range(1000, 1000 + 2 * WORD_RANGES_MAX // RANGES_MAX, 128):
        told = dict.fromkeys(range(begin, begin + 128), gaps(RANGES_MAX))
        vouching.adoptable("m", Context({}, told), NONE)
    assert vouching._ranges <= WORD_RANGES_MAX + RANGES_MAX + len(vouching._words) + len(vouching._claims)
    assert vouching._ranges == sum(
        len(word.ranges) for book in (vouching._words, vouching._claims) for word in book.values()
    )
    told_of_b = Context({}, {7: gaps(2)})
    assert vouching.adoptable("m", told_of_b, NONE) == NONE
    assert vouching.adoptable("c", told_of_b, NONE) == Context({}, {7: gaps(1)})
    first = Context({}, {7: gaps(1)})
    assert vouching.adoptable("m", told_of_b, first) == NONE
    assert vouching.adoptable("c", told_of_b, first) == Context({}, {7: gaps(2)[1:]})
    vouching.forget_words()
    assert vouching._ranges == 0


def test_a_context_of_many_news_is_adopted_in_parts_and_to_its_end() -> None:
    vouching = knowing(*NAMES)
    told = Context(dict.fromkeys(range(1000, 1000 + 3 * JUDGED_MAX), 5))
    covered, rounds = Context(), 0
    while not covered.includes(told):
        rounds += 1
        assert rounds < 20
        for name in ("b", "c"):
            words = len(vouching._words)
            part = vouching.adoptable(name, told, covered)
            assert len(vouching._words) - words <= JUDGED_MAX
            covered.join(part.acks, part.dots())
    assert rounds > 1


def test_origins_that_one_member_invents_do_not_keep_out_what_another_tells() -> None:
    vouching = knowing(*NAMES)
    invented = Context(dict.fromkeys(range(10**6, 10**6 + 10 * JUDGED_MAX), 5))
    told = Context(dict.fromkeys(range(1000, 1000 + JUDGED_MAX), 5))
    for _ in range(3):
        assert vouching.adoptable("m", invented, NONE) == NONE
    assert vouching.adoptable("b", told, NONE) == NONE
    assert vouching.adoptable("m", invented, NONE) == NONE
    assert vouching.adoptable("c", told, NONE) == told


def test_many_members_and_origins_of_nobody_cost_one_look_at_who_was_asked() -> None:
    looks: list[None] = []

    def others() -> tuple[str, ...]:
        looks.append(None)
        return NAMES

    vouching = Vouching(others, lambda name: name in NAMES)
    vouching.adoptable("m", Context(dict.fromkeys(range(1000, 2000), 5)), NONE)
    assert len(looks) <= 2


def test_with_too_many_ranges_open_in_all_one_word_counts_for_the_origins_that_have_most() -> None:
    few = OPEN_RANGES // 64
    for extra, adopted in ((0, NONE), (1, Context({9: 10_000}))):
        covered = Context({}, {9: gaps(few + extra)} | {100 + at: gaps(few) for at in range(63)})
        assert covered.range_count == OPEN_RANGES + extra
        told = Context({9: 10_000, 500: 7})
        assert knowing(*NAMES).adoptable("m", told, covered) == adopted


def test_ranges_of_the_tellers_own_do_not_make_its_word_count_for_others() -> None:
    vouching = knowing(*NAMES)
    vouching.named("m", 9)
    covered = Context({}, {9: gaps(2 * OPEN_RANGES), 7: gaps(1)})
    assert vouching.adoptable("m", Context({7: 10_000}), covered) == NONE


def test_what_one_member_told_as_its_own_is_void_once_another_names_the_origin() -> None:
    vouching = knowing(*NAMES)
    vouching.named("m", 9)
    vouching.attest("m", {9: 1000})
    assert not vouching.named("c", 9)
    assert vouching.adoptable("m", Context({9: 1000}), NONE) == NONE


def test_the_word_of_a_member_that_was_removed_is_no_second_one() -> None:
    members = ["b", "c", "m", "m2"]
    vouching = Vouching(lambda: members, lambda name: name in members)
    vouching.named("b", 7)
    assert vouching.adoptable("m", Context({7: 1000}), NONE) == NONE
    members.remove("m")
    assert vouching.adoptable("m2", Context({7: 1000}), NONE) == NONE
    assert vouching.adoptable("c", Context({7: 9}), NONE) == Context({7: 9})


def test_a_dropped_origin_comes_back_by_no_word_of_before() -> None:
    vouching = knowing(*NAMES)
    vouching.attest("b", {7: 5})
    vouching.adoptable("m", Context({7: 9, 9: 4}), NONE)
    vouching.drop([7, 9])
    assert vouching.adoptable("c", Context({7: 9, 9: 4}), NONE) == NONE
    assert vouching._ranges == 3, "two words and one claim"


def test_who_heals_while_its_clock_is_set_back_waits_no_longer() -> None:
    vouching = knowing(*NAMES)
    told = Context({7: 9})
    assert vouching.adoptable_healing("m", told, NONE, 3_600_000) is None
    assert vouching.adoptable_healing("m", told, NONE, 1000) is None
    assert vouching.adoptable_healing("m", told, NONE, 1000 + HEAL_WAIT_MS) == told
