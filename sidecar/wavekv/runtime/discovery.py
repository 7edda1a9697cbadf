"""Peers by a name in DNS, as a headless service has one: it resolves to the addresses of all members, this one too.

The name is resolved again and again. An address that appears is asked as a *contact*; once it has answered, the peer
goes by the name that it gives itself. One that leads back to this process (`SameProcess`) is asked no more, and of two
that lead to one peer, as in a dual stack or after a restart, the one that answered last is kept. An address that
vanishes from the answers is dropped after a grace, but no error of the resolver takes one away: a headless service
without a ready pod does not resolve at all. Recognising ourselves by the addresses of this machine was turned down:
members of one host share those.

Nobody can tell from DNS who belongs to the cluster, only who is there now: the membership is not complete
(`Membership.complete`). With an epoch document the addresses serve as first contacts where it gives none itself.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from wavekv.config import Address, DiscoverySettings, PeerAddress
from wavekv.ports import Clock
from wavekv.runtime.link import Link

log = logging.getLogger(__name__)

Resolve = Callable[[Address], Awaitable[list[str]]]
"""Returns the addresses of a name, in any order, repeated or not. Raises OSError."""

_LOOK_SECONDS: Final = 0.25
"""How often it is looked at who answered under which name."""
_FAILURES_MAX: Final = 3
"""Failures in a row after which another address of the same peer is tried."""


async def resolve(name: Address) -> list[str]:
    """Return the addresses of `name` as the system resolves it. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
    return [str(where[0]) for *_, where in found]


@dataclass(slots=True)
class _Found:
    """One address: when an answer last held it (monotonic s), and who answers there, None: nobody yet."""

    seen: float
    name: str | None = None


