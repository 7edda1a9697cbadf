"""One page of a listing, its parameters and where it ends; and several keys asked for at once.

A page ends by number of entries or by value bytes, whichever comes first, and one entry always goes, so that a client
makes progress whatever the sizes (G9).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from aiohttp import hdrs, web

from wavekv.config import Limits
from wavekv.core.types import Entry, parse_key
from wavekv.errors import BatchTooLarge, InvalidBody, InvalidKey
from wavekv.http_api.calls import Call
from wavekv.http_api.document import MSGPACK, answer_items, media_type_for, read_document
from wavekv.http_api.target import flag, whole_number
from wavekv.http_api.values import value_fields, written_bytes
from wavekv.ports import KeyValues
from wavekv.runtime.gate import next_slice

PARAMETERS: Final = ("prefix", "after", "limit", "keys_only")

_STEP_BYTES: Final = 1 << 20
"""Value bytes that one step of a page may add, room for which is taken before it."""
_ESCAPED_BYTES_MAX: Final = 6
"""Bytes that one byte of a key may take in JSON, as in `\\u0001`."""


class Query(NamedTuple):
    """What a listing was asked for."""

    prefix: str
    after: str | None
    limit: int
    keys_only: bool


def query_from(given: Mapping[str, str], limits: Limits) -> Query:
    """Return the query in the request's parameters.

    Raises:
        InvalidParameter: one has no such value.
    """
    limit = given.get("limit")
    return Query(
        given.get("prefix", ""),
        given.get("after"),
        limits.list_entries_default if limit is None else whole_number("limit", limit, 1, limits.list_entries_max),
        flag("keys_only", given.get("keys_only", "false")),
    )


async def page(call: Call, query: Query, bytes_max: int) -> tuple[list[Entry], str | None]:
    """Return a page and the key to ask for the next one with, None if it is the last. Others take turns meanwhile.

    Raises:
        TooManyBytes: there is no room for what it comes to.
    """
    found = call.store.list(query.prefix, query.after, query.limit, keys_only=query.keys_only, bytes_max=bytes_max)
    more = True
    while more:
        if not query.keys_only:
            await call.room_for(sum(len(entry.value or b"") for entry in found.entries) + _STEP_BYTES)
        more = found.step()
        if more:
            await next_slice()
    return found.entries, found.entries[-1].key if found.more else None


def item(entry: Entry, *, keys_only: bool, binary: bool) -> dict[str, Any]:
    """Return one entry as answers carry it: the value as `value_fields` tells it, or as it is (`binary`)."""
    found: dict[str, Any] = {"key": entry.key, "etag": entry.etag}
    if entry.expires_at is not None:
        found["expires_at"] = entry.expires_at
    if not keys_only:
        value = entry.value or b""
        found |= {"value": value} if binary else value_fields(value)
    return found


async def list_entries(call: Call) -> web.Response:
    """Answer a page."""
    query = query_from(call.given, call.shared.limits)
    entries, following = await page(call, query, call.shared.limits.list_bytes_max)
    return await _answer(call, entries, {"next": following}, keys_only=query.keys_only)


async def multi_get(call: Call) -> web.Response:
    """Answer the entries of the keys in the body, those that are missing, and those there was no room for."""
    limits = call.shared.limits
    bytes_max = limits.multi_get_keys_max * (limits.key_bytes_max * _ESCAPED_BYTES_MAX + 4) + 64
    items_max = limits.multi_get_keys_max + 1  # one more, for the refusal to be in our words
    document = await read_document(call.request, bytes_max, items_max, 2 * items_max)
    keys = _keys(document.member(["keys"]).get("keys"), limits)
    await call.room_for(min(sum(call.store.length_of(key) or 0 for key in keys), 2 * limits.list_bytes_max))
    entries, missing, left_out = _found(call.store, keys, limits.list_bytes_max)
    return await _answer(call, entries, {"missing": missing, "left_out": left_out}, keys_only=False)


def _found(store: KeyValues, keys: list[str], bytes_max: int) -> tuple[list[Entry], list[str], list[str]]:
    """Return the entries of `keys`, those missing, and those there is no room for, all of one instant."""
    entries: list[Entry] = []
    missing: list[str] = []
    left_out: list[str] = []
    left = bytes_max
    for key in keys:
        length = store.length_of(key)
        if length is None:
            missing.append(key)
        elif entries and length > left:
            left_out.append(key)
        elif (entry := store.get(key)) is not None:
            left -= length
            entries.append(entry)
    return entries, missing, left_out


async def _answer(call: Call, entries: list[Entry], also: Mapping[str, Any], *, keys_only: bool) -> web.Response:
    """Answer `entries`, which are let go one by one, and `also`; others take turns while it is written."""
    request = call.request
    binary = media_type_for(request.headers.get(hdrs.ACCEPT, "")) == MSGPACK
    if not keys_only and not binary:
        await _room_as_json(call, entries)
    entries.reverse()

    def items() -> Iterator[dict[str, Any]]:
        while entries:
            yield item(entries.pop(), keys_only=keys_only, binary=binary)

    return await answer_items(request, "entries", len(entries), items(), also)


async def _room_as_json(call: Call, entries: list[Entry]) -> None:
    """Wait for room for entries whose values are several times as long as JSON. Raises TooManyBytes."""
    raw = written = 0
    for entry in entries:
        before, value = raw // _STEP_BYTES, entry.value or b""
        raw += len(value)
        written += written_bytes(value)
        if raw // _STEP_BYTES > before:
            await next_slice()
    if written > 2 * raw:
        await call.room_for(written)


def _keys(found: Any, limits: Limits) -> list[str]:
    """Return the keys asked for, each once, in their order. Raises InvalidBody, InvalidKey, BatchTooLarge."""
    if not isinstance(found, list):
        raise InvalidBody("keys has to be a list of strings")
    if len(found) > limits.multi_get_keys_max:
        raise BatchTooLarge(f"{len(found)} keys are asked for; at most {limits.multi_get_keys_max} are at once")
    return list(dict.fromkeys(key_in(key, f"keys[{place}]", limits) for place, key in enumerate(found)))


def key_in(found: Any, place: str, limits: Limits) -> str:
    """Return a key of a document.

    Raises:
        InvalidBody: it is not a string.
        InvalidKey: no key; both name the place.
    """
    if not isinstance(found, str):
        raise InvalidBody(f"{place} has to be a string")
    try:
        return parse_key(found.encode(), limits.key_bytes_max)
    except UnicodeEncodeError as error:
        raise InvalidKey(f"{place}: the key holds half a surrogate pair") from error
    except InvalidKey as error:
        raise InvalidKey(f"{place}: {error.detail}") from error
