"""The text of Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

An event's data is one line of JSON, which escapes every line end, so no value can end an event early. A value is a
string where it is UTF-8, else base64; never both.
"""

import base64
import json
from typing import Any, Final

from wavekv.errors import WaveKVError
from wavekv.ports import Change

RETRY: Final = b"retry: 1000\n\n"
"""How long a browser waits before it connects again, milliseconds: the first line of every stream."""

COMMENT: Final = b": \n\n"
"""What says that the stream lives; readers pass over it."""


def event(change: Change) -> bytes:
    """Return one change."""
    head = f"event: {change.kind}\n" if change.token is None else f"event: {change.kind}\nid: {change.token}\n"
    return f"{head}data: {_line(_data(change))}\n\n".encode()


def farewell(error: WaveKVError) -> bytes:
    """Return the event that ends a stream: named by the error's code, its data the problem document."""
    return f"event: {error.code}\ndata: {_line(error.problem())}\n\n".encode("utf-8", "backslashreplace")


def _data(change: Change) -> dict[str, Any]:
    if change.kind == "synced":
        return {}
    found: dict[str, Any] = {"key": change.key}
    entry = change.entry
    if entry is None:
        return found
    if change.kind == "put" and entry.value is not None:
        try:
            found["value"] = entry.value.decode()
        except UnicodeDecodeError:
            found["value_base64"] = base64.b64encode(entry.value).decode("ascii")
    found["etag"] = entry.etag
    if entry.expires_at is not None:
        found["expires_at"] = entry.expires_at
    return found


def _line(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))