class Discovery:
    """The addresses that the name resolves to, and the peers they make."""

    def __init__(
        self, name: Address, settings: DiscoverySettings, clock: Clock, *, secure: bool, resolver: Resolve = resolve
    ) -> None:
        """Discover by `name`; `secure`: with TLS, where the certificates are checked against the name."""
        self.name = name
        self._settings = settings
        self._clock = clock
        self._scheme = "https" if secure else "http"
        self._resolver = resolver
        self._resolving: asyncio.Future[list[str]] | None = None
        self._found: dict[str, _Found] = {}
        self._own: set[str] = set()
        self._told: dict[str, float] = {}
        self.resolved = False
        """The name has resolved once."""
        self.error: str | None = None
        """Why it did not resolve the last time."""

    # ---- what was found --------------------------------------------------------------------------------------------

    def peers(self) -> tuple[PeerAddress, ...]:
        """Return who is there: by the name each gave itself, a contact without one by its address."""
        contacts = [url for url, found in self._found.items() if found.name is None and url not in self._own]
        return (
            *(PeerAddress(name, url) for name, url in self._in_use().items() if name is not None),
            *(PeerAddress(url.partition("//")[2], url, contact=True) for url in contacts),
        )

    def server_name(self, url: str) -> str | None:
        """Return the name that the certificate at `url` has to carry; None: that of the URL."""
        return self.name.host if url in self._found else None

    def told(self) -> Mapping[str, Any]:
        """Return name, number of addresses and the last error, JSON-ready."""
        return {"name": str(self.name), "addresses": len(self._found), "error": self.error}

    # ---- what happens ----------------------------------------------------------------------------------------------

    async def run(self, links: Callable[[], Mapping[str, Link]], changed: Callable[[], None]) -> None:
        """Follow the name until cancelled; `changed` is called whenever `peers` differ.

        Raises nothing: whatever the resolver does is told and tried again.
        """
        due = 0.0
        while True:
            before = self.peers(), self.resolved
            if self._clock.monotonic() >= due:
                await self.refresh()
                everybody = self._settings.interval_ms if self._heard_any() else self._settings.joining_interval_ms
                due = self._clock.monotonic() + everybody / 1000
            self.look(links())
            if (self.peers(), self.resolved) != before:
                changed()
            await asyncio.sleep(_LOOK_SECONDS)

    def _heard_any(self) -> bool:
        return any(found.name is not None for found in self._found.values())

    def look(self, links: Mapping[str, Link]) -> None:
        """Take note of who answers where."""
        for link in links.values():
            found = self._found.get(link.url)
            if found is None:
                continue
            if link.leads_back:
                self._own.add(link.url)
                found.name = None
            elif link.reachable and link.reported_as not in {found.name, link.contact_name}:
                found.name = link.reported_as
                self._found[link.url] = self._found.pop(link.url)  # the last that answered stands for its name
            elif link.failures >= _FAILURES_MAX and self._in_use().get(found.name) == link.url:
                self._try_others(found)

    def _in_use(self) -> dict[str | None, str]:
        """Return the address that stands for each name: the last that answered."""
        return {found.name: url for url, found in self._found.items() if found.name is not None}

    def _try_others(self, failing: _Found) -> None:
        """Ask all other addresses anew of a peer whose present one does not answer."""
        for found in self._found.values():
            if found.name == failing.name and found is not failing:
                found.name = None

    async def refresh(self) -> None:
        """Resolve the name once, and take what it answers."""
        if self._resolving is None:
            self._resolving = asyncio.ensure_future(self._resolver(self.name))
        await asyncio.wait([self._resolving], timeout=self._settings.timeout_ms / 1000)
        if not self._resolving.done():  # one at a time: its thread cannot be ended
            self._fail("no answer in time")
            return
        resolving, self._resolving = self._resolving, None
        try:
            self._take(resolving.result())
        except (OSError, UnicodeError) as error:
            self._fail((error.strerror if isinstance(error, OSError) else None) or str(error))

    def close(self) -> None:
        """Wait for no resolver any more."""
        if self._resolving is not None:
            self._resolving.cancel()

    def _fail(self, why: str) -> None:
        self.error = why
        self._tell(logging.WARNING, "%s does not resolve: %s; what it resolved to stays in use", self.name.host, why)

    def _take(self, answers: list[str]) -> None:
        now = self._clock.monotonic()
        self.error, self.resolved = None, True
        urls = self._usable(dict.fromkeys(answers))
        for url in urls:
            if url in self._found:
                self._found[url].seen = now
        for url in urls:
            if url not in self._found and len(self._found) < self._settings.addresses_max:
                self._found[url] = _Found(now)
                log.info("%s resolves to %s", self.name.host, url)
        if len(urls) > self._settings.addresses_max:
            bound = self._settings.addresses_max
            self._tell(logging.ERROR, "%s resolves to %d addresses; %d are used", self.name.host, len(urls), bound)
        for url in [url for url, found in self._found.items() if now - found.seen > self._settings.grace_ms / 1000]:
            del self._found[url]
            self._own.discard(url)
            log.info("%s no longer resolves to %s", self.name.host, url)

    def _usable(self, answers: dict[str, None]) -> list[str]:
        """Return the URLs of `answers`; in plain only this machine's, as with every other way to name a peer."""
        urls: list[str] = []
        for answer in answers:
            with suppress(ValueError):
                if self._scheme == "https" or ipaddress.ip_address(answer.partition("%")[0]).is_loopback:
                    urls.append(f"{self._scheme}://{Address(answer, self.name.port)}")
        if len(urls) < len(answers):
            strange = len(answers) - len(urls)
            self._tell(
                logging.ERROR,
                "%d addresses of %s are not of this machine: members without TLS meet on loopback alone",
                strange,
                self.name.host,
            )
        return urls

    def _tell(self, level: int, message: str, *arguments: object) -> None:
        """Log, each message once in a while."""
        now = self._clock.monotonic()
        if now - self._told.get(message, float("-inf")) >= self._settings.told_ms / 1000:
            self._told[message] = now
            log.log(level, message, *arguments)
