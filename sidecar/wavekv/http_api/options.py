"""Refuses what a route lacks: an ignored option would be a promise that nobody keeps.

Parameters that the API has for other routes answer 501, any other 400. Headers outside this list may be ignored, as
HTTP has it.
"""

from collections.abc import Collection, Mapping
from typing import Final

from wavekv.errors import InvalidParameter, NotImplementedHere
from wavekv.http_api.fast import SESSION

_PARAMETERS: Final = frozenset({"durability", "timeout"})
_HEADERS: Final = (SESSION,)
_CONDITIONS: Final = ("If-Match", "If-None-Match")
_BODY_HEADERS: Final = ("Content-Encoding", "Content-Range")


def refuse_lacking_headers(headers: Mapping[str, str], method: str, *, known: Collection[str]) -> None:
    """Refuse a session, a condition on a route that does not know it, or a body that would have to be transformed.

    Raises:
        NotImplementedHere: names the header.
    """
    for name in (*_HEADERS, *_CONDITIONS):
        if name in headers and name not in known:
            raise NotImplementedHere(f"the header {name} is not implemented by this version for this route")
    if method in {"PUT", "POST"}:
        for name in _BODY_HEADERS:
            if name in headers:
                raise NotImplementedHere(f"the header {name} is not implemented; bodies are taken as they are sent")


def refuse_unknown(given: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse parameters other than `known`.

    Raises:
        NotImplementedHere: one that the API has, and this route lacks.
        InvalidParameter: one that the API does not have.
    """
    for name in given:
        if name in known:
            continue
        if name in _PARAMETERS:
            raise NotImplementedHere(f"the parameter {name} is not implemented for this route")
        allowed = f"; it takes {', '.join(known)}" if known else "; it takes none"
        raise InvalidParameter(f"the parameter {name[:80]!r} is unknown to this route{allowed}")
