"""The table of routes: what serves each method of each path, what it takes and what it may answer.

It is the one list there is: the server routes by it, parameters it does not name are refused, and `/openapi.json` is
written from it. Both stores have the same routes, `/v1/…` and `/v1/ephemeral/…`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from aiohttp import web

from wavekv.http_api import batch, keys, listing, watching
from wavekv.http_api.calls import Call
from wavekv.http_api.fast import SESSION
from wavekv.http_api.streams import EventStream
from wavekv.http_api.waiting import DURABILITY, TIMEOUT

Answer = web.Response | EventStream
Serve = Callable[[Call], Awaitable[Answer]]

STORE: Final = "/v1"
EPHEMERAL: Final = "/v1/ephemeral"
KEYED: Final = "{key}"

ALWAYS: Final = (400, 403, 408, 500, 501, 503)
"""Statuses that any operation may answer: malformed, of a foreign origin, too slow, an error of ours, an option it
lacks, no room."""
_READ: Final = (429, 504)
"""Beyond these, of any read that waits for a session."""
_WRITE: Final = (*_READ, 507)


class Operation(NamedTuple):
    """One method of one path. `kind` is how metrics name it; `answers` are the statuses beyond ALWAYS."""

    kind: str
    summary: str
    serve: Serve
    answers: tuple[int, ...]
    parameters: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: str | None = None


_CONDITIONS: Final = ("If-Match", "If-None-Match", SESSION)
_WAITS: Final = (TIMEOUT,)
_SPREADS: Final = (DURABILITY, TIMEOUT)

OF_STORE: Final[Mapping[str, Mapping[str, Operation]]] = {
    "/kv/{key}": {
        "GET": Operation("get", "The value of a key.", keys.get, (200, 304, 404, 412, *_READ), _WAITS, _CONDITIONS),
        "HEAD": Operation(
            "head", "As GET, without the value.", keys.get, (200, 304, 404, 412, *_READ), _WAITS, _CONDITIONS
        ),
        "PUT": Operation(
            "put",
            "Store a value; answered once it is durable.",
            keys.put,
            (200, 201, 409, 412, 413, *_WRITE),
            ("ttl", *_SPREADS),
            _CONDITIONS,
            "Value",
        ),
        "DELETE": Operation(
            "delete",
            "Delete a key; answered once it is durable.",
            keys.delete,
            (200, 404, 412, *_WRITE),
            _SPREADS,
            _CONDITIONS,
        ),
    },
    "/kv": {
        "GET": Operation(
            "list",
            "One page in key order.",
            listing.list_entries,
            (200, *_READ),
            (*listing.PARAMETERS, *_WAITS),
            (SESSION,),
        ),
    },
    "/batch": {
        "POST": Operation(
            "batch",
            "Puts and deletes: all of them or none on this member, durable together.",
            batch.batch,
            (200, 409, 412, 413, 415, *_WRITE),
            _SPREADS,
            (SESSION,),
            "Batch",
        ),
    },
    "/multi-get": {
        "POST": Operation(
            "multi_get", "Several keys.", listing.multi_get, (200, 413, 415, *_READ), _WAITS, (SESSION,), "MultiGet"
        ),
    },
    "/watch": {
        "GET": Operation(
            "watch",
            "Server-Sent Events: what is held, then each change.",
            watching.watch,
            (200, 410, *_READ),
            (*watching.PARAMETERS, *_WAITS),
            (watching.LAST_EVENT_ID, SESSION),
        ),
    },
    "/explain/{key}": {
        "GET": Operation(
            "explain",
            "How a key came to hold what it holds.",
            keys.explain,
            (200, *_READ),
            _WAITS,
            (SESSION,),
        ),
    },
}
"""The routes of a store, behind its prefix."""

_EXACT: Final = {path: methods for path, methods in OF_STORE.items() if KEYED not in path}
_BY_KEY: Final = {path.removesuffix(KEYED): methods for path, methods in OF_STORE.items() if KEYED in path}


class Found(NamedTuple):
    """The methods of a path, which store it speaks of, and the key in it as it was written; "" where there is none."""

    methods: Mapping[str, Operation]
    prefix: str
    escaped_key: str


def of_store(path: str) -> Found | None:
    """Return the route of a store that `path` names, None if there is none."""
    prefix = EPHEMERAL if path.startswith(f"{EPHEMERAL}/") else STORE
    if not path.startswith(f"{prefix}/"):
        return None
    rest = path[len(prefix) :]
    methods = _EXACT.get(rest)
    if methods is not None:
        return Found(methods, prefix, "")
    for begin, keyed in _BY_KEY.items():
        if rest.startswith(begin):
            return Found(keyed, prefix, rest[len(begin) :])
    return None
