"""The API's own description (OpenAPI 3.1), written from the table of routes: what is not in the table is not served."""

import json
from collections.abc import Mapping
from typing import Any, Final

from wavekv import __version__
from wavekv.config import Limits
from wavekv.http_api.calls import BYTES
from wavekv.http_api.document import JSON, MSGPACK
from wavekv.http_api.fast import SESSION
from wavekv.http_api.routes import ALWAYS, EPHEMERAL, KEYED, Operation
from wavekv.http_api.schemas import ANSWERS, schemas

_PROBLEM: Final = "application/problem+json"
_STREAM: Final = "text/event-stream"
_TEXT: Final = {"type": "string"}
_BYTES: Final = {"type": "string", "format": "binary"}

_ABOUT: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "ttl": ("Seconds to live, above 0, up to 3 decimals; or keep, the expiry that is there.", _TEXT),
    "prefix": ("Keys that begin with this.", _TEXT),
    "after": ("Keys that sort behind this one: `next` of the page before.", _TEXT),
    "keys_only": ("No values.", {"type": "string", "enum": ["true", "1", "false", "0"]}),
    "key": ("This key alone; excludes prefix.", _TEXT),
    "reset": (
        "Say `reset` before all that is held is told, and begin anew where the token is too old.",
        {"type": "string", "enum": ["true", "1", "false", "0"]},
    ),
    "since": ("Resume behind the event of this id.", _TEXT),
    "durability": ("Answer once this many members hold it durably, this one included, or all; 1 by default.", _TEXT),
    "timeout": ("Seconds, up to 3 decimals, to wait at most for a session and for other members.", _TEXT),
    "Wavekv-Session": ("What writes answered, joined by commas: wait until this member covers those writes.", _TEXT),
    "If-Match": ("Entity tags one of which has to be there, or *.", _TEXT),
    "If-None-Match": ("Entity tags none of which may be there, or *.", _TEXT),
    "Last-Event-ID": ("Resume behind the event of this id; beats since.", _TEXT),
}
"""What each parameter means; `limit` has its bound from the settings."""

_MEANS: Final = {
    200: "Done.",
    201: "Created.",
    304: "The client has the value.",
    400: "Malformed.",
    403: "A page of another host asks.",
    404: "No such key.",
    408: "The rest of it did not come in time.",
    409: "A node of the original system is a member: no expiry (crate_peers).",
    410: "The token is another member's or too old (watch_expired).",
    412: "A condition does not hold.",
    413: "Too large.",
    415: "Neither JSON nor msgpack.",
    429: "Too many wait.",
    500: "An error of the member.",
    501: "An option that this route lacks.",
    503: "Not now.",
    504: "Not covered, or not durable on enough members, in time; it says how far it got, and a write stays.",
    507: "No room.",
}


def describe(routes: Mapping[str, Mapping[str, Operation]], limits: Limits) -> bytes:
    """Return the document for `routes`: path template → method → operation."""
    paths = {
        path: {method.lower(): _operation(path, op, limits) for method, op in ops.items()}
        for path, ops in routes.items()
    }
    info = {"title": "WaveKV data API", "version": __version__}
    document = {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas(limits)}}
    return json.dumps(document, separators=(",", ":")).encode()


def _operation(path: str, operation: Operation, limits: Limits) -> dict[str, Any]:
    parameters = [_parameter(name, "query", limits) for name in operation.parameters]
    parameters += [_parameter(name, "header", limits) for name in operation.headers]
    if KEYED in path:
        about = f"1 to {limits.key_bytes_max} bytes of UTF-8, percent-encoded; / may stand raw."
        parameters.insert(0, {"name": "key", "in": "path", "required": True, "description": about, "schema": _TEXT})
    statuses = sorted({*operation.answers, *ALWAYS})
    described: dict[str, Any] = {
        "operationId": _operation_id(path, operation),
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {str(status): _response(status, operation) for status in statuses},
    }
    if operation.body == "Value":
        described["requestBody"] = {"required": True, "content": {BYTES: {"schema": _BYTES}}}
    elif operation.body is not None:
        schema = _schema(operation.body)
        described["requestBody"] = {"required": True, "content": {JSON: schema, MSGPACK: schema}}
    return described


def _operation_id(path: str, operation: Operation) -> str:
    """Return the name that generated clients give the operation."""
    kind = "describe" if operation.kind == "other" else operation.kind
    return f"{kind}_ephemeral" if path.startswith(EPHEMERAL) else kind


def _parameter(name: str, place: str, limits: Limits) -> dict[str, Any]:
    if name == "limit":
        bounds = {"minimum": 1, "maximum": limits.list_entries_max, "default": limits.list_entries_default}
        return {"name": name, "in": place, "description": "Entries at most.", "schema": {"type": "integer", **bounds}}
    about, schema = _ABOUT[name]
    return {"name": name, "in": place, "description": about, "schema": schema}


def _response(status: int, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _MEANS[status]}
    if status in {200, 201} and operation.kind in _WRITES:
        about = "The session token of what was written; none where a batch wrote nothing."
        described["headers"] = {SESSION: {"description": about, "schema": _TEXT}}
    if status >= 400 and operation.kind != "head":
        described["content"] = {_PROBLEM: _schema("Problem")}
    elif status == 200 and operation.kind == "get":
        described["content"] = {BYTES: {"schema": _BYTES}}
    elif status == 200 and operation.kind == "watch":
        described["content"] = {_STREAM: {"schema": _TEXT}}
    elif status == 200 and operation.kind in _NEGOTIATED:
        described["content"] = dict.fromkeys((JSON, MSGPACK), _schema(ANSWERS[operation.kind]))
    elif status == 200 and operation.kind in {"status", "other"}:
        described["content"] = {JSON: _schema(ANSWERS[operation.kind])}
    return described


_WRITES: Final = frozenset({"put", "delete", "batch"})
_NEGOTIATED: Final = frozenset({"list", "batch", "multi_get", "explain"})


def _schema(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}
