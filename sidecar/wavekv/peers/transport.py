"""Asks other members over HTTP: the real `ports.Transport`."""

import io
import json
import os
import ssl
from collections.abc import Callable
from typing import Literal

import aiohttp

from wavekv.config import GossipSettings, Limits
from wavekv.core.messages import Envelope
from wavekv.errors import EnvelopeTooLarge, PeerError, PeerUnreachable, StaleProcess
from wavekv.peers.answers import Answer, bounded_connector
from wavekv.peers.identity import Certificate, Names
from wavekv.peers.proofs import SignedEpochs
from wavekv.peers.wrapping import Wrapping

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
        names: Names | None = None,
        epochs: SignedEpochs | None = None,
        connections_max: int = 100,
    ) -> None:
        """Ask in `store`.

        `server_name` returns which host the certificate at a peer's URL is for, None: as the URL says. With TLS
        `names` checks that an answer is in the name of whose certificate it came with. `epochs` reads signed epochs.
        """
        self._tls = tls
        self._epochs = epochs
        self._names = names or Names(None)
        self._server_name = server_name
        self._store = store
        self._limits = limits
        self._wrapping = Wrapping(limits)
        timeout = aiohttp.ClientTimeout(
            total=settings.request_timeout_ms / 1000, sock_connect=settings.connect_timeout_ms / 1000
        )
        resolved_seconds = max(1, settings.resolved_ms_max // 1000)
        connector = bounded_connector(limit=connections_max, limit_per_host=4, ttl_dns_cache=resolved_seconds)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, response_class=Answer
        )

    async def exchange(self, url: str, request: Envelope) -> Envelope:
        """Send one request of an exchange and return the answer. Raises as `ports.Transport`."""
        body, certificate = await self._post(url, f"/wavekv/sync2/{self._store}", request)
        return await self._checked(await self._wrapping.unwrapped(body), certificate)

    async def push(self, url: str, message: Envelope) -> Envelope | None:
        """Send pushed entries; return the report, None from a crate node. Raises as `ports.Transport`."""
        body, certificate = await self._post(url, f"/wavekv/push/{self._store}", message)
        answer = await self._wrapping.unwrapped_answer(body)
        return None if answer is None else await self._checked(answer, certificate)

    async def _checked(self, answer: Envelope, certificate: Certificate | None) -> Envelope:
        """Return `answer` if the server may say it. Raises WrongName, WrongRole or ForeignCluster."""
        if self._tls is None:
            return answer
        answer = self._names.check(self._names.shown(certificate, "member"), answer)
        if self._epochs is not None:
            await self._epochs.look(answer)
        return answer

    async def close(self) -> None:
        """Close the session and its connections."""
        await self._session.close()
        self._wrapping.close()

    async def _post(self, peer: str, path: str, message: Envelope) -> tuple[bytes, Certificate | None]:
        """Return the body of the answer, and the certificate its server showed."""
        url, headers = peer + path, {"Content-Type": CONTENT_TYPE}
        try:
            body = io.BytesIO(await self._wrapping.wrapped(message))  # written in pieces: a message may have megabytes
            tls = self._tls() if self._tls else True
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False, ssl=tls, server_hostname=self._server_name(peer)
            ) as response:
                assert isinstance(response, Answer), "the session was told so"
                # A refusal by membership carries the refuser's epoch; the core reads it as it reads an answer (R9).
                if response.status != 200 and response.content_type != CONTENT_TYPE:
                    raise self._judged(await _refusal(url, response), response.certificate)
                return await _read(response, self._limits.wire_bytes_max), response.certificate
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PeerUnreachable(f"{url} does not answer: {_reason(error)}") from error

    def _judged(self, refusal: PeerError, certificate: Certificate | None) -> PeerError:
        """Return `refusal`, marked where it speaks of the very member that its server's certificate names."""
        if isinstance(refusal, StaleProcess):
            # Without TLS nobody can tell who answers, and everybody is believed.
            refusal.own_word = not self._tls or self._names.shown(certificate, "member").speaks_for(refusal.member)
        return refusal


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name does not resolve"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is refused: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno)
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    left = bytes_max + 1
    while chunk := await response.content.read(left):
        chunks.append(chunk)
        left -= len(chunk)
    if left <= 0:
        raise EnvelopeTooLarge(f"the answer has more than {bytes_max} bytes")
    return b"".join(chunks)


async def _refusal(url: str, response: aiohttp.ClientResponse) -> PeerError:
    try:
        text = await _read(response, _REFUSAL_BYTES_MAX)
        problem = json.loads(text)
        detail = f"{url} refuses: {problem['detail']}"
        if problem["code"] == StaleProcess.code and "newest" in problem:
            return StaleProcess(detail, str(problem["member"]), int(problem["newest"]), str(problem.get("claim", "")))
        return PeerRefusal(str(problem["code"]), response.status, detail)
    except (ValueError, OverflowError, KeyError, TypeError, RecursionError, EnvelopeTooLarge):  # `1e999` is no number
        return PeerRefusal("peer_refused", response.status, f"{url} answers {response.status}")
