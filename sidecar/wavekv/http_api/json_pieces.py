"""Parses a large JSON document piece by piece, so that 16 MiB of it do not hold the loop for as long as they take.

The documents of the API are objects that hold a list: its items are parsed one by one, with turns of others in between.
One item may hold few objects and numbers, which cost most to make, and is a few MiB long at most; so each piece takes
some milliseconds, whatever a client sends. The result is what `json.loads` gives.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from wavekv.errors import InvalidBody
from wavekv.runtime.gate import next_slice

LARGE_BYTES: Final = 1 << 16
"""Shorter documents are parsed at once, within a few milliseconds."""
ITEM_CHARACTERS_MAX: Final = 7 << 20
"""Longest item of a list: a longest value of which every byte is escaped, and room for the rest."""
ITEM_PARTS_MAX: Final = 256
"""Objects and numbers in one item; those of the API have two."""
_PARSED_PER_TURN: Final = 1 << 18
_ITEMS_PER_TURN: Final = 128
_SPACE: Final = re.compile(r"[ \t\n\r]*+")

Pairs = list[tuple[Any, Any]]


async def parse(text: str, once: Callable[[Pairs], dict[Any, Any]], no_constant: Callable[[str], NoReturn]) -> Any:
    """Return the object that `text` is; `once` makes an object of its pairs.

    Raises:
        ValueError: it is not JSON.
        RecursionError: nested too deep.
        InvalidBody: it is no object, or an item of a list exceeds its bound.
    """
    pieces = _Pieces(text, once, no_constant)
    if pieces.ahead() != "{":
        raise InvalidBody("the body has to be an object")
    pairs: Pairs = []
    if pieces.step() == "}":
        pieces.step()
    else:
        while True:
            pairs.append(await _pair(pieces))
            if pieces.take(",}") == "}":
                break
    if pieces.ahead():
        raise pieces.error("Extra data")
    return once(pairs)


async def _pair(pieces: "_Pieces") -> tuple[Any, Any]:
    if pieces.ahead() != '"':
        raise pieces.error("Expecting property name enclosed in double quotes")
    name = pieces.value()
    pieces.take(":")
    return name, await _list(pieces) if pieces.ahead() == "[" else pieces.value()


async def _list(pieces: "_Pieces") -> list[Any]:
    items: list[Any] = []
    if pieces.step() == "]":
        pieces.step()
        return items
    turned = pieces.place
    while True:
        items.append(pieces.value())
        if pieces.place - turned >= _PARSED_PER_TURN or not len(items) % _ITEMS_PER_TURN:
            await next_slice()
            turned = pieces.place
        if pieces.take(",]") == "]":
            return items


class _Pieces:
    """A place in a text from which values are taken."""

    def __init__(self, text: str, once: Callable[[Pairs], dict[Any, Any]], no_constant: Callable[[str], NoReturn]):
        self._text = text
        self._once = once
        self._parts_left = 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_float=self._float, parse_int=self._int, parse_constant=no_constant
        )
        self._window = text[:ITEM_CHARACTERS_MAX]
        self._window_at = 0
        self.place = 0

    def ahead(self) -> str:
        """Skip space; return the character behind it, nothing at the end."""
        found = _SPACE.match(self._text, self.place)
        assert found is not None, "no space is space too"
        self.place = found.end()
        return self._text[self.place : self.place + 1]

    def step(self) -> str:
        """Go on by a character, and return the one ahead."""
        self.place += 1
        return self.ahead()

    def take(self, expected: str) -> str:
        """Take one of the expected characters."""
        found = self.ahead()
        if not found or found not in expected:
            raise self.error(f"Expecting {' or '.join(map(repr, expected))}")
        self.place += 1
        return found

    def value(self) -> Any:
        """Take one value, whole. Raises ValueError, InvalidBody."""
        self.ahead()
        try:
            return self._decode()
        except ValueError:
            if self._window_at == self.place or self._window_end >= len(self._text):
                raise
        self._window_at = self.place
        self._window = self._text[self.place : self.place + ITEM_CHARACTERS_MAX]
        return self._decode()

    @property
    def _window_end(self) -> int:
        return self._window_at + len(self._window)

    def _decode(self) -> Any:
        self._parts_left = ITEM_PARTS_MAX
        start = self.place - self._window_at
        found, end = self._decoder.raw_decode(self._window, start)
        if end == len(self._window) and self._window_end < len(self._text):  # a number may go on behind it
            raise self.error("Expecting an end of the value nearer to its beginning")
        self.place = self._window_at + end
        return found

    def error(self, told: str) -> json.JSONDecodeError:
        """Return the error that says what is wrong here."""
        return json.JSONDecodeError(told, self._text[:0], self.place)

    def _object(self, pairs: Pairs) -> dict[Any, Any]:
        self._count()
        return self._once(pairs)

    def _float(self, digits: str) -> float:
        self._count()
        return float(digits)

    def _int(self, digits: str) -> int:
        self._count()
        return int(digits)

    def _count(self) -> None:
        self._parts_left -= 1
        if self._parts_left < 0:
            raise InvalidBody(f"an item of the body has more than {ITEM_PARTS_MAX} objects and numbers")
