"""Refuses what a web page could send, and keeps answers from being read or run by one: for every plane of plain HTTP.

No such plane has a password, and a browser on this machine reaches loopback. A page of another host gives itself
away: it names itself in `Origin`; the browser says `Sec-Fetch-Site: cross-site`; a page whose host name was made to
resolve to 127.0.0.1 (DNS rebinding) names that host in `Host`. Programs send none of these, or name this machine. A
unix socket needs no guard: no page opens one. What a browser sends without asking first is a form of one of three
content types, so routes that change something take none of these (`refuse_form`).

Answers carry `SAFE_HEADERS`: a browser guesses no type for them and gives them to no page of another host, neither as
a script nor as an image.
"""

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Final

from multidict import CIMultiDictProxy

from wavekv.errors import ForeignOrigin, UnsupportedMediaType

Headers = Mapping[str, str] | CIMultiDictProxy[str]

SAFE_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""What every answer of every plane of HTTP carries."""

_READABLE: Final = "ETag, Wavekv-Session, Wavekv-Expires-At, Wavekv-Ttl"
_GRANTED: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, PUT, POST, DELETE",
    "Access-Control-Allow-Headers": "Accept, Content-Type, If-Match, If-None-Match, Last-Event-ID, Wavekv-Session",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "600",
}
"""What pages of this machine may send (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@]*)(?::[0-9]*)?")
_SHOWN_MAX: Final = 80
_OWN_SITES: Final = frozenset({"same-origin", "same-site", "none"})
"""What `Sec-Fetch-Site` says of pages of this machine, and of an address that a person typed."""


def is_local(authority: str) -> bool:
    """Tell whether `authority` (HOST or HOST:PORT) is localhost or a loopback address; an empty one names nobody."""
    matched = _AUTHORITY.fullmatch(authority.strip())
    if matched is None:
        return False
    host = matched[1].strip("[]").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in {"localhost", "localhost.", ""}


def is_allowed(authority: str, allowed: Collection[str]) -> bool:
    """Tell whether `authority` is of this machine, or its host one of the `allowed` names, which are in lower case."""
    if is_local(authority):
        return True
    matched = _AUTHORITY.fullmatch(authority.strip())
    return matched is not None and matched[1].strip("[]").lower() in allowed


def refuse_foreign(headers: Headers, target: str = "", allowed: Collection[str] = ()) -> None:
    """Refuse a request to a plane of loopback that a page of another host may have made.

    `target` is the request's as it came: one in absolute form names a host as well, and HTTP has it beat `Host`.
    `allowed` are further names of hosts that the member may be asked by.

    Raises:
        ForeignOrigin: names the header.
    """
    for host in [*_all(headers, "Host"), *_named_in(target)]:
        if not is_allowed(host, allowed):
            raise ForeignOrigin(
                f"the header Host names {_shown(host)}; ask 127.0.0.1, [::1] or localhost, use the unix socket, "
                "or start the member with --allow-host NAME"
            )
    refuse_foreign_page(headers, allowed)


def refuse_foreign_page(headers: Headers, allowed: Collection[str] = ()) -> None:
    """Refuse what a browser says a page of another host asks, whatever `Host` the request names.

    Raises:
        ForeignOrigin: names the header.
    """
    origins = _all(headers, "Origin")
    for origin in origins:
        if not _own_page(origin, allowed):
            raise ForeignOrigin(f"the header Origin names {_shown(origin)}; only pages of this machine are served")
    if origins:
        return  # 127.0.0.1 and localhost are two sites to a browser, and one machine to us
    for site in _all(headers, "Sec-Fetch-Site"):
        if site not in _OWN_SITES:
            raise ForeignOrigin(f"the header Sec-Fetch-Site is {_shown(site)}; only pages of this machine are served")


def _own_page(origin: str, allowed: Collection[str]) -> bool:
    scheme, _, authority = origin.partition("://")
    return bool(authority) and scheme in {"http", "https"} and is_allowed(authority, allowed)


def page_headers(headers: Headers, allowed: Collection[str] = ()) -> dict[str, str]:
    """Return what lets a page of this machine read the answer to its request; nothing for any other asker."""
    origins = _all(headers, "Origin")
    if len(origins) != 1 or not _own_page(origins[0], allowed):
        return {}
    return {"Access-Control-Allow-Origin": origins[0], "Access-Control-Expose-Headers": _READABLE, "Vary": "Origin"}


def preflight_headers(headers: Headers, allowed: Collection[str] = ()) -> dict[str, str]:
    """Return what lets a page of this machine send what it asks about, beside `page_headers`; else nothing."""
    if not page_headers(headers, allowed) or not _all(headers, "Access-Control-Request-Method"):
        return {}
    return dict(_GRANTED)


def refuse_form(headers: Headers, taken: str) -> None:
    """Refuse a body of a content type other than `taken`: a page may send a form's to any host without asking.

    Raises:
        UnsupportedMediaType: says what is taken.
    """
    named = [content_type.partition(";")[0].strip().lower() for content_type in _all(headers, "Content-Type")]
    if named != [taken]:
        raise UnsupportedMediaType(f"Content-Type has to be {taken}")


def _named_in(target: str) -> list[str]:
    """Return the authority in a target of absolute form, none of any other."""
    if target.startswith("/") or "://" not in target:
        return []
    return [re.split(r"[/?#]", target.partition("://")[2], maxsplit=1)[0]]


def _shown(text: str) -> str:
    return repr(text[:_SHOWN_MAX])


def _all(headers: Headers, name: str) -> list[str]:
    if isinstance(headers, CIMultiDictProxy):
        return headers.getall(name, [])
    return [headers[name]] if name in headers else []
