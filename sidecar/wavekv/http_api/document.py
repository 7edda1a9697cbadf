"""Reads a document (JSON or msgpack) from a request and writes one as the client asked for it.

What a document may cost is bounded before it is built (G9): its bytes, its containers and their elements, and its depth
by the parsers' own bounds. A name given twice is refused: parsers disagree about which one counts.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

import msgpack
from aiohttp import hdrs, web

from wavekv.errors import InvalidBody, UnsupportedMediaType
from wavekv.http_api.body import read_body
from wavekv.http_api.json_pieces import LARGE_BYTES, parse
from wavekv.runtime.gate import next_slice

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
_MSGPACK_NAMES: Final = frozenset({MSGPACK, "application/x-msgpack", "application/vnd.msgpack"})

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("|\\?\Z)', re.DOTALL)
"""A string, or the beginning of one: without that, one that is not closed was looked through from each quote in it."""
_COUNTED_PER_TURN: Final = 1 << 14
"""Bytes of a document in which values are counted in one turn of the loop, some milliseconds at worst."""
_PEEKED_PER_TURN: Final = 1 << 20
_WRITTEN_PER_TURN: Final = 1 << 18
"""Bytes of an answer that are written in one turn of the loop, a millisecond or two."""
_ITEMS_PER_TURN: Final = 256
_SEPARATORS: Final = (b",", b"[", b"{")
_NAMES_MAX: Final = 64
"""Names in one object of msgpack; no object of the API has so many."""


class Document:
    """What came: `content`, and whether byte strings travel as such (`binary`)."""

    def __init__(self, content: Any, *, binary: bool) -> None:
        self.content = content
        self.binary = binary

    def member(self, allowed: Iterable[str]) -> dict[str, Any]:
        """Return the content as an object of `allowed` names. Raises InvalidBody."""
        return as_object(self.content, "the body", allowed)


def as_object(found: Any, place: str, allowed: Iterable[str]) -> dict[str, Any]:
    """Return `found` as an object that has no names but `allowed`.

    Raises:
        InvalidBody: says at which place it is not.
    """
    if not isinstance(found, dict):
        raise InvalidBody(f"{place} has to be an object")
    known = tuple(allowed)
    for name in found:
        if name not in known:
            raise InvalidBody(f"{place} has the unknown field {str(name)[:80]!r}; it takes {', '.join(known)}")
    return found


async def read_document(request: web.BaseRequest, bytes_max: int, items_max: int, elements_max: int) -> Document:
    """Return the document in the body: at most `bytes_max` bytes, `items_max` items a list, `elements_max` values.

    Raises:
        UnsupportedMediaType: Content-Type names neither JSON nor msgpack.
        BatchTooLarge, IncompleteBody, NotImplementedHere: as `read_body`.
        InvalidBody: it cannot be parsed, or exceeds the bound.
    """
    named = request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()
    if named != JSON and named not in _MSGPACK_NAMES:
        raise UnsupportedMediaType(f"Content-Type has to be {JSON} or {MSGPACK}")
    body = await read_body(request, bytes_max)
    if named == JSON:
        return Document(await _from_json(body, elements_max), binary=False)
    return Document(_from_msgpack(body, items_max, elements_max), binary=True)


async def _from_json(body: bytes, elements_max: int) -> Any:
    # Counting is ten times as fast as parsing; strings are left out only where the count is too high with them.
    if await _elements(body, elements_max) > elements_max:
        raise InvalidBody(f"the body has more than {elements_max} values")
    try:
        if len(body) > LARGE_BYTES:
            text = body.decode(json.detect_encoding(body), "surrogatepass")
            return await parse(text, _once, _no_constant)
        return json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError as error:
        raise InvalidBody("the body is nested too deep") from error
    except ValueError as error:
        raise InvalidBody(f"the body is not JSON: {str(error)[:200]}") from error


async def _elements(body: bytes, enough: int) -> int:
    """Return how many separators `body` has outside of its strings, or some number above `enough`."""
    if await _separators(body, enough) <= enough:
        return 0
    count, place, inside = 0, 0, False
    while place < len(body) and count <= enough:
        part = body[place : place + _COUNTED_PER_TURN]
        if (len(part) - len(part.rstrip(b"\\"))) % 2:  # not between a backslash and what it escapes
            part += body[place + len(part) : place + len(part) + 1]
        place += len(part)
        outside = _STRING.sub(rb'"\1', b'"' + part if inside else part)
        inside = outside.count(b'"') % 2 == 1
        count += sum(map(outside.count, _SEPARATORS))
        await next_slice()
    return count


async def _separators(body: bytes, enough: int) -> int:
    """Return how many separators `body` has, in strings too, or some number above `enough`."""
    count = 0
    for place in range(0, len(body), _PEEKED_PER_TURN):
        count += sum(body.count(separator, place, place + _PEEKED_PER_TURN) for separator in _SEPARATORS)
        if count > enough:
            break
        if place:
            await next_slice()
    return count


def _no_constant(text: str) -> NoReturn:
    raise InvalidBody(f"{text} is not JSON")


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidBody("an object in the body has a name twice")
    return found


def _from_msgpack(body: bytes, items_max: int, elements_max: int) -> Any:
    # Lists are made at their declared length before their items come, one in the other: so each has its own bound.
    left = elements_max

    def counted(size: int) -> None:
        nonlocal left
        left -= size + 1
        if left < 0:
            raise InvalidBody(f"the body has more than {elements_max} values")

    def pairs(found: list[tuple[Any, Any]]) -> dict[Any, Any]:
        counted(len(found))
        return _once(found)

    def items(found: list[Any]) -> list[Any]:
        counted(len(found))
        return found

    bounds = {"max_array_len": items_max, "max_map_len": _NAMES_MAX, "max_ext_len": 0}
    try:
        return msgpack.unpackb(body, object_pairs_hook=pairs, list_hook=items, **bounds)
    except (ValueError, TypeError) as error:  # TypeError: a name that is a list
        raise InvalidBody(f"the body is not msgpack: {str(error)[:200] or type(error).__name__}") from error


# ---- answers -------------------------------------------------------------------------------------------------------


def media_type_for(accept: str) -> str:
    """Return the encoding an Accept header asks for: msgpack when it is named, else JSON."""
    named = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return JSON if named.isdisjoint(_MSGPACK_NAMES) else MSGPACK


def answer(request: web.BaseRequest, content: Any) -> web.Response:
    """Return `content` (JSON-ready but for bytes, which only msgpack may hold) as the client asked for it."""
    media_type = media_type_for(request.headers.get(hdrs.ACCEPT, ""))
    return web.Response(body=encode(content, media_type), headers={"Content-Type": media_type, "Vary": "Accept"})


async def answer_items(
    request: web.BaseRequest, name: str, count: int, items: Iterable[Any], also: Mapping[str, Any]
) -> web.Response:
    """Answer an object: `count` `items` under `name`, and `also`, which is not empty. Written over several turns."""
    media_type = media_type_for(request.headers.get(hdrs.ACCEPT, ""))
    parts = [_opening(name, count, 1 + len(also), media_type)]
    size = 0
    for place, item in enumerate(items, start=1):
        part = encode(item, media_type)
        parts.append(part)
        if media_type == JSON and place < count:
            parts.append(b",")
        size += len(part)
        if size >= _WRITTEN_PER_TURN or not place % _ITEMS_PER_TURN:
            await next_slice()
            size = 0
    parts.append(_closing(also, media_type))
    headers = {"Content-Type": media_type, "Vary": "Accept"}
    return web.Response(body=b"".join(parts), headers=headers)


def _opening(name: str, count: int, names: int, media_type: str) -> bytes:
    if media_type == JSON:
        return b"{" + encode(name, JSON) + b":["
    packer = msgpack.Packer()
    return bytes(packer.pack_map_header(names) + packer.pack(name) + packer.pack_array_header(count))


def _closing(also: Mapping[str, Any], media_type: str) -> bytes:
    if media_type == JSON:
        return b"]," + encode(also, JSON)[1:]
    return b"".join(encode(part, MSGPACK) for pair in also.items() for part in pair)


def encode(content: Any, media_type: str) -> bytes:
    """Return the bytes of `content`."""
    if media_type == MSGPACK:
        return bytes(msgpack.packb(content))
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
