"""One record as a JSON line: what `export` writes, `import` reads and `--json` prints.

A value that is UTF-8 stays readable as `value`; any other travels as `value_base64`. Never both. When it expires stands
as `expires_at`, or, to be read alone, as `ttl` counted from the import. A field of another name, or one given twice,
could have meant something to its writer: it is refused by name, unless it is to be left out (`--drop`).
"""

import base64
import binascii
import json
from collections import Counter
from collections.abc import Collection
from decimal import Decimal
from typing import Any, Final, NamedTuple

from wavekv.config import Limits
from wavekv.core.types import U64_MAX
from wavekv.errors import InvalidParameter
from wavekv.http_api.expiry import expiry_of_number
from wavekv.http_api.values import one_line, value_fields

SHOWN: Final = ("etag", "rejected")
"""What listings and the rejects of an import have beside the fields of a record; both are passed over."""
FIELDS: Final = ("key", "value", "value_base64", "expires_at", "ttl")
"""What a record may have."""
_SECONDS_LEAST: Final = 100_000_000
_SECONDS_MOST: Final = 100_000_000_000
"""An `expires_at` between the two is a date in seconds, of 1973 to 5138; read as milliseconds it is of before 1973."""


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
    return one_line(record | ({} if value is None else value_fields(value)) | more)


def parse_json_line(line: bytes, dropped: Collection[str] = ()) -> Parsed:
    """Return what one line says; fields in `dropped` are left out.

    Raises:
        InvalidParameter: it is not JSON, or a name stands in it twice; else as `parse_record`.
    """
    return parse_record(parse_json(line), dropped)


def parse_json(text: bytes) -> Any:
    """Return what JSON says.

    Raises:
        InvalidParameter: it is not JSON, or an object has a name twice, of which parsers choose either.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"not JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidParameter(f"the field {shown(twice)} is given twice")
    return found


def parse_record(record: Any, dropped: Collection[str] = ()) -> Parsed:
    """Return what the object `record` says; fields in `dropped` are left out.

    Raises:
        InvalidParameter: not an object with a key and exactly one of value and value_base64, all strings; an expiry
            that cannot be one; a field of another name.
    """
    if not isinstance(record, dict) or not isinstance(record.get("key"), str):
        raise InvalidParameter('not an object with a string "key"')
    record = {name: found for name, found in record.items() if name not in dropped and name not in SHOWN}
    refuse_unknown(record, "field")
    named = [name for name in ("value", "value_base64") if name in record]
    if len(named) != 1 or not isinstance(record[named[0]], str):
        raise InvalidParameter('exactly one of "value" and "value_base64" has to be there, as a string')
    text = record[named[0]]
    value = from_base64(text) if named == ["value_base64"] else utf8(text)
    return Parsed(record["key"], value, *_expiry(record))


def refuse_unknown(names: Collection[str], what: str) -> None:
    """Refuse a `what` (field, column) that no record has.

    Raises:
        InvalidParameter: names it, and how to leave it out.
    """
    for name in names:
        if name not in FIELDS:
            raise InvalidParameter(
                f"the {what} {shown(name)} is unknown; known are {', '.join(FIELDS)}; --drop leaves out others by name"
            )


def shown(name: str) -> str:
    """Return a name from outside for a message: quoted, escaped, and cut."""
    return json.dumps(name[:80])


def _expiry(record: dict[str, Any]) -> tuple[int | None, str | None]:
    if "expires_at" in record:
        expires_at = record["expires_at"]
        if "ttl" in record:
            raise InvalidParameter("expires_at and ttl exclude each other; give one")
        if type(expires_at) is not int:
            raise InvalidParameter("expires_at has to be a whole number of milliseconds since 1970")
        return checked_date(expires_at), None
    if "ttl" not in record:
        return None, None
    ttl = record["ttl"]
    expiry_of_number(ttl, 0, Limits().ttl_ms_max)
    return None, ttl if isinstance(ttl, str) else format(Decimal(str(ttl)), "f")


def checked_date(expires_at: int) -> int:
    """Return `expires_at`.

    Raises:
        InvalidParameter: it is below 0, in seconds, or beyond what a number of the formats can hold.
    """
    if not 0 <= expires_at <= U64_MAX:
        raise InvalidParameter("expires_at has to be a whole number of milliseconds since 1970")
    if _SECONDS_LEAST <= expires_at < _SECONDS_MOST:
        raise InvalidParameter(f"expires_at counts milliseconds since 1970, and {expires_at} looks like seconds")
    return expires_at


def from_base64(text: str) -> bytes:
    """Return the bytes behind `text`.

    Raises:
        InvalidParameter: not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(f"value_base64 is not base64: {error}") from error


def utf8(text: str) -> bytes:
    """Return the bytes of a value that is text.

    Raises:
        InvalidParameter: half a surrogate pair is in it.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter("the value holds half a surrogate pair; write such bytes as value_base64") from error
