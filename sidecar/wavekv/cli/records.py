"""One record as a JSON line: what `export` writes, `import` reads and `--json` prints.

A value that is UTF-8 stays readable as `value`; any other travels as `value_base64`. Never both. When it expires stands
as `expires_at`, or, to be read alone, as `ttl` counted from the import.
"""

import base64
import binascii
import json
from decimal import Decimal
from typing import Any, Final, NamedTuple

from wavekv.config import Limits
from wavekv.errors import InvalidParameter
from wavekv.http_api.expiry import expiry_of_number

_SHOWN: Final = "etag"
"""What listings have beside the fields of a record; an import gives entries tags of their own."""
_FIELDS: Final = ("key", "value", "value_base64", "expires_at", "ttl")


class Parsed(NamedTuple):
    """What a line says. At most one of the two is there: when it expires (ms since 1970), or a parameter `ttl`."""

    key: str
    value: bytes
    expires_at: int | None = None
    ttl: str | None = None


def expiry(expires_at: int | None) -> dict[str, int]:
    """Return the member of a JSON line that tells an expiry, none where there is none."""
    return {} if expires_at is None else {"expires_at": expires_at}


def json_line(key: str, value: bytes | None, **more: Any) -> str:
    """Return the record as one line of JSON, without a newline; no value at all when it is None."""
    record: dict[str, Any] = {"key": key}
    if value is not None:
        try:
            record["value"] = value.decode()
        except UnicodeDecodeError:
            record["value_base64"] = base64.b64encode(value).decode()
    return json.dumps(record | more, ensure_ascii=False, separators=(",", ":"))


def parse_json_line(line: bytes) -> Parsed:
    """Return what one line says.

    Raises:
        InvalidParameter: not an object with a key and exactly one of value and value_base64, all strings; an expiry
            that cannot be one; a field of another name, which could have meant something to its writer.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("key"), str):
        raise InvalidParameter('not an object with a string "key"')
    unknown = [name for name in record if name not in _FIELDS and name != _SHOWN]
    if unknown:
        raise InvalidParameter(f"the field {json.dumps(unknown[0][:80])} is unknown; known are {', '.join(_FIELDS)}")
    named = [name for name in ("value", "value_base64") if name in record]
    if len(named) != 1 or not isinstance(record[named[0]], str):
        raise InvalidParameter('exactly one of "value" and "value_base64" has to be there, as a string')
    text = record[named[0]]
    value = from_base64(text) if named == ["value_base64"] else _utf8(text)
    return Parsed(record["key"], value, *_expiry(record))


def _expiry(record: dict[str, Any]) -> tuple[int | None, str | None]:
    if "expires_at" in record:
        expires_at = record["expires_at"]
        if "ttl" in record:
            raise InvalidParameter("expires_at and ttl exclude each other; give one")
        if type(expires_at) is not int or expires_at < 0:
            raise InvalidParameter("expires_at has to be a whole number of milliseconds since 1970")
        return expires_at, None
    if "ttl" not in record:
        return None, None
    ttl = record["ttl"]
    expiry_of_number(ttl, 0, Limits().ttl_ms_max)
    return None, ttl if isinstance(ttl, str) else format(Decimal(str(ttl)), "f")


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
