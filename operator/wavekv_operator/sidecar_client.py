"""Asks members over their admin plane, with the operator's identity of their cluster.

A member is reached at its pod's address, not through DNS, which lags behind pods that come and go; its certificate is
still checked, against its host name and its own URI. One route alone takes whatever certificate is shown: that by which
a member without one asks for it. The client's key never touches a disk: OpenSSL reads it from anonymous memory.
What a member says is bounded and checked here, because it may be hostile: none of it is taken on trust further in.
"""

import asyncio
import hashlib
import json
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import aiohttp

from wavekv_operator import names
from wavekv_operator.errors import MemberError, MemberRefused, MemberUnreachable, MemberUnverified
from wavekv_operator.member_status import read_view
from wavekv_operator.membership import MemberView
from wavekv_operator.tls import Data

_REFUSAL_CHARACTERS_MAX = 300
"""Of a member's own words in a message or a log line."""


@dataclass(frozen=True, slots=True)
class Address:
    """How one member is reached."""

    member: str
    ip: str
    host: str
    """Name in its certificate."""

    def url(self, route: str) -> str:
        """Return the URL of an admin route."""
        ip = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"https://{ip}:{names.PEER_PORT}/v1/admin/{route}"


@dataclass(frozen=True, slots=True)
class Sightings:
    """What members said of themselves, and who showed no certificate of the member asked for."""

    views: Mapping[str, MemberView] = field(default_factory=dict)
    unverified: frozenset[str] = frozenset()


class MemberCounter(Protocol):
    """Who is told of each request."""

    def member_request(self, result: str) -> None:
        """Count one request: `ok`, `refused`, `unverified` or `unreachable`."""
        ...


