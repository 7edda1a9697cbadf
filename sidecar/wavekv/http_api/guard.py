"""Refuses what a web page could send: the data plane has no password, and a browser on this machine reaches loopback.

A page of another host names itself in `Origin`; a page whose host name was made to resolve to 127.0.0.1 (DNS rebinding)
names that host in `Host`. Programs send neither, or name this machine. A unix socket needs no guard: no page opens one.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from wavekv.errors import ForeignOrigin

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@]*)(?::[0-9]*)?")


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


def refuse_foreign(headers: "Mapping[str, str] | CIMultiDictProxy[str]") -> None:
    """Refuse a request that a page of another host may have made.

    Raises:
        ForeignOrigin: names the header.
    """
    for host in _all(headers, hdrs.HOST):
        if not is_local(host):
            raise ForeignOrigin(
                f"the header Host names {host[:80]!r}; ask 127.0.0.1, [::1] or localhost, or use the unix socket"
            )
    for origin in _all(headers, hdrs.ORIGIN):
        scheme, _, authority = origin.partition("://")
        if not authority or scheme not in {"http", "https"} or not is_local(authority):
            raise ForeignOrigin(f"the header Origin names {origin[:80]!r}; only pages of this machine are served")


def _all(headers: "Mapping[str, str] | CIMultiDictProxy[str]", name: str) -> list[str]:
    if isinstance(headers, CIMultiDictProxy):
        return headers.getall(name, [])
    return [headers[name]] if name in headers else []
