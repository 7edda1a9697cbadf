"""Get, put, delete and explain: the routes of one key."""

from typing import Final

from aiohttp import web

from wavekv.core.session import dots_of
from wavekv.errors import KeyNotFound
from wavekv.http_api.body import read_value
from wavekv.http_api.calls import BYTES, Call, quoted
from wavekv.http_api.conditions import condition_from, unmodified
from wavekv.http_api.document import answer
from wavekv.http_api.expiry import expiry_headers, expiry_of
from wavekv.http_api.waiting import Spreading

_SMALL_BYTES: Final = 8 << 10
"""A value that needs no room in the budget: with its copies it is in what a connection has free."""


async def get(call: Call) -> web.Response:
    """Answer GET and HEAD."""
    key = call.key
    length = call.store.length_of(key)
    if length is not None and length > _SMALL_BYTES:
        await call.room_for(length)
    entry = call.store.get(key)
    if entry is None:
        raise KeyNotFound(f"there is no key {key!r}")
    headers = {"ETag": quoted(entry), **expiry_headers(entry, call.shared.clock.now_ms())}
    if unmodified(condition_from(call.request), entry):
        return web.Response(status=304, headers=headers)
    return web.Response(body=entry.value, headers={"Content-Type": BYTES, **headers})


async def put(call: Call) -> web.Response:
    """Answer PUT once the value is durable."""
    key, spreading = call.key, Spreading(call)
    limits, clock = call.shared.limits, call.shared.clock
    condition = condition_from(call.request)
    asked = call.given.get("ttl")
    expiry_of(asked, 0, limits.ttl_ms_max)  # refused before the body is read
    value = await read_value(call.request, limits.value_bytes_max)
    expires_at = expiry_of(asked, clock.now_ms(), limits.ttl_ms_max)
    with spreading:
        written = await call.store.put(key, value, condition, expires_at)
        created, entry = written.created, written.entry._replace(value=b"")
        del value, written  # thousands may wait for other members, and must not hold their values (G9)
        session = await spreading.reached(dots_of([entry]), entry.etag)
    headers = {"ETag": quoted(entry), **session, **expiry_headers(entry, clock.now_ms())}
    return web.Response(status=201 if created else 200, headers=headers)


async def delete(call: Call) -> web.Response:
    """Answer DELETE once the tombstone is durable."""
    key, condition = call.key, condition_from(call.request)
    with Spreading(call) as spreading:
        written = await call.store.delete(key, condition)
        entry = written.entry
        del written  # it holds what was deleted (G9)
        session = await spreading.reached(dots_of([entry]), entry.etag)
    return web.Response(headers={"ETag": quoted(entry), **session})


async def explain(call: Call) -> web.Response:
    """Answer how the key came to hold what it holds."""
    return answer(call.request, dict(call.store.explain(call.key)))
