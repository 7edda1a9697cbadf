"""The text of Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

An event's data is one line of JSON, which escapes every line end that any reader knows, so no value can end an event
early. The longest one is six MiB as text and takes 30 ms to make, so a long value is made in parts, and who writes them
lets others have turns in between.
"""

import base64
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

from wavekv.core.types import Entry
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


PART_BYTES: Final = 12 << 10
"""Bytes of a value in one part of an event, a multiple of three: 72 KiB of text and half a millisecond at most."""


def is_long(change: Change) -> bool:
    """Tell whether the change comes in several parts."""
    return len(_value(change)) > PART_BYTES


def _value(change: Change) -> bytes:
    if change.kind != "put" or change.entry is None:
        return b""
    return change.entry.value or b""


def parts(change: Change) -> Iterator[bytes]:
    """Yield the text of one change, in parts where its value is long."""
    head = f"event: {change.kind}\n" if change.token is None else f"event: {change.kind}\nid: {change.token}\n"
    value = _value(change)
    if len(value) <= PART_BYTES or change.entry is None:
        yield f"{head}data: {one_line(_data(change))}\n\n".encode()
        return
    name, cuts = ("value", _characters(value)) if _is_text(value) else ("value_base64", _triples(value))
    key = one_line({"key": change.key})[:-1]
    yield f'{head}data: {key},"{name}":"'.encode()
    for begin, end in pairwise(cuts):
        piece = value[begin:end]
        yield one_line(piece.decode())[1:-1].encode() if name == "value" else base64.b64encode(piece)
    yield f'",{one_line(_about(change.entry))[1:]}\n\n'.encode()


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _triples(value: bytes) -> Iterator[int]:
    """Yield where to cut a value for base64."""
    yield from range(0, len(value), PART_BYTES)
    yield len(value)


def _characters(value: bytes) -> Iterator[int]:
    """Yield where to cut UTF-8, never inside of a character."""
    cut = 0
    while cut < len(value):
        yield cut
        cut += PART_BYTES
        while cut < len(value) and value[cut] & 0xC0 == 0x80:
            cut -= 1
    yield len(value)


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
    return {**found, **_about(entry)}


def _about(entry: Entry) -> dict[str, Any]:
    """Return what stands behind the value."""
    if entry.expires_at is None:
        return {"etag": entry.etag}
    return {"etag": entry.etag, "expires_at": entry.expires_at}
