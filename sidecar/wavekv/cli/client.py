"""The HTTP client of the command line: one member's data API, every failure turned into ours.

aiohttp serves here because it is the project's HTTP library already and these commands send few requests; the import
sends millions and has its own wire (`http_wire`).
"""

import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from yarl import URL

from wavekv.cli.errors import MemberUnreachable, RefusedByMember
from wavekv.cli.events import Event, EventReader
from wavekv.cli.target import Target, key_path
from wavekv.cli.waiting import Waits
from wavekv.config import Limits

ANSWER_SECONDS_MAX = 30.0
"""Longest wait for one answer; a member refuses within a few seconds what it cannot do."""


NO_WAITS = Waits()

SILENCE_SECONDS_MAX = 60.0
"""Longest silence of a watch; a member says something every 15 s or so."""


class Found(NamedTuple):
    """A value, its entity tag without quotes, and when it expires (ms since 1970), None: never."""

    value: bytes
    etag: str
    expires_at: int | None = None


class Stored(NamedTuple):
    """What a write left: the new entity tag, whether the key held nothing before, and the session token."""

    etag: str
    created: bool
    session: str = ""


class Item(NamedTuple):
    """One entry of a listing; value is None when keys alone were asked for."""

    key: str
    value: bytes | None
    etag: str
    expires_at: int | None = None


class Client:
    """A connection to one member, to one of its two stores; an async context manager.

    Every method raises:
        RefusedByMember: the member's own refusal, with its code.
        MemberUnreachable: no member answers, or what answers is not one.
    """

    def __init__(
        self,
        target: Target,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
        *,
        ephemeral: bool = False,
        waits: Waits = NO_WAITS,
    ) -> None:
        """Speak to `target`; its answers may take `answer_seconds_max` beyond what they are to wait for."""
        self._target = target
        self._waits = waits
        self._base = "/v1/ephemeral" if ephemeral else "/v1"
        self._seconds_max = answer_seconds_max + waits.seconds

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(str(self._target.socket)) if self._target.socket else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=self._seconds_max), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, key: str) -> Found:
        """Return the value of `key`."""
        _, headers, body = await self._ask("GET", self._key(key))
        expires_at = headers.get("Wavekv-Expires-At", "")
        return Found(body, _etag(headers), int(expires_at) if expires_at.isdecimal() else None)

    async def put(
        self, key: str, value: bytes, conditions: Mapping[str, str] | None = None, ttl: str | None = None
    ) -> Stored:
        """Store `value`; it is durable on the member when this returns. `conditions` are header fields."""
        query = None if ttl is None else {"ttl": ttl}
        status, headers, _ = await self._ask("PUT", self._key(key), value, query, conditions)
        return Stored(_etag(headers), created=status == 201, session=headers.get("Wavekv-Session", ""))

    async def delete(self, key: str) -> Stored:
        """Delete `key` and return what that left."""
        _, headers, _ = await self._ask("DELETE", self._key(key))
        return Stored(_etag(headers), created=False, session=headers.get("Wavekv-Session", ""))

    async def explain(self, key: str) -> dict[str, Any]:
        """Return how `key` came to hold what it holds."""
        _, _, body = await self._ask("GET", self._key(key, "explain"))
        return self._object(body)

    async def events(self, query: Mapping[str, str]) -> AsyncIterator[Event]:
        """Yield the events of a watch until the member ends it."""
        url = URL(f"http://{self._target.authority}{self._base}/watch").with_query({**query, **self._waits.query})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._seconds_max, sock_read=SILENCE_SECONDS_MAX)
        reader = EventReader()
        try:
            headers = self._waits.headers
            async with self._session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as response:
                if response.status != 200:
                    raise refusal(response.status, await response.read())
                if response.content_type != "text/event-stream":
                    raise self._stranger()
                async for piece in response.content.iter_any():
                    for event in reader.feed(piece):
                        yield event
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            raise unreachable(self._target, error) from error
        except aiohttp.ClientError as error:
            raise self._stranger() from error

    async def status(self) -> dict[str, Any]:
        """Return the member's status."""
        _, _, body = await self._ask("GET", "/v1/status", waits=NO_WAITS)
        return self._object(body)

    async def items(
        self, prefix: str = "", after: str | None = None, count_max: int | None = None, keys_only: bool = False
    ) -> AsyncIterator[Item]:
        """Yield entries in key order, asking page by page; writes meanwhile may show or not."""
        page_max = Limits().list_entries_max
        left = count_max
        while left is None or left > 0:
            query = {"prefix": prefix, "limit": str(page_max if left is None else min(left, page_max))}
            query |= {} if after is None else {"after": after}
            query |= {"keys_only": "true"} if keys_only else {}
            _, _, body = await self._ask("GET", f"{self._base}/kv", query=query)
            page = self._object(body)
            try:
                entries = [_item(entry) for entry in page["entries"]]
                after = page["next"]
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise self._stranger() from error
            for item in entries:
                yield item
            if after is None:
                return
            left = None if left is None else left - len(entries)

    def _key(self, key: str, route: str = "kv") -> str:
        return key_path(key, f"{self._base}/{route}")

    async def _ask(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        waits: Waits | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        waits = self._waits if waits is None else waits
        query, headers = {**(query or {}), **waits.query}, {**(headers or {}), **waits.headers}
        url = URL(f"http://{self._target.authority}{path}", encoded=True)
        try:
            async with self._session.request(
                method, url.with_query(query) if query else url, data=data, headers=headers, allow_redirects=False
            ) as response:
                body = await response.read()
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            raise unreachable(self._target, error) from error
        except aiohttp.ClientError as error:
            raise self._stranger() from error
        if not response.ok or response.status >= 300:
            raise refusal(response.status, body, _etag(response.headers))
        return response.status, response.headers, body

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise self._stranger() from error
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _stranger(self) -> MemberUnreachable:
        return MemberUnreachable(f"what answers at {self._target} is not a WaveKV member")


def unreachable(target: Target, error: Exception) -> MemberUnreachable:
    """Return the error that says nobody answers at `target`."""
    why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    system = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(system, OSError) and system.errno:
        why = os.strerror(system.errno).lower()
    return MemberUnreachable(
        f"no member answers at {target} ({why}); start one with `wavekv serve` or `wavekv local`, "
        "or name another with --url or --socket"
    )


def refusal(status: int, body: bytes, etag: str = "") -> RefusedByMember:
    """Return the error for a problem document (RFC 9457), or for whatever a stranger sent instead."""
    try:
        problem = json.loads(body)
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        code, detail = f"http_{status}", f"the answer was HTTP {status}"
    return RefusedByMember(status, str(code), str(detail), etag)


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("ETag", "").strip('"')


def _item(entry: Mapping[str, Any]) -> Item:
    text, encoded = entry.get("value"), entry.get("value_base64")
    content = None if text is None else text.encode()
    if encoded is not None:
        content = base64.b64decode(encoded, validate=True)
    return Item(entry["key"], content, entry["etag"], entry.get("expires_at"))
