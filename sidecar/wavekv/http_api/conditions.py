"""Reads If-Match and If-None-Match into conditions, and answers reads that carry them (RFC 9110, section 13)."""

import re
from typing import Final

from aiohttp import hdrs, web

from wavekv.core.condition import ALWAYS, ANY, Condition
from wavekv.core.types import Entry
from wavekv.errors import DurabilityTimeout, InvalidCondition, PreconditionFailed

_TAG: Final = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*')
TAGS_MAX: Final = 100
"""Entity tags in one condition (G9)."""


def condition_from(request: web.BaseRequest) -> Condition:
    """Return the condition that a request's headers make.

    Raises:
        InvalidCondition: a header is not `*` or a list of entity tags.
    """
    if hdrs.IF_MATCH not in request.headers and hdrs.IF_NONE_MATCH not in request.headers:
        return ALWAYS
    return Condition(_tags(request, hdrs.IF_MATCH, weak=False), _tags(request, hdrs.IF_NONE_MATCH, weak=True))


def unmodified(condition: Condition, entry: Entry) -> bool:
    """Tell whether a read is answered 304: the client has the value that is there.

    Raises:
        PreconditionFailed: If-Match names other values.
    """
    Condition(match=condition.match).check(entry)
    try:
        condition.check(entry)
    except PreconditionFailed:
        return True
    return False


def bare_tag(found: object) -> bool:
    """Tell whether `found` is an entity tag without quotes, and not ANY."""
    return isinstance(found, str) and found != ANY and _TAG.fullmatch(f'"{found}"') is not None


def _tags(request: web.BaseRequest, name: str, *, weak: bool) -> tuple[str, ...] | None:
    """Return the tags of one header; weak ones count only where the comparison is weak, and never match otherwise."""
    lines = request.headers.getall(name, None)
    if lines is None:
        return None
    text = ",".join(lines)
    if text.strip() == ANY:
        return (ANY,)
    parts = text.split(",") if text.count(",") < TAGS_MAX else [""]
    matches = [_TAG.fullmatch(part) for part in parts]
    if None in matches:
        raise InvalidCondition(f'{name} has to be * or up to {TAGS_MAX} entity tags such as "1700000000000.7.42"')
    return tuple(match[2] for match in matches if match is not None and (weak or match[1] is None))


def with_etag(response: web.Response, error: PreconditionFailed | DurabilityTimeout) -> web.Response:
    """Return the refusal with the tag of the value that is there, for the client to try again with."""
    if error.etag is not None:
        response.headers[hdrs.ETAG] = f'"{error.etag}"'
    return response
