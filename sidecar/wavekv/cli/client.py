"""The HTTP client of the command line: one member's data API, every failure turned into ours.

aiohttp serves here because it is the project's HTTP library already and these commands send few requests; the import
sends millions and has its own wire (`http_wire`).
"""

import base64
import binascii
import json
import os
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from yarl import URL

from wavekv.cli.target import Target, key_path
from wavekv.config import Limits
from wavekv.errors import MemberUnreachable, RefusedByMember

ANSWER_SECONDS_MAX = 30.0
"""Longest wait for one answer; a member refuses within a few seconds what it cannot do."""


class Found(NamedTuple):
    """A value and its entity tag, without quotes."""

    value: bytes
    etag: str


class Stored(NamedTuple):
    """What a write left: the new entity tag, and whether the key held nothing before."""

    etag: str
    created: bool


class Item(NamedTuple):
    """One entry of a listing; value is None when keys alone were asked for."""

    key: str
    value: bytes | None
    etag: str


class Client:
    """A connection to one member; an async context manager.

    Every method raises:
        RefusedByMember: the member's own refusal, with its code.
        MemberUnreachable: no member answers, or what answers is not one.
    """

    def __init__(self, target: Target, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        self._target = target
        self._seconds_max = answer_seconds_max

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
        _, headers, body = await self._ask("GET", key_path(key))
        return Found(body, _etag(headers))

    async def put(self, key: str, value: bytes, conditions: Mapping[str, str] | None = None) -> Stored:
        """Store `value`; it is durable on the member when this returns. `conditions` are header fields."""
        status, headers, _ = await self._ask("PUT", key_path(key), value, headers=conditions)
        return Stored(_etag(headers), created=status == 201)

    async def delete(self, key: str) -> str:
        """Delete `key` and return the deletion's entity tag."""
        _, headers, _ = await self._ask("DELETE", key_path(key))
        return _etag(headers)

    async def status(self) -> dict[str, Any]:
        """Return the member's status."""
        _, _, body = await self._ask("GET", "/v1/status")
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
            _, _, body = await self._ask("GET", "/v1/kv", query=query)
            page = self._object(body)
            try:
                entries = [_item(entry) for entry in page["entries"]]
                after = page["next"]
            except (KeyError, TypeError, binascii.Error) as error:
                raise self._stranger() from error
            for item in entries:
                yield item
            if after is None:
                return
            left = None if left is None else left - len(entries)

    async def _ask(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
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
            raise refusal(response.status, body)
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


def refusal(status: int, body: bytes) -> RefusedByMember:
    """Return the error for a problem document (RFC 9457), or for whatever a stranger sent instead."""
    try:
        problem = json.loads(body)
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        code, detail = f"http_{status}", f"the answer was HTTP {status}"
    return RefusedByMember(status, str(code), str(detail))


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("ETag", "").strip('"')


def _item(entry: Mapping[str, Any]) -> Item:
    value = entry.get("value")
    return Item(entry["key"], None if value is None else base64.b64decode(value, validate=True), entry["etag"])
