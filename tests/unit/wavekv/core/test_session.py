"""Session tokens: what they name, what is refused, and how far a context covers them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavekv.core.context import Context
from wavekv.core.session import (
    DotRange,
    covered_of,
    covers_all,
    dots_of,
    first_missing,
    missing_of,
    parse_token,
    token_of,
)
from wavekv.core.types import U32_MAX, U64_MAX, Entry
from wavekv.errors import InvalidSession


def parse(text: str, bytes_max: int = 8192, ranges_max: int = 1000) -> tuple[DotRange, ...]:
    return parse_token(text, bytes_max=bytes_max, ranges_max=ranges_max)


def test_one_write_is_named_by_its_dot_and_a_batch_by_its_range() -> None:
    entries = [Entry("k", b"v", 100, 7, seq) for seq in (4, 3, 5)]
    assert token_of(dots_of(entries[:1])) == "7.4"
    assert token_of(dots_of(entries)) == "7.3-5"
    assert token_of(dots_of([*entries, Entry("k", None, 100, 7, 9), Entry("k", b"", 100, 6, 1)])) == "6.1,7.3-5,7.9"
    assert dots_of([]) == ()


def test_joined_tokens_name_the_same_dots_in_order() -> None:
    assert parse("7.4") == (DotRange(7, 4, 4),)
    assert parse("9.1, 7.4,7.5-8,7.10 , 7.2-6") == (DotRange(7, 2, 8), DotRange(7, 10, 10), DotRange(9, 1, 1))
    assert parse(f"{U32_MAX}.{U64_MAX}") == (DotRange(U32_MAX, U64_MAX, U64_MAX),)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ",", "7", "7.", ".4", "7.4,", "7.4,,7.5", "0.4", "7.0", "07.4", "7.04", "7.4-", "7.5-4", "7.4-x",
        "-7.4", "7.+4", "7.4 7.5", "7.٤", f"{U32_MAX + 1}.1", f"7.{U64_MAX + 1}", "1700000000000.7.4", '"7.4"',
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(InvalidSession, match="Wavekv-Session"):
        parse(text)


def test_a_token_has_its_bounds_on_bytes_and_parts() -> None:
    assert len(parse("7.1,7.3,7.5", bytes_max=11, ranges_max=3)) == 3
    for bytes_max, ranges_max in ((10, 3), (11, 2)):
        with pytest.raises(InvalidSession, match="more than"):
            parse("7.1,7.3,7.5", bytes_max, ranges_max)


def test_a_dot_covers_nothing_but_itself() -> None:
    context = Context({7: 3}, {7: ((6, 8),)})
    for seq, covered in ((1, True), (3, True), (4, False), (5, False), (6, True), (8, True), (9, False)):
        assert covers_all(context, [DotRange(7, seq, seq)]) is covered
    assert first_missing(context, [DotRange(7, 1, 3), DotRange(7, 6, 8)]) is None
    assert first_missing(context, [DotRange(7, 1, 9), DotRange(8, 1, 1)]) == (7, 4)
    assert first_missing(context, [DotRange(7, 6, 9)]) == (7, 9)
    assert first_missing(context, [DotRange(8, 2, U64_MAX)]) == (8, 2)
    assert token_of(covered_of(context, [DotRange(7, 2, 10), DotRange(8, 1, 2)])) == "7.2-3,7.6-8"
    assert token_of(missing_of(context, [DotRange(7, 2, 10), DotRange(8, 1, 2)])) == "7.4-5,7.9-10,8.1-2"


ranges = st.lists(
    st.tuples(st.integers(1, 2), st.integers(1, 15), st.integers(0, 5)).map(
        lambda t: DotRange(t[0], t[1], t[1] + t[2])
    ),
    min_size=1,
    max_size=6,
)
contexts = st.builds(
    Context,
    st.dictionaries(st.integers(1, 2), st.integers(1, 10), max_size=2),
    st.dictionaries(st.integers(1, 2), ranges.map(lambda found: tuple((one.first, one.last) for one in found))),
)


@given(contexts, ranges)
def test_covered_and_missing_share_out_every_dot(context: Context, asked: list[DotRange]) -> None:
    wanted = parse(token_of(asked))
    dots = {(one.origin, seq) for one in wanted for seq in range(one.first, one.last + 1)}
    assert dots == {(one.origin, seq) for one in asked for seq in range(one.first, one.last + 1)}
    covered, missing = (
        {(one.origin, seq) for one in found for seq in range(one.first, one.last + 1)}
        for found in (covered_of(context, wanted), missing_of(context, wanted))
    )
    assert covered == {dot for dot in dots if context.covers(*dot)}
    assert missing == dots - covered
    assert first_missing(context, wanted) == (min(missing) if missing else None)
    assert covers_all(context, wanted) is not bool(missing)
