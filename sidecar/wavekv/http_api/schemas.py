"""What bodies and answers hold, as schemas of the API's description (OpenAPI 3.1)."""

from typing import Any, Final

from wavekv.config import Limits

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}
_MAYBE_NUMBER: Final = {"type": ["integer", "null"]}
_FLAG: Final = {"type": "boolean"}
_TAGS: Final = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 100}]}

ANSWERS: Final = {
    "list": "Page",
    "multi_get": "Several",
    "batch": "Results",
    "explain": "Explanation",
    "status": "Status",
    "other": "Document",
}
"""What each kind of operation answers with 200, where that is a document."""


def schemas(limits: Limits) -> dict[str, Any]:
    """Return every schema by its name."""
    return {**_bodies(limits), **_answers(), "Problem": _problem()}


def _bodies(limits: Limits) -> dict[str, Any]:
    condition = {"if_match": _TAGS, "if_none_match": _TAGS}
    ttl = {"oneOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "enum": ["keep"]}]}
    values = {"value": _TEXT, "value_base64": _TEXT, "ttl": ttl}
    operations = {
        "type": "array",
        "items": {"oneOf": [_reference("Put"), _reference("Delete")]},
        "minItems": 1,
        "maxItems": limits.batch_operations_max,
    }
    keys = {"type": "array", "items": _TEXT, "maxItems": limits.multi_get_keys_max}
    return {
        "Batch": _object(["operations"], operations=operations),
        "Put": _object(["op", "key"], op={"type": "string", "enum": ["put"]}, key=_TEXT, **values, **condition),
        "Delete": _object(["op", "key"], op={"type": "string", "enum": ["delete"]}, key=_TEXT, **condition),
        "MultiGet": _object(["keys"], keys=keys),
    }


def _answers() -> dict[str, Any]:
    entries = _list("Entry")
    names = {"type": "array", "items": _TEXT}
    held = {"anyOf": [_reference("Held"), {"type": "null"}]}
    return {
        "Entry": _open(["key", "etag"], key=_TEXT, etag=_TEXT, value=_TEXT, value_base64=_TEXT, expires_at=_NUMBER),
        "Page": _open(["entries", "next"], entries=entries, next={"type": ["string", "null"]}),
        "Several": _open(["entries", "missing", "left_out"], entries=entries, missing=names, left_out=names),
        "Result": _open([], etag=_TEXT, created=_FLAG, deleted=_FLAG),
        "Results": _open(["results"], results=_list("Result")),
        "Held": _open(
            ["etag", "timestamp", "origin", "seq", "deleted", "expired"],
            **dict.fromkeys(("timestamp", "origin", "seq"), _NUMBER),
            expires_at=_MAYBE_NUMBER,
            value_bytes=_MAYBE_NUMBER,
            **dict.fromkeys(("deleted", "expired"), _FLAG),
            etag=_TEXT,
        ),
        "Loser": _open(
            ["etag", "deleted", "value_bytes", "lost_to", "seen_ms"],
            **dict.fromkeys(("value_bytes", "seen_ms"), _NUMBER),
            **dict.fromkeys(("etag", "lost_to"), _TEXT),
            deleted=_FLAG,
        ),
        "Explanation": _open(
            ["key", "held", "losers", "covered_by"],
            key=_TEXT,
            held=held,
            losers=_list("Loser"),
            covered_by={"type": "object", "additionalProperties": _FLAG},
        ),
        "Status": {"type": "object", "additionalProperties": True},
        "Document": {"type": "object", "additionalProperties": True},
    }


def _problem() -> dict[str, Any]:
    problem = _open(["type", "title", "status", "code", "detail"])
    problem["properties"] = dict.fromkeys(("type", "title", "code", "detail", "covered", "missing"), _TEXT)
    problem["properties"] |= {"status": _NUMBER, "operation": _NUMBER}
    problem["properties"] |= {"durable_on": {"type": "array", "items": _TEXT}}
    return problem


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _reference(name)}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    """Return an object of exactly these properties, as bodies are taken."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _open(required: list[str], **properties: Any) -> dict[str, Any]:
    """Return an object of these properties at least, as answers may grow."""
    return {"type": "object", "required": required, "properties": properties}
