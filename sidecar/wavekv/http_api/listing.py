"""One page of a listing: its parameters, where it ends, and its two encodings.

A page ends by number of entries or by value bytes, whichever comes first, and one entry always goes, so that a client
makes progress whatever the sizes (G9).
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

from wavekv.config import Limits
from wavekv.core.types import Entry
from wavekv.http_api.options import refuse_unknown
from wavekv.http_api.target import flag, whole_number
from wavekv.ports import KeyValues

JSON = "application/json"
MSGPACK = "application/msgpack"
_KNOWN = ("prefix", "after", "limit", "keys_only")


class Query(NamedTuple):
    """What a listing was asked for."""

    prefix: str
    after: str | None
    limit: int
    keys_only: bool


def query_from(given: Mapping[str, str], limits: Limits) -> Query:
    """Return the query in the request's parameters.

    Raises:
        InvalidParameter, NotImplementedHere: a parameter is unknown, lacking, or has no such value.
    """
    refuse_unknown(given, _KNOWN)
    limit = given.get("limit")
    return Query(
        given.get("prefix", ""),
        given.get("after"),
        limits.list_entries_default if limit is None else whole_number("limit", limit, 1, limits.list_entries_max),
        flag("keys_only", given.get("keys_only", "false")),
    )


def page(store: KeyValues, query: Query, bytes_max: int) -> tuple[list[Entry], str | None]:
    """Return a page and the key to ask for the next one with, None if it is the last."""
    entries, more = store.list(query.prefix, query.after, query.limit)
    if not query.keys_only:
        size = 0
        for index, entry in enumerate(entries):
            size += len(entry.value or b"")
            if size > bytes_max and index:
                entries, more = entries[:index], True
                break
    return entries, entries[-1].key if more and entries else None


def encode(entries: list[Entry], following: str | None, *, keys_only: bool, media_type: str) -> bytes:
    """Return the page as JSON (values in base64) or msgpack (values as they are)."""
    binary = media_type == MSGPACK
    items: list[dict[str, Any]] = []
    for entry in entries:
        item: dict[str, Any] = {"key": entry.key, "etag": entry.etag}
        if not keys_only:
            value = entry.value or b""
            item["value"] = value if binary else base64.b64encode(value).decode("ascii")
        items.append(item)
    answer = {"entries": items, "next": following}
    if binary:
        return bytes(msgpack.packb(answer))
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def media_type_for(accept: str) -> str:
    """Return the encoding an Accept header asks for: msgpack when it is named, else JSON."""
    named = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return MSGPACK if MSGPACK in named else JSON
