"""The text of Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

An event's data is one line of JSON, which escapes every line end that any reader knows, so no value can end an event
early.
"""

from typing import Any, Final

from wavekv.errors import WaveKVError
from wavekv.http_api.values import one_line, value_fields
from wavekv.ports import Change

RETRY: Final = b"retry: 1000\n"
"""How long a browser waits before it connects again, milliseconds: the first line of every stream, in the block of its
first event, because some readers take a block of its own for an event."""

RESET_LEAD: Final = RETRY + b"event: reset\ndata: {}\n\n"
"""Begins a stream that tells all that is held, where asked for: what was heard before is to be forgotten."""

COMMENT: Final = b": \n\n"
"""What says that the stream lives; readers pass over it."""


def event(change: Change) -> bytes:
    """Return one change."""
    head = f"event: {change.kind}\n" if change.token is None else f"event: {change.kind}\nid: {change.token}\n"
    return f"{head}data: {one_line(_data(change))}\n\n".encode()


def farewell(error: WaveKVError) -> bytes:
    """Return the event that ends a stream: named by the error's code, its data the problem document."""
    return f"event: {error.code}\ndata: {one_line(error.problem())}\n\n".encode("utf-8", "backslashreplace")


def _data(change: Change) -> dict[str, Any]:
    if change.kind == "synced":
        return {}
    found: dict[str, Any] = {"key": change.key}
    entry = change.entry
    if entry is None:
        return found
    if change.kind == "put" and entry.value is not None:
        found |= value_fields(entry.value)
    found["etag"] = entry.etag
    if entry.expires_at is not None:
        found["expires_at"] = entry.expires_at
    return found
