"""A batch: its document, checked to the last field before anything is staged, and its answer in the order asked."""

import base64
import binascii
from typing import Any, Final

from aiohttp import web

from wavekv.config import Limits
from wavekv.core.condition import ALWAYS, ANY, Condition
from wavekv.core.session import dots_of
from wavekv.core.writes import Delete, Put
from wavekv.errors import BatchTooLarge, InvalidBody, InvalidCondition, InvalidParameter, ValueTooLarge
from wavekv.http_api.calls import Call
from wavekv.http_api.conditions import TAGS_MAX, bare_tag
from wavekv.http_api.document import answer, as_object, read_document
from wavekv.http_api.expiry import expiry_of_number
from wavekv.http_api.listing import key_in
from wavekv.http_api.waiting import Spreading
from wavekv.ports import Written
from wavekv.runtime.gate import next_slice

_CONDITIONS: Final = ("if_match", "if_none_match")
_FIELDS: Final = {
    "put": ("op", "key", "value", "value_base64", "ttl", *_CONDITIONS),
    "delete": ("op", "key", *_CONDITIONS),
}
_READ_PER_TURN: Final = 100
"""Operations read in one turn of the loop, a few milliseconds with the largest values that fit a batch."""
_ELEMENTS_MAX: Final = 2 * TAGS_MAX + 16
"""Values in one operation's document, separators counted: its fields and two lists of tags."""


async def batch(call: Call) -> web.Response:
    """Answer once all operations are durable together."""
    spreading = Spreading(call)
    writes = await _writes(call)
    with spreading:
        results = await call.store.batch(writes)
        answers = [_result(written, isinstance(one, Delete)) for written, one in zip(results, writes, strict=True)]
        dots = dots_of(written.entry for written in results if written is not None)
        del writes, results  # thousands may wait for other members, and must not hold their values (G9)
        session = await spreading.reached(dots)
    response = answer(call.request, {"results": answers})
    response.headers.update(session)
    return response


async def _writes(call: Call) -> list[Put | Delete]:
    """Return the operations in the body, in the order asked."""
    limits = call.shared.limits
    items_max = max(limits.batch_operations_max, TAGS_MAX) + 1  # one more, for the refusal to be in our words
    elements_max = items_max * _ELEMENTS_MAX
    document = await read_document(call.request, 2 * limits.batch_bytes_max, items_max, elements_max)
    operations = document.member(["operations"]).get("operations")
    if not isinstance(operations, list) or not operations:
        raise InvalidBody("operations has to be a list of one operation at least")
    if len(operations) > limits.batch_operations_max:
        raise BatchTooLarge(f"the batch has {len(operations)} operations; at most {limits.batch_operations_max}")
    reader = _Reader(limits, call.shared.clock.now_ms(), binary=document.binary)
    writes: list[Put | Delete] = []
    for place, found in enumerate(operations):
        writes.append(reader.write(found, place))
        if not len(writes) % _READ_PER_TURN:
            await next_slice()
    return writes


def _result(written: Written | None, deleted: bool) -> dict[str, Any]:
    if written is None:
        return {"deleted": False}
    return {"etag": written.entry.etag, **({"deleted": True} if deleted else {"created": written.created})}


class _Reader:
    """Turns the operations of one document into writes; counts their bytes on the way."""

    def __init__(self, limits: Limits, now_ms: int, *, binary: bool) -> None:
        self._limits = limits
        self._now_ms = now_ms
        self._binary = binary
        self._left = limits.batch_bytes_max

    def write(self, found: Any, place: int) -> Put | Delete:
        """Return the write at `place`.

        Raises:
            InvalidBody, InvalidKey, InvalidParameter, InvalidCondition, ValueTooLarge: names the place.
            BatchTooLarge: the bytes so far exceed the bound.
        """
        at = f"operations[{place}]"
        op = found.get("op") if isinstance(found, dict) else None
        if not isinstance(op, str) or op not in _FIELDS:
            raise InvalidBody(f"{at} has to be an object whose op is put or delete")
        fields = as_object(found, at, _FIELDS[op])
        # Nodes of the original system may write the empty key, which nobody here can: so it can be deleted.
        emptied = op == "delete" and fields.get("key") == ""
        key = "" if emptied else key_in(fields.get("key"), f"{at}.key", self._limits)
        condition = _condition(fields, at)
        value = self._value(fields, at) if op == "put" else b""
        self._left -= len(key.encode()) + len(value)
        if self._left < 0:
            raise BatchTooLarge(f"the keys and values of the batch exceed {self._limits.batch_bytes_max} bytes")
        return Put(key, value, self._expiry(fields, at), condition) if op == "put" else Delete(key, condition)

    def _value(self, fields: dict[str, Any], at: str) -> bytes:
        value = self._bytes_of(fields, at)
        if len(value) > self._limits.value_bytes_max:
            raise ValueTooLarge(f"{at}: the value has {len(value)} bytes; at most {self._limits.value_bytes_max}")
        return value

    def _bytes_of(self, fields: dict[str, Any], at: str) -> bytes:
        if ("value" in fields) == ("value_base64" in fields):
            raise InvalidBody(f"{at} has to have one of value and value_base64")
        value = fields.get("value", fields.get("value_base64"))
        if self._binary and "value" in fields and isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise InvalidBody(f"{at}: the value has to be a string{' or bytes' if self._binary else ''}")
        try:
            return value.encode() if "value" in fields else base64.b64decode(value, validate=True)
        except UnicodeEncodeError as error:
            raise InvalidBody(f"{at}.value holds half a surrogate pair; write such bytes as value_base64") from error
        except (binascii.Error, ValueError) as error:
            raise InvalidBody(f"{at}.value_base64 is not base64") from error

    def _expiry(self, fields: dict[str, Any], at: str) -> int | None:
        if "ttl" not in fields:
            return None
        try:
            return expiry_of_number(fields["ttl"], self._now_ms, self._limits.ttl_ms_max)
        except InvalidParameter as error:
            raise InvalidParameter(f"{at}: {error.detail}") from error


def _condition(fields: dict[str, Any], at: str) -> Condition:
    match, none_match = (_tags(fields[name], f"{at}.{name}") if name in fields else None for name in _CONDITIONS)
    return ALWAYS if match is None and none_match is None else Condition(match, none_match)


def _tags(found: Any, place: str) -> tuple[str, ...]:
    if found == ANY:
        return (ANY,)
    tags = [found] if isinstance(found, str) else found
    if not isinstance(tags, list) or not 0 < len(tags) <= TAGS_MAX or not all(map(bare_tag, tags)):
        raise InvalidCondition(f'{place} has to be "*", an entity tag without quotes, or a list of up to {TAGS_MAX}')
    return tuple(tags)
