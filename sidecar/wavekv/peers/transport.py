"""Asks other members over HTTP: the real `ports.Transport`."""

import io
import json
import os
import ssl
from collections.abc import Callable
from typing import Literal

import aiohttp

from wavekv.config import GossipSettings, Limits
from wavekv.core.codec.envelope import pack, unpack, unpack_push_answer
from wavekv.core.messages import Envelope
from wavekv.errors import EnvelopeTooLarge, PeerError, PeerUnreachable, StaleProcess

CONTENT_TYPE = "application/x-msgpack-gz"
_REFUSAL_BYTES_MAX = 64 << 10


class PeerRefusal(PeerError):
    """The peer answered with a refusal; `code` and `status` are the peer's."""

    def __init__(self, code: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]
        self.status = status  # type: ignore[misc]


class HttpTransport:
    """One keep-alive session for one store of all peers; answers are bounded before they are read and inflated.

    `tls` returns the context for a new connection (None: plain). Connections are kept by context, so those of an older
    one end when their request does or when they idle.
    """

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext] | None,
        limits: Limits,
        settings: GossipSettings,
        store: Literal["persistent", "ephemeral"] = "persistent",
        server_name: Callable[[str], str | None] = lambda _: None,
        *,
        connections_max: int = 100,
    ) -> None:
        """Ask in `store`; `server_name` returns whose certificate to expect at a peer's URL, None: as the URL says."""
        self._tls = tls
        self._server_name = server_name
        self._store = store
        self._limits = limits
        timeout = aiohttp.ClientTimeout(
            total=settings.request_timeout_ms / 1000, sock_connect=settings.connect_timeout_ms / 1000
        )
        resolved_seconds = max(1, settings.resolved_ms_max // 1000)
        connector = aiohttp.TCPConnector(limit=connections_max, limit_per_host=4, ttl_dns_cache=resolved_seconds)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        """Send one request of an exchange and return the answer. Raises as `ports.Transport`."""
        body = await self._post(url, f"/wavekv/sync2/{self._store}", request)
        return unpack(body, self._limits.wire_bytes_max, self._limits.inflated_bytes_max)

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        """Send pushed entries; return the report, None from a crate node. Raises as `ports.Transport`."""
        body = await self._post(url, f"/wavekv/push/{self._store}", message)
        return unpack_push_answer(body, self._limits.wire_bytes_max, self._limits.inflated_bytes_max)

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()

    async def _post(self, peer: str, path: str, message: Envelope) -> bytes:
        url, headers = peer + path, {"Content-Type": CONTENT_TYPE}
        try:
            body = io.BytesIO(pack(message))  # written in pieces: a message may have megabytes
            tls = self._tls() if self._tls else True
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False, ssl=tls, server_hostname=self._server_name(peer)
            ) as response:
                # A refusal by membership carries the refuser's epoch; the core reads it as it reads an answer (R9).
                if response.status != 200 and response.content_type != CONTENT_TYPE:
                    raise await _refusal(url, response)
                return await _read(response, self._limits.wire_bytes_max)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PeerUnreachable(f"{url} does not answer: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is refused: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    body = await response.content.read(bytes_max + 1)
    while chunk := await response.content.read(bytes_max + 1 - len(body)):
        body += chunk
    if len(body) > bytes_max:
        raise EnvelopeTooLarge(f"the answer has more than {bytes_max} bytes")
    return body


async def _refusal(url: str, response: aiohttp.ClientResponse) -> PeerError:
    text = await response.content.read(_REFUSAL_BYTES_MAX)
    try:
        problem = json.loads(text)
        detail = f"{url} refuses: {problem['detail']}"
        if problem["code"] == StaleProcess.code and "newest" in problem:
            return StaleProcess(detail, str(problem["member"]), int(problem["newest"]))
        return PeerRefusal(str(problem["code"]), response.status, detail)
    except (ValueError, KeyError, TypeError):
        return PeerRefusal("peer_refused", response.status, f"{url} answers {response.status}")
