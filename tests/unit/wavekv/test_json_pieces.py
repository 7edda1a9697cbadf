"""A large document comes to what the parser of the standard library makes of it, piece by piece."""

import asyncio
import json
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavekv.errors import InvalidBody
from wavekv.http_api import document, json_pieces

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99, 99)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text('a"\\é\n,[{]}', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text('ab"', max_size=3), VALUES, max_size=4)


def no_constant(text: str) -> NoReturn:
    raise InvalidBody(text)


def parsed(text: str) -> Any:
    return asyncio.run(json_pieces.parse(text, dict, no_constant))


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_what_is_parsed_is_what_was_written(found: dict[str, Any], indent: int | None, escaped: bool) -> None:
    assert parsed(json.dumps(found, indent=indent, ensure_ascii=escaped)) == found


@given(OBJECTS, st.integers(0, 200), st.sampled_from(["", ",", "]", "}", '"', "{", "1", "\\"]))
def test_what_is_no_json_is_refused_by_both(found: dict[str, Any], place: int, put: str) -> None:
    text = json.dumps(found)
    text = text[:place] + put + text[place + 1 :]

    def judged(parse: Any) -> Any:
        try:
            value = parse(text)
        except (ValueError, InvalidBody):
            return "refused"
        return value if isinstance(value, dict) else "refused"

    assert judged(parsed) == judged(json.loads)


def test_items_longer_than_the_rest_of_a_window_are_read_from_their_beginning() -> None:
    found = {"operations": ["x" * length for length in (30, 40, 50, 55)] * 3, "number": 123456}
    with patch.object(json_pieces, "ITEM_CHARACTERS_MAX", 60):
        assert parsed(json.dumps(found)) == found
        with pytest.raises(ValueError, match="Unterminated string"):
            parsed(json.dumps({"operations": ["x" * 60, "y"]}))


@pytest.mark.parametrize("item", ['{"a":1}', "1", "1.5", '{"a":{}}'])
def test_an_item_of_very_many_parts_is_refused(item: str) -> None:
    parts = json_pieces.ITEM_PARTS_MAX // (2 if "{" in item else 1)
    assert parsed('{"operations":[[' + ",".join([item] * parts) + "]]}")
    with pytest.raises(InvalidBody, match="more than"):
        parsed('{"operations":[[' + ",".join([item] * (parts + 1)) + "]]}")


async def turns_during(work: Any) -> int:
    task, turns = asyncio.ensure_future(work), 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    task.exception()
    return turns


async def test_others_have_turns_while_a_large_document_is_parsed() -> None:
    body = json.dumps({"operations": [{"op": "put", "key": f"k{number}"} for number in range(10_000)]})
    assert await turns_during(json_pieces.parse(body, dict, no_constant)) >= 10_000 // 128


def test_a_string_that_is_not_closed_is_looked_through_once() -> None:
    body = b'"' + b'\\"' * 50_000
    assert [found.span() for found in document._STRING.finditer(body)] == [(0, len(body))]
    assert [found.span() for found in document._STRING.finditer(body + b"\\")] == [(0, len(body) + 1)]


@given(st.lists(st.text('ab,[{"\\', max_size=9), max_size=6), st.integers(1, 9))
def test_separators_are_counted_outside_of_strings_however_the_body_is_cut(found: list[str], cut: int) -> None:
    body = json.dumps(found).encode()
    count = max(len(found), 1)  # the list's own, and a comma between any two
    with patch.multiple(document, _COUNTED_PER_TURN=cut, _PEEKED_PER_TURN=cut):
        assert asyncio.run(document._elements(body, count)) <= count
        assert asyncio.run(document._elements(body, count - 1)) > count - 1


async def test_others_have_turns_while_a_body_is_counted() -> None:
    body = b'{"operations":["' + b'\\",' * 200_000 + b'"]}'
    assert await turns_during(document._elements(body, 1000)) >= len(body) // document._COUNTED_PER_TURN // 2
