"""How a value stands in a document, on every route and in every line: `value` where it is UTF-8, else `value_base64`.

Never both. Where bytes travel as they are (msgpack), `value` is the bytes.
"""

import base64
import json
from typing import Any, Final

_LINE_ENDS: Final = (("\u2028", "\\u2028"), ("\u2029", "\\u2029"), ("\x85", "\\u0085"))
"""What some readers take for the end of a line and JSON leaves as it is; VT and FF it escapes itself."""
_CONTROLS: Final = bytes(range(32))
_ESCAPED_BYTES: Final = 5
"""Bytes that escaping adds to a control character, as in `\\u0001`."""


def value_fields(value: bytes) -> dict[str, str]:
    """Return the one member of a JSON object that tells `value`."""
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode("ascii")}


def written_bytes(value: bytes) -> int:
    """Return how many bytes `value` has at most once it is written as JSON."""
    controls = len(value) - len(value.translate(None, _CONTROLS))
    return max(len(value) + controls * _ESCAPED_BYTES, len(value) * 4 // 3 + 4)


def one_line(found: Any) -> str:
    """Return `found` as JSON on one line, whatever its reader takes for the end of one; without a newline."""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    for letter, escaped in _LINE_ENDS:
        if letter in text:
            text = text.replace(letter, escaped)
    return text