class MemberClient:
    """Speaks with the members of all clusters."""

    def __init__(
        self,
        counter: MemberCounter,
        *,
        timeout_seconds: float,
        requests_max: int,
        cluster_requests_max: int,
        answer_bytes_max: int,
    ) -> None:
        self._counter = counter
        self._cluster_requests_max = cluster_requests_max
        self._answer_bytes_max = answer_bytes_max
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=requests_max))
        self._identities: dict[str, _Identity] = {}
        self._asking = asyncio.Semaphore(requests_max)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def views(self, cluster_id: str, identity: Data, addresses: Iterable[Address]) -> Sightings:
        """Return what each member that answers says of itself."""
        listed = list(addresses)
        answers = await asyncio.gather(*(self._view(cluster_id, identity, address) for address in listed))
        pairs = list(zip(listed, answers, strict=True))
        unverified = (address.member for address, answer in pairs if isinstance(answer, MemberUnverified))
        views = {answer.name: answer for answer in answers if isinstance(answer, MemberView)}
        return Sightings(views, frozenset(unverified))

    async def _view(self, cluster_id: str, identity: Data, address: Address) -> MemberView | MemberUnverified | None:
        """Return what a member says, None where it says nothing that can be used."""
        try:
            status = await self._ask(cluster_id, identity, address, "GET status")
            if status.get("cluster_id") != cluster_id or status.get("name") != address.member:
                return None  # a pod of that address that is not the member asked for
            drain = await self._ask(cluster_id, identity, address, "GET drain") if status.get("draining") else None
            view = read_view(status, drain)
        except MemberUnverified as error:
            return error
        except (MemberError, KeyError, TypeError, ValueError, AttributeError):
            return None
        return replace(view, certificate=self._identity(cluster_id, identity).shown.get(address.host, b""))

    async def membership(self, cluster_id: str, identity: Data, address: Address) -> Mapping[str, Any] | None:
        """Return the document that a member holds, as it was given to it; None if it has none. Raises MemberError."""
        document = (await self._ask(cluster_id, identity, address, "GET membership")).get("document")
        return document if isinstance(document, dict) else None

    async def publish(
        self, cluster_id: str, identity: Data, address: Address, document: Mapping[str, Any], *, override: bool = False
    ) -> None:
        """Give a member the membership; with `override` whatever it knows. Raises MemberError."""
        query = "?override=true" if override else ""
        await self._ask(cluster_id, identity, address, f"PUT membership{query}", document)

    async def start_drain(self, cluster_id: str, identity: Data, address: Address) -> None:
        """Have a member stop accepting writes. Raises MemberError."""
        await self._ask(cluster_id, identity, address, "PUT drain")

    async def cancel_drain(self, cluster_id: str, identity: Data, address: Address) -> None:
        """Have a member accept writes again. Raises MemberError."""
        await self._ask(cluster_id, identity, address, "DELETE drain")

    async def application(self, cluster_id: str, identity: Data, address: Address) -> Mapping[str, Any]:
        """Return what a member answers that is asked for its certificate. Whoever answers is believed nothing.

        Raises MemberError.
        """
        return await self._ask(cluster_id, identity, address, "GET certificate", verified=False)

    async def give_certificate(self, cluster_id: str, identity: Data, address: Address, certificate: str) -> None:
        """Give a member its certificate. Raises MemberError."""
        body = {"certificate": certificate}
        await self._ask(cluster_id, identity, address, "PUT certificate", body, verified=False)
        # Connections that are open go on with the one before; they shall not have it given again.
        self._identity(cluster_id, identity).shown[address.host] = ssl.PEM_cert_to_DER_cert(certificate)

    async def _ask(
        self,
        cluster_id: str,
        identity: Data,
        address: Address,
        request: str,
        body: Mapping[str, Any] | None = None,
        *,
        verified: bool = True,
    ) -> dict[str, Any]:
        """Do one request, named `METHOD route`, and return the decoded answer."""
        method, _, route = request.partition(" ")
        result = "unreachable"
        try:
            known = self._identity(cluster_id, identity)
            context = known.verifying if verified else known.trusting
            async with (
                known.asking,
                self._asking,
                self._session.request(
                    method, address.url(route), json=body, ssl=context, server_hostname=address.host
                ) as answer,
            ):
                decoded = json.loads(await self._bounded(answer))
                result = "ok" if answer.status == 200 else "refused"
        except aiohttp.ClientConnectorCertificateError as error:
            result = "unverified"
            raise MemberUnverified(f"who answers for {address.member} shows no certificate of it: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise MemberUnreachable(f"{address.member} does not answer: {error or type(error).__name__}") from error
        finally:
            self._counter.member_request(result)
        if not isinstance(decoded, dict) or result == "refused":
            problem = decoded if isinstance(decoded, dict) else {}
            why = _printable(problem.get("detail", answer.status))
            raise MemberRefused(f"{address.member} refused {request}: {why}", _printable(problem.get("code", "")))
        return decoded

    async def _bounded(self, answer: aiohttp.ClientResponse) -> bytes:
        """Return the body. Raises ValueError over the bound."""
        body = bytearray()
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > self._answer_bytes_max:
                raise ValueError(f"the answer has more than {self._answer_bytes_max} bytes")
        return bytes(body)

    def _identity(self, cluster_id: str, identity: Data) -> "_Identity":
        """Return the contexts of a cluster's operator identity, made anew when the certificates change."""
        digest = hashlib.sha256(b"".join(identity[key] for key in sorted(identity))).hexdigest()
        held = self._identities.get(cluster_id)
        if held is None or held.digest != digest:
            asking = held.asking if held is not None else asyncio.Semaphore(self._cluster_requests_max)
            held = self._identities[cluster_id] = _Identity(digest, cluster_id, identity, asking)
        return held

    def forget(self, cluster_id: str) -> None:
        """Drop the identity of a cluster that is gone."""
        self._identities.pop(cluster_id, None)


class _Identity:
    """The operator's identity in one cluster, and the certificates that its members showed to it."""

    def __init__(self, digest: str, cluster_id: str, identity: Data, asking: asyncio.Semaphore) -> None:
        """Raises MemberUnreachable: the identity cannot be used."""
        self.digest = digest
        self.asking = asking
        self.cluster_id = cluster_id
        self.shown: dict[str, bytes] = {}
        """The certificate (DER) of each host whose certificate held; as many as the cluster has members."""
        self.verifying = _client_context(identity)
        self.verifying.sslobject_class = self._checked_connection()
        self.trusting = _client_context(identity)
        self.trusting.check_hostname = False
        self.trusting.verify_mode = ssl.CERT_NONE

    def _checked_connection(self) -> type[ssl.SSLObject]:
        check = self._check

        class Checked(ssl.SSLObject):
            """A connection whose other side has to be the member of the host name it was opened for."""

            def do_handshake(self) -> None:
                super().do_handshake()
                check(self)

        return Checked

    def _check(self, connection: ssl.SSLObject) -> None:
        """Check the URI, which the host name alone does not: members of earlier versions shared one certificate."""
        host = connection.server_hostname or ""
        wanted = names.member_uri(self.cluster_id, host.partition(".")[0])
        shown: Mapping[str, Any] = connection.getpeercert() or {}
        uris = [value for kind, value in shown.get("subjectAltName", ()) if kind == "URI"]
        if uris != [wanted]:
            raise ssl.SSLCertVerificationError(f"the certificate is not that of {wanted}")
        self.shown[host] = connection.getpeercert(binary_form=True) or b""


def _printable(text: object) -> str:
    """Return a member's own words as one line that a log may hold."""
    shown = str(text)[:_REFUSAL_CHARACTERS_MAX]
    return "".join(character if character.isprintable() else "?" for character in shown)


def _client_context(identity: Data) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=identity[names.CA_KEY].decode("ascii"))
        with _in_memory(identity[names.CERT_KEY]) as cert, _in_memory(identity[names.PRIVATE_KEY_KEY]) as key:
            context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError, KeyError, ValueError) as error:
        raise MemberUnreachable(f"the operator's certificate cannot be used: {error}") from error
    return context


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Yield a path under which OpenSSL reads `content`."""
    descriptor = os.memfd_create("wavekv-operator")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
