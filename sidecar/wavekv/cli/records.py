"""One record as a JSON line: what `export` writes, `import` reads and `--json` prints.

A value that is UTF-8 stays readable as `value`; any other travels as `value_base64`. Never both.
"""

import base64
import binascii
import json
from typing import Any

from wavekv.errors import InvalidParameter


def json_line(key: str, value: bytes | None, **more: Any) -> str:
    """Return the record as one line of JSON, without a newline; no value at all when it is None."""
    record: dict[str, Any] = {"key": key}
    if value is not None:
        try:
            record["value"] = value.decode()
        except UnicodeDecodeError:
            record["value_base64"] = base64.b64encode(value).decode()
    return json.dumps(record | more, ensure_ascii=False, separators=(",", ":"))


def parse_json_line(line: bytes) -> tuple[str, bytes]:
    """Return key and value of one line; members of other names are passed over.

    Raises:
        InvalidParameter: not an object with a key and exactly one of value and value_base64, all strings.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("key"), str):
        raise InvalidParameter('not an object with a string "key"')
    named = [name for name in ("value", "value_base64") if name in record]
    if len(named) != 1 or not isinstance(record[named[0]], str):
        raise InvalidParameter('exactly one of "value" and "value_base64" has to be there, as a string')
    text = record[named[0]]
    return record["key"], from_base64(text) if named == ["value_base64"] else _utf8(text)


def from_base64(text: str) -> bytes:
    """Return the bytes behind `text`.

    Raises:
        InvalidParameter: not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(f"value_base64 is not base64: {error}") from error


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter("the value holds half a surrogate pair; write such bytes as value_base64") from error
