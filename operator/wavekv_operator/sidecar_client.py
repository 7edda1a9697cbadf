"""Asks members over their admin plane, with the operator's identity of their cluster.

A member is reached at its pod's address, not through DNS, which lags behind pods that come and go; its certificate is
still checked against its host name. The client's key never touches a disk: OpenSSL reads it from anonymous memory.
"""

import asyncio
import hashlib
import json
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from wavekv_operator import names
from wavekv_operator.errors import MemberError, MemberRefused, MemberUnreachable
from wavekv_operator.membership import Drain, MemberView
from wavekv_operator.tls import Data

_ANSWER_BYTES_MAX = 16 << 20


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


class MemberCounter(Protocol):
    """Who is told of each request."""

    def member_request(self, result: str) -> None:
        """Count one request: `ok`, `refused` or `unreachable`."""
        ...


class MemberClient:
    """Speaks with the members of all clusters."""

    def __init__(self, counter: MemberCounter, *, timeout_seconds: float, requests_max: int) -> None:
        self._counter = counter
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=requests_max))
        self._contexts: dict[str, tuple[str, ssl.SSLContext]] = {}
        self._asking = asyncio.Semaphore(requests_max)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def views(self, cluster_id: str, identity: Data, addresses: Iterable[Address]) -> dict[str, MemberView]:
        """Return what each member that answers says of itself."""
        listed = list(addresses)
        answers = await asyncio.gather(*(self._view(cluster_id, identity, address) for address in listed))
        return {view.name: view for view in answers if view is not None}

    async def _view(self, cluster_id: str, identity: Data, address: Address) -> MemberView | None:
        try:
            status = await self._ask(cluster_id, identity, address, "GET status")
            if status.get("cluster_id") != cluster_id or status.get("name") != address.member:
                return None  # a pod of that address that is not the member asked for
            drain = await self._ask(cluster_id, identity, address, "GET drain") if status["draining"] else None
            return read_view(status, drain)
        except (MemberError, KeyError, TypeError, ValueError):
            return None

    async def publish(self, cluster_id: str, identity: Data, address: Address, document: Mapping[str, Any]) -> None:
        """Give a member the membership. Raises MemberError."""
        await self._ask(cluster_id, identity, address, "PUT membership", document)

    async def start_drain(self, cluster_id: str, identity: Data, address: Address) -> None:
        """Have a member stop accepting writes. Raises MemberError."""
        await self._ask(cluster_id, identity, address, "PUT drain")

    async def cancel_drain(self, cluster_id: str, identity: Data, address: Address) -> None:
        """Have a member accept writes again. Raises MemberError."""
        await self._ask(cluster_id, identity, address, "DELETE drain")

    async def _ask(
        self,
        cluster_id: str,
        identity: Data,
        address: Address,
        request: str,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Do one request, named `METHOD route`, and return the decoded answer."""
        method, _, route = request.partition(" ")
        result = "unreachable"
        try:
            context = self._context(cluster_id, identity)
            async with (
                self._asking,
                self._session.request(
                    method, address.url(route), json=body, ssl=context, server_hostname=address.host
                ) as answer,
            ):
                decoded = json.loads(await _bounded(answer))
                result = "ok" if answer.status == 200 else "refused"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise MemberUnreachable(f"{address.member} does not answer: {error or type(error).__name__}") from error
        finally:
            self._counter.member_request(result)
        if not isinstance(decoded, dict) or result == "refused":
            problem = decoded if isinstance(decoded, dict) else {}
            detail = f"{address.member} refused {request}: {problem.get('detail', answer.status)}"
            raise MemberRefused(detail, str(problem.get("code", answer.status)))
        return decoded

    def _context(self, cluster_id: str, identity: Data) -> ssl.SSLContext:
        """Return the context of a cluster's operator identity, made anew when the certificates change."""
        digest = hashlib.sha256(b"".join(identity[key] for key in sorted(identity))).hexdigest()
        held = self._contexts.get(cluster_id)
        if held is None or held[0] != digest:
            held = (digest, _client_context(identity))
            self._contexts[cluster_id] = held
        return held[1]

    def forget(self, cluster_id: str) -> None:
        """Drop the identity of a cluster that is gone."""
        self._contexts.pop(cluster_id, None)


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body. Raises ValueError over the bound."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > _ANSWER_BYTES_MAX:
            raise ValueError(f"the answer has more than {_ANSWER_BYTES_MAX} bytes")
    return bytes(body)


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


def read_view(status: Mapping[str, Any], drain: Mapping[str, Any] | None) -> MemberView:
    """Return what a member's status says.

    Raises:
        KeyError, TypeError, ValueError: it is not the status of a member.
    """
    membership = status["membership"]
    name, epoch, admitted = str(status["name"]), membership["epoch"], membership["admitted_epoch"]
    # A member that was removed lists itself all the same.
    members = tuple(str(item) for item in membership["members"] if item != name or membership["included"])
    return MemberView(
        name=name,
        node_id=int(status["node_id"]),
        uuid=str(status["uuid"]),
        phase=str(status["phase"]),
        ready=bool(status["ready"]),
        healing=bool(status["healing"]),
        draining=bool(status["draining"]),
        converged=bool(status["converged"]),
        inc=int(status["process"]["inc"]),
        epoch=None if epoch is None else int(epoch),
        members=members,
        admitted_epoch=None if admitted is None else int(admitted),
        drain=None if drain is None else _read_drain(drain),
    )


def _read_drain(raw: Mapping[str, Any]) -> Drain:
    return Drain(
        draining=bool(raw["draining"]),
        complete=bool(raw["complete"]),
        healing=bool(raw["healing"]),
        covered_by={str(name): int(inc) for name, inc in raw["covered_by"].items()},
        waiting_for=tuple(str(name) for name in raw["waiting_for"]),
    )
